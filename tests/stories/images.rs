//! Templates that travel: to a host that lacks one, past a host that has it wrong, and over a cut.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mln_e2e::{Site, until};
use serde_json::Value;

use crate::LIMIT;

/// One VM on the host that has no template.
const ON_GJOVIK: &str = "
global { project far }
host vm { memory 64M; service_host gjovik; startup { echo here > /root/startup } }
";

fn template(site: &mut Site, host: &str) -> Value {
    let rows = site.host(host).ctl(&["template", "list", "--json"]).json();
    rows.as_array().and_then(|rows| rows.first()).cloned().unwrap_or(Value::Null)
}

fn image(site: &mut Site, host: &str) -> PathBuf {
    let digest = template(site, host)["digest"].as_str().expect("it has a template").to_owned();
    site.host(host).folder().join(format!("images/{digest}.img"))
}

/// Flips a bit of a byte of data, in the middle of what isn't a hole.
fn flip(path: &Path) -> u64 {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("the folder is ours");
    let times = path.metadata().expect("it is there").modified().expect("it has a time");
    let file = File::options().read(true).write(true).open(path).expect("it can be written");
    // The first inode table and what follows is data in every image; this is far behind the superblock.
    let at = 3 << 20;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is that long");
    file.write_all_at(&[byte[0] ^ 1], at).expect("room");
    file.set_modified(times).expect("it is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).expect("the folder is ours");
    at
}

#[test]
fn a_template_that_a_host_lacks_comes_from_a_peer_and_a_wrong_chunk_from_another() {
    let mut site = Site::mesh_lacking(&["oslo", "bergen", "gjovik"], &["gjovik"]);
    let digest = template(&mut site, "oslo")["digest"].clone();
    assert_eq!(template(&mut site, "gjovik"), Value::Null);
    let listed = site.host("gjovik").ctl(&["template", "list", "--peers", "--json"]).json();
    let hosts: Vec<&str> =
        listed.as_array().into_iter().flatten().filter_map(|row| row["service_host"].as_str()).collect();
    assert_eq!(hosts, ["bergen", "oslo"], "{listed}");

    // One has a byte that is none of the image; what is good of it counts all the same.
    let bad = image(&mut site, "bergen");
    let at = flip(&bad);
    site.host("gjovik").ctl(&["template", "pull", "mini", "--from", "bergen"]).ended(1).says("bergen gave");
    let file = site.project("far", ON_GJOVIK);
    let built = site.host("gjovik").ctl(&["build", "-f", &file, "--json"]).ended(0);
    assert!(built.out.contains("\"step\":\"fetch\""), "{built}");
    let chunk = format!("chunk {}", at / (256 << 10));
    let log = fs::read_to_string(site.host("gjovik").folder().join("mlnd.log")).expect("a log");
    assert!(log.contains("a host gave something else") && log.contains(&chunk), "{log}");
    assert!(log.contains("peer=\"bergen\""), "{log}");
    assert_eq!(template(&mut site, "gjovik")["digest"], digest);
    let (good, fetched) = (image(&mut site, "oslo"), image(&mut site, "gjovik"));
    assert!(fs::read(good).expect("reads") == fs::read(fetched).expect("reads"), "byte for byte");

    site.host("oslo").ctl(&["start", "-p", "far"]).done();
    site.host("oslo").ctl(&["status", "-p", "far", "--wait", "up", "--timeout", "60"]).ended(0);
    assert_eq!(site.host("oslo").shell("far/vm", "cat /root/startup").done(), "here\n");

    // What is in use stays.
    let gjovik = site.host("gjovik");
    gjovik.ctl(&["template", "rm", "mini"]).ended(3).says("far/vm").says("--force");
    gjovik.ctl(&["template", "rm", "mini", "--force"]).ended(0);
    gjovik.ctl(&["gc"]).done();
    assert_eq!(gjovik.shell("far/vm", "cat /root/startup").done(), "here\n");
    gjovik.ctl(&["stop", "-p", "far", "-w", "20"]).done();
    gjovik.ctl(&["start", "-p", "far"]).done();
    gjovik.ctl(&["status", "-p", "far", "--wait", "up", "--timeout", "60"]).ended(0);
    gjovik.ctl(&["stop", "-p", "far", "-H"]).done();
    gjovik.ctl(&["remove", "-p", "far"]).done();
    // Now nothing needs the image any more: no name, and no VM.
    let found = gjovik.ctl(&["gc", "--dry-run", "--json"]).json();
    let kinds: Vec<&str> =
        found["files"].as_array().into_iter().flatten().filter_map(|file| file["kind"].as_str()).collect();
    assert!(kinds.contains(&"image"), "{found}");
    gjovik.ctl(&["gc"]).done();
    let left = gjovik.ctl(&["gc", "--json"]).json();
    assert_eq!(left["files"], serde_json::json!([]), "{left}");

    // When all that have it have it wrong, the peer and the chunk are named.
    let other = image(&mut site, "oslo");
    flip(&other);
    let failed = site.host("gjovik").ctl(&["template", "pull", "mini"]).ended(1);
    let failed = failed.says("oslo gave").says("bergen gave").says(&chunk);
    assert!(!failed.out.contains("Template"), "no empty table: {failed}");
}

#[test]
fn a_fetch_that_was_cut_goes_on_and_limits_are_kept() {
    let mut site = Site::mesh_lacking(&["oslo", "bergen"], &["bergen"]);
    // Large enough to be cut in the middle, of bytes that can't be packed.
    let big = site.host("oslo").folder().join("big.img");
    let mut copy = std::process::Command::new("cp");
    copy.arg("--sparse=always").arg(image(&mut site, "oslo")).arg(&big);
    assert!(copy.status().expect("cp is there").success());
    fs::set_permissions(&big, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let file = File::options().write(true).open(&big).expect("it is ours");
    const NOISE_MIB: u64 = 256;
    // Behind the file system.
    const NOISE_AT: u64 = 64 << 20;
    let mut noise = vec![0; 1 << 20];
    let mut random = File::open("/dev/urandom").expect("every machine has it");
    for mib in 0..NOISE_MIB {
        std::io::Read::read_exact(&mut random, &mut noise).expect("it never ends");
        file.write_all_at(&noise, NOISE_AT + (mib << 20)).expect("room");
    }
    let path = big.to_str().expect("ASCII").to_owned();
    let added = site.host("oslo").ctl(&["template", "add", "big", "-f", &path, "--json"]).ended(0);
    assert!(added.out.contains("big"), "{added}");
    let rows = site.host("oslo").ctl(&["template", "list", "--json"]).json();
    let digest = rows[0]["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(rows[0]["name"], "big");

    let part = site.host("bergen").folder().join(format!("images/{digest}.part"));
    let mut pull = site.host("bergen").ctl_begin(&["template", "pull", "big"]);
    let here = || part.metadata().map_or(0, |meta| std::os::unix::fs::MetadataExt::blocks(&meta) * 512);
    until("some of the image is there", LIMIT, || {
        if here() > 12 << 20 { Ok(()) } else { Err(format!("{} bytes", here())) }
    });
    site.host("bergen").kill();
    pull.wait().expect("it is ours");
    let kept = here();
    assert!(kept < NOISE_MIB << 20, "it was over before it was cut");
    site.host("bergen").run();
    site.host("bergen").is_connected_to(1);
    site.host("bergen").ctl(&["template", "pull", "big:1", "--from", "oslo"]).ended(0);
    let log = fs::read_to_string(site.host("bergen").folder().join("mlnd.log")).expect("a log");
    let went_on = log.lines().rfind(|line| line.contains("fetching an image")).expect("two");
    let here: u64 = went_on
        .split("here=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("it says how much was here");
    assert!(here >= 6 << 20, "{went_on}");
    let (from, to) = (image(&mut site, "oslo"), image(&mut site, "bergen"));
    assert_eq!(from.file_name(), to.file_name());
    let same = std::process::Command::new("cmp").arg(&from).arg(&to).status().expect("cmp is there");
    assert!(same.success(), "byte for byte");

    // A second version costs its difference; a host under its limit refuses what has no room, and says by which rule.
    let limited = "memory_mib = 1024\nimage_limit_mib = 400\n";
    site.host("bergen").configure(limited);
    site.host("bergen").stop();
    site.host("bergen").run();
    site.host("bergen").is_connected_to(1);
    std::io::Read::read_exact(&mut random, &mut noise).expect("it never ends");
    file.write_all_at(&noise, NOISE_AT).expect("room");
    site.host("oslo").ctl(&["template", "add", "big", "-f", &path]).ended(0);
    // Each is more than half of that, whatever they share.
    site.host("oslo").ctl(&["template", "push", "big", "--to", "bergen"]).ended(3).says("image_limit_mib");
    let log = fs::read_to_string(site.host("bergen").folder().join("mlnd.log")).expect("a log");
    assert_eq!(log.matches("an image is fetched").count(), 1, "{log}");
    site.host("bergen").ctl(&["template", "rm", "big:1"]).ended(0);
    site.host("oslo").ctl(&["template", "push", "big:2", "--to", "bergen"]).ended(0);
    site.host("bergen").ctl(&["template", "rm", "big"]).ended(0);
    let gc = site.host("bergen").ctl(&["gc", "--json"]).json();
    assert!(gc["bytes_left"].as_u64().expect("a number") < 400 << 20, "{gc}");
}
