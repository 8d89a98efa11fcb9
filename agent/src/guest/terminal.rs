//! The guest's end of the line as a device.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, QueueSelector};

/// Opens a terminal for bytes: raw, without echo, emptied of what arrived for whoever had it before.
pub(super) fn open_raw(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let terminal: OwnedFd = rustix::fs::open(path, flags, Mode::empty())?;
    let mut attributes = rustix::termios::tcgetattr(&terminal)?;
    attributes.make_raw();
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &attributes)?;
    rustix::termios::tcflush(&terminal, QueueSelector::IFlush)?;
    Ok(File::from(terminal))
}
