//! A project's revisions, and what makes one count.

use crate::id::{Digest, Label, Name, ProjectId, PublicKey};
use crate::trust::Verified;

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
    /// When it was made, by its author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Who made it, for people.
    pub author: String,
    /// Why, for people.
    pub reason: String,
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
    /// How many VMs the fragment has.
    pub vms: u32,
}

/// A revision with the reservations of every host that it concerns: it proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision.
    pub revision: Revision,
    /// The digest of the revision's encoding: its identity.
    pub digest: Digest,
    /// What each host signed.
    pub reservations: Vec<Verified<Reservation>>,
}

/// A host's word that it has room and means for its part of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The revision.
    pub revision: Digest,
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
        self.revision.hosts.iter().find(|host| host.key == key)
    }

    /// Returns how many hosts have reserved for it.
    pub fn reserving(&self) -> usize {
        self.reservations.iter().map(Verified::author).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Whether the host with this key signed a reservation for it.
    pub fn reserved_by(&self, key: PublicKey) -> bool {
        self.reservations.iter().any(|r| r.author() == key && r.revision == self.digest)
    }
}
