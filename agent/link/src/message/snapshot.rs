//! Snapshots: the disks of a project's VMs at one instant.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

use super::request::ProjectRef;

/// Something about a project's snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which project.
    pub project: ProjectRef,
    /// What.
    pub order: SnapshotOrder,
}

/// What is done about snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotOrder {
    /// Take one of this name.
    Take(#[serde(with = "crate::name")] Name),
    /// List them.
    List,
    /// Give the VMs the disks of this one.
    Restore(#[serde(with = "crate::name")] Name),
    /// Remove this one.
    Remove(#[serde(with = "crate::name")] Name),
}

/// What one host does for a snapshot; asked by the agent that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// Which project.
    pub project: ProjectRef,
    /// The snapshot's name; none where all are meant.
    #[serde(with = "crate::name::option")]
    pub name: Option<Name>,
    /// What to do.
    pub step: SnapshotStep,
    /// All hosts that have a part in it.
    #[serde(with = "crate::name::list")]
    pub hosts: Vec<Name>,
}

/// A step of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SnapshotStep {
    /// Have the guests write all that they have in memory, and hold their file systems still.
    Freeze,
    /// Copy the disks, let the guests go on, and make the copies durable.
    Copy,
    /// The copies are a snapshot from now on.
    Keep,
    /// Forget it, and what was copied for it.
    Drop,
    /// Say whether it is here and whole, and its VMs are down.
    Check,
    /// Give the VMs its disks.
    Restore,
    /// Say what is here.
    List,
    /// Take back what was begun and is no snapshot yet; one that is there stays.
    Undo,
}

/// What a host has of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// The snapshot.
    #[serde(with = "crate::name")]
    pub name: Name,
    /// The host.
    #[serde(with = "crate::name")]
    pub host: Name,
    /// All hosts that have a part in it: without one of them it can't be restored.
    #[serde(with = "crate::name::list")]
    pub hosts: Vec<Name>,
    /// The VMs whose disks are on this host.
    #[serde(with = "crate::name::list")]
    pub vms: Vec<Name>,
    /// What they take on this host's disk, in bytes.
    pub bytes: u64,
    /// When it was taken, by this host's clock, in milliseconds since 1970.
    pub taken_unix_ms: u64,
}
