//! Operators who take VMs over: of owners that are gone, and of others that are not.

use mln_protocol::id::{PublicKey, VmId};
use mln_protocol::node::{Holding, Input, OpId, Operation, Outcome, OwnerHeard};
use mln_protocol::record::{Claim, ClaimBasis};

use crate::fault::Fault;
use crate::lot::Lot;
use crate::world::World;

/// Takeovers have numbers from here on.
const TAKEOVERS_FROM: u64 = 1 << 41;

/// A takeover that somebody has asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    node: usize,
    vm: VmId,
    heard: OwnerHeard,
    since_ms: u64,
}

impl World {
    /// Asks a host for one of the VMs of which it has a copy, and sometimes a second host for the same at once.
    pub(crate) fn somebody_takes_over(&mut self, node: usize, pick: u64) {
        let mut lot = Lot::of(pick, "takeover");
        let Some(machine) = self.hosts[node].answering(self.now_ms) else { return };
        let copied: Vec<VmId> = machine
            .holdings()
            .filter(|(_, holding)| !matches!(holding, Holding::Claimed { .. }))
            .map(|(vm, _)| vm.clone())
            .collect();
        let all = || machine.projects().into_iter().flat_map(|project| machine.vms(project.id));
        let vms = if copied.is_empty() { all().map(|view| view.status.vm).collect() } else { copied };
        if vms.is_empty() {
            return;
        }
        let vm: VmId = vms[lot.index(vms.len())].clone();
        let heard = [OwnerHeard::Refuse, OwnerHeard::Force][lot.index(2)];
        let second = lot.index(self.options.nodes);
        self.tally.faults.add(Fault::Takeover);
        self.take_over(node, vm.clone(), heard);
        if lot.chance(400) && second != node && self.hosts[second].answering(self.now_ms).is_some() {
            self.take_over(second, vm, OwnerHeard::Force);
        }
    }

    /// Asks a host to take over a VM; returns the number of the request.
    pub(crate) fn take_over(&mut self, node: usize, vm: VmId, heard: OwnerHeard) -> OpId {
        let op = self.next_takeover();
        self.takeovers.insert(op, Asked { node, vm: vm.clone(), heard, since_ms: self.now_ms });
        let operation = Operation::TakeOver { vm, owner: heard, author: "people".to_owned() };
        self.input(node, Input::Operate { op, operation });
        op
    }

    /// Returns the number that the next takeover is asked for with.
    pub(crate) fn next_takeover(&self) -> OpId {
        OpId(TAKEOVERS_FROM + self.takeovers.len() as u64)
    }

    /// Counts takeovers that were carried out; false where this was something else.
    pub(crate) fn takeover_done(&mut self, op: OpId, outcome: &Outcome) -> bool {
        let known = self.takeovers.contains_key(&op);
        if known && *outcome == Outcome::Done {
            self.tally.taken_over += 1;
        }
        known
    }

    /// Shows a takeover to the oracle, with the copy that it was made with and whether anybody hears the old owner.
    pub(crate) fn note_takeover(&mut self, node: usize, claim: &Claim) {
        let ClaimBasis::Takeover(takeover) = &claim.basis else { return };
        let by = self.hosts[node].keys.public();
        if let Some(copy) = takeover.copy {
            let there = self.hosts[node].disk.content(&claim.vm).map(|blocks| blocks.root());
            self.oracle.ownership.check_taken_copy(by, &claim.vm, copy, there);
        }
        let asked = self.takeovers.values().filter(|asked| asked.node == node && asked.vm == claim.vm);
        let unforced = asked.clone().all(|asked| asked.heard == OwnerHeard::Refuse);
        let since_ms = asked.map(|asked| asked.since_ms).min();
        let owner: Option<PublicKey> =
            takeover.seen.and_then(|seen| self.oracle.ownership.claimant(&claim.vm, seen));
        let owner = owner.filter(|owner| *owner != by).and_then(|owner| self.index.get(&owner).copied());
        let (Some(owner), Some(since_ms)) = (owner, since_ms.filter(|_| unforced)) else { return };
        if self.network.connected_since(node, owner).is_some_and(|connected| connected < since_ms) {
            let owner = self.hosts[owner].keys.public();
            self.oracle.ownership.check_unasked(by, &claim.vm, owner);
        }
    }
}
