//! A mesh is cut in two for a long time, each side does what it may, and all comes together again by itself.

use std::time::Duration;

use mln_e2e::{Host, Site, until};
use serde_json::Value;

/// For how long hosts don't hear each other: ten times what it takes to be held for failed.
const CUT_MS: u64 = 10 * 15_000;

/// How long it may take until each side has noticed for how long it hasn't heard the other.
const PATIENCE: Duration = Duration::from_secs(240);

/// A VM on each host; nothing joins them, so that each host's part is its own matter.
fn project(hosts: &[&str], more: &[(&str, &str)]) -> String {
    let first = hosts.iter().map(|host| (*host, format!("on-{host}")));
    let more = more.iter().map(|(host, vm)| (*host, (*vm).to_owned()));
    let vms: Vec<String> = first
        .chain(more)
        .map(|(host, vm)| format!("host {vm} {{ service_host {host}; memory 48M }}\n"))
        .collect();
    format!("global {{ project split }}\n{}", vms.concat())
}

fn unplug(host: &Host) {
    host.ip(&["link", "set", "eth0", "down"]).done();
}

fn plug_in(host: &Host) {
    host.ip(&["link", "set", "eth0", "up"]).done();
}

/// Waits until a host sees so many others.
#[track_caller]
fn sees_others(host: &Host, count: usize) {
    until(&format!("{} sees {count} others", host.name()), PATIENCE, || {
        let peers = host.ctl(&["peers", "--json"]).json();
        let up = peers.as_array().into_iter().flatten().filter(|peer| peer["link"] == "up").count();
        if up == count { Ok(()) } else { Err(peers.to_string()) }
    });
}

/// Returns what a host knows of the project, without what tells when it was asked: ages, and gauges, whose times
/// count from then.
fn known(host: &Host) -> Value {
    let mut status = host.ctl(&["status", "-p", "split", "--json"]).json();
    for row in status.as_array_mut().into_iter().flatten() {
        let row = row.as_object_mut().expect("a VM is an object");
        row.remove("age_ms");
        row.remove("since_ms");
        row.remove("gauges");
    }
    let log = host.ctl(&["log", "-p", "split", "--json"]).json();
    serde_json::json!({ "status": status, "log": log })
}

fn states(known: &Value) -> Vec<String> {
    let rows = known["status"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let mut states: Vec<String> = rows
        .iter()
        .map(|row| {
            let stranded = if row["stranded"] == true { " stranded" } else { "" };
            format!("{} {}{stranded}", text(row, "name"), text(row, "state"))
        })
        .collect();
    states.sort();
    states
}

fn standings(known: &Value) -> Vec<String> {
    let rows = known["log"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| format!("{} {}", text(row, "reason"), text(row, "standing"))).collect()
}

#[track_caller]
fn all_know(site: &mut Site, hosts: &[&str], vms: &[&str], revisions: &[&str]) {
    until("all know the same, and what is so is what should be", PATIENCE, || {
        let all: Vec<Value> = hosts.iter().map(|name| known(site.host(name))).collect();
        let same = all.iter().all(|one| *one == all[0]);
        let is_so = states(&all[0]) == vms && standings(&all[0]) == revisions;
        if same && is_so { Ok(()) } else { Err(format!("{all:#?}")) }
    });
}

#[test]
fn two_sides_that_were_apart_for_long_come_together_without_anybody() {
    // Of two hosts the first in the project's list decides alone.
    let mut site = Site::mesh(&["oslo", "bergen"]);
    if !site.host("oslo").has_own_network() {
        return;
    }
    let hosts = ["bergen", "oslo"];
    let file = site.project("split", &project(&hosts, &[]));
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "split"]).done();
    site.host("bergen").ctl(&["status", "-p", "split", "--wait", "up", "--timeout", "90"]).ended(0);
    let boot = site.host("bergen").boot_id("split/on-bergen");

    unplug(site.host("oslo"));
    for name in hosts {
        sees_others(site.host(name), 0);
    }
    // Here with a majority; there without one.
    let more = site.project("more", &project(&hosts, &[("bergen", "more")]));
    let extra = site.project("extra", &project(&hosts, &[("oslo", "extra")]));
    let told = site.host("bergen").ctl(&["upgrade", "-f", &more, "--yes", "--reason", "more"]).ended(0);
    told.says("split at revision 2");
    site.host("oslo")
        .ctl(&["upgrade", "-f", &extra, "--yes"])
        .ended(3)
        .says("rule majority")
        .says("--partial");
    let partial = ["upgrade", "-f", &extra, "--yes", "--partial", "--reason", "extra"];
    site.host("oslo").ctl(&partial).ended(0).says("partial");
    site.host("oslo").ctl(&["status", "-p", "split"]).says("is partial");
    site.host("oslo").ctl(&["stop", "-p", "split", "-h", "on-oslo", "-w", "20"]).done();
    site.host("oslo").sees("split", "on-oslo", "down");
    site.host("bergen").ctl(&["start", "-p", "split", "-h", "more"]).done();

    // Both are started again before they hear each other.
    for name in hosts {
        site.host(name).stop();
        site.host(name).run();
    }
    until("they have not heard each other for long", PATIENCE, || {
        let unheard = |host: &Host, vm: &str| {
            let rows = host.ctl(&["status", "-p", "split", "--json"]).json();
            let rows = rows.as_array().cloned().unwrap_or_default();
            let row = rows.iter().find(|row| row["name"] == vm).cloned().unwrap_or_default();
            row["age_ms"].as_u64().unwrap_or_default()
        };
        let ages = [unheard(site.host("oslo"), "on-bergen"), unheard(site.host("bergen"), "on-oslo")];
        if ages.iter().all(|age| *age >= CUT_MS) { Ok(()) } else { Err(format!("{ages:?} ms")) }
    });

    plug_in(site.host("oslo"));
    let vms = ["extra down stranded", "more up", "on-bergen up", "on-oslo down"];
    all_know(&mut site, &hosts, &vms, &["build decided", "more decided", "extra beaten"]);
    assert_eq!(site.host("oslo").boot_id("split/on-bergen"), boot, "it ran through all of it");
    for name in hosts {
        site.host(name).ctl(&["status", "-p", "split"]).says("only a revision that was beaten has extra");
    }
    // And it goes on.
    site.host("oslo").ctl(&["plan", "-f", &more]).ended(0).says("no changes");
    site.host("oslo").ctl(&["start", "-p", "split", "-h", "on-oslo"]).done();
    site.host("bergen").sees("split", "on-oslo", "up");
}

#[test]
fn partial_changes_that_contradict_each_other_are_listed_until_somebody_chooses() {
    let hosts = ["bergen", "gjovik", "oslo"];
    let mut site = Site::mesh(&hosts);
    if !site.host("oslo").has_own_network() {
        return;
    }
    let file = site.project("split", &project(&hosts, &[]));
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    for name in ["gjovik", "oslo"] {
        unplug(site.host(name));
    }
    for name in hosts {
        sees_others(site.host(name), 0);
    }
    for name in ["gjovik", "oslo"] {
        let vm = format!("alone-{name}");
        let file = site.project(&vm, &project(&hosts, &[(name, &vm)]));
        let partial = ["upgrade", "-f", &file, "--yes", "--partial", "--reason", name];
        site.host(name).ctl(&partial).ended(0).says("partial");
    }
    for name in ["gjovik", "oslo"] {
        plug_in(site.host(name));
    }
    for name in hosts {
        until(&format!("{name} lists both"), PATIENCE, || {
            let answer = site.host(name).ctl(&["status", "-p", "split"]);
            if answer.to_string().contains("contradict each other") {
                Ok(())
            } else {
                Err(answer.to_string())
            }
        });
        sees_others(site.host(name), 2);
    }
    let more = site.project("more", &project(&hosts, &[("bergen", "more")]));
    site.host("bergen")
        .ctl(&["upgrade", "-f", &more, "--yes"])
        .ended(3)
        .says("rule contested")
        .says("resolve");
    let log = site.host("bergen").ctl(&["log", "-p", "split", "--json"]).json();
    let rows = log.as_array().cloned().unwrap_or_default();
    let chosen = rows.iter().find(|row| row["reason"] == "gjovik" && row["standing"] == "contested");
    let chosen = chosen.and_then(|row| row["digest"].as_str()).unwrap_or_else(|| panic!("{log}")).to_owned();
    let told = site.host("bergen").ctl(&["resolve", "-p", "split", &chosen[..12], "--yes"]).ended(0);
    told.says("split at revision 2");
    let vms =
        ["alone-gjovik down", "alone-oslo down stranded", "on-bergen down", "on-gjovik down", "on-oslo down"];
    let revisions = ["build decided", "resolve decided", "gjovik beaten", "oslo beaten"];
    all_know(&mut site, &hosts, &vms, &revisions);
}
