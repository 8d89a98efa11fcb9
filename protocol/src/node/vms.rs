//! The VMs that this host owns: from what is wanted and what was observed to steps and to published status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{Output, SwitchWanted};
use super::message::{Message, RunOrder};
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use crate::model::{Attachment, Forward, Fragment, MemoryMib, Vm};
use crate::plan::{Existence, Observed, RunPhase, Step, StopLimit, guest_address, next_step};
use crate::record::{Commit, Nat, Record, RunState, VmState, VmStatus};
use crate::time::Now;
use crate::wire;

/// The VMs that this host owns.
#[derive(Debug, Default)]
pub(super) struct Vms {
    owned: BTreeMap<VmId, OwnedVm>,
    /// What was found at the start and belongs to no VM that is known yet.
    found: BTreeMap<VmId, Observed>,
    /// VMs whose next step waits for others to end.
    queued: BTreeSet<VmId>,
    /// The switches that were last asked for.
    switches: Vec<SwitchWanted>,
}

#[derive(Debug)]
struct OwnedVm {
    label: Label,
    fragment: Arc<Fragment>,
    status: VmStatus,
    existence: Existence,
    stop_limit: StopLimit,
    observed: Observed,
    busy: Option<Step>,
    /// What was seen while it was being started: it may be heard before the step has ended.
    seen_starting: Option<Observed>,
    failures: u32,
    disk: Disk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    /// It is there, or has yet to be made.
    Sound,
    /// It was there and is gone: making a new one would look like the old one and be empty.
    Lost,
}

impl Vms {
    /// Returns how many VMs are defined here.
    pub(super) fn len(&self) -> usize {
        self.owned.len()
    }

    pub(super) fn projects(&self) -> BTreeSet<ProjectId> {
        self.owned.values().map(|vm| vm.status.project).collect()
    }

    pub(super) fn memory_mib(&self) -> u32 {
        self.owned.values().map(|vm| vm.status.memory.0).sum()
    }

    pub(super) fn memory_mib_of(&self, project: ProjectId) -> u32 {
        self.owned.values().filter(|vm| vm.status.project == project).map(|vm| vm.status.memory.0).sum()
    }

    /// Returns the ports of this host that lead to VMs that are defined here, but for those of one project.
    pub(super) fn forwards(&self, but: Option<ProjectId>) -> impl Iterator<Item = (&Label, &Name, &Forward)> {
        let others = self.owned.iter().filter(move |(_, vm)| Some(vm.status.project) != but);
        others.flat_map(|(id, vm)| vm.status.forwards.iter().map(|port| (&vm.label, &id.name, port)))
    }

    /// Returns the VMs of a project that run or are about to.
    pub(super) fn running(&self, project: ProjectId) -> impl Iterator<Item = &Name> {
        self.owned
            .iter()
            .filter(move |(_, vm)| vm.status.project == project)
            .filter(|(_, vm)| vm.status.run == RunState::Up || matches!(vm.observed, Observed::Running(_)))
            .map(|(id, _)| &id.name)
    }

    /// Whether one more long step would be too many. Stopping is mostly waiting and does not count.
    fn is_full(&self) -> bool {
        let long = |vm: &&OwnedVm| matches!(vm.busy, Some(Step::Build | Step::Start | Step::Remove));
        self.owned.values().filter(long).count() >= limits::STEPS_RUNNING_MAX
    }

    /// Whether one more VM has room beside those whose disks are there or being made.
    fn has_room(&self, memory: MemoryMib, limit: MemoryMib) -> bool {
        let there = |vm: &&OwnedVm| vm.observed != Observed::Absent || vm.busy == Some(Step::Build);
        let used: u64 = self.owned.values().filter(there).map(|vm| u64::from(vm.status.memory.0)).sum();
        used + u64::from(memory.0) <= u64::from(limit.0)
    }

    fn definition<'a>(id: &VmId, vm: &'a OwnedVm) -> Option<&'a Vm> {
        vm.fragment.vms.iter().find(|definition| definition.name == id.name)
    }
}

impl Node {
    /// Takes up every VM that the records and the disk say is ours.
    pub(super) fn adopt_all(&mut self, now: Now, found: Vec<(VmId, Observed)>) {
        self.vms.found = found.into_iter().collect();
        let projects: Vec<ProjectId> = self.projects.heads().map(|(project, _)| project).collect();
        for project in projects {
            self.head_changed(now, project);
        }
    }

    /// Does what another head revision means for this host.
    pub(super) fn head_changed(&mut self, now: Now, project: ProjectId) {
        self.settle_reservation(project);
        let Some(first) = self.projects.commit(project.0) else { return };
        let Some(part) =
            first.host(self.me).filter(|_| first.reserved_by(self.me) && !self.forgot(project)).cloned()
        else {
            self.forget_fragments(project);
            return;
        };
        match self.fragments.get(&part.fragment).cloned() {
            Some(fragment) => self.adopt(now, project, &fragment),
            None if self.is_over(project) => {}
            None => self.want_fragment(now, part.fragment),
        }
        self.forget_fragments(project);
    }

    /// Whether a project is removed and nothing of it is left to do here.
    pub(super) fn is_over(&self, project: ProjectId) -> bool {
        let removed = self.projects.head(project).is_some_and(Commit::removes);
        let owned = self.vms.owned.values().any(|vm| vm.status.project == project);
        let mut statuses =
            self.records.born_in(project.0).filter(|(author, _)| *author == self.me).peekable();
        removed
            && !owned
            && statuses.peek().is_some()
            && statuses.all(|(_, status)| status.state == VmState::Removed)
    }

    pub(super) fn want_fragment(&mut self, now: Now, digest: Digest) {
        if self.fragments.contains_key(&digest) {
            return;
        }
        let holders: Vec<PublicKey> = self
            .projects
            .heads()
            .filter_map(|(project, _)| {
                let record = self.projects.record(project.0)?;
                let names_it =
                    self.projects.commit(project.0)?.revision.hosts.iter().any(|h| h.fragment == digest);
                names_it.then(|| record.author())
            })
            .collect();
        let me = self.me;
        for holder in holders.into_iter().filter(|&holder| holder != me) {
            self.send(holder, Message::FragmentWanted(digest));
        }
        self.timers.set(Timer::Fragment(digest), now.mono_ms + limits::RETRY_MS_MIN);
    }

    pub(super) fn fragment_found(&mut self, now: Now, fragment: Arc<Fragment>) {
        let digest = Digest::of(&wire::encode_fragment(&fragment));
        if !self.timers.is_set(&Timer::Fragment(digest)) {
            return;
        }
        self.timers.cancel(&Timer::Fragment(digest));
        self.keep_fragment(fragment);
        let projects: Vec<ProjectId> = self
            .projects
            .heads()
            .filter(|(project, _)| {
                self.projects
                    .commit(project.0)
                    .is_some_and(|first| first.revision.hosts.iter().any(|host| host.fragment == digest))
            })
            .map(|(project, _)| project)
            .collect();
        for project in projects {
            self.head_changed(now, project);
        }
    }

    /// Drops a removed project's fragments where no VM of it is left.
    fn forget_fragments(&mut self, project: ProjectId) {
        let owned = self.vms.owned.values().any(|vm| vm.status.project == project);
        if owned || !self.projects.head(project).is_some_and(Commit::removes) {
            return;
        }
        let Some(first) = self.projects.commit(project.0) else { return };
        let fragments: Vec<Digest> = first.revision.hosts.iter().map(|host| host.fragment).collect();
        for digest in fragments {
            self.timers.cancel(&Timer::Fragment(digest));
            self.drop_fragment(digest);
        }
    }

    fn adopt(&mut self, now: Now, project: ProjectId, fragment: &Arc<Fragment>) {
        let Some(head) = self.projects.head(project) else { return };
        let existence = if head.removes() { Existence::Unwanted } else { Existence::Wanted };
        let label = head.revision.label.clone();
        for definition in &fragment.vms {
            let id = VmId { birth: project.0, name: definition.name.clone() };
            if let Some(vm) = self.vms.owned.get_mut(&id) {
                vm.existence = existence;
                self.timers.cancel(&Timer::Retry(id.clone()));
            } else if !self.own(now, &id, definition, &label, fragment, existence) {
                continue;
            }
            self.reconcile(now, &id);
        }
        self.host_changed(now);
    }

    /// Takes up one VM; false where it is removed already.
    fn own(
        &mut self,
        now: Now,
        id: &VmId,
        definition: &Vm,
        label: &Label,
        fragment: &Arc<Fragment>,
        existence: Existence,
    ) -> bool {
        let stored = self.records.vm(id, self.me).cloned();
        if stored.as_ref().is_some_and(|status| status.state == VmState::Removed) {
            return false;
        }
        let observed = self.vms.found.remove(id).unwrap_or(Observed::Absent);
        let was_up = stored.as_ref().is_some_and(|status| status.state == VmState::Up);
        let observed = match observed {
            // A guest that was ready and still runs is ready: it only hasn't yet told our new run.
            Observed::Running(_) if was_up => Observed::Running(RunPhase::Ready),
            other => other,
        };
        let had_disk = stored.as_ref().is_some_and(|status| match status.state {
            VmState::Down | VmState::Booting | VmState::Up | VmState::Stopping => true,
            VmState::Failed { .. } => status.run_counter > 0,
            VmState::Building | VmState::Removed => false,
        });
        let disk = if had_disk && observed == Observed::Absent { Disk::Lost } else { Disk::Sound };
        let known = stored.is_some();
        let status = stored.unwrap_or_else(|| VmStatus {
            counter: 0,
            vm: id.clone(),
            project: ProjectId(id.birth),
            // A host that has lost its memory doesn't shut down what it finds running.
            run: if matches!(observed, Observed::Running(_)) { RunState::Up } else { RunState::Down },
            run_counter: 0,
            run_by: self.me,
            state: VmState::Building,
            exit: None,
            memory: definition.memory,
            boot_order: definition.boot_order,
            address: guest_address(definition),
            since_unix_ms: now.unix_ms,
            host: self.config.name.clone(),
            nat: None,
            forwards: Vec::new(),
        });
        // A record from before there were forwards has none.
        let forwards = definition.networks.iter().flat_map(|network| network.forwards.clone()).collect();
        let status = VmStatus { forwards, ..status };
        let vm = OwnedVm {
            label: label.clone(),
            fragment: fragment.clone(),
            status,
            existence,
            stop_limit: StopLimit::After(DEFAULT_STOP_MS),
            observed: Observed::Absent,
            busy: None,
            seen_starting: None,
            failures: 0,
            disk,
        };
        self.vms.owned.insert(id.clone(), vm);
        if !known {
            self.publish_vm(now, id);
        }
        if observed != Observed::Absent {
            self.observed(now, id, observed);
        } else if disk == Disk::Lost && existence == Existence::Wanted {
            let reason = "its disk is gone from this host; nothing was done, so that a copy can be put back";
            self.set_state(now, id, VmState::Failed { reason: reason.to_owned() });
        }
        true
    }

    /// Carries out the next step of a VM, if there is one and it may begin.
    pub(super) fn reconcile(&mut self, now: Now, id: &VmId) {
        let Some(vm) = self.vms.owned.get(id) else { return };
        if self.timers.is_set(&Timer::Retry(id.clone())) {
            return;
        }
        let step = next_step(vm.existence, vm.status.run, vm.stop_limit, &vm.observed);
        let sooner = match (vm.busy, step) {
            (Some(Step::Stop(old)), Some(Step::Stop(new))) => new.is_sooner_than(old),
            _ => false,
        };
        match step {
            _ if vm.busy.is_some() && !sooner => {}
            None => self.settle(now, id),
            Some(Step::Build) if vm.disk == Disk::Lost => {}
            Some(Step::Build) if !self.vms.has_room(vm.status.memory, self.config.memory_limit) => {
                self.blocked(now, id);
            }
            Some(Step::Build | Step::Start | Step::Remove) if self.vms.is_full() => {
                self.vms.queued.insert(id.clone());
            }
            Some(step) => self.begin(now, id, step),
        }
    }

    /// Keeps a build waiting for what has to be removed first; where nothing has, says why it can't be done.
    fn blocked(&mut self, now: Now, id: &VmId) {
        let Some(blocked) = self.vms.owned.get(id) else { return };
        // The removal of what this replaces may be heard of later than this.
        let goes = |(other, vm): (&VmId, &OwnedVm)| {
            vm.existence == Existence::Unwanted || (vm.label == blocked.label && other.birth != id.birth)
        };
        if self.vms.owned.iter().any(goes) {
            self.vms.queued.insert(id.clone());
            return;
        }
        let limit = self.config.memory_limit;
        let reason =
            format!("this host has no memory left for it (its limit is {limit}): it was committed too late");
        self.timers.set(Timer::Retry(id.clone()), now.mono_ms + limits::RETRY_MS_MAX);
        self.set_state(now, id, VmState::Failed { reason });
    }

    fn begin(&mut self, now: Now, id: &VmId, step: Step) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        vm.busy = Some(step);
        let output =
            Output::Step { vm: id.clone(), step, label: vm.label.clone(), fragment: vm.fragment.clone() };
        if let Step::Stop(_) = step {
            self.set_state(now, id, VmState::Stopping);
        }
        // Before the step: a guest finds its switches when it looks for them.
        self.switches_changed();
        self.outbox.push(output);
    }

    pub(super) fn step_done(&mut self, now: Now, id: &VmId, step: Step, result: Result<Observed, String>) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        if vm.busy == Some(step) {
            vm.busy = None;
        }
        let seen = vm.seen_starting.take();
        match result {
            Ok(observed) => {
                vm.failures = 0;
                self.observed(now, id, observed);
                if let Some(seen) = seen {
                    self.observed(now, id, seen);
                }
            }
            Err(reason) => {
                vm.failures += 1;
                let pause_ms = limits::RETRY_MS_MIN
                    .saturating_mul(1 << (vm.failures - 1).min(16))
                    .min(limits::RETRY_MS_MAX);
                self.timers.set(Timer::Retry(id.clone()), now.mono_ms + pause_ms);
                self.set_state(now, id, VmState::Failed { reason });
            }
        }
        self.next_queued(now);
    }

    fn next_queued(&mut self, now: Now) {
        for id in std::mem::take(&mut self.vms.queued) {
            self.reconcile(now, &id);
        }
    }

    pub(super) fn retry(&mut self, now: Now, id: &VmId) {
        self.reconcile(now, id);
    }

    /// Takes in what the platform sees of a VM.
    pub(super) fn observed(&mut self, now: Now, id: &VmId, observed: Observed) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        if vm.busy == Some(Step::Start) {
            vm.seen_starting = Some(observed);
            return;
        }
        let ran = matches!(vm.observed, Observed::Running(_)) || vm.observed == Observed::Absent;
        if let Observed::Down { exit: Some(exit) } = observed
            && ran
        {
            vm.status.exit = Some(exit);
            let unasked =
                vm.busy.is_none() && vm.status.run == RunState::Up && vm.status.state != VmState::Building;
            if unasked {
                // The guest has shut itself down, or died: starting it again is for somebody to decide.
                vm.status.run = RunState::Down;
                vm.status.run_counter += 1;
                vm.status.run_by = self.me;
            }
        }
        vm.observed = observed;
        self.settle(now, id);
        self.switches_changed();
        self.reconcile_after(now, id);
    }

    fn reconcile_after(&mut self, now: Now, id: &VmId) {
        if self.vms.owned.contains_key(id) {
            self.reconcile(now, id);
        }
    }

    /// Publishes the state that follows from what is observed, and lets go of what is removed.
    fn settle(&mut self, now: Now, id: &VmId) {
        let Some(vm) = self.vms.owned.get(id) else { return };
        let state = match (&vm.observed, vm.busy) {
            (Observed::Running(_), Some(Step::Stop(_))) => VmState::Stopping,
            (Observed::Running(RunPhase::Booting), _) => VmState::Booting,
            (Observed::Running(RunPhase::Ready), _) => VmState::Up,
            (Observed::Down { .. } | Observed::Lost, _) => VmState::Down,
            (Observed::Absent, _) if vm.existence == Existence::Unwanted => VmState::Removed,
            (Observed::Absent, _) => VmState::Building,
        };
        if vm.disk == Disk::Lost && state == VmState::Building {
            return;
        }
        let project = vm.status.project;
        let removed = state == VmState::Removed;
        self.set_state(now, id, state);
        if removed && self.vms.owned.get(id).is_some_and(|vm| vm.busy.is_none()) {
            self.vms.owned.remove(id);
            self.vms.queued.remove(id);
            self.forget_fragments(project);
            self.host_changed(now);
            self.next_queued(now);
        }
    }

    /// Takes in whether a VM of ours reaches the outside.
    pub(super) fn nat_seen(&mut self, now: Now, id: &VmId, nat: Nat) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        if vm.status.nat != Some(nat) {
            vm.status.nat = Some(nat);
            self.publish_vm(now, id);
        }
    }

    fn set_state(&mut self, now: Now, id: &VmId, state: VmState) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        if vm.status.state != state {
            vm.status.state = state;
            vm.status.since_unix_ms = now.unix_ms;
        }
        self.publish_vm(now, id);
    }

    /// Publishes the status of a VM if it differs from what was published last.
    fn publish_vm(&mut self, now: Now, id: &VmId) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        if self.records.vm(id, self.me) == Some(&vm.status) {
            return;
        }
        vm.status.counter += 1;
        let record = Record::Vm(vm.status.clone());
        self.publish(now, record);
    }

    /// Publishes the status of a VM again, above a counter that others have heard under our key.
    pub(super) fn outbid_vm(&mut self, now: Now, id: &VmId, heard: u64) {
        if let Some(vm) = self.vms.owned.get_mut(id) {
            vm.status.counter = vm.status.counter.max(heard);
            self.publish_vm(now, id);
        }
    }

    /// Applies an order to a VM whose run counter was checked.
    pub(super) fn apply_run(&mut self, now: Now, id: &VmId, order: RunOrder, by: PublicKey) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        match order {
            RunOrder::Up => vm.status.run = RunState::Up,
            RunOrder::Down(limit) => {
                vm.status.run = RunState::Down;
                vm.stop_limit = limit;
            }
        }
        vm.status.run_counter += 1;
        vm.status.run_by = by;
        vm.failures = 0;
        self.timers.cancel(&Timer::Retry(id.clone()));
        self.settle(now, id);
        self.publish_vm(now, id);
        self.reconcile(now, id);
    }

    /// Returns the run counter of a VM of ours that the head revision wants, and who raised it last.
    pub(super) fn run_counter(&self, id: &VmId) -> Option<(u64, PublicKey)> {
        let vm = self.vms.owned.get(id).filter(|vm| vm.existence == Existence::Wanted)?;
        Some((vm.status.run_counter, vm.status.run_by))
    }

    /// Asks for other switches where other ones are needed now.
    fn switches_changed(&mut self) {
        let mut wanted: BTreeMap<(ProjectId, Name), BTreeSet<PublicKey>> = BTreeMap::new();
        for (id, vm) in &self.vms.owned {
            let live = vm.status.run == RunState::Up || matches!(vm.observed, Observed::Running(_));
            let Some(definition) = Vms::definition(id, vm).filter(|_| live) else { continue };
            for network in &definition.networks {
                if let Attachment::Switch(name) = &network.attachment {
                    let peers = wanted.entry((vm.status.project, name.clone())).or_default();
                    peers.extend(self.switch_peers(id.birth, &vm.fragment, name));
                }
            }
        }
        let switches: Vec<SwitchWanted> = wanted
            .into_iter()
            .map(|((project, name), peers)| SwitchWanted {
                project,
                name,
                peers: peers.into_iter().collect(),
            })
            .collect();
        if switches != self.vms.switches {
            self.vms.switches.clone_from(&switches);
            self.outbox.push(Output::Switches(switches));
        }
    }

    /// Returns the other hosts that carry a switch.
    fn switch_peers(&self, birth: Digest, fragment: &Fragment, name: &Name) -> BTreeSet<PublicKey> {
        let switch = fragment.switches.iter().find(|switch| switch.name == *name);
        let members: BTreeSet<&Name> =
            switch.into_iter().flat_map(|s| s.members.iter().map(|m| &m.vm)).collect();
        fragment
            .placement
            .iter()
            .filter(|placement| members.contains(&placement.vm))
            .filter_map(|placement| self.projects.owner(birth, &placement.host))
            .filter(|&key| key != self.me)
            .collect()
    }

    /// Returns what this host has of a VM: its project's label, its part of the project, and its definition.
    pub fn owned(&self, id: &VmId) -> Option<(&Label, &Arc<Fragment>, &Vm)> {
        let vm = self.vms.owned.get(id)?;
        Some((&vm.label, &vm.fragment, Vms::definition(id, vm)?))
    }

    /// Whether a peer is known to carry a switch that this host carries too.
    pub fn shares_switch(&self, peer: PublicKey, project: ProjectId, name: &Name) -> bool {
        self.vms.owned.iter().any(|(id, vm)| {
            vm.status.project == project && self.switch_peers(id.birth, &vm.fragment, name).contains(&peer)
        })
    }

    /// Returns every VM that this host owns, with what is wanted of it, what was observed, and its status.
    pub fn owned_vms(&self) -> impl Iterator<Item = (&VmId, Existence, &Observed, &VmStatus)> {
        self.vms.owned.iter().map(|(id, vm)| (id, vm.existence, &vm.observed, &vm.status))
    }

    /// Returns the memory of the VMs that are defined here, and of all that may be.
    pub fn memory(&self) -> (MemoryMib, MemoryMib) {
        (MemoryMib(self.vms.memory_mib()), self.config.memory_limit)
    }
}

/// How long a VM may take to shut down where nobody said so, in milliseconds.
const DEFAULT_STOP_MS: u64 = 60_000;
