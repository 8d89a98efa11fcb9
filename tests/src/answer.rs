//! How a program ended, and what it said.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was run, for messages.
    pub asked: String,
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Answer {
    /// Runs a program to its end. Panics when that takes longer than `limit`.
    #[track_caller]
    pub(crate) fn of(mut command: Command, input: &[u8], limit: Duration) -> Self {
        let asked = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{asked}: {error}"));
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_owned();
        // Whoever doesn't read all of its input is free not to.
        let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let out = reading(child.stdout.take().expect("it is piped"));
        let err = reading(child.stderr.take().expect("it is piped"));
        let in_time = ends_within(&child, limit);
        if !in_time {
            child.kill().expect("it is ours, and not waited for");
        }
        let code = child.wait().expect("it is ours").code();
        writing.join().expect("writing doesn't panic");
        let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().expect("reading doesn't panic")).into_owned()
        };
        let answer = Self { asked, code, out: text(out), err: text(err) };
        assert!(in_time, "not within {limit:?}: {answer}");
        answer
    }

    /// Returns its standard output; panics if it did not end with 0.
    #[track_caller]
    pub fn done(self) -> String {
        self.ended(0).out
    }

    /// Panics unless it ended with this code.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Panics unless it said this, on either stream.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.out.contains(words) || self.err.contains(words), "it doesn't say {words:?}: {self}");
        self
    }

    /// Returns its standard output as JSON, whatever its exit code.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nended with {:?}\n{}{}", self.asked, self.code, self.out, self.err)
    }
}

fn reading(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is shown as well.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

/// Waits for the end of a process, without taking its status.
pub(crate) fn ends_within(child: &Child, limit: Duration) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
    let handle = pidfd_open(pid, PidfdFlags::empty()).expect("a child that isn't waited for is there");
    let mut ready = [PollFd::new(&handle, PollFlags::IN)];
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut ready, Some(&limit)).expect("one descriptor can be polled") == 1
}
