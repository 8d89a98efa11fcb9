//! Nothing is root's: agents, holders, guests and what is typed are all an ordinary user's.

use mln_e2e::Site;

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
