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
