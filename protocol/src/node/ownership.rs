//! What this host may do with a VM: by its own notes, and by what everybody says of who owns it.
//!
//! A note on this host's disk gives the right; records only take it away. So a host that has lost its notes, or was
//! put back to an older state, runs nothing that somebody else may run by now.

use std::collections::{BTreeMap, BTreeSet};

use super::io::{Holding, Output, Write};
use super::ledger::{Ownership, Rules, Tenure};
use super::message::{HandOver, Message};
use super::records::Merge;
use super::timers::Timer;
use super::{Node, Origin, limits};
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::model::{Fragment, MemoryMib};
use crate::record::{Claim, ClaimBasis, Epoch, Link, LinkKind, Record, Release, VerifiedRecord};
use crate::time::Now;
use crate::trust::Verified;
use crate::wire;

/// What this host has signed about VMs, and what it has yet to find out about that.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    by_vm: BTreeMap<VmId, Holding>,
    /// What it found on its disk when it started.
    loaded: BTreeSet<VmId>,
    /// VMs that were born here as records say, and of which this host has kept nothing: whether it ever claimed
    /// them, others may know.
    doubtful: BTreeSet<VmId>,
    /// Authors of two links in one slot, with the first two.
    forks: BTreeMap<(VmId, Epoch, LinkKind, PublicKey), [VerifiedRecord; 2]>,
}

/// What a host may do with a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// It owns it.
    Own(Epoch),
    /// It owns it as far as it knows, and has yet to ask: what runs goes on, nothing else begins.
    Unconfirmed,
    /// It has claimed it, and others have too, or have since: it holds still and keeps the disk.
    Suspended {
        /// Why, for people.
        reason: String,
    },
    /// It has no claim on it.
    None,
}

impl Holdings {
    pub(super) fn load(stored: Vec<(VmId, Holding)>) -> Self {
        let loaded = stored.iter().map(|(vm, _)| vm.clone()).collect();
        Self { by_vm: stored.into_iter().collect(), loaded, ..Self::default() }
    }

    pub(super) fn get(&self, vm: &VmId) -> Option<&Holding> {
        self.by_vm.get(vm)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&VmId, &Holding)> {
        self.by_vm.iter()
    }

    /// Returns the links that the notes themselves contain.
    pub(super) fn links(&self) -> impl Iterator<Item = &VerifiedRecord> {
        self.by_vm.values().filter_map(Holding::link)
    }

    /// Whether a note names this fragment: a VM is still defined by it here.
    pub(super) fn names_fragment(&self, digest: Digest) -> bool {
        self.by_vm.values().any(|holding| holding.fragment() == Some(digest))
    }
}

impl Holding {
    /// Returns what the note says that this host has signed, if the note is of that.
    pub fn link(&self) -> Option<&VerifiedRecord> {
        match self {
            Self::Claimed { claim, .. } => Some(claim),
            Self::Released { release, .. } => Some(release),
            Self::Declined { decline } => Some(decline),
            Self::Arriving { .. } | Self::Arrived { .. } | Self::Shadow { .. } => None,
        }
    }

    /// Returns the fragment that defines the VM on this host, if it has one.
    pub(super) fn fragment(&self) -> Option<Digest> {
        match self {
            Self::Claimed { fragment, .. }
            | Self::Released { fragment, .. }
            | Self::Shadow { fragment, .. } => Some(*fragment),
            Self::Arriving { .. } | Self::Arrived { .. } | Self::Declined { .. } => None,
        }
    }
}

/// Returns a record that is known to be a release as one.
pub(super) fn as_release(record: &VerifiedRecord) -> Option<Verified<Release>> {
    let Record::Link(Link::Release(release)) = &***record else { return None };
    let release = release.clone();
    Some((**record).clone().map(|_| release))
}

impl Node {
    /// Returns which rules of the ledger are in force.
    pub(super) fn rules(&self) -> Rules {
        Rules {
            decline_takes_epoch: !self.mutated_decline_without_epoch(),
            first_by_birth: !self.mutated_first_epoch_by_another(),
            terms_follow: !self.mutated_takeover_term_unbounded(),
            takeover_in_scope: !self.mutated_takeover_scope_ignored(),
        }
    }

    /// Writes down what this host has signed about a VM, before anything of it leaves.
    pub(super) fn hold(&mut self, vm: &VmId, holding: Holding) {
        self.holdings.loaded.remove(vm);
        self.holdings.by_vm.insert(vm.clone(), holding.clone());
        if self.mutated_not_noted(&holding) {
            return;
        }
        let write = Write::Holding(vm.clone(), holding);
        if self.mutated_note_after_send() {
            self.outbox.write_late(write);
        } else {
            self.outbox.write(write);
        }
    }

    /// Forgets a VM of which this host has no copy any more.
    pub(super) fn let_go(&mut self, vm: &VmId) {
        if self.holdings.by_vm.remove(vm).is_some() {
            self.outbox.write(Write::DropHolding(vm.clone()));
        }
    }

    /// Returns what this host may do with a VM right now.
    pub(super) fn right(&self, vm: &VmId) -> Right {
        let mine = match self.holdings.get(vm) {
            Some(Holding::Claimed { claim, .. }) => claim,
            Some(Holding::Released { release, .. }) if self.mutated_resume_without_claim() => {
                let declined = self.ledger.owner(vm).map(|owner| &owner.tenure);
                return match (&***release, declined) {
                    (Record::Link(link), Some(Tenure::Declined { .. })) => Right::Own(link.epoch()),
                    _ => Right::None,
                };
            }
            Some(
                Holding::Arriving { .. }
                | Holding::Arrived { .. }
                | Holding::Released { .. }
                | Holding::Declined { .. }
                | Holding::Shadow { .. },
            )
            | None => return Right::None,
        };
        let Record::Link(link) = &***mine else { return Right::None };
        let epoch = link.epoch();
        if self.mutated_epoch_not_compared() && self.holdings.loaded.contains(vm) {
            return Right::Own(epoch);
        }
        let Some(current) = self.ledger.owner(vm) else { return Right::Unconfirmed };
        let suspended = |reason: String| Right::Suspended { reason };
        let heeded = current.epoch.term == epoch.term || !self.mutated_takeover_not_heeded();
        match &current.tenure {
            _ if !heeded => Right::Own(epoch),
            Tenure::Contested { .. } if self.mutated_contested_goes_on() => Right::Own(epoch),
            Tenure::Contested { claimants } => {
                let names: Vec<String> = claimants.iter().map(|key| self.host_name(*key)).collect();
                suspended(format!(
                    "{} claim to own it; take it over on the one whose disk is to be kept",
                    names.join(" and ")
                ))
            }
            Tenure::Held if current.epoch == epoch && current.owner == self.me => {
                if self.may_sign() {
                    Right::Own(epoch)
                } else {
                    Right::Unconfirmed
                }
            }
            // It was put back to an older state: what it has signed since may be about a disk that is no more.
            Tenure::Held | Tenure::Released { .. } | Tenure::Declined { .. } if current.owner == self.me => {
                suspended(format!(
                    "this host has owned it in epoch {} since, and its notes are from epoch {epoch}; \
                     take it over here if the disk that is here is to be kept",
                    current.epoch
                ))
            }
            Tenure::Held | Tenure::Released { .. } | Tenure::Declined { .. } => suspended(format!(
                "{} owns it by now; the disk that is here is kept and not used",
                self.host_name(current.owner)
            )),
        }
    }

    /// Whether this host owns a VM, or nobody else does as far as is known.
    pub(super) fn speaks_for(&self, vm: &VmId) -> bool {
        self.ledger.owner(vm).is_some_and(|current| current.owner == self.me)
    }

    /// Returns the host whose word on a VM's state counts.
    pub(super) fn owner(&self, vm: &VmId) -> Option<PublicKey> {
        self.ledger.owner(vm).map(|current| current.owner)
    }

    /// Signs a link, notes it, and lets everybody know.
    pub(super) fn sign_link(
        &mut self,
        now: Now,
        link: Link,
        note: impl FnOnce(VerifiedRecord) -> Holding,
    ) -> VerifiedRecord {
        let vm = link.vm().clone();
        let record = wire::sign_record(&self.config.keys, Record::Link(link));
        self.hold(&vm, note(record.clone()));
        if self.merge(&record, Origin::Ourselves) == Merge::Taken {
            if self.mutated_claim_before_fsync() {
                self.outbox.push_unheld(Output::Broadcast(record.clone()));
            } else {
                self.outbox.push(Output::Broadcast(record.clone()));
            }
        }
        self.act_on(now, &record);
        record
    }

    /// Claims the first epoch of a VM that was born here.
    pub(super) fn claim_birth(&mut self, now: Now, vm: &VmId, fragment: Digest) {
        let claim = Claim { vm: vm.clone(), epoch: Epoch::FIRST, basis: ClaimBasis::Birth };
        self.sign_link(now, Link::Claim(claim), |claim| Holding::Claimed { claim, fragment, made: false });
    }

    /// Whether this host may claim the first epoch of a VM: nobody has, and it was born here.
    pub(super) fn may_claim_birth(&self, vm: &VmId) -> bool {
        let born_here = self.ledger.born_on(vm) == Some(self.me) || self.mutated_first_epoch_by_another();
        let known = self.ledger.owner(vm).is_some() || self.holdings.get(vm).is_some();
        let remembers = self.projects.project_of(vm).is_some_and(|project| !self.forgot(project));
        self.may_sign() && born_here && !known && remembers && !self.holdings.doubtful.contains(vm)
    }

    /// Holds back the first claim of VMs whose definition this host had not kept: it may have forgotten more than
    /// that. It claims them once somebody has told what they know.
    pub(super) fn doubt(&mut self, now: Now, fragment: &Fragment, digest: Digest) {
        let mut vms = Vec::new();
        for (project, _) in self.projects.heads() {
            for commit in self.projects.proven(project) {
                let part = commit.host(self.me).filter(|host| host.fragment == digest);
                vms.extend(part.into_iter().flat_map(|host| host.ids(commit.digest)));
            }
        }
        vms.retain(|vm| fragment.vms.iter().any(|found| found.name == vm.name));
        self.holdings.doubtful.extend(vms.into_iter().filter(|vm| !self.holdings.by_vm.contains_key(vm)));
        self.ask_about_doubtful(now);
    }

    fn ask_about_doubtful(&mut self, now: Now) {
        if self.holdings.doubtful.is_empty() {
            return;
        }
        let vms: Vec<VmId> = self.holdings.doubtful.iter().take(limits::LINKS_WANTED_MAX).cloned().collect();
        for peer in self.connected.clone() {
            self.send(peer, Message::HandOver(HandOver::LinksWanted(vms.clone())));
        }
        self.timers.set(Timer::Doubtful, now.mono_ms + limits::CONFIRM_MS);
    }

    /// Asks again.
    pub(super) fn doubtful_due(&mut self, now: Now) {
        self.ask_about_doubtful(now);
    }

    /// Somebody has told all that they know of who owns these VMs.
    pub(super) fn links_told(&mut self, now: Now, vms: &[VmId]) {
        let mut projects = BTreeSet::new();
        for vm in vms {
            if self.holdings.doubtful.remove(vm) {
                projects.extend(self.projects.project_of(vm));
            }
        }
        for project in projects {
            self.head_changed(now, project);
        }
        self.own_links_told(now);
    }

    /// Draws the consequence of a link that is new here.
    pub(super) fn link_heard(&mut self, now: Now, vm: &VmId) {
        self.settle_release(now, vm);
        self.settle_taken(now, vm);
        self.settle_arrival(now, vm);
        self.leaving_changed(now, vm);
        if self.vms.owns(vm) {
            self.suspend_or_go_on(now, vm);
        }
        let project = self.projects.project_of(vm);
        if let Some(project) = project {
            self.watch_build(now, project);
            self.owner_changed(project, vm);
        }
        self.watch_run(now, vm);
    }

    /// Lets go of a VM that was taken over before anything was made of it here: there is nothing to be kept, and the
    /// head may bring it back.
    fn settle_taken(&mut self, now: Now, vm: &VmId) {
        let Some(Holding::Claimed { claim, made: false, .. }) = self.holdings.get(vm) else { return };
        let (Record::Link(link), Some(current)) = (&***claim, self.ledger.owner(vm)) else { return };
        let taken = current.epoch.term > link.epoch().term && current.owner != self.me;
        let contested = matches!(current.tenure, Tenure::Contested { .. });
        if taken && !contested && self.vms.never_built(vm) && !self.mutated_takeover_not_heeded() {
            self.let_go(vm);
            self.disown(now, vm);
        }
    }

    /// Draws the consequence of another head for VMs that come here, leave, or have left.
    pub(super) fn placements_changed(&mut self, now: Now, project: ProjectId) {
        let held: Vec<VmId> = self
            .holdings
            .iter()
            .filter(|(vm, _)| self.projects.project_of(vm) == Some(project))
            .map(|(vm, _)| vm.clone())
            .collect();
        for vm in held {
            self.settle_arrival(now, &vm);
            self.leaving_changed(now, &vm);
            let over = self.projects.placement(&vm).is_none()
                && matches!(self.holdings.get(&vm), Some(Holding::Shadow { .. }))
                && self.ledger.owner(&vm).is_some_and(|current| current.tenure == Tenure::Held);
            if over {
                self.drop_shadow(&vm);
            }
        }
    }

    /// Notes who has signed two links for one slot.
    pub(super) fn note_fork(&mut self, record: &VerifiedRecord) {
        let Record::Link(link) = &***record else { return };
        let slot = record.key(record.author());
        let Some(held) = self.records.get(&slot).filter(|held| held.digest() != record.digest()) else {
            return;
        };
        let key = (link.vm().clone(), link.epoch(), link.kind(), record.author());
        let pair = [held.clone(), record.clone()];
        if self.holdings.forks.len() >= limits::FORKS_MAX || self.holdings.forks.contains_key(&key) {
            return;
        }
        self.holdings.forks.insert(key, pair.clone());
        // What was signed with this host's own key silences it; it can't cut itself off.
        if record.author() != self.me {
            self.outbox.push(Output::Forked(Box::new(pair)));
        }
    }

    /// Tells a peer what links of these VMs are known here: also whoever is refused learns what stands above it.
    pub(super) fn tell_links(&mut self, to: PublicKey, vms: Vec<VmId>) {
        let known = vms.iter().flat_map(|vm| self.ledger.links(vm)).take(limits::SYNC_RECORDS_MAX);
        let links = known.cloned().collect();
        self.send(to, Message::HandOver(HandOver::LinksTold { vms, links }));
    }

    /// Returns the fragment with this digest and in it the definition of a VM.
    pub(super) fn definition_in(&self, digest: Digest, vm: &VmId) -> Option<std::sync::Arc<Fragment>> {
        let fragment = self.fragments.get(&digest)?;
        fragment.vms.iter().any(|definition| definition.name == vm.name).then(|| fragment.clone())
    }

    /// Returns the part of the head revision that defines a VM on this host, if it places the VM here.
    pub(super) fn placed_here(&self, vm: &VmId) -> Option<(Digest, std::sync::Arc<Fragment>)> {
        let part = self.projects.placement(vm).filter(|host| host.key == self.me)?;
        Some((part.fragment, self.definition_in(part.fragment, vm)?))
    }

    /// Returns the memory that is kept for VMs that are on their way here.
    pub(super) fn arriving_memory(&self) -> MemoryMib {
        let wanted = |vm: &VmId| {
            let (_, fragment) = self.placed_here(vm)?;
            fragment.vms.iter().find(|definition| definition.name == vm.name).map(|found| found.memory.0)
        };
        MemoryMib(self.hand_overs.arriving().filter_map(wanted).sum())
    }

    /// Returns who owns a VM; none while nobody is known to have claimed it.
    pub fn ownership(&self, vm: &VmId) -> Option<&Ownership> {
        self.ledger.owner(vm)
    }

    /// Says why a host may not have what is on a VM's disk. It may where this host owns the VM, and the head revision places
    /// it there.
    pub fn may_copy(&self, vm: &VmId, to: PublicKey) -> Result<(), String> {
        let epoch = match self.right(vm) {
            Right::Own(epoch) => epoch,
            Right::Unconfirmed => return Err("this host has just started".to_owned()),
            Right::Suspended { reason } => return Err(reason),
            Right::None => return Err("this host does not own it".to_owned()),
        };
        self.why_not_to(to, vm, epoch).map_or(Ok(()), Err)
    }

    /// Returns what this host has noted about VMs.
    pub fn holdings(&self) -> impl Iterator<Item = (&VmId, &Holding)> {
        self.holdings.iter()
    }

    /// Returns the VMs that several hosts claim in one epoch, with who does.
    pub fn contested(&self) -> impl Iterator<Item = (&VmId, &Ownership)> {
        self.ledger.contested()
    }

    /// Returns the proofs that somebody has signed two different links for one slot.
    pub fn forks(&self) -> impl Iterator<Item = &[VerifiedRecord; 2]> {
        self.holdings.forks.values()
    }
}
