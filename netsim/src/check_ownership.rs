//! S1 and S3, written from `mesh.md`: a VM's disk has one owner at a time, and the last complete copy of the newest
//! released or claimed state is never dropped.
//!
//! Exempt, by name: two owners after a takeover until the old one hears of it; and whoever lost, restored or forged
//! state, which the oracle that holds this one excuses.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::{Digest, Name, PublicKey, VmId};
use mln_protocol::node::{Holding, Write};
use mln_protocol::plan::Step;
use mln_protocol::record::{Claim, ClaimBasis, Epoch, Link, LinkKind, Ready, Record, RecordKey, Release};

use crate::disk::Disk;

/// What was signed about who owns what, and the rules that were broken by whom.
#[derive(Debug, Default)]
pub(crate) struct Ownerships {
    by_vm: BTreeMap<VmId, Signed>,
    broken: Vec<(Vec<PublicKey>, String)>,
}

/// What was signed about one VM.
#[derive(Debug, Default)]
struct Signed {
    claims: BTreeMap<(Epoch, PublicKey), Claim>,
    declines: BTreeSet<(Epoch, PublicKey)>,
    released: BTreeMap<(Epoch, PublicKey), Release>,
    ready: BTreeSet<(Epoch, PublicKey, Digest)>,
    /// Which epoch each host has a durable claim on and has not durably given away.
    holders: BTreeMap<PublicKey, Epoch>,
}

impl Signed {
    fn newest_claim(&self, by: PublicKey) -> Option<Epoch> {
        self.claims.keys().filter(|(_, author)| *author == by).map(|(epoch, _)| *epoch).next_back()
    }
}

impl Ownerships {
    pub(crate) fn take_broken(&mut self) -> Vec<(Vec<PublicKey>, String)> {
        std::mem::take(&mut self.broken)
    }

    /// "each epoch has exactly one key that may sign in it, named by the epoch before"
    pub(crate) fn note_link(&mut self, by: PublicKey, link: &Link) {
        let vm = self.by_vm.entry(link.vm().clone()).or_default();
        match link {
            Link::Claim(claim) => {
                if let ClaimBasis::Takeover(takeover) = &claim.basis
                    && takeover.seen.is_some_and(|seen| seen.term >= claim.epoch.term)
                {
                    let rule =
                        format!("S1: a takeover of {} does not raise the term: {}", claim.vm, claim.epoch);
                    self.broken.push((vec![by], rule));
                }
                let twice = vm.claims.keys().any(|(epoch, other)| *epoch == claim.epoch && *other != by);
                let declined = vm.declines.iter().any(|(epoch, _)| *epoch == claim.epoch);
                let over = matches!(claim.basis, ClaimBasis::Takeover(_));
                if (twice && !over) || declined {
                    let rule = format!("S1: epoch {} of {} is taken twice", claim.epoch, claim.vm);
                    self.broken.push((vec![by], rule));
                }
                vm.claims.insert((claim.epoch, by), claim.clone());
            }
            Link::Decline(decline) => {
                vm.declines.insert((decline.epoch, by));
            }
            Link::Release(release) => {
                vm.released.insert((release.epoch, by), release.clone());
            }
        }
    }

    /// "B syncs, verifies the root hash from its disk, signs ready"
    pub(crate) fn note_ready(&mut self, by: PublicKey, ready: &Ready) {
        let vm = self.by_vm.entry(ready.vm.clone()).or_default();
        vm.ready.insert((ready.epoch, by, ready.root));
    }

    /// S3: what is released lies complete with whom it is released to, who has said so.
    pub(crate) fn check_release(
        &mut self,
        by: PublicKey,
        release: &Release,
        root: Digest,
        there: Option<Digest>,
    ) {
        let vm = self.by_vm.entry(release.vm.clone()).or_default();
        let said = vm.ready.contains(&(release.epoch, release.to, root));
        // Whoever has lost it since declines.
        if !said || there.is_some_and(|there| there != root) {
            let rule = format!("S3: {} is released before it is complete at its new host", release.vm);
            self.broken.push((vec![by, release.to], rule));
        }
    }

    /// S1: two hosts never hold one VM in one term.
    pub(crate) fn note_writes(&mut self, by: PublicKey, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Holding(vm, holding) => self.note_holding(by, vm, holding),
                Write::DropHolding(vm) => {
                    self.by_vm.entry(vm.clone()).or_default().holders.remove(&by);
                }
                Write::Record(..)
                | Write::Heard(..)
                | Write::Join(_)
                | Write::Fragment(..)
                | Write::DropFragment(_)
                | Write::Decision(_)
                | Write::DropDecision(_) => {}
            }
        }
    }

    fn note_holding(&mut self, by: PublicKey, id: &VmId, holding: &Holding) {
        let Holding::Claimed { claim, .. } = holding else {
            self.by_vm.entry(id.clone()).or_default().holders.remove(&by);
            return;
        };
        let Record::Link(link) = &***claim else { return };
        // What is durable is signed, also where its author crashed before anybody heard of it.
        self.note_link(by, link);
        let vm = self.by_vm.entry(id.clone()).or_default();
        let epoch = link.epoch();
        let over = matches!(link, Link::Claim(Claim { basis: ClaimBasis::Takeover(_), .. }));
        let other = vm.holders.iter().find(|(key, held)| **key != by && held.term == epoch.term);
        if let Some((&other, held)) = other.filter(|_| !over) {
            let rule = format!("S1: two hosts hold {id}, in epochs {held} and {epoch}");
            self.broken.push((vec![by, other], rule));
        }
        vm.holders.insert(by, epoch);
    }

    /// S1: whoever starts or makes a VM owns it, has not given it away, and has not heard that somebody took it over;
    /// nobody else runs it meanwhile, but an owner who has not heard of a takeover.
    pub(crate) fn check_step(
        &mut self,
        host: &Name,
        key: PublicKey,
        id: &VmId,
        step: Step,
        disk: &Disk,
        elsewhere: &[PublicKey],
    ) {
        let begins = matches!(step, Step::Build | Step::Start | Step::Remove);
        if !begins {
            return;
        }
        let vm = self.by_vm.entry(id.clone()).or_default();
        let Some(claimed) = vm.newest_claim(key) else {
            let rule = format!("S1: {host} does {step:?} of {id} without a claim");
            self.broken.push((vec![key], rule));
            return;
        };
        if vm.released.contains_key(&(claimed, key)) {
            let rule = format!("S1: {host} does {step:?} of {id}, which it has released in {claimed}");
            self.broken.push((vec![key], rule));
        }
        let heard = vm.claims.keys().find(|(epoch, by)| {
            let slot = RecordKey::Link(id.clone(), *epoch, LinkKind::Claim, *by);
            epoch.term > claimed.term && *by != key && disk.record(&slot).is_some()
        });
        if let Some((epoch, _)) = heard {
            let rule = format!("S1: {host} does {step:?} of {id} in {claimed}, and has heard of {epoch}");
            self.broken.push((vec![key], rule));
        }
        for &other in elsewhere {
            let theirs = vm.newest_claim(other);
            if step == Step::Start && theirs.is_none_or(|theirs| theirs.term == claimed.term) {
                let rule = format!("S1: {host} starts {id} while another host runs it");
                self.broken.push((vec![key, other], rule));
            }
        }
        let made = vm.released.values().any(|release| {
            release.epoch.term == claimed.term
                && matches!(release.disk, mln_protocol::record::ReleasedDisk::Root(_))
        });
        if step == Step::Build && made {
            let rule = format!("S3: {host} makes a new disk for {id}, which had one");
            self.broken.push((vec![key], rule));
        }
    }

    /// S3: whoever released a VM keeps its copy until somebody has claimed it.
    pub(crate) fn check_drop(&mut self, host: &Name, key: PublicKey, id: &VmId) {
        let vm = self.by_vm.entry(id.clone()).or_default();
        let Some(newest) =
            vm.released.keys().filter(|(_, by)| *by == key).map(|(epoch, _)| *epoch).next_back()
        else {
            return;
        };
        let claimed = vm.claims.keys().any(|(epoch, by)| *epoch > newest && *by != key);
        let own = vm.newest_claim(key).is_some_and(|own| own > newest);
        if !claimed && !own {
            let rule = format!("S3: {host} drops its copy of {id}, which nobody has claimed since");
            self.broken.push((vec![key], rule));
        }
    }

    /// After a crash: what was signed about a VM is what its note says, or older than it.
    pub(crate) fn check_noted(&mut self, host: &Name, key: PublicKey, disk: &Disk) {
        for (id, vm) in &self.by_vm {
            let released =
                vm.released.keys().filter(|(_, by)| *by == key).map(|(epoch, _)| *epoch).next_back();
            let claimed = vm.newest_claim(key);
            let noted = match disk.holding(id) {
                Some(Holding::Claimed { claim, .. }) => match &***claim {
                    Record::Link(link) => Some(link.epoch()),
                    _ => None,
                },
                _ => None,
            };
            let forgot_release =
                noted.is_some_and(|noted| released.is_some_and(|released| released >= noted));
            if forgot_release {
                let rule =
                    format!("S1: after a crash {host} takes itself for the owner of {id}, which it released");
                self.broken.push((vec![key], rule));
            }
            let owns = claimed.is_some_and(|claimed| released.is_none_or(|released| released < claimed));
            let removed = disk.record(&RecordKey::Vm(id.clone(), key)).is_some_and(|record| {
                matches!(&***record, Record::Vm(status)
                    if status.state == mln_protocol::record::VmState::Removed)
            });
            if owns && noted < claimed && !removed {
                let rule = format!("S1: after a crash {host} does not know of its claim on {id}");
                self.broken.push((vec![key], rule));
            }
        }
    }
}
