//! What a node knows of VMs that moved, or could: for whoever empties a host, or takes a VM over. Nothing here changes
//! anything.

use std::collections::BTreeMap;

use super::Node;
use super::io::Holding;
use super::ledger::Tenure;
use super::ownership::as_release;
use crate::id::{Digest, Name, ProjectId, PublicKey, VmId};
use crate::plan::is_evacuation;
use crate::record::{Claim, ClaimBasis, Commit, Epoch, Link, Record};

/// A VM that was moved away when its host was to be empty, and is where it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evacuated {
    /// Its project.
    pub project: ProjectId,
    /// Its name.
    pub vm: Name,
    /// Where it is placed now.
    pub at: Name,
    /// The revision before it was moved, where the project has not been changed since: to go back to it is the way back.
    pub back_to: Option<Digest>,
}

/// What a host has of a VM that it may be asked to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyHere {
    /// It owns the VM.
    Owned,
    /// A copy that was complete when this epoch ended.
    Complete(Epoch),
    /// One that was being brought here.
    Incomplete,
    /// None.
    None,
}

impl Node {
    /// Returns the VMs that the heads place on a host, each with its project.
    pub fn placed_on(&self, host: &Name) -> Vec<(ProjectId, Name)> {
        let of = |(project, head): (ProjectId, &Commit)| -> Vec<(ProjectId, Name)> {
            let there = head.placed().filter(|(_, at)| at.name == *host);
            there.map(|(vm, _)| (project, vm.name)).collect()
        };
        self.projects.heads().flat_map(of).collect()
    }

    /// Returns where the head of a project places its VMs.
    pub fn places(&self, project: ProjectId) -> BTreeMap<Name, Name> {
        let placed = self.projects.head(project).into_iter().flat_map(Commit::placed);
        placed.map(|(vm, host)| (vm.name, host.name.clone())).collect()
    }

    /// Returns the VMs whose last move was away from a host that was to be empty.
    pub fn evacuated(&self, host: &Name) -> Vec<Evacuated> {
        let projects = self.projects.heads().filter(|(_, head)| !head.removes());
        projects.flat_map(|(project, head)| self.evacuated_of(project, head, host)).collect()
    }

    fn evacuated_of(&self, project: ProjectId, head: &Commit, host: &Name) -> Vec<Evacuated> {
        // Where each VM is after a revision, and whether that revision, or which one, brought it there from the host.
        let mut last: BTreeMap<VmId, (Name, Option<Digest>)> = BTreeMap::new();
        for (_, commit) in self.revisions(project) {
            let mut next = BTreeMap::new();
            for (vm, at) in commit.placed() {
                let known = last.get(&vm);
                let by = match known {
                    Some((before, by)) if *before == at.name => *by,
                    Some((before, _)) if before == host => {
                        Some(commit.digest).filter(|_| is_evacuation(&commit.revision.reason, host))
                    }
                    Some(_) | None => None,
                };
                next.insert(vm, (at.name.clone(), by));
            }
            last = next;
        }
        let row = |(vm, (at, by)): (VmId, (Name, Option<Digest>))| {
            let whole = by? == head.digest;
            let back_to = head.revision.parent.filter(|_| whole);
            Some(Evacuated { project, vm: vm.name, at, back_to })
        };
        last.into_iter().filter_map(row).collect()
    }

    /// Returns the VM that has a name in the head of a project, or is left of another one.
    pub fn vm_named(&self, project: ProjectId, name: &Name) -> Option<VmId> {
        let head = self.projects.head(project)?;
        let placed = head.placed().find(|(vm, _)| vm.name == *name).map(|(vm, _)| vm);
        placed.or_else(|| self.vm(project, name).map(|view| view.status.vm))
    }

    /// Returns what this host has of a VM.
    pub fn copy_here(&self, vm: &VmId) -> CopyHere {
        match self.holdings.get(vm) {
            Some(Holding::Shadow { epoch, .. } | Holding::Arrived { epoch, .. }) => {
                CopyHere::Complete(*epoch)
            }
            Some(Holding::Released { release, .. }) => match as_release(release) {
                Some(release) => CopyHere::Complete(release.epoch),
                None => CopyHere::None,
            },
            Some(Holding::Claimed { claim, .. }) => match &***claim {
                Record::Link(link) if self.ownership(vm).is_some_and(|o| o.epoch > link.epoch()) => {
                    CopyHere::Complete(link.epoch())
                }
                _ => CopyHere::Owned,
            },
            Some(Holding::Arriving { .. } | Holding::Declined { .. }) => CopyHere::Incomplete,
            None => CopyHere::None,
        }
    }

    /// Returns the host that gave a VM to its owner, and so has the newest copy of all others; none where nobody did.
    pub fn given_by(&self, vm: &VmId) -> Option<PublicKey> {
        let current = self.ownership(vm)?;
        if let Tenure::Released { .. } = current.tenure {
            return Some(current.owner);
        }
        self.ledger.links(vm).find_map(|record| match &***record {
            Record::Link(Link::Claim(Claim { epoch, basis: ClaimBasis::Release(release), .. }))
                if *epoch <= current.epoch && release.author() != current.owner =>
            {
                Some(release.author())
            }
            _ => None,
        })
    }
}
