//! A machine asks for itself: it moves, has more and fewer of a class, and is refused what its project doesn't allow. No
//! machine here has a network: what it says goes over its line.

use mln_e2e::{Answer, Host, Site, until};
use serde_json::Value;

use crate::LIMIT;

const HOSTS: [&str; 3] = ["oslo", "bergen", "gjovik"];

/// One that may go to and fro, and have more of another.
const SHOP: &str = "
global {
    project shop
    autoenum servers { superclass web; numhosts 1; hostprefix web }
    autoenum spares { superclass spare; numhosts 1; hostprefix spare }
}
superclass web { memory 64M; service_host bergen }
superclass spare { memory 48M; service_host gjovik }
host boss {
    memory 64M
    service_host oslo
    policy travel { grace 0s; may move oslo bergen }
    policy grow { grace 0s; may scale servers 1..2 }
    policy slow { grace 1h; may scale spares 0..2 }
}
host other { memory 48M; service_host gjovik }
";

/// Runs `mlnctl` inside the machine, as `exec` does for anybody.
#[track_caller]
fn inside(host: &Host, words: &[&str]) -> Answer {
    let all: Vec<&str> = ["exec", "shop/boss", "--", "mlnctl"].iter().chain(words).copied().collect();
    host.ctl(&all)
}

/// Returns what a machine is told of itself.
#[track_caller]
fn itself(host: &Host) -> Value {
    inside(host, &["me", "--json"]).ended(0).json()
}

/// Waits until the machine runs on a host, as that host says.
#[track_caller]
fn runs_on(host: &Host) {
    let at = host.name();
    until(&format!("the machine is up on {at}"), LIMIT * 3, || {
        let rows = host.ctl(&["status", "-p", "shop", "--json"]).json();
        let row = rows.as_array().into_iter().flatten().find(|row| row["name"] == "boss");
        match row {
            Some(row) if row["service_host"] == at && row["state"] == "up" => Ok(()),
            _ => Err(rows.to_string()),
        }
    });
}

/// Returns the names of the project's machines.
#[track_caller]
fn machines(host: &Host) -> Vec<String> {
    let rows = host.ctl(&["status", "-p", "shop", "--json"]).json();
    let names = rows.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// Waits until a host knows of these machines and no others.
#[track_caller]
fn sees_machines(host: &Host, names: &[&str]) {
    until(&format!("{} sees {names:?}", host.name()), LIMIT, || {
        let found = machines(host);
        if found == names { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Whether a host's log has a line with all of these words.
#[track_caller]
fn logs(host: &Host, words: &[&str]) {
    let log = std::fs::read_to_string(host.folder().join("mlnd.log")).expect("an agent writes one");
    let has = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has, "{} logs no {words:?}:\n{log}", host.name());
}

#[test]
fn a_machine_moves_and_scales_itself_as_its_project_allows_and_no_further() {
    let mut site = Site::mesh(&HOSTS);
    let file = site.project("shop", SHOP);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "shop", "-h", "boss"]).done();
    runs_on(site.host("oslo"));
    let wider = site.folder().join("wider.mln");

    // Who it is, and what it may; nothing else is asked of anybody for that.
    let oslo = site.host("oslo");
    let me = itself(oslo);
    assert_eq!(
        (&me["name"], &me["service_host"], &me["project"]),
        (&"boss".into(), &"oslo".into(), &"shop".into())
    );
    inside(oslo, &["me"]).ended(0).says("may move oslo bergen").says("may scale servers 1..2");
    assert!(oslo.shell("shop/boss", "ls /sys/class/net").done().trim() == "lo", "it has no interface");
    inside(oslo, &["status"]).ended(0).says("web1").says("gjovik");
    inside(oslo, &["log"]).ended(0).says("1 ").says("decided");
    inside(oslo, &["--help"]).ended(0).says("mlnctl me move --to HOST");
    inside(oslo, &["build", "-f", "x"]).ended(64);
    inside(oslo, &["--version"]).ended(0).says("mlnctl ");
    // Its program is no larger than 6 MB, and has no more than 8 MB of the machine's memory.
    let small = "test $(stat -c %s /run/mln/agent/mlnd) -le 6291456 && grep VmRSS /proc/$(pidof mlnd)/status && \
                 test $(awk '/^VmRSS/ { print $2 }' /proc/$(pidof mlnd)/status) -le 8192";
    oslo.shell("shop/boss", small).done();

    // Refused, with the rule and who can widen it; the reason is in the log of the agent that said no.
    inside(oslo, &["me", "move", "--to", "gjovik"])
        .ended(3)
        .says("rule envelope")
        .says("may move")
        .says("owner");
    logs(oslo, &["WARN", "boss", "envelope", "gjovik"]);
    inside(oslo, &["me", "scale", "servers", "9"]).ended(3).says("rule envelope").says("1..2");
    logs(oslo, &["WARN", "boss", "envelope", "1..2"]);
    inside(oslo, &["me", "set", "/host/other/memory", "96M"]).ended(3).says("rule envelope").says("other");
    logs(oslo, &["WARN", "boss", "envelope", "other"]);
    let text = SHOP.replace("may move oslo bergen", "may move oslo bergen gjovik");
    std::fs::write(&wider, &text).expect("the folder is ours");
    let from = wider.display().to_string();
    oslo.ctl(&["cp", &from, "shop/boss:/root/wider.mln"]).ended(0);
    inside(oslo, &["me", "upgrade", "-f", "/root/wider.mln"]).ended(3).says("rule envelope").says("policy");
    logs(oslo, &["WARN", "boss", "envelope", "policy"]);
    assert_eq!(machines(oslo), ["boss", "other", "spare1", "web1"], "nothing of it was done");
    // And among the events, with the machine that asked.
    let events = oslo.ctl(&["events", "-n", "1000", "-p", "shop", "--json"]).ended(0);
    let is_told = |line: &str| ["refusal", "boss", "envelope"].iter().all(|word| line.contains(word));
    assert!(events.out.lines().any(is_told), "{events}");

    // More at another host, which judges by itself.
    inside(oslo, &["me", "scale", "servers", "2", "--reason", "the shop is full"]).ended(0).says("done");
    sees_machines(site.host("gjovik"), &["boss", "other", "spare1", "web1", "web2"]);
    // What it has asked for is there to run.
    site.host("bergen").sees("shop", "web2", "up");

    // There and back, with what it has written.
    let oslo = site.host("oslo");
    oslo.shell("shop/boss", "echo kept >/root/note; sync").done();
    let there = ["me", "move", "--to", "bergen", "--reason", "the clients are there"];
    inside(oslo, &there).ended(0).says("the clients are there");
    let bergen = site.host("bergen");
    runs_on(bergen);
    assert_eq!(bergen.shell("shop/boss", "cat /root/note").done(), "kept\n");
    assert_eq!(itself(bergen)["service_host"], "bergen");

    // Fewer. One policy watches for an hour after what it has decided; the others don't mind.
    inside(bergen, &["me", "scale", "servers", "1"]).ended(0);
    sees_machines(site.host("gjovik"), &["boss", "other", "spare1", "web1"]);
    let bergen = site.host("bergen");
    inside(bergen, &["me", "scale", "spares", "2"]).ended(0);
    inside(bergen, &["me", "scale", "spares", "1"]).ended(3).says("rule envelope").says("grace");
    logs(bergen, &["WARN", "boss", "envelope", "grace"]);
    inside(bergen, &["me", "move", "--to", "oslo"]).ended(0);
    let oslo = site.host("oslo");
    runs_on(oslo);
    assert_eq!(oslo.shell("shop/boss", "cat /root/note").done(), "kept\n");

    // Its host looks at so many requests, and no more; what is over that is no line each in its log.
    let many: Vec<Answer> =
        (0..8).map(|_| inside(oslo, &["me", "move", "--to", "gjovik"]).ended(3)).collect();
    assert!(many.iter().any(|answer| answer.err.contains("rule guest-rate")), "{many:?}");
    logs(oslo, &["WARN", "guest-rate"]);

    // Where no agent is, it is told so, and says it on its console; the next agent says anew whose its key is.
    let waits =
        "while :; do mlnctl me; test $? = 4 && break; sleep 0.3; done; echo nobody listens >/dev/console";
    oslo.shell("shop/boss", &format!("setsid sh -c '{waits}' >/dev/null 2>&1 </dev/null &")).done();
    oslo.kill();
    let console = oslo.vm_folder("boss").join("console.log");
    until("it was told that nobody listens", LIMIT, || {
        let text = std::fs::read(&console).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&text);
        if text.contains("nobody listens") { Ok(()) } else { Err(text.into_owned()) }
    });
    oslo.run();
    oslo.is_connected_to(2);
    // Before it has asked others for the newest that its key has signed, it speaks for no guest.
    let refused = "mlnctl me move --to gjovik 2>&1 | grep -q 'rule envelope'";
    oslo.shell("shop/boss", &format!("until {refused}; do sleep 1; done")).done();

    // Everybody is told who decided, and why.
    for name in HOSTS {
        until(&format!("{name} has heard of it"), LIMIT, || {
            let log = site.host(name).ctl(&["log", "-p", "shop"]).ended(0).to_string();
            let events = site.host(name).ctl(&["events", "-n", "1000"]).ended(0).to_string();
            let told = |text: &str| {
                let reasons = ["the clients are there", "the shop is full"];
                reasons.iter().all(|reason| text.contains(reason)) && text.contains("boss")
            };
            if told(&log) && told(&events) { Ok(()) } else { Err(format!("{log}\n{events}")) }
        });
    }
}
