//! The disks of a project at one instant, taken while its machines run, and given back to them.

use std::fs;

use mln_e2e::{Site, until};

use crate::{LIMIT, PAIR};

#[test]
fn a_snapshot_is_taken_of_running_machines_and_brings_back_what_they_had() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "90"]).ended(0);
    let vms = ["pair/left", "pair/right"];
    let boots = vms.map(|vm| site.host("oslo").boot_id(vm));
    for vm in vms {
        site.host("oslo").shell(vm, "echo first >/root/state").done();
    }

    // What was only in their memory is in it, and they ran on.
    site.host("bergen").ctl(&["snapshot", "take", "-p", "pair", "before"]).ended(0);
    for (vm, boot) in vms.into_iter().zip(&boots) {
        assert_eq!(site.host("oslo").boot_id(vm), *boot, "{vm} ran on");
        site.host("oslo").shell(vm, "echo second >/root/state; echo more >/root/more; sync").done();
    }
    let listed = site.host("oslo").ctl(&["snapshot", "list", "-p", "pair", "--json"]).json();
    assert_eq!(listed[0]["name"], "before", "{listed}");
    assert_eq!(
        (&listed[0]["whole"], &listed[0]["hosts"]),
        (&true.into(), &serde_json::json!(["left", "right"]))
    );

    // None is replaced, and none is put under a machine that runs.
    site.host("oslo").ctl(&["snapshot", "take", "-p", "pair", "before"]).ended(3).says("already");
    site.host("oslo").ctl(&["snapshot", "restore", "-p", "pair", "before"]).ended(3).says("is not down");
    site.host("oslo").ctl(&["snapshot", "restore", "-p", "pair", "never"]).ended(3).says("no snapshot never");

    site.host("oslo").ctl(&["stop", "-p", "pair", "-w", "20"]).done();
    site.host("oslo").ctl(&["snapshot", "restore", "-p", "pair", "before"]).ended(0);
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "90"]).ended(0);
    for vm in vms {
        assert_eq!(
            site.host("oslo").shell(vm, "cat /root/state; ls /root/more 2>/dev/null").out,
            "first\n",
            "{vm}"
        );
    }

    // What an agent left half done is swept when it starts; what is whole stays.
    let folder = site.host("bergen").folder().join("snapshots");
    let project =
        fs::read_dir(&folder).expect("it has a snapshot").next().expect("of a project").expect("reads");
    let half = project.path().join(".half.taking");
    fs::create_dir(&half).expect("a folder");
    site.host("bergen").kill();
    site.host("bergen").run();
    until("bergen has swept", LIMIT, || if half.exists() { Err(half.display().to_string()) } else { Ok(()) });
    site.host("oslo").is_connected_to(1);
    let listed = site.host("oslo").ctl(&["snapshot", "list", "-p", "pair", "--json"]).json();
    assert_eq!(listed[0]["whole"], true, "{listed}");
    site.host("oslo").ctl(&["snapshot", "rm", "-p", "pair", "before"]).ended(0);
    let listed = site.host("bergen").ctl(&["snapshot", "list", "-p", "pair", "--json"]).json();
    assert_eq!(listed, serde_json::json!([]));
}

/// A disk that was restored is another one: what was known of it block by block must not be sent for it.
#[test]
fn a_machine_that_was_restored_moves_with_the_disk_that_it_was_given() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("pair", PAIR);
    let state = |site: &mut Site| site.host("oslo").shell("pair/left", "cat /root/state").done();
    let up = |site: &mut Site| {
        site.host("oslo").ctl(&["start", "-p", "pair", "-h", "left"]).done();
        site.host("oslo").sees("pair", "left", "up");
    };
    let to = |site: &mut Site, host: &str| {
        site.host("oslo").ctl(&["migrate", "-p", "pair", "-h", "left", "--to", host, "--yes"]).ended(0);
    };
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    up(&mut site);
    site.host("oslo").shell("pair/left", "echo first >/root/state").done();
    site.host("oslo").ctl(&["snapshot", "take", "-p", "pair", "before"]).ended(0);
    site.host("oslo").shell("pair/left", "echo second >/root/state; sync").done();
    site.host("oslo").ctl(&["stop", "-p", "pair", "-w", "20"]).done();

    // Away, where its copies are not, and back again; then both hosts know what is on its disk.
    to(&mut site, "bergen");
    site.host("oslo")
        .ctl(&["snapshot", "restore", "-p", "pair", "before"])
        .ended(1)
        .says("not on this host now");
    to(&mut site, "oslo");
    site.host("oslo").ctl(&["snapshot", "restore", "-p", "pair", "before"]).ended(0);
    to(&mut site, "bergen");
    up(&mut site);
    assert_eq!(state(&mut site), "first\n");
    let shown = site.host("oslo").ctl(&["gc", "--dry-run", "--json"]).json();
    assert_eq!(shown["snapshots"][0]["name"], "before", "{shown}");

    // With the project its snapshots go.
    site.host("oslo").ctl(&["remove", "-p", "pair", "--force"]).ended(0);
    let freed = site.host("oslo").ctl(&["gc", "--json"]).json();
    assert!(freed["files"].to_string().contains("snapshots/"), "{freed}");
    let left = site.host("oslo").folder().join("snapshots");
    assert_eq!(fs::read_dir(&left).expect("it is there").count(), 0);
}
