//! What happens is told by every agent, also to who follows, and after a power cut.

use std::path::Path;

use mln_e2e::{Site, until, until_some};
use serde_json::Value;

use crate::{LIMIT, PAIR};

/// More than a host of the stories has.
const LARGE: &str = "
global { project large }
host giant { memory 900G; service_host oslo }
";

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until a host tells such an event of a VM, or of none.
#[track_caller]
fn tells(site: &mut Site, host: &str, kind: &str, vm: Option<&str>) -> Value {
    until_some(&format!("{host} tells of {kind} {vm:?}"), LIMIT, || {
        let told = site.host(host).ctl(&["events", "-n", "1000", "--json"]).done();
        let found = lines(&told).into_iter().rev().find(|e| e["kind"] == kind && e["vm"].as_str() == vm);
        found.map(Some).ok_or(told)
    })
}

#[track_caller]
fn file_has(file: &Path, words: &str) {
    until(&format!("somebody who follows reads {words}"), LIMIT, || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.contains(words) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn every_agent_tells_what_happens_in_the_mesh() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let followed = site.host("bergen").folder().join("followed");
    let arguments = ["events", "-n", "0", "--follow", "-p", "pair", "--json"];
    let mut following = site.host("bergen").ctl_into(&arguments, &followed);

    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "60"]).ended(0);
    for kind in ["build", "start", "ready"] {
        // What happened on the one host, told by the other.
        let event = tells(&mut site, "bergen", kind, Some("left"));
        assert_eq!(event["host"], "oslo", "{event}");
        assert!(event["project"].as_str().is_some_and(|project| project.ends_with("/pair")), "{event}");
        assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
    }
    file_has(&followed, "\"kind\":\"ready\"");

    // One ends with a status, the other's kernel gives up.
    site.host("oslo").shell("pair/left", "echo 7 >/proc/exitcode; poweroff -f");
    assert_eq!(tells(&mut site, "bergen", "exit", Some("left"))["status"], "exit status 7");
    site.host("oslo").shell("pair/right", "echo c >/proc/sysrq-trigger");
    tells(&mut site, "bergen", "panic", Some("right"));
    tells(&mut site, "oslo", "exit", Some("right"));
    file_has(&followed, "\"kind\":\"panic\"");
    following.kill().expect("it is ours, and not waited for");
    following.wait().expect("it is ours");

    // Who asked, and who refused.
    let file = site.project("large", LARGE);
    site.host("bergen").ctl(&["build", "-f", &file]).ended(3);
    for host in ["oslo", "bergen"] {
        assert_eq!(tells(&mut site, host, "refusal", None)["rule"], "memory");
    }
    assert_eq!(tells(&mut site, "oslo", "join", None)["host"], "bergen");

    // A power cut tears the last line; all that was whole is told on.
    site.host("bergen").kill();
    tells(&mut site, "oslo", "lost", None);
    let journal = site.host("bergen").folder().join("events.jsonl");
    let text = std::fs::read(&journal).expect("it is there");
    std::fs::write(&journal, &text[..text.len() - 5]).expect("the folder is ours");
    site.host("bergen").run();
    tells(&mut site, "bergen", "exit", Some("left"));
    let readable = site.host("bergen").ctl(&["events", "-n", "3"]).done();
    assert_eq!(readable.lines().count(), 3, "{readable}");

    // Nothing of this is in a machine's way.
    let doctor = site.host("bergen").ctl(&["doctor", "--json"]);
    let rows = doctor.json();
    assert!(rows.as_array().is_some_and(|rows| rows.len() > 10), "{doctor}");
    let fails = rows.as_array().into_iter().flatten().any(|row| row["verdict"] == "fail");
    assert_eq!(doctor.code, Some(i32::from(fails)), "{doctor}");
}

#[test]
fn a_host_leaves_when_it_carries_nothing_and_a_mesh_gets_a_first_host_again() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").mlnd(&["leave"]).ended(1).says("agent must be stopped");
    site.host("oslo").stop();
    site.host("oslo").mlnd(&["leave"]).ended(1).says("pair/left");
    site.host("oslo").run();
    // As the new agent says first: what the other still sees may be the end of the old one.
    for name in ["oslo", "bergen"] {
        site.host(name).is_connected_to(1);
    }
    site.host("bergen").ctl(&["remove", "-p", "pair"]).done();
    until("oslo has removed its part", LIMIT, || {
        let left = site.host("oslo").traces_of_vms();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // As somebody would who keeps copies.
    let copies = ["root.key", "peers"].map(|name| {
        let (from, to) =
            (site.host("oslo").folder().join(name), site.host("bergen").folder().join("copies").join(name));
        std::fs::create_dir_all(to.parent().expect("it is in a folder")).expect("the folder is ours");
        std::fs::copy(from, &to).expect("the folder is ours");
        to.display().to_string()
    });
    site.host("oslo").stop();
    site.host("oslo").mlnd(&["leave"]).done();
    site.host("oslo").mlnd(&["leave"]).ended(0).says("belongs to no mesh");

    let [root_key, peers] = &copies;
    site.add("gjovik");
    let recover = ["init", "story", "--name", "gjovik", "--root-key", root_key, "--peers", peers];
    site.host("gjovik").mlnd(&recover).done();
    site.host("gjovik").run();
    site.host("gjovik").is_connected_to(1);
    let mesh = |site: &mut Site, host: &str| {
        let answer = site.host(host).ctl(&["version", "--json"]).json();
        answer["agent"]["mesh"].as_str().map(str::to_owned)
    };
    assert_eq!(mesh(&mut site, "gjovik"), mesh(&mut site, "bergen"));
    // It may let others in, as a first host does.
    site.add("oslo2");
    site.join("gjovik", "oslo2").done();
    site.host("oslo2").run();
    site.host("oslo2").is_connected_to(2);
}
