//! Events as lines, and as lines of JSON.

use mln_link::message::{DoctorRow, EventReading, EventRow, Events, Verdict};
use mln_link::{Reply, Request};

use crate::agent::{ScriptedAgent, mlnctl, stdout};

fn event() -> EventRow {
    EventRow {
        unix_ms: 1_792_843_264_007,
        host: "oslo".to_owned(),
        kind: "refusal".to_owned(),
        project: Some("anna/ring".to_owned()),
        vm: Some("router1".to_owned()),
        rule: Some("memory".to_owned()),
        status: None,
        text: "no \u{1b}[31mroom".to_owned(),
    }
}

#[test]
fn an_event_is_a_line_that_is_harmless_for_a_terminal() {
    let agent = ScriptedAgent::answering(vec![Reply::Events(vec![event()])]);
    let (asked, output) = agent.run(&["events", "-n", "5", "--follow", "-p", "ring"]);
    let Request::Events(Events { last: 5, project: Some(project), reading: EventReading::Follow }) = asked
    else {
        panic!("{asked:?}")
    };
    assert_eq!(project.project.as_str(), "ring");
    let line = "2026-10-24 12:01:04 oslo       refusal  anna/ring/router1 no \\u{1b}[31mroom (rule memory)\n";
    assert_eq!(stdout(&output), line);
}

#[test]
fn under_json_an_event_is_a_line_of_its_own() {
    let agent = ScriptedAgent::answering(vec![Reply::Events(vec![event(), event()])]);
    let output = agent.run(&["events", "--json"]).1;
    let lines: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(EventRow::from_json_line(&lines[0]), Some(event()));
}

#[test]
fn more_events_than_are_kept_are_not_asked_for() {
    let output = mlnctl(&["events", "-n", "1001"]).output().expect("mlnctl runs");
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn an_agent_that_is_asked_by_a_locked_out_user_fails_the_doctor() {
    let refusal = mln_link::message::Refusal {
        host: None,
        vm: None,
        rule: "control-access".to_owned(),
        text: "bob may not use this agent".to_owned(),
        who_can_change: None,
    };
    let agent = ScriptedAgent::answering(vec![Reply::Refused(refusal)]);
    let output = agent.run(&["doctor", "--json"]).1;
    assert_eq!(output.status.code(), Some(1));
    let rows: serde_json::Value = serde_json::from_str(stdout(&output)).expect("one document");
    assert_eq!((&rows[0]["name"], &rows[0]["verdict"]), (&"agent".into(), &"fail".into()), "{rows}");
    let first: Option<DoctorRow> = DoctorRow::from_json_line(&rows[0].to_string());
    assert_eq!(first.map(|row| row.verdict), Some(Verdict::Fail));
}
