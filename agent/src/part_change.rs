//! What this agent can carry out of a change to its part of a project, and what it refuses.
//!
//! The node decides what a project is; what VMs that are there can become is for the platform to say. It makes VMs and
//! removes them; one that is there keeps its definition until the agent can change it.

use std::collections::BTreeSet;
use std::sync::Arc;

use mln_protocol::id::Name;
use mln_protocol::model::{Fragment, Hooks, Project};
use mln_protocol::node::{Refusal, Rule};
use mln_protocol::plan::{Change, VmChange, difference};

/// A part of a project that takes the place of another one.
#[derive(Debug)]
pub(crate) struct PartChange {
    /// The part that is there.
    pub(crate) before: Option<Arc<Fragment>>,
    /// The VMs whose disks would have to come here.
    pub(crate) arriving: Vec<Name>,
    /// The VMs whose disks would have to go elsewhere.
    pub(crate) leaving: Vec<Name>,
}

impl PartChange {
    /// Refuses what can't be carried out. Nothing was changed.
    pub(crate) fn judge(&self, fragment: &Fragment) -> Result<(), Refusal> {
        let refuse = |detail: String| Err(Refusal { rule: Rule::Platform, detail });
        if let Some(vm) = self.arriving.iter().chain(&self.leaving).next() {
            return refuse(format!(
                "{vm}: its disk is on another host, and moving disks is not there yet; leave it where it is, or give the \
                 new one another name"
            ));
        }
        let Some(before) = &self.before else { return Ok(()) };
        let stays: BTreeSet<&Name> = before.vms.iter().map(|vm| &vm.name).collect();
        let project = |part: &Fragment| Project {
            name: Name::parse("part").expect("letters are a name"),
            vms: part.vms.iter().filter(|vm| stays.contains(&vm.name)).cloned().collect(),
            switches: Vec::new(),
            hooks: Hooks::default(),
        };
        for change in difference(&project(before), &project(fragment)) {
            match change {
                // Where it is doesn't change: else it would leave.
                Change::VmChanged { change: VmChange::BootOrder(_) | VmChange::ServiceHost(_), .. } => {}
                Change::VmChanged { vm, .. } => {
                    return refuse(format!(
                        "{vm}: the definition of a VM that is there can't be changed yet; VMs can be added and removed"
                    ));
                }
                // Switches follow the part that the host has, and hooks are read when they are run.
                Change::SwitchChanged { .. } | Change::Hooks(_) => {}
                Change::Renamed(_)
                | Change::SwitchAdded { .. }
                | Change::SwitchRemoved { .. }
                | Change::SwitchesReordered { .. }
                | Change::VmAdded { .. }
                | Change::VmRemoved { .. }
                | Change::VmsReordered { .. } => {}
            }
        }
        Ok(())
    }
}
