//! The guest's console session: one shell on a terminal that outlives those who look at it.
//!
//! Several may look at it and type at once. It is read also while nobody looks, so that what runs in it goes on.
//! Whoever looks and doesn't take what there is holds it up; where others do take it, they lose what they missed.
//!
//! ```text
//!   (none) ──attach──► shell runs ──detach──► shell runs, unseen ──attach──► replay, then on
//!                         └──shell exits──► all are told ──► (none)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use mln_protocol::wire::line::{ConsoleWire, EndWire, SizeWire};
use rustix::process::{PidfdFlags, Signal};

use super::process::{Output, PATH, READ_BYTES, pid_of};
use super::pty;
use super::scrollback::Scrollback;
use crate::line::{OUTPUT_WINDOW_BYTES, STDIN_WINDOW_BYTES, STDOUT};
use crate::process_end::end_of;

/// What may wait for somebody who looks, in bytes; past that the terminal waits, or they lose something.
const WAITING_BYTES_MAX: usize = 128 << 10;
/// How often the terminal is read before the line gets its turn.
const READS_MAX: usize = 16;

/// The console session of a guest.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
    pidfd: OwnedFd,
    /// None once nothing more can come.
    terminal: Option<File>,
    scrollback: Scrollback,
    viewers: BTreeMap<u32, Viewer>,
    ended: Option<EndWire>,
}

/// Somebody who looks, by their channel.
#[derive(Debug, Default)]
struct Viewer {
    /// Set once they were sent something, so that they know that they are here.
    is_greeted: bool,
    window_bytes: u32,
    waiting: VecDeque<u8>,
    typed: VecDeque<u8>,
    /// Bytes taken by the terminal that the host has not been told of.
    typed_taken: u32,
}

/// The account whose shell it is.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    home: String,
    shell: String,
}

impl Session {
    /// Starts root's shell, as a login shell, on a new terminal.
    pub(super) fn start(wanted: &ConsoleWire) -> io::Result<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let Account { home, shell } = root_of(&passwd);
        let name = shell.rsplit('/').next().unwrap_or_default();
        let mut command = Command::new(&shell);
        command
            .arg0(format!("-{name}"))
            .env_clear()
            .envs([("PATH", PATH), ("USER", "root"), ("LOGNAME", "root"), ("LANG", "C.UTF-8")])
            .envs([("HOME", &home), ("SHELL", &shell), ("TERM", &wanted.term)])
            .current_dir(if std::path::Path::new(&home).is_dir() { home.as_str() } else { "/" });
        Self::of(command, wanted.size)
    }

    fn of(mut command: Command, size: SizeWire) -> io::Result<Self> {
        let terminal = pty::give(&mut command, size)?;
        let child = command.spawn()?;
        drop(command);
        let pidfd = rustix::process::pidfd_open(pid_of(&child), PidfdFlags::empty())?;
        Ok(Self {
            child,
            pidfd,
            terminal: Some(terminal),
            scrollback: Scrollback::default(),
            viewers: BTreeMap::new(),
            ended: None,
        })
    }

    /// Lets somebody look, beginning with what was there before.
    pub(super) fn attach(&mut self, channel: u32, wanted: &ConsoleWire) {
        let waiting = self.scrollback.tail(wanted.lines as usize).into();
        let viewer = Viewer { window_bytes: OUTPUT_WINDOW_BYTES, waiting, ..Viewer::default() };
        self.viewers.insert(channel, viewer);
        self.resize(wanted.size);
    }

    /// Returns whether somebody looks over this channel.
    pub(super) fn is_seen_over(&self, channel: u32) -> bool {
        self.viewers.contains_key(&channel)
    }

    /// Returns how many look.
    pub(super) fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// Lets go of somebody; the session goes on.
    pub(super) fn detach(&mut self, channel: u32) {
        self.viewers.remove(&channel);
    }

    /// Lets go of everybody; the session goes on.
    pub(super) fn detach_all(&mut self) {
        self.viewers.clear();
    }

    /// Gives the terminal another size.
    pub(super) fn resize(&self, size: SizeWire) {
        if let Some(terminal) = &self.terminal {
            pty::resize(terminal, size);
        }
    }

    /// Takes what somebody typed. False when it is more than their window allows.
    pub(super) fn feed(&mut self, channel: u32, bytes: &[u8]) -> bool {
        let Some(viewer) = self.viewers.get_mut(&channel) else { return true };
        if viewer.typed.len() + bytes.len() > STDIN_WINDOW_BYTES as usize {
            return false;
        }
        viewer.typed.extend(bytes);
        true
    }

    /// Lets `bytes` more out to somebody.
    pub(super) fn widen(&mut self, channel: u32, bytes: u32) {
        if let Some(viewer) = self.viewers.get_mut(&channel) {
            viewer.window_bytes = viewer.window_bytes.saturating_add(bytes).min(OUTPUT_WINDOW_BYTES);
        }
    }

    /// Returns what to wait for: descriptors, and whether for writing.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let terminal = self.terminal.as_ref().map(AsFd::as_fd);
        let reads = terminal.filter(|_| self.has_room());
        let writes = terminal.filter(|_| self.viewers.values().any(|viewer| !viewer.typed.is_empty()));
        let running = self.ended.is_none().then_some(self.pidfd.as_fd());
        let waits = [reads.map(|fd| (fd, false)), writes.map(|fd| (fd, true)), running.map(|fd| (fd, false))];
        waits.into_iter().flatten()
    }

    /// Moves what can be moved without waiting. False once the shell has ended and everybody was told.
    pub(super) fn pump(&mut self, mut emit: impl FnMut(u32, Output)) -> bool {
        self.write();
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some(end_of(status));
        }
        self.read();
        for (&channel, viewer) in &mut self.viewers {
            viewer.pump(|output| emit(channel, output));
        }
        let Some(end) = self.ended.filter(|_| self.terminal.is_none()) else { return true };
        self.viewers.retain(|&channel, viewer| {
            if viewer.waiting.is_empty() {
                emit(channel, Output::Ended(end));
            }
            !viewer.waiting.is_empty()
        });
        !self.viewers.is_empty()
    }

    /// Returns who may be sent how much more than the host knows of, and forgets it.
    pub(super) fn taken(&mut self) -> impl Iterator<Item = (u32, u32)> {
        let taken = |(&channel, viewer): (&u32, &mut Viewer)| {
            (viewer.typed_taken > 0).then(|| (channel, std::mem::take(&mut viewer.typed_taken)))
        };
        self.viewers.iter_mut().filter_map(taken)
    }

    /// Returns whether the shell has ended; a new session may take this one's place.
    pub(super) fn has_ended(&mut self) -> bool {
        self.ended.is_some() || matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Whether what comes can be kept for those who look: for one of them is enough.
    fn has_room(&self) -> bool {
        self.viewers.is_empty()
            || self.viewers.values().any(|viewer| viewer.waiting.len() < WAITING_BYTES_MAX)
    }

    fn write(&mut self) {
        let Some(terminal) = &mut self.terminal else { return };
        for viewer in self.viewers.values_mut() {
            while let (first @ [_, ..], _) = viewer.typed.as_slices() {
                match terminal.write(first) {
                    Ok(count) => {
                        viewer.typed.drain(..count);
                        viewer.typed_taken += count as u32;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(_) => {
                        viewer.typed_taken += viewer.typed.len() as u32;
                        viewer.typed.clear();
                    }
                }
            }
        }
    }

    fn read(&mut self) {
        // A shell that has ended may have left others on the terminal; what is there by now came before its end.
        let at_end = self.ended.is_some();
        let mut bytes = [0; READ_BYTES];
        let mut reads = 0;
        while self.has_room() && (at_end || reads < READS_MAX) {
            let Some(terminal) = &mut self.terminal else { return };
            reads += 1;
            match terminal.read(&mut bytes) {
                Ok(count @ 1..) => {
                    self.scrollback.push(&bytes[..count]);
                    for viewer in self.viewers.values_mut() {
                        viewer.waiting.extend(&bytes[..count]);
                        let over = viewer.waiting.len().saturating_sub(WAITING_BYTES_MAX + READ_BYTES);
                        viewer.waiting.drain(..over);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !at_end => return,
                // EIO: nobody has the other end open any more.
                Ok(0) | Err(_) => self.terminal = None,
            }
        }
    }
}

impl Viewer {
    fn pump(&mut self, mut emit: impl FnMut(Output)) {
        if !self.is_greeted && self.waiting.is_empty() {
            emit(Output::Data(STDOUT, Vec::new()));
        }
        self.is_greeted = true;
        while self.window_bytes > 0 && !self.waiting.is_empty() {
            let count = self.waiting.len().min(READ_BYTES).min(self.window_bytes as usize);
            self.window_bytes -= count as u32;
            emit(Output::Data(STDOUT, self.waiting.drain(..count).collect()));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closing the terminal hangs up on whatever runs on it.
        self.terminal = None;
        if self.ended.is_none() {
            let _ = rustix::process::kill_process_group(pid_of(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Finds root's home and shell in the text of `/etc/passwd`.
fn root_of(passwd: &str) -> Account {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut root = fields.filter(|fields| fields.first() == Some(&"root"));
    let root = root.next().unwrap_or_default();
    let field = |index: usize, usual: &str| {
        let text = root.get(index).filter(|text| text.starts_with('/')).copied();
        text.unwrap_or(usual).to_owned()
    };
    Account { home: field(5, "/root"), shell: field(6, "/bin/sh") }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
