//! Which VMs this host has to do with, and how it begins and ceases to own one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Node;
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::model::Blob;
use crate::model::Fragment;
use crate::node::io::Holding;
use crate::node::message::{Refusal, Rule};
use crate::node::ownership::Right;
use crate::node::projects::Fate;
use crate::node::timers::Timer;
use crate::plan::{Existence, Observed};
use crate::record::{Commit, Epoch, Record, ReleasedDisk, RunState, VmState, VmStatus};
use crate::time::Now;

impl Node {
    /// Returns how a VM of ours stands where that can't be said to others yet: what they last heard is from before.
    pub(in crate::node) fn status_here(&self, vm: &VmId) -> Option<&VmStatus> {
        let silent = !self.may_sign() && self.speaks_for(vm);
        self.vms.owned.get(vm).filter(|_| silent).map(|owned| &owned.status)
    }

    /// Returns what this host would say of a VM that it has.
    pub(in crate::node) fn own_status(&self, vm: &VmId) -> Option<&VmStatus> {
        self.vms.owned.get(vm).map(|owned| &owned.status)
    }

    /// Whether a VM is this host's own for all that others have heard, and it has no note of that: its journal is lost,
    /// or was put back to what it was before. It shows what it finds, and stops it when it is told to.
    pub(in crate::node) fn is_unremembered(&self, vm: &VmId) -> bool {
        self.holdings.get(vm).is_none() && self.speaks_for(vm) && self.vms.owned.contains_key(vm)
    }

    /// Says why such a VM is not started.
    pub(in crate::node) fn unremembered(&self, vm: &VmId) -> Refusal {
        let detail = format!(
            "{}: this host has lost its notes about it, and starts nothing that somebody else may run by now: put a copy of \
             its journal back, or where the disk that is here is to be kept: mlnctl takeover",
            vm.name
        );
        Refusal { rule: Rule::Forgotten, detail }
    }

    /// Returns the VMs of a project that this host has to do with, whether they are to exist, and the digest of the
    /// part that defines them.
    pub(super) fn due_here(&self, project: ProjectId) -> Vec<(VmId, Existence, Digest)> {
        let mut due = Vec::new();
        for vm in self.concerned_with(project) {
            let known = self.records.vm(&vm, self.me);
            let owned = self.vms.owned.contains_key(&vm);
            let held = self.has_taken(&vm) || self.speaks_for(&vm);
            let removed = known.is_some_and(|status| status.state == VmState::Removed);
            let gone = removed && !owned && !self.has_taken(&vm);
            let Some(fate) = self.projects.fate(&vm).filter(|_| !gone) else { continue };
            let here = fate == Fate::Placed && !self.is_to_leave(&vm);
            if !held && !here && !self.may_claim_birth(&vm) {
                continue;
            }
            let existence = match fate {
                Fate::Placed | Fate::Kept => Existence::Wanted,
                // What isn't there yet is not made for a head that has lost.
                Fate::Stranded if known.is_none() && !self.vms.found.contains_key(&vm) => continue,
                Fate::Stranded => Existence::Wanted,
                Fate::Removed => Existence::Unwanted,
            };
            let noted = self.holdings.get(&vm).and_then(Holding::fragment);
            let born = || self.projects.birthplace(&vm).map(|host| host.fragment);
            let Some(part) = self.part_here(project, &vm).or(noted).or_else(born) else { continue };
            due.push((vm, existence, part));
        }
        due
    }

    /// Returns the VMs of a project that were born here, that this host has a note of, or that the head places here.
    fn concerned_with(&self, project: ProjectId) -> BTreeSet<VmId> {
        let mut vms = BTreeSet::new();
        for birth in self.projects.births(project) {
            let born = self.projects.commit(birth).and_then(|commit| commit.host(self.me));
            vms.extend(born.into_iter().flat_map(|part| part.ids(birth)).filter(|vm| vm.birth == birth));
        }
        let head = self.projects.head(project);
        let placed = head.and_then(|head| Some(head.host(self.me)?.ids(head.digest)));
        vms.extend(placed.into_iter().flatten());
        let noted = self.holdings.iter().map(|(vm, _)| vm);
        vms.extend(noted.filter(|vm| self.projects.project_of(vm) == Some(project)).cloned());
        vms
    }

    /// Whether the head places a VM on another host.
    pub(super) fn is_to_leave(&self, vm: &VmId) -> bool {
        self.projects.placement(vm).is_some_and(|host| host.key != self.me)
    }

    /// Whether this host has claimed a VM, and has not seen anybody claim it after it was released.
    pub(super) fn has_taken(&self, vm: &VmId) -> bool {
        matches!(self.holdings.get(vm), Some(Holding::Claimed { .. } | Holding::Released { .. }))
    }

    /// Returns the digest of the newest part of this host that has a VM.
    pub(super) fn part_here(&self, project: ProjectId, vm: &VmId) -> Option<Digest> {
        let path = self.projects.heads_of(project)?.path().rev();
        path.filter_map(|revision| self.projects.commit(*revision)).find_map(|commit| {
            let part = commit.host(self.me)?;
            part.ids(commit.digest).any(|here| here == *vm).then_some(part.fragment)
        })
    }

    /// Returns the digests of the parts that define VMs which this host has to do with.
    pub(in crate::node) fn parts_here(&self) -> BTreeSet<Digest> {
        let projects = self.projects.heads().map(|(project, _)| project);
        projects.flat_map(|project| self.due_here(project)).map(|(_, _, part)| part).collect()
    }

    /// Whether a part says which disk a VM came with that this host has to do with.
    pub(in crate::node) fn brings_disks(&self, digest: Digest) -> bool {
        let part = self.fragments.get(&digest);
        let is_born_by_it = |vm: &VmId| {
            let born = self.projects.birthplace(vm);
            born.is_some_and(|host| (host.key, host.fragment) == (self.me, digest))
        };
        part.is_some_and(|part| part.blobs.iter().any(Blob::is_disk))
            && self
                .projects
                .heads()
                .any(|(project, _)| self.due_here(project).iter().any(|(vm, ..)| is_born_by_it(vm)))
    }

    pub(super) fn own_epoch(&self, id: &VmId) -> Option<Epoch> {
        match self.holdings.get(id)? {
            Holding::Claimed { claim: link, .. } | Holding::Released { release: link, .. } => {
                match &***link {
                    Record::Link(link) => Some(link.epoch()),
                    Record::Member(_)
                    | Record::Host(_)
                    | Record::Commit(_)
                    | Record::Vm(_)
                    | Record::Grant(_)
                    | Record::Revocation(_)
                    | Record::Gauges(_)
                    | Record::Later(_) => None,
                }
            }
            Holding::Arriving { .. }
            | Holding::Arrived { .. }
            | Holding::Declined { .. }
            | Holding::Shadow { .. } => None,
        }
    }

    /// Holds a VM still that others claim too, says why, or lets it go on.
    pub(in crate::node) fn suspend_or_go_on(&mut self, now: Now, id: &VmId) {
        let epoch = self.own_epoch(id);
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        if let Some(epoch) = epoch {
            vm.status.epoch = epoch;
        }
        match self.right(id) {
            Right::Own(_) => {
                self.settle(now, id);
                self.publish_vm(now, id);
            }
            Right::Suspended { reason } => self.set_state(now, id, VmState::Failed { reason }),
            Right::Unconfirmed | Right::None => {}
        }
        self.reconcile_after(now, id);
    }

    /// Takes up a VM that was released to this host and that it has claimed.
    pub(in crate::node) fn take_over_from(
        &mut self,
        now: Now,
        id: &VmId,
        fragment: &Arc<Fragment>,
        release: &crate::record::Release,
    ) {
        let made = release.disk != ReleasedDisk::NeverBuilt;
        let run = Some((release.run, release.run_counter, release.run_by));
        self.begin_owning(now, id, fragment, made, run);
    }

    /// Whether a VM has come, or come back, by what another VM of its project has decided: it is there to run, and nobody is
    /// asked to start it.
    pub(super) fn is_wanted_by_a_vm(&self, id: &VmId) -> bool {
        let has = |commit: &&Commit| commit.placed().any(|(vm, _)| vm == *id);
        let parent = |commit: &&Commit| self.projects.commit(commit.revision.parent?).filter(has);
        let head = self.projects.project_of(id).and_then(|project| self.projects.head(project)).filter(has);
        let first = std::iter::successors(head, parent).last();
        first.is_some_and(|commit| commit.revision.decision.is_some())
    }

    /// Takes up a VM that this host has just claimed, with what it should be doing.
    pub(in crate::node) fn begin_owning(
        &mut self,
        now: Now,
        id: &VmId,
        fragment: &Arc<Fragment>,
        made: bool,
        run: Option<(RunState, u64, PublicKey)>,
    ) {
        if !fragment.vms.iter().any(|found| found.name == id.name) {
            return;
        }
        let Some(project) = self.projects.project_of(id) else { return };
        let Some(label) = self.projects.head(project).map(|head| head.revision.label.clone()) else { return };
        let removed = matches!(self.projects.fate(id), Some(Fate::Removed));
        let existence = if removed { Existence::Unwanted } else { Existence::Wanted };
        let observed = if made { Observed::Down { exit: None } } else { Observed::Absent };
        if !self.vms.owned.contains_key(id) {
            self.vms.found.insert(id.clone(), observed);
            self.own(now, id, &label, fragment, existence, run);
        }
        let me = self.config.name.clone();
        let epoch = self.own_epoch(id);
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        vm.fragment = fragment.clone();
        vm.status.epoch = epoch.unwrap_or(vm.status.epoch);
        vm.status.host = me;
        vm.failures = 0;
        if let Some((run, counter, by)) = run {
            (vm.status.run, vm.status.run_counter, vm.status.run_by) = (run, counter, by);
        }
        self.settle(now, id);
        self.publish_vm(now, id);
        self.reconcile_after(now, id);
        self.host_changed(now);
    }

    /// Lets go of a VM that somebody else owns by now; what is on the disk stays.
    pub(in crate::node) fn disown(&mut self, now: Now, id: &VmId) {
        if self.vms.owned.remove(id).is_some() {
            self.vms.queued.remove(id);
            self.timers.cancel(&Timer::Retry(id.clone()));
            self.switches_changed();
            self.host_changed(now);
            self.next_queued(now);
        }
    }

    /// Returns what a VM should be doing as its owner last said, for whoever takes it over.
    pub(in crate::node) fn last_run(&self, id: &VmId) -> Option<(RunState, u64, PublicKey)> {
        let owner = self.owner(id)?;
        let status = self.records.vm(id, owner)?;
        Some((status.run, status.run_counter, status.run_by))
    }
}
