//! How fast disks may leave their hosts, for one change.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

use super::request::ProjectRef;

/// Lets the disks of some VMs leave their hosts no faster than so, until they have moved; the hosts' own limits hold besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Which project.
    pub project: ProjectRef,
    /// Which of its VMs.
    #[serde(with = "crate::name::list")]
    pub vms: Vec<Name>,
    /// Bits per second; none takes back what was said before.
    pub bits_per_s: Option<u64>,
}
