//! Somebody at a terminal: a real pseudo-terminal on which `mlnctl` runs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};

use crate::answer::ends_within;
use crate::host::{Host, LIMIT};

/// Somebody at a terminal.
#[derive(Debug)]
pub struct Typist {
    terminal: File,
    /// Kept open, so that the terminal outlives the program.
    other_end: File,
    child: Child,
    /// What was shown and not looked for yet.
    shown: String,
    /// All that was shown, for messages.
    all: String,
}

impl Typist {
    /// Runs `mlnctl` against a host's agent on a new terminal.
    #[track_caller]
    pub fn new(host: &Host, arguments: &[&str], rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags).expect("the system has terminals");
        rustix::pty::grantpt(&ours).expect("it is ours");
        rustix::pty::unlockpt(&ours).expect("it is ours");
        let other_end = File::from(rustix::pty::ioctl_tiocgptpeer(&ours, flags).expect("it has two ends"));
        let double = || Stdio::from(other_end.try_clone().expect("a descriptor can be doubled"));
        let mut command = host.ctl_command(arguments);
        command.env("TERM", "vt100").stdin(double()).stdout(double()).stderr(double());
        let lead_session = || {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        };
        // SAFETY: between fork and exec it does two system calls, and touches neither memory nor locks of others.
        unsafe { command.pre_exec(lead_session) };
        let terminal = File::from(ours);
        resize(&terminal, rows, columns);
        let child = command.spawn().expect("the program is there");
        Self { terminal, other_end, child, shown: String::new(), all: String::new() }
    }

    /// Types.
    #[track_caller]
    pub fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    /// Gives the terminal another size.
    pub fn resizes(&mut self, rows: u16, columns: u16) {
        resize(&self.terminal, rows, columns);
    }

    /// Waits until these words are shown; returns what was shown up to them. What comes later is for the next look.
    #[track_caller]
    pub fn sees(&mut self, words: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(at) = self.shown.find(words) {
                let rest = self.shown.split_off(at + words.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let left = LIMIT.saturating_sub(began.elapsed());
            assert!(!left.is_zero(), "{words:?} is not shown within {LIMIT:?}: {:?}", self.all);
            self.reads(left);
        }
    }

    /// Sends the program a signal to end.
    pub fn terminates(&mut self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is ours");
    }

    /// Presses Ctrl-C on a terminal that isn't raw.
    pub fn interrupts(&mut self) {
        self.types("\x03");
    }

    /// Waits for the program's end, and panics unless its status is this.
    #[track_caller]
    pub fn ended(&mut self, code: i32) {
        let began = Instant::now();
        while !ends_within(&self.child, Duration::ZERO) {
            assert!(began.elapsed() < LIMIT, "it doesn't end: {:?}", self.all);
            // A program that nobody reads may not be able to end.
            self.reads(Duration::from_millis(50));
        }
        let status = self.child.wait().expect("it is ours");
        assert_eq!(status.code(), Some(code), "{:?}", self.all);
    }

    /// Panics unless the terminal echoes and takes lines, as it did before.
    #[track_caller]
    pub fn is_sane(&self) {
        let modes = rustix::termios::tcgetattr(&self.other_end).expect("it is a terminal").local_modes;
        let usual = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        assert!(modes.contains(usual), "the terminal is left in a state of its own: {modes:?}");
    }

    fn reads(&mut self, limit: Duration) {
        let mut ready = [PollFd::new(&self.terminal, PollFlags::IN)];
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        if poll(&mut ready, Some(&limit)).expect("one descriptor can be polled") == 0 {
            return;
        }
        let mut bytes = [0; 4096];
        let count = self.terminal.read(&mut bytes).expect("its other end is open");
        let text = String::from_utf8_lossy(&bytes[..count]);
        self.shown += &text;
        self.all += &text;
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &File, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).expect("it is a terminal");
}
