//! `mlnctl exec` as part of a pipeline.

use std::io::{Read, Write};
use std::process::Stdio;

use mln_link::message::{ExecExit, OutputStream, Refusal};
use mln_link::{Input, InputQueue, Reply, Request};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

use crate::agent::{ScriptedAgent, mlnctl, stderr};

fn output(stream: OutputStream, text: &str) -> Reply {
    Reply::Output { stream, bytes: text.as_bytes().to_vec() }
}

/// Answers as `cat` would.
async fn cat(_request: Request, replies: mpsc::Sender<Reply>, mut input: InputQueue) {
    while let Some(message) = input.next().await {
        let reply = match message {
            Input::Bytes(bytes) => Reply::Output { stream: OutputStream::Stdout, bytes },
            Input::Signal(signal) => Reply::Exited(ExecExit::Signal(signal)),
            Input::End => Reply::Exited(ExecExit::Status(0)),
            Input::Resize(_) => continue,
        };
        let exited = matches!(reply, Reply::Exited(_));
        // A reader that leaves is one of the tests.
        if replies.send(reply).await.is_err() || exited {
            break;
        }
    }
    let _ = replies.send(Reply::Done).await;
}

#[test]
fn both_streams_and_the_exit_status_are_the_commands() {
    let (asked, done) = ScriptedAgent::answering(vec![
        output(OutputStream::Stdout, "out\n"),
        output(OutputStream::Stderr, "err\n"),
        output(OutputStream::Stdout, "\u{0}raw\u{1b}[2J"),
        Reply::Exited(ExecExit::Status(7)),
    ])
    .run(&["exec", "ring/r1", "--", "sh", "-c", "x y"]);
    let Request::Exec(exec) = asked else { panic!("not an exec") };
    assert_eq!(
        (exec.vm.to_string().as_str(), exec.argv),
        ("ring/r1", vec!["sh".into(), "-c".into(), "x y".into()])
    );
    assert_eq!(done.status.code(), Some(7));
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"out\n\0raw\x1b[2J"[..], &b"err\n"[..]));
}

#[test]
fn a_command_that_a_signal_ended_is_128_and_the_signal() {
    let (_, done) =
        ScriptedAgent::answering(vec![Reply::Exited(ExecExit::Signal(9))]).run(&["exec", "r/a", "x"]);
    assert_eq!(done.status.code(), Some(137));
}

#[test]
fn a_refusal_and_a_missing_end_are_no_success() {
    let refusal = Refusal {
        host: None,
        vm: None,
        rule: "vm-down".to_owned(),
        text: "r1 is down".to_owned(),
        who_can_change: None,
    };
    let (_, done) = ScriptedAgent::answering(vec![Reply::Refused(refusal)]).run(&["exec", "ring/r1", "x"]);
    assert_eq!(done.status.code(), Some(3));
    assert!(stderr(&done).contains("r1 is down"), "{}", stderr(&done));
    let (_, done) = ScriptedAgent::answering(vec![]).run(&["exec", "ring/r1", "x"]);
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn standard_input_goes_through_whole() {
    let agent = ScriptedAgent::serving(cat);
    let mut child = mlnctl(&["exec", "ring/r1", "--", "cat"])
        .env("MLN_PEER", agent.socket())
        .stdin(Stdio::piped())
        .spawn()
        .expect("mlnctl runs");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let mut stdin = child.stdin.take().expect("piped");
    let to_send = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&to_send));
    let done = child.wait_with_output().expect("mlnctl ends");
    writer.join().expect("no panic").expect("mlnctl reads it all");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(done.stdout == sent, "{} of {} bytes", done.stdout.len(), sent.len());
    agent.asked();
}

#[test]
fn a_signal_is_the_commands_and_mlnctl_ends_as_it_does() {
    let agent = ScriptedAgent::serving(async |request, replies, input| {
        replies.send(output(OutputStream::Stdout, "ready")).await.expect("mlnctl reads");
        cat(request, replies, input).await;
    });
    let mut child = mlnctl(&["exec", "ring/r1", "--", "cat"])
        .env("MLN_PEER", agent.socket())
        .stdin(Stdio::piped())
        .spawn()
        .expect("mlnctl runs");
    let mut ready = [0; 5];
    child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("the command says that it runs");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not zero");
    kill_process(pid, Signal::TERM).expect("mlnctl still runs");
    // Waiting closes what it finds there; the end of input would be another reason to end.
    let stdin = child.stdin.take();
    let status = child.wait().expect("mlnctl ends");
    drop(stdin);
    assert_eq!(status.code(), Some(128 + 15));
    agent.asked();
}

#[test]
fn a_reader_that_leaves_ends_the_command() {
    let agent = ScriptedAgent::serving(async |_request, replies, _input| {
        while replies.send(output(OutputStream::Stdout, &"y\n".repeat(1000))).await.is_ok() {}
    });
    let mut child = mlnctl(&["exec", "ring/r1", "--", "yes"])
        .env("MLN_PEER", agent.socket())
        .spawn()
        .expect("mlnctl runs");
    let mut some = [0; 10];
    child.stdout.take().expect("piped").read_exact(&mut some).expect("the command writes");
    let done = child.wait_with_output().expect("mlnctl ends");
    assert_eq!((done.status.code(), stderr(&done)), (Some(128 + 13), ""));
    agent.asked();
}
