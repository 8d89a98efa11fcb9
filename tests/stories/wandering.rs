//! The example of a machine that walks over three hosts by its own policy: nobody but it asks for a move.

use mln_e2e::{Host, Site, until};
use serde_json::Value;

use crate::LIMIT;

const HOSTS: [&str; 3] = ["oslo", "bergen", "gjovik"];
const MOVES: usize = 10;

/// Returns why the machine has moved so far, the oldest first, as a host knows it.
fn reasons(host: &Host) -> Vec<String> {
    let rows = host.ctl(&["log", "-p", "wanderer", "--json"]).json();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let decided = rows.iter().filter(|row| text(row, "author").starts_with("wanderer of "));
    let mut numbered: Vec<(u64, String)> =
        decided.map(|row| (row["number"].as_u64().unwrap_or(0), text(row, "reason"))).collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, reason)| reason).collect()
}

/// Returns where a host thinks that the machine is.
fn place(host: &Host) -> String {
    let rows = host.ctl(&["status", "-p", "wanderer", "--json"]).json();
    let row = &rows[0];
    format!("{} {}", row["service_host"].as_str().unwrap_or(""), row["state"].as_str().unwrap_or(""))
}

#[test]
fn a_machine_walks_over_three_hosts_by_its_own_decision_and_loses_nothing() {
    let mut site = Site::mesh(&HOSTS);
    let file = Site::repository("examples/wanderer/wanderer.mln");
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file, "--var", "every=1s"]).done();
    oslo.ctl(&["start", "-p", "wanderer"]).done();
    // It decides only where it is: one decision more, and that many moves are over.
    until(&format!("it has moved {MOVES} times"), LIMIT * 6, || {
        let found = reasons(oslo);
        if found.len() > MOVES { Ok(()) } else { Err(format!("{found:?}")) }
    });

    // Its owner takes the policy's hosts away and has it back: whoever is first wins, so it may take a second try.
    let calls_back = ["upgrade", "-f", &file, "--var", "every=1s", "--var", "hosts=oslo", "--yes"];
    until("its owner has called it back", LIMIT * 2, || {
        let answer = oslo.ctl(&calls_back);
        if answer.code == Some(0) { Ok(()) } else { Err(answer.to_string()) }
    });
    for name in HOSTS {
        until(&format!("{name} knows that it is at oslo"), LIMIT * 2, || {
            let found = place(site.host(name));
            if found == "oslo up" { Ok(()) } else { Err(found) }
        });
    }

    // From host to host in the order of its policy, each time with the reason; every host tells the same.
    let walked = reasons(site.host("oslo"));
    for (reason, from) in walked.iter().zip(HOSTS.iter().cycle()) {
        assert_eq!(*reason, format!("policy walk: walks on from {from}"), "{walked:?}");
    }
    for name in &HOSTS[1..] {
        assert_eq!(reasons(site.host(name)), walked, "{name}");
    }

    let oslo = site.host("oslo");
    // Each hand-over is an epoch, and what it wrote at each arrival is there.
    let me = oslo.ctl(&["exec", "wanderer/wanderer", "--", "mlnctl", "me", "--json"]).ended(0).json();
    let epoch = me["epoch"].as_str().and_then(|epoch| epoch.strip_prefix("1.")).unwrap_or_default();
    let moves = epoch.parse::<usize>().expect("no machine was taken over") - 1;
    // The last one that it has decided may have been overtaken, and the way back is its owner's.
    assert!(moves >= MOVES && moves <= walked.len() + 1, "{moves} moves, {walked:?}");
    let steps = oslo.shell("wanderer/wanderer", "wc -l </root/steps").done();
    assert_eq!(steps.trim().parse(), Ok(moves + 1), "one line for each start");
    let errors = "dmesg | grep -i 'ext4.*error' | head -3";
    assert_eq!(oslo.shell("wanderer/wanderer", errors).done(), "");

    // It would walk on, and is told why not.
    until("its policy was refused", LIMIT, || {
        let told = oslo.ctl(&["exec", "wanderer/wanderer", "--", "mlnctl", "me", "gauge"]).to_string();
        // The one host that it may be on is the one where it is.
        let is_refused = told.contains("refused: nothing would change");
        if is_refused { Ok(()) } else { Err(told) }
    });
}
