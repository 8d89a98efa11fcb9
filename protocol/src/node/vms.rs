//! The VMs that this host owns: from what is wanted and what was observed to steps and to published status.

mod applying;
mod holdings;
mod kept;
mod owning;
mod switches;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{Holding, Output, SwitchWanted};
use super::message::{Message, RunOrder};
use super::ownership::Right;
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, Label, ProjectId, PublicKey, VmId};
use crate::model::{Fragment, MemoryMib, Vm};
use crate::plan::{Existence, Observed, RunPhase, Step, StopLimit, guest_address, next_step};
use crate::record::{Epoch, Nat, Record, RunState, Startup, VmState, VmStatus};
use crate::time::Now;
use crate::wire;

use kept::KeptTime;
pub use kept::KeptVm;

/// The VMs that this host owns.
#[derive(Clone, Debug, Default)]
pub(super) struct Vms {
    owned: BTreeMap<VmId, OwnedVm>,
    /// What was found at the start and belongs to no VM that is known yet.
    found: BTreeMap<VmId, Observed>,
    /// VMs whose next step waits for others to end.
    queued: BTreeSet<VmId>,
    /// The switches that were last asked for.
    switches: Vec<SwitchWanted>,
    /// Whether what was found at the start is still being taken up: how much room there is isn't known before.
    adopting: bool,
}

#[derive(Clone, Debug)]
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
    guest: applying::Guest,
    /// For how long it has been left out and its disk kept: it takes no room meanwhile.
    kept: Option<KeptTime>,
    build: Build,
}

impl OwnedVm {
    /// Returns what brings it to hold still, without a change of what it should be doing.
    fn pause_step(&self) -> Option<Step> {
        matches!(self.observed, Observed::Running(_)).then_some(Step::Stop(self.stop_limit))
    }

    /// Returns what brings it to what it should be doing.
    fn next_step(&self) -> Option<Step> {
        next_step(self.existence, self.status.run, self.stop_limit, &self.observed)
    }

    /// Whether its memory and ports are kept for it.
    fn takes_room(&self) -> bool {
        self.kept.is_none()
    }

    /// Whether somebody wants it down, or gone.
    fn is_to_end(&self) -> bool {
        self.status.run == RunState::Down || self.existence == Existence::Unwanted
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    /// It is there, or has yet to be made.
    Sound,
    /// It was there and is gone: making a new one would look like the old one and be empty.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    /// Nothing is known to be in the way of it.
    Free,
    /// There is no memory left for it here.
    NoRoom,
}

impl Node {
    /// Takes up every VM that the records and the disk say is ours.
    pub(super) fn adopt_all(&mut self, now: Now, found: Vec<(VmId, Observed)>) {
        self.vms.found = found.into_iter().collect();
        self.shelve_again();
        let projects: Vec<ProjectId> = self.projects.heads().map(|(project, _)| project).collect();
        self.vms.adopting = true;
        for project in projects {
            self.head_changed(now, project);
        }
        self.vms.adopting = false;
        self.next_queued(now);
        self.resume_releases(now);
    }

    /// Has the disks put aside that this host has given away, and had not put aside when it went down.
    fn shelve_again(&mut self) {
        let is_given_away = |holding: &Holding| match holding {
            Holding::Released { made, .. } => *made,
            Holding::Shadow { .. } => true,
            Holding::Claimed { .. }
            | Holding::Arriving { .. }
            | Holding::Arrived { .. }
            | Holding::Declined { .. } => false,
        };
        for vm in self.vms.found.keys().filter(|vm| self.holdings.get(vm).is_some_and(is_given_away)) {
            self.outbox.push(Output::Shelve { vm: vm.clone() });
        }
    }

    /// Goes on with releases that were not yet claimed when this host went down.
    fn resume_releases(&mut self, now: Now) {
        let released = |(id, holding): (&VmId, &Holding)| match holding {
            Holding::Released { .. } => Some(id.clone()),
            Holding::Claimed { .. }
            | Holding::Arriving { .. }
            | Holding::Arrived { .. }
            | Holding::Declined { .. }
            | Holding::Shadow { .. } => None,
        };
        let vms: Vec<VmId> = self.holdings.iter().filter_map(released).collect();
        for id in vms {
            self.timers.set(Timer::Release(id.clone()), now.mono_ms + limits::RELEASE_MS);
            self.settle_release(now, &id);
        }
    }

    /// Does what another head revision means for this host.
    pub(super) fn head_changed(&mut self, now: Now, project: ProjectId) {
        self.settle_reservations(project);
        let mut parts: BTreeMap<Digest, Vec<(VmId, Existence)>> = BTreeMap::new();
        for (vm, existence, part) in self.due_here(project) {
            parts.entry(part).or_default().push((vm, existence));
        }
        for (part, vms) in parts {
            match self.fragments.get(&part).cloned() {
                Some(fragment) => self.adopt(now, project, &fragment, &vms),
                None => self.want_fragment(now, part),
            }
        }
        self.placements_changed(now, project);
        self.forget_fragments(project);
    }

    pub(super) fn want_fragment(&mut self, now: Now, digest: Digest) {
        if self.fragments.contains_key(&digest) || !self.parts_here().contains(&digest) {
            return;
        }
        let mut holders: BTreeSet<PublicKey> = BTreeSet::new();
        for (project, _) in self.projects.heads() {
            for commit in self.projects.proven(project) {
                if commit.revision.hosts.iter().any(|host| host.fragment == digest) {
                    holders.extend(self.projects.record(commit.digest).map(|record| record.author()));
                }
            }
        }
        // Whoever proposed it has it, and need not be who published it.
        if !self.connected.is_empty() {
            let turn = self.draw() as usize % self.connected.len();
            holders.extend(self.connected.iter().nth(turn));
        }
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
        self.doubt(now, &fragment, digest);
        self.keep_fragment(fragment);
        let names_it =
            |project: &ProjectId| self.due_here(*project).iter().any(|(_, _, part)| *part == digest);
        let projects: Vec<ProjectId> =
            self.projects.heads().map(|(project, _)| project).filter(names_it).collect();
        for project in projects {
            self.head_changed(now, project);
        }
    }

    /// Drops a project's parts that nothing needs any more.
    fn forget_fragments(&mut self, project: ProjectId) {
        let named = self.projects.proven(project).flat_map(|commit| &commit.revision.hosts);
        let kept: BTreeSet<Digest> =
            named.map(|host| host.fragment).filter(|part| self.fragments.contains_key(part)).collect();
        for digest in kept {
            self.drop_fragment(digest);
        }
    }

    fn adopt(&mut self, now: Now, project: ProjectId, fragment: &Arc<Fragment>, vms: &[(VmId, Existence)]) {
        let Some(head) = self.projects.head(project) else { return };
        let label = head.revision.label.clone();
        for (id, existence) in vms {
            let Some(definition) = fragment.vms.iter().find(|vm| vm.name == id.name) else { continue };
            if let Some(vm) = self.vms.owned.get_mut(id) {
                vm.existence = *existence;
                self.timers.cancel(&Timer::Retry(id.clone()));
                self.redefine(now, id, definition, fragment);
            } else if !self.take_up(now, id, &label, fragment, *existence) {
                continue;
            }
            self.reconcile(now, id);
        }
        self.host_changed(now);
    }

    /// Takes up a VM that the head places here: one of ours, one that is born here, or one that is to come.
    /// Returns false where it is not here, not yet, or no longer.
    fn take_up(
        &mut self,
        now: Now,
        id: &VmId,
        label: &Label,
        fragment: &Arc<Fragment>,
        existence: Existence,
    ) -> bool {
        let stored = self.records.vm(id, self.me);
        if stored.is_some_and(|status| status.state == VmState::Removed) && !self.has_taken(id) {
            return false;
        }
        if existence == Existence::Wanted && self.may_claim_birth(id) {
            let digest = Digest::of(&wire::encode_fragment(fragment));
            self.claim_birth(now, id, digest);
        }
        if self.has_taken(id) || self.speaks_for(id) {
            return self.own(now, id, label, fragment, existence, None);
        }
        if existence == Existence::Wanted {
            self.settle_arrival(now, id);
            self.arrive(now, id);
        }
        false
    }

    /// Gives a VM another definition: what it takes a boot to change counts from the next one on.
    fn redefine(&mut self, now: Now, id: &VmId, definition: &Vm, fragment: &Arc<Fragment>) {
        let Some(vm) = self.vms.owned.get_mut(id).filter(|vm| vm.fragment != *fragment) else { return };
        vm.fragment = fragment.clone();
        if let Some(Holding::Claimed { claim, made, .. }) = self.holdings.get(id) {
            let (claim, made) = (claim.clone(), *made);
            let fragment = Digest::of(&wire::encode_fragment(fragment));
            self.hold(id, Holding::Claimed { claim, fragment, made });
        }
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        vm.status.memory = definition.memory;
        vm.status.boot_order = definition.boot_order;
        vm.status.address = guest_address(definition);
        vm.status.forwards =
            definition.networks.iter().flat_map(|network| network.forwards.clone()).collect();
        self.publish_vm(now, id);
        self.switches_changed();
    }

    /// Takes up one VM; false where it is removed already. What it should be doing is `given` where it comes from
    /// somebody else: what this host said of it when it had it before is over.
    fn own(
        &mut self,
        now: Now,
        id: &VmId,
        label: &Label,
        fragment: &Arc<Fragment>,
        existence: Existence,
        given: Option<(RunState, u64, PublicKey)>,
    ) -> bool {
        let Some(definition) = fragment.vms.iter().find(|found| found.name == id.name) else { return false };
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
            VmState::Down | VmState::Booting | VmState::Up | VmState::Stopping | VmState::Kept => true,
            VmState::Failed { .. } => status.run_counter > 0,
            VmState::Building | VmState::Removed => false,
        });
        let made = matches!(
            self.holdings.get(id),
            Some(Holding::Claimed { made: true, .. } | Holding::Released { made: true, .. })
        );
        let gone = (had_disk || made) && observed == Observed::Absent;
        let disk = if gone { Disk::Lost } else { Disk::Sound };
        let known = stored.is_some();
        let kept = stored.as_ref().filter(|status| status.state == VmState::Kept);
        let kept = kept.map(|status| KeptTime::resumed(now, status, self.projects.keep_removed_ms(id)));
        let status = stored.unwrap_or_else(|| VmStatus {
            counter: 0,
            vm: id.clone(),
            epoch: Epoch::FIRST,
            project: self.projects.project_of(id).unwrap_or(ProjectId(id.birth)),
            // A host that has lost its memory doesn't shut down what it finds running.
            run: match observed {
                Observed::Running(_) => RunState::Up,
                _ if self.is_wanted_by_a_vm(id) => RunState::Up,
                _ => RunState::Down,
            },
            run_counter: 0,
            run_by: self.me,
            state: VmState::Building,
            exit: None,
            memory: definition.memory,
            boot_order: definition.boot_order,
            address: guest_address(definition),
            since_unix_ms: now.unix_ms,
            kept_ms: 0,
            host: self.config.name.clone(),
            nat: None,
            forwards: Vec::new(),
            part: None,
            startup: Startup::Fine,
        });
        // A record from before there were forwards has none.
        let forwards = definition.networks.iter().flat_map(|network| network.forwards.clone()).collect();
        let epoch = self.own_epoch(id).unwrap_or(status.epoch);
        let (run, run_counter, run_by) = given.unwrap_or((status.run, status.run_counter, status.run_by));
        let status = VmStatus { forwards, epoch, run, run_counter, run_by, ..status };
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
            guest: applying::Guest::default(),
            kept,
            build: Build::Free,
        };
        self.vms.owned.insert(id.clone(), vm);
        let believes = self.mutated_applied_forgotten() && matches!(observed, Observed::Running(_));
        if let Some(vm) = self.vms.owned.get_mut(id).filter(|_| believes) {
            vm.guest.believe(fragment);
        }
        if !known {
            self.publish_vm(now, id);
        }
        if observed != Observed::Absent {
            self.observed(now, id, observed);
        } else if disk == Disk::Lost && existence == Existence::Wanted {
            self.settle(now, id);
        }
        true
    }

    /// Carries out the next step of a VM, if there is one and it may begin.
    pub(super) fn reconcile(&mut self, now: Now, id: &VmId) {
        let Some(vm) = self.vms.owned.get(id) else { return };
        if self.timers.is_set(&Timer::Retry(id.clone())) {
            return;
        }
        let step = match self.right(id) {
            // It is to be as it is when it goes, and to be so without being built or removed meanwhile.
            Right::Own(_) if self.hand_overs.holds_still(id) => vm.pause_step(),
            Right::Own(_) => {
                let as_it_runs = vm.step_as_it_runs(id);
                match vm.next_step() {
                    Some(Step::Remove) if self.keeps(now, id) => None,
                    _ if !self.comes_back(now, id) => return,
                    // Looked at again: what has come back may be there to run.
                    _ => self.vms.owned.get(id).and_then(OwnedVm::next_step).or(as_it_runs),
                }
            }
            Right::Suspended { .. } => vm.pause_step(),
            // Without a note nothing begins; what runs may end.
            Right::None if self.is_unremembered(id) && vm.is_to_end() => vm.pause_step(),
            Right::Unconfirmed | Right::None => return,
        };
        let Some(vm) = self.vms.owned.get(id) else { return };
        let sooner = match (vm.busy, step) {
            (Some(Step::Stop(old)), Some(Step::Stop(new))) => new.is_sooner_than(old),
            _ => false,
        };
        match step {
            _ if vm.busy.is_some() && !sooner => {}
            None => self.settle(now, id),
            Some(Step::Build) if vm.disk == Disk::Lost => {}
            // Whoever is to have it makes its disk, but for one that came: that is known here only.
            Some(Step::Build) if self.is_to_leave(id) && self.imported_disk(id).is_none() => {}
            Some(Step::Build) if self.vms.adopting => {
                self.vms.queued.insert(id.clone());
            }
            Some(Step::Build) if !self.vms.has_room(vm.status.memory, self.config.memory_limit) => {
                self.blocked(now, id);
            }
            Some(Step::Build | Step::Start | Step::Remove | Step::Apply) if self.vms.is_full() => {
                self.vms.queued.insert(id.clone());
            }
            // One that is started once more is not brought down: nobody's hooks are about that.
            Some(step) if !vm.is_to_restart() && !self.hooks_allow(now, id, step) => {}
            Some(step) => self.begin(now, id, step),
        }
        if let Some(project) = self.projects.project_of(id) {
            self.hooks_due(project);
        }
    }

    /// Takes an order back that a hook stands against: what was to start stays down, what was to stop stays up.
    pub(super) fn turn_back(&mut self, now: Now, id: &VmId, to: RunState, reason: &str) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        vm.status.run = to;
        vm.status.run_counter = vm.status.run_counter.saturating_add(1);
        vm.status.run_by = self.me;
        if to == RunState::Up {
            // It runs, and is told to be up again when whoever asked has heard why.
            self.timers.set(Timer::Retry(id.clone()), now.mono_ms + limits::RETRY_MS_MIN);
        }
        self.set_state(now, id, VmState::Failed { reason: reason.to_owned() });
    }

    /// Keeps a build waiting for what has to be removed first; where nothing has, says why it can't be done.
    fn blocked(&mut self, now: Now, id: &VmId) {
        let Some(blocked) = self.vms.owned.get(id) else { return };
        let goes =
            |(id, vm): (&VmId, &OwnedVm)| vm.existence == Existence::Unwanted && !self.is_unremembered(id);
        if self.vms.owned.iter().any(goes) {
            self.vms.queued.insert(id.clone());
            return;
        }
        // The removal of what this replaces may be heard of later than this; of what it doesn't replace, never.
        let replaced =
            |vm: &OwnedVm| vm.label == blocked.label && vm.status.project != blocked.status.project;
        if blocked.failures == 0 && self.vms.owned.values().any(replaced) {
            self.vms.queued.insert(id.clone());
            self.timers.set(Timer::Retry(id.clone()), now.mono_ms + limits::REPLACED_HEARD_MS);
            if let Some(waiting) = self.vms.owned.get_mut(id) {
                waiting.failures = 1;
            }
            return;
        }
        let limit = self.config.memory_limit;
        let reason =
            format!("this host has no memory left for it (its limit is {limit}): it was committed too late");
        self.timers.set(Timer::Retry(id.clone()), now.mono_ms + limits::RETRY_MS_MAX);
        self.set_state(now, id, VmState::Failed { reason });
        if let Some(vm) = self.vms.owned.get_mut(id) {
            vm.build = Build::NoRoom;
        }
    }

    fn begin(&mut self, now: Now, id: &VmId, step: Step) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        vm.busy = Some(step);
        vm.guest.begins(step, &vm.fragment);
        let output =
            Output::Step { vm: id.clone(), step, label: vm.label.clone(), fragment: vm.fragment.clone() };
        if let Step::Start = step {
            vm.status.startup = Startup::Fine;
            self.gauges.forget(id);
        }
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
        vm.guest.has_ended(step, result.is_ok());
        match result {
            Ok(observed) => {
                vm.failures = 0;
                if step == Step::Remove && vm.existence == Existence::Wanted
                    || observed == Observed::Absent && matches!(step, Step::Start | Step::Stop(_))
                {
                    // Where it was asked for back while its disk was on its way out, an empty one is not it either.
                    vm.disk = Disk::Lost;
                }
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
            // What it waited for may be here sooner than it was to be tried again.
            self.timers.cancel(&Timer::Retry(id.clone()));
            self.reconcile(now, &id);
        }
    }

    pub(super) fn retry(&mut self, now: Now, id: &VmId) {
        self.reconcile(now, id);
    }

    /// Takes in what the platform sees of a VM.
    pub(super) fn observed(&mut self, now: Now, id: &VmId, observed: Observed) {
        // One that is stopped for its new host, or because somebody else owns it, should run all the same.
        let owns =
            matches!(self.right(id), Right::Own(_) | Right::Unconfirmed) && !self.hand_overs.holds_still(id);
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        if matches!(vm.busy, Some(Step::Start | Step::Apply)) {
            // The end of its run before may be heard late, where it was stopped to be started again. That of this one is
            // heard after a word that it runs.
            let runs = matches!(observed, Observed::Running(_));
            if runs || vm.busy == Some(Step::Apply) || vm.seen_starting.is_some() {
                vm.seen_starting = Some(observed);
            }
            return;
        }
        let ran = matches!(vm.observed, Observed::Running(_)) || vm.observed == Observed::Absent;
        if let Observed::Down { exit: Some(exit) } = observed
            && ran
        {
            vm.status.exit = Some(exit);
            let unasked = vm.busy.is_none()
                && owns
                && vm.status.run == RunState::Up
                // Where it was down or going down already, it was stopped by this host, for its new one.
                && !matches!(vm.status.state, VmState::Building | VmState::Stopping | VmState::Down);
            if unasked {
                // The guest has shut itself down, or died: starting it again is for somebody to decide.
                vm.status.run = RunState::Down;
                vm.status.run_counter = vm.status.run_counter.saturating_add(1);
                vm.status.run_by = self.me;
            }
        }
        vm.guest.is_seen(&observed);
        vm.observed = observed;
        self.settle(now, id);
        self.switches_changed();
        self.reconcile_after(now, id);
        self.seal_if_down(id);
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
            (Observed::Down { .. } | Observed::Lost, _)
                if vm.kept.is_some() && vm.existence == Existence::Unwanted =>
            {
                VmState::Kept
            }
            (Observed::Down { .. } | Observed::Lost, _) => match self.right(id) {
                // Whoever looks at it is told why nothing is done with it.
                Right::Suspended { reason } => VmState::Failed { reason },
                Right::None if vm.existence == Existence::Unwanted && self.is_unremembered(id) => {
                    VmState::Failed { reason: KEPT.to_owned() }
                }
                Right::Own(_) | Right::Unconfirmed | Right::None => VmState::Down,
            },
            (Observed::Absent, _) if vm.existence == Existence::Unwanted => VmState::Removed,
            (Observed::Absent, _) if vm.disk == Disk::Lost => VmState::Failed { reason: GONE.to_owned() },
            (Observed::Absent, _) => VmState::Building,
        };
        let project = vm.status.project;
        let removed = state == VmState::Removed;
        self.set_state(now, id, state);
        // Whoever may not say so yet says it later, and forgets it then.
        if removed && self.may_sign() && self.vms.owned.get(id).is_some_and(|vm| vm.busy.is_none()) {
            self.vms.owned.remove(id);
            self.vms.queued.remove(id);
            self.hooks_due(project);
            self.let_go(id);
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

    /// Takes in that the startup lines of a VM of ours have failed.
    pub(super) fn startup_failed(&mut self, now: Now, id: &VmId) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        vm.status.startup = Startup::Failed;
        self.publish_vm(now, id);
    }

    fn set_state(&mut self, now: Now, id: &VmId, state: VmState) {
        let Some(vm) = self.vms.owned.get_mut(id) else { return };
        vm.build = Build::Free;
        if vm.status.state != state {
            vm.status.state = state;
            vm.status.since_unix_ms = now.unix_ms;
            vm.status.kept_ms = 0;
            vm.note_kept(now);
        }
        self.publish_vm(now, id);
    }

    /// Publishes the status of a VM if it differs from what was published last.
    fn publish_vm(&mut self, now: Now, id: &VmId) {
        // Whoever gave it away says nothing of it any more.
        if !self.speaks_for(id) || !self.may_sign() {
            return;
        }
        self.note_part(id);
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
        vm.status.run_counter = vm.status.run_counter.saturating_add(1);
        vm.status.run_by = by;
        vm.failures = 0;
        self.timers.cancel(&Timer::Retry(id.clone()));
        self.settle(now, id);
        self.publish_vm(now, id);
        self.reconcile(now, id);
    }

    /// Returns the run counter of a VM of ours that the head revision wants, and who raised it last.
    pub(super) fn run_counter(&self, id: &VmId, order: RunOrder) -> Option<(Epoch, u64, PublicKey)> {
        let vm = self.vms.owned.get(id).filter(|vm| vm.existence == Existence::Wanted)?;
        match self.right(id) {
            Right::Own(epoch) => Some((epoch, vm.status.run_counter, vm.status.run_by)),
            Right::Unconfirmed => Some((vm.status.epoch, vm.status.run_counter, vm.status.run_by)),
            // To stop it takes no right to it.
            Right::None if matches!(order, RunOrder::Down(_)) && self.is_unremembered(id) => {
                Some((vm.status.epoch, vm.status.run_counter, vm.status.run_by))
            }
            Right::Suspended { .. } | Right::None => None,
        }
    }

    /// Returns what this host has of a VM: its project's label, its part of the project, and its definition.
    pub fn owned(&self, id: &VmId) -> Option<(&Label, &Arc<Fragment>, &Vm)> {
        let vm = self.vms.owned.get(id)?;
        Some((&vm.label, &vm.fragment, Vms::definition(id, vm)?))
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

/// What is said of a VM whose disk was there.
const GONE: &str = "its disk is gone from this host; nothing was done, so that a copy can be put back";

/// What is said of a VM that its project leaves out, by a host that may not own it any more for all that it remembers.
pub(super) const KEPT: &str =
    "left out of its project; this host has lost its notes about it, so the disk that is here is kept";

/// How long a VM may take to shut down where nobody said so, in milliseconds.
const DEFAULT_STOP_MS: u64 = 60_000;
