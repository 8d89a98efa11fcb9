//! Nothing is root's: agents, holders, guests and what is typed are all an ordinary user's.

use std::net::{Ipv4Addr, TcpListener};

use mln_e2e::{Site, Typist, until};

use crate::LIMIT;
use crate::world::http_get;

/// What an agent is told.
const CONFIGURATION: &str = "memory_mib = 512\n";

#[test]
fn the_ring_is_built_and_runs_without_root_anywhere() {
    let names = ["oslo", "bergen", "gjovik"];
    let mut site = Site::unprivileged();
    site.connect(&names, CONFIGURATION);
    let ring = std::fs::read_to_string(Site::repository("examples/ring/ring.mln")).expect("it is committed");
    // Where the user may read it.
    let file = site.project("ring", &ring);
    site.host("gjovik").ctl(&["build", "-f", &file]).done();
    site.host("bergen").ctl(&["start", "-p", "ring"]).done();
    site.host("oslo").ctl(&["status", "-p", "ring", "--wait", "up", "--timeout", "60"]).ended(0);
    let pings = [("router1", "10.10.1.3"), ("router2", "10.10.2.1"), ("router3", "10.10.3.2")];
    for (from, to) in pings {
        let vm = format!("ring/{from}");
        site.host("gjovik").ctl(&["exec", &vm, "--", "ping", "-c", "1", "-W", "5", to]).done();
    }

    // An agent, a holder, and what a guest is made of, on each of three hosts.
    assert!(site.processes() >= 9, "{} processes", site.processes());
    let of_root = site.of_root();
    assert!(of_root.is_empty(), "run by root:\n{}", of_root.join("\n"));

    let doctor = site.host("oslo").ctl(&["doctor", "--json"]).json();
    let failing: Vec<_> =
        doctor.as_array().into_iter().flatten().filter(|row| row["verdict"] == "fail").collect();
    assert!(failing.is_empty(), "{failing:?}");
    site.host("oslo").ctl(&["stop", "-p", "ring", "-w", "20"]).done();
}

#[test]
fn an_ordinary_users_guest_has_a_console_and_a_way_out_and_in() {
    let mut site = Site::unprivileged();
    site.connect(&["oslo"], CONFIGURATION);
    let port = TcpListener::bind("0.0.0.0:0").and_then(|listener| listener.local_addr());
    let port = port.expect("a machine has a free port").port();
    let text = format!(
        "global {{ project door }}
        host vm {{
            network eth0 {{ forward {port}:80 }}
            startup {{ mkdir -p /srv; echo 'no root here' >/srv/index.html; httpd -p 80 -h /srv }}
        }}\n"
    );
    let file = site.project("door", &text);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "door"]).done();
    let row = site.host("oslo").sees("door", "vm", "up");

    let mut typist = Typist::new(site.host("oslo"), &["console", "door/vm"], 24, 80);
    typist.sees("vm:~# ");
    typist.types("id -u; echo fine''ly\r");
    typist.sees("finely\r\n");
    typist.types("\x1d");
    typist.ended(0);

    // The network is the machine's: where that has no way out, its guests have none.
    if row["nat"] == "none" {
        assert_eq!(row["nat_reason"], "the host has no default route", "{row}");
        return;
    }
    until("the web server answers", LIMIT, || {
        let page = http_get((Ipv4Addr::LOCALHOST, port).into())?;
        if page.ends_with("no root here\n") { Ok(()) } else { Err(page) }
    });
    assert!(site.of_root().is_empty(), "{:?}", site.of_root());
    site.host("oslo").ctl(&["stop", "-p", "door", "-H"]).done();
}

#[test]
fn an_ordinary_user_makes_a_template() {
    let mut site = Site::unprivileged();
    // The mirror of Debian is not in the hosts' own networks.
    site.settle_outside("maker");
    site.host("maker").ctl(&["template", "build", "mini"]).done();
    let templates = site.host("maker").ctl(&["template", "list", "--json"]).json();
    assert_eq!(templates[0]["name"], "mini", "{templates}");
    let file = site.project("single", crate::SINGLE);
    site.host("maker").ctl(&["build", "-f", &file]).done();
    site.host("maker").ctl(&["start", "-p", "single"]).done();
    site.host("maker").ctl(&["status", "-p", "single", "--wait", "up", "--timeout", "60"]).ended(0);
    // Its files have the owners that they have in Debian, though nobody here was root.
    assert_eq!(site.host("maker").shell("single/vm", "stat -c %U:%G /etc/shadow").done(), "root:shadow\n");
    assert!(site.of_root().is_empty(), "{:?}", site.of_root());
}
