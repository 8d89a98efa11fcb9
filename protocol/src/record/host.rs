//! What a member says of itself.

use crate::id::Name;
use crate::model::{MemoryMib, Platform};
use crate::trust::Signed;

/// Somebody belongs to the mesh, by the chain of grants inside. Its expiry was judged by whoever let it join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The author's own count of these records.
    pub counter: u64,
    /// Its name, as the last grant gives it.
    pub name: Name,
    /// The grants, root first.
    pub chain: Vec<Signed>,
}

/// What a host carries and has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    /// The author's own count of these records.
    pub counter: u64,
    /// The groups that it counts itself to.
    pub groups: Vec<Name>,
    /// The platforms that work on it.
    pub platforms: Vec<Platform>,
    /// How many projects have a VM here.
    pub projects: u32,
    /// How many VMs are defined here, running or not.
    pub vms: u32,
    /// The memory of the VMs that are defined here.
    pub memory_used: MemoryMib,
    /// The memory that VMs may have here in all.
    pub memory_limit: MemoryMib,
    /// The version of its agent.
    pub agent_version: String,
    /// When this was so, by its own clock, in milliseconds since 1970.
    pub measured_unix_ms: u64,
}
