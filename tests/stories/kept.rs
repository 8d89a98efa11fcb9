//! A machine that a change leaves out: its disk is kept for a while, and it comes back with that, or as another one.

use mln_e2e::{Host, Site, until};

use crate::{LIMIT, PAIR};

/// The names of the machines whose disks a host keeps.
fn kept(host: &Host) -> Vec<String> {
    let found = host.ctl(&["gc", "--dry-run", "--json"]).json();
    let rows = found["kept"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_machine_that_was_left_out_comes_back_with_its_disk_until_its_time_is_over() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let both = site.project("pair", PAIR);
    let cut = PAIR.find("host right").expect("it has two machines");
    let one = site.project("one", &PAIR[..cut]);
    site.host("oslo").ctl(&["build", "-f", &both]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "90"]).ended(0);
    let boot = site.host("oslo").boot_id("pair/left");
    site.host("oslo").shell("pair/right", "echo mine >/root/mine; sync").done();

    // Left out, it is stopped, and no machine of the project any more; but its disk stays, also over a crash.
    let told =
        site.host("oslo").ctl(&["upgrade", "-f", &one, "--yes", "--force", "--keep-removed", "1h"]).ended(0);
    told.says("- host right").says("its disk is kept");
    site.host("oslo")
        .ctl(&["status", "-p", "pair"])
        .ended(0)
        .says("right is left out; its disk is kept on bergen");
    assert_eq!(kept(site.host("bergen")), ["right"]);
    assert!(kept(site.host("oslo")).is_empty(), "each host tells of its own");
    site.host("bergen").kill();
    site.host("bergen").run();
    until("bergen keeps it after a crash", LIMIT, || match kept(site.host("bergen")) {
        kept if kept == ["right"] => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // Going back brings the same machine back, with what it had written.
    site.host("oslo").is_connected_to(1);
    let plan = site.host("oslo").ctl(&["plan", "-f", &both]).ended(2);
    plan.says("+ host right").says("it comes back with its disk");
    site.host("oslo").ctl(&["rollback", "-p", "pair", "--yes", "-S"]).ended(0).says("+ host right");
    site.host("oslo").sees("pair", "right", "up");
    assert_eq!(site.host("oslo").shell("pair/right", "cat /root/mine").done(), "mine\n");
    assert!(kept(site.host("bergen")).is_empty());

    // When its time is over it is gone, and the name is another machine's.
    let told =
        site.host("oslo").ctl(&["upgrade", "-f", &one, "--yes", "--force", "--keep-removed", "3s"]).ended(0);
    told.says("- host right");
    until("its disk is gone", LIMIT, || {
        let traces = site.host("bergen").traces_of_vms();
        let left: Vec<&String> = traces.iter().filter(|path| path.contains("/vms/")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // Who hasn't heard of that asks for the same machine, and is told to ask again.
    until("oslo has heard of it", LIMIT, || {
        let status = site.host("oslo").ctl(&["status", "-p", "pair"]);
        if status.to_string().contains("is left out") { Err(status.to_string()) } else { Ok(()) }
    });
    site.host("oslo").ctl(&["upgrade", "-f", &both, "--yes", "-S"]).ended(0).says("+ host right");
    site.host("oslo").sees("pair", "right", "up");
    site.host("oslo").shell("pair/right", "cat /root/mine").ended(1);

    // Nothing is kept where nothing is to be.
    let told =
        site.host("oslo").ctl(&["upgrade", "-f", &one, "--yes", "--force", "--keep-removed", "0"]).ended(0);
    told.says("- host right");
    assert!(kept(site.host("bergen")).is_empty());
    assert_eq!(site.host("oslo").boot_id("pair/left"), boot, "left ran through all of it");
    // What went before goes no second time.
    let told = site.host("oslo").ctl(&["remove", "-p", "pair", "--force"]).ended(0);
    let lines = |words: &str| {
        told.err.lines().filter(|line| line.contains(words) && line.contains("removed")).count()
    };
    assert_eq!((lines("pair/left"), lines("pair/right")), (1, 0), "{told}");
}
