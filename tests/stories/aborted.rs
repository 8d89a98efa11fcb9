//! An agent ends at each step of a hand-over, on either side: after its restart the VM runs exactly once, at its new host,
//! with all that it had written.

use mln_e2e::{Host, Site, until};

use crate::LIMIT;

/// The steps of a hand-over at which the new host's agent can end itself; the same names as in the agent's
/// `store/failpoint.rs`.
const AT_NEW_HOST: [&str; 7] =
    ["pull-begun", "pull-round", "pull-last", "copy-read", "ready", "claimed", "copy-taken"];

/// Those of the host that has the VM.
const AT_OLD_HOST: [&str; 4] = ["sealed", "halted", "released", "shelved"];

/// Which of two hosts' agents ends.
#[derive(Clone, Copy, Debug)]
enum Side {
    Old,
    New,
}

/// One VM, on a host that is named.
fn project(host: &str) -> String {
    format!("global {{ project roam }}\nhost vm {{\n    memory 40M\n    service_host {host}\n}}\n")
}

fn state(host: &Host) -> String {
    let rows = host.ctl(&["status", "-p", "roam", "--json"]).json();
    let row = rows.as_array().into_iter().flatten().next().cloned().unwrap_or_default();
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    format!("{} {}", text("service_host"), text("state"))
}

/// Moves the VM to and fro; at each step one agent ends.
fn moves(side: Side, steps: &[&str]) {
    let mut site = Site::mesh_of(&["oslo", "bergen"], "mlnd-failpoints");
    let files = ["oslo", "bergen"].map(|host| site.project(&format!("at-{host}"), &project(host)));
    site.host("oslo").ctl(&["build", "-f", &files[0]]).done();
    site.host("oslo").ctl(&["start", "-p", "roam"]).done();
    site.host("oslo").sees("roam", "vm", "up");
    let mut expect = String::new();
    for (round, step) in steps.iter().enumerate() {
        let (from, to) = if round % 2 == 0 { ("oslo", "bergen") } else { ("bergen", "oslo") };
        let (ends, stays) = match side {
            Side::Old => (from, to),
            Side::New => (to, from),
        };
        expect += &format!("{step}\n");
        let note =
            format!("echo {step} >>/root/steps; dd if=/dev/urandom of=/root/noise bs=64k count=8; sync");
        site.host(from).shell("roam/vm", &note).done();
        let noise = site.host(from).shell("roam/vm", "md5sum </root/noise").done();

        let host = site.host(ends);
        host.kill();
        host.abort_at(Some((step, 1)));
        host.run();
        host.is_connected_to(1);
        site.host(stays).is_connected_to(1);
        let file = if to == "bergen" { &files[1] } else { &files[0] };
        let mut asked = site.host(stays).ctl_begin(&["upgrade", "-f", file, "--yes"]);
        until(&format!("the agent of {ends} ends at {step}"), LIMIT, || {
            if site.host(ends).is_running() { Err(state(site.host(stays))) } else { Ok(()) }
        });
        let host = site.host(ends);
        host.reap();
        host.abort_at(None);
        host.run();
        until(&format!("the VM is up on {to} after {step}"), LIMIT * 3, || {
            let running = ["oslo", "bergen"].map(|name| site.host(name).guest_processes());
            assert!(
                running.iter().filter(|count| **count > 0).count() <= 1,
                "{step}: it runs twice: {running:?}"
            );
            let seen = ["oslo", "bergen"].map(|name| state(site.host(name)));
            let is_there = seen.iter().all(|seen| *seen == format!("{to} up"));
            if is_there { Ok(()) } else { Err(format!("{seen:?}, {running:?}")) }
        });
        // Whoever asked was told, or its agent is another one by now.
        let _ = asked.kill();
        let _ = asked.wait();
        let kept = site.host(to).shell("roam/vm", "cat /root/steps; md5sum </root/noise").done();
        assert_eq!(kept, format!("{expect}{noise}"), "{side:?} {step}");
    }
}

#[test]
fn a_vm_moves_although_the_agent_of_its_new_host_ends_at_any_step() {
    moves(Side::New, &AT_NEW_HOST);
}

#[test]
fn a_vm_moves_although_the_agent_of_its_old_host_ends_at_any_step() {
    moves(Side::Old, &AT_OLD_HOST);
}
