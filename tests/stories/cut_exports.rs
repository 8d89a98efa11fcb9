//! Exports and imports that are cut off: an agent is killed in the middle, or a disk has no room. Nothing half is left, and
//! the same command works when all is as it was.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use mln_e2e::{Host, Site, until};

use crate::durable::{SmallDisk, fill_up_to};
use crate::{LIMIT, PAIR};

/// What each machine has on its disk that can't be packed, in MiB.
const NOISE_MIB: u64 = 12;

/// Returns the bytes that a folder's disk has free.
fn free_bytes(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).expect("it is there");
    disk.f_bavail * disk.f_frsize
}

/// Returns what is in a folder and below it, by paths.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(all_below(&path));
        }
        found.push(path);
    }
    found
}

fn is_named(path: &Path, part: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(part))
}

/// Returns the snapshots of exports that a host has, whole or not.
fn snapshots(host: &Host) -> Vec<PathBuf> {
    let mut found = all_below(&host.folder().join("snapshots"));
    found.retain(|path| is_named(path, "exporting-"));
    found
}

/// Returns what is left on a host of imports that are not over.
fn leftovers(host: &Host) -> Vec<PathBuf> {
    let mut found = all_below(&host.folder().join("imports"));
    let blobs = all_below(&host.folder().join("blobs"));
    let is_large = |path: &PathBuf| path.metadata().is_ok_and(|found| found.len() > NOISE_MIB << 19);
    found.extend(blobs.into_iter().filter(|path| is_named(path, ".part-") || is_large(path)));
    found
}

/// Waits for a moment of something that is under way; it may be over before.
fn wait_for(what: &str, running: &mut Child, is_now: impl Fn() -> bool) -> bool {
    let mut was = false;
    until(what, LIMIT, || {
        was = is_now();
        let is_over = matches!(running.try_wait(), Ok(Some(_)));
        if was || is_over { Ok(()) } else { Err("not yet".to_owned()) }
    });
    was
}

/// Waits until a command works: agents have found each other again, and what runs is known to them.
fn works_again(host: &Host, arguments: &[&str]) {
    until(&format!("{arguments:?} works again"), LIMIT * 2, || {
        let answer = host.ctl(arguments);
        if answer.code == Some(0) { Ok(()) } else { Err(answer.to_string()) }
    });
}

fn restart(site: &mut Site, victim: &str) {
    site.host(victim).kill();
    site.host(victim).run();
    for name in ["oslo", "bergen"] {
        site.host(name).is_connected_to(1);
    }
}

/// A project of two machines that run, with something on their disks; returns what is there.
fn with_noise(site: &mut Site) -> [String; 2] {
    let project = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &project]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "90"]).ended(0);
    ["left", "right"].map(|vm| {
        let line = format!(
            "dd if=/dev/urandom of=/root/noise bs=1M count={NOISE_MIB} 2>/dev/null; sync; md5sum </root/noise"
        );
        site.host("oslo").shell(&format!("pair/{vm}"), &line).done()
    })
}

#[test]
fn an_export_or_import_during_which_an_agent_is_killed_leaves_nothing_half_and_works_again() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let sums = with_noise(&mut site);
    let folder = site.host("oslo").folder().to_owned();
    let file = folder.join("pair.mlnx");
    let path = file.to_str().expect("ASCII").to_owned();
    let export = ["export", "-p", "pair", "--force", &path];
    let mut in_the_middle = 0;
    for victim in ["oslo", "bergen"] {
        let data = site.host(victim).folder().join("snapshots");
        let written = |least: u64| {
            let parts = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut parts = parts.filter(|entry| is_named(&entry.path(), ".pair.mlnx."));
            parts.any(|entry| entry.metadata().is_ok_and(|found| found.len() > least))
        };
        let moments: [(&str, &dyn Fn() -> bool); 3] = [
            ("the snapshot is begun", &|| all_below(&data).iter().any(|path| is_named(path, "exporting-"))),
            ("the file is begun", &|| written(0)),
            ("most of the file is written", &|| written((NOISE_MIB * 3) << 19)),
        ];
        for (what, is_now) in moments {
            let what = format!("{what}, and {victim} is killed");
            let mut exporting = site.host("oslo").ctl_begin(&export);
            wait_for(&what, &mut exporting, is_now);
            site.host(victim).kill();
            let is_whole = exporting.wait().expect("it is ours").success();
            in_the_middle += usize::from(!is_whole);
            assert_eq!(file.exists(), is_whole, "{what}");
            let left: Vec<_> =
                all_below(&folder).into_iter().filter(|p| is_named(p, ".pair.mlnx.")).collect();
            assert!(left.is_empty(), "{what}: {left:?}");
            site.host(victim).run();
            for name in ["oslo", "bergen"] {
                site.host(name).is_connected_to(1);
            }
            works_again(site.host("oslo"), &export);
            site.host("oslo").ctl(&["import", "--check", &path]).ended(0);
            for name in ["oslo", "bergen"] {
                let left = snapshots(site.host(name));
                assert!(left.is_empty(), "{what}: {name}: {left:?}");
            }
            fs::remove_file(&file).expect("it is there");
        }
    }
    assert!(
        in_the_middle >= 3,
        "agents were killed in the middle {in_the_middle} times: the story tells nothing"
    );

    works_again(site.host("oslo"), &export);
    site.host("oslo").ctl(&["remove", "-p", "pair", "--force"]).ended(0);
    let import = ["import", &path, "--as", "again"];
    let mut in_the_middle = 0;
    for victim in ["oslo", "bergen"] {
        let data = site.host(victim).folder().to_owned();
        let moments: [(&str, &dyn Fn() -> bool); 3] = [
            ("it begins to come", &|| {
                all_below(&data.join("blobs")).iter().any(|path| is_named(path, ".part-"))
            }),
            ("it is here", &|| !all_below(&folder.join("imports")).is_empty()),
            ("machines are built", &|| {
                all_below(&data.join("vms")).iter().any(|path| is_named(path, "disk.cow"))
            }),
        ];
        for (what, is_now) in moments {
            let what = format!("{what}, and {victim} is killed");
            let mut importing = site.host("oslo").ctl_begin(&import);
            let was = wait_for(&what, &mut importing, is_now);
            let is_over = matches!(importing.try_wait(), Ok(Some(_)));
            in_the_middle += usize::from(was && !is_over);
            restart(&mut site, victim);
            importing.wait().expect("it is ours");
            if !is_whole_or_gone(&mut site, &what) {
                works_again(site.host("oslo"), &import);
                assert!(is_whole_or_gone(&mut site, &what), "{what}: it was built again");
            }
            until(&format!("nothing is left: {what}"), LIMIT, || {
                let left = ["oslo", "bergen"].map(|name| leftovers(site.host(name)));
                if left.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{left:?}")) }
            });
            has_what_was_there(&mut site, &sums);
            site.host("oslo").ctl(&["remove", "-p", "again", "--force"]).ended(0);
        }
    }
    assert!(
        in_the_middle >= 3,
        "agents were killed in the middle {in_the_middle} times: the story tells nothing"
    );
}

/// Waits until both hosts say the same: all machines are built, or there is no such project. Returns whether it is whole.
fn is_whole_or_gone(site: &mut Site, what: &str) -> bool {
    let mut is_whole = false;
    until(&format!("it is whole or gone: {what}"), LIMIT * 3, || {
        let states = ["oslo", "bergen"].map(|name| {
            let rows = site.host(name).ctl(&["status", "--json"]).json();
            let rows = rows.as_array().cloned().unwrap_or_default();
            rows.iter().map(|row| row["state"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        });
        is_whole = states.iter().all(|seen| *seen == ["down", "down"]);
        if is_whole || states.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{states:?}")) }
    });
    is_whole
}

fn has_what_was_there(site: &mut Site, sums: &[String; 2]) {
    site.host("oslo").ctl(&["start", "-p", "again"]).done();
    site.host("oslo").ctl(&["status", "-p", "again", "--wait", "up", "--timeout", "90"]).ended(0);
    for (vm, sum) in ["left", "right"].into_iter().zip(sums) {
        let said = site.host("oslo").shell(&format!("again/{vm}"), "md5sum </root/noise").done();
        assert_eq!(said, *sum, "{vm}");
    }
}

#[test]
fn an_import_for_which_a_disk_has_no_room_leaves_nothing_and_works_when_there_is_some() {
    // It is unmounted after the site has ended all processes on it.
    let mut disk = SmallDisk::default();
    let mut site = Site::bare();
    site.settle_in("bergen", |folder| disk.mount(folder, c"size=300m"));
    site.add("oslo");
    site.host("oslo").take_images();
    site.join("bergen", "oslo").done();
    site.host("oslo").run();
    for name in ["oslo", "bergen"] {
        site.host(name).is_connected_to(1);
        site.host(name).has_heard_of(2);
    }
    let at_first = free_bytes(site.host("bergen").folder());
    let sums = with_noise(&mut site);
    let file = site.host("oslo").folder().join("pair.mlnx");
    let path = file.to_str().expect("ASCII").to_owned();
    site.host("oslo").ctl(&["export", "-p", "pair", &path]).ended(0);
    site.host("oslo").ctl(&["export", "-p", "pair", &path]).ended(3).says("--force");
    site.host("oslo").ctl(&["remove", "-p", "pair", "--force"]).ended(0);

    // Room for the first disk that comes, and not for the second one.
    let host = site.host("bergen");
    until("what was removed takes no room", LIMIT, || {
        let left = all_below(&host.folder().join("vms"));
        // A file without a name takes room, too, as long as somebody has it open. The image that came stays, and records.
        let images = all_below(&host.folder().join("blobs"));
        let images: u64 =
            images.iter().filter_map(|path| path.metadata().ok()).map(|found| found.blocks() * 512).sum();
        let missing = at_first.saturating_sub(images + free_bytes(host.folder()));
        if left.is_empty() && missing < 4 << 20 { Ok(()) } else { Err(format!("{left:?}, {missing} bytes")) }
    });
    let filler = host.folder().join("filler");
    fill_up_to(&filler, host.folder(), (64 + NOISE_MIB * 3 / 2) << 20);
    let refused = host.ctl(&["import", &path, "--as", "again"]).ended(1);
    refused.says("no room").says("df -h");
    assert_eq!(leftovers(host), [""; 0].map(PathBuf::from));
    let listed = host.ctl(&["list", "--json"]).json();
    assert_eq!(listed, serde_json::json!([]));

    // The host that was asked has room, and the one where a machine goes has none: nothing is built on either.
    fs::remove_file(&filler).expect("it is ours");
    let host = site.host("bergen");
    fill_up_to(&filler, host.folder(), (NOISE_MIB * 3) << 19);
    let refused = site.host("oslo").ctl(&["import", &path, "--as", "again"]).ended(3);
    refused.says("the imported disks take").says("bergen");
    for name in ["oslo", "bergen"] {
        let host = site.host(name);
        until(&format!("nothing is left on {name}"), LIMIT, || {
            let left = leftovers(host);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
    fs::remove_file(&filler).expect("it is ours");
    works_again(site.host("bergen"), &["import", &path, "--as", "again"]);
    has_what_was_there(&mut site, &sums);
}
