//! A project's revisions, and what makes one count.

use std::collections::{BTreeMap, BTreeSet};

use super::promise::Promise;
use crate::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use crate::trust::{Amount, Decision, Verified};

/// One definition of a project: the first builds it, one without hosts removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The project, but in its first revision, whose digest becomes the project's.
    pub project: Option<ProjectId>,
    /// The revision that this one replaces.
    pub parent: Option<Digest>,
    /// What people call the project.
    pub label: Label,
    /// The hosts that carry a part of it, by name.
    pub hosts: Vec<RevisionHost>,
    /// The digest of the project's definition: of what all hosts carry together.
    pub definition: Digest,
    /// What it takes for it to count.
    pub consent: Consent,
    /// When it was made, by its author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Who made it, for people.
    pub author: String,
    /// Why, for people.
    pub reason: String,
    /// On whose grants it was made; none where a user of a host made it with what that host may do.
    pub charge: Option<Charge>,
    /// For how long the disks of VMs that it leaves out are kept, in milliseconds, by their owners' clocks.
    pub keep_removed_ms: u64,
    /// Which VM decided on it, and what was granted to it; none where people did.
    pub decision: Option<Decision>,
}

/// What a project takes of the grants with which it was made: so every host that is asked for more can tell what is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Who asked for it.
    pub principal: PublicKey,
    /// The digests of their grants, root first.
    pub grants: Vec<Digest>,
    /// What the whole project takes.
    pub amount: Amount,
}

/// What it takes for a revision to count, beside the reservations of the hosts that it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consent {
    /// The promises of a majority of the parent's hosts.
    Majority,
    /// Nothing: the majority is away. Any revision by majority beats it and whatever descends from it.
    Partial,
}

/// A host of a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevisionHost {
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: PublicKey,
    /// The digest of its fragment.
    pub fragment: Digest,
    /// The VMs that it carries, as the fragment has them.
    pub vms: Vec<RevisionVm>,
}

/// A VM of a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevisionVm {
    /// Its name in the project.
    pub name: Name,
    /// The revision in which it first appeared; none where it is born in this very one.
    pub birth: Option<Digest>,
}

/// A revision with the word of every host that it changes, and of those that decided on it: it proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision.
    pub revision: Revision,
    /// The digest of the revision's encoding: its identity.
    pub digest: Digest,
    /// What each host that it changes has signed.
    pub reservations: Vec<Verified<Reservation>>,
    /// What those that decided on it have signed, all in one ballot. First revisions have none.
    pub promises: Vec<Verified<Promise>>,
}

/// A host's word that it has room and means for its part of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The revision.
    pub revision: Digest,
}

impl RevisionHost {
    /// Returns the VMs that it carries in the revision with this digest.
    pub fn ids(&self, revision: Digest) -> impl Iterator<Item = VmId> {
        self.vms.iter().map(move |vm| vm.id(revision))
    }
}

impl RevisionVm {
    /// Returns which VM it is in the revision with this digest.
    pub fn id(&self, revision: Digest) -> VmId {
        VmId { birth: self.birth.unwrap_or(revision), name: self.name.clone() }
    }
}

impl Revision {
    /// Returns the part of one host.
    pub fn host(&self, key: PublicKey) -> Option<&RevisionHost> {
        self.hosts.iter().find(|host| host.key == key)
    }

    /// Returns how many VMs it has.
    pub fn vm_count(&self) -> usize {
        self.hosts.iter().map(|host| host.vms.len()).sum()
    }

    /// Returns the hosts whose part differs between this revision, whose digest is `digest`, and a child of it:
    /// what they carry, which VMs these are, or whether they take part at all.
    ///
    /// It follows from the two revisions, so that nobody can leave a host out by not naming it.
    pub fn changed_hosts(&self, digest: Digest, child: &Self, child_digest: Digest) -> BTreeSet<PublicKey> {
        let parts = |revision: &Self, digest: Digest| -> BTreeMap<PublicKey, (Name, Digest, Vec<VmId>)> {
            let part = |host: &RevisionHost| {
                let ids: BTreeSet<VmId> = host.ids(digest).collect();
                (host.key, (host.name.clone(), host.fragment, ids.into_iter().collect()))
            };
            revision.hosts.iter().map(part).collect()
        };
        let (old, new) = (parts(self, digest), parts(child, child_digest));
        old.keys().chain(new.keys()).filter(|key| old.get(key) != new.get(key)).copied().collect()
    }
}

impl Commit {
    /// Returns the project that the revision belongs to.
    pub fn project(&self) -> ProjectId {
        self.revision.project.unwrap_or(ProjectId(self.digest))
    }

    /// Whether the revision removes the project.
    pub fn removes(&self) -> bool {
        self.revision.hosts.is_empty()
    }

    /// Returns the part of one host.
    pub fn host(&self, key: PublicKey) -> Option<&RevisionHost> {
        self.revision.host(key)
    }

    /// Returns the VMs of the revision, each with the host that is to carry it.
    pub fn placed(&self) -> impl Iterator<Item = (VmId, &RevisionHost)> {
        self.revision.hosts.iter().flat_map(|host| host.ids(self.digest).map(move |id| (id, host)))
    }

    /// Returns the hosts that have reserved for it.
    pub fn reserving(&self) -> BTreeSet<PublicKey> {
        self.reservations.iter().filter(|r| r.revision == self.digest).map(Verified::author).collect()
    }

    /// Returns the hosts that have promised it.
    pub fn promising(&self) -> BTreeSet<PublicKey> {
        self.promises.iter().filter(|p| p.child == self.digest).map(Verified::author).collect()
    }

    /// Whether the host with this key signed a reservation for it.
    pub fn reserved_by(&self, key: PublicKey) -> bool {
        self.reservations.iter().any(|r| r.author() == key && r.revision == self.digest)
    }
}
