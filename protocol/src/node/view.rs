//! What a node knows, to be shown: nothing here changes anything.

use std::sync::Arc;

use super::Node;
use super::projects::{Fate, ProjectHeads};
use crate::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use crate::model::{Blob, Fragment};
use crate::record::{Commit, HostStatus, VmState, VmStatus};

/// A member of the mesh.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: PublicKey,
    /// How many grants lead from the mesh's root key to it: a first host has one, and whoever it lets in one more.
    pub grants: usize,
    /// What it last said of itself; none until it has.
    pub status: Option<HostStatus>,
    /// Whether this node is connected to it, or is it.
    pub reach: Reach,
}

/// Whether a host can be spoken to right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is this host.
    Here,
    /// It is connected.
    Connected,
    /// It is not.
    Away,
}

/// A project that is not removed.
#[derive(Clone, Debug)]
pub struct ProjectView {
    /// Its identity.
    pub id: ProjectId,
    /// Its label.
    pub label: Label,
    /// The names of its hosts.
    pub hosts: Vec<Name>,
    /// How many VMs it has.
    pub vms: usize,
    /// When its head was made, by its author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Who made its head.
    pub author: String,
}

/// A VM of a project.
#[derive(Clone, Debug)]
pub struct VmView {
    /// Its project's label.
    pub label: Label,
    /// Who owns it.
    pub owner: PublicKey,
    /// What its owner last said of it.
    pub status: VmStatus,
}

impl Node {
    /// Whether a VM that this host owns can't be made for want of memory: it was committed too late.
    pub fn lacks_room(&self, vm: &crate::id::VmId) -> bool {
        self.vms.lacks_room(vm)
    }

    /// Returns the members of the mesh by name.
    pub fn hosts(&self) -> Vec<HostView> {
        let reach = |key| {
            if key == self.me {
                Reach::Here
            } else if self.connected.contains(&key) {
                Reach::Connected
            } else {
                Reach::Away
            }
        };
        let mut hosts: Vec<HostView> = self
            .records
            .members()
            .map(|(key, member)| HostView {
                name: member.name.clone(),
                key,
                grants: member.chain.len(),
                status: self.records.host(key).cloned(),
                reach: reach(key),
            })
            .collect();
        hosts.sort_by(|a, b| (&a.name, a.key).cmp(&(&b.name, b.key)));
        hosts
    }

    /// Returns the members of the mesh, first hosts before those that they let in, alike ones by name: the same order at
    /// every peer, since the grants are part of what a member says of itself.
    pub fn hosts_by_introduction(&self) -> Vec<HostView> {
        let mut hosts = self.hosts();
        hosts.sort_by_key(|host| host.grants);
        hosts
    }

    /// Returns the projects that are not removed, by label.
    pub fn projects(&self) -> Vec<ProjectView> {
        let view = |(id, head): (ProjectId, &Commit)| ProjectView {
            id,
            label: head.revision.label.clone(),
            hosts: head.revision.hosts.iter().map(|host| host.name.clone()).collect(),
            vms: head.revision.vm_count(),
            made_unix_ms: head.revision.made_unix_ms,
            author: head.revision.author.clone(),
        };
        let mut projects: Vec<ProjectView> =
            self.projects.heads().filter(|(_, head)| !head.removes()).map(view).collect();
        projects.sort_by(|a, b| (&a.label, a.id).cmp(&(&b.label, b.id)));
        projects
    }

    /// Returns the projects that are removed and still remembered, the last one of a label last.
    pub fn removed_projects(&self) -> Vec<ProjectView> {
        let view = |(id, head): (ProjectId, &Commit)| ProjectView {
            id,
            label: head.revision.label.clone(),
            hosts: Vec::new(),
            vms: 0,
            made_unix_ms: head.revision.made_unix_ms,
            author: head.revision.author.clone(),
        };
        let mut projects: Vec<ProjectView> =
            self.projects.heads().filter(|(_, head)| head.removes()).map(view).collect();
        projects.sort_by(|a, b| (&a.label, a.made_unix_ms, a.id).cmp(&(&b.label, b.made_unix_ms, b.id)));
        projects
    }

    /// Returns the VMs of a project by name, without those that are removed or left out.
    pub fn vms(&self, project: ProjectId) -> Vec<VmView> {
        let Some(head) = self.projects.head(project) else { return Vec::new() };
        let label = &head.revision.label;
        let owner = |status: &VmStatus| self.owner(&status.vm);
        self.project_vms(project)
            .into_iter()
            .filter(|status| !matches!(status.state, VmState::Removed | VmState::Kept))
            .filter_map(|status| {
                let status = self.status_here(&status.vm).unwrap_or(status);
                Some(VmView { label: label.clone(), owner: owner(status)?, status: status.clone() })
            })
            .collect()
    }

    /// Returns where a project stands; none where it isn't known.
    pub fn heads(&self, project: ProjectId) -> Option<&ProjectHeads> {
        self.projects.heads_of(project)
    }

    /// Returns the revisions that lead to a project's head, oldest first, each with who published it.
    pub fn revisions(&self, project: ProjectId) -> Vec<(PublicKey, &Commit)> {
        let path = self.projects.heads_of(project).into_iter().flat_map(ProjectHeads::path);
        path.filter_map(|revision| {
            Some((self.projects.record(*revision)?.author(), self.projects.commit(*revision)?))
        })
        .collect()
    }

    /// Returns a revision of a project that counts, or counted until another went before it.
    pub fn revision(&self, revision: Digest) -> Option<&Commit> {
        self.projects.commit(revision).filter(|commit| self.projects.is_proven(commit.digest))
    }

    /// Returns the part of a project with this digest, if this host has it.
    pub fn part(&self, fragment: Digest) -> Option<&Arc<Fragment>> {
        self.fragments.get(&fragment)
    }

    /// Returns the disk that a VM came with which an import has placed here, and what its project was called then. Whatever
    /// the project has become since, it is what the VM is built with.
    pub fn imported_disk(&self, vm: &VmId) -> Option<(&Label, &Blob)> {
        let birth = self.projects.commit(vm.birth).filter(|commit| commit.revision.parent.is_none())?;
        let part = birth.host(self.me).filter(|part| part.ids(birth.digest).any(|born| born == *vm))?;
        let name = Blob::disk_of(&vm.name);
        let disk = self.fragments.get(&part.fragment)?.blobs.iter().find(|blob| blob.from == name)?;
        Some((&birth.revision.label, disk))
    }

    /// Returns the VMs of a project that only a head has which lost: they are kept as they are, and never deleted.
    pub fn stranded(&self, project: ProjectId) -> Vec<VmView> {
        let is_stranded = |view: &VmView| matches!(self.projects.fate(&view.status.vm), Some(Fate::Stranded));
        self.vms(project).into_iter().filter(is_stranded).collect()
    }

    /// Returns what people call a project, also one that is removed; none where it isn't known.
    pub fn label(&self, project: ProjectId) -> Option<Label> {
        self.projects.head(project).map(|head| head.revision.label.clone())
    }

    /// Returns one VM of a project.
    pub fn vm(&self, project: ProjectId, name: &Name) -> Option<VmView> {
        let mut named: Vec<VmView> =
            self.vms(project).into_iter().filter(|view| view.status.vm.name == *name).collect();
        // One that the head has goes before one that is left of a head that lost.
        named.sort_by_key(|view| self.projects.placement(&view.status.vm).is_none());
        named.into_iter().next()
    }

    /// Returns the contents that some project names: of files, and what it was submitted as; built, reserved for, or being
    /// asked about. Disks are named only by the parts with which VMs of this host were born: those of other hosts are not kept
    /// with the revision that brought them.
    pub fn used_blobs(&self) -> std::collections::BTreeSet<crate::id::Digest> {
        let asked = self.reservations.fragments().chain(self.proposals.fragments());
        let asked = asked.flat_map(|fragment| &fragment.blobs);
        let kept = self.fragments.iter().flat_map(|(digest, fragment)| {
            let brings_disks = self.brings_disks(*digest);
            fragment.blobs.iter().filter(move |blob| brings_disks || !blob.is_disk())
        });
        let files = kept.chain(asked).map(|blob| blob.digest);
        let live = self.projects.heads().filter(|(_, head)| !head.removes()).map(|(project, _)| project);
        let submitted = live.flat_map(|project| self.submitted(project));
        let asked = self.reservations.definitions().chain(self.proposals.definitions());
        files.chain(submitted).chain(asked).collect()
    }

    /// Returns how many records it holds, and the exclusive or of their digests: equal where these are equal.
    pub fn record_sum(&self) -> (usize, crate::id::Digest) {
        (self.records.len(), self.records.fingerprint())
    }

    /// Returns whether anybody else has this name in the mesh.
    pub fn name_taken(&self, name: &Name, by_other_than: PublicKey) -> bool {
        self.records.members().any(|(key, member)| member.name == *name && key != by_other_than)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Input, NodeConfig, Output, StoredState};
    use crate::time::Now;
    use crate::trust::{Domain, Grant, KeyPair, Signed, Verb, mesh_of};

    const NOW: Now = Now { mono_ms: 0, unix_ms: 0 };

    fn keys(seed: u8) -> KeyPair {
        KeyPair::from_secret([seed; 32])
    }

    /// A member's name, the seed of its key, and the seed of whoever lets it in, with that one's grants.
    fn started(name: &str, seed: u8, by: u8, before: &[Signed]) -> (Node, Vec<Signed>, Vec<Input>) {
        let name = Name::parse(name).expect("a valid name");
        let grant = Grant {
            mesh: mesh_of(keys(0).public()),
            subject: keys(seed).public(),
            name: Some(name.clone()),
            verbs: Verb::ALL.into_iter().collect(),
            passes: 3 - u8::try_from(before.len()).expect("few grants"),
            not_after_unix_ms: None,
            scope: crate::trust::Scope::default(),
        };
        let chain = [before, &[keys(by).sign(Domain::Grant, grant.to_bytes())]].concat();
        let mut node = Node::new(NodeConfig::new(keys(seed), name, chain.clone()), StoredState::default());
        node.handle(NOW, Input::Start { found: Vec::new() });
        let mut told = Vec::new();
        while let Some(output) = node.poll_output() {
            match output {
                Output::Persist { id, .. } => node.handle(NOW, Input::Persisted(id)),
                Output::Broadcast(record) => told.push(Input::Record(record)),
                _ => {}
            }
        }
        (node, chain, told)
    }

    #[test]
    fn who_made_the_mesh_comes_before_those_that_it_let_in() {
        let (west, founder, from_west) = started("west", 1, 0, &[]);
        let (oslo, second, from_oslo) = started("oslo", 2, 1, &founder);
        let (bergen, _, from_bergen) = started("bergen", 3, 1, &founder);
        let (aalen, _, from_aalen) = started("aalen", 4, 2, &second);
        let told = [from_west, from_oslo, from_bergen, from_aalen].concat();
        for mut node in [west, oslo, bergen, aalen] {
            for input in &told {
                node.handle(NOW, input.clone());
            }
            let names: Vec<String> =
                node.hosts_by_introduction().iter().map(|host| host.name.to_string()).collect();
            assert_eq!(names, ["west", "bergen", "oslo", "aalen"]);
        }
    }
}
