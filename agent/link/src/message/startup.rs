//! Which VMs are up, and their startup lines failed.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// A VM whose startup lines failed when it was last started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartupRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Which VM.
    #[serde(with = "crate::name")]
    pub vm: Name,
}
