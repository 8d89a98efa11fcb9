//! Projects, as the commits among the records define them.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Digest, Label, Name, ProjectId, PublicKey};
use crate::record::{Commit, Record, VerifiedRecord};

/// Every project that a node has heard of.
#[derive(Debug, Default)]
pub(super) struct Projects {
    commits: BTreeMap<Digest, VerifiedRecord>,
    children: BTreeMap<Digest, BTreeSet<Digest>>,
    heads: BTreeMap<ProjectId, Digest>,
    labels: BTreeMap<Label, BTreeSet<ProjectId>>,
}

impl Projects {
    /// Takes in a commit, in any order; returns its project if that has another head now.
    pub(super) fn insert(&mut self, record: &VerifiedRecord) -> Option<ProjectId> {
        let Record::Commit(commit) = &***record else { return None };
        self.commits.insert(commit.digest, record.clone());
        if let Some(parent) = commit.revision.parent {
            self.children.entry(parent).or_default().insert(commit.digest);
        }
        let project = commit.project();
        let head = self.follow(project)?;
        self.labels.entry(self.commit(head)?.revision.label.clone()).or_default().insert(project);
        let old = self.heads.insert(project, head);
        (old != Some(head)).then_some(project)
    }

    /// Follows a project from its first revision to its head; of two children the one with the larger digest.
    ///
    /// A child counts once every host of its parent has reserved for it: so nobody's VMs are removed unasked.
    fn follow(&self, project: ProjectId) -> Option<Digest> {
        let mut head = self.commit(project.0)?;
        while let Some(child) = self.child(head) {
            head = child;
        }
        Some(head.digest)
    }

    fn child(&self, parent: &Commit) -> Option<&Commit> {
        let children = self.children.get(&parent.digest)?;
        children.iter().rev().filter_map(|digest| self.commit(*digest)).find(|child| {
            child.project() == parent.project()
                && child.revision.label == parent.revision.label
                && parent.revision.hosts.iter().all(|host| child.reserved_by(host.key))
        })
    }

    pub(super) fn commit(&self, revision: Digest) -> Option<&Commit> {
        match &***self.commits.get(&revision)? {
            Record::Commit(commit) => Some(commit),
            Record::Member(_) | Record::Host(_) | Record::Vm(_) => None,
        }
    }

    pub(super) fn record(&self, revision: Digest) -> Option<&VerifiedRecord> {
        self.commits.get(&revision)
    }

    /// Returns every revision of a project that is known.
    pub(super) fn records_of(&self, project: ProjectId) -> impl Iterator<Item = &VerifiedRecord> {
        let of_it = move |record: &&VerifiedRecord| matches!(&****record, Record::Commit(c) if c.project() == project);
        self.commits.values().filter(of_it)
    }

    pub(super) fn head(&self, project: ProjectId) -> Option<&Commit> {
        self.commit(*self.heads.get(&project)?)
    }

    /// Returns every project with its head, in the order of their identities.
    pub(super) fn heads(&self) -> impl Iterator<Item = (ProjectId, &Commit)> {
        self.heads.iter().filter_map(|(project, head)| Some((*project, self.commit(*head)?)))
    }

    /// Returns the projects of this label that are not removed.
    pub(super) fn labelled(&self, label: &Label) -> impl Iterator<Item = ProjectId> {
        self.labels
            .get(label)
            .into_iter()
            .flatten()
            .copied()
            .filter(|project| self.head(*project).is_some_and(|head| !head.removes()))
    }

    /// Returns which hosts carry the VMs that were born in a revision.
    pub(super) fn owner(&self, birth: Digest, host: &Name) -> Option<PublicKey> {
        self.commit(birth)?.revision.hosts.iter().find(|h| h.name == *host).map(|h| h.key)
    }
}
