//! S2 and what hangs on it, written from `mesh.md`: at most one child of a revision by majority, with the word of
//! every host that it changes; partial revisions never beat it and never destroy a disk.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::{Digest, Name, ProjectId, PublicKey, VmId};
use mln_protocol::record::{Commit, Consent, Revision};

/// Every revision that anybody has published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    commits: BTreeMap<Digest, Commit>,
    /// VMs whose disks their owners have deleted, or have begun to.
    deleted: BTreeSet<VmId>,
}

impl Decisions {
    /// Takes in a published commit; says which rule it breaks.
    pub(crate) fn note(&mut self, commit: &Commit, exempt: &BTreeSet<PublicKey>) -> Vec<String> {
        let label = &commit.revision.label;
        let mut broken = Vec::new();
        let reserved: BTreeSet<PublicKey> = commit.reservations.iter().map(|r| r.author()).collect();
        let parent = commit.revision.parent.and_then(|parent| self.commits.get(&parent));
        if let Some(missing) = changed(parent, commit).iter().find(|host| !reserved.contains(host)) {
            broken.push(format!("S2: {label} is committed without the word of {missing}"));
        }
        if parent.is_some_and(|parent| commit.revision.made_unix_ms < parent.revision.made_unix_ms) {
            broken.push(format!("S2: {label} has a revision that is older than the one that it follows"));
        }
        if let Some(parent) = parent
            && commit.revision.consent == Consent::Majority
        {
            let promised: BTreeSet<PublicKey> = commit.promises.iter().map(|p| p.author()).collect();
            if !is_majority(&parent.revision, &promised) {
                broken.push(format!("S2: {label} is committed by {} hosts, no majority", promised.len()));
            }
            let other = self.commits.values().find(|other| {
                other.revision.parent == Some(parent.digest)
                    && other.revision.consent == Consent::Majority
                    && other.digest != commit.digest
            });
            let lied = parent.revision.hosts.iter().any(|host| exempt.contains(&host.key));
            if let Some(other) = other.filter(|_| !lied) {
                broken.push(format!(
                    "S2: two children of one revision of {label} are committed: {} and {}",
                    other.digest.short(),
                    commit.digest.short()
                ));
            }
        }
        let back = commit.revision.hosts.iter().flat_map(|part| ids(part, commit.digest));
        for vm in back {
            let Some(left_out) = self.left_out_by(&vm, commit) else { continue };
            if left_out.revision.keep_removed_ms == 0 {
                broken.push(format!("S2: {label} brings {vm} back, which was left out: it is another VM"));
            } else if self.deleted.contains(&vm) && !self.is_beaten(commit) {
                broken.push(format!("S3: {label} brings {vm} back, whose disk was deleted"));
            }
        }
        self.commits.insert(commit.digest, commit.clone());
        broken
    }

    /// Returns the revision that has left a VM out, by the word of a majority, of those between one before a revision that has
    /// it and that revision: "a name that is removed and comes back is another VM", but "a removed VM returns under its
    /// own identity while its disk is kept".
    fn left_out_by(&self, vm: &VmId, commit: &Commit) -> Option<&Commit> {
        let mut at = commit.revision.parent.and_then(|parent| self.commits.get(&parent));
        let mut left_out = None;
        while let Some(ancestor) = at {
            if has(ancestor, vm) {
                return left_out;
            }
            if ancestor.revision.consent == Consent::Majority {
                left_out = Some(ancestor);
            }
            at = ancestor.revision.parent.and_then(|parent| self.commits.get(&parent));
        }
        None
    }

    /// Whether a commit counts for nothing, since a majority has decided otherwise: "a majority commit beats it and whatever
    /// descends from it".
    fn is_beaten(&self, commit: &Commit) -> bool {
        let mut at = commit;
        while let Some(parent) = at.revision.parent.and_then(|parent| self.commits.get(&parent)) {
            let decided = |other: &Commit| {
                other.revision.parent == Some(parent.digest) && other.revision.consent == Consent::Majority
            };
            if at.revision.consent == Consent::Partial && self.commits.values().any(decided) {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Whether a revision that counts has brought a VM back, and none after it leaves it out again.
    pub(crate) fn is_brought_back(&self, vm: &VmId) -> bool {
        self.commits.values().any(|commit| {
            has(commit, vm)
                && self.left_out_by(vm, commit).is_some()
                && !self.is_beaten(commit)
                && !self.commits.values().any(|later| !has(later, vm) && self.follows(later, commit))
        })
    }

    /// Whether a revision descends from another one.
    fn follows(&self, commit: &Commit, before: &Commit) -> bool {
        let mut at = commit;
        while let Some(parent) = at.revision.parent.and_then(|parent| self.commits.get(&parent)) {
            if parent.digest == before.digest {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Takes note that the disk of a VM is being deleted.
    pub(crate) fn note_deleted(&mut self, vm: &VmId) {
        self.deleted.insert(vm.clone());
    }

    /// Returns for how long the disk of a VM is kept that is left out, in milliseconds, as the revision says that left it
    /// out; of several, as the one with the least, and the one with the most.
    pub(crate) fn keep_removed_ms(&self, vm: &VmId) -> (u64, u64) {
        if self.commits.get(&vm.birth).is_some_and(|birth| self.is_removed(birth.project())) {
            return (0, 0);
        }
        let leaves_out = |child: &&Commit| {
            let parent = child.revision.parent.and_then(|parent| self.commits.get(&parent));
            child.revision.consent == Consent::Majority
                && !has(child, vm)
                && parent.is_some_and(|parent| has(parent, vm))
        };
        let by = || self.commits.values().filter(leaves_out).map(|commit| commit.revision.keep_removed_ms);
        (by().min().unwrap_or(0), by().max().unwrap_or(0))
    }

    /// Returns the host on which a VM was born, where that revision is known.
    pub(crate) fn birthplace(&self, vm: &VmId) -> Option<PublicKey> {
        let mut parts = self.commits.get(&vm.birth)?.revision.hosts.iter();
        let born = |vms: &[mln_protocol::record::RevisionVm]| {
            vms.iter().any(|v| v.birth.is_none() && v.name == vm.name)
        };
        parts.find(|part| born(&part.vms)).map(|part| part.key)
    }

    /// Whether a host's part with this digest defines a VM in any published revision.
    pub(crate) fn is_part_of(&self, host: &Name, fragment: Digest, vm: &VmId) -> bool {
        self.commits.values().any(|commit| {
            let part =
                commit.revision.hosts.iter().find(|part| part.name == *host && part.fragment == fragment);
            part.is_some_and(|part| ids(part, commit.digest).any(|id| id == *vm))
        })
    }

    /// Whether a VM's disk may go: a majority has left it out, in a revision that descends from one that has it, and
    /// nothing partial lies between.
    pub(crate) fn may_go(&self, vm: &VmId) -> bool {
        self.commits.values().filter(|commit| !has(commit, vm)).any(|commit| {
            let mut at = commit;
            while at.revision.consent == Consent::Majority {
                let Some(parent) = at.revision.parent.and_then(|parent| self.commits.get(&parent)) else {
                    break;
                };
                if has(parent, vm) {
                    return true;
                }
                at = parent;
            }
            false
        })
    }

    /// Whether a majority has removed a project.
    pub(crate) fn is_removed(&self, project: ProjectId) -> bool {
        let removes = |commit: &&Commit| {
            commit.revision.hosts.is_empty() && commit.revision.consent == Consent::Majority
        };
        self.commits.values().filter(removes).any(|commit| commit.project() == project)
    }

    /// Whether no project with a part on this host was ever changed: only then can nothing have been committed late.
    pub(crate) fn has_only_first_revisions(&self, host: PublicKey) -> bool {
        let mut here = self.commits.values().filter(|c| c.revision.hosts.iter().any(|part| part.key == host));
        here.all(|commit| commit.revision.parent.is_none())
            && self.commits.values().all(|child| {
                let parent = child.revision.parent.and_then(|parent| self.commits.get(&parent));
                !parent.is_some_and(|parent| parent.revision.hosts.iter().any(|part| part.key == host))
            })
    }

    /// Returns the revisions of which this is a part, each with whether a host has or had any part of its project.
    pub(crate) fn with_part(&self, part: Digest, host: PublicKey) -> impl Iterator<Item = (&Commit, bool)> {
        let has = move |commit: &&Commit| commit.revision.hosts.iter().any(|here| here.fragment == part);
        self.commits.values().filter(has).map(move |commit| {
            let mut same = self.commits.values().filter(|other| other.project() == commit.project());
            let takes_part = same.any(|other| other.revision.hosts.iter().any(|here| here.key == host));
            (commit, takes_part)
        })
    }

    /// Returns the children of a revision: by the rules at most one of a majority, beside partial ones.
    pub(crate) fn children(&self, parent: Digest) -> impl Iterator<Item = &Commit> {
        self.commits.values().filter(move |commit| commit.revision.parent == Some(parent))
    }

    /// Returns the published revision with this digest.
    pub(crate) fn born(&self, birth: Digest) -> Option<&Commit> {
        self.commits.get(&birth)
    }
}

/// Whether a VM stands in a revision.
fn has(commit: &Commit, vm: &VmId) -> bool {
    commit.revision.hosts.iter().any(|part| ids(part, commit.digest).any(|id| id == *vm))
}

fn ids(part: &mln_protocol::record::RevisionHost, revision: Digest) -> impl Iterator<Item = VmId> {
    part.vms.iter().map(move |vm| VmId { birth: vm.birth.unwrap_or(revision), name: vm.name.clone() })
}

/// Whose part differs: who is in one of them only, or has other contents or other VMs.
fn changed(parent: Option<&Commit>, child: &Commit) -> Vec<PublicKey> {
    let entries = |commit: &Commit| -> BTreeMap<PublicKey, (Name, Digest, BTreeSet<VmId>)> {
        let entry = |part: &mln_protocol::record::RevisionHost| {
            (part.key, (part.name.clone(), part.fragment, ids(part, commit.digest).collect()))
        };
        commit.revision.hosts.iter().map(entry).collect()
    };
    let before = parent.map(entries).unwrap_or_default();
    let after = entries(child);
    let all: BTreeSet<PublicKey> = before.keys().chain(after.keys()).copied().collect();
    all.into_iter().filter(|host| before.get(host) != after.get(host)).collect()
}

/// A majority of a list of hosts, of which the first counts twice where their number is even.
fn is_majority(parent: &Revision, promised: &BTreeSet<PublicKey>) -> bool {
    let mut weights: Vec<(PublicKey, usize)> = parent.hosts.iter().map(|host| (host.key, 1)).collect();
    if weights.len().is_multiple_of(2)
        && let Some((_, weight)) = weights.first_mut()
    {
        *weight = 2;
    }
    let all: usize = weights.iter().map(|(_, weight)| weight).sum();
    let said: usize =
        weights.iter().filter(|(host, _)| promised.contains(host)).map(|(_, weight)| weight).sum();
    said > all / 2
}
