//! What platforms tell unasked.

use std::fmt;
use std::os::fd::OwnedFd;

use mln_protocol::id::{Name, VmId};
use mln_protocol::record::Nat;
use mln_protocol::wire::holder::{ExitWire, NatStateWire, StopWire};
use mln_protocol::wire::line::{EndWire, ReportWire};

use super::BootProgress;

/// Something that happened to a VM.
#[derive(Debug)]
pub struct VmEvent {
    /// Which one.
    pub vm: VmId,
    /// What.
    pub kind: VmEventKind,
}

/// What happened to a VM.
#[derive(Debug)]
pub enum VmEventKind {
    /// Its process runs.
    Booting {
        /// When it was started, in milliseconds since 1970.
        boot_unix_ms: u64,
    },
    /// The agent in the guest has come further, or said again how far it is.
    Progress(BootProgress),
    /// The agent in the guest answers; what ran there for an earlier one is gone.
    GuestAgent {
        /// Its version.
        version: String,
    },
    /// Its kernel gave up; the exit follows.
    Panicked {
        /// The kernel's words.
        text: String,
    },
    /// It has brought up an interface; whoever has the socket moves its frames, one in each message.
    InterfaceUp {
        /// The interface.
        interface: Name,
        /// A duplicate: closing it does not take the interface down.
        socket: OwnedFd,
    },
    /// It has taken an interface down.
    InterfaceDown {
        /// The interface.
        interface: Name,
    },
    /// Whether it reaches the outside by address translation.
    Nat(Nat),
    /// Something in it asks about its project: bytes of a `MeAskWire`, of which nothing is to be believed.
    Asks {
        /// The question.
        bytes: Vec<u8>,
    },
    /// It has ended.
    Exited(Exit),
    /// Its holder is gone without a word about how it ended; it doesn't run any more.
    Lost,
}

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When it had been started, in milliseconds since 1970.
    pub boot_unix_ms: u64,
    /// When it ended, in milliseconds since 1970.
    pub exit_unix_ms: u64,
    /// How its process ended.
    pub end: End,
    /// What its kernel said, if that gave up.
    pub panic: Option<String>,
    /// How it was told to, if it was.
    pub stopped: Option<Stopped>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// How a VM was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked, and did.
    Clean,
    /// It was asked, did not within its time, and was killed.
    LimitPassed,
    /// It was killed at once.
    Now,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            // A guest's memory is a file: when that can't grow, its process gets this.
            Self::Signalled(7) => f.write_str("signal 7 (no room left for the guest's memory?)"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Returns what a holder says of address translation in our words.
pub(super) fn nat_of(wire: NatStateWire) -> Nat {
    match wire {
        NatStateWire::Up => Nat::Up,
        NatStateWire::NoRoute => Nat::NoRoute,
        NatStateWire::NotInstalled => Nat::NotInstalled,
        NatStateWire::Failed => Nat::Failed,
    }
}

impl From<EndWire> for End {
    fn from(wire: EndWire) -> Self {
        match wire {
            EndWire::Exited(status) => Self::Exited(status),
            EndWire::Signalled(signal) => Self::Signalled(signal),
        }
    }
}

impl From<ExitWire> for Exit {
    fn from(wire: ExitWire) -> Self {
        Self {
            boot_unix_ms: wire.boot_unix_ms,
            exit_unix_ms: wire.exit_unix_ms,
            end: wire.end.into(),
            panic: wire.panic,
            stopped: wire.stop.map(|stop| match stop {
                StopWire::Clean => Stopped::Clean,
                StopWire::LimitPassed => Stopped::LimitPassed,
                StopWire::Now => Stopped::Now,
            }),
        }
    }
}

impl From<ReportWire> for BootProgress {
    fn from(wire: ReportWire) -> Self {
        match wire {
            ReportWire::Starting => Self::Booting,
            ReportWire::Ready => Self::Ready,
            ReportWire::SeedFailed { text } => Self::SeedFailed { text },
            ReportWire::StartupFailed { end, log_tail } => Self::StartupFailed { end: end.into(), log_tail },
        }
    }
}
