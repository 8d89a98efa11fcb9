//! A machine asks for something, and the agent of its host dies in the middle of that: when all hosts have judged it and nobody
//! has promised it, and when it is decided and the machine isn't told. It is made or it isn't, everywhere; the machine can
//! find out, runs once, and has what it wrote.

use mln_e2e::{Answer, Host, Site, until};

use crate::LIMIT;

const HOSTS: [&str; 2] = ["oslo", "bergen"];

const SHOP: &str = "
global {
    project shop
    autoenum servers { superclass web; numhosts 1; hostprefix web }
}
superclass web { memory 48M; service_host bergen }
host boss {
    memory 64M
    service_host oslo
    policy travel { grace 0s; may move oslo bergen }
    policy grow { grace 0s; may scale servers 1..2 }
}
";

fn inside(host: &Host, words: &[&str]) -> Answer {
    let all: Vec<&str> = ["exec", "shop/boss", "--", "mlnctl"].iter().chain(words).copied().collect();
    host.ctl(&all)
}

/// Returns what a host knows of the project's machines: name, place and state of each.
fn machines(host: &Host) -> Vec<String> {
    let rows = host.ctl(&["status", "-p", "shop", "--json"]).json();
    let row = |row: &serde_json::Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("name"), text("service_host"), text("state"))
    };
    let mut found: Vec<String> = rows.as_array().into_iter().flatten().map(row).collect();
    found.sort();
    found
}

/// Returns how many revisions a host knows, all of them decided.
#[track_caller]
fn revisions(host: &Host) -> usize {
    let rows = host.ctl(&["log", "-p", "shop", "--json"]).json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    assert!(rows.iter().all(|row| row["standing"] == "decided"), "{}: {rows:?}", host.name());
    rows.len()
}

/// Lets the agent of a host end at a place while the machine there asks for something; returns how many revisions there were
/// before and are after its restart.
fn is_cut(site: &mut Site, at: &str, place: &str, words: &str) -> (usize, usize) {
    let other = HOSTS.into_iter().find(|name| *name != at).expect("there are two");
    let before = revisions(site.host(other));
    let host = site.host(at);
    host.kill();
    host.abort_at(Some((place, 1)));
    host.run();
    host.is_connected_to(1);
    site.host(other).is_connected_to(1);
    // An agent that has just started speaks for no guest yet, and what it is asked then is lost; a plan tells when it does.
    let asks = format!(
        "until timeout 4 mlnctl plan {words} >/dev/null 2>&1; test $? = 2; do sleep 1; done; mlnctl me {words} >/root/answer 2>&1"
    );
    let begins = format!("rm -f /root/answer; setsid sh -c '{asks}' >/dev/null 2>&1 </dev/null &");
    site.host(at).shell("shop/boss", &begins).done();
    until(&format!("the agent of {at} ends at {place}"), LIMIT * 2, || {
        if site.host(at).is_running() { Err(site.host(at).last_words()) } else { Ok(()) }
    });
    let host = site.host(at);
    host.reap();
    host.abort_at(None);
    host.run();
    host.is_connected_to(1);
    site.host(other).is_connected_to(1);
    let after = revisions(site.host(at));
    (before, after)
}

/// Asks once more, wherever the machine is, until it is certain that it is made: now, or before.
fn ask_again(site: &mut Site, words: &[&str]) {
    until(&format!("{words:?} is made, or was"), LIMIT * 4, || {
        let mut said = Vec::new();
        for name in HOSTS {
            let host = site.host(name);
            if !machines(host).contains(&format!("boss {name} up")) {
                continue;
            }
            let answer = inside(host, words);
            if answer.code == Some(0) || answer.err.contains("(rule unchanged)") {
                return Ok(());
            }
            said.push(answer.to_string());
        }
        Err(format!("{said:?}"))
    });
}

/// Waits until both hosts know of one revision more than before and of these machines, each of which runs once; the first of
/// them finds out by itself.
#[track_caller]
fn is_made_once(site: &mut Site, before: usize, expect: &[&str]) {
    for name in HOSTS {
        until(&format!("{name} knows how it came out"), LIMIT * 3, || {
            let host = site.host(name);
            let found = (revisions(host), machines(host));
            let is_so = found.0 == before + 1 && found.1 == expect;
            if is_so { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    for name in HOSTS {
        let is_up = expect.iter().any(|machine| machine.ends_with(&format!(" {name} up")));
        assert_eq!(
            site.host(name).guest_processes() > 0,
            is_up,
            "each runs where it is, and nowhere else: {name}"
        );
    }
    let at = expect[0].split(' ').nth(1).expect("its place");
    let host = site.host(at);
    let log = inside(host, &["log", "--json"]).ended(0).json();
    assert_eq!(log.as_array().map(Vec::len), Some(before + 1), "the machine can find out: {log}");
    assert_eq!(host.shell("shop/boss", "cat /root/note").done(), "kept\n");
}

#[test]
fn what_a_machine_asks_for_is_made_or_not_where_its_host_dies_in_the_middle() {
    let mut site = Site::mesh_of(&HOSTS, "mlnd-failpoints");
    let file = site.project("shop", SHOP);
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).done();
    oslo.ctl(&["start", "-p", "shop", "-h", "boss"]).done();
    oslo.sees("shop", "boss", "up");
    oslo.shell("shop/boss", "echo kept >/root/note; sync").done();
    let boot = oslo.boot_id("shop/boss");

    // All have judged it, and nobody has promised it: the machine is told nothing that isn't so, and may ask again.
    let (before, _) = is_cut(&mut site, "oslo", "guest-judged", "scale servers 2");
    let told = site.host("oslo").shell("shop/boss", "cat /root/answer").done();
    assert!(!told.contains("done"), "{told}");
    ask_again(&mut site, &["me", "scale", "servers", "2"]);
    is_made_once(&mut site, before, &["boss oslo up", "web1 bergen down", "web2 bergen up"]);

    // It is decided, and the machine isn't told: it is so after the restart.
    let (before, after) = is_cut(&mut site, "oslo", "guest-decided", "scale servers 1");
    assert_eq!(after, before + 1, "what is about to be told is not forgotten");
    ask_again(&mut site, &["me", "scale", "servers", "1"]);
    is_made_once(&mut site, before, &["boss oslo up", "web1 bergen down"]);
    assert_eq!(site.host("oslo").boot_id("shop/boss"), boot, "it has run on all the time");

    // The same where the machine moves itself, there and back.
    let (before, _) = is_cut(&mut site, "oslo", "guest-judged", "move --to bergen");
    ask_again(&mut site, &["me", "move", "--to", "bergen"]);
    is_made_once(&mut site, before, &["boss bergen up", "web1 bergen down"]);
    let (before, after) = is_cut(&mut site, "bergen", "guest-decided", "move --to oslo");
    assert_eq!(after, before + 1, "what is about to be told is not forgotten");
    is_made_once(&mut site, before, &["boss oslo up", "web1 bergen down"]);
}
