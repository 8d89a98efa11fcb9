//! What a VM decides for itself: the built-in policies `scale`, `proximity` and `queue`, as pure functions.
//!
//! ```text
//! Sight (what there is, and gauges) ─┐
//! Memory (windows, last decision) ───┼─▶ Builtin::decide ─▶ Verdict (a decision and its reason), Memory
//! settings (with defaults) ──────────┘
//! ```
//!
//! A policy is asked every [`Builtin::every_ms`] by whoever runs it. It only wants: whether it may is judged by every
//! host, by what the owner signed. So nothing here knows keys, revisions or the mesh; no clock either, times are
//! data. After a decision a policy waits out its grace, in which it only watches.

mod gauge;
mod memory;
#[cfg(test)]
mod noise_test;
mod outline;
mod proximity;
#[cfg(test)]
mod proximity_test;
mod queue;
#[cfg(test)]
mod queue_test;
mod run;
mod scale;
#[cfg(test)]
mod scale_test;
mod settings;
mod sight;
mod window;

pub use gauge::{GaugeError, Gauges, HISTORY_MAX};
pub use memory::{GAUGES_MAX, Memory};
pub use outline::Outline;
pub use proximity::{Backup, Proximity};
pub use queue::Queue;
pub use run::{Companion, DECIDED_MAX, Granted, Runner, Shared, Told, Turn};
pub use scale::{Ahead, Bounds, Scale, ScaleRule};
pub use settings::LOAD_GAUGE;
pub use sight::{Decided, HostSeen, Machines, Sample, Sight, Tenure};
pub use window::{SAMPLES_MAX, Window};

use crate::id::Name;

/// What a policy wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Stay,
    /// The VM goes to another service host.
    Move {
        /// Which one.
        to: Name,
    },
    /// There are to be so many of a class.
    Scale {
        /// The superclass or enumeration.
        class: Name,
        /// How many there are to be.
        to: u32,
    },
    /// The VM gets one further disk.
    AddVolume,
}

/// A decision and why it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is wanted.
    pub decision: Decision,
    /// Why, with the numbers: a sentence without its full stop.
    pub reason: String,
}

impl Verdict {
    fn stay(reason: String) -> Self {
        Self { decision: Decision::Stay, reason }
    }
}

/// A policy that comes with the program, with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Builtin {
    /// As many of a class as its load needs.
    Scale(Scale),
    /// To where most of the clients are.
    Proximity(Proximity),
    /// To the cloud while many jobs wait.
    Queue(Queue),
}

impl Builtin {
    /// Returns how often the policy is to be asked, in milliseconds.
    pub fn every_ms(&self) -> u64 {
        match self {
            Self::Scale(scale) => scale.every_ms,
            Self::Proximity(proximity) => proximity.every_ms,
            Self::Queue(queue) => queue.every_ms,
        }
    }

    /// Decides by what the VM sees and what the policy remembers; what it remembers from now on comes back.
    ///
    /// In the grace after a decision the answer is [`Decision::Stay`]. Forgetting the memory is safe: the last
    /// decision also stands in `sight`, and windows fill again.
    pub fn decide(&self, sight: &Sight, mut memory: Memory) -> (Verdict, Memory) {
        memory.see(sight, self.window_ms());
        let wanted = match self {
            Self::Scale(scale) => scale.judge(sight, &mut memory),
            Self::Proximity(proximity) => proximity.judge(sight, &memory),
            Self::Queue(queue) => queue.judge(sight, &memory),
        };
        if wanted.decision == Decision::Stay {
            return (wanted, memory);
        }
        if let Some(left_ms) = memory.grace_left_ms(sight, self.grace_ms()) {
            let left_s = left_ms.div_ceil(1000);
            let reason =
                format!("the last decision has {left_s} s left to take effect; then: {}", wanted.reason);
            return (Verdict::stay(reason), memory);
        }
        memory.decided(sight.now_ms);
        (wanted, memory)
    }

    /// Returns how long nothing is decided after a decision, in milliseconds.
    pub fn grace_ms(&self) -> u64 {
        match self {
            Self::Scale(scale) => scale.grace_ms,
            Self::Proximity(proximity) => proximity.grace_ms,
            Self::Queue(queue) => queue.move_ms,
        }
    }

    fn window_ms(&self) -> u64 {
        match self {
            Self::Scale(scale) => scale.window_ms,
            Self::Proximity(proximity) => proximity.window_ms,
            // What waits now is all that counts; a value of the last time will do.
            Self::Queue(queue) => queue.every_ms,
        }
    }
}
