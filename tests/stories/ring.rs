//! The ring: three routers on three hosts, over three switches.

use std::time::{Duration, Instant};

use mln_e2e::{Site, until};

use crate::LIMIT;

/// Whoever asks, where from, and whom.
const PINGS: [(&str, &str, &str); 6] = [
    ("bergen", "router1", "10.10.1.3"),
    ("bergen", "router3", "10.10.1.1"),
    ("gjovik", "router2", "10.10.2.1"),
    ("gjovik", "router1", "10.10.2.2"),
    ("oslo", "router3", "10.10.3.2"),
    ("oslo", "router2", "10.10.3.3"),
];

#[test]
fn three_routers_on_three_hosts_reach_each_other_over_every_switch() {
    let names = ["oslo", "bergen", "gjovik"];
    let mut site = Site::mesh(&names);
    let file = Site::repository("examples/ring/ring.mln");
    // Not one of the VMs' hosts has a say that the others don't have.
    site.host("gjovik").ctl(&["build", "-f", &file]).done();
    // Whoever waits for what nobody starts is told so at once, and who it was in the end.
    let told =
        site.host("gjovik").ctl(&["status", "-p", "ring", "--wait", "up", "--timeout", "0.2"]).ended(1);
    assert_eq!(told.out.lines().count(), 3, "{told}");
    let told = told.says("waiting for ring/router1 (down), ring/router2 (down), ring/router3 (down)");
    let told = told.says("and nobody starts them, as far as gjovik knows; next: mlnctl start -p ");
    told.says("not all are up after 0.2 s: router1 on oslo is down; router2 on bergen is down; router3 on gjovik is down");
    site.host("bergen").ctl(&["start", "-p", "ring"]).done();
    let status = site.host("oslo").ctl(&["status", "-p", "ring", "--wait", "up", "--timeout", "60"]).ended(0);
    let changed = Instant::now();
    assert_eq!(status.out.lines().count(), 3, "{status}");
    let again = site.host("oslo").ctl(&["start", "-p", "ring", "-h", "router3"]).ended(0);
    again.says("already up");

    // All agents tell the same at the latest 5 s after the last change.
    until("the tables agree", Duration::from_secs(5).saturating_sub(changed.elapsed()), || {
        let tables = names.map(|name| site.host(name).daemon_status());
        let agree = tables.iter().all(|table| *table == tables[0]) && tables[0]["total"]["vms"] == 3;
        if agree { Ok(()) } else { Err(format!("{tables:?}")) }
    });
    let table = site.host("oslo").daemon_status();
    let hosts = table["service_hosts"].as_array().expect("an array");
    assert_eq!(hosts.len(), 3, "{table}");
    for host in hosts {
        assert_eq!(
            (&host["vms"], &host["projects"], &host["memory_used_mib"]),
            (&1.into(), &1.into(), &64.into()),
            "{host}"
        );
    }

    for (asked, from, to) in PINGS {
        site.host(asked)
            .ctl(&["exec", &format!("ring/{from}"), "--", "ping", "-c", "1", "-W", "5", to])
            .done();
    }

    site.host("bergen").ctl(&["stop", "-a", "-w", "20"]).done();
    let down =
        site.host("gjovik").ctl(&["status", "-p", "ring", "--wait", "down", "--timeout", "60"]).ended(0);
    assert_eq!(down.out.matches(" down ").count(), 3, "{down}");
    site.host("oslo").ctl(&["remove", "-p", "ring"]).done();
    for name in names {
        until(&format!("nothing is left on {name}"), LIMIT, || {
            let (left, known) =
                (site.host(name).traces_of_vms(), site.host(name).ctl(&["list", "--json"]).json());
            if left.is_empty() && known == serde_json::json!([]) {
                Ok(())
            } else {
                Err(format!("{left:?} {known}"))
            }
        });
    }
}

#[test]
fn without_a_line_about_addresses_neighbours_reach_each_other_by_link_local_ones() {
    let mut site = Site::mesh(&["oslo"]);
    let file = Site::repository("examples/ring-bare/ring.mln");
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "ring-bare"]).done();
    site.host("oslo").ctl(&["status", "-p", "ring-bare", "--wait", "up", "--timeout", "90"]).ended(0);
    for (from, interface, to, its) in [
        ("router1", "eth0", "router3", "eth1"),
        ("router2", "eth1", "router3", "eth0"),
        ("router2", "eth0", "router1", "eth1"),
    ] {
        let address = format!("ip -6 -o addr show dev {its} scope link");
        let shown = site.host("oslo").shell(&format!("ring-bare/{to}"), &address).done();
        let address = shown.split_whitespace().find(|word| word.starts_with("fe80:")).expect("it has one");
        let address = address.split('/').next().expect("it has a length");
        // An address counts only after nobody else has claimed it, which takes a second or two.
        until(&format!("{from} reaches {to}"), LIMIT, || {
            let ping = format!("ping -6 -c 1 -W 2 {address}%{interface}");
            let answer = site.host("oslo").shell(&format!("ring-bare/{from}"), &ping);
            if answer.code == Some(0) { Ok(()) } else { Err(answer.to_string()) }
        });
    }
}
