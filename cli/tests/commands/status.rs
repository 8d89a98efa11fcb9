//! What `status` says beside its table.

use mln_link::message::{Failure, GaugeRow, GaugeValue, StatusRow, VmState};
use mln_link::{Reply, Request};

use crate::agent::{ScriptedAgent, name, stderr, stdout};

fn row(vm: &str, state: VmState) -> StatusRow {
    StatusRow {
        owner: name("anna"),
        project: name("ring"),
        vm: name(vm),
        host: name("oslo"),
        address: None,
        since_ms: Some(1_000),
        state,
        age_ms: 0,
    }
}

#[test]
fn gauges_have_units_and_a_machine_without_any_is_named() {
    let gauge = |gauge: &str, value: &str| GaugeRow {
        owner: name("anna"),
        project: name("ring"),
        vm: name("a"),
        gauge: name(gauge),
        values: vec![GaugeValue { ago_ms: 2_000, value: value.to_owned() }],
    };
    let rows =
        vec![gauge("cpu", "12.34"), gauge("load", "3"), gauge("memory_mib", "31.5"), gauge("sent", "840")];
    let status = Reply::Status(vec![row("a", VmState::Up), row("b", VmState::Up)]);
    let agent = ScriptedAgent::answering_each(vec![vec![status.clone()], vec![Reply::Gauges(rows.clone())]]);
    let (asked, output) = agent.run(&["status", "--gauges"]);
    assert!(matches!(asked, Request::Gauges(_)), "{asked:?}");
    let lines: Vec<&str> = stdout(&output).lines().skip(2).collect();
    let expect = ["cpu 12.3% 2s", "load 3 2s", "memory_mib 31.5MiB 2s", "sent 840B/s 2s"];
    assert_eq!(lines, expect.map(|line| format!("ring gauge a {line}")));
    assert!(stderr(&output).starts_with("no values of ring/b: "), "{}", stderr(&output));
    // A program sees that from its document.
    let agent = ScriptedAgent::answering_each(vec![vec![status], vec![Reply::Gauges(rows)]]);
    let (_, output) = agent.run(&["status", "--gauges", "--json"]);
    assert_eq!(stderr(&output), "");
    let document: serde_json::Value = serde_json::from_str(stdout(&output)).expect("a document");
    assert_eq!(document[0]["gauges"]["cpu"][0]["value"], 12.34);
    assert_eq!(document[1]["gauges"], serde_json::json!({}));
}

#[test]
fn whoever_waits_is_told_for_which_machines_and_that_nobody_starts_them() {
    let down = VmState::Down { exit_status: None };
    let before =
        vec![Reply::Status(vec![row("a", VmState::Up), row("b", VmState::Starting), row("c", down.clone())])];
    let idle =
        "c on oslo is down, and nobody starts it, as far as oslo knows; next: mlnctl start -p anna/ring -h c";
    let late = Failure {
        what: "waiting".to_owned(),
        host: None,
        vm: None,
        why: "not all are up after 5 s: c on oslo is down".to_owned(),
        console_tail: Vec::new(),
        next: vec!["mlnctl start -p anna/ring -h c".to_owned()],
    };
    let after = vec![
        Reply::Warning { text: idle.to_owned() },
        Reply::Failed(late),
        Reply::Status(vec![row("a", VmState::Up), row("b", VmState::Up), row("c", down)]),
    ];
    let line = ["status", "--wait", "up", "--timeout", "5"];
    let (asked, output) = ScriptedAgent::answering_each(vec![before, after.clone()]).run(&line);
    assert!(matches!(asked, Request::Status(status) if status.wait.is_some()));
    assert_eq!((output.status.code(), stdout(&output).lines().count()), (Some(1), 3));
    let said: Vec<&str> = stderr(&output).lines().collect();
    assert_eq!(said[0], "waiting for ring/b (starting), ring/c (down)");
    assert_eq!(said[1], format!("warning: {idle}"));
    assert!(said[2].contains("not all are up after 5 s: c on oslo is down"), "{said:?}");
    assert!(said[3].contains("try `mlnctl start -p anna/ring -h c`"), "{said:?}");
    assert_eq!(said.len(), 4, "{said:?}");
    // A program's document stays one.
    let json = [&line[..], &["--json"]].concat();
    let gauges = vec![Reply::Gauges(Vec::new())];
    let (_, output) = ScriptedAgent::answering_each(vec![after, gauges]).run(&json);
    let document: serde_json::Value = serde_json::from_str(stdout(&output)).expect("a document");
    assert_eq!(document[2]["state"], "down");
    assert!(stderr(&output).contains("nobody starts it"), "{}", stderr(&output));
}
