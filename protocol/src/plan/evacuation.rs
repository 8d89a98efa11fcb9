//! Where the VMs of a host go that is to be empty, for maintenance say.
//!
//! The choice is the one of [`choose()`]: whoever has the most memory left, and what names a group stays in it. Which revision
//! has moved a VM away is told later by its reason, so that the way back needs no list that somebody would have to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::choose::{Candidate, Lack, Unplaced, choose, listed};
use super::fragment::PlacedHost;
use crate::id::Name;
use crate::model::{HostAddress, MemoryMib, Project};

/// VMs of a host that is to be empty for which there is no other host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The first of them.
    pub vm: Name,
    /// The memory that it wants.
    pub memory: MemoryMib,
    /// How many more there are.
    pub others: usize,
    /// The group that it has to stay in, where it names one.
    pub group: Option<Name>,
    /// The other hosts by name, each with what it lacks.
    pub lacking: Vec<(Name, Lack)>,
}

/// Returns the reason of the revisions that empty a host.
pub fn evacuation_reason(host: &Name) -> String {
    format!("evacuate {host}")
}

/// Whether a revision of this reason has emptied a host. People may have written more behind it.
pub fn is_evacuation(reason: &str, host: &Name) -> bool {
    let rest = reason.strip_prefix(&evacuation_reason(host));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
}

/// Returns another host for each VM of a project that is on `host`, and takes its memory off the candidates for whatever
/// comes next. `candidates` are all hosts but that one; `places` says where the project's VMs are.
pub fn evacuate(
    project: &Project,
    host: &Name,
    candidates: &mut [Candidate],
    places: &BTreeMap<Name, Name>,
) -> Result<BTreeMap<Name, PlacedHost>, Vec<NoRoom>> {
    // What names no group may go anywhere: a group that all are in, and that nobody can have written.
    let anywhere = anywhere(project, candidates);
    let mut moving = project.clone();
    let leaves = |vm: &Name| places.get(vm) == Some(host);
    for vm in &mut moving.vms {
        let group = vm.service_host.as_ref().and_then(HostAddress::group);
        if !leaves(&vm.name) {
            vm.service_host = places.get(&vm.name).map(|place| HostAddress(place.to_string()));
        } else if group.is_none() {
            vm.service_host = Some(HostAddress(format!("@{anywhere}")));
        }
    }
    let all: Vec<Candidate> = candidates
        .iter()
        .map(|one| Candidate {
            groups: [one.groups.as_slice(), std::slice::from_ref(&anywhere)].concat(),
            ..one.clone()
        })
        .collect();
    let chosen = choose(&moving, host, &all, places).map_err(|unplaced| {
        let no_room = |one: Unplaced| NoRoom {
            vm: one.vm,
            memory: one.memory,
            others: one.others,
            group: Some(one.group).filter(|group| *group != anywhere),
            lacking: one.lacking,
        };
        unplaced.into_iter().map(no_room).collect::<Vec<_>>()
    })?;
    for vm in &project.vms {
        let Some(to) = chosen.get(&vm.name) else { continue };
        if let Some(candidate) = candidates.iter_mut().find(|one| one.host == *to) {
            candidate.free = MemoryMib(candidate.free.0.saturating_sub(vm.memory.0));
        }
    }
    Ok(chosen)
}

/// Returns a name that no group of these has.
fn anywhere(project: &Project, candidates: &[Candidate]) -> Name {
    let named = project.vms.iter().filter_map(|vm| vm.service_host.as_ref()?.group());
    let taken: BTreeSet<Name> =
        candidates.iter().flat_map(|one| one.groups.iter().cloned()).chain(named).collect();
    let mut names = (0..=taken.len()).filter_map(|n| Name::parse(&format!("anywhere{n}")).ok());
    names.find(|name| !taken.contains(name)).expect("of one name more than are taken one is free")
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.vm)?;
        if self.others > 0 {
            write!(f, " and {} more", self.others)?;
        }
        match &self.group {
            Some(group) => write!(f, ": no other host of @{group}")?,
            None => f.write_str(": no other host")?,
        }
        write!(f, " has room for {}, which wants {}", self.vm, self.memory)?;
        if self.lacking.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", listed(self.lacking.iter().map(|(host, lack)| format!("{host} {lack}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PublicKey;
    use crate::lang::{self, NoIncludes};
    use crate::model::Platform;
    use crate::plan::Presence;
    use crate::resolve::{self, Options};

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    fn candidate(host: &str, groups: &[&str], free: u32) -> Candidate {
        Candidate {
            host: PlacedHost { name: name(host), key: PublicKey([host.as_bytes()[0]; 32]) },
            groups: groups.iter().map(|group| name(group)).collect(),
            platforms: vec![Platform::Uml],
            free: MemoryMib(free),
            presence: Presence::Live,
        }
    }

    #[track_caller]
    fn check(hosts: &str, places: &[(&str, &str)], free: [u32; 2], expect: &[&str]) -> Vec<u32> {
        let (tree, _) = lang::parse("p.mln", format!("global {{ project p }}\n{hosts}"), &NoIncludes);
        let project = resolve::resolve(&tree, &Options::default()).project;
        let mut candidates =
            [candidate("bergen", &["lab"], free[0]), candidate("gjovik", &["anywhere0"], free[1])];
        let places = places.iter().map(|(vm, host)| (name(vm), name(host))).collect();
        let found = match evacuate(&project, &name("oslo"), &mut candidates, &places) {
            Ok(chosen) => chosen.iter().map(|(vm, host)| format!("{vm} {}", host.name)).collect(),
            Err(none) => none.iter().map(ToString::to_string).collect::<Vec<_>>(),
        };
        assert_eq!(found, expect);
        candidates.iter().map(|one| one.free.0).collect()
    }

    const AB: &str = "host a { memory 64M }\nhost b { memory 64M }";

    #[test]
    fn what_is_on_the_host_goes_where_most_memory_is_left_and_the_rest_stays() {
        let free = check(AB, &[("a", "oslo"), ("b", "bergen")], [100, 200], &["a gjovik"]);
        assert_eq!(free, [100, 136]);
        let free = check(AB, &[("a", "oslo"), ("b", "oslo")], [100, 130], &["a gjovik", "b bergen"]);
        assert_eq!(free, [36, 66]);
        check(AB, &[("a", "gjovik"), ("b", "bergen")], [0, 0], &[]);
    }

    #[test]
    fn what_names_its_host_or_none_may_go_anywhere_and_what_names_a_group_stays_in_it() {
        check("host a { service_host oslo }", &[("a", "oslo")], [64, 128], &["a gjovik"]);
        check("host a { memory 64M; service_host @lab }", &[("a", "oslo")], [64, 128], &["a bergen"]);
        let none = "a: no other host of @lab has room for a, which wants 64 MiB: bergen has 10 MiB left";
        check("host a { memory 64M; service_host @lab }", &[("a", "oslo")], [10, 128], &[none]);
    }

    #[test]
    fn where_there_is_no_room_it_is_said_what_each_host_lacks() {
        let none = "a and 1 more: no other host has room for a, which wants 64 MiB: bergen has 10 MiB left, gjovik has 20 \
                    MiB left";
        check(AB, &[("a", "oslo"), ("b", "oslo")], [10, 20], &[none]);
    }

    #[test]
    fn an_evacuation_is_known_by_its_reason() {
        let oslo = name("oslo");
        assert!(is_evacuation(&evacuation_reason(&oslo), &oslo));
        assert!(is_evacuation("evacuate oslo: new disks", &oslo));
        assert!(!is_evacuation("evacuate oslo2", &oslo));
        assert!(!is_evacuation("evacuate oslo --undo", &oslo));
    }
}
