//! Changes in the order in which they are made, each with what it does and whether it may.
//!
//! Segments come before what is attached to them and go after it; what is removed makes room for what is moved and
//! built. Within each, VMs come in their boot order, and go against it.

use std::collections::{BTreeMap, BTreeSet};

use super::difference::{Change, difference};
use super::impact::{Act, Effect, Loss, impact};
use crate::id::Name;
use crate::model::{BootOrder, Platform, Project, Vm};

/// One change of a project, with what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChange {
    /// What is changed.
    pub change: Change,
    /// What is done.
    pub act: Act,
    /// Why it is that.
    pub why: &'static str,
    /// Whether it is.
    pub permission: Permission,
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It is.
    Granted,
    /// It is not, because nobody asked for this loss by the VM's name.
    Refused(Loss),
}

/// Returns what leads from one project to another, in order; nothing if they are the same. VMs in `rebuild` may
/// lose their disks.
pub fn plan(from: &Project, to: &Project, rebuild: &BTreeSet<Name>) -> Vec<PlannedChange> {
    let vms = |project: &'_ Project| -> BTreeMap<Name, (usize, BootOrder, Platform)> {
        let vms = project.vms.iter().enumerate();
        vms.map(|(at, vm): (usize, &Vm)| (vm.name.clone(), (at, vm.boot_order, vm.platform))).collect()
    };
    let (before, after) = (vms(from), vms(to));
    let mut planned: Vec<((u8, i16, i64), PlannedChange)> = difference(from, to)
        .into_iter()
        .map(|change| {
            let vm = vm_of(&change);
            let of_vm = vm.and_then(|vm| after.get(vm).or_else(|| before.get(vm))).copied();
            let (at, order, platform) = of_vm.unwrap_or((0, BootOrder::default(), Platform::Uml));
            let impact = impact(&change, platform);
            let permission = match impact.loss {
                Some(loss) if !vm.is_some_and(|vm| rebuild.contains(vm)) => Permission::Refused(loss),
                Some(_) | None => Permission::Granted,
            };
            let (order, at) = (i16::from(order.0), i64::try_from(at).unwrap_or(i64::MAX));
            let (order, at) = if impact.act == Act::Remove { (-order, -at) } else { (order, at) };
            let key = (phase(&change, impact.act), order, at);
            (key, PlannedChange { act: impact.act, why: impact.why, permission, change })
        })
        .collect();
    // Stable: the changes of one VM stay together and in order.
    planned.sort_by_key(|(key, _)| *key);
    planned.into_iter().map(|(_, change)| change).collect()
}

fn vm_of(change: &Change) -> Option<&Name> {
    match change {
        Change::VmAdded { vm, .. } => Some(&vm.name),
        Change::VmRemoved { vm } | Change::VmChanged { vm, .. } => Some(vm),
        Change::Renamed(_)
        | Change::Hooks(_)
        | Change::SwitchAdded { .. }
        | Change::SwitchRemoved { .. }
        | Change::SwitchChanged { .. }
        | Change::SwitchesReordered { .. }
        | Change::VmsReordered { .. } => None,
    }
}

fn phase(change: &Change, act: Act) -> u8 {
    match (change, act) {
        (Change::Renamed(_) | Change::Hooks(_), _) => 0,
        (Change::SwitchesReordered { .. } | Change::VmsReordered { .. }, _) => 1,
        (Change::SwitchAdded { .. } | Change::SwitchChanged { .. }, _) => 2,
        (Change::VmRemoved { .. }, _) => 3,
        (_, Act::Change(Effect::Move)) => 4,
        (Change::VmChanged { .. }, _) => 5,
        (Change::VmAdded { .. }, _) => 6,
        (Change::SwitchRemoved { .. }, _) => 7,
    }
}
