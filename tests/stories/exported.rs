//! A whole project in one file: out of a mesh while its machines run, and back into it as another project.

use std::fs;

use mln_e2e::Site;

use crate::PAIR;

#[test]
fn a_project_comes_back_from_a_file_with_what_its_machines_had_on_their_disks() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let project = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &project]).done();
    // What a project was submitted as outlives all its agents.
    for name in ["oslo", "bergen"] {
        site.host(name).kill();
        site.host(name).run();
    }
    site.host("oslo").is_connected_to(1);
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "90"]).ended(0);
    for vm in ["left", "right"] {
        let line =
            format!("echo {vm} >/root/note; head -c 300000 /dev/urandom >/root/noise; sha256sum /root/noise");
        site.host("oslo").shell(&format!("pair/{vm}"), &line).done();
    }
    let sums = ["left", "right"]
        .map(|vm| site.host("oslo").shell(&format!("pair/{vm}"), "sha256sum </root/noise").done());

    // From any host, of machines that run, and nothing is left of the snapshot that was taken for it.
    let folder = site.host("bergen").folder().to_owned();
    let path = |name: &str| folder.join(name).to_str().expect("a path of ours").to_owned();
    let file = path("pair.mlnx");
    let exported = site.host("bergen").ctl(&["export", "-p", "pair", &file, "--json"]).done();
    assert!(exported.contains("\"event\":\"exported\""), "{exported}");
    let listed = site.host("oslo").ctl(&["snapshot", "list", "-p", "pair", "--json"]).json();
    assert_eq!(listed, serde_json::json!([]));
    let checked = site.host("bergen").ctl(&["import", "--check", &file, "--json"]).json();
    let mut hosts: Vec<_> =
        checked["hosts"].as_array().into_iter().flatten().map(|host| &host["name"]).collect();
    hosts.sort_by_key(|name| name.to_string());
    assert_eq!((&checked["project"], hosts), (&"pair".into(), vec![&"left".into(), &"right".into()]));
    let bytes = fs::read(&file).expect("it was written");
    assert_eq!(checked["bytes"], bytes.len());

    // It goes, with its disks, and comes back as another one.
    site.host("oslo").ctl(&["remove", "-p", "pair", "--force"]).ended(0);
    site.host("oslo").ctl(&["import", &file, "--as", "again"]).ended(0);
    let before: Vec<_> =
        fs::read_dir(site.host("bergen").folder().join("blobs")).expect("it is there").collect();
    let large = before.iter().flatten().filter(|blob| blob.metadata().is_ok_and(|blob| blob.len() > 100_000));
    assert_eq!(large.count(), 0, "a disk that is built is not kept besides");
    site.host("oslo").ctl(&["start", "-p", "again"]).done();
    site.host("oslo").ctl(&["status", "-p", "again", "--wait", "up", "--timeout", "90"]).ended(0);
    for (vm, sum) in ["left", "right"].into_iter().zip(&sums) {
        let said = site.host("oslo").shell(&format!("again/{vm}"), "cat /root/note; sha256sum </root/noise");
        assert_eq!(said.done(), format!("{vm}\n{sum}"));
    }
    site.host("oslo").shell("again/left", "ping -c 1 -W 10 10.9.0.2").done();
    site.host("oslo").ctl(&["import", &file, "--as", "again"]).ended(3).says("already");

    // What isn't whole is refused before anything is built: by mlnctl, and where that is not asked, by the agent.
    let cut = path("cut.mlnx");
    fs::write(&cut, &bytes[..bytes.len() - 1000]).expect("room");
    let at = format!("ends at byte {}", bytes.len() - 1000);
    site.host("oslo").ctl(&["import", &cut, "--as", "half"]).ended(1).says(&at);
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(path("damaged.mlnx"), damaged).expect("room");
    site.host("oslo")
        .ctl(&["import", "--check", &path("damaged.mlnx")])
        .ended(1)
        .says("are not what was written");
    let listed = site.host("oslo").ctl(&["list", "--json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
}
