//! Drives go from one host to another: what differs, and nothing else.
//!
//! ```text
//!   new owner                               owner
//!   what do I have? (root) ── ask ────────► what were the blocks of that root?
//!                                            known:   compares by itself
//!   ◄─ compare, from coarse to fine ────────  unknown: asks for digests where they differ
//!   ◄─ batches of blocks, packed ───────────
//!   ◄─ the region's digest ─────────────────  for each region that differs
//!   ◄─ the root digest ─────────────────────
//! ```
//! [`send`] and [`receive`] are both ends without a mesh: frames in, frames out. [`serve`] and [`pull`] put them on a
//! stream. Nothing is believed: each region must have the digest that was said, and all of it the root digest; whether
//! that is what lies on the disk is found out once more when it is read back.
//!
//! What was written before a cut stays, and what the copy then is, is noted; after a crash it is hashed from the disk. So a
//! transfer goes on where it was, from whatever moment.

mod limits;
mod pace;
mod pull;
pub(crate) mod receive;
pub(crate) mod send;
mod serve;
#[cfg(test)]
mod transfer_test;
mod works;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mln_protocol::id::{Label, VmId};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

pub(crate) use pull::{Arrival, PullError};
pub(crate) use works::{Turn, Works};

use crate::image::exchange::Exchange;
use crate::mesh::MeshHandle;
use crate::platform::Platform;
use pace::Pace;

/// The drives of this host's VMs, for other hosts, and theirs for this one; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mesh: MeshHandle,
    platform: Arc<dyn Platform>,
    exchange: Exchange,
    pace: Pace,
    /// What was said of single VMs, until they have moved: no more than this host has.
    limits: Mutex<BTreeMap<VmId, Arc<Pace>>>,
    serving: Arc<Semaphore>,
    /// The transfers to this host that are under way.
    pulls: Mutex<BTreeMap<VmId, AbortHandle>>,
}

/// How far a transfer is.
#[derive(Debug, Clone)]
pub(crate) struct Moving {
    /// The VM.
    pub(crate) vm: VmId,
    /// Its project.
    pub(crate) label: Label,
    /// Bytes that have come over the network.
    pub(crate) received: u64,
    /// What there was to come, as far as that is known: what has changed is not, before it has been looked for.
    pub(crate) expected: Option<u64>,
    /// Bytes in a second, on average.
    pub(crate) bytes_per_s: u64,
}

impl std::fmt::Display for Moving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "{:.1} MiB of its disk", mib(self.received))?;
        write!(f, ", {:.1} MiB/s", mib(self.bytes_per_s))?;
        if let Some(left) = self.expected.and_then(|all| all.checked_sub(self.received))
            && self.bytes_per_s > 0
        {
            write!(f, ", at most {} s left", left.div_ceil(self.bytes_per_s))?;
        }
        Ok(())
    }
}

impl Transfers {
    /// Makes the transfers of a host. With a limit, no more than so many bits leave it in a second.
    pub(crate) fn new(
        mesh: MeshHandle,
        platform: Arc<dyn Platform>,
        exchange: Exchange,
        bits_per_s: Option<u64>,
    ) -> Self {
        let (pace, serving) = (Pace::new(bits_per_s), Arc::new(Semaphore::new(limits::SERVED_MAX)));
        let (pulls, limits) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { mesh, platform, exchange, pace, limits, serving, pulls }) }
    }

    /// Lets the drives of a VM of this host leave it no faster than so, besides the limit of the host; none takes it back.
    pub(crate) fn limit(&self, vm: &VmId, bits_per_s: Option<u64>) {
        let mut limits = self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match bits_per_s {
            Some(_) => drop(limits.insert(vm.clone(), Arc::new(Pace::new(bits_per_s)))),
            None => drop(limits.remove(vm)),
        }
    }

    /// Returns what was said of the drives of a VM.
    fn limit_of(&self, vm: &VmId) -> Option<Arc<Pace>> {
        let limits = self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get(vm).cloned()
    }

    /// Ends a transfer to this host, if one is under way; what came of it stays.
    pub(crate) fn give_up(&self, vm: &VmId) {
        let mut pulls = self.shared.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pull) = pulls.remove(vm) {
            pull.abort();
        }
    }

    /// Notes the task that brings a VM's drives here, so that it can be ended.
    pub(crate) fn note(&self, vm: &VmId, task: AbortHandle) {
        let mut pulls = self.shared.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, pull| !pull.is_finished());
        pulls.insert(vm.clone(), task);
    }
}
