//! What is asked of the VMs that this host owns: how many, what they take, how one of them is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Build, Disk, OwnedVm, Vms};
use crate::id::{Label, Name, ProjectId, PublicKey, VmId};
use crate::model::{Forward, Fragment, MemoryMib, Vm};
use crate::node::hooks::Standing;
use crate::node::limits;
use crate::plan::{Observed, Step};
use crate::record::{RunState, VmState};

impl Vms {
    /// Returns how many VMs are defined here.
    pub(in crate::node) fn len(&self) -> usize {
        self.owned.len()
    }

    pub(in crate::node) fn projects(&self) -> BTreeSet<ProjectId> {
        self.owned.values().map(|vm| vm.status.project).collect()
    }

    pub(in crate::node) fn memory_mib(&self) -> u32 {
        self.owned.values().filter(|vm| vm.takes_room()).map(|vm| vm.status.memory.0).sum()
    }

    /// Returns the memory of the VMs of a project that `counts` holds of.
    pub(in crate::node) fn memory_mib_of(&self, project: ProjectId, counts: impl Fn(&VmId) -> bool) -> u32 {
        let of_project = self.owned.iter().filter(|(id, vm)| vm.status.project == project && counts(id));
        of_project.filter(|(_, vm)| vm.takes_room()).map(|(_, vm)| vm.status.memory.0).sum()
    }

    /// Returns the ports of this host that lead to VMs that are defined here, but for those of one project.
    pub(in crate::node) fn forwards(
        &self,
        but: Option<ProjectId>,
    ) -> impl Iterator<Item = (&Label, &Name, &Forward)> {
        let others = self.owned.iter().filter(move |(_, vm)| Some(vm.status.project) != but);
        others.flat_map(|(id, vm)| vm.status.forwards.iter().map(|port| (&vm.label, &id.name, port)))
    }

    pub(in crate::node) fn ids(&self) -> impl Iterator<Item = &VmId> {
        self.owned.keys()
    }

    /// Returns what was found at the start and belongs to no VM that is known.
    pub(in crate::node) fn left_over(&self) -> impl Iterator<Item = &VmId> {
        self.found.keys()
    }

    /// Returns the parts that VMs here were made from.
    pub(in crate::node) fn fragments(&self) -> impl Iterator<Item = &Arc<Fragment>> {
        self.owned.values().map(|vm| &vm.fragment)
    }

    /// Returns the VMs of a project that run or are about to. One whose start has failed does neither, until it is
    /// tried again.
    pub(in crate::node) fn running(&self, project: ProjectId) -> impl Iterator<Item = &VmId> {
        let is_about_to = |vm: &OwnedVm| match vm.busy {
            Some(step) => step != Step::Remove,
            None => !matches!(vm.status.state, VmState::Failed { .. }),
        };
        self.owned
            .iter()
            .filter(move |(_, vm)| vm.status.project == project)
            .filter(move |(_, vm)| match vm.observed {
                Observed::Running(_) => true,
                Observed::Absent | Observed::Down { .. } | Observed::Lost => {
                    vm.status.run == RunState::Up && is_about_to(vm)
                }
            })
            .map(|(id, _)| id)
    }

    /// Whether one more long step would be too many. Stopping is mostly waiting and does not count.
    pub(super) fn is_full(&self) -> bool {
        let long =
            |vm: &&OwnedVm| matches!(vm.busy, Some(Step::Build | Step::Start | Step::Remove | Step::Apply));
        self.owned.values().filter(long).count() >= limits::STEPS_RUNNING_MAX
    }

    /// Whether one more VM has room beside those whose disks are there or being made.
    pub(in crate::node) fn has_room(&self, memory: MemoryMib, limit: MemoryMib) -> bool {
        self.has_room_for(None, memory, limit)
    }

    /// The same for a VM that may be among those that are here already.
    pub(in crate::node) fn has_room_for(
        &self,
        vm: Option<&VmId>,
        memory: MemoryMib,
        limit: MemoryMib,
    ) -> bool {
        let there = |vm: &OwnedVm| {
            vm.takes_room() && (vm.observed != Observed::Absent || vm.busy == Some(Step::Build))
        };
        let others = self.owned.iter().filter(|(id, owned)| Some(*id) != vm && there(owned));
        let used: u64 = others.map(|(_, owned)| u64::from(owned.status.memory.0)).sum();
        used + u64::from(memory.0) <= u64::from(limit.0)
    }

    /// Returns how the VMs of a project stand.
    pub(in crate::node) fn standings(&self, project: ProjectId) -> Vec<Standing> {
        let of_project = self.owned.iter().filter(|(_, vm)| vm.status.project == project);
        of_project
            .map(|(id, vm)| Standing {
                vm: id.clone(),
                existence: vm.existence,
                run: vm.status.run,
                observed: vm.observed.clone(),
                busy: vm.busy,
            })
            .collect()
    }

    /// Returns the project of a VM, and the part of it that is here.
    pub(in crate::node) fn part(&self, id: &VmId) -> Option<(Label, Arc<Fragment>)> {
        self.owned.get(id).map(|vm| (vm.label.clone(), vm.fragment.clone()))
    }

    /// Whether a VM of ours waits for memory that this host doesn't have.
    pub(in crate::node) fn lacks_room(&self, id: &VmId) -> bool {
        self.owned.get(id).is_some_and(|vm| vm.build == Build::NoRoom)
    }

    /// Whether this is a VM of ours.
    pub(in crate::node) fn owns(&self, id: &VmId) -> bool {
        self.owned.contains_key(id)
    }

    /// Whether no disk was ever made for a VM of ours, and none is being made.
    pub(in crate::node) fn never_built(&self, id: &VmId) -> bool {
        self.owned
            .get(id)
            .is_some_and(|vm| vm.observed == Observed::Absent && vm.busy.is_none() && vm.disk == Disk::Sound)
    }

    /// Whether the disk of a VM of ours was there and is gone.
    pub(in crate::node) fn is_lost(&self, id: &VmId) -> bool {
        self.owned.get(id).is_some_and(|vm| vm.disk == Disk::Lost && vm.observed == Observed::Absent)
    }

    /// Whether the disk of a VM of ours is being made.
    pub(in crate::node) fn is_building(&self, id: &VmId) -> bool {
        self.owned.get(id).is_some_and(|vm| vm.busy == Some(Step::Build))
    }

    /// Whether a VM of ours has a disk and nothing is done with it.
    pub(in crate::node) fn is_down(&self, id: &VmId) -> bool {
        self.owned.get(id).is_some_and(|vm| {
            matches!(vm.observed, Observed::Down { .. } | Observed::Lost) && vm.busy.is_none()
        })
    }

    /// Whether there is something of a VM on this host's disk.
    pub(in crate::node) fn has_disk(&self, id: &VmId) -> bool {
        self.found.contains_key(id) || self.owned.get(id).is_some_and(|vm| vm.observed != Observed::Absent)
    }

    /// Returns what a VM of ours should be doing, how often that has changed, and who changed it last.
    pub(in crate::node) fn run_of(&self, id: &VmId) -> Option<(RunState, u64, PublicKey)> {
        self.owned.get(id).map(|vm| (vm.status.run, vm.status.run_counter, vm.status.run_by))
    }

    pub(super) fn definition<'a>(id: &VmId, vm: &'a OwnedVm) -> Option<&'a Vm> {
        vm.fragment.vms.iter().find(|definition| definition.name == id.name)
    }
}
