//! Agents and machines end without notice; guests don't suffer from the first and come back after the second.

use mln_e2e::{Site, until};

use crate::{LIMIT, PAIR};

fn pair_is_up() -> Site {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "60"]).ended(0);
    site
}

#[test]
fn a_guest_does_not_notice_that_its_agent_was_killed() {
    let mut site = pair_is_up();
    let boot = site.host("bergen").boot_id("pair/left");
    let uptime = |site: &mut Site| -> f64 {
        let text = site.host("bergen").shell("pair/left", "cut -d' ' -f1 /proc/uptime").done();
        text.trim().parse().expect("a number of seconds")
    };
    let before = uptime(&mut site);
    site.host("bergen").shell("pair/right", "ping -c 1 -W 5 10.9.0.1").done();

    site.host("oslo").kill();
    assert_eq!(site.host("oslo").guest_processes().min(1), 1, "the guest ended with the agent");
    site.host("oslo").run();
    site.host("oslo").sees("pair", "left", "up");
    site.host("bergen").sees("pair", "left", "up");
    site.host("oslo").is_connected_to(1);
    site.host("bergen").is_connected_to(1);

    // The same guest, and nobody has touched it.
    assert_eq!(site.host("bergen").boot_id("pair/left"), boot);
    let after = uptime(&mut site);
    assert!(after > before, "up for {after} s, and {before} s before");
    site.host("oslo").shell("pair/left", "exit 4").ended(4);
    let reaches = |site: &mut Site, vm: &str, address: &str| {
        until(&format!("{vm} reaches {address}"), LIMIT, || {
            let answer = site.host("bergen").shell(vm, &format!("ping -c 1 -W 1 {address}"));
            if answer.code == Some(0) { Ok(()) } else { Err(answer.to_string()) }
        });
    };
    reaches(&mut site, "pair/left", "10.9.0.2");
    reaches(&mut site, "pair/right", "10.9.0.1");

    // It ends under the new agent: how, is told by every agent.
    site.host("oslo").shell("pair/left", "echo 7 >/proc/exitcode; poweroff -f");
    for name in ["oslo", "bergen"] {
        let row = site.host(name).sees("pair", "left", "down");
        assert_eq!(row["exit_status"], 7, "{row}");
    }
}

#[test]
fn how_a_guest_ended_while_its_agent_was_off_is_told_later() {
    let mut site = pair_is_up();
    let ends_later =
        "setsid sh -c 'sleep 3; echo 5 >/proc/exitcode; poweroff -f' >/dev/null 2>&1 </dev/null &";
    site.host("oslo").shell("pair/left", ends_later).done();
    site.host("oslo").kill();
    assert_eq!(site.host("oslo").guest_processes().min(1), 1, "the guest ended before the agent was off");
    until("the guest has ended", LIMIT, || match site.host("oslo").guest_processes() {
        0 => Ok(()),
        count => Err(format!("{count} processes")),
    });
    site.host("oslo").run();
    for name in ["oslo", "bergen"] {
        let row = site.host(name).sees("pair", "left", "down");
        assert_eq!(row["exit_status"], 5, "{row}");
    }
}

#[test]
fn after_a_power_cut_those_run_again_that_should() {
    let mut site = pair_is_up();
    let boot = site.host("oslo").boot_id("pair/left");
    site.host("oslo").shell("pair/left", "echo kept >/root/note; sync").done();
    site.host("bergen").ctl(&["stop", "-p", "pair", "-h", "right", "-w", "20"]).done();
    for name in ["oslo", "bergen"] {
        site.host(name).cut_power();
    }
    for name in ["oslo", "bergen"] {
        site.host(name).run();
    }
    // What bergen knows of it may be from before.
    site.host("oslo").sees("pair", "left", "up");
    assert_ne!(site.host("bergen").boot_id("pair/left"), boot);
    assert_eq!(site.host("bergen").shell("pair/left", "cat /root/note").done(), "kept\n");
    site.host("bergen").sees("pair", "left", "up");
    site.host("oslo").sees("pair", "right", "down");
    assert_eq!(site.host("bergen").guest_processes(), 0);
}

#[test]
fn an_agent_that_is_told_to_end_leaves_its_guests_alone() {
    let mut site = pair_is_up();
    let boot = site.host("oslo").boot_id("pair/left");
    site.host("oslo").stop();
    site.host("oslo").run();
    site.host("oslo").sees("pair", "left", "up");
    assert_eq!(site.host("oslo").boot_id("pair/left"), boot);
}
