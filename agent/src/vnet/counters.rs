//! What went over a link and what was dropped.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{LinkName, SwitchKey};

/// A link's counters, written by its switch alone and read by anybody.
#[derive(Debug, Default)]
pub(super) struct LinkCounters {
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    dropped_full: AtomicU64,
    dropped_malformed: AtomicU64,
    dropped_impaired: AtomicU64,
}

/// What went over a link since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames from the guest or the other host.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames to it.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames to it that were dropped because it is behind.
    pub dropped_full: u64,
    /// Frames from it that were too short or too long to be any.
    pub dropped_malformed: u64,
    /// Frames from it that were lost, or too many for its rate, as its project wants it.
    pub dropped_impaired: u64,
}

/// A link of a switch and its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The switch.
    pub switch: SwitchKey,
    /// Which link.
    pub link: LinkName,
    /// What it has carried.
    pub counts: Counts,
}

/// Only the switch's task writes, so that a load and a store are enough; an atomic addition would be a locked
/// instruction for every frame.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl LinkCounters {
    pub(super) fn received(&self, bytes: usize) {
        add(&self.received_frames, 1);
        add(&self.received_bytes, bytes as u64);
    }

    pub(super) fn sent(&self, bytes: usize) {
        add(&self.sent_frames, 1);
        add(&self.sent_bytes, bytes as u64);
    }

    pub(super) fn dropped_full(&self) {
        add(&self.dropped_full, 1);
    }

    pub(super) fn dropped_malformed(&self) {
        add(&self.dropped_malformed, 1);
    }

    pub(super) fn dropped_impaired(&self) {
        add(&self.dropped_impaired, 1);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            received_frames: read(&self.received_frames),
            received_bytes: read(&self.received_bytes),
            sent_frames: read(&self.sent_frames),
            sent_bytes: read(&self.sent_bytes),
            dropped_full: read(&self.dropped_full),
            dropped_malformed: read(&self.dropped_malformed),
            dropped_impaired: read(&self.dropped_impaired),
        }
    }
}
