//! What interfaces do to frames, hubs, and the ways from switches to the network of their host.

use std::time::{Duration, Instant};

use mln_e2e::{Host, Site, until};

use crate::LIMIT;

/// Two guests that meet on four switches, each with its own fault, and one that only listens.
const FAULTY: &str = "
global { project faulty }
switch late { }
switch gone { }
switch slow { }
switch air { hub }
superclass end {
    memory 96M
    startup { setsid nc -ll -p 7000 -e wc -c >/dev/null 2>&1 </dev/null & }
}
host left {
    superclass end
    network eth0 { switch late; address 10.41.0.1/24; delay 100ms }
    network eth1 { switch gone; address 10.42.0.1/24; loss 100% }
    network eth2 { switch slow; address 10.43.0.1/24; rate 1Mbit }
    network eth3 { switch air; address 10.44.0.1/24 }
}
host right {
    superclass end
    network eth0 { switch late; address 10.41.0.2/24 }
    network eth1 { switch gone; address 10.42.0.2/24 }
    network eth2 { switch slow; address 10.43.0.2/24 }
    network eth3 { switch air; address 10.44.0.2/24 }
}
host ear {
    superclass end
    network eth0 { switch slow; address 10.43.0.3/24 }
    network eth1 { switch air; address 10.44.0.3/24 }
}
";

/// Returns the shortest round trip of some pings, in milliseconds.
#[track_caller]
fn shortest_ms(host: &Host, vm: &str, to: &str) -> f64 {
    let told = host.shell(vm, &format!("ping -c 5 -W 20 {to}")).done();
    // round-trip min/avg/max = 0.5/0.7/0.9 ms
    let shortest = told.split(" = ").nth(1).and_then(|rest| rest.split('/').next());
    shortest.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no times in {told:?}"))
}

/// Sends a quarter of a megabyte from the left guest to the right one; how long that takes.
#[track_caller]
fn transfer(host: &Host, to: &str) -> Duration {
    let line = format!("dd if=/dev/zero bs=1000 count=250 2>/dev/null | nc -w 90 {to} 7000");
    let start = Instant::now();
    assert_eq!(host.shell("faulty/left", &line).done().trim(), "250000");
    start.elapsed()
}

/// Returns how many frames have come to an interface.
#[track_caller]
fn frames_to(host: &Host, vm: &str, interface: &str) -> u64 {
    let told = host.shell(vm, &format!("cat /sys/class/net/{interface}/statistics/rx_packets")).done();
    told.trim().parse().unwrap_or_else(|_| panic!("{told:?} is no number"))
}

#[test]
fn interfaces_delay_lose_and_pace_what_leaves_them_and_a_hub_lets_everybody_listen() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("faulty", FAULTY);
    let host = site.host("oslo");
    host.ctl(&["build", "-f", &file]).done();
    host.ctl(&["start", "-p", "faulty"]).done();
    for vm in ["left", "right", "ear"] {
        host.sees("faulty", vm, "up");
    }

    // Once on the way, whoever asks, and not on the way back.
    for (from, to) in [("faulty/left", "10.41.0.2"), ("faulty/right", "10.41.0.1")] {
        let shortest = shortest_ms(host, from, to);
        assert!((100.0..190.0).contains(&shortest), "{from}: {shortest} ms");
    }
    host.shell("faulty/left", "ping -c 2 -W 2 10.42.0.2").ended(1).says("100% packet loss");

    // Two megabits and the headers, at one megabit a second. The listener has only heard what is for everybody.
    let before = frames_to(host, "faulty/ear", "eth0");
    let took = transfer(host, "10.43.0.2");
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    let heard = frames_to(host, "faulty/ear", "eth0") - before;
    assert!(heard < 50, "{heard} frames");

    // On the hub it hears the same transfer whole: more than 170 full frames.
    let before = frames_to(host, "faulty/ear", "eth1");
    transfer(host, "10.44.0.2");
    let heard = frames_to(host, "faulty/ear", "eth1") - before;
    assert!(heard > 170, "{heard} frames");

    host.ctl(&["remove", "-p", "faulty", "--force"]).done();
}

/// Switches on a bridge of oslo: one over two hosts, and two that meet there as one VLAN.
const BRIDGED: &str = "
global { project outward }
switch lan { bridge br9; service_host oslo }
switch five { bridge br9; vlan 5 }
switch also-five { bridge br9; vlan 5 }
superclass end { memory 64M }
host near {
    superclass end
    service_host oslo
    network eth0 { switch lan; address 10.50.0.2/24 }
    network eth1 { switch five; address 10.55.0.2/24 }
    network eth2 { tun_iface tap9; tun_address 10.51.0.1/30; address 10.51.0.2/30 }
}
host other {
    superclass end
    service_host oslo
    network eth0 { switch also-five; address 10.55.0.3/24 }
}
host far {
    superclass end
    service_host bergen
    network eth0 { switch lan; address 10.50.0.3/24 }
}
";

#[test]
fn a_switch_is_joined_to_a_bridge_on_one_host_and_leaves_no_tap() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("outward", BRIDGED);
    site.host("bergen").ctl(&["build", "-f", &file]).ended(3);
    // Ports are for one agent only: a bridge would be the machine's.
    if site.host("oslo").address().is_none() {
        return;
    }
    let oslo = site.host("oslo");
    oslo.ip(&["tuntap", "add", "dev", "tap9", "mode", "tap"]).done();
    oslo.ctl(&["build", "-f", &file]).ended(3).says("switch").says("br9");
    oslo.ip(&["link", "add", "br9", "type", "bridge"]).done();
    for address in ["10.50.0.1/24", "10.55.0.1/24"] {
        oslo.ip(&["address", "add", address, "dev", "br9"]).done();
    }
    oslo.ip(&["link", "set", "br9", "up"]).done();
    oslo.ctl(&["build", "-f", &file]).done();
    oslo.ctl(&["start", "-p", "outward"]).done();
    for vm in ["near", "other", "far"] {
        oslo.sees("outward", vm, "up");
    }

    let reaches = |host: &Host, vm: &str, to: &str| {
        until(&format!("{vm} reaches {to}"), LIMIT, || {
            let told = host.shell(&format!("outward/{vm}"), &format!("ping -c 1 -W 5 {to}"));
            if told.to_string().contains(" 0% packet loss") { Ok(()) } else { Err(told.to_string()) }
        });
    };
    let taps = |host: &Host| host.ip(&["-o", "-d", "link", "show", "type", "tun"]).done();
    reaches(oslo, "near", "10.50.0.1");
    // Over the trunk, and out by the other host: there is one way out, else there would be a loop.
    reaches(oslo, "far", "10.50.0.1");
    reaches(oslo, "far", "10.50.0.2");
    // Two switches with one tag meet on the bridge, whose own frames have none.
    reaches(oslo, "near", "10.55.0.3");
    oslo.shell("outward/other", "ping -c 1 -W 2 10.55.0.1").ended(1);
    reaches(oslo, "near", "10.51.0.1");
    assert_eq!(taps(oslo).lines().count(), 4, "{}", taps(oslo));
    assert_eq!(taps(site.host("bergen")), "");

    // What the agent has made goes with it, however it ends, and comes with the next one.
    let oslo = site.host("oslo");
    oslo.kill();
    until("the taps are gone", LIMIT, || match taps(oslo) {
        some if some.lines().count() > 1 => Err(some),
        _ => Ok(()),
    });
    oslo.run();
    oslo.sees("outward", "near", "up");
    reaches(oslo, "near", "10.50.0.1");
    reaches(oslo, "far", "10.50.0.1");

    // A bridge that is made anew gets its port again.
    oslo.ip(&["link", "delete", "br9"]).done();
    oslo.ip(&["link", "add", "br9", "type", "bridge"]).done();
    oslo.ip(&["address", "add", "10.50.0.1/24", "dev", "br9"]).done();
    oslo.ip(&["link", "set", "br9", "up"]).done();
    reaches(oslo, "near", "10.50.0.1");

    oslo.ctl(&["stop", "-p", "outward", "-w", "20"]).done();
    oslo.ctl(&["status", "-p", "outward", "--wait", "down", "--timeout", "60"]).ended(0);
    until("only what was there before is left", LIMIT, || {
        let addresses = oslo.ip(&["-o", "address", "show", "dev", "tap9"]).done();
        let there = taps(oslo);
        let clean = there.lines().count() == 1 && !addresses.contains("10.51.0.1");
        if clean { Ok(()) } else { Err(format!("{there}{addresses}")) }
    });
    oslo.ctl(&["remove", "-p", "outward"]).done();
}
