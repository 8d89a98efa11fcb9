//! A VM that moves to another host over a slow link, against what one does without MLN: stop it and copy its disk.
//!
//! All disks are alike: 512 MiB of blocks of which half can be packed, of which some were written anew since the
//! image was made. What others copy is a plain file with the same changes, and no guest runs meanwhile: how long
//! they take is how long a guest would be down.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mln_e2e::{Host, Site, until};

use crate::build::template;
use crate::figure::{Figure, Goal, Unit};
use crate::link::{self, Running, run, run_in};
use crate::statistics::Sample;
use crate::{Scale, seconds_since, start};

/// How much of the disk is data, in MiB.
const DATA_MIB: u64 = 512;

/// The block of its file system, in bytes, by which it is compared.
const BLOCK_BYTES: usize = 4096;

/// How large its file system is.
const FILE_SYSTEM: &str = "640M";

/// How long a move may take.
const LIMIT: Duration = Duration::from_secs(600);

/// How many bytes ours may send for each of the changed blocks, packed.
const BYTES_AT_MOST: f64 = 1.05;

/// How much of the disk moving back may send, after one block of a hundred has changed.
const BACK_AT_MOST: f64 = 0.02;

const PROJECT: &str = "global { project lab }
host vm { memory 64M; template big; service_host oslo }
";

/// The hosts that a VM moves between.
const HOSTS: [&str; 2] = ["oslo", "bergen"];

/// What a move took.
struct Move {
    bytes: f64,
    seconds: f64,
    /// From the guest's end to its next start.
    down: f64,
}

/// What a move takes, in bytes and time.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&HOSTS, "memory_mib = 1024\n");
    let image = big_image(&mut site);
    let path = image.to_str().expect("the site's folder is made of ASCII");
    site.host("oslo").ctl(&["template", "add", "big", "-f", path]).done();
    let pulled = site.host("bergen").ctl_begin(&["template", "pull", "big"]).wait().expect("it is ours");
    assert!(pulled.success(), "bergen has the image before anything is measured: {pulled}");
    let door = Door::open(&mut site);
    link::limit(&mut site, &HOSTS.map(str::to_owned));

    let mut figures = Vec::new();
    for (number, &percent) in scale.changed.iter().enumerate() {
        let project = site.project("lab", PROJECT);
        site.host("oslo").ctl(&["build", "-f", &project]).done();
        start(site.host("oslo"), "lab");
        let packed = scribble(&mut site, "oslo", percent, 1 + number as u64);
        let moved = moves(&mut site, "oslo", "bergen");
        let back = (percent == 1).then(|| {
            scribble(&mut site, "bergen", 1, 100);
            moves(&mut site, "bergen", "oslo")
        });
        site.host("oslo").ctl(&["stop", "-p", "lab", "-H"]).done();
        site.host("oslo").ctl(&["remove", "-p", "lab"]).done();
        let theirs = Theirs::measure(&mut site, &door, &image, percent, 1 + number as u64);
        figures.extend(compared(percent, &moved, packed, &theirs));
        figures.extend(back.map(|back| {
            Figure::alone(
                "moving",
                "bytes to move back, 1 % changed, of what is on the disk",
                Unit::Bytes,
                Sample::single(back.bytes),
                Goal::TimesAtMost(BACK_AT_MOST),
            )
            .against("data on the disk", Sample::single((DATA_MIB << 20) as f64))
        }));
    }
    figures
}

fn compared(percent: u64, ours: &Move, packed: f64, theirs: &Theirs) -> Vec<Figure> {
    let changed = format!("{percent} % of {DATA_MIB} MiB changed, {} Mbit/s", link::MEGABITS);
    let figure = |what: &str, unit, goal, ours: f64, name: &str, theirs: f64| {
        Figure::alone("moving", &format!("{what}, {changed}"), unit, Sample::single(ours), goal)
            .against(name, Sample::single(theirs))
    };
    let ways = [("tar | gzip | ssh", &theirs.tar), ("rsync", &theirs.rsync), ("qemu-img, scp", &theirs.qemu)];
    let mut figures = vec![figure(
        "bytes",
        Unit::Bytes,
        Goal::TimesAtMost(BYTES_AT_MOST),
        ours.bytes,
        "changed, zstd",
        packed,
    )];
    for (name, way) in ways {
        let down = match name {
            "rsync" => Goal::TimesLess(3.0),
            "tar | gzip | ssh" => Goal::TimesLess(10.0),
            _ => Goal::Known,
        };
        figures.push(figure("bytes", Unit::Bytes, Goal::Known, ours.bytes, name, way.bytes));
        figures.push(figure("time", Unit::Seconds, Goal::Known, ours.seconds, name, way.seconds));
        figures.push(figure("downtime", Unit::Seconds, down, ours.down, name, way.down));
    }
    figures
}

/// Makes an image of the host's template with a large file in it, as root does.
fn big_image(site: &mut Site) -> PathBuf {
    let path = site.folder().join("big.img");
    run(Command::new("cp").arg("--sparse=always").arg(template(site.host("oslo"))).arg(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the copy is ours");
    run(Command::new("resize2fs").arg("-f").arg(&path).arg(FILE_SYSTEM));
    mounted(&path, |folder| {
        let tool = crate::program("mln-traffic");
        let inside = folder.join("usr/local/bin/mln-traffic");
        fs::create_dir_all(folder.join("usr/local/bin")).expect("a mounted disk can be written");
        fs::copy(&tool, &inside).expect("there is room");
        run(Command::new(&tool).arg("fill").arg(folder.join("data")).arg(DATA_MIB.to_string()));
    });
    path
}

/// Does something with what is in an image.
fn mounted<T>(image: &Path, work: impl FnOnce(&Path) -> T) -> T {
    let folder = image.with_extension("mount");
    fs::create_dir(&folder).expect("it isn't there yet");
    run(Command::new("mount").args(["-o", "loop"]).args([image, &folder]));
    // What fails in there must not stay mounted.
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&folder)));
    run(Command::new("umount").arg(&folder));
    fs::remove_dir(&folder).expect("nothing is mounted there any more");
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Has the guest write some of its blocks anew. Returns how many bytes the changed blocks of its disk are, packed.
fn scribble(site: &mut Site, host: &str, percent: u64, seed: u64) -> f64 {
    let host = site.host(host);
    let command = format!("mln-traffic scribble /data {percent} {seed} && sync");
    host.shell("lab/vm", &command).done();
    let folder = host.vm_folder("vm");
    let (layer, whole) = (folder.join("disk.cow"), folder.join("bench.whole"));
    run(Command::new("uml_moo").args([&layer, &whole]).current_dir(&folder));
    let bytes = packed_difference(&whole, &backing(&layer));
    fs::remove_file(whole).expect("the folder is ours");
    bytes
}

/// Returns the file below a layer, which its head names.
fn backing(layer: &Path) -> PathBuf {
    let mut head = [0; 32 + 4096];
    File::open(layer).and_then(|mut file| file.read_exact(&mut head)).expect("a layer has a head");
    let name = &head[32..];
    let end = name.iter().position(|byte| *byte == 0).expect("a path ends");
    PathBuf::from(std::str::from_utf8(&name[..end]).expect("the site's folder is made of ASCII"))
}

/// Returns how large the blocks are in which two images differ, packed as one stream by `zstd`.
fn packed_difference(changed: &Path, before: &Path) -> f64 {
    let open =
        |path: &Path| std::io::BufReader::with_capacity(1 << 20, File::open(path).expect("it is there"));
    let (mut changed, mut before) = (open(changed), open(before));
    let mut command = Command::new("zstd");
    command.args(["-3", "-c", "-q"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut zstd =
        command.spawn().unwrap_or_else(|error| panic!("zstd: {error}; try: scripts/deps.sh bench"));
    let mut input = zstd.stdin.take().expect("it is piped");
    let writing = std::thread::spawn(move || {
        let (mut ours, mut theirs) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        // Both are as long as their file system's largest, and end on a block.
        while changed.read_exact(&mut ours).is_ok() {
            if before.read_exact(&mut theirs).is_err() || ours != theirs {
                std::io::Write::write_all(&mut input, &ours).expect("zstd reads it");
            }
        }
    });
    let mut output = zstd.stdout.take().expect("it is piped");
    let bytes = std::io::copy(&mut output, &mut std::io::sink()).expect("a pipe can be read");
    writing.join().expect("both images can be read");
    assert!(zstd.wait().is_ok_and(|status| status.success()), "zstd packs anything");
    bytes as f64
}

/// Moves the VM, which runs, and waits until it runs again.
fn moves(site: &mut Site, from: &str, to: &str) -> Move {
    let before = link::bytes(site.host(from));
    let began = Instant::now();
    let began_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let mut asked = site.host(from).ctl_begin(&["migrate", "-p", "lab", "-h", "vm", "--to", to]);
    until(&format!("the VM starts on {to}"), LIMIT, || {
        let started = last_event(site.host(to), "start", began_ms);
        started.map(drop).ok_or_else(|| site.host(from).ctl(&["status", "-p", "lab"]).out)
    });
    let seconds = seconds_since(began);
    let started = last_event(site.host(to), "start", began_ms).expect("it was there just now");
    let ended = last_event(site.host(from), "exit", began_ms).expect("who moves was stopped");
    let bytes = link::bytes(site.host(from)) - before;
    assert!(asked.wait().is_ok_and(|status| status.success()), "the move is done");
    let waited = site.host(to).ctl(&["status", "-p", "lab", "--wait", "up", "--timeout", "110"]);
    assert!(waited.code == Some(0), "{waited}");
    Move { bytes: bytes as f64, seconds, down: (started - ended) as f64 / 1e3 }
}

/// Returns when something happened to the VM on a host, in milliseconds since 1970; not what was before.
fn last_event(host: &Host, kind: &str, since_ms: u64) -> Option<u64> {
    let at = link::event_ms(host, |event| {
        event["kind"] == kind && event["vm"] == "vm" && event["host"] == host.name()
    });
    at.filter(|at| *at >= since_ms)
}

/// A door for `ssh` into the second host, from the first.
struct Door {
    folder: PathBuf,
    address: String,
    _daemon: Running,
}

impl Door {
    fn open(site: &mut Site) -> Self {
        let folder = site.folder().join("door");
        fs::create_dir(&folder).expect("the site's folder is ours");
        for key in ["host_key", "key"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key)));
        }
        fs::copy(folder.join("key.pub"), folder.join("allowed")).expect("the folder is ours");
        let address = site.host("bergen").address().expect("hosts have networks of their own").to_string();
        let configuration = format!(
            "ListenAddress {address}:22\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/allowed\nStrictModes no\n\
             PermitRootLogin yes\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n",
            folder.display()
        );
        let file = folder.join("sshd_config");
        fs::write(&file, configuration).expect("the folder is ours");
        // Its own unit makes that folder; here nothing does.
        fs::create_dir_all("/run/sshd").expect("root may");
        let mut daemon = Command::new("/usr/sbin/sshd");
        daemon.args(["-D", "-f"]).arg(&file);
        let daemon = link::start_in(site.host("bergen"), &mut daemon);
        let door = Self { folder, address, _daemon: daemon };
        until("sshd answers", LIMIT, || {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{} true", door.ssh())]);
            let status = site.host("oslo").inside(|| command.stderr(Stdio::null()).status());
            if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err("it doesn't".to_owned()) }
        });
        door
    }

    /// Returns the words that run a command in the second host.
    fn ssh(&self) -> String {
        format!("ssh {} root@{}", self.options(), self.address)
    }

    fn options(&self) -> String {
        format!(
            "-i {0}/key -o UserKnownHostsFile={0}/known -o StrictHostKeyChecking=no -o LogLevel=ERROR",
            self.folder.display()
        )
    }
}

/// What it takes to copy the disk of a VM that is stopped.
struct Theirs {
    tar: Move,
    rsync: Move,
    qemu: Move,
}

impl Theirs {
    fn measure(site: &mut Site, door: &Door, image: &Path, percent: u64, seed: u64) -> Self {
        let folder = site.folder().join("theirs");
        let there = folder.join("there");
        fs::create_dir_all(&there).expect("the site's folder is ours");
        let disk = folder.join("disk.img");
        run(Command::new("cp").arg("--sparse=always").args([image, &disk]));
        mounted(&disk, |inside| {
            let mut command = Command::new(crate::program("mln-traffic"));
            command.arg("scribble").arg(inside.join("data")).args([percent.to_string(), seed.to_string()]);
            run(&mut command);
        });
        // As it arrives: rsync finds the image there, as ours does, the others don't need it.
        let copy = there.join("rsync.img");
        run(Command::new("cp").arg("--sparse=always").args([image, &copy]));
        let (ssh, options, address) = (door.ssh(), door.options(), &door.address);
        let (here, there, away) = (folder.display(), there.display(), format!("root@{address}"));
        let tar = format!("tar -C {here} -czSf - disk.img | {ssh} 'tar -C {there} -xzSf - && sync'");
        let rsync = format!(
            "rsync --inplace --compress -e 'ssh {options}' {here}/disk.img {away}:{there}/rsync.img && {ssh} sync"
        );
        let qemu = format!(
            "qemu-img convert -c -f raw -O qcow2 {here}/disk.img {here}/disk.qcow2 && \
             scp -q {options} {here}/disk.qcow2 {away}:{there}/ && {ssh} sync"
        );
        let mut timed = |line: &str| {
            rustix::fs::sync();
            let host = site.host("oslo");
            let (before, began) = (link::bytes(host), Instant::now());
            run_in(host, "sh", &["-c", line]);
            let seconds = seconds_since(began);
            Move { bytes: (link::bytes(host) - before) as f64, seconds, down: seconds }
        };
        let theirs = Self { tar: timed(&tar), rsync: timed(&rsync), qemu: timed(&qemu) };
        assert!(packed_difference(&copy, &disk) < 64.0, "rsync has brought all of it");
        fs::remove_dir_all(&folder).expect("the folder is ours");
        theirs
    }
}
