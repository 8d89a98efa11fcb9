//! From what is there to what is wanted: a plan between a project as hosts observe it and another one.
//!
//! What a definition says and what is there may differ: a VM that was never built, one that stands elsewhere than its
//! definition says today, one that doesn't run. So the definition of what was built last is corrected by what is
//! observed, and where each VM is to be is settled, before the two are compared as any two projects are.
//!
//! ```text
//! head ──found(observed)──▶ what is there ─┐
//!                                           ├─plan──▶ changes, ordered ──gently(observed)──▶ what each costs now
//! wanted ──settled(places)──▶ what is to be ─┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::difference::Change;
use super::impact::{Act, Effect};
use super::sequence::{PlannedChange, plan};
use crate::id::Name;
use crate::model::{HostAddress, Project, Vm};

/// What a host sees of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The host that sees it.
    pub host: Name,
    /// What it sees.
    pub condition: Condition,
}

/// How a VM that a host should have is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// There is nothing of it.
    Absent,
    /// It has a disk and does not run.
    Down,
    /// It runs.
    Running,
}

/// Who can carry a VM.
pub trait Places {
    /// Returns whether a host is the one that a definition names, or belongs to the group that it names.
    fn fits(&self, host: &Name, wanted: &HostAddress) -> bool;

    /// Returns the host for a VM that is nowhere yet, or not where it should be; none where that is for the hosts to
    /// find out.
    fn host_for(&self, vm: &Vm) -> Option<Name>;
}

/// Returns what leads from what hosts observe to a wanted project, in order; nothing if that is what is there.
///
/// `head` is what was last agreed on, and none where the project doesn't exist. A VM of it that nobody sees is not
/// there. VMs in `rebuild` may lose their disks.
pub fn plan_observed(
    head: Option<&Project>,
    observed: &BTreeMap<Name, Sighting>,
    wanted: &Project,
    places: &impl Places,
    rebuild: &BTreeSet<Name>,
) -> Vec<PlannedChange> {
    let from = found(head, observed, &wanted.name);
    let to = settled(wanted, observed, places);
    let mut planned = plan(&from, &to, rebuild);
    for change in &mut planned {
        be_gentle(change, observed);
    }
    planned
}

/// Returns what is there: the VMs of the head that somebody sees, each where it is seen. Without a head that is a
/// project of this name with nothing in it.
pub fn found(head: Option<&Project>, observed: &BTreeMap<Name, Sighting>, name: &Name) -> Project {
    let Some(head) = head else {
        return Project {
            name: name.clone(),
            vms: Vec::new(),
            switches: Vec::new(),
            hooks: Default::default(),
        };
    };
    let mut project = head.clone();
    let is_there = |vm: &Vm| observed.get(&vm.name).is_some_and(|seen| seen.condition != Condition::Absent);
    project.vms.retain(is_there);
    for switch in &mut project.switches {
        switch.members.retain(|member| project.vms.iter().any(|vm| vm.name == member.vm));
    }
    for vm in &mut project.vms {
        if let Some(seen) = observed.get(&vm.name) {
            vm.service_host = Some(HostAddress(seen.host.to_string()));
        }
    }
    project
}

/// Returns what is wanted, with the host of each VM: where it is already if that will do, and else where it goes. A VM
/// whose definition names nothing stays where it is.
pub fn settled(wanted: &Project, observed: &BTreeMap<Name, Sighting>, places: &impl Places) -> Project {
    let mut project = wanted.clone();
    for vm in &mut project.vms {
        let there = observed.get(&vm.name).filter(|seen| seen.condition != Condition::Absent);
        let stays = there.filter(|seen| match &vm.service_host {
            None => true,
            Some(wanted) => places.fits(&seen.host, wanted),
        });
        let host = stays.map(|seen| seen.host.clone()).or_else(|| places.host_for(vm));
        if let Some(host) = host {
            vm.service_host = Some(HostAddress(host.to_string()));
        }
    }
    project
}

/// Nothing is stopped for a VM that doesn't run.
fn be_gentle(planned: &mut PlannedChange, observed: &BTreeMap<Name, Sighting>) {
    let Change::VmChanged { vm, .. } = &planned.change else { return };
    let is_down = observed.get(vm).is_some_and(|seen| seen.condition == Condition::Down);
    if is_down && matches!(planned.act, Act::Change(Effect::Reboot | Effect::LiveOrReboot)) {
        planned.act = Act::Change(Effect::Live);
        planned.why = "it does not run, and has it from its next start on";
    }
}
