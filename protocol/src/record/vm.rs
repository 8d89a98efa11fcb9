//! What a VM is doing.

use std::net::IpAddr;

use super::claim::Epoch;
use crate::id::{Digest, Name, ProjectId, PublicKey, VmId};
use crate::model::{BootOrder, Forward, MemoryMib};

/// What a VM is doing, as its owner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmStatus {
    /// The author's own count of these records.
    pub counter: u64,
    /// Which VM.
    pub vm: VmId,
    /// The epoch of its author's ownership: a request to start or stop it names the one that its author saw.
    pub epoch: Epoch,
    /// Its project.
    pub project: ProjectId,
    /// What it should be doing.
    pub run: RunState,
    /// How often that has changed: a request to change it names the count that its author saw.
    pub run_counter: u64,
    /// Who changed it last.
    pub run_by: PublicKey,
    /// What it is doing.
    pub state: VmState,
    /// How it last ended.
    pub exit: Option<ExitStatus>,
    /// Its memory.
    pub memory: MemoryMib,
    /// When it starts, relative to the others.
    pub boot_order: BootOrder,
    /// The address of its first interface that has one.
    pub address: Option<IpAddr>,
    /// Since when `state` holds, by its host's clock, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// For how long, in milliseconds, its disk had been kept until `since_unix_ms`, as its host has counted; 0 where it
    /// isn't kept.
    pub kept_ms: u64,
    /// The name of its service host.
    pub host: Name,
    /// Whether it reaches the outside by its host's address translation, as of its last start; none where it has
    /// no interface for that, or was never started.
    pub nat: Option<Nat>,
    /// The service host's ports that lead to it.
    pub forwards: Vec<Forward>,
    /// The part of the project whose definition it has; none is the one that it was born with.
    pub part: Option<Digest>,
    /// What became of its startup lines when it was last started.
    pub startup: Startup,
}

/// What became of the lines that a guest runs when it has booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Startup {
    /// Nothing is known to have gone wrong.
    #[default]
    Fine,
    /// They failed: it is up all the same.
    Failed,
}

impl VmStatus {
    /// Returns since when its disk is kept, in milliseconds since 1970, by its host's clock as it was when it said so.
    pub fn kept_since_unix_ms(&self) -> u64 {
        self.since_unix_ms.saturating_sub(self.kept_ms)
    }
}

/// Whether a VM reaches the outside by its host's address translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// It does.
    Up,
    /// Its host has no default route in the network that its agent is in.
    NoRoute,
    /// Its host has no program that does it: passt.
    NotInstalled,
    /// That program has ended, or could not be started.
    Failed,
}

impl Nat {
    /// Returns why it doesn't; none where it does.
    pub fn why_not(self) -> Option<&'static str> {
        match self {
            Self::Up => None,
            Self::NoRoute => Some("the host has no default route"),
            Self::NotInstalled => Some("passt is not installed there; try: apt-get install passt"),
            Self::Failed => Some("passt has ended; see holder.log in the VM's folder"),
        }
    }
}

/// What a VM should be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Run.
    Up,
    /// Not run.
    Down,
}

/// What a VM is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Its disk is being made.
    Building,
    /// Built, not running.
    Down,
    /// Its process runs, its guest is not ready.
    Booting,
    /// Its guest has said that it is ready.
    Up,
    /// On its way down.
    Stopping,
    /// Its disk is gone, as was asked for.
    Removed,
    /// A step failed; the VM stays as it was before that step.
    Failed {
        /// What failed and why, for people.
        reason: String,
    },
    /// Its project leaves it out. Its disk is kept for a while, and it comes back with that if it is wanted again.
    Kept,
}

/// How a VM's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitStatus {
    /// By itself, with this status.
    Code(i32),
    /// By this signal: a panic ends a User-Mode Linux by signal 6.
    Signal(i32),
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
