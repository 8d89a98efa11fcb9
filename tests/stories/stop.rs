//! Stopping.

use std::time::{Duration, Instant};

use mln_e2e::Site;

use crate::SINGLE;

#[test]
fn a_guest_that_ignores_shutdown_is_killed_when_its_time_is_up() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("single", SINGLE);
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).done();
    oslo.ctl(&["start", "-p", "single"]).done();
    oslo.sees("single", "vm", "up");
    // The host's wish to shut down goes to a process that doesn't care.
    let deaf = "trap '' INT; sleep 1000 >/dev/null 2>&1 & echo $! >/proc/sys/kernel/cad_pid";
    oslo.shell("single/vm", deaf).done();
    let began = Instant::now();
    oslo.ctl(&["stop", "-p", "single", "-w", "2"]).done();
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "killed after {took:?}");
    assert!(took < Duration::from_secs(6), "killed after {took:?}");
    oslo.sees("single", "vm", "down");
    assert_eq!(oslo.guest_processes(), 0);

    // One that listens is done sooner, and -H waits for nobody.
    oslo.ctl(&["start", "-p", "single"]).done();
    oslo.sees("single", "vm", "up");
    let began = Instant::now();
    oslo.ctl(&["stop", "-p", "single", "-w", "60"]).done();
    assert!(began.elapsed() < Duration::from_secs(30), "stopped after {:?}", began.elapsed());
    oslo.ctl(&["start", "-p", "single"]).done();
    oslo.sees("single", "vm", "up");
    oslo.shell("single/vm", deaf).done();
    oslo.ctl(&["stop", "-p", "single", "-H"]).done();
    oslo.sees("single", "vm", "down");
    assert_eq!(oslo.guest_processes(), 0);
}
