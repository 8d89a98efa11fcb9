//! The program of a policy: run with what it sees on standard input, and cut off when it takes too long or says too much.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mln_protocol::id::Name;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// How much a program may answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// How much is kept of what it complains about, in bytes: the end of it.
const COMPLAINT_BYTES_MAX: usize = 400;

/// What has come of a policy's program.
#[derive(Debug)]
pub(super) struct Ended {
    /// The policy.
    pub(super) policy: Name,
    /// What it answered, or why not.
    pub(super) answer: Result<String, String>,
}

/// The programs that run; each has a thread that looks after it.
#[derive(Debug)]
pub(super) struct Programs {
    ended: mpsc::Receiver<Ended>,
    results: mpsc::Sender<Ended>,
    /// A byte comes with each result, so that the guest agent's loop can wait for it.
    bell: OwnedFd,
    ring: OwnedFd,
}

impl Programs {
    /// Prepares for programs.
    pub(super) fn new() -> io::Result<Self> {
        let (results, ended) = mpsc::channel();
        let (bell, ring) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { ended, results, bell, ring })
    }

    /// Returns what becomes readable when a program has ended.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Starts a program. What comes of it is among the next results, also if it can't be started.
    pub(super) fn start(&self, policy: Name, program: Vec<String>, input: String, limit: Duration) {
        let (results, ring) = (self.results.clone(), self.ring.try_clone());
        let work = move || {
            let answer = run(&program, input.as_bytes(), limit);
            // Nobody listens where the guest agent ends.
            let _ = results.send(Ended { policy, answer });
            if let Ok(ring) = ring {
                // A pipe that is full rings already.
                let _ = rustix::io::write(ring, &[0]);
            }
        };
        if let Err(error) = thread::Builder::new().name("policy".to_owned()).spawn(work) {
            tracing::warn!(%error, "a policy's program has nobody to look after it");
        }
    }

    /// Returns the next result.
    pub(super) fn ended(&self) -> Option<Ended> {
        let mut rung = [0; 64];
        while rustix::io::read(&self.bell, &mut rung).is_ok_and(|count| count > 0) {}
        self.ended.try_recv().ok()
    }
}

/// Runs a program to its end; its process group is killed where that takes longer than `limit`.
fn run(program: &[String], input: &[u8], limit: Duration) -> Result<String, String> {
    let until = Instant::now() + limit;
    let Some((path, arguments)) = program.split_first() else { return Err("there is no program".to_owned()) };
    let mut command = Command::new(path);
    command.args(arguments).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{path} can't be started: {error}"))?;
    // Who has said all hasn't ended yet: how it ends is part of the answer.
    let told = converse(&mut child, input, limit, until).and_then(|(answer, mut complaint, mut stderr)| {
        let has_ended = ends_by(&child, until).map_err(|error| format!("can't be waited for: {error}"))?;
        if !has_ended {
            return Err(too_long(limit));
        }
        // It may have complained after its answer. Who has it open still isn't waited for.
        let mut known = usize::MAX;
        while known != complaint.len() {
            known = complaint.len();
            let _ = read(&mut stderr, &mut complaint);
        }
        Ok((answer, complaint))
    });
    // Also what it has left behind: nobody hears that any more.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let status = child.wait().map_err(|error| format!("{path}: {error}"))?;
    let (answer, complaint) = told.map_err(|why| format!("{path} {why}"))?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let last = complaint.trim().lines().next_back().unwrap_or_default().to_owned();
        return Err(format!("{path} ended with {status}: {last}"));
    }
    String::from_utf8(answer).map_err(|_| format!("{path} answers what is no text"))
}

/// Writes to a program and reads from it until it says no more; returns its answer, the end of its
/// complaints, and where more of them may come.
fn converse(
    child: &mut Child,
    input: &[u8],
    limit: Duration,
    until: Instant,
) -> Result<(Vec<u8>, Vec<u8>, ChildStderr), String> {
    let failed = |error: io::Error| format!("can't be spoken with: {error}");
    let (Some(stdin), Some(mut stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("has no streams".to_owned());
    };
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        rustix::io::ioctl_fionbio(fd, true).map_err(|error| failed(error.into()))?;
    }
    let mut rest = input;
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let (mut answers, mut complains) = (true, true);
    // It is closed as soon as all is said: that is the end of what the program reads.
    let mut stdin = Some(stdin);
    while answers {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_long(limit));
        }
        let mut fds = vec![PollFd::new(&stdout, PollFlags::IN)];
        if complains {
            fds.push(PollFd::new(&stderr, PollFlags::IN));
        }
        if let Some(stdin) = &stdin {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
        }
        let timeout = Timespec::try_from(left).map_err(|_| "has no time".to_owned())?;
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if let Some(open) = &mut stdin {
            match open.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if would_block(&error) => {}
                // It needn't read what it doesn't need.
                Err(_) => rest = &[],
            }
        }
        stdin = stdin.filter(|_| !rest.is_empty());
        answers = read(&mut stdout, &mut answer).map_err(failed)?;
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(format!("answers more than {ANSWER_BYTES_MAX} bytes"));
        }
        complains = complains && read(&mut stderr, &mut complaint).map_err(failed)?;
        let surplus = complaint.len().saturating_sub(COMPLAINT_BYTES_MAX);
        complaint.drain(..surplus);
    }
    Ok((answer, complaint, stderr))
}

fn too_long(limit: Duration) -> String {
    format!("takes longer than {} s", limit.as_secs())
}

/// Waits until a program has ended, and leaves it to be waited for; false where it hasn't by then.
fn ends_by(child: &Child, until: Instant) -> io::Result<bool> {
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| ErrorKind::InvalidInput)?;
        match rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads what there is; false at the end.
fn read(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    match from.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(count) => {
            into.extend_from_slice(&buffer[..count]);
            Ok(true)
        }
        Err(error) if would_block(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn sh(script: &str, input: &str, limit: Duration) -> Result<String, String> {
        let program = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&program, input.as_bytes(), limit)
    }

    #[track_caller]
    fn check_fails(script: &str, expect: &str) {
        let error = sh(script, "", LIMIT).expect_err(script);
        assert!(error.contains(expect), "{script}: {error}");
    }

    #[test]
    fn a_program_reads_what_it_is_told_and_answers() {
        let input = "x".repeat(300_000);
        assert_eq!(sh("wc -c | tr -d ' \\n'", &input, LIMIT), Ok("300000".to_owned()));
        assert_eq!(sh("echo no need to read", &input, LIMIT), Ok("no need to read\n".to_owned()));
    }

    #[test]
    fn what_goes_wrong_is_said() {
        check_fails("echo first >&2; echo gone wrong >&2; exit 3", "exit status: 3: gone wrong");
        check_fails("head -c 20000 /dev/zero", "answers more than");
        check_fails("printf '\\377'", "no text");
        let none = run(&["/nowhere/decide".to_owned()], b"", LIMIT).expect_err("it isn't there");
        assert!(none.contains("/nowhere/decide can't be started"), "{none}");
    }

    #[test]
    fn one_that_takes_too_long_is_killed_with_all_that_it_has_started() {
        let begun = Instant::now();
        let error = sh("sleep 600 & sleep 600", "", Duration::from_millis(200)).expect_err("it never ends");
        assert!(error.contains("longer than"), "{error}");
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    }

    #[test]
    fn one_that_has_said_all_may_take_its_time_to_end() {
        assert_eq!(sh("echo yes; exec >&- 2>&-; sleep 0.1; exit 0", "", LIMIT), Ok("yes\n".to_owned()));
        let error =
            sh("exec >&- 2>&-; sleep 600", "", Duration::from_millis(200)).expect_err("it never ends");
        assert!(error.contains("longer than"), "{error}");
        check_fails("echo yes; exec >&-; echo but no >&2; exit 3", "exit status: 3: but no");
    }

    #[test]
    fn results_ring() {
        let programs = Programs::new().expect("a pipe");
        let name = Name::parse("near").expect("a name");
        let program = ["/bin/echo", "yes"].map(str::to_owned).to_vec();
        programs.start(name.clone(), program, String::new(), LIMIT);
        let mut fds = [PollFd::new(programs.bell(), PollFlags::IN)];
        rustix::event::poll(&mut fds, None).expect("it rings");
        let ended = programs.ended().expect("what has rung");
        assert_eq!((ended.policy, ended.answer), (name, Ok("yes\n".to_owned())));
        assert!(programs.ended().is_none());
    }
}
