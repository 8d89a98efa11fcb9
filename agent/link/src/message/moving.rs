//! Emptying a host, and taking over a VM whose owner is gone.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

use super::request::VmRef;

/// Where the VMs of a host could go, or which have gone and could come back. Nothing is changed by asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evacuate {
    /// The service host.
    #[serde(with = "crate::name")]
    pub host: Name,
    /// Away from it, or back.
    pub direction: Evacuation,
}

/// Which way VMs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evacuation {
    /// To other hosts.
    Away,
    /// What an evacuation has moved, back to where it was.
    Back,
}

/// A VM that could be moved when a host is to be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuationRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Which VM.
    #[serde(with = "crate::name")]
    pub vm: Name,
    /// Where it is.
    #[serde(with = "crate::name")]
    pub from: Name,
    /// Where it could go.
    #[serde(with = "crate::name")]
    pub to: Name,
    /// The revision of its project to go back to, by its digest, where that alone brings it back.
    pub back_to: Option<String>,
}

/// Where the VMs of a host could go, once hosts have said no to some of them. Nothing is changed by asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuateBut {
    /// The service host that is to be empty.
    #[serde(with = "crate::name")]
    pub host: Name,
    /// Who has said no to what.
    pub refused: Vec<EvacuationRefused>,
}

/// A host that doesn't take what of a project another host is to be rid of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EvacuationRefused {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// The host that said no.
    #[serde(with = "crate::name")]
    pub by: Name,
}

/// What a host has left for VMs, by its own word at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The memory that it would still promise, in MiB.
    pub memory_mib: u32,
}

/// Take over a VM whose owner is gone, with a copy of its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// Which VM.
    pub vm: VmRef,
    /// What is done where somebody has just heard its owner.
    pub owner_heard: OwnerHeard,
}

/// What a takeover does where somebody has just heard the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnerHeard {
    /// It is refused.
    Refuse,
    /// It takes over all the same.
    Force,
}
