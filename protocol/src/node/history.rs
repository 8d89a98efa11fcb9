//! A project's revisions, to be shown: those that lead to its head, and those that were beaten or contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::record::Commit;

/// A revision of a project, and what it changed.
#[derive(Clone, Debug)]
pub struct RevisionView<'a> {
    /// How many revisions lead to it, itself among them: the first is 1.
    pub number: usize,
    /// The revision.
    pub commit: &'a Commit,
    /// The host that published it.
    pub publisher: PublicKey,
    /// How it stands.
    pub standing: Standing,
    /// What it changed.
    pub changes: RevisionChanges,
}

/// How a revision stands among the others of its project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A majority has decided on it.
    Decided,
    /// It counts in part: the majority was away.
    Partial,
    /// It counts in part, and another one contradicts it.
    Contested,
    /// Another one went before it: what only it has is stranded.
    Beaten,
}

/// What a revision changed, in counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionChanges {
    /// The VMs that came.
    pub added: usize,
    /// The VMs that went.
    pub removed: usize,
    /// The VMs that are to be elsewhere.
    pub moved: usize,
    /// The hosts whose part is another one.
    pub hosts: usize,
}

impl Node {
    /// Returns every revision of a project that counts, or counted until another went before it: those that lead to its
    /// head first, oldest first.
    pub fn history(&self, project: ProjectId) -> Vec<RevisionView<'_>> {
        let Some(heads) = self.projects.heads_of(project) else { return Vec::new() };
        let path: BTreeSet<Digest> = heads.path().copied().collect();
        // Also what the contested ones stand on, as far as it isn't decided.
        let mut contested: BTreeSet<Digest> = BTreeSet::new();
        for tip in &heads.contested {
            let mut at = Some(*tip);
            while let Some(revision) = at.filter(|at| !path.contains(at)) {
                contested.insert(revision);
                at = self.projects.commit(revision).and_then(|commit| commit.revision.parent);
            }
        }
        let mut others: Vec<&Commit> =
            self.projects.proven(project).filter(|commit| !path.contains(&commit.digest)).collect();
        others.sort_by_key(|commit| (commit.revision.made_unix_ms, commit.digest));
        let others = others.into_iter().filter_map(|commit| {
            let is_contested = contested.contains(&commit.digest);
            let standing = if is_contested { Standing::Contested } else { Standing::Beaten };
            self.view_of(commit, self.number_of(commit), standing)
        });
        let mut history: Vec<RevisionView<'_>> = self.newest(project).collect();
        history.reverse();
        history.extend(others);
        history
    }

    /// Returns the revisions that lead to a project's head, newest first; each when it is asked for.
    pub fn newest(&self, project: ProjectId) -> impl Iterator<Item = RevisionView<'_>> {
        let heads = self.projects.heads_of(project);
        let (all, decided) = heads.map_or((0, 0), |heads| (heads.path().count(), heads.decided.len()));
        let path = heads.into_iter().flat_map(|heads| heads.path().rev());
        path.zip((1..=all).rev()).filter_map(move |(revision, number)| {
            let standing = if number <= decided { Standing::Decided } else { Standing::Partial };
            self.view_of(self.projects.commit(*revision)?, number, standing)
        })
    }

    fn view_of<'n>(
        &'n self,
        commit: &'n Commit,
        number: usize,
        standing: Standing,
    ) -> Option<RevisionView<'n>> {
        let publisher = self.projects.record(commit.digest)?.author();
        Some(RevisionView { number, commit, publisher, standing, changes: self.changes_of(commit) })
    }

    /// Returns how many revisions lead to one, itself among them.
    fn number_of(&self, commit: &Commit) -> usize {
        let parent = |commit: &&Commit| self.projects.commit(commit.revision.parent?);
        std::iter::successors(Some(commit), parent).count()
    }

    fn changes_of(&self, commit: &Commit) -> RevisionChanges {
        let places = |commit: &Commit| -> BTreeMap<VmId, PublicKey> {
            commit.placed().map(|(vm, host)| (vm, host.key)).collect()
        };
        let parent = commit.revision.parent.and_then(|parent| self.projects.commit(parent));
        let (before, after) = (parent.map(places).unwrap_or_default(), places(commit));
        let stays = |vm: &&VmId| before.contains_key(vm);
        RevisionChanges {
            added: after.keys().filter(|vm| !stays(vm)).count(),
            removed: before.keys().filter(|vm| !after.contains_key(vm)).count(),
            moved: after.iter().filter(|(vm, host)| before.get(vm).is_some_and(|at| at != *host)).count(),
            hosts: match parent {
                Some(parent) => {
                    parent.revision.changed_hosts(parent.digest, &commit.revision, commit.digest).len()
                }
                None => commit.revision.hosts.len(),
            },
        }
    }

    /// Returns the digests of what a project was submitted as, of those revisions that lead to its head, newest first.
    /// A partial one has that of the whole, which is carried out only where hosts took part.
    pub fn submitted(&self, project: ProjectId) -> Vec<Digest> {
        let heads = self.projects.heads_of(project);
        let path = heads.into_iter().flat_map(|heads| heads.path().rev());
        path.filter_map(|revision| self.projects.commit(*revision))
            .map(|commit| commit.revision.definition)
            .take(super::limits::REVISIONS_KEPT)
            .collect()
    }

    /// Returns the project that a VM belongs to, in whichever of its revisions it was born.
    pub fn vm_project(&self, vm: &VmId) -> Option<ProjectId> {
        self.projects.project_of(vm)
    }
}
