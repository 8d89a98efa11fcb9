//! Projects, as the commits among the records define them.
//!
//! ```text
//!            by majority                       partial
//!   first ───► second ───► third (decided) ─┬─► fourth ───► fifth (head)
//!                  │                        └─► other: then both wait, and third is the head
//!                  └─► partial: beaten by third; what only it has is stranded
//! ```
//!
//! A commit is judged once its parent is known and proven, by what the two say and by their signatures alone: never
//! by a clock, a grant or who is alive. So all who hold the same records see the same heads, whatever came first.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use crate::record::{Commit, Consent, Record, RevisionHost, VerifiedRecord, is_majority};

/// Every project that a node has heard of.
#[derive(Clone, Debug, Default)]
pub(super) struct Projects {
    commits: BTreeMap<Digest, VerifiedRecord>,
    children: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Commits whose proof holds, by project.
    proven: BTreeMap<ProjectId, BTreeSet<Digest>>,
    heads: BTreeMap<ProjectId, ProjectHeads>,
    labels: BTreeMap<Label, BTreeSet<ProjectId>>,
    pub(super) rule: ChainRule,
}

/// The rule of the chain that is broken on purpose, to see whether the simulator notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ChainRule {
    /// None is.
    #[default]
    InForce,
    /// Any promises are a majority.
    AnyPromises,
    /// Who is not named in a commit's signatures is not asked for.
    ChangedHostsFromCommit,
    /// A partial commit goes before one by majority.
    PartialFirst,
    /// What only a losing head has is removed.
    StrandedRemoved,
    /// What a partial revision leaves out is removed.
    KeptRemoved,
    /// Reservations are not asked for.
    ReservationsIgnored,
    /// It doesn't matter when revisions were made.
    TimesIgnored,
    /// Of an even number of hosts any half is a majority.
    HalfSuffices,
}

/// Where a project stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectHeads {
    /// The revisions that count by majority, first to newest.
    pub decided: Vec<Digest>,
    /// The partial ones above the newest of them that nothing contradicts, oldest first.
    pub partial: Vec<Digest>,
    /// The partial ones that contradict each other; where there are any, nothing but resolving goes on.
    pub contested: BTreeSet<Digest>,
}

/// What becomes of a VM by its project's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The head has it.
    Placed,
    /// The head leaves it out, and only a majority may say so, or two do who must not: it stays as it is.
    Kept,
    /// A majority has left it out, and its disk may go.
    Removed,
    /// Only a head that lost has it: it stays as it is, is listed, and never deleted.
    Stranded,
}

impl ProjectHeads {
    /// Returns the revision that is carried out.
    pub fn head(&self) -> Digest {
        *self.partial.last().unwrap_or(self.newest())
    }

    /// Returns the newest revision that counts by majority.
    pub fn newest(&self) -> &Digest {
        self.decided.last().expect("a project is known by its first revision, which counts")
    }

    /// Returns the revisions that lead to the head, oldest first.
    pub fn path(&self) -> impl DoubleEndedIterator<Item = &Digest> {
        self.decided.iter().chain(&self.partial)
    }
}

impl Projects {
    /// Takes in a commit, in any order; returns its project if that stands elsewhere now.
    pub(super) fn insert(&mut self, record: &VerifiedRecord) -> Option<ProjectId> {
        let Record::Commit(commit) = &***record else { return None };
        let (digest, project) = (commit.digest, commit.project());
        if self.is_proven(digest) {
            self.commits.insert(digest, record.clone());
            return None;
        }
        self.commits.insert(digest, record.clone());
        if let Some(parent) = commit.revision.parent {
            self.children.entry(parent).or_default().insert(digest);
        }
        if !self.judge_all(project, digest) {
            return None;
        }
        let heads = self.follow(project)?;
        self.labels.entry(self.commit(project.0)?.revision.label.clone()).or_default().insert(project);
        let old = self.heads.insert(project, heads.clone());
        (old != Some(heads)).then_some(project)
    }

    /// Judges a commit and those that waited for it; false where nothing has become proven.
    fn judge_all(&mut self, project: ProjectId, digest: Digest) -> bool {
        let mut any = false;
        let mut due = vec![digest];
        while let Some(next) = due.pop() {
            let Some(commit) = self.commit(next) else { continue };
            if self.is_proven(next) || commit.project() != project || !self.proves(commit) {
                continue;
            }
            self.proven.entry(project).or_default().insert(next);
            any = true;
            due.extend(self.children.get(&next).into_iter().flatten());
            // Others may name a VM that was born in it, and don't descend from it.
            let proven: Vec<Digest> = self.proven.get(&project).into_iter().flatten().copied().collect();
            due.extend(proven.iter().filter_map(|p| self.children.get(p)).flatten());
        }
        any
    }

    /// Whether a commit counts: its parent does, and it has the word of all that it takes.
    pub(super) fn proves(&self, commit: &Commit) -> bool {
        let Some(parent) = commit.revision.parent else { return !commit.removes() };
        let Some(parent) = self.commit(parent).filter(|parent| self.is_proven(parent.digest)) else {
            return false;
        };
        let promising = commit.promising();
        let voters = self.voters(parent);
        let decided = match self.rule {
            ChainRule::AnyPromises => !promising.is_empty(),
            ChainRule::HalfSuffices => {
                2 * voters.iter().filter(|voter| promising.contains(voter)).count() >= voters.len()
            }
            _ => is_majority(&voters, &promising),
        };
        self.follows(parent, commit) && (decided || !self.needs_votes(parent, commit.revision.consent))
    }

    /// Whether a candidate for the next revision of a parent is one: all that [`Self::proves`] wants but promises.
    pub(super) fn follows(&self, parent: &Commit, child: &Commit) -> bool {
        let (old, new) = (&parent.revision, &child.revision);
        let changed = self.changed(parent, child);
        let reserving = child.reserving();
        let consent = match (old.consent, new.consent) {
            (Consent::Majority, Consent::Majority) => true,
            // What a majority decides may follow from what a majority decided only.
            (Consent::Partial, Consent::Majority) => false,
            // A host that is away is not removed; nor is a whole project.
            (_, Consent::Partial) => !child.removes(),
        };
        consent
            && new.parent == Some(parent.digest)
            && child.project() == parent.project()
            && new.label == old.label
            && (new.made_unix_ms >= old.made_unix_ms || self.rule == ChainRule::TimesIgnored)
            && !changed.is_empty()
            && (changed.iter().all(|host| reserving.contains(host))
                || self.rule == ChainRule::ReservationsIgnored)
            && self.births_are_known(child)
    }

    /// Returns the hosts whose part differs between a revision and its child.
    pub(super) fn changed(&self, parent: &Commit, child: &Commit) -> BTreeSet<PublicKey> {
        let changed = parent.revision.changed_hosts(parent.digest, &child.revision, child.digest);
        if self.rule == ChainRule::ChangedHostsFromCommit && !child.removes() {
            return changed.into_iter().filter(|host| child.host(*host).is_some()).collect();
        }
        changed
    }

    /// Every VM that wasn't born in a revision was born in one that is known: names alone say nothing.
    pub(super) fn births_are_known(&self, child: &Commit) -> bool {
        let known = |vm: VmId| {
            let birth = self.commit(vm.birth).filter(|birth| self.is_proven(birth.digest));
            birth.is_some_and(|birth| {
                birth.project() == child.project() && birth.placed().any(|(born, _)| born == vm)
            })
        };
        child.placed().all(|(vm, _)| vm.birth == child.digest || known(vm))
    }

    /// Whether a child of a revision is decided by its voters.
    pub(super) fn needs_votes(&self, parent: &Commit, consent: Consent) -> bool {
        consent == Consent::Majority || parent.revision.consent == Consent::Partial
    }

    /// Returns the hosts that decide on a revision's child: all that it names; of a partial one, those that
    /// reserved for it.
    pub(super) fn voters(&self, parent: &Commit) -> Vec<PublicKey> {
        let hosts = parent.revision.hosts.iter().map(|host| host.key);
        let grandparent = parent.revision.parent.and_then(|digest| self.commit(digest));
        match (parent.revision.consent, grandparent) {
            (Consent::Partial, Some(grandparent)) => {
                let reserved =
                    grandparent.revision.changed_hosts(grandparent.digest, &parent.revision, parent.digest);
                hosts.filter(|host| reserved.contains(host)).collect()
            }
            (Consent::Partial | Consent::Majority, _) => hosts.collect(),
        }
    }

    /// Follows a project from its first revision to its heads.
    fn follow(&self, project: ProjectId) -> Option<ProjectHeads> {
        let mut decided = vec![self.commit(project.0)?.digest];
        let mut partial = Vec::new();
        let mut contested = BTreeSet::new();
        let mut at = project.0;
        loop {
            let of = |consent| {
                self.proven_children(at).filter(move |c| c.revision.consent == consent).map(|c| c.digest)
            };
            let majority = of(Consent::Majority).next_back().filter(|_| partial.is_empty());
            let partials: Vec<Digest> = of(Consent::Partial).collect();
            match (majority, &partials[..]) {
                (Some(child), others) if self.rule != ChainRule::PartialFirst || others.is_empty() => {
                    decided.push(child);
                    at = child;
                }
                (_, []) => break,
                (_, [child]) => {
                    partial.push(*child);
                    at = *child;
                }
                (_, [..]) => {
                    contested.extend(partials);
                    break;
                }
            }
        }
        if !contested.is_empty() {
            // What a contested one stands on is as contested as it is only where it is partial itself.
            contested = contested.iter().map(|digest| self.tip(*digest)).collect();
        }
        Some(ProjectHeads { decided, partial, contested })
    }

    /// Follows partial revisions to the last one that nothing contradicts.
    fn tip(&self, from: Digest) -> Digest {
        let mut at = from;
        loop {
            let mut children = self.proven_children(at);
            match (children.next(), children.next()) {
                (Some(child), None) => at = child.digest,
                _ => return at,
            }
        }
    }

    fn proven_children(&self, parent: Digest) -> impl DoubleEndedIterator<Item = &Commit> {
        let children = self.children.get(&parent).into_iter().flatten();
        children.filter_map(|digest| self.commit(*digest)).filter(|child| self.is_proven(child.digest))
    }

    /// Whether a commit is known and counts, or would where no other went before it.
    pub(super) fn is_proven(&self, revision: Digest) -> bool {
        let Some(commit) = self.commit(revision) else { return false };
        self.proven.get(&commit.project()).is_some_and(|proven| proven.contains(&revision))
    }

    /// Returns the child of a revision that was decided on by its voters, if it is known.
    pub(super) fn decided_child(&self, parent: Digest) -> Option<&Commit> {
        let parent_commit = self.commit(parent)?;
        self.proven_children(parent).rfind(|child| self.needs_votes(parent_commit, child.revision.consent))
    }

    pub(super) fn commit(&self, revision: Digest) -> Option<&Commit> {
        match &***self.commits.get(&revision)? {
            Record::Commit(commit) => Some(commit),
            Record::Member(_)
            | Record::Host(_)
            | Record::Vm(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_)
            | Record::Gauges(_)
            | Record::Later(_) => None,
        }
    }

    pub(super) fn record(&self, revision: Digest) -> Option<&VerifiedRecord> {
        self.commits.get(&revision)
    }

    /// Returns where a project stands.
    pub(super) fn heads_of(&self, project: ProjectId) -> Option<&ProjectHeads> {
        self.heads.get(&project)
    }

    /// Returns the revision that is carried out.
    pub(super) fn head(&self, project: ProjectId) -> Option<&Commit> {
        self.commit(self.heads.get(&project)?.head())
    }

    /// Returns every project with its head, in the order of their identities.
    pub(super) fn heads(&self) -> impl Iterator<Item = (ProjectId, &Commit)> {
        self.heads.iter().filter_map(|(project, heads)| Some((*project, self.commit(heads.head())?)))
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

    /// Returns the commits of a project whose proof holds.
    pub(super) fn proven(&self, project: ProjectId) -> impl Iterator<Item = &Commit> {
        self.proven.get(&project).into_iter().flatten().filter_map(|digest| self.commit(*digest))
    }

    /// Returns the revisions of a project in which VMs were born.
    pub(super) fn births(&self, project: ProjectId) -> impl Iterator<Item = Digest> {
        let bears = |commit: &&Commit| commit.placed().any(|(vm, _)| vm.birth == commit.digest);
        self.proven(project).filter(bears).map(|commit| commit.digest)
    }

    /// Returns every revision of a project that is known.
    pub(super) fn records_of(&self, project: ProjectId) -> impl Iterator<Item = &VerifiedRecord> {
        let of_it = move |record: &&VerifiedRecord| matches!(&****record, Record::Commit(c) if c.project() == project);
        self.commits.values().filter(of_it)
    }

    /// Returns the project that a VM belongs to.
    pub(super) fn project_of(&self, vm: &VmId) -> Option<ProjectId> {
        self.commit(vm.birth).map(Commit::project)
    }

    /// Returns the host where a VM was born: it owns it until it hands it over.
    pub(super) fn birthplace(&self, vm: &VmId) -> Option<&RevisionHost> {
        let birth = self.commit(vm.birth)?;
        birth.placed().find(|(born, _)| born == vm).map(|(_, host)| host)
    }

    /// Returns which of the hosts that carry VMs born in a revision has this name.
    pub(super) fn owner(&self, birth: Digest, host: &Name) -> Option<PublicKey> {
        self.commit(birth)?.revision.hosts.iter().find(|h| h.name == *host).map(|h| h.key)
    }

    /// Returns the host at which the head wants a VM; none where it leaves it out.
    pub(super) fn placement(&self, vm: &VmId) -> Option<&RevisionHost> {
        self.head(self.project_of(vm)?)?.placed().find(|(placed, _)| placed == vm).map(|(_, host)| host)
    }

    /// Returns what becomes of a VM; none where its birth is not proven.
    ///
    /// Its disk may go only by a revision of a majority that descends from one that has it and leaves it out.
    pub(super) fn fate(&self, vm: &VmId) -> Option<Fate> {
        let heads = self.heads.get(&self.project_of(vm)?)?;
        if !self.is_proven(vm.birth) {
            return None;
        }
        let has = |revision: &Digest| {
            self.commit(*revision).is_some_and(|commit| commit.placed().any(|(placed, _)| placed == *vm))
        };
        if has(&heads.head()) {
            return Some(Fate::Placed);
        }
        if has(heads.newest()) {
            return Some(if self.rule == ChainRule::KeptRemoved { Fate::Removed } else { Fate::Kept });
        }
        if heads.decided.iter().any(has) {
            let by_majority = |child: &&Commit| child.revision.consent == Consent::Majority;
            let twice = |parent: &Digest| self.proven_children(*parent).filter(by_majority).count() > 1;
            return Some(if heads.decided.iter().any(twice) { Fate::Kept } else { Fate::Removed });
        }
        if heads.partial.iter().any(has) {
            return Some(Fate::Kept);
        }
        Some(if self.rule == ChainRule::StrandedRemoved { Fate::Removed } else { Fate::Stranded })
    }

    /// Returns for how long the disk of a VM that a majority has left out is kept, in milliseconds: as the revision says
    /// that left it out. Of a project that is removed nothing is kept.
    pub(super) fn keep_removed_ms(&self, vm: &VmId) -> u64 {
        let Some(heads) = self.project_of(vm).and_then(|project| self.heads.get(&project)) else { return 0 };
        let commits = || heads.decided.iter().rev().filter_map(|revision| self.commit(*revision));
        if commits().next().is_none_or(Commit::removes) {
            return 0;
        }
        let lacks = |commit: &&Commit| commit.placed().all(|(placed, _)| placed != *vm);
        commits().take_while(lacks).last().map_or(0, |left_out| left_out.revision.keep_removed_ms)
    }

    /// Whether a VM stands in a revision that counts by majority: only then may a majority remove it.
    pub(super) fn was_decided(&self, vm: &VmId) -> bool {
        let heads = self.project_of(vm).and_then(|project| self.heads.get(&project));
        let mut decided = heads.into_iter().flat_map(|heads| &heads.decided).filter_map(|r| self.commit(*r));
        decided.any(|commit| commit.placed().any(|(placed, _)| placed == *vm))
    }
}
