//! Goldens of what went wrong.

use std::path::PathBuf;

use super::*;
use crate::ui::hint;

fn named(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

#[test]
fn a_refusal_names_the_rule_and_who_can_change_it() {
    let refused = Refusal {
        host: Some(named("oslo")),
        vm: Some(named("router1")),
        rule: "memory".to_owned(),
        text: "4096 MiB are asked for, 512 MiB are left".to_owned(),
        who_can_change: Some("the operator of oslo, by raising memory_max".to_owned()),
    };
    assert_eq!(
        refusal(&refused, Paint::Plain),
        "refused by oslo: router1: 4096 MiB are asked for, 512 MiB are left (rule memory)\n\
         hint: this can be changed by the operator of oslo, by raising memory_max\n"
    );
}

#[test]
fn a_failure_says_what_where_why_and_what_to_try() {
    let failed = Failure {
        what: "starting".to_owned(),
        host: Some(named("oslo")),
        vm: Some(named("router1")),
        why: "the guest panicked".to_owned(),
        console_tail: vec!["Kernel panic - not syncing".to_owned(), "\u{1b}]0;x\u{7}".to_owned()],
        next: vec!["mlnctl logs ring/router1".to_owned()],
    };
    assert_eq!(
        failure(&failed, Paint::Plain),
        "failed: starting router1 on oslo: the guest panicked\n  \
           the last lines of its console:\n  \
           | Kernel panic - not syncing\n  \
           | \\u{1b}]0;x\\u{7}\n\
         hint: try `mlnctl logs ring/router1`\n"
    );
}

#[test]
fn an_error_comes_with_its_causes_and_hints() {
    let no_agent = CommandError::NoAgent(vec![PathBuf::from("/a/mlnd.sock"), PathBuf::from("/b/mlnd.sock")]);
    let text = error(&no_agent, &hint::for_error(&no_agent), Paint::Plain);
    assert!(
        text.starts_with("error: no agent listens on /a/mlnd.sock or /b/mlnd.sock\nhint: start"),
        "{text}"
    );
    let broke = CommandError::BrokeOff(mln_link::LinkError::Io(std::io::Error::other("the cable is cut")));
    let text = error(&broke, &[], Paint::Plain);
    assert_eq!(
        text,
        "error: the conversation with the agent broke off: the connection failed: the cable is cut\n"
    );
}

#[test]
fn colours_are_for_the_kind_only() {
    let silent = Silence { host: named("oslo"), text: "router1 is not known".to_owned() };
    assert_eq!(silence(&silent, Paint::Plain), "no answer from oslo: router1 is not known\n");
    assert_eq!(
        silence(&silent, Paint::Colour),
        "\u{1b}[1;33mno answer\u{1b}[0m from oslo: router1 is not known\n"
    );
}
