//! A disk that fills up while a template comes.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use mln_e2e::{Site, until};
use serde_json::Value;

use crate::LIMIT;
use crate::durable::{SmallDisk, fill_up};

/// What can't be packed in the template, in MiB.
const NOISE_MIB: u64 = 256;

/// Makes a template of bytes that can't be packed; returns its digest.
fn add_big(site: &mut Site, host: &str) -> String {
    let host = site.host(host);
    let mini = host.ctl(&["template", "list", "--json"]).json();
    let digest = mini[0]["digest"].as_str().expect("it has a template").to_owned();
    let path = host.folder().join("big.img");
    let mut copy = Command::new("install");
    copy.args(["-m", "600"]).arg(host.folder().join(format!("images/{digest}.img")));
    assert!(copy.arg(&path).status().expect("it is there").success());
    // Behind the file system.
    let noise = ["if=/dev/urandom", "bs=1M", "seek=64", "conv=notrunc", "status=none"];
    let mut dd = Command::new("dd");
    dd.args(noise).arg(format!("count={NOISE_MIB}")).arg(format!("of={}", path.display()));
    assert!(dd.status().expect("it is there").success());
    host.ctl(&["template", "add", "big", "-f", path.to_str().expect("ASCII")]).done();
    let rows = host.ctl(&["template", "list", "--json"]).json();
    let row = rows.as_array().into_iter().flatten().find(|row| row["name"] == "big").expect("it was added");
    row["digest"].as_str().expect("a digest").to_owned()
}

fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str()).collect()
}

#[test]
fn a_disk_that_fills_up_while_a_template_comes_is_told_and_the_rest_comes_when_there_is_room() {
    // It is unmounted after the site has ended all processes on it.
    let mut disk = SmallDisk::default();
    let mut site = Site::bare();
    site.settle_in("bergen", |folder| disk.mount(folder, c"size=448m"));
    site.add("oslo");
    site.host("oslo").take_images();
    site.host("oslo").configure("memory_mib = 1024\n");
    site.join("bergen", "oslo").done();
    site.host("oslo").run();
    for name in ["oslo", "bergen"] {
        site.host(name).is_connected_to(1);
    }
    let digest = add_big(&mut site, "oslo");

    let host = site.host("bergen");
    let part = host.folder().join(format!("images/{digest}.part"));
    let here = || part.metadata().map_or(0, |meta| meta.blocks() * 512);
    let told = host.folder().parent().expect("it is in the site's").join("pull.out");
    let mut pull = host.ctl_into(&["template", "pull", "big", "--json"], &told);
    until("some of the template is there", LIMIT, || {
        if here() > 4 << 20 { Ok(()) } else { Err(format!("{} bytes", here())) }
    });
    let filler = host.folder().join("filler");
    fill_up(&File::create(&filler).expect("there is room"), host.folder());
    assert_eq!(pull.wait().expect("it is ours").code(), Some(1), "it was over before the disk was full");

    // Whoever asks again is told why, and what to do; there is no half template, and the host goes on.
    let again = host.ctl(&["template", "pull", "big"]).ended(1);
    again.says("no space is left").says("mlnctl gc");
    let rows = host.ctl(&["template", "list", "--json"]).json();
    assert_eq!(names(&rows), ["mini"], "{rows}");
    let kept = here();
    assert!(kept > 4 << 20, "what has come is kept: {kept} bytes");

    fs::remove_file(&filler).expect("it is ours");
    host.ctl(&["template", "pull", "big"]).done();
    let log = fs::read_to_string(host.folder().join("mlnd.log")).expect("a log");
    let went_on = log.lines().rfind(|line| line.contains("fetching an image")).expect("it was fetched");
    let was_here =
        went_on.split("here=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    assert!(was_here.is_some_and(|bytes: u64| bytes >= 4 << 20), "it went on from there: {went_on}");
    let image = |site: &mut Site, name| site.host(name).folder().join(format!("images/{digest}.img"));
    let (from, to) = (image(&mut site, "oslo"), image(&mut site, "bergen"));
    assert!(Command::new("cmp").arg(from).arg(to).status().expect("cmp is there").success(), "byte for byte");
    assert!(!part.exists(), "nothing is left of the part");
}
