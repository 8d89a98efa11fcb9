//! Agents are replaced by newer ones under running guests, one host after the other.

use mln_e2e::{Site, until};

use crate::{LIMIT, PAIR};

fn version(site: &mut Site, host: &str) -> String {
    let answer = site.host(host).ctl(&["version", "--json"]).json();
    answer["agent"]["version"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Waits until a file in a guest holds this.
#[track_caller]
fn holds(site: &mut Site, vm: &str, file: &str, text: &str) {
    until(&format!("{file} in {vm} holds {text:?}"), LIMIT, || {
        let found = site.host("oslo").shell(vm, &format!("cat {file}"));
        if found.out == text { Ok(()) } else { Err(found.to_string()) }
    });
}

#[test]
fn agents_are_upgraded_under_guests_that_do_not_notice() {
    let mut site = Site::mesh_of(&["oslo", "bergen"], "mlnd-before");
    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "60"]).ended(0);
    let before = version(&mut site, "oslo");
    let boots = ["pair/left", "pair/right"].map(|vm| site.host("oslo").boot_id(vm));

    // A connection over the switch, that takes one line after the other. Whoever listens takes one connection and
    // no second. Each end reads from a pipe that it holds open itself, and so never comes to an end.
    let right = "mkfifo /root/hold;
        setsid sh -c 'exec 3<>/root/hold; nc -l -p 7000 <&3 >/root/got' >/dev/null 2>&1 </dev/null &";
    site.host("oslo").shell("pair/right", right).done();
    until("somebody listens", LIMIT, || {
        let found = site.host("oslo").shell("pair/right", "netstat -ltn | grep -q :7000");
        if found.code == Some(0) { Ok(()) } else { Err(found.to_string()) }
    });
    let left = "mkfifo /root/in;
        setsid sh -c 'exec 3<>/root/in; nc 10.9.0.2 7000 <&3' >/dev/null 2>&1 </dev/null &";
    site.host("oslo").shell("pair/left", left).done();
    site.host("oslo").shell("pair/left", "echo one >/root/in").done();
    holds(&mut site, "pair/right", "/root/got", "one\n");

    // Other files, under agents that run.
    site.install("mlnd", "mlnd");
    assert_eq!(version(&mut site, "oslo"), before, "an agent is what it was until it is started again");
    let mut lines = "one\n".to_owned();
    for (host, other, vm) in [("oslo", "bergen", "pair/left"), ("bergen", "oslo", "pair/right")] {
        site.host(host).stop();
        site.host(host).run();
        let after = version(&mut site, host);
        assert_ne!(after, before);
        // At once, through a holder and a guest's agent of the version before.
        site.host(host).shell(vm, "exit 4").ended(4);
        for (vm, boot) in ["pair/left", "pair/right"].into_iter().zip(&boots) {
            site.host(host).sees("pair", vm.trim_start_matches("pair/"), "up");
            until(&format!("{host} is answered by {vm}"), LIMIT, || {
                let found = site.host(host).shell(vm, "cat /proc/sys/kernel/random/boot_id");
                if found.out == *boot { Ok(()) } else { Err(found.to_string()) }
            });
        }
        // The other one, which may still be of the version before, sees the new one.
        until(&format!("{other} knows the new version"), LIMIT, || {
            let peers = site.host(other).ctl(&["peers", "--json"]).json();
            let shown = peers[0]["version"].as_str().unwrap_or_default().to_owned();
            if shown.ends_with(&after) { Ok(()) } else { Err(peers.to_string()) }
        });
        site.host(host).shell("pair/left", &format!("echo {host} > /root/in")).done();
        lines += &format!("{host}\n");
        holds(&mut site, "pair/right", "/root/got", &lines);
    }

    // What is started from now on is the new version's, and all of it works with what was.
    site.host("bergen").ctl(&["stop", "-p", "pair", "-h", "left", "-w", "20"]).done();
    site.host("bergen").ctl(&["start", "-p", "pair", "-h", "left"]).done();
    site.host("bergen").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "60"]).ended(0);
    site.host("bergen").shell("pair/left", "ping -c 1 -W 5 10.9.0.2").done();
}
