//! VMs that their project leaves out, whose disks are kept for a while.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// For how long disks of VMs that are left out are kept where nobody says otherwise, in milliseconds: a week.
pub const KEEP_REMOVED_MS: u64 = 7 * 86_400_000;

/// A VM that its project leaves out, whose disk is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Its name.
    #[serde(with = "crate::name")]
    pub vm: Name,
    /// The service host that has the disk.
    #[serde(with = "crate::name")]
    pub host: Name,
    /// For how long it has been kept, in milliseconds.
    pub age_ms: u64,
    /// For how long it is kept from now on, in milliseconds.
    pub left_ms: u64,
}
