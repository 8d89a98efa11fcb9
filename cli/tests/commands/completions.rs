//! Words for shells: names come from the agent, and nothing is said where there is none.

use std::path::Path;
use std::process::Output;

use mln_link::message::{ProjectRow, StatusRow, VmState};
use mln_link::{Reply, Request};

use crate::agent::{ScriptedAgent, mlnctl, name, stderr, stdout};

/// Asks as fish does: the words after `--`, the last one to be completed.
fn complete(socket: &Path, words: &[&str]) -> Output {
    let line: Vec<&str> = ["--", "mlnctl"].iter().chain(words).copied().collect();
    let mut command = mlnctl(&line);
    command.env("MLN_COMPLETE", "fish").env("MLN_PEER", socket).output().expect("mlnctl runs")
}

fn project(project: &str) -> ProjectRow {
    ProjectRow {
        owner: name("anna"),
        project: name(project),
        id: String::new(),
        revisions: 1,
        hosts: 1,
        vms: 1,
        vms_up: 0,
    }
}

#[test]
fn names_of_projects_come_from_the_agent() {
    let agent = ScriptedAgent::answering(vec![Reply::Projects(vec![project("ring"), project("lab")])]);
    let output = complete(&agent.socket(), &["start", "-p", ""]);
    assert_eq!((stdout(&output), agent.asked()), ("lab\nring\n", Request::List));
}

#[test]
fn names_of_machines_come_with_their_project() {
    let row = StatusRow {
        owner: name("anna"),
        project: name("ring"),
        vm: name("router1"),
        host: name("oslo"),
        state: VmState::Up,
        address: None,
        since_ms: None,
        age_ms: 0,
    };
    let agent = ScriptedAgent::answering(vec![Reply::Status(vec![row])]);
    let output = complete(&agent.socket(), &["exec", "ri"]);
    assert_eq!(stdout(&output), "ring/router1\n");
    agent.asked();
}

#[test]
fn without_an_agent_there_are_no_names_and_no_complaint() {
    let output = complete(Path::new("/nowhere/mlnd.sock"), &["start", "-p", ""]);
    assert_eq!((stdout(&output).trim(), stderr(&output)), ("", ""));
    assert!(output.status.success());
    let output = complete(Path::new("/nowhere/mlnd.sock"), &["sta"]);
    let words = stdout(&output);
    assert!(words.contains("start") && words.contains("status"), "{words}");
}
