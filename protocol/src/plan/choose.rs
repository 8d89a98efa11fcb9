//! Which service host runs a VM whose definition names a group: `service_host @lab`.
//!
//! Whoever makes a revision chooses, once, from what hosts last said of themselves; what is chosen stands in the
//! revision, and each chosen host still says whether it agrees. So two coordinators may choose differently, and
//! none of them can be wrong for longer than one answer. A VM that is somewhere in its group stays there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::fragment::PlacedHost;
use crate::id::Name;
use crate::model::{Forward, MemoryMib, Platform, Project, Transport, Vm};

/// How many hosts a refusal lists, each with what it lacks; the others are counted.
const LACKING_LISTED_MAX: usize = 12;

/// A host of the mesh, as far as it matters for choosing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub host: PlacedHost,
    /// The groups that it counts itself to.
    pub groups: Vec<Name>,
    /// The platforms that work on it.
    pub platforms: Vec<Platform>,
    /// The memory that is left for VMs there.
    pub free: MemoryMib,
    /// Whether it can be asked.
    pub presence: Presence,
}

/// Whether a host can be asked right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It can.
    Live,
    /// It can't: it was heard of so many seconds ago.
    Off(u64),
}

/// Why a host was not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It can't be asked; it was heard of so many seconds ago.
    Off(u64),
    /// The platform doesn't work there.
    Platform(Platform),
    /// The memory that is left, which is too little.
    Memory(MemoryMib),
    /// Another VM of the project has the port there.
    Port(Forward),
}

/// VMs of one group for which there is no host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// The group.
    pub group: Name,
    /// The first VM that found no place.
    pub vm: Name,
    /// The memory that it wants.
    pub memory: MemoryMib,
    /// How many more of the group found none.
    pub others: usize,
    /// The hosts of the group by name, each with what it lacks for the first VM.
    pub lacking: Vec<(Name, Lack)>,
    /// The groups that there are, where there is no such group.
    pub known: Vec<Name>,
}

/// Returns the host of every VM that names a group: the one with the most memory left, of equal ones the first by
/// name. VMs come in the order of the file, and each counts before the next; those that name a host count before all.
///
/// `asked` runs what names neither; `current` says where VMs are that exist already.
pub fn choose(
    project: &Project,
    asked: &Name,
    candidates: &[Candidate],
    current: &BTreeMap<Name, Name>,
) -> Result<BTreeMap<Name, PlacedHost>, Vec<Unplaced>> {
    let mut room = Room::of(project, asked, candidates, current);
    let mut chosen = BTreeMap::new();
    let mut unplaced: Vec<Unplaced> = Vec::new();
    for vm in &project.vms {
        let Some(group) = vm.service_host.as_ref().and_then(|host| host.group()) else { continue };
        let of_group = || candidates.iter().filter(|candidate| candidate.groups.contains(&group));
        let stays = of_group().find(|candidate| current.get(&vm.name) == Some(&candidate.host.name));
        let fits = of_group().filter(|candidate| room.lack(vm, candidate).is_none());
        let roomiest = || fits.min_by_key(|one| (Reverse(room.free(&one.host)), &one.host));
        if let Some(host) = stays.or_else(roomiest) {
            room.take(vm, &host.host, if stays.is_some() { 0 } else { vm.memory.0 });
            chosen.insert(vm.name.clone(), host.host.clone());
        } else if let Some(known) = unplaced.iter_mut().find(|known| known.group == group) {
            known.others += 1;
        } else {
            let mut lacking: Vec<(Name, Lack)> = of_group()
                .filter_map(|candidate| Some((candidate.host.name.clone(), room.lack(vm, candidate)?)))
                .collect();
            lacking.sort_by(|a, b| a.0.cmp(&b.0));
            let all: BTreeSet<&Name> = candidates.iter().flat_map(|candidate| &candidate.groups).collect();
            let known = if lacking.is_empty() { all.into_iter().cloned().collect() } else { Vec::new() };
            let (vm, memory) = (vm.name.clone(), vm.memory);
            unplaced.push(Unplaced { group, vm, memory, others: 0, lacking, known });
        }
    }
    if unplaced.is_empty() { Ok(chosen) } else { Err(unplaced) }
}

/// What is left on each host while VMs are placed.
struct Room<'c> {
    free: BTreeMap<&'c PlacedHost, u64>,
    ports: BTreeSet<(Name, u16, Transport)>,
}

impl<'c> Room<'c> {
    fn of(
        project: &Project,
        asked: &Name,
        candidates: &'c [Candidate],
        current: &BTreeMap<Name, Name>,
    ) -> Self {
        let free = candidates.iter().map(|one| (&one.host, u64::from(one.free.0))).collect();
        let mut room = Self { free, ports: BTreeSet::new() };
        for vm in &project.vms {
            let name = match &vm.service_host {
                Some(host) if host.group().is_some() => continue,
                Some(host) => host.0.as_str(),
                None => asked.as_str(),
            };
            let Some(host) = candidates.iter().find(|one| one.host.name.as_str() == name) else { continue };
            let is_there = current.get(&vm.name) == Some(&host.host.name);
            room.take(vm, &host.host, if is_there { 0 } else { vm.memory.0 });
        }
        room
    }

    fn free(&self, host: &PlacedHost) -> u64 {
        self.free.get(host).copied().unwrap_or(0)
    }

    fn take(&mut self, vm: &Vm, host: &PlacedHost, memory_mib: u32) {
        if let Some(free) = self.free.get_mut(host) {
            *free = free.saturating_sub(u64::from(memory_mib));
        }
        self.ports.extend(forwards(vm).map(|port| (host.name.clone(), port.host_port, port.transport)));
    }

    fn lack(&self, vm: &Vm, candidate: &Candidate) -> Option<Lack> {
        if let Presence::Off(heard_s) = candidate.presence {
            return Some(Lack::Off(heard_s));
        }
        if !candidate.platforms.contains(&vm.platform) {
            return Some(Lack::Platform(vm.platform));
        }
        let name = &candidate.host.name;
        let is_taken = |port: &&Forward| self.ports.contains(&(name.clone(), port.host_port, port.transport));
        if let Some(port) = forwards(vm).find(is_taken) {
            return Some(Lack::Port(*port));
        }
        let free = self.free(&candidate.host);
        (free < u64::from(vm.memory.0))
            .then(|| Lack::Memory(MemoryMib(u32::try_from(free).unwrap_or(u32::MAX))))
    }
}

fn forwards(vm: &Vm) -> impl Iterator<Item = &Forward> {
    vm.networks.iter().flat_map(|network| &network.forwards)
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off(seconds) => write!(f, "is off, last heard {seconds} s ago"),
            Self::Platform(platform) => write!(f, "can't run {}", platform.keyword()),
            Self::Memory(free) => write!(f, "has {free} left"),
            Self::Port(port) => {
                write!(f, "has port {} ({}) taken by this project", port.host_port, port.transport.word())
            }
        }
    }
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, vm, memory, others, lacking, known } = self;
        write!(f, "{vm}")?;
        if *others > 0 {
            write!(f, " and {others} more")?;
        }
        if lacking.is_empty() {
            write!(f, ": no host counts itself to the group @{group}")?;
            return match known.as_slice() {
                [] => f.write_str(", nor to any other"),
                known => write!(f, " (there are {})", listed(known.iter().map(|name| format!("@{name}")))),
            };
        }
        write!(f, ": no host of @{group} has room for {vm}, which wants {memory}: ")?;
        f.write_str(&listed(lacking.iter().map(|(host, lack)| format!("{host} {lack}"))))
    }
}

pub(super) fn listed(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(LACKING_LISTED_MAX);
    let mut text = all.take(LACKING_LISTED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        write!(text, " and {more} more").expect("a String takes all text");
    }
    text
}

#[cfg(test)]
#[path = "choose_test.rs"]
mod tests;
