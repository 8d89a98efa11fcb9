//! What differs in what a guest has beside its disk and its interfaces, and in how its process runs.

use std::collections::BTreeMap;

use super::difference::Replaced;
use super::policy::items_of_policies;
use super::row::{Item, given, items_of_list};
use crate::model::{Group, Hooks, MemoryMib, Mount, MountSource, Policy, Scheduling};

/// One thing that a guest has beside its disk and its interfaces, and has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupChange {
    /// Groups of accounts.
    Groups(Replaced<Vec<Group>>),
    /// How much it can swap out.
    Swap(Replaced<Option<crate::model::DiskBytes>>),
    /// What is mounted in it.
    Mounts(Replaced<Vec<Mount>>),
    /// What it runs when it shuts down.
    Shutdown(Replaced<Vec<String>>),
    /// How its process runs.
    Scheduling(Replaced<Scheduling>),
    /// The most memory that it can be given as it runs.
    MemoryMax(Replaced<Option<MemoryMib>>),
    /// What it may decide by itself.
    Policies(Replaced<Vec<Policy>>),
}

/// Returns whether a disk of its own goes, or is to be another one: what is on it would be lost.
pub(super) fn loses_a_disk(mounts: &Replaced<Vec<Mount>>) -> bool {
    let disks = |mounts: &[Mount]| -> BTreeMap<(u64, String), usize> {
        let mut counts = BTreeMap::new();
        for Mount { source, file_system, .. } in mounts {
            if let MountSource::Disk(bytes) = source {
                *counts.entry((bytes.0, file_system.clone())).or_default() += 1;
            }
        }
        counts
    };
    // Of equal disks as many have to stay as there are.
    let stay = disks(&mounts.to);
    disks(&mounts.from).iter().any(|(kind, count)| stay.get(kind).is_none_or(|stay| stay < count))
}

pub(super) fn items_of_setup(change: &SetupChange) -> Vec<Item> {
    match change {
        SetupChange::Groups(groups) => items_of_list("groups", groups, group_text),
        SetupChange::Swap(swap) => {
            vec![given("swap", swap.from.map(|one| one.to_string()), swap.to.map(|one| one.to_string()))]
        }
        SetupChange::MemoryMax(most) => {
            let text = |most: Option<MemoryMib>| most.map(|most| most.to_string());
            vec![given("memory_max", text(most.from), text(most.to))]
        }
        SetupChange::Policies(policies) => items_of_policies(policies),
        SetupChange::Mounts(mounts) => items_of_list("mount", mounts, mount_text),
        SetupChange::Shutdown(lines) => items_of_list("shutdown", lines, String::clone),
        SetupChange::Scheduling(change) => {
            let Replaced { from, to } = change;
            let nice = |one: &Scheduling| one.nice.map(|nice| nice.to_string());
            let cpus = |one: &Scheduling| (!one.cpus.is_empty()).then(|| cpus_text(&one.cpus));
            let mut items = Vec::new();
            if from.nice != to.nice {
                items.push(given("nice", nice(from), nice(to)));
            }
            if from.cpus != to.cpus {
                items.push(given("cpus", cpus(from), cpus(to)));
            }
            items
        }
    }
}

/// Each hook that came, went or changed.
pub(super) fn items_of_hooks(hooks: &Replaced<Hooks>) -> Vec<Item> {
    let points = crate::model::HookPoint::ALL.into_iter();
    let differing = points.filter(|&point| hooks.from.lines(point) != hooks.to.lines(point));
    let text = |hooks: &Hooks, point| hooks.lines(point).map(|lines| lines.join("; "));
    differing.map(|point| given(point.keyword(), text(&hooks.from, point), text(&hooks.to, point))).collect()
}

fn group_text(group: &Group) -> String {
    let members: Vec<&str> = group.members.iter().map(|member| member.as_str()).collect();
    format!("{} {{ {} }}", group.name, members.join(" "))
}

fn mount_text(mount: &Mount) -> String {
    let source = match &mount.source {
        MountSource::Disk(bytes) => bytes.to_string(),
        MountSource::Image(path) | MountSource::Folder(path) => path.clone(),
    };
    let options = mount.options.as_ref().map_or(String::new(), |options| format!(" {options}"));
    format!("{source} {} {}{options}", mount.at, mount.file_system)
}

fn cpus_text(cpus: &[u16]) -> String {
    cpus.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}
