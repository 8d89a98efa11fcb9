//! A plugin's process: JSON on standard input, JSON on standard output, and an end.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long a plugin may take.
pub const RUN_TIME_MAX: Duration = Duration::from_secs(10);
/// How much a plugin may answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How much of its standard error is shown, in bytes: the last of it.
const COMPLAINT_BYTES_MAX: usize = 2_000;

/// Why a plugin gave no answer. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// It could not be started.
    #[error("cannot be started: {0}")]
    Start(io::Error),
    /// It took too long, and was killed.
    #[error("took more than {} s, and was killed{}", .limit.as_secs(), shown(complaint))]
    Slow { limit: Duration, complaint: String },
    /// It ended badly.
    #[error("ended with {status}{}", shown(complaint))]
    Status { status: String, complaint: String },
    /// It wrote too much.
    #[error("answered more than {ANSWER_BYTES_MAX} bytes")]
    Long,
    /// It wrote something that is no text.
    #[error("answered what is no text in UTF-8")]
    NoText,
}

fn shown(complaint: &str) -> String {
    if complaint.is_empty() { String::new() } else { format!(": {complaint}") }
}

/// Runs a plugin, without a shell, in a process group of its own and in the project's folder; returns what it answers.
pub(super) fn run(program: &Path, folder: &Path, request: String) -> Result<String, RunError> {
    run_within(program, folder, request, RUN_TIME_MAX)
}

fn run_within(program: &Path, folder: &Path, request: String, limit: Duration) -> Result<String, RunError> {
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .current_dir(folder)
        .spawn()
        .map_err(RunError::Start)?;
    let (mut input, output, complaints) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // A plugin need not read what it is told: that it closes its end is no error.
    thread::spawn(move || input.as_mut().map(|input| input.write_all(request.as_bytes())));
    let (answer_end, answer) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.map(|output| output.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes));
        // Nobody waits for it any more where the plugin was killed.
        _ = answer_end.send(read.transpose().map(|_| bytes));
    });
    let (complaint_end, complaint) = mpsc::channel();
    thread::spawn(move || _ = complaint_end.send(complaints.map(last_of).unwrap_or_default()));

    // Whoever closes its output is about to end, and whoever has not ended then is killed.
    let left = || deadline.saturating_duration_since(Instant::now());
    let answer = answer.recv_timeout(left());
    let is_long = matches!(&answer, Ok(Ok(bytes)) if bytes.len() as u64 > ANSWER_BYTES_MAX);
    let is_slow = matches!(answer, Err(RecvTimeoutError::Timeout));
    let status = if is_slow || is_long { None } else { wait(&mut child, deadline) };
    if status.is_none() {
        end(&mut child);
    }
    // A child of its own that still has its standard error open is not waited for.
    let complaint = complaint.recv_timeout(left().max(Duration::from_millis(200))).unwrap_or_default();
    if is_long {
        return Err(RunError::Long);
    }
    let Some(status) = status else { return Err(RunError::Slow { limit, complaint }) };
    if !status.success() {
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        return Err(RunError::Status { status, complaint });
    }
    let bytes = answer.ok().and_then(Result::ok).unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| RunError::NoText)
}

/// Waits for a process until a point in time; none if it has not ended by then.
fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    let pid = rustix::process::pidfd_open(Pid::from_child(child), rustix::process::PidfdFlags::empty()).ok();
    if let Some(pid) = &pid {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec::try_from(left).ok();
        let mut ended = [rustix::event::PollFd::new(pid, rustix::event::PollFlags::IN)];
        // Interrupted or not: whether it has ended is what is asked next.
        _ = rustix::event::poll(&mut ended, timeout.as_ref());
    }
    child.try_wait().ok().flatten()
}

/// Kills a process with all that it has started in its group, and collects it.
fn end(child: &mut Child) {
    // A process that has ended by itself meanwhile is no error.
    _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    _ = child.wait();
}

/// Returns the last of what a program writes, on one line.
fn last_of(mut from: impl Read) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        kept.extend_from_slice(&piece[..length]);
        let surplus = kept.len().saturating_sub(COMPLAINT_BYTES_MAX);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.join(" / ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "process_test.rs"]
mod tests;
