//! Building many VMs as one project, against copying and mounting an image for each, as MLN did before.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use mln_e2e::{Host, Site};

use crate::figure::{Figure, Goal, Unit};
use crate::process::allocated_bytes;
use crate::statistics::Sample;
use crate::{Scale, seconds_since};

/// How many VMs a project has.
pub(crate) const VMS: usize = 50;

/// What the alternative is called.
const COPY_AND_MOUNT: &str = "copy and mount";

/// How large the alternative makes a disk: the smallest size at which the file system is really resized.
const DISK: &str = "128M";

/// Returns a project of [`VMS`] VMs.
pub(crate) fn farm(name: &str) -> String {
    format!(
        "global {{ project {name}\n autoenum {{\n numhosts {VMS}\n superclass node\n hostprefix node\n }}\n}}\n\
         superclass node {{ memory 64M }}\n"
    )
}

/// What building takes: agent, signatures and fsync are in the path.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&["oslo"], "memory_mib = 16384\n");
    let folder = site.folder().to_owned();
    let file = site.project("farm", &farm("farm"));
    let host = site.host("oslo");
    let (mut ours, mut ours_bytes) = (Vec::new(), Vec::new());
    let (mut theirs, mut theirs_bytes) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        // What one side has left to be written is not the other's to wait for.
        rustix::fs::sync();
        let began = Instant::now();
        host.ctl(&["build", "-f", &file]).done();
        ours.push(seconds_since(began) / VMS as f64);
        ours_bytes.push(allocated_bytes(&host.folder().join("vms")) as f64 / VMS as f64);
        host.ctl(&["remove", "-p", "farm"]).done();

        rustix::fs::sync();
        let copies = folder.join("copies");
        fs::create_dir_all(&copies).expect("the site's folder is ours");
        let began = Instant::now();
        for number in 0..scale.copies {
            copy_and_mount(host, &copies.join(format!("{number}.img")));
        }
        theirs.push(seconds_since(began) / scale.copies as f64);
        theirs_bytes.push(allocated_bytes(&copies) as f64 / scale.copies as f64);
        fs::remove_dir_all(&copies).expect("nothing is mounted any more");
    }
    let figure = |what: &str, unit, goal, ours, theirs| {
        let sample = |values: Vec<f64>| Sample::of(values).expect("there is a round");
        Figure::alone("build", what, unit, sample(ours), goal).against(COPY_AND_MOUNT, sample(theirs))
    };
    vec![
        figure("time per VM, 50 as one project", Unit::Seconds, Goal::TimesLess(20.0), ours, theirs),
        figure(
            "disk per VM before its first boot",
            Unit::Bytes,
            Goal::TimesLess(50.0),
            ours_bytes,
            theirs_bytes,
        ),
    ]
}

/// Returns what a VM takes on the disk when it is copied and mounted, in bytes.
pub(crate) fn copied_bytes(host: &Host, folder: &Path) -> f64 {
    let image = folder.join("copy.img");
    copy_and_mount(host, &image);
    let bytes = allocated_bytes(&image);
    fs::remove_file(&image).expect("it is not mounted any more");
    bytes as f64
}

/// Makes a disk of the template as MLN did: a copy, grown, mounted, written to, unmounted.
fn copy_and_mount(host: &Host, image: &Path) {
    let mount_point = image.with_extension("mount");
    fs::create_dir(&mount_point).expect("it isn't there yet");
    run("cp", &[Path::new("--sparse=always"), &template(host), image]);
    // Templates are for reading. By a system call: one program more is none that the alternative needs.
    fs::set_permissions(image, fs::Permissions::from_mode(0o600)).expect("the copy is ours");
    run("resize2fs", &[Path::new("-f"), image, Path::new(DISK)]);
    run("mount", &[Path::new("-o"), Path::new("loop"), image, &mount_point]);
    let written = fs::write(mount_point.join("etc/hostname"), "node\n")
        .and_then(|()| fs::write(mount_point.join("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 node\n"));
    run("umount", &[&mount_point]);
    written.expect("a mounted disk can be written");
    fs::remove_dir(&mount_point).expect("nothing is mounted there any more");
}

/// Returns the file of the only template.
pub(crate) fn template(host: &Host) -> PathBuf {
    let images = fs::read_dir(host.folder().join("images")).expect("the host has images");
    let is_template = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.ends_with(".img") && !name.starts_with("agent-")
    };
    images.flatten().map(|entry| entry.path()).find(is_template).expect("the host has the template mini")
}

fn run(program: &str, words: &[&Path]) {
    let mut command = Command::new(program);
    command.args(words).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").stdin(Stdio::null());
    let output =
        command.output().unwrap_or_else(|error| panic!("{program}: {error}; try: scripts/deps.sh bench"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
