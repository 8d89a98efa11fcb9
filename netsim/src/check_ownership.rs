//! S1 and S3, written from `mesh.md`: a VM's disk has one owner at a time, and the last complete copy of the newest
//! released or claimed state is never dropped.
//!
//! Exempt, by name: two owners after a takeover until the old one hears of it, two that have taken over one VM in one
//! term until they hear of each other; and whoever lost, restored or forged state, which the oracle that holds this
//! one excuses.

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
    /// What is broken unless one of these was put back to an older state: it has notes again that it had given away.
    outdated: Vec<(PublicKey, String)>,
}

/// With whose takeover a run of claims begins; none where that is not known. In the first term there is one run only.
type Line = Option<PublicKey>;

/// The line of the first term.
const BIRTH: Line = Some(PublicKey([0; 32]));

/// What was signed about one VM.
#[derive(Debug, Default)]
struct Signed {
    claims: BTreeMap<(Epoch, PublicKey), (Claim, Line)>,
    declines: BTreeMap<(Epoch, PublicKey), Line>,
    released: BTreeMap<(Epoch, PublicKey), Release>,
    ready: BTreeSet<(Epoch, PublicKey, Digest)>,
    /// Which epoch each host has a durable claim on and has not durably given away.
    holders: BTreeMap<PublicKey, (Epoch, Line)>,
}

/// How a host that has claimed a VM stands to it, for all that was ever signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It owns it, or has given it away in order.
    Rightful,
    /// Somebody else has taken it over: "the old owner, when it hears, pauses and keeps its copy as quarantined".
    Quarantined,
    /// "Two takeovers of one term: both pause until a third."
    Contested,
}

impl Signed {
    fn newest_claim(&self, by: PublicKey) -> Option<Epoch> {
        self.claims.keys().filter(|(_, author)| *author == by).map(|(epoch, _)| *epoch).next_back()
    }

    fn line(&self, claim: &Claim, by: PublicKey) -> Line {
        let of = |release: &mln_protocol::trust::Verified<Release>| {
            self.claims.get(&(release.epoch, release.author())).and_then(|(_, line)| *line)
        };
        match &claim.basis {
            ClaimBasis::Takeover(_) => Some(by),
            _ if claim.epoch.term == 1 => BIRTH,
            ClaimBasis::Birth => None,
            ClaimBasis::Release(release) => of(release),
            ClaimBasis::Declined(decline) => of(&decline.release),
        }
    }

    fn line_of(&self, epoch: Epoch, by: PublicKey) -> Line {
        self.claims.get(&(epoch, by)).and_then(|(_, line)| *line)
    }

    /// Returns who has taken the VM over into a term.
    fn takers(&self, term: u64) -> impl Iterator<Item = (Epoch, PublicKey)> {
        let taken = move |(epoch, _): &&(Epoch, PublicKey), claim: &Claim| {
            epoch.term == term && matches!(claim.basis, ClaimBasis::Takeover(_))
        };
        self.claims.iter().filter(move |(key, (claim, _))| taken(key, claim)).map(|(key, _)| *key)
    }

    fn standing(&self, by: PublicKey) -> Standing {
        let newest = self.claims.keys().map(|(epoch, _)| epoch.term).max().unwrap_or(0);
        match self.newest_claim(by) {
            Some(own) if own.term < newest => Standing::Quarantined,
            Some(own) if own.term > 1 && self.takers(newest).count() > 1 => Standing::Contested,
            Some(_) | None => Standing::Rightful,
        }
    }
}

fn same(a: Line, b: Line) -> bool {
    a.is_some() && a == b
}

impl Ownerships {
    pub(crate) fn take_broken(&mut self) -> Vec<(Vec<PublicKey>, String)> {
        std::mem::take(&mut self.broken)
    }

    /// Returns who holds again what it had released, with the rule that this breaks.
    pub(crate) fn take_outdated(&mut self) -> Vec<(PublicKey, String)> {
        std::mem::take(&mut self.outdated)
    }

    pub(crate) fn standing(&self, vm: &VmId, host: PublicKey) -> Standing {
        self.by_vm.get(vm).map_or(Standing::Rightful, |signed| signed.standing(host))
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
                let line = vm.line(claim, by);
                let twice = vm.claims.iter().any(|((epoch, other), (_, their_line))| {
                    *epoch == claim.epoch && *other != by && same(line, *their_line)
                });
                let declined =
                    vm.declines.iter().any(|((epoch, _), their)| *epoch == claim.epoch && same(line, *their));
                if twice || declined {
                    let rule = format!("S1: epoch {} of {} is taken twice", claim.epoch, claim.vm);
                    self.broken.push((vec![by], rule));
                }
                vm.claims.insert((claim.epoch, by), (claim.clone(), line));
            }
            Link::Decline(decline) => {
                let line = vm.line_of(decline.release.epoch, decline.release.author());
                let line = if decline.epoch.term == 1 { BIRTH } else { line };
                vm.declines.insert((decline.epoch, by), line);
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

    /// "Each step durable before the next": whoever says that a disk lies complete with it has noted that.
    pub(crate) fn check_ready(&mut self, host: &Name, by: PublicKey, ready: &Ready, disk: &Disk) {
        let noted = disk.holding(&ready.vm);
        let is_noted = matches!(noted, Some(Holding::Arrived { epoch, root, .. })
            if *epoch == ready.epoch && *root == ready.root);
        // What is said again may have been overtaken by what was signed since.
        let is_over = matches!(
            noted,
            Some(Holding::Claimed { .. } | Holding::Declined { .. } | Holding::Released { .. })
        );
        if !is_noted && !is_over {
            let rule = format!("D: {host} says that {} lies complete there, and has not noted it", ready.vm);
            self.broken.push((vec![by], rule));
        }
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
                | Write::DropDecision(_)
                | Write::Reservation(_)
                | Write::DropReservation(_) => {}
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
        let line = match link {
            Link::Claim(claim) => vm.line(claim, by),
            Link::Decline(_) | Link::Release(_) => None,
        };
        let other = vm
            .holders
            .iter()
            .find(|(key, (held, theirs))| **key != by && held.term == epoch.term && same(line, *theirs));
        let again = vm.released.contains_key(&(epoch, by));
        if let Some((&other, (held, _))) = other {
            let rule = format!("S1: two hosts hold {id}, in epochs {held} and {epoch}");
            if again {
                self.outdated.push((by, rule));
            } else {
                self.broken.push((vec![by, other], rule));
            }
        }
        if !again {
            vm.holders.insert(by, (epoch, line));
        }
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
        let line = vm.line_of(claimed, key);
        let has_heard = |epoch: Epoch, by: PublicKey| {
            disk.record(&RecordKey::Link(id.clone(), epoch, LinkKind::Claim, by)).is_some()
        };
        let above = vm
            .claims
            .keys()
            .find(|(epoch, by)| epoch.term > claimed.term && *by != key && has_heard(*epoch, *by));
        let beside = vm.takers(claimed.term).find(|(epoch, by)| {
            line.is_some_and(|line| line != *by) && claimed.term > 1 && has_heard(*epoch, *by)
        });
        let heard = above.copied().or(beside);
        if let Some((epoch, _)) = heard {
            let rule = format!("S1: {host} does {step:?} of {id} in {claimed}, and has heard of {epoch}");
            self.broken.push((vec![key], rule));
        }
        for &other in elsewhere {
            let theirs = vm.newest_claim(other);
            let at_once = theirs.is_none_or(|theirs| {
                theirs.term == claimed.term && (line.is_none() || same(line, vm.line_of(theirs, other)))
            });
            if step == Step::Start && at_once {
                let rule = format!("S1: {host} starts {id} while {} runs it", other.short());
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

    /// S3: "it verifies the whole copy first"
    pub(crate) fn check_taken_copy(&mut self, by: PublicKey, id: &VmId, copy: Digest, there: Option<Digest>) {
        if there != Some(copy) {
            let rule = format!("S3: {id} is taken over with a copy that is not what was verified");
            self.broken.push((vec![by], rule));
        }
    }

    /// S1: "refused while any reachable peer heard the owner within the failure timeout"
    pub(crate) fn check_unasked(&mut self, by: PublicKey, id: &VmId, owner: PublicKey) {
        let rule = format!("S1: {id} is taken over, unforced, by one that hears its owner");
        self.broken.push((vec![by, owner], rule));
    }

    /// Returns who has claimed this epoch of a VM.
    pub(crate) fn claimant(&self, vm: &VmId, epoch: Epoch) -> Option<PublicKey> {
        let mut claims = self.by_vm.get(vm)?.claims.keys().filter(|(claimed, _)| *claimed == epoch);
        claims.next().map(|(_, by)| *by)
    }

    /// S3: whoever released a VM keeps its copy until somebody has claimed it.
    pub(crate) fn check_drop(&mut self, host: &Name, key: PublicKey, id: &VmId) {
        let vm = self.by_vm.entry(id.clone()).or_default();
        // "The old owner, when it hears, pauses and keeps its copy as quarantined."
        let given_away = vm.newest_claim(key).is_none_or(|own| vm.released.contains_key(&(own, key)));
        if vm.standing(key) == Standing::Quarantined && !given_away {
            let rule = format!("S3: {host} drops its disk of {id}, which was taken over from it");
            self.broken.push((vec![key], rule));
        }
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
            let declined =
                vm.declines.keys().filter(|(_, by)| *by == key).map(|(epoch, _)| *epoch).next_back();
            let on_its_way = match disk.holding(id) {
                Some(Holding::Arriving { epoch, .. } | Holding::Arrived { epoch, .. }) => Some(*epoch),
                _ => None,
            };
            if on_its_way.is_some_and(|epoch| declined.is_some_and(|declined| declined > epoch)) {
                let rule = format!("D: after a crash {host} does not know that it has declined {id}");
                self.broken.push((vec![key], rule));
            }
            let owns = claimed.is_some_and(|claimed| released.is_none_or(|released| released < claimed));
            let removed = disk.record(&RecordKey::Vm(id.clone(), key)).is_some_and(|record| {
                matches!(&***record, Record::Vm(status)
                    if status.state == mln_protocol::record::VmState::Removed)
            });
            // What was taken over before there was anything of it here is let go of.
            let taken = vm.standing(key) == Standing::Quarantined && disk.content(id).is_none();
            // A release may be noted that never left: whoever goes on by that knows of the claim before it.
            let giving_up = match disk.holding(id) {
                Some(Holding::Released { release, .. }) => match &***release {
                    Record::Link(link) => Some(link.epoch()),
                    _ => None,
                },
                _ => None,
            };
            if owns && noted.max(giving_up) < claimed && !removed && !taken {
                let rule = format!("S1: after a crash {host} does not know of its claim on {id}");
                self.broken.push((vec![key], rule));
            }
        }
    }
}
