//! VMs that their project leaves out, whose disks are kept for a while.
//!
//! ```text
//! wanted ──left out──► stopped ──► kept ──time is over──► removed
//!    ▲                              │
//!    └──── wanted again, on this host, while the disk is there
//! ```
//!
//! How long is said by the revision that leaves a VM out. What has passed of it is counted by the host's monotonic clock,
//! and noted now and then in what its owner publishes of it, with the wall clock's time of the note: wall clocks are set, and
//! a disk must not go by that. Of the time between the last note and a restart no more counts than lies between two notes,
//! and nothing where the wall clock was set back; so a host that is off for long keeps disks longer, and one that
//! starts with a wrong clock deletes none for it. A kept VM takes no memory and no ports. It comes back with its own identity where its
//! disk is: elsewhere, and once the disk has gone, its name means another VM. Its owner signs for each revision that
//! brings it back, and holds the disk until it is decided whether that counts.

use std::sync::Arc;

use crate::id::{Digest, Name, ProjectId, PublicKey, VmId};
use crate::model::{Fragment, Vm};
use crate::node::ownership::Right;
use crate::node::projects::Fate;
use crate::node::timers::Timer;
use crate::node::view::VmView;
use crate::node::{Node, limits};
use crate::plan::{Existence, PlacedHost};
use crate::record::{RevisionHost, RunState, VmState, VmStatus};
use crate::time::Now;

/// A VM that its project leaves out, whose disk is kept.
#[derive(Clone, Debug)]
pub struct KeptVm {
    /// Which one, and since when.
    pub vm: VmView,
    /// When its disk may go, by its host's clock, in milliseconds since 1970.
    pub until_unix_ms: u64,
}

/// For how long a disk has been kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptTime {
    /// How long that was when it was noted last, in milliseconds.
    counted_ms: u64,
    /// When it was noted last, on the monotonic clock.
    noted_ms: u64,
}

impl KeptTime {
    fn begun(now: Now) -> Self {
        Self { counted_ms: 0, noted_ms: now.mono_ms }
    }

    /// Goes on after a restart with what was noted before.
    pub(super) fn resumed(now: Now, status: &VmStatus, keep_ms: u64) -> Self {
        let off_ms = now.unix_ms.saturating_sub(status.since_unix_ms).min(note_interval_ms(keep_ms));
        Self { counted_ms: status.kept_ms.saturating_add(off_ms), noted_ms: now.mono_ms }
    }

    fn total_ms(self, now: Now) -> u64 {
        self.counted_ms.saturating_add(now.mono_ms.saturating_sub(self.noted_ms))
    }
}

/// Returns after how long, in milliseconds, it is noted again for how long a disk has been kept that is to be kept for
/// `keep_ms`.
fn note_interval_ms(keep_ms: u64) -> u64 {
    (keep_ms / limits::KEPT_NOTES).clamp(limits::KEPT_LOOK_MS_MIN, limits::KEPT_LOOK_MS)
}

impl super::OwnedVm {
    /// Puts it into its status for how long its disk has been kept, if it is.
    pub(super) fn note_kept(&mut self, now: Now) {
        let Some(kept) = self.kept.as_mut().filter(|_| self.status.state == VmState::Kept) else { return };
        *kept = KeptTime { counted_ms: kept.total_ms(now), noted_ms: now.mono_ms };
        self.status.since_unix_ms = now.unix_ms;
        self.status.kept_ms = kept.counted_ms;
    }
}

impl Node {
    /// Whether the disk of a VM of ours, which is stopped and left out, is kept for now. Looks again when that may be over.
    pub(super) fn keeps(&mut self, now: Now, id: &VmId) -> bool {
        let keep_ms = self.projects.keep_removed_ms(id);
        if keep_ms == 0 || self.mutated_kept_disk_deleted_early() {
            return false;
        }
        let by_wall_clock = self.mutated_kept_by_wall_clock();
        let Some(vm) = self.vms.owned.get_mut(id) else { return false };
        if vm.busy.is_some() {
            return true;
        }
        let kept = *vm.kept.get_or_insert_with(|| KeptTime::begun(now));
        let kept_ms = if by_wall_clock {
            now.unix_ms.saturating_sub(vm.status.kept_since_unix_ms())
        } else {
            kept.total_ms(now)
        };
        let interval_ms = note_interval_ms(keep_ms);
        let is_told = vm.status.kept_ms >= kept.counted_ms && vm.status.since_unix_ms <= now.unix_ms;
        if now.mono_ms.saturating_sub(kept.noted_ms) >= interval_ms || !is_told {
            vm.note_kept(now);
        }
        if vm.status.run == RunState::Up {
            // What was asked of it before it was left out is over.
            vm.status.run = RunState::Down;
            vm.status.run_counter += 1;
            vm.status.run_by = self.me;
        }
        (vm.status.nat, vm.status.exit, vm.status.part) = (None, None, None);
        vm.status.forwards.clear();
        let left_ms = keep_ms.saturating_sub(kept_ms);
        let wait_ms = match left_ms {
            0 if self.is_asked_back(id) && !self.mutated_kept_disk_not_held() => limits::KEPT_HELD_MS,
            0 => return false,
            left_ms => left_ms.min(interval_ms),
        };
        self.timers.set(Timer::Kept(id.clone()), now.mono_ms + wait_ms);
        self.host_changed(now);
        true
    }

    /// Lets a VM of ours that was kept take its room again, if it is wanted; false where it has to wait for that.
    pub(super) fn comes_back(&mut self, now: Now, id: &VmId) -> bool {
        let Some(vm) = self.vms.owned.get(id) else { return false };
        if vm.kept.is_none() || vm.existence == Existence::Unwanted || vm.busy.is_some() {
            return true;
        }
        if !self.vms.has_room(vm.status.memory, self.config.memory_limit) {
            self.blocked(now, id);
            return false;
        }
        self.timers.cancel(&Timer::Kept(id.clone()));
        let definition = self.owned(id).map(|(_, _, definition)| definition.clone());
        let runs = self.is_wanted_by_a_vm(id);
        let Some(vm) = self.vms.owned.get_mut(id) else { return false };
        vm.kept = None;
        if runs {
            vm.status.run = RunState::Up;
            vm.status.run_counter += 1;
            vm.status.run_by = self.me;
        }
        let networks = definition.iter().flat_map(|definition| &definition.networks);
        vm.status.forwards = networks.flat_map(|network| network.forwards.clone()).collect();
        self.settle(now, id);
        self.host_changed(now);
        true
    }

    /// Whether this host is asked for a revision that brings a VM back, or has signed for one, and it isn't decided whether that
    /// counts.
    fn is_asked_back(&self, id: &VmId) -> bool {
        let project = self.projects.project_of(id);
        let of_project = |parent| self.projects.commit(parent).map(|parent| parent.project()) == project;
        let mut noted = self.decisions.reserved().filter(|(parent, ..)| of_project(*parent));
        let promised = |child: &crate::record::Commit| child.placed().any(|(vm, _)| vm == *id);
        noted.any(|(_, child, part)| self.has_vm(child, part, id))
            || self.decisions.promised_children().any(promised)
            || self.reservations.asked_for(project, &id.name)
    }

    /// Whether a revision that this host has signed for with this part has a VM.
    fn has_vm(&self, child: Digest, part: Digest, id: &VmId) -> bool {
        match self.projects.commit(child) {
            Some(child) => child.placed().any(|(vm, _)| vm == *id),
            // Of what isn't known yet, names must do.
            None => self.definition_in(part, id).is_some(),
        }
    }

    /// Whether a revision that this host has signed for with this part brings a VM back whose disk is here.
    pub(in crate::node) fn brings_kept_back(&self, child: Digest, part: Digest) -> bool {
        let mut left_out = self.vms.owned.keys().filter(|id| self.projects.fate(id) == Some(Fate::Removed));
        left_out.any(|id| self.has_vm(child, part, id))
    }

    /// Whether a VM is ours, nothing is being done with it, and it is on its way to nobody: only then may its disk be given
    /// other contents, if it is down.
    pub fn is_at_rest(&self, vm: &VmId) -> bool {
        let idle = self.vms.owned.get(vm).is_some_and(|vm| vm.busy.is_none());
        idle && matches!(self.right(vm), Right::Own(_)) && !self.hand_overs.holds_still(vm)
    }

    /// Returns the VM of a project with this name whose disk is kept on a host: of several, the one that was left out
    /// last.
    pub(in crate::node) fn kept_on(&self, project: ProjectId, name: &Name, host: PublicKey) -> Option<VmId> {
        let kept = self.kept_by(project).filter(|(by, status)| *by == host && status.vm.name == *name);
        kept.max_by_key(|(_, status)| status.kept_since_unix_ms()).map(|(_, status)| status.vm.clone())
    }

    /// Returns the host that keeps the disk of a project's VM with this name.
    pub(in crate::node) fn keeper(&self, project: ProjectId, name: &Name) -> Option<PlacedHost> {
        let kept = self.kept_by(project).filter(|(_, status)| status.vm.name == *name);
        let (key, _) = kept.max_by_key(|(_, status)| status.kept_since_unix_ms())?;
        Some(PlacedHost { name: self.records.member(key)?.name.clone(), key })
    }

    fn kept_by(&self, project: ProjectId) -> impl Iterator<Item = (PublicKey, &VmStatus)> {
        let statuses = self.project_vms(project).into_iter();
        statuses
            .filter(|status| status.state == VmState::Kept)
            .filter(|status| self.projects.fate(&status.vm) == Some(Fate::Removed))
            .filter_map(|status| Some((self.owner(&status.vm)?, status)))
    }

    /// Returns the VMs of a project that are left out and whose disks are kept.
    pub fn kept(&self, project: ProjectId) -> Vec<KeptVm> {
        let Some(label) = self.label(project) else { return Vec::new() };
        self.kept_by(project)
            .map(|(owner, status)| KeptVm {
                until_unix_ms: status
                    .kept_since_unix_ms()
                    .saturating_add(self.projects.keep_removed_ms(&status.vm)),
                vm: VmView { label: label.clone(), owner, status: status.clone() },
            })
            .collect()
    }

    /// Returns the definition with which a VM of ours was left out, where its disk is kept.
    pub(in crate::node) fn kept_definition(&self, id: &VmId) -> Option<&Vm> {
        self.vms.owned.get(id).filter(|vm| vm.kept.is_some())?;
        self.owned(id).map(|(_, _, definition)| definition)
    }

    /// Returns a part of this host with the VMs that a later part brings back, as they were: what they are to become is
    /// a change of theirs, and no VM that is made.
    pub(in crate::node) fn with_kept(
        &self,
        before: Option<&Arc<Fragment>>,
        after: &RevisionHost,
        revision: Digest,
    ) -> Option<Arc<Fragment>> {
        let kept = after.ids(revision).filter_map(|vm| self.kept_definition(&vm)).cloned();
        let kept: Vec<Vm> = kept.collect();
        if kept.is_empty() {
            return before.cloned();
        }
        let mut part = before.map(|before| (**before).clone()).unwrap_or_default();
        part.vms.extend(kept);
        Some(Arc::new(part))
    }

    /// Whether the disk of a VM that a revision brings back is here, and stays until that is decided.
    pub(in crate::node) fn may_come_back(&self, id: &VmId) -> bool {
        let going = |vm: &super::OwnedVm| vm.busy == Some(crate::plan::Step::Remove);
        self.vms.owned.get(id).is_some_and(|vm| vm.kept.is_some() && !going(vm))
    }
}
