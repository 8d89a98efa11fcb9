//! What this node knows of hosts that VMs may be placed on, for whoever chooses among those of a group.

use std::collections::BTreeMap;

use super::Node;
use super::io::HostRefusal;
use super::message::{Refusal, Rule};
use crate::id::{Name, ProjectId, PublicKey};
use crate::model::{MemoryMib, Project};
use crate::plan::{Candidate, PlacedHost, Presence, choose};
use crate::record::{HostStatus, VmState, VmStatus};
use crate::time::Now;

impl Node {
    /// Chooses hosts for the VMs of a project that name a group; what is `replaced` counts as gone, and
    /// `current` says where VMs are that stay in their group.
    pub(super) fn choose_hosts(
        &self,
        now: Now,
        project: &Project,
        replaced: Option<ProjectId>,
        current: &BTreeMap<Name, Name>,
    ) -> Result<BTreeMap<Name, PlacedHost>, Vec<HostRefusal>> {
        let names_group =
            project.vms.iter().any(|vm| vm.service_host.as_ref().is_some_and(|h| h.group().is_some()));
        if !names_group {
            return Ok(BTreeMap::new());
        }
        let candidates = self.candidates(now, replaced);
        let chosen = choose(project, &self.config.name, &candidates, current);
        chosen.map_err(|unplaced| {
            let refusal = |detail: String| HostRefusal {
                host: self.config.name.to_string(),
                refusal: Refusal { rule: Rule::Group, detail },
            };
            unplaced.iter().map(|one| refusal(one.to_string())).collect()
        })
    }

    /// Returns the hosts that VMs may be placed on, with what each has left; what is `replaced` counts as gone.
    pub fn candidates(&self, now: Now, replaced: Option<ProjectId>) -> Vec<Candidate> {
        let own = self.measure();
        let defined = self.defined_mib();
        self.records
            .members()
            .filter_map(|(key, member)| {
                let status = if key == self.me { &own } else { self.records.host(key)? };
                let host = PlacedHost { name: member.name.clone(), key };
                let defined = defined.get(&key).copied().unwrap_or(0);
                Some(self.candidate(now, host, status, defined, replaced))
            })
            .collect()
    }

    /// Returns the memory that this host would still promise: without what it has, what is on its way here, and what it has
    /// promised to others.
    pub fn room(&self) -> MemoryMib {
        let used = self.vms.memory_mib()
            + self.left_over_mib()
            + self.arriving_memory().0
            + self.reservations.memory_mib();
        MemoryMib(self.config.memory_limit.0.saturating_sub(used))
    }

    /// Returns the memory in MiB of VMs that were found here and are none of this host's, for all that it knows: its journal
    /// of them is lost, or somebody with its key has said that they are gone. Some of them may run.
    pub(super) fn left_over_mib(&self) -> u32 {
        let statuses = self.vms.left_over().filter_map(|vm| self.records.vm(vm, self.me));
        statuses.filter(|status| status.state != VmState::Kept).map(|status| status.memory.0).sum()
    }

    fn candidate(
        &self,
        now: Now,
        host: PlacedHost,
        status: &HostStatus,
        defined_mib: u64,
        replaced: Option<ProjectId>,
    ) -> Candidate {
        let freed = replaced.map_or(0, |project| {
            self.memory_mib_of(project).filter(|(there, _)| *there == host.key).map(|(_, mib)| mib).sum()
        });
        // What a host says of itself comes later than what it says of its VMs, and may know of more.
        let used = u64::from(status.memory_used.0).max(defined_mib).saturating_sub(freed);
        let free = u64::from(status.memory_limit.0).saturating_sub(used);
        let presence = if host.key == self.me || self.connected.contains(&host.key) {
            Presence::Live
        } else {
            Presence::Off(now.unix_ms.saturating_sub(status.measured_unix_ms) / 1000)
        };
        Candidate {
            host,
            groups: status.groups.clone(),
            platforms: status.platforms.clone(),
            free: MemoryMib(u32::try_from(free).unwrap_or(u32::MAX)),
            presence,
        }
    }

    /// Returns the memory of the VMs that each host has, as far as their records tell.
    fn defined_mib(&self) -> BTreeMap<PublicKey, u64> {
        let mut defined: BTreeMap<PublicKey, u64> = BTreeMap::new();
        for (project, _) in self.projects.heads() {
            for (host, mib) in self.memory_mib_of(project) {
                *defined.entry(host).or_default() += mib;
            }
        }
        defined
    }

    /// Returns the memory of each VM of a project that is not removed, with its host.
    fn memory_mib_of(&self, project: ProjectId) -> impl Iterator<Item = (PublicKey, u64)> {
        let takes_room = |status: &&VmStatus| !matches!(status.state, VmState::Removed | VmState::Kept);
        let there = self.project_vms(project).into_iter().filter(takes_room);
        there.filter_map(move |status| {
            Some((self.projects.owner(project.0, &status.host)?, u64::from(status.memory.0)))
        })
    }
}
