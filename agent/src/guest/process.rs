//! A process that the guest agent runs for the host, with its three streams and their windows.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use mln_protocol::wire::line::{EndWire, ExecWire, SizeWire, TerminalWire};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::pty;

use crate::line::{OUTPUT_WINDOW_BYTES, STDERR, STDIN_WINDOW_BYTES, STDOUT};
use crate::process_end::end_of;

/// Where programs are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is read of a stream at a time, in bytes: one frame.
pub(super) const READ_BYTES: usize = 8 << 10;
/// What ends the input of a terminal: ctrl-d.
const END_OF_TRANSMISSION: u8 = 4;

/// What came out of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Bytes of a stream.
    Data(u8, Vec<u8>),
    /// The process has ended, and all that it wrote before is out.
    Ended(EndWire),
}

/// A process that the guest agent runs for the host.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pidfd: OwnedFd,
    stdin: Option<File>,
    stdin_waiting: VecDeque<u8>,
    stdin_closes: bool,
    /// Bytes taken by the process that the host has not been told of.
    stdin_taken: u32,
    stdout: Stream,
    stderr: Stream,
    /// The terminal that it runs on, if it has one; input and output are doubles of it.
    terminal: Option<File>,
    ended: Option<EndWire>,
}

#[derive(Debug)]
struct Stream {
    number: u8,
    pipe: Option<File>,
    window_bytes: u32,
}

impl Process {
    /// Starts a command in a process group of its own.
    pub(super) fn start(exec: &ExecWire) -> io::Result<Self> {
        let mut command = command_of(exec)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stdout = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        for pipe in [&stdin, &stdout, &stderr].into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Self::of(child, stdin, stdout, stderr, None)
    }

    /// Starts a command on a terminal of its own, in a session of its own.
    pub(super) fn start_on_terminal(wanted: &TerminalWire) -> io::Result<Self> {
        let mut command = command_of(&wanted.exec)?;
        let terminal = pty::give(&mut command, wanted.size)?;
        let child = command.spawn()?;
        // The last of our own descriptors of its end: only then is the end of the process the terminal's.
        drop(command);
        let (input, output) = (terminal.try_clone()?, terminal.try_clone()?);
        Self::of(child, Some(input), Some(output), None, Some(terminal))
    }

    fn of(
        child: Child,
        stdin: Option<File>,
        stdout: Option<File>,
        stderr: Option<File>,
        terminal: Option<File>,
    ) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid_of(&child), PidfdFlags::empty())?;
        Ok(Self {
            child,
            pidfd,
            stdin,
            stdin_waiting: VecDeque::new(),
            stdin_closes: false,
            stdin_taken: 0,
            stdout: Stream { number: STDOUT, pipe: stdout, window_bytes: OUTPUT_WINDOW_BYTES },
            stderr: Stream { number: STDERR, pipe: stderr, window_bytes: OUTPUT_WINDOW_BYTES },
            terminal,
            ended: None,
        })
    }

    /// Tells the process that its terminal has another size; one without a terminal is told nothing.
    pub(super) fn resize(&self, size: SizeWire) {
        if let Some(terminal) = &self.terminal {
            pty::resize(terminal, size);
        }
    }

    /// Returns what to wait for: descriptors, and whether for writing.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let stdin = self.stdin.as_ref().filter(|_| !self.stdin_waiting.is_empty());
        let stdout = self.stdout.pipe.as_ref().filter(|_| self.stdout.window_bytes > 0);
        let stderr = self.stderr.pipe.as_ref().filter(|_| self.stderr.window_bytes > 0);
        let running = self.ended.is_none().then_some(&self.pidfd);
        [
            stdin.map(|pipe| (pipe.as_fd(), true)),
            stdout.map(|pipe| (pipe.as_fd(), false)),
            stderr.map(|pipe| (pipe.as_fd(), false)),
            running.map(|pidfd| (pidfd.as_fd(), false)),
        ]
        .into_iter()
        .flatten()
    }

    /// Takes bytes for the process. False when they are more than its window allows.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        if self.stdin.is_none() || self.stdin_closes {
            // It does not listen any more; what is thrown away is taken.
            self.stdin_taken += bytes.len() as u32;
            return true;
        }
        if self.stdin_waiting.len() + bytes.len() > STDIN_WINDOW_BYTES as usize {
            return false;
        }
        self.stdin_waiting.extend(bytes);
        true
    }

    /// Closes the process's input once it has taken what waits.
    pub(super) fn feed_end(&mut self) {
        self.stdin_closes = true;
    }

    /// Lets `bytes` more out of a stream.
    pub(super) fn widen(&mut self, stream: u8, bytes: u32) {
        let window = match stream {
            STDOUT => &mut self.stdout.window_bytes,
            STDERR => &mut self.stderr.window_bytes,
            _ => return,
        };
        *window = window.saturating_add(bytes).min(OUTPUT_WINDOW_BYTES);
    }

    /// Sends a signal to the process and to those that it started.
    ///
    /// Signal 0 kills them and gives up what they still have to say: nobody listens.
    pub(super) fn kill(&mut self, signal: i32) {
        let signal = if signal == 0 {
            self.stdout.pipe = None;
            self.stderr.pipe = None;
            Some(Signal::KILL)
        } else {
            Signal::from_named_raw(signal)
        };
        if let Some(signal) = signal.filter(|_| self.ended.is_none()) {
            let _ = rustix::process::kill_process_group(pid_of(&self.child), signal);
        }
    }

    /// Returns how much more input the process may be sent than the host knows of, and forgets it.
    pub(super) fn taken(&mut self) -> Option<u32> {
        (self.stdin_taken > 0).then(|| std::mem::take(&mut self.stdin_taken))
    }

    /// Moves what can be moved without waiting.
    pub(super) fn pump(&mut self, mut emit: impl FnMut(Output)) {
        self.pump_stdin();
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some(end_of(status));
        }
        // A process that ended may have left others that hold its streams; what is in the pipes by now was
        // written before, and whoever writes later writes to nobody.
        let at_end = self.ended.is_some();
        self.stdout.pump(at_end, &mut emit);
        self.stderr.pump(at_end, &mut emit);
        if let Some(end) = self.ended
            && self.stdout.pipe.is_none()
            && self.stderr.pipe.is_none()
        {
            emit(Output::Ended(end));
        }
    }

    fn pump_stdin(&mut self) {
        while let Some(pipe) = &mut self.stdin {
            let (first, _) = self.stdin_waiting.as_slices();
            if first.is_empty() {
                if self.stdin_closes {
                    if self.terminal.is_some() {
                        // Where that is full of what nobody reads, one more character says nothing.
                        let _ = pipe.write(&[END_OF_TRANSMISSION]);
                    }
                    self.stdin = None;
                }
                return;
            }
            match pipe.write(first) {
                Ok(count) => {
                    self.stdin_waiting.drain(..count);
                    self.stdin_taken += count as u32;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.stdin_taken += self.stdin_waiting.len() as u32;
                    self.stdin_waiting.clear();
                    self.stdin = None;
                }
            }
        }
    }
}

impl Stream {
    fn pump(&mut self, at_end: bool, emit: &mut impl FnMut(Output)) {
        while let Some(pipe) = &mut self.pipe {
            if self.window_bytes == 0 {
                return;
            }
            let mut bytes = vec![0; READ_BYTES.min(self.window_bytes as usize)];
            match pipe.read(&mut bytes) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    bytes.truncate(count);
                    self.window_bytes -= count as u32;
                    emit(Output::Data(self.number, bytes));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !at_end => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = rustix::process::kill_process_group(pid_of(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Returns the command that is asked for, with the variables that every command has.
fn command_of(exec: &ExecWire) -> io::Result<Command> {
    let [program, words @ ..] = &exec.argv[..] else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no command"));
    };
    let mut command = Command::new(OsStr::from_bytes(program));
    command
        .args(words.iter().map(|word| OsStr::from_bytes(word)))
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("LANG", "C.UTF-8")])
        .envs(exec.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(exec.folder.as_deref().unwrap_or("/root"));
    Ok(command)
}

/// Returns the id of a child that has not been waited for, so that nobody else can have it.
pub(super) fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags};

    fn shell(script: &str) -> Process {
        let argv = ["sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec();
        Process::start(&ExecWire { argv, environment: vec![], folder: Some("/".into()) }).expect("starts")
    }

    /// Pumps until the process has ended; opens its windows only where `widen` says so.
    fn drain(process: &mut Process, widen: bool) -> (Vec<u8>, Vec<u8>, EndWire) {
        let (mut out, mut err, mut end) = (vec![], vec![], None);
        while end.is_none() {
            let mut moved = vec![];
            process.pump(|output| match output {
                Output::Data(stream, bytes) => moved.push((stream, bytes)),
                Output::Ended(how) => end = Some(how),
            });
            for (stream, bytes) in moved {
                if widen {
                    process.widen(stream, bytes.len() as u32);
                }
                if stream == STDOUT { &mut out } else { &mut err }.extend(bytes);
            }
            if end.is_none() {
                wait_for(process);
            }
        }
        (out, err, end.expect("ended"))
    }

    fn wait_for(process: &Process) {
        let interests: Vec<_> = process.interests().collect();
        let mut fds: Vec<_> = interests
            .iter()
            .map(|(fd, write)| {
                PollFd::from_borrowed_fd(*fd, if *write { PollFlags::OUT } else { PollFlags::IN })
            })
            .collect();
        assert!(!fds.is_empty(), "nothing to wait for: {process:?}");
        rustix::event::poll(&mut fds, None).expect("poll");
    }

    #[test]
    fn streams_and_status_come_out_whole() {
        let mut process = shell("cat; echo oops >&2; exit 3");
        assert!(process.feed(b"hello"));
        process.feed_end();
        assert_eq!(drain(&mut process, true), (b"hello".to_vec(), b"oops\n".to_vec(), EndWire::Exited(3)));
        assert_eq!(process.taken(), Some(5));
    }

    #[test]
    fn no_more_comes_out_than_the_window_allows() {
        let mut process = shell("head -c 100000 /dev/zero");
        let mut bytes = 0;
        while bytes < OUTPUT_WINDOW_BYTES as usize {
            process.pump(|output| {
                if let Output::Data(_, data) = output {
                    bytes += data.len();
                }
            });
        }
        assert_eq!(bytes, OUTPUT_WINDOW_BYTES as usize);
        process.widen(STDOUT, OUTPUT_WINDOW_BYTES);
        assert_eq!(drain(&mut process, true).0.len() + bytes, 100_000);
    }

    #[test]
    fn a_terminal_has_a_size_that_can_change_and_an_end_of_input() {
        let exec = |script: &str| ExecWire {
            argv: ["sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec(),
            environment: vec![("TERM".into(), "vt100".into())],
            folder: Some("/".into()),
        };
        let script =
            "trap 'stty size; exit 3' WINCH; tty -s && stty size; read line; while :; do read x; done";
        let size = |rows, columns| SizeWire { rows, columns };
        let wanted = TerminalWire { exec: exec(script), size: size(24, 80) };
        let mut process = Process::start_on_terminal(&wanted).expect("starts");
        let mut out = Vec::new();
        while !String::from_utf8_lossy(&out).contains("24 80") {
            wait_for(&process);
            process.pump(|output| {
                if let Output::Data(_, bytes) = output {
                    out.extend(bytes);
                }
            });
        }
        process.resize(size(50, 132));
        let (rest, _, end) = drain(&mut process, true);
        assert!(String::from_utf8_lossy(&rest).contains("50 132"), "{:?}", String::from_utf8_lossy(&rest));
        assert_eq!(end, EndWire::Exited(3));

        let wanted = TerminalWire { exec: exec("cat; exit 4"), size: size(24, 80) };
        let mut process = Process::start_on_terminal(&wanted).expect("starts");
        assert!(process.feed(b"typed\n"));
        process.feed_end();
        let (out, _, end) = drain(&mut process, true);
        // Once as the terminal's echo, once from the program.
        assert_eq!(String::from_utf8_lossy(&out).matches("typed\r\n").count(), 2);
        assert_eq!(end, EndWire::Exited(4));
    }

    #[test]
    fn a_signal_reaches_those_that_the_process_started() {
        let mut process = shell("sleep 1000 & wait");
        process.kill(9);
        assert_eq!(drain(&mut process, true).2, EndWire::Signalled(9));
    }

    #[test]
    fn a_process_left_behind_does_not_hold_up_the_end() {
        let mut process = shell("sleep 1000 & echo $!");
        let (out, _, end) = drain(&mut process, true);
        assert_eq!(end, EndWire::Exited(0));
        let left: i32 = String::from_utf8_lossy(&out).trim().parse().expect("a number");
        let left = Pid::from_raw(left).expect("not zero");
        rustix::process::kill_process(left, Signal::KILL).expect("it is still there");
    }

    #[test]
    fn more_input_than_the_window_is_refused() {
        let mut process = shell("sleep 1000");
        assert!(process.feed(&[0; STDIN_WINDOW_BYTES as usize]));
        assert!(!process.feed(&[0]));
    }
}
