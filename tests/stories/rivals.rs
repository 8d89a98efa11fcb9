//! A machine moves itself while its people change the same project: of two changes of one revision one is made, whoever asked
//! for the other is told so, and the machine runs once, with all that it wrote.

use std::path::Path;
use std::process::Child;

use mln_e2e::{Host, Site, Typist, until};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::LIMIT;

const HOSTS: [&str; 3] = ["oslo", "bergen", "gjovik"];

/// How often both ask at the same moment, and nobody knows who will be first. With the two before it is as often as a machine may
/// ask at once: six times.
const RACES: usize = 4;

/// Returns the decided revisions that a host knows, the oldest first: number, author and digest.
fn revisions(host: &Host) -> Vec<(u64, String, String)> {
    let rows = host.ctl(&["log", "-p", "shop", "--json"]).json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let decided = rows.iter().filter(|row| row["standing"] == "decided");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = decided
        .map(|row| (row["number"].as_u64().unwrap_or_default(), text(row, "author"), text(row, "digest")))
        .collect();
    found.sort();
    found
}

/// Returns the project's machines and where they run, as a host sees it.
fn machines(host: &Host) -> Vec<String> {
    let rows = host.ctl(&["status", "-p", "shop", "--json"]).json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let here = rows.iter().filter(|row| row["state"] != "removed" && row["state"] != "kept");
    let mut found: Vec<String> = here
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("name"), text("service_host"), text("state"))
        })
        .collect();
    found.sort();
    found
}

/// What is so between two changes.
#[derive(Clone)]
struct Rest {
    /// Where the machine is that moves itself; that all three hosts have one lets two of them decide without the third.
    place: &'static str,
    /// Whether there is one more in bergen.
    more: bool,
    /// How much memory the one in gjovik has.
    other_mib: u32,
    /// How many revisions are decided.
    revisions: usize,
    /// What the machine has written.
    notes: String,
}

impl Rest {
    fn text(&self) -> String {
        let Self { place, other_mib, .. } = self;
        let more = if self.more { "host extra { memory 48M; service_host bergen }\n" } else { "" };
        format!(
            "global {{ project shop }}
switch quiet {{ }}
host boss {{
    memory 64M
    service_host {place}
    network eth0 {{ switch quiet }}
    policy travel {{ grace 0s; may move oslo bergen }}
}}
host other {{ memory {other_mib}M; service_host gjovik }}
host third {{ memory 48M; service_host oslo }}
{more}"
        )
    }

    /// Lets the machine write a line.
    #[track_caller]
    fn writes(&mut self, site: &mut Site, line: &str) {
        site.host(self.place).shell("shop/boss", &format!("echo {line} >>/root/notes; sync")).done();
        self.notes.push_str(&format!("{line}\n"));
    }

    /// Waits until all hosts know the same, which is this, and the machine runs once with its notes.
    #[track_caller]
    fn is_so(&self, site: &mut Site) {
        let mut expect = vec![format!("boss {} up", self.place)];
        expect.extend(self.more.then(|| "extra bergen down".to_owned()));
        expect.extend(["other gjovik down".to_owned(), "third oslo down".to_owned()]);
        for name in HOSTS {
            until(&format!("{name} knows how it came out"), LIMIT * 3, || {
                let host = site.host(name);
                let found = (revisions(host).len(), machines(host));
                let is_so = found == (self.revisions, expect.clone());
                if is_so { Ok(()) } else { Err(format!("{found:?}, and not {expect:?}")) }
            });
        }
        let all = HOSTS.map(|name| revisions(site.host(name)));
        assert!(all.iter().all(|one| *one == all[0]), "all have decided the same: {all:?}");
        for name in HOSTS {
            let runs = site.host(name).guest_processes() > 0;
            assert_eq!(runs, name == self.place, "it runs where it is and nowhere else: {name}");
        }
        let notes = site.host(self.place).shell("shop/boss", "cat /root/notes 2>/dev/null || true");
        assert_eq!(notes.done(), self.notes);
    }
}

/// Stops the agent of a host where it is, or lets it go on; its machines run all the time.
fn signal(host: &Host, signal: Signal) {
    let agent = i32::try_from(host.agent_process()).ok().and_then(Pid::from_raw).expect("it runs");
    rustix::process::kill_process(agent, signal).expect("it is ours");
}

/// Waits until a host is connected to another, which may have stood still for so long that it was given up.
#[track_caller]
fn hears(host: &Host, other: &str) {
    until(&format!("{} hears {other}", host.name()), LIMIT, || {
        let peers = host.ctl(&["peers", "--json"]).json();
        let is_it = |peer: &Value| peer["name"] == other && peer["link"] == "up";
        if peers.as_array().into_iter().flatten().any(is_it) { Ok(()) } else { Err(peers.to_string()) }
    });
}

/// Returns how many requests of machines a host's agent has taken so far.
fn taken(host: &Host) -> usize {
    let log = std::fs::read_to_string(host.folder().join("mlnd.log")).expect("an agent writes one");
    log.lines().filter(|line| line.contains("asks for itself")).count()
}

/// Lets the machine ask to move, and waits for nothing; what it is told goes to a file.
fn begins_to_move(host: &Host, to: &str, file: &Path) -> Child {
    let asks = format!("mlnctl me move --to {to} 2>&1");
    host.ctl_into(&["exec", "shop/boss", "--", "sh", "-c", &asks], file)
}

/// Whether these words say that another change was first: told by whoever asked for it all, or by a host that was asked and knew
/// it sooner.
fn is_late(told: &str) -> bool {
    let late = [
        "was decided first",
        "the project stands at",
        "is not what the VM has seen of it",
        "knows another state of the project",
    ];
    late.iter().any(|words| told.contains(words)) && told.contains("again")
}

/// Waits for what the machine is told; returns whether it moves.
#[track_caller]
fn is_told(mut asked: Child, file: &Path) -> bool {
    let code = asked.wait().expect("it is ours").code();
    let told = std::fs::read_to_string(file).expect("it was written");
    match code {
        Some(0) => assert!(told.contains("done"), "{told}"),
        Some(3) => assert!(is_late(&told), "{told}"),
        _ => panic!("{code:?}: {told}"),
    }
    code == Some(0)
}

#[test]
fn of_a_machine_and_its_people_who_change_one_project_one_wins_and_the_other_is_told() {
    let mut site = Site::mesh(&HOSTS);
    let answer = site.folder().join("answer");
    let mut rest = Rest { place: "oslo", more: false, other_mib: 48, revisions: 1, notes: String::new() };
    let file = site.project("first", &rest.text());
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).done();
    oslo.ctl(&["start", "-p", "shop", "-h", "boss"]).done();
    rest.is_so(&mut site);

    // Somebody looks at what an upgrade would do, and the machine has moved before they say yes.
    rest.writes(&mut site, "looked at");
    let file = site.project("more", &Rest { more: true, ..rest.clone() }.text());
    let mut admin = Typist::new(site.host("gjovik"), &["upgrade", "-f", &file], 40, 120);
    admin.sees("extra");
    admin.sees("[y/N]");
    // What it would do, it can see too: its switch comes along.
    let plan = "mlnctl plan move --to bergen; test $? = 2";
    let planned = site.host("oslo").shell("shop/boss", plan).done();
    assert!(planned.contains("> host boss") && !planned.contains("- switch"), "{planned}");
    let asked = begins_to_move(site.host("oslo"), "bergen", &answer);
    assert!(is_told(asked, &answer), "nobody else has asked for anything yet");
    rest = Rest { place: "bergen", revisions: 2, ..rest };
    rest.is_so(&mut site);
    admin.types("y\n");
    admin.sees("the project stands at");
    admin.sees("rule overtaken");
    admin.ended(3);
    rest.is_so(&mut site);

    // It has asked, and its own host stands still until the people's change is decided without it.
    rest.writes(&mut site, "asked");
    let before = taken(site.host("bergen"));
    signal(site.host("oslo"), Signal::STOP);
    let asked = begins_to_move(site.host("bergen"), "oslo", &answer);
    until("its host has taken what it asks for", LIMIT, || {
        let found = taken(site.host("bergen"));
        if found > before { Ok(()) } else { Err(found.to_string()) }
    });
    signal(site.host("bergen"), Signal::STOP);
    signal(site.host("oslo"), Signal::CONT);
    hears(site.host("gjovik"), "oslo");
    rest = Rest { other_mib: 56, revisions: 3, ..rest };
    let file = site.project("larger", &rest.text());
    site.host("gjovik").ctl(&["upgrade", "-f", &file, "--yes"]).ended(0).says("shop at revision 3");
    signal(site.host("bergen"), Signal::CONT);
    assert!(!is_told(asked, &answer), "their change is decided");
    rest.is_so(&mut site);

    // Both at once, and whoever is first is first. Where one begins when the other is done, both are made.
    for race in 0..RACES {
        rest.writes(&mut site, &format!("race {race}"));
        let to = if rest.place == "oslo" { "bergen" } else { "oslo" };
        let wanted = Rest { more: !rest.more, ..rest.clone() };
        let file = site.project("race", &wanted.text());
        let asked = begins_to_move(site.host(rest.place), to, &answer);
        let admin = site.host("gjovik").ctl(&["upgrade", "-f", &file, "--yes"]);
        let is_changed = admin.code == Some(0);
        if !is_changed {
            let told = admin.ended(3).to_string();
            assert!(is_late(&told), "{told}");
        }
        let moves = is_told(asked, &answer);
        rest.revisions += usize::from(moves) + usize::from(is_changed);
        assert!(moves || is_changed, "one of them is first");
        until("gjovik has heard of all", LIMIT, || {
            let found = revisions(site.host("gjovik"));
            if found.len() == rest.revisions { Ok(()) } else { Err(format!("{found:?}")) }
        });
        let newest = revisions(site.host("gjovik")).pop().expect("there are some");
        let by_machine = newest.1.starts_with("boss of ");
        assert!(if by_machine { moves } else { is_changed }, "{newest:?}");
        // The people's text names a place: where it is the newer one, the machine is there, or back there.
        rest = Rest {
            more: if is_changed { wanted.more } else { rest.more },
            place: if by_machine { to } else { rest.place },
            ..rest
        };
        rest.is_so(&mut site);
    }
}
