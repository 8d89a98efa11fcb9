//! Who owns each VM, from claims, declines and releases in any order.
//!
//! ```text
//!            ┌────────────────────── claim ◄──────────────────────┐
//!            ▼                                                    │
//!   (unclaimed) ── birth ──► Held ── release ──► Released ── decline ──► Declined
//!                              │                    │
//!                              └── two claims of one epoch: Contested, until a takeover raises the term
//! ```
//!
//! A pure function of the records and of the revisions in which VMs were born: it knows no time and no head, and of
//! grants only which projects a takeover's are for. It says who owns a VM, not what this host may do: that takes a note on its own disk as well.

use std::collections::{BTreeMap, BTreeSet};

use super::limits::TERM_JUMP_MAX;
use crate::id::{Label, PublicKey, VmId};
use crate::record::{
    Claim, ClaimBasis, Commit, Decline, Epoch, Link, LinkKind, Record, Release, VerifiedRecord,
};
use crate::trust::{Grant, Signed};

/// Who owns each VM.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    chains: BTreeMap<VmId, Chain>,
}

/// All that is known of one VM.
#[derive(Clone, Debug, Default)]
struct Chain {
    /// The host on which the revision of its birth places it.
    born_on: Option<PublicKey>,
    /// What its project is called, by that revision.
    label: Option<Label>,
    links: BTreeMap<(Epoch, LinkKind, PublicKey), VerifiedRecord>,
    current: Option<Ownership>,
}

/// Who owns a VM, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The owner; after a decline the one that it goes back to; of several claimants the one with the smallest key.
    pub owner: PublicKey,
    /// The newest epoch.
    pub epoch: Epoch,
    /// Whether the owner may act as one.
    pub tenure: Tenure,
}

/// Whether an owner may act as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// It may.
    Held,
    /// It has released the VM to somebody who has neither claimed nor declined it: nobody may.
    Released {
        /// To whom.
        to: PublicKey,
        /// The release.
        release: VerifiedRecord,
    },
    /// Whom it had released the VM to has declined: it may as soon as it has claimed the next epoch.
    Declined {
        /// The decline.
        decline: VerifiedRecord,
    },
    /// Several claim one epoch: all hold still until somebody takes the VM over.
    Contested {
        /// Who claims it.
        claimants: BTreeSet<PublicKey>,
    },
}

impl Ledger {
    /// Takes in the VMs that are born in a revision; returns those of which a claim was known already.
    pub(super) fn born(&mut self, commit: &Commit, rules: Rules) -> Vec<VmId> {
        let mut claimed = Vec::new();
        for host in &commit.revision.hosts {
            for vm in host.vms.iter().filter(|vm| vm.birth.is_none()) {
                let id = vm.id(commit.digest);
                let chain = self.chains.entry(id.clone()).or_default();
                if chain.born_on != Some(host.key) {
                    chain.born_on = Some(host.key);
                    chain.label = Some(commit.revision.label.clone());
                    chain.walk(rules);
                    if chain.current.is_some() {
                        claimed.push(id);
                    }
                }
            }
        }
        claimed
    }

    /// Takes in a link, which replaces what was in its slot; returns its VM if somebody else owns it now, or
    /// otherwise.
    pub(super) fn insert(&mut self, record: &VerifiedRecord, rules: Rules) -> Option<VmId> {
        let Record::Link(link) = &***record else { return None };
        let chain = self.chains.entry(link.vm().clone()).or_default();
        chain.links.insert((link.epoch(), link.kind(), record.author()), record.clone());
        let before = chain.current.clone();
        chain.walk(rules);
        (chain.current != before).then(|| link.vm().clone())
    }

    /// Returns who owns a VM; none while nobody is known to have claimed it.
    pub(super) fn owner(&self, vm: &VmId) -> Option<&Ownership> {
        self.chains.get(vm)?.current.as_ref()
    }

    /// Returns the host on which a VM was born, once that revision is known.
    pub(super) fn born_on(&self, vm: &VmId) -> Option<PublicKey> {
        self.chains.get(vm)?.born_on
    }

    /// Returns the links of a VM, newest first.
    pub(super) fn links(&self, vm: &VmId) -> impl Iterator<Item = &VerifiedRecord> {
        self.chains.get(vm).into_iter().flat_map(|chain| chain.links.values().rev())
    }

    /// Returns every VM that is contested.
    pub(super) fn contested(&self) -> impl Iterator<Item = (&VmId, &Ownership)> {
        self.chains.iter().filter_map(|(vm, chain)| {
            let current = chain.current.as_ref()?;
            matches!(current.tenure, Tenure::Contested { .. }).then_some((vm, current))
        })
    }
}

/// Which of the ledger's rules are in force: all, but where one is switched off to see whether that is noticed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A decline takes the epoch that it is for.
    pub(super) decline_takes_epoch: bool,
    /// Only the host of the birth may claim the first epoch.
    pub(super) first_by_birth: bool,
    /// A takeover follows from the terms before it.
    pub(super) terms_follow: bool,
    /// A takeover's grants must be good for the project.
    pub(super) takeover_in_scope: bool,
}

impl Rules {
    #[cfg(test)]
    pub(super) const ALL: Self =
        Self { decline_takes_epoch: true, first_by_birth: true, terms_follow: true, takeover_in_scope: true };
}

impl Chain {
    /// Follows the chain of the newest term to its end.
    fn walk(&mut self, rules: Rules) {
        let mut at = self.begin(rules);
        while let Some(next) = at.as_ref().and_then(|at| self.next(at, rules)) {
            at = Some(next);
        }
        self.current = at;
    }

    fn claims(&self, epoch: Epoch) -> impl Iterator<Item = (PublicKey, &VerifiedRecord, &Claim)> {
        self.at(epoch).filter_map(|(author, record)| match &***record {
            Record::Link(Link::Claim(claim)) => Some((author, record, claim)),
            _ => None,
        })
    }

    fn at(&self, epoch: Epoch) -> impl Iterator<Item = (PublicKey, &VerifiedRecord)> {
        let from = (epoch, LinkKind::Claim, PublicKey([0; 32]));
        self.links
            .range(from..)
            .take_while(move |((at, ..), _)| *at == epoch)
            .map(|((.., author), record)| (*author, record))
    }

    /// Returns the claims with which the newest term begins: of takeovers, else of the birth.
    fn begin(&self, rules: Rules) -> Option<Ownership> {
        if let Some(epoch) = self.newest_takeover(rules) {
            let by = self.claims(epoch).filter(|(_, _, claim)| self.counts_as_takeover(claim, rules));
            return settle(epoch, by.map(|(author, ..)| author).collect());
        }
        let born = |(author, _, claim): &(PublicKey, &VerifiedRecord, &Claim)| {
            claim.basis == ClaimBasis::Birth && (self.born_on == Some(*author) || !rules.first_by_birth)
        };
        settle(Epoch::FIRST, self.claims(Epoch::FIRST).filter(born).map(|(author, ..)| author).collect())
    }

    /// Returns the first epoch of the newest term that somebody has begun by a takeover.
    ///
    /// What a takeover says that it has seen is a bare number: without the terms that lead to it, one at the end of all
    /// numbers would be the last that anybody could make.
    fn newest_takeover(&self, rules: Rules) -> Option<Epoch> {
        let begun = |epoch: &Epoch| {
            let first = epoch.n == 1 && epoch.term > 1;
            first && self.claims(*epoch).any(|(_, _, claim)| self.counts_as_takeover(claim, rules))
        };
        let mut epochs: Vec<Epoch> = self.links.keys().map(|(epoch, ..)| *epoch).collect();
        epochs.dedup();
        if !rules.terms_follow {
            return epochs.into_iter().rev().find(begun);
        }
        let mut newest = None;
        for epoch in epochs.into_iter().filter(begun) {
            let before = newest.map_or(Epoch::FIRST.term, |newest: Epoch| newest.term);
            if epoch.term > before.saturating_add(TERM_JUMP_MAX) {
                break;
            }
            newest = Some(epoch);
        }
        newest
    }

    /// Whether a claim is a takeover by grants that are good for the VM's project, as far as that is known.
    fn counts_as_takeover(&self, claim: &Claim, rules: Rules) -> bool {
        let ClaimBasis::Takeover(takeover) = &claim.basis else { return false };
        let Some(label) = self.label.as_ref().filter(|_| rules.takeover_in_scope) else { return true };
        let covers = |link: &Signed| {
            Grant::from_bytes(&link.payload).is_ok_and(|grant| grant.scope.covers_project(label))
        };
        takeover.chain.iter().all(covers)
    }

    /// Returns what the next record makes of an ownership; none at the end of the chain.
    fn next(&self, at: &Ownership, rules: Rules) -> Option<Ownership> {
        match &at.tenure {
            Tenure::Contested { .. } => None,
            Tenure::Held | Tenure::Released { .. } => self.succeed(at, rules).or_else(|| match at.tenure {
                Tenure::Held => self.released(at),
                Tenure::Released { .. } | Tenure::Declined { .. } | Tenure::Contested { .. } => None,
            }),
            Tenure::Declined { decline } => {
                let epoch = if rules.decline_takes_epoch { at.epoch.next() } else { at.epoch };
                let back = |(author, _, claim): &(PublicKey, &VerifiedRecord, &Claim)| {
                    *author == at.owner
                        && matches!(&claim.basis, ClaimBasis::Declined(inner) if inner.author() == decline.author())
                };
                settle(epoch, self.claims(epoch).filter(back).map(|(author, ..)| author).collect())
            }
        }
    }

    /// Returns what claims and declines of the next epoch make of it: each holds the owner's release inside.
    fn succeed(&self, at: &Ownership, rules: Rules) -> Option<Ownership> {
        let epoch = at.epoch.next();
        let ours = |release: &crate::trust::Verified<Release>| {
            release.author() == at.owner && release.epoch == at.epoch
        };
        let mut claimants: BTreeSet<PublicKey> = self
            .claims(epoch)
            .filter(|(_, _, claim)| match &claim.basis {
                ClaimBasis::Release(release) => ours(release),
                ClaimBasis::Birth | ClaimBasis::Declined(_) | ClaimBasis::Takeover(_) => false,
            })
            .map(|(author, ..)| author)
            .collect();
        let declines = self.declines(epoch).filter(|(_, _, decline)| ours(&decline.release));
        let declines: Vec<(PublicKey, &VerifiedRecord)> =
            declines.map(|(author, record, _)| (author, record)).collect();
        if claimants.len() + declines.len() > 1 && rules.decline_takes_epoch {
            claimants.extend(declines.iter().map(|(author, _)| *author));
            let owner = claimants.first().copied()?;
            return Some(Ownership { owner, epoch, tenure: Tenure::Contested { claimants } });
        }
        if !claimants.is_empty() {
            return settle(epoch, claimants);
        }
        let (_, decline) = declines.first()?;
        let tenure = Tenure::Declined { decline: (*decline).clone() };
        Some(Ownership { owner: at.owner, epoch, tenure })
    }

    fn declines(&self, epoch: Epoch) -> impl Iterator<Item = (PublicKey, &VerifiedRecord, &Decline)> {
        self.at(epoch).filter_map(|(author, record)| match &***record {
            Record::Link(Link::Decline(decline)) => Some((author, record, decline)),
            _ => None,
        })
    }

    fn released(&self, at: &Ownership) -> Option<Ownership> {
        let record = self.links.get(&(at.epoch, LinkKind::Release, at.owner))?;
        let Record::Link(Link::Release(release)) = &***record else { return None };
        let tenure = Tenure::Released { to: release.to, release: record.clone() };
        Some(Ownership { tenure, ..at.clone() })
    }
}

/// Returns what claims of one epoch amount to; nothing where there are none.
fn settle(epoch: Epoch, claimants: BTreeSet<PublicKey>) -> Option<Ownership> {
    let owner = claimants.first().copied()?;
    let tenure = if claimants.len() == 1 { Tenure::Held } else { Tenure::Contested { claimants } };
    Some(Ownership { owner, epoch, tenure })
}

#[cfg(test)]
#[path = "ledger_test.rs"]
mod tests;
