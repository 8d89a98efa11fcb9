//! S6 and L2: nobody makes a host do without end, and a host that is alone still does its own.

use mln_protocol::node::{Node, Outcome, Rule, limits};
use mln_protocol::record::{Record, VerifiedRecord};

use crate::check::Oracle;
use crate::host::{Honesty, Host};
use crate::world::World;

/// What one input may make a host do at most: some for each host that it knows, and a few more.
const OUTPUTS_PER_HOST_MAX: usize = 40;
const OUTPUTS_MAX: usize = 600;

/// How many records there may be for each host of the world: its own two, those of its VMs, its projects', and what
/// liars invent.
const RECORDS_PER_HOST_MAX: usize = 400;

impl Oracle {
    /// S6: what follows from one input is bounded, and so is what a host keeps.
    pub(crate) fn check_outputs(&mut self, host: &Host, outputs: usize, hosts: usize) {
        if outputs > OUTPUTS_MAX + OUTPUTS_PER_HOST_MAX * hosts {
            self.broken(format!("S6: one input made {} do {outputs} things", host.name));
        }
        let Some(node) = &host.node else { return };
        let records = node.record_sum().0;
        if records > RECORDS_PER_HOST_MAX * hosts && host.honesty == Honesty::Honest {
            self.broken(format!("S6: {} holds {records} records of {hosts} hosts", host.name));
        }
    }

    /// S6: what a host has said yes to and doesn't know the end of is bounded, on its disk as well.
    pub(crate) fn check_words(&mut self, host: &Host) {
        if host.disk.reservations().len() > limits::RESERVATIONS_MAX + limits::LAPSED_MAX {
            self.broken(format!("S6: {} remembers more than it may have said yes to", host.name));
        }
    }

    /// L2: what a host that is alone was asked for is done; where guests and platforms fail by lot, at least answered.
    pub(crate) fn check_alone(&mut self, host: &Host, outcome: &Outcome, can_fail: bool) {
        let done = match outcome {
            Outcome::Done => true,
            Outcome::Failed(_) => can_fail,
            Outcome::Refused(refusals) => {
                let forgotten = refusals.iter().all(|refused| refused.refusal.rule == Rule::Forgotten);
                // "Seeing its own key with a counter that it never signed it signs and starts nothing until told otherwise":
                // so it is with a liar's own agent, which hears what was signed beside it.
                let lied = host.honesty == Honesty::Hostile;
                forgotten && (lied || self.has_lost_state(host.keys.public()))
            }
        };
        if !done {
            self.broken(format!("L2: {}, alone, does not do as it is told: {outcome:?}", host.name));
        }
    }
}

impl World {
    /// S5: a host has memory for what it owns; where it says that it has none, it has promised too much.
    pub(crate) fn check_room(&mut self, node: usize, record: &VerifiedRecord) {
        let Record::Vm(status) = &***record else { return };
        let host = &self.hosts[node];
        if host.node.as_ref().is_some_and(|machine: &Node| machine.lacks_room(&status.vm)) {
            self.oracle.check_promise(&host.name, host.keys.public(), &status.vm);
        }
    }
}
