//! What a script learns from the exit code.

use mln_link::Reply;
use mln_link::message::{Failure, Refusal, Silence, StatusRow, VmState};

use crate::agent::{ScriptedAgent, mlnctl, name, stderr, stdout};

fn refused() -> Reply {
    Reply::Refused(Refusal {
        host: Some(name("oslo")),
        vm: None,
        rule: "memory".to_owned(),
        text: "too little memory".to_owned(),
        who_can_change: None,
    })
}

fn failed() -> Reply {
    Reply::Failed(Failure {
        what: "starting".to_owned(),
        host: Some(name("oslo")),
        vm: Some(name("r1")),
        why: "the guest panicked".to_owned(),
        console_tail: vec!["panic".to_owned()],
        next: vec!["mlnctl status".to_owned()],
    })
}

fn silent() -> Reply {
    Reply::Silent(Silence { host: name("bergen"), text: "r2 was not started".to_owned() })
}

fn vm(vm: &str, state: VmState) -> StatusRow {
    StatusRow {
        owner: name("root"),
        project: name("ring"),
        vm: name(vm),
        host: name("oslo"),
        state,
        address: None,
        since_ms: None,
        age_ms: 0,
    }
}

#[track_caller]
fn check(line: &[&str], replies: Vec<Reply>, expect: i32) {
    let (_, output) = ScriptedAgent::answering(replies).run(line);
    assert_eq!(output.status.code(), Some(expect), "{line:?}: {}", stderr(&output));
}

#[test]
fn work_ends_by_what_was_worst() {
    let start = &["start", "-p", "ring"];
    check(start, vec![], 0);
    check(start, vec![silent()], 5);
    check(start, vec![silent(), refused()], 3);
    check(start, vec![refused(), failed(), silent()], 1);
    check(&["list"], vec![refused()], 3);
    check(&["remove", "-p", "ring", "--json"], vec![failed()], 1);
}

#[test]
fn status_is_0_when_all_are_up_whatever_is_listed() {
    let up = || vm("r1", VmState::Up);
    let down = || vm("r2", VmState::Down { exit_status: None });
    check(&["status"], vec![Reply::Status(vec![up()])], 0);
    check(&["status"], vec![Reply::Status(vec![up()]), Reply::Status(vec![down()])], 1);
    check(&["status", "-u"], vec![Reply::Status(vec![up(), down()])], 1);
    for (row, expect) in [(down(), 0), (up(), 1)] {
        // What is so now, and then what has become of it.
        let rows = vec![Reply::Status(vec![row])];
        let agent = ScriptedAgent::answering_each(vec![rows.clone(), rows]);
        let (_, output) = agent.run(&["status", "--wait", "down"]);
        assert_eq!(output.status.code(), Some(expect), "{}", stderr(&output));
    }
    check(&["status"], vec![Reply::Status(vec![up()]), silent()], 5);
    let (_, output) =
        ScriptedAgent::answering(vec![Reply::Status(vec![up(), down()])]).run(&["status", "-d"]);
    assert_eq!(stdout(&output), "ring host r2 down - oslo -\n");
}

#[test]
fn without_an_agent_it_is_4_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nowhere = folder.path().join("mlnd.sock");
    let output = mlnctl(&["list"]).env("MLN_PEER", &nowhere).output().expect("mlnctl runs");
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("no agent listens on"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: start the agent"), "{}", stderr(&output));
    // An agent that crashed leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&nowhere).expect("a short path"));
    let output = mlnctl(&["list"]).env("MLN_PEER", &nowhere).output().expect("mlnctl runs");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn somebody_else_on_the_socket_is_4() {
    use std::io::{Read, Write};
    for (answer, text) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "no MLN agent"),
        (b"mlnc\x63\x00\x64\x00", "speaks control version 99 to 100"),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("mlnd.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a short path");
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.read_exact(&mut [0; 8]).expect("a hello");
            stream.write_all(answer).expect("mlnctl reads");
        });
        let output = mlnctl(&["list"]).env("MLN_PEER", &socket).output().expect("mlnctl runs");
        other.join().expect("mlnctl connected");
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
}

#[test]
fn an_agent_that_dies_in_the_middle_is_1_and_says_how_to_see_what_was_done() {
    let (_, output) = ScriptedAgent::serving(async |_request, replies, _input| {
        replies.send(Reply::Warning { text: "about to die".to_owned() }).await.expect("mlnctl reads");
    })
    .run(&["start", "-a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("try `mlnctl status`"), "{}", stderr(&output));
}

#[test]
fn wrong_command_lines_are_64_and_ask_nobody() {
    for (line, text) in [
        (&["start"][..], "hint: name it with -p PROJECT, or say -a"),
        (&["start", "-p", "ring", "-a"], "exclude each other"),
        (&["-P", "/tmp/projects", "list"], "hint: name the project with -p"),
        (&["token", "new", "--role", "operator", "--may", "fly"], "known: read, control, use, all, view"),
        (&["token", "new", "--may", "exec"], "hint: add --role operator"),
        (&["ctx", "join", "hello"], "a token begins with"),
        (&["-h"], "hint: -h is a host of a project"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["stop", "-p", "ring", "-w", "soon"], "a length of time is"),
        (&[], "Usage"),
    ] {
        let home = tempfile::tempdir().expect("a folder");
        let mut command = mlnctl(line);
        let output = command
            .env("MLN_PEER", "/nonexistent/mlnd.sock")
            .env("HOME", home.path())
            .env("LOGNAME", "anna")
            .output()
            .expect("mlnctl runs");
        assert_eq!(output.status.code(), Some(64), "{line:?}");
        assert!(stderr(&output).contains(text), "{line:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{line:?}");
    }
}

#[test]
fn help_and_version_are_0() {
    for line in [&["--help"][..], &["stop", "--help"], &["--version"]] {
        let output = mlnctl(line).output().expect("mlnctl runs");
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(!stdout(&output).is_empty(), "{line:?}");
    }
}
