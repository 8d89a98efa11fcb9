//! How a process ended, in the words of the line.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use mln_protocol::wire::line::EndWire;

/// Returns how a process ended.
pub(crate) fn end_of(status: ExitStatus) -> EndWire {
    match (status.code(), status.signal()) {
        (Some(code), _) => EndWire::Exited(code),
        (None, Some(signal)) => EndWire::Signalled(signal),
        // Stopped processes are not waited for, so one of the two is there.
        (None, None) => EndWire::Exited(-1),
    }
}
