//! What a policy remembers from one time that it is asked to the next.

use std::collections::BTreeMap;

use super::{Sight, Window};
use crate::id::Name;

/// How many gauges are remembered; those first by name.
pub const GAUGES_MAX: usize = 64;

/// What a policy remembers: a value that goes in and comes out. Empty at the beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The last values of each gauge.
    gauges: BTreeMap<Name, Window>,
    /// What `scale` took the load to be, as long as it holds servers for it.
    pub(super) demands: Window,
    /// When something was decided last.
    decided_ms: Option<u64>,
}

impl Memory {
    /// Adds what gauges have told since, and forgets what is older than the window.
    pub(super) fn see(&mut self, sight: &Sight, window_ms: u64) {
        for (name, samples) in sight.gauges.iter().take(GAUGES_MAX) {
            let window = self.gauges.entry(name.clone()).or_default();
            samples
                .iter()
                .filter(|sample| sample.at_ms <= sight.now_ms)
                .for_each(|sample| window.push(*sample));
        }
        self.gauges.retain(|_, window| {
            window.keep_last(sight.now_ms, window_ms);
            window.newest().is_some()
        });
        while self.gauges.len() > GAUGES_MAX {
            self.gauges.pop_last();
        }
    }

    pub(super) fn gauge(&self, name: &Name) -> Option<&Window> {
        self.gauges.get(name)
    }

    pub(super) fn gauges(&self) -> impl Iterator<Item = (&Name, &Window)> {
        self.gauges.iter()
    }

    /// Returns how much is left of the grace after the last decision; none where it is over.
    pub(super) fn grace_left_ms(&self, sight: &Sight, grace_ms: u64) -> Option<u64> {
        let seen_ms = sight.decided.iter().map(|decided| decided.at_ms).max();
        let over_ms = self.decided_ms.max(seen_ms)?.saturating_add(grace_ms);
        over_ms.checked_sub(sight.now_ms).filter(|left_ms| *left_ms > 0)
    }

    pub(super) fn decided(&mut self, now_ms: u64) {
        self.decided_ms = Some(now_ms);
    }
}
