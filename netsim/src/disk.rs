//! A simulated host's disk: what is durable, what is not yet, and the VMs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mln_protocol::id::{Digest, ProjectId, PublicKey, VmId};
use mln_protocol::model::{Fragment, Vm};
use mln_protocol::node::{DecisionNote, Holding, ReservationNote, StoredState, Write};
use mln_protocol::plan::Observed;
use mln_protocol::record::{Epoch, Link, LinkKind, Record, RecordKey, VerifiedRecord};

use crate::blocks::{Blocks, Copy};

/// What survives a crash of the agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    records: BTreeMap<RecordKey, VerifiedRecord>,
    fragments: BTreeMap<Digest, Arc<Fragment>>,
    decisions: BTreeMap<Digest, DecisionNote>,
    holdings: BTreeMap<VmId, Holding>,
    joined: BTreeSet<ProjectId>,
    reservations: BTreeMap<Digest, ReservationNote>,
    /// Copies of disks that no VM runs on: on their way here, or left behind.
    pub(crate) copies: BTreeMap<VmId, Copy>,
    /// The VMs, which run on while the agent is down.
    pub(crate) vms: BTreeMap<VmId, SimulatedVm>,
    /// What all hosts have known for long, where a mesh is measured. No further records are kept there: nobody will
    /// read this disk again, and of ten thousand there is no room for them.
    shared: Option<Arc<[VerifiedRecord]>>,
}

/// A VM on a host.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedVm {
    pub(crate) observed: Observed,
    pub(crate) memory_mib: u32,
    /// How often it was started: tells a guest's late events from those of its next run.
    pub(crate) starts: u64,
    /// What is on its disk.
    pub(crate) content: Blocks,
    /// What its guest is, as far as it runs: what it was started as, or was given since.
    pub(crate) guest: Option<Box<Vm>>,
}

impl Disk {
    /// A disk with these records, which others have as well.
    pub(crate) fn sharing(records: Arc<[VerifiedRecord]>) -> Self {
        Self { shared: Some(records), ..Self::default() }
    }

    /// Returns the records that only this disk has.
    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = &VerifiedRecord> {
        self.records.values()
    }

    pub(crate) fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Record(key, record) | Write::Heard(key, record) => {
                    if self.shared.is_none() {
                        self.records.insert(key, record);
                    }
                }
                Write::Join(project) => {
                    self.joined.insert(project);
                }
                Write::Fragment(digest, fragment) => {
                    self.fragments.insert(digest, fragment);
                }
                Write::DropFragment(digest) => {
                    self.fragments.remove(&digest);
                }
                Write::Decision(note) => {
                    self.decisions.insert(note.parent, *note);
                }
                Write::DropDecision(parent) => {
                    self.decisions.remove(&parent);
                }
                Write::Holding(vm, holding) => {
                    self.holdings.insert(vm, holding);
                }
                Write::DropHolding(vm) => {
                    self.holdings.remove(&vm);
                }
                Write::Reservation(note) => {
                    self.reservations.insert(note.revision, *note);
                }
                Write::DropReservation(revision) => {
                    self.reservations.remove(&revision);
                }
            }
        }
    }

    /// Returns all of it, as a backup of the machine has it.
    pub(crate) fn copy(&self) -> Self {
        self.clone()
    }

    /// Returns what the agent keeps, without the VMs.
    pub(crate) fn database(&self) -> Self {
        Self { vms: BTreeMap::new(), copies: BTreeMap::new(), ..self.clone() }
    }

    /// Loses what the journals of projects hold: all that was signed about them, and what was heard with it.
    pub(crate) fn forget_journals(&mut self, own: PublicKey) {
        self.joined.clear();
        self.decisions.clear();
        self.holdings.clear();
        self.fragments.clear();
        self.records.retain(|key, _| *key == RecordKey::Member(own) || *key == RecordKey::Host(own));
    }

    pub(crate) fn record(&self, key: &RecordKey) -> Option<&VerifiedRecord> {
        let shared = self.shared.as_deref().unwrap_or_default();
        let shared = || {
            shared.binary_search_by_key(key, |record| record.key(record.author())).ok().map(|at| &shared[at])
        };
        self.records.get(key).or_else(shared)
    }

    /// Whether a note on this disk holds this very record: its author has signed it before.
    pub(crate) fn is_noted(&self, record: &VerifiedRecord) -> bool {
        self.holdings.values().any(|holding| holding.link() == Some(record))
    }

    /// Returns all that is kept of who owns a VM.
    pub(crate) fn links(&self, vm: &VmId) -> impl Iterator<Item = &VerifiedRecord> {
        let first = RecordKey::Link(vm.clone(), Epoch { term: 0, n: 0 }, LinkKind::Claim, PublicKey([0; 32]));
        let of_it = move |(key, _): &(&RecordKey, &VerifiedRecord)| matches!(key, RecordKey::Link(other, ..) if other == vm);
        self.records.range(first..).take_while(of_it).map(|(_, record)| record)
    }

    pub(crate) fn load(&self) -> StoredState {
        StoredState {
            records: self
                .records
                .values()
                .chain(self.shared.iter().flat_map(|all| all.iter()))
                .cloned()
                .collect(),
            fragments: self.fragments.iter().map(|(digest, fragment)| (*digest, fragment.clone())).collect(),
            decisions: self.decisions.values().cloned().collect(),
            holdings: self.holdings.iter().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
            joined: self.joined.clone(),
            reservations: self.reservations.values().cloned().collect(),
        }
    }

    pub(crate) fn found(&self) -> Vec<(VmId, Observed)> {
        let vms = self.vms.iter().map(|(id, vm)| (id.clone(), vm.observed.clone()));
        let copies = self.copies.keys().map(|id| (id.clone(), Observed::Down { exit: None }));
        vms.chain(copies).collect()
    }

    /// Returns the projects that a host has a journal of.
    pub(crate) fn joined(&self) -> impl Iterator<Item = ProjectId> {
        self.joined.iter().copied()
    }

    /// Returns what a host has reserved for.
    pub(crate) fn reservations(&self) -> impl ExactSizeIterator<Item = &ReservationNote> {
        self.reservations.values()
    }

    /// Returns a host's note of a VM.
    pub(crate) fn holding(&self, vm: &VmId) -> Option<&Holding> {
        self.holdings.get(vm)
    }

    /// Returns to whom the host notes that it has released a VM, and in which epoch.
    pub(crate) fn released_to(&self, vm: &VmId) -> Option<(PublicKey, Epoch)> {
        let Some(Holding::Released { release, .. }) = self.holding(vm) else { return None };
        match &***release {
            Record::Link(Link::Release(release)) => Some((release.to, release.epoch)),
            _ => None,
        }
    }

    /// Whether the host has reserved for a revision of which it doesn't know whether it counts.
    pub(crate) fn awaits_decision(&self) -> bool {
        self.decisions.values().any(|note| !note.reserved.is_empty())
    }

    /// Returns what is on a VM's disk, or on the copy of it.
    pub(crate) fn content(&self, vm: &VmId) -> Option<Blocks> {
        self.vms.get(vm).map(|vm| vm.content).or_else(|| self.copies.get(vm).map(Copy::blocks))
    }

    /// Returns the number on a disk whose blocks all have the same: nothing tells them apart where every world is gone through.
    pub(crate) fn number(&self, vm: &VmId) -> Option<u64> {
        self.content(vm).map(|blocks| blocks.number())
    }

    /// Makes a copy the disk of a VM again, since it is about to do something.
    pub(crate) fn take_up(&mut self, vm: &VmId, memory_mib: u32) {
        if self.vms.contains_key(vm) {
            return;
        }
        if let Some(copy) = self.copies.remove(vm) {
            let content = copy.blocks();
            let observed = Observed::Down { exit: None };
            self.vms
                .insert(vm.clone(), SimulatedVm { observed, memory_mib, starts: 0, content, guest: None });
        }
    }

    /// Makes a VM's disk a copy.
    pub(crate) fn shelve(&mut self, vm: &VmId) {
        if let Some(vm_here) = self.vms.remove(vm) {
            self.copies.insert(vm.clone(), Copy::shelved(vm_here.content));
        }
    }

    pub(crate) fn memory_mib(&self) -> u32 {
        self.vms.values().map(|vm| vm.memory_mib).sum()
    }
}
