//! For whoever goes through all states of a node: its timers one by one, and a sum of what it is in.
//!
//! Only builds with the feature `mutants` have this.

use std::fmt::Write;

use super::Node;
use super::io::OpId;
use super::propose::{Goal, Phase};
use super::timers::Timer;
use crate::id::Digest;
use crate::time::Now;

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetTimer(Timer);

impl SetTimer {
    /// Whether it only has the host say again how it is, or compare what it knows: nothing is decided by that.
    pub fn is_upkeep(&self) -> bool {
        matches!(self.0, Timer::Status | Timer::StatusChange | Timer::Sync | Timer::Gauges)
    }

    /// Whether what this host keeps ready for somebody lapses by it.
    pub fn is_lapse(&self) -> bool {
        matches!(self.0, Timer::Reservation(_))
    }

    /// Whether it is for what has been amiss for long, where others repeat or go on.
    pub fn is_last_resort(&self) -> bool {
        matches!(self.0, Timer::Leaving(_) | Timer::Undecided(_) | Timer::Reservation(_))
    }
}

/// A change that a host coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Who waits for the end of it.
    pub op: OpId,
    /// The revision that it follows; none for a build.
    pub parent: Option<Digest>,
    /// What it makes of that.
    pub child: Digest,
    /// Whether a VM has asked for it.
    pub is_guests: bool,
    /// Whether it removes the project.
    pub removes: bool,
    /// How far it is.
    pub stage: ProposedStage,
}

/// How far a change is that a host coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProposedStage {
    /// Hosts are asked.
    Asking,
    /// Hosts are to promise it.
    Promising,
    /// It is decided, and carried out.
    Decided,
}

/// Takes in text, and keeps its digest only.
struct Sum(blake3::Hasher);

impl Write for Sum {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Node {
    /// Returns the number of this run of the agent, which every peer is told.
    pub fn run_number(&self) -> u64 {
        self.own_runs.instance
    }

    /// Returns the changes that this node coordinates.
    pub fn proposed(&self) -> impl Iterator<Item = Proposed> {
        self.proposals.by_op.iter().map(|(&op, proposal)| Proposed {
            op,
            parent: proposal.draft.revision.parent,
            child: proposal.draft.digest,
            removes: proposal.draft.revision.hosts.is_empty(),
            is_guests: matches!(proposal.goal, Goal::Guest(_)),
            stage: match proposal.phase {
                Phase::Asking => ProposedStage::Asking,
                Phase::Promising => ProposedStage::Promising,
                Phase::Watching(..) => ProposedStage::Decided,
            },
        })
    }

    /// Returns the timers that are set, whenever they are due.
    pub fn timers(&self) -> impl Iterator<Item = SetTimer> {
        self.timers.kinds().cloned().map(SetTimer)
    }

    /// Lets one timer fire now, as if its time had come: clocks may be fast. False where it isn't set.
    pub fn fire(&mut self, now: Now, timer: &SetTimer) -> bool {
        if !self.timers.is_set(&timer.0) {
            return false;
        }
        self.timers.cancel(&timer.0);
        self.timeout(now, timer.0.clone());
        self.outbox.close(self.write_order());
        true
    }

    /// Returns a digest of all that the node's further answers depend on, but for lots and for when timers are due.
    ///
    /// What two nodes with equal sums do differs by pauses only.
    pub fn state_sum(&self) -> Digest {
        let mut sum = Sum(blake3::Hasher::new());
        let timers: Vec<&Timer> = self.timers.kinds().collect();
        let fragments: Vec<&Digest> = self.fragments.keys().collect();
        let told = (&self.records, &self.projects, fragments, &self.ledger, &self.connected, &self.joined);
        let word = (&self.reservations, &self.decisions, &self.recoveries, &self.proposals, &self.runs);
        let owned = (&self.vms, &self.hooks, &self.holdings, &self.hand_overs, &self.takeovers);
        let inside = (&self.guests, &self.gauges);
        let rest = (&self.status, self.room, timers, &self.own_runs, &self.principals, &self.catching_up);
        write!(sum, "{told:?}{word:?}{owned:?}{inside:?}{rest:?}{:?}", self.outbox.state())
            .expect("a digest takes all");
        Digest(*sum.0.finalize().as_bytes())
    }
}
