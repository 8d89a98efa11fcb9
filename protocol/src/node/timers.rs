//! What a node does later.

use std::collections::BTreeMap;

use super::io::OpId;
use crate::id::{Digest, ProjectId, VmId};

/// Something to be done at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Repeat our host's status.
    Status,
    /// Publish a change of our host's status that came too soon after another.
    StatusChange,
    /// Compare records with a peer.
    Sync,
    /// Send what an operation waits for again, go on to its next VM, or give it up.
    Operation(OpId),
    /// Forget a reservation that was not committed.
    Reservation(Digest),
    /// Try a VM's failed step again.
    Retry(VmId),
    /// Ask again for a fragment.
    Fragment(Digest),
    /// Go on with the stop of a project that has hooks.
    Hooks(ProjectId),
    /// Nobody has said whether our VMs are still ours: go on.
    Confirm,
    /// Ask again about VMs that this host may have claimed and forgotten.
    Doubtful,
    /// Go on with a VM that arrives.
    Arrival(VmId),
    /// The host that a VM was stopped for keeps silent.
    Leaving(VmId),
    /// Say again that a VM is released.
    Release(VmId),
    /// See to it that the child of this revision is decided, because one was promised.
    Undecided(Digest),
    /// Look whether the time is over for which the disk of a VM is kept.
    Kept(VmId),
    /// Tell others what the guests here measure.
    Gauges,
}

/// Timers by their due time; each is set at most once.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(u64, Timer), ()>,
    set: BTreeMap<Timer, u64>,
}

impl Timers {
    /// Sets a timer, or moves it.
    pub(super) fn set(&mut self, timer: Timer, due_ms: u64) {
        self.cancel(&timer);
        self.set.insert(timer.clone(), due_ms);
        self.due.insert((due_ms, timer), ());
    }

    /// Moves a timer that is set to an earlier time, unless it is due before that anyway.
    pub(super) fn set_earlier(&mut self, timer: Timer, due_ms: u64) {
        if self.set.get(&timer).is_some_and(|set_ms| *set_ms > due_ms) {
            self.set(timer, due_ms);
        }
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(due_ms) = self.set.remove(timer) {
            self.due.remove(&(due_ms, timer.clone()));
        }
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.set.contains_key(timer)
    }

    /// Returns those that are set.
    #[cfg(feature = "mutants")]
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Timer> {
        self.set.keys()
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first_key_value().map(|((due_ms, _), ())| *due_ms)
    }

    /// Takes the next timer that is due.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next_due()? > now_ms {
            return None;
        }
        let ((_, timer), ()) = self.due.pop_first()?;
        self.set.remove(&timer);
        Some(timer)
    }
}
