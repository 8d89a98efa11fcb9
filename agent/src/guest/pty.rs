//! Terminals for processes: a pair of which the guest agent has one end, and a process the other.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use mln_protocol::wire::line::SizeWire;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Gives a command a new terminal as its streams, and a session that the terminal controls; returns our end.
pub(super) fn give(command: &mut Command, size: SizeWire) -> io::Result<File> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    let ours = File::from(ours);
    resize(&ours, size);
    rustix::io::ioctl_fionbio(&ours, true)?;
    command.stdin(Stdio::from(theirs.try_clone()?)).stdout(Stdio::from(theirs.try_clone()?));
    command.stderr(Stdio::from(theirs));
    let lead_session = || {
        rustix::process::setsid()?;
        Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
    };
    // SAFETY: between fork and exec it does two system calls, and touches neither memory nor locks of others.
    unsafe { command.pre_exec(lead_session) };
    Ok(ours)
}

/// Changes a terminal's size; those who run on it are told by the kernel.
pub(super) fn resize(terminal: &File, size: SizeWire) {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // A size of our own terminal can't be refused; were it, the old one would stay.
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}
