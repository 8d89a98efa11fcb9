//! What a coordinator proposes: a revision, and each host's part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Node;
use super::io::{BuildOrder, ExistingProject, HostRefusal, ReviseContent, ReviseOrder};
use super::limits;
use super::message::{Refusal, Rule, RunningVms};
use super::vote::Vote;
use crate::id::{Digest, Name, ProjectId, PublicKey, VmId};
use crate::lang::did_you_mean;
use crate::model::{Blob, Fragment, HostAddress, Project};
use crate::plan::{PlacedHost, PlacementError, fragments};
use crate::record::{Commit, Consent, Reservation, Revision, RevisionHost, RevisionVm};
use crate::time::Now;
use crate::trust::{GuestRight, Verified};
use crate::wire;

/// A revision that hosts are asked about.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) revision: Revision,
    pub(super) digest: Digest,
    /// The parts that are known here; hosts may have others themselves.
    pub(super) fragments: BTreeMap<PublicKey, Arc<Fragment>>,
    pub(super) running: RunningVms,
    pub(super) replaces: Option<ProjectId>,
    /// What the hosts that it changes have said.
    pub(super) answers: BTreeMap<PublicKey, Answer>,
    /// The ballot, where the hosts of the parent decide.
    pub(super) vote: Option<Vote>,
    /// By what right a VM wants it; none where people do.
    pub(super) guest: Option<Arc<GuestRight>>,
}

/// The parts of a revision that are known here.
type Parts = BTreeMap<PublicKey, Arc<Fragment>>;

/// What a host has said about its part.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Nothing yet.
    Awaited,
    /// Yes.
    Reserved(Verified<Reservation>),
    /// No.
    Refused(Refusal),
}

impl Draft {
    fn new(
        revision: Revision,
        changed: BTreeSet<PublicKey>,
        fragments: BTreeMap<PublicKey, Arc<Fragment>>,
        running: RunningVms,
    ) -> Self {
        let digest = Digest::of(&wire::encode_revision(&revision));
        let answers = changed.into_iter().map(|host| (host, Answer::Awaited)).collect();
        Self { revision, digest, fragments, running, replaces: None, answers, vote: None, guest: None }
    }

    /// Returns the revision with what its hosts have signed so far.
    pub(super) fn commit(&self) -> Commit {
        let reserved = |answer: &Answer| match answer {
            Answer::Reserved(reservation) => Some(reservation.clone()),
            Answer::Awaited | Answer::Refused(_) => None,
        };
        Commit {
            revision: self.revision.clone(),
            digest: self.digest,
            reservations: self.answers.values().filter_map(reserved).collect(),
            promises: Vec::new(),
        }
    }
}

impl Node {
    pub(super) fn draft_build(&self, now: Now, order: &BuildOrder) -> Result<Draft, Vec<HostRefusal>> {
        let (running, replaces) = match order.existing {
            ExistingProject::Refuse => (RunningVms::Refuse, None),
            ExistingProject::Replace(running) => (running, self.projects.labelled(&order.label).next()),
        };
        let chosen = self.choose_hosts(now, &order.project, replaces, &BTreeMap::new())?;
        let parts = self.parts(&order.project, &order.blobs, &chosen, |_| None)?;
        let revision = Revision {
            project: None,
            parent: None,
            label: order.label.clone(),
            hosts: hosts_of(&parts, |_| None),
            definition: definition_in(
                &order.blobs,
                parts.values().map(|part| Digest::of(&wire::encode_fragment(part))),
            ),
            consent: Consent::Majority,
            made_unix_ms: now.unix_ms,
            author: order.author.clone(),
            reason: "build".to_owned(),
            charge: None,
            keep_removed_ms: 0,
            decision: None,
        };
        self.judge_size(&revision, &parts)?;
        let changed = parts.keys().map(|host| host.key).collect();
        let fragments = parts.into_iter().map(|(host, part)| (host.key, Arc::new(part))).collect();
        Ok(Draft { replaces, ..Draft::new(revision, changed, fragments, running) })
    }

    /// Returns when a child of a revision is made: not before that, whatever this host's clock says.
    pub(super) fn time_after(&self, now: Now, parent: &Commit) -> u64 {
        if self.mutated_times_go_back() { now.unix_ms } else { now.unix_ms.max(parent.revision.made_unix_ms) }
    }

    pub(super) fn draft_removal(
        &self,
        now: Now,
        project: ProjectId,
        running: RunningVms,
        reason: &str,
    ) -> Option<Draft> {
        let heads = self.projects.heads_of(project)?;
        let parent = self.projects.commit(*heads.newest()).filter(|newest| !newest.removes())?;
        let revision = Revision {
            project: Some(project),
            parent: Some(parent.digest),
            label: parent.revision.label.clone(),
            hosts: Vec::new(),
            definition: parent.revision.definition,
            consent: Consent::Majority,
            made_unix_ms: self.time_after(now, parent),
            author: self.config.name.to_string(),
            reason: reason.to_owned(),
            charge: None,
            keep_removed_ms: 0,
            decision: None,
        };
        let changed = parent.revision.hosts.iter().map(|host| host.key).collect();
        Some(Draft::new(revision, changed, BTreeMap::new(), running))
    }

    /// Drafts a project's next revision. By majority, its parent is the newest one by majority: so it settles what is
    /// partial above that. A partial one follows the head.
    pub(super) fn draft_revision(&self, now: Now, order: &ReviseOrder) -> Result<Draft, Vec<HostRefusal>> {
        let refuse = |rule, detail: String| self.refused_here(rule, detail);
        let gone = || refuse(Rule::Parent, "there is no such project any more".to_owned());
        let heads = self.projects.heads_of(order.project).ok_or_else(gone)?;
        if !heads.contested.is_empty() && order.from_head.is_none_or(|_| order.consent == Consent::Partial) {
            let tips: Vec<String> = heads.contested.iter().map(Digest::short).collect();
            let detail = format!(
                "partial revisions contradict each other ({}); choose one with `mlnctl resolve`",
                tips.join(", ")
            );
            return Err(refuse(Rule::Contested, detail));
        }
        let parent = match order.consent {
            Consent::Majority => *heads.newest(),
            Consent::Partial => heads.head(),
        };
        let parent = self.projects.commit(parent).filter(|parent| !parent.removes()).ok_or_else(gone)?;
        let base = order.from_head.unwrap_or(heads.head());
        let base = self
            .projects
            .commit(base)
            .filter(|base| self.projects.is_proven(base.digest) && base.project() == order.project);
        let base = base.ok_or_else(|| refuse(Rule::Parent, "the project has no such revision".to_owned()))?;
        let (mut revision, fragments) = match &order.content {
            ReviseContent::Definition { project, blobs } => self.revision_of(now, base, project, blobs)?,
            ReviseContent::Revision(to) => {
                let to = self.projects.commit(*to).filter(|to| {
                    self.projects.is_proven(to.digest) && to.project() == order.project && !to.removes()
                });
                let to =
                    to.ok_or_else(|| refuse(Rule::Parent, "the project has no such revision".to_owned()))?;
                (self.revision_as(base, to), BTreeMap::new())
            }
        };
        revision.project = Some(order.project);
        revision.parent = Some(parent.digest);
        revision.label = parent.revision.label.clone();
        revision.consent = order.consent;
        revision.made_unix_ms = self.time_after(now, parent);
        revision.author.clone_from(&order.author);
        revision.reason.clone_from(&order.reason);
        revision.keep_removed_ms = if leaves_out(parent, &revision) { order.keep_removed_ms } else { 0 };
        self.draft_child(parent, revision, fragments, order.running)
    }

    pub(super) fn draft_child(
        &self,
        parent: &Commit,
        revision: Revision,
        fragments: BTreeMap<PublicKey, Arc<Fragment>>,
        running: RunningVms,
    ) -> Result<Draft, Vec<HostRefusal>> {
        let mut draft = Draft::new(revision, BTreeSet::new(), fragments, running);
        let changed = self.projects.changed(parent, &draft.commit());
        if changed.is_empty() {
            let detail = "nothing in it differs from what is there".to_owned();
            return Err(self.refused_here(Rule::Unchanged, detail));
        }
        draft.fragments.retain(|host, _| changed.contains(host));
        draft.answers = changed.into_iter().map(|host| (host, Answer::Awaited)).collect();
        Ok(draft)
    }

    /// Drafts a partial revision again, with the parts of those that have not reserved as they were.
    pub(super) fn draft_without(&self, draft: &Draft) -> Result<Draft, Vec<HostRefusal>> {
        let parent = draft.revision.parent.and_then(|parent| self.projects.commit(parent));
        let gone = || self.refused_here(Rule::Parent, "the project has changed meanwhile".to_owned());
        let parent = parent.ok_or_else(gone)?;
        let missing: BTreeSet<PublicKey> = draft
            .answers
            .iter()
            .filter(|(_, answer)| !matches!(answer, Answer::Reserved(_)))
            .map(|(&host, _)| host)
            .collect();
        let mut hosts: Vec<RevisionHost> =
            draft.revision.hosts.iter().filter(|host| !missing.contains(&host.key)).cloned().collect();
        for host in parent.revision.hosts.iter().filter(|host| missing.contains(&host.key)) {
            let vms = host
                .vms
                .iter()
                .map(|vm| RevisionVm { birth: Some(vm.id(parent.digest).birth), ..vm.clone() });
            hosts.push(RevisionHost { vms: vms.collect(), ..host.clone() });
        }
        hosts.sort();
        // A VM that moves between a host that is there and one that is away would stand twice, or nowhere.
        let names: Vec<&Name> = hosts.iter().flat_map(|host| &host.vms).map(|vm| &vm.name).collect();
        let wanted: BTreeSet<&Name> =
            draft.revision.hosts.iter().flat_map(|h| &h.vms).map(|vm| &vm.name).collect();
        let lost = parent
            .revision
            .hosts
            .iter()
            .filter(|host| !missing.contains(&host.key))
            .flat_map(|host| &host.vms);
        let lost = lost.filter(|vm| wanted.contains(&vm.name) && !names.contains(&&vm.name)).count();
        if names.iter().collect::<BTreeSet<_>>().len() != names.len() || lost > 0 {
            let detail = "a VM would move to or from a host that does not take part".to_owned();
            return Err(self.refused_here(Rule::HostOff, detail));
        }
        // What people asked for stays its definition: that of the parts would be nobody's text.
        let mut revision = Revision { hosts, ..draft.revision.clone() };
        if !leaves_out(parent, &revision) {
            revision.keep_removed_ms = 0;
        }
        self.draft_child(parent, revision, draft.fragments.clone(), draft.running)
    }

    /// Makes a revision of a definition: VMs that the base has stay the same ones, and stay where they are if nothing
    /// says where they are to be, or only a group that this host is of.
    fn revision_of(
        &self,
        now: Now,
        base: &Commit,
        project: &Project,
        blobs: &[Blob],
    ) -> Result<(Revision, Parts), Vec<HostRefusal>> {
        let at = |vm: &Name| match base.placed().find(|(id, _)| id.name == *vm) {
            Some((_, host)) => Some(PlacedHost { name: host.name.clone(), key: host.key }),
            // Where its disk is kept, it comes back.
            None => self.keeper(base.project(), vm),
        };
        let current = base.placed().map(|(id, host)| (id.name, host.name.clone())).collect();
        let chosen = self.choose_hosts(now, project, None, &current)?;
        let parts = self.parts(project, blobs, &chosen, at)?;
        let at = |name: &Name| parts.iter().find(|(_, part)| part.vms.iter().any(|vm| vm.name == *name));
        let hosts = hosts_of(&parts, |name| self.identity(base, name, at(name)?.0.key));
        let definition = definition_in(blobs, hosts.iter().map(|host| host.fragment));
        let revision = Revision { hosts, definition, decision: None, ..base.revision.clone() };
        self.judge_size(&revision, &parts)?;
        Ok((revision, parts.into_iter().map(|(host, part)| (host.key, Arc::new(part))).collect()))
    }

    /// Makes a revision like an earlier one. The hosts have their parts still; VMs that the base has stay the same
    /// ones, those whose disks are kept come back, and the others are born again.
    fn revision_as(&self, base: &Commit, to: &Commit) -> Revision {
        let host = |host: &RevisionHost| {
            let vm = |vm: &RevisionVm| RevisionVm {
                name: vm.name.clone(),
                birth: self.identity(base, &vm.name, host.key),
            };
            RevisionHost { vms: host.vms.iter().map(vm).collect(), ..host.clone() }
        };
        let hosts = to.revision.hosts.iter().map(host).collect();
        Revision { hosts, definition: to.revision.definition, decision: None, ..base.revision.clone() }
    }

    /// Returns the birth of the VM that has a name in a revision, or that has it and whose disk is kept on this host.
    pub(super) fn identity(&self, base: &Commit, name: &Name, host: PublicKey) -> Option<Digest> {
        let of = |commit: &Commit| commit.placed().find(|(id, _)| id.name == *name).map(|(id, _)| id.birth);
        let heads = self.projects.heads_of(base.project());
        let newest = || of(self.projects.commit(*heads?.newest())?);
        let before = || heads?.path().rev().find_map(|revision| of(self.projects.commit(*revision)?));
        let kept = || self.kept_on(base.project(), name, host).map(|vm| vm.birth);
        of(base)
            .or_else(newest)
            .or_else(kept)
            .or_else(|| before().filter(|_| self.mutated_identity_without_birth()))
    }

    /// Splits a project over its hosts; `chosen` says where VMs go that name a group, and `at` where those are that
    /// the project doesn't place.
    fn parts(
        &self,
        project: &Project,
        blobs: &[Blob],
        chosen: &BTreeMap<Name, PlacedHost>,
        at: impl Fn(&Name) -> Option<PlacedHost>,
    ) -> Result<BTreeMap<PlacedHost, Fragment>, Vec<HostRefusal>> {
        let here = PlacedHost { name: self.config.name.clone(), key: self.me };
        let find = |address: &HostAddress| {
            let key = self.records.named(&address.0)?;
            Some(PlacedHost { name: self.records.member(key)?.name.clone(), key })
        };
        let asked = |vm: &Name| at(vm).unwrap_or_else(|| here.clone());
        fragments(project, blobs, asked, chosen, find).map_err(|unknown| {
            let known: Vec<&str> = self.records.members().map(|(_, member)| member.name.as_str()).collect();
            let refusal = |error: PlacementError| {
                let unknown = |what: &dyn std::fmt::Display, host: &HostAddress| {
                    let meant = did_you_mean(&host.0, known.iter().copied());
                    format!("{what}: there is no service host {host}{meant} (there are {})", known.join(", "))
                };
                let detail = match &error {
                    PlacementError::Vm { vm, host } => unknown(vm, host),
                    PlacementError::Switch { switch, host } => unknown(&format!("switch {switch}"), host),
                    PlacementError::SwitchElsewhere { switch, host, carriers } => {
                        let carriers: Vec<&str> = carriers.iter().map(Name::as_str).collect();
                        format!(
                            "switch {switch}: its service_host {host} runs no member of it, so it can't have its \
                             uplink; name one of {}",
                            carriers.join(", ")
                        )
                    }
                };
                HostRefusal {
                    host: here.name.to_string(),
                    refusal: Refusal { rule: Rule::UnknownHost, detail },
                }
            };
            unknown.into_iter().map(refusal).collect::<Vec<_>>()
        })
    }

    /// Refuses what no revision, or no message, can carry.
    pub(super) fn judge_size(
        &self,
        revision: &Revision,
        parts: &BTreeMap<PlacedHost, Fragment>,
    ) -> Result<(), Vec<HostRefusal>> {
        let refuse = |host: String, detail: String| {
            Err(vec![HostRefusal { host, refusal: Refusal { rule: Rule::Size, detail } }])
        };
        if parts.len() > limits::PROJECT_HOSTS_MAX {
            let detail =
                format!("{} hosts, where a project spans at most {}", parts.len(), limits::PROJECT_HOSTS_MAX);
            return refuse(self.config.name.to_string(), detail);
        }
        let bytes = wire::commit_bytes_max(revision, 2 * parts.len());
        if bytes > wire::RECORD_BYTES_MAX {
            let detail = format!(
                "its {} VMs on {} hosts make a revision of {bytes} bytes, where at most {} are possible; make it two \
                 projects",
                revision.vm_count(),
                parts.len(),
                wire::RECORD_BYTES_MAX
            );
            return refuse(self.config.name.to_string(), detail);
        }
        for (host, part) in parts {
            let bytes = wire::encode_fragment(part).len();
            if bytes > limits::FRAGMENT_BYTES_MAX {
                let limit = limits::FRAGMENT_BYTES_MAX;
                let detail =
                    format!("its part of the project has {bytes} bytes, where at most {limit} are sent");
                return refuse(host.name.to_string(), detail);
            }
        }
        Ok(())
    }

    /// Returns a refusal of this host itself.
    pub(super) fn refused_here(&self, rule: Rule, detail: String) -> Vec<HostRefusal> {
        vec![HostRefusal { host: self.config.name.to_string(), refusal: Refusal { rule, detail } }]
    }

    /// Returns the VMs that a revision leaves out of its parent.
    pub(super) fn left_out(&self, revision: &Commit) -> BTreeSet<VmId> {
        let parent = revision.revision.parent.and_then(|parent| self.projects.commit(parent));
        let stays: BTreeSet<VmId> = revision.placed().map(|(vm, _)| vm).collect();
        parent
            .into_iter()
            .flat_map(Commit::placed)
            .map(|(vm, _)| vm)
            .filter(|vm| !stays.contains(vm))
            .collect()
    }
}

/// Returns the hosts of a revision, each with its part and the VMs of that.
pub(super) fn hosts_of(
    parts: &BTreeMap<PlacedHost, Fragment>,
    birth: impl Fn(&Name) -> Option<Digest>,
) -> Vec<RevisionHost> {
    let host = |(host, part): (&PlacedHost, &Fragment)| RevisionHost {
        name: host.name.clone(),
        key: host.key,
        fragment: Digest::of(&wire::encode_fragment(part)),
        vms: part.vms.iter().map(|vm| RevisionVm { name: vm.name.clone(), birth: birth(&vm.name) }).collect(),
    };
    parts.iter().map(host).collect()
}

/// Returns the digest of what a project was submitted as, if that is among its contents; else that of its parts.
fn definition_in(blobs: &[Blob], parts: impl Iterator<Item = Digest>) -> Digest {
    let submitted = blobs.iter().find(|blob| blob.from == Blob::DEFINITION);
    submitted.map_or_else(|| definition_of(parts), |blob| blob.digest)
}

/// Returns the digest of what a project is, over all of its hosts' parts. Passwords in them are hashed already: a
/// digest of the text that people wrote would let everybody try them out.
fn definition_of(parts: impl Iterator<Item = Digest>) -> Digest {
    let all: Vec<u8> = parts.flat_map(|part| part.0).collect();
    Digest::of(&all)
}

/// Whether a VM of a revision is in none of the parts of its child.
pub(super) fn leaves_out(parent: &Commit, child: &Revision) -> bool {
    let stays = |vm: &VmId| {
        let mut vms = child.hosts.iter().flat_map(|host| &host.vms);
        vms.any(|there| there.birth == Some(vm.birth) && there.name == vm.name)
    };
    parent.placed().any(|(vm, _)| !stays(&vm))
}
