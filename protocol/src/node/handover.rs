//! A VM moves from one host to another: both do it by themselves, once the head revision places it elsewhere.
//!
//! ```text
//!   new host B                                   owner A
//!   notes Arriving; pulls, rounds
//!   ── Halt ───────────────────────────────────► stops it, hashes its disk
//!   ◄─────────────────────────────── Halted(root)
//!   pulls the rest, reads it back, notes Arrived
//!   ── Ready, signed ──────────────────────────► notes Released, signs the release
//!   ◄──────────────────────────── release (record)
//!   notes Claimed, signs the claim; starts it ─► notes Shadow
//!   or signs a decline ────────────────────────► claims the epoch after, goes on
//! ```
//!
//! Each note is durable before the message after it leaves. Until the release A may go on at any time, and after it
//! never by itself; B does nothing with the VM before its claim. B repeats what it waits for an answer to, A repeats
//! its release; whatever arrives twice changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::{Holding, Output, PullRound};
use super::ledger::Tenure;
use super::message::{HandOver, Message};
use super::ownership::{Right, as_release};
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, PublicKey, VmId};
use crate::record::{
    Claim, ClaimBasis, Decline, Epoch, Link, Ready, Record, Release, ReleasedDisk, VerifiedRecord,
};
use crate::time::Now;
use crate::trust::{Domain, Verified};
use crate::wire;

/// The VMs that move to this host or away from it.
#[derive(Clone, Debug, Default)]
pub(super) struct HandOvers {
    arriving: BTreeMap<VmId, Arrival>,
    leaving: BTreeMap<VmId, Leaving>,
}

/// A VM on its way here.
#[derive(Clone, Debug)]
struct Arrival {
    from: PublicKey,
    epoch: Epoch,
    phase: ArrivalPhase,
    rounds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ArrivalPhase {
    /// Others are on their way already, or the last try failed: the timer says when to try.
    Waiting,
    /// Its disk is copied while it runs.
    Pulling,
    /// Its owner was asked to stop it.
    Halting,
    /// It is stopped; the rest is copied.
    Completing(Digest),
    /// The copy is read back.
    Reading(Digest),
    /// Its owner was told that the copy is complete.
    Ready(Arc<Verified<Ready>>),
    /// It is released to this host; the copy that was complete before a restart is read back again.
    Rereading(Digest),
}

/// A VM that is stopped for its new host.
#[derive(Clone, Debug)]
struct Leaving {
    to: PublicKey,
    epoch: Epoch,
    phase: LeavingPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeavingPhase {
    Stopping,
    Sealing,
    Sealed(Digest),
}

impl HandOvers {
    /// Returns the VMs on their way here.
    pub(super) fn arriving(&self) -> impl Iterator<Item = &VmId> {
        self.arriving.keys()
    }

    /// Whether a VM is held still for its new host.
    pub(super) fn holds_still(&self, vm: &VmId) -> bool {
        self.leaving.contains_key(vm)
    }
}

impl Node {
    /// Begins to bring a VM here that the head places here and somebody else owns.
    pub(super) fn arrive(&mut self, now: Now, vm: &VmId) {
        let Some(current) = self.ledger.owner(vm) else { return };
        let (from, epoch) = (current.owner, current.epoch);
        let known =
            self.hand_overs.arriving.get(vm).is_some_and(|known| (known.from, known.epoch) == (from, epoch));
        let held = match self.holdings.get(vm) {
            // What was taken over from this host, or is contested, stays as it is until somebody decides.
            Some(Holding::Claimed { .. } | Holding::Released { .. }) => true,
            Some(
                Holding::Arriving { .. }
                | Holding::Arrived { .. }
                | Holding::Declined { .. }
                | Holding::Shadow { .. },
            )
            | None => false,
        };
        if known || held || from == self.me || current.tenure != Tenure::Held {
            return;
        }
        // After a decline the same again would most likely end the same.
        let pause_ms = match self.holdings.get(vm) {
            Some(Holding::Declined { .. }) => limits::RETRY_MS_MIN,
            Some(_) | None => 0,
        };
        if let Some(&Holding::Arrived { epoch: noted, from: giver, root }) = self.holdings.get(vm)
            && (noted, giver) == (epoch, from)
        {
            // It was complete before a restart: the release may be on its way.
            let arrival = Arrival { from, epoch, phase: ArrivalPhase::Reading(root), rounds: 0 };
            self.hand_overs.arriving.insert(vm.clone(), arrival);
            self.timers.set(Timer::Arrival(vm.clone()), now.mono_ms + limits::RESEND_MS);
            return self.outbox.push(Output::ReadCopy { vm: vm.clone() });
        }
        let arrival = Arrival { from, epoch, phase: ArrivalPhase::Waiting, rounds: 0 };
        self.hand_overs.arriving.insert(vm.clone(), arrival);
        self.timers.set(Timer::Arrival(vm.clone()), now.mono_ms + pause_ms);
        if pause_ms == 0 {
            self.arrival_due(now, vm);
        }
    }

    /// Goes on with a VM that arrives: tries again, or repeats what was not answered.
    pub(super) fn arrival_due(&mut self, now: Now, vm: &VmId) {
        if self.open_release(vm).is_some() {
            // It is ours to claim or decline, whatever became of the copying.
            return self.settle_arrival(now, vm);
        }
        let busy = |arrival: &&Arrival| arrival.phase != ArrivalPhase::Waiting;
        let under_way = self.hand_overs.arriving.values().filter(busy).count();
        let taken = self.takes_over(vm);
        let Some(arrival) = self.hand_overs.arriving.get_mut(vm) else { return };
        let (from, epoch) = (arrival.from, arrival.epoch);
        let again_ms = now.mono_ms + limits::RESEND_MS;
        match &arrival.phase {
            // A copy that is being read for a takeover stays as it is.
            ArrivalPhase::Waiting if under_way >= limits::ARRIVALS_MAX || taken => {
                self.timers.set(Timer::Arrival(vm.clone()), now.mono_ms + limits::RETRY_MS_MIN);
            }
            ArrivalPhase::Waiting => {
                arrival.phase = ArrivalPhase::Pulling;
                arrival.rounds = 0;
                let holding = Holding::Arriving { epoch, from };
                if self.holdings.get(vm) != Some(&holding) {
                    self.hold(vm, holding);
                }
                self.outbox.push(Output::Pull { vm: vm.clone(), from, round: PullRound::Running });
            }
            // The owner goes on without us where it hears nothing for long.
            ArrivalPhase::Halting | ArrivalPhase::Completing(_) | ArrivalPhase::Reading(_) => {
                self.timers.set(Timer::Arrival(vm.clone()), again_ms);
                self.send(from, Message::HandOver(HandOver::Halt { vm: vm.clone(), epoch }));
            }
            ArrivalPhase::Ready(ready) => {
                let ready = ready.clone();
                self.timers.set(Timer::Arrival(vm.clone()), again_ms);
                self.send(from, Message::HandOver(HandOver::Ready(ready)));
            }
            ArrivalPhase::Pulling | ArrivalPhase::Rereading(_) => {}
        }
    }

    /// Tries again after a pause.
    fn arrival_failed(&mut self, now: Now, vm: &VmId) {
        let Some(arrival) = self.hand_overs.arriving.get_mut(vm) else { return };
        arrival.phase = ArrivalPhase::Waiting;
        self.timers.set(Timer::Arrival(vm.clone()), now.mono_ms + limits::RETRY_MS_MIN);
    }

    pub(super) fn pulled(&mut self, now: Now, vm: &VmId, result: Result<u64, String>) {
        let unread = self.mutated_ready_unread();
        let Some(arrival) = self.hand_overs.arriving.get_mut(vm) else { return };
        match (&arrival.phase, result) {
            (ArrivalPhase::Pulling, Ok(bytes)) => {
                arrival.rounds += 1;
                if bytes > limits::PULL_BYTES_LEFT && arrival.rounds < limits::PULL_ROUNDS_MAX {
                    let from = arrival.from;
                    self.outbox.push(Output::Pull { vm: vm.clone(), from, round: PullRound::Running });
                } else {
                    arrival.phase = ArrivalPhase::Halting;
                    self.arrival_due(now, vm);
                }
            }
            (&ArrivalPhase::Completing(root), Ok(_)) if unread => self.is_ready(now, vm, root),
            (&ArrivalPhase::Completing(root), Ok(_)) => {
                arrival.phase = ArrivalPhase::Reading(root);
                self.outbox.push(Output::ReadCopy { vm: vm.clone() });
            }
            (ArrivalPhase::Pulling | ArrivalPhase::Completing(_), Err(_)) => self.arrival_failed(now, vm),
            (
                ArrivalPhase::Waiting
                | ArrivalPhase::Halting
                | ArrivalPhase::Reading(_)
                | ArrivalPhase::Ready(_)
                | ArrivalPhase::Rereading(_),
                _,
            ) => {}
        }
    }

    /// The owner has stopped a VM that arrives here.
    fn halted_for_us(&mut self, now: Now, from: PublicKey, vm: &VmId, epoch: Epoch, root: Digest) {
        let Some(arrival) = self.hand_overs.arriving.get_mut(vm) else { return };
        if (arrival.from, arrival.epoch) != (from, epoch) {
            return;
        }
        match &arrival.phase {
            ArrivalPhase::Halting => {
                arrival.phase = ArrivalPhase::Completing(root);
                self.timers.set(Timer::Arrival(vm.clone()), now.mono_ms + limits::RESEND_MS);
                self.outbox.push(Output::Pull { vm: vm.clone(), from, round: PullRound::Last });
            }
            // It has gone on and was stopped again meanwhile: what is being copied is of no use.
            ArrivalPhase::Completing(known) | ArrivalPhase::Reading(known) if *known != root => {
                self.arrival_failed(now, vm);
            }
            ArrivalPhase::Waiting
            | ArrivalPhase::Pulling
            | ArrivalPhase::Completing(_)
            | ArrivalPhase::Reading(_)
            | ArrivalPhase::Ready(_)
            | ArrivalPhase::Rereading(_) => {}
        }
    }

    fn not_now(&mut self, now: Now, from: PublicKey, vm: &VmId, epoch: Epoch) {
        if self.open_release(vm).is_some() {
            // It said so before it released the VM to us.
            return;
        }
        let Some(arrival) = self.hand_overs.arriving.get(vm) else { return };
        if (arrival.from, arrival.epoch) == (from, epoch) && arrival.phase != ArrivalPhase::Waiting {
            self.arrival_failed(now, vm);
        }
    }

    /// A copy was read back: for a VM that arrives here, or one that is being taken over.
    pub(super) fn copy_read(&mut self, now: Now, vm: &VmId, result: Result<Digest, String>) {
        if self.takeover_read(now, vm, &result) {
            return;
        }
        let Some(arrival) = self.hand_overs.arriving.get_mut(vm) else { return };
        match arrival.phase {
            ArrivalPhase::Reading(root) if result == Ok(root) && self.own_runs.signs() => {
                self.is_ready(now, vm, root);
            }
            ArrivalPhase::Rereading(root) => match result {
                Ok(found) if found == root => self.claim_released(now, vm),
                Ok(_) => self.decline(now, vm, "the copy is not what was released"),
                Err(reason) => self.decline(now, vm, &reason),
            },
            ArrivalPhase::Reading(_) => self.arrival_failed(now, vm),
            ArrivalPhase::Waiting
            | ArrivalPhase::Pulling
            | ArrivalPhase::Halting
            | ArrivalPhase::Completing(_)
            | ArrivalPhase::Ready(_) => {}
        }
    }

    /// Notes that the copy is complete, and says so to the owner.
    fn is_ready(&mut self, now: Now, vm: &VmId, root: Digest) {
        let Some(arrival) = self.hand_overs.arriving.get_mut(vm) else { return };
        let (from, epoch) = (arrival.from, arrival.epoch);
        let ready = Ready { vm: vm.clone(), epoch, root };
        let payload = wire::encode_ready(&ready);
        let ready = Arc::new(Verified::own(&self.config.keys, Domain::Request, ready, payload));
        arrival.phase = ArrivalPhase::Ready(ready);
        self.hold(vm, Holding::Arrived { epoch, from, root });
        self.arrival_due(now, vm);
    }

    /// Claims or declines what is released to this host, and lets go of what is not to come here any more.
    pub(super) fn settle_arrival(&mut self, now: Now, vm: &VmId) {
        let Some(current) = self.ledger.owner(vm).cloned() else { return };
        if let Some(Holding::Declined { decline }) = self.holdings.get(vm)
            && let Record::Link(link) = &***decline
            && current.epoch > link.epoch()
            && self.placed_here(vm).is_none()
        {
            self.forget_arrival(vm);
            self.let_go(vm);
            return self.outbox.push(Output::DropCopy { vm: vm.clone() });
        }
        let noted = match self.holdings.get(vm) {
            Some(Holding::Arriving { epoch, .. }) => Some((*epoch, None)),
            Some(Holding::Arrived { epoch, root, .. }) => Some((*epoch, Some(*root))),
            Some(
                Holding::Claimed { .. }
                | Holding::Released { .. }
                | Holding::Declined { .. }
                | Holding::Shadow { .. },
            )
            | None => None,
        };
        if let Tenure::Released { to, release } = &current.tenure
            && *to == self.me
        {
            if !self.may_sign() {
                return;
            }
            // Without a note of this very hand-over nothing is signed: it may have been forgotten.
            let Some((epoch, copy)) = noted else { return };
            if epoch == current.epoch {
                self.answer_release(now, vm, &release.clone(), copy);
            }
            return;
        }
        let over = self.hand_overs.arriving.get(vm).is_some_and(|arrival| {
            (arrival.from, arrival.epoch) != (current.owner, current.epoch) || current.owner == self.me
        });
        let unwanted = self.placed_here(vm).is_none() && noted.is_some();
        let coming = self.hand_overs.arriving.contains_key(vm);
        if over || unwanted {
            self.forget_arrival(vm);
        }
        if unwanted {
            match noted {
                // Its owner may have released it already: whoever is named has to answer, so the note stays.
                Some((epoch, complete)) if epoch == current.epoch => {
                    if complete.is_some() {
                        self.hold(vm, Holding::Arriving { epoch, from: current.owner });
                    }
                    if complete.is_some() || coming {
                        self.outbox.push(Output::DropCopy { vm: vm.clone() });
                    }
                }
                Some(_) | None => {
                    self.let_go(vm);
                    self.outbox.push(Output::DropCopy { vm: vm.clone() });
                }
            }
        } else if self.placed_here(vm).is_some() && current.owner != self.me {
            self.arrive(now, vm);
        }
    }

    fn answer_release(&mut self, now: Now, vm: &VmId, release: &VerifiedRecord, copy: Option<Digest>) {
        let Record::Link(Link::Release(released)) = &***release else { return };
        let Some((_, fragment)) = self.placed_here(vm) else {
            return self.decline(now, vm, "its revision does not place it here any more");
        };
        let memory = fragment.vms.iter().find(|found| found.name == vm.name).map(|found| found.memory);
        if !memory.is_some_and(|memory| self.vms.has_room(memory, self.config.memory_limit)) {
            return self.decline(now, vm, "there is no memory left for it");
        }
        let (epoch, from) = (released.epoch, release.author());
        let arrival = self.hand_overs.arriving.get_mut(vm);
        match (released.disk, copy) {
            (ReleasedDisk::NeverBuilt, _) => self.claim_released(now, vm),
            (ReleasedDisk::Root(root), Some(found)) if found == root => match arrival {
                Some(Arrival { phase: ArrivalPhase::Ready(_), .. }) => self.claim_released(now, vm),
                Some(Arrival { phase: ArrivalPhase::Rereading(_), .. }) => {}
                // It is being read already.
                Some(arrival) if arrival.phase == ArrivalPhase::Reading(root) => {
                    arrival.phase = ArrivalPhase::Rereading(root);
                }
                Some(_) | None => {
                    let phase = ArrivalPhase::Rereading(root);
                    self.hand_overs.arriving.insert(vm.clone(), Arrival { from, epoch, phase, rounds: 0 });
                    self.outbox.push(Output::ReadCopy { vm: vm.clone() });
                }
            },
            (ReleasedDisk::Root(_), _) => self.decline(now, vm, "its copy of the disk is not complete"),
        }
    }

    /// Returns the release that stands open to this host.
    fn open_release(&self, vm: &VmId) -> Option<VerifiedRecord> {
        match &self.ledger.owner(vm)?.tenure {
            Tenure::Released { to, release } if *to == self.me => Some(release.clone()),
            Tenure::Released { .. } | Tenure::Held | Tenure::Declined { .. } | Tenure::Contested { .. } => {
                None
            }
        }
    }

    fn claim_released(&mut self, now: Now, vm: &VmId) {
        self.forget_arrival(vm);
        if !self.may_sign() {
            return;
        }
        let Some(release) = self.open_release(vm).as_ref().and_then(as_release) else { return };
        let Some((digest, fragment)) = self.placed_here(vm) else { return };
        let made = release.disk != ReleasedDisk::NeverBuilt;
        let given = Release::clone(&release);
        let epoch = release.epoch.next();
        let claim = Claim { vm: vm.clone(), epoch, basis: ClaimBasis::Release(Box::new(release)) };
        let note = |claim| Holding::Claimed { claim, fragment: digest, made };
        self.sign_link(now, Link::Claim(claim), note);
        self.take_over_from(now, vm, &fragment, &given);
    }

    fn decline(&mut self, now: Now, vm: &VmId, reason: &str) {
        self.forget_arrival(vm);
        if !self.may_sign() {
            return;
        }
        let Some(release) = self.open_release(vm).as_ref().and_then(as_release) else { return };
        let decline = Decline {
            vm: vm.clone(),
            epoch: release.epoch.next(),
            release: Box::new(release),
            reason: reason.to_owned(),
        };
        let keeps_note =
            self.mutated_decline_without_epoch().then(|| self.holdings.get(vm).cloned()).flatten();
        self.sign_link(now, Link::Decline(decline), |decline| {
            keeps_note.unwrap_or(Holding::Declined { decline })
        });
    }

    fn forget_arrival(&mut self, vm: &VmId) {
        self.hand_overs.arriving.remove(vm);
        self.timers.cancel(&Timer::Arrival(vm.clone()));
    }

    pub(super) fn hand_over(&mut self, now: Now, from: PublicKey, message: HandOver) {
        match message {
            HandOver::Halt { vm, epoch } => self.halt_asked(now, from, &vm, epoch),
            HandOver::Halted { vm, epoch, root } => self.halted_for_us(now, from, &vm, epoch, root),
            HandOver::Ready(ready) => self.ready_heard(now, &ready),
            HandOver::NotNow { vm, epoch, reason: _ } => self.not_now(now, from, &vm, epoch),
            HandOver::LinksWanted(vms) => self.tell_links(from, vms),
            HandOver::LinksTold { vms, links } => {
                for link in links {
                    self.take(now, link);
                }
                self.links_told(now, &vms);
            }
            HandOver::HeardWanted { host } => self.tell_heard(now, from, host),
            HandOver::HeardTold { host, ago_ms } => self.heard_told(now, from, host, ago_ms),
        }
    }

    /// The new host asks to stop a VM of ours.
    fn halt_asked(&mut self, now: Now, from: PublicKey, vm: &VmId, epoch: Epoch) {
        if let Some(Holding::Released { release, .. }) = self.holdings.get(vm)
            && as_release(release).is_some_and(|release| release.to == from)
        {
            let release = release.clone();
            return self.send(from, Message::Records(vec![release]));
        }
        if let Some(reason) = self.why_not_to(from, vm, epoch) {
            self.tell_links(from, vec![vm.clone()]);
            return self.send(from, Message::HandOver(HandOver::NotNow { vm: vm.clone(), epoch, reason }));
        }
        match self.hand_overs.leaving.get(vm) {
            Some(Leaving { phase: LeavingPhase::Sealed(root), .. }) => {
                let root = *root;
                self.timers.set(Timer::Leaving(vm.clone()), now.mono_ms + limits::HALT_QUIET_MS);
                self.send(from, Message::HandOver(HandOver::Halted { vm: vm.clone(), epoch, root }));
            }
            Some(_) => {
                self.timers.set(Timer::Leaving(vm.clone()), now.mono_ms + limits::HALT_QUIET_MS);
                // A start that was under way when it was first asked may have failed.
                self.seal_if_down(vm);
            }
            None if self.vms.never_built(vm) => self.release(now, vm, from, epoch, ReleasedDisk::NeverBuilt),
            None => {
                let leaving = Leaving { to: from, epoch, phase: LeavingPhase::Stopping };
                self.hand_overs.leaving.insert(vm.clone(), leaving);
                self.timers.set(Timer::Leaving(vm.clone()), now.mono_ms + limits::HALT_QUIET_MS);
                self.reconcile(now, vm);
                self.seal_if_down(vm);
            }
        }
    }

    /// Says why a VM is not handed over; none where it may be.
    pub(super) fn why_not_to(&self, to: PublicKey, vm: &VmId, epoch: Epoch) -> Option<String> {
        let placed = self.projects.placement(vm).map(|host| host.key);
        match self.right(vm) {
            Right::Own(own) if own != epoch => Some(format!("this host owns it in epoch {own}, not {epoch}")),
            Right::Own(_) if placed != Some(to) => {
                Some("the revision that this host knows does not place it there".to_owned())
            }
            Right::Own(_) if self.vms.is_building(vm) => Some("its disk is being made".to_owned()),
            Right::Own(_) if !self.vms.owns(vm) => Some("this host has nothing left of it".to_owned()),
            Right::Own(_) if self.vms.never_built(vm) && self.imported_disk(vm).is_some() => {
                Some("the disk that it came with has yet to be fetched, by this host".to_owned())
            }
            Right::Own(_) if self.vms.is_lost(vm) => Some(
                "its disk is gone from this host: put a copy back, or take it over where there is one"
                    .to_owned(),
            ),
            Right::Own(_) => None,
            Right::Unconfirmed => Some("this host has just started".to_owned()),
            Right::Suspended { reason } => Some(reason),
            Right::None => Some("this host does not own it".to_owned()),
        }
    }

    /// Hashes the disk of a VM that is stopped for its new host, once it is.
    pub(super) fn seal_if_down(&mut self, vm: &VmId) {
        let Some(leaving) = self.hand_overs.leaving.get_mut(vm) else { return };
        if leaving.phase == LeavingPhase::Stopping && self.vms.is_down(vm) {
            leaving.phase = LeavingPhase::Sealing;
            self.outbox.push(Output::Seal { vm: vm.clone() });
        }
    }

    pub(super) fn sealed(&mut self, now: Now, vm: &VmId, result: Result<Digest, String>) {
        let early = self.mutated_release_before_ready();
        let Some(leaving) = self.hand_overs.leaving.get_mut(vm) else { return };
        if leaving.phase != LeavingPhase::Sealing {
            return;
        }
        let (to, epoch) = (leaving.to, leaving.epoch);
        match result {
            Ok(root) if early => self.release(now, vm, to, epoch, ReleasedDisk::Root(root)),
            Ok(root) => {
                leaving.phase = LeavingPhase::Sealed(root);
                self.send(to, Message::HandOver(HandOver::Halted { vm: vm.clone(), epoch, root }));
            }
            Err(reason) => {
                self.stay(now, vm);
                self.send(to, Message::HandOver(HandOver::NotNow { vm: vm.clone(), epoch, reason }));
            }
        }
    }

    /// The new host has the disk complete: it is released, if nothing has changed since it was hashed.
    fn ready_heard(&mut self, now: Now, ready: &Verified<Ready>) {
        let (vm, to) = (&ready.vm, ready.author());
        let as_sealed = self.hand_overs.leaving.get(vm).is_some_and(|leaving| {
            (leaving.to, leaving.epoch, leaving.phase) == (to, ready.epoch, LeavingPhase::Sealed(ready.root))
        });
        if let Some(Holding::Released { release, .. }) = self.holdings.get(vm) {
            let release = release.clone();
            return self.send(to, Message::Records(vec![release]));
        }
        match self.why_not_to(to, vm, ready.epoch) {
            None if as_sealed => self.release(now, vm, to, ready.epoch, ReleasedDisk::Root(ready.root)),
            None => {
                let reason = "it has gone on meanwhile".to_owned();
                let answer = HandOver::NotNow { vm: vm.clone(), epoch: ready.epoch, reason };
                self.send(to, Message::HandOver(answer));
            }
            Some(reason) => {
                self.tell_links(to, vec![vm.clone()]);
                let answer = HandOver::NotNow { vm: vm.clone(), epoch: ready.epoch, reason };
                self.send(to, Message::HandOver(answer));
            }
        }
    }

    fn release(&mut self, now: Now, vm: &VmId, to: PublicKey, epoch: Epoch, disk: ReleasedDisk) {
        let Some(Holding::Claimed { fragment, .. }) = self.holdings.get(vm) else { return };
        let fragment = *fragment;
        let Some((run, run_counter, run_by)) = self.vms.run_of(vm) else { return };
        self.forget_leaving(vm);
        let release = Release { vm: vm.clone(), epoch, to, disk, run, run_counter, run_by };
        let made = disk != ReleasedDisk::NeverBuilt;
        let record = self.sign_link(now, Link::Release(release), |release| Holding::Released {
            release,
            fragment,
            made,
        });
        if made {
            self.outbox.push(Output::Shelve { vm: vm.clone() });
        }
        self.send(to, Message::Records(vec![record]));
        self.timers.set(Timer::Release(vm.clone()), now.mono_ms + limits::RELEASE_MS);
    }

    /// Says again that a VM is released, until somebody has claimed or declined it.
    pub(super) fn release_due(&mut self, now: Now, vm: &VmId) {
        let Some(Holding::Released { release, .. }) = self.holdings.get(vm) else { return };
        let Record::Link(Link::Release(released)) = &***release else { return };
        let (to, record) = (released.to, release.clone());
        self.timers.set(Timer::Release(vm.clone()), now.mono_ms + limits::RELEASE_MS);
        self.send(to, Message::Records(vec![record]));
    }

    /// Draws the consequence of what became of a VM that this host has released.
    pub(super) fn settle_release(&mut self, now: Now, vm: &VmId) {
        let Some(Holding::Released { release, fragment, made }) = self.holdings.get(vm).cloned() else {
            return;
        };
        let Some(released) = as_release(&release) else { return };
        let Some(current) = self.ledger.owner(vm).cloned() else { return };
        match current.tenure {
            Tenure::Declined { .. } if current.owner == self.me && !self.may_sign() => {}
            Tenure::Declined { decline } if current.owner == self.me => {
                if self.mutated_resume_without_claim() {
                    return self.reconcile(now, vm);
                }
                self.claim_declined(now, vm, &decline, fragment, made);
            }
            Tenure::Held | Tenure::Released { .. } | Tenure::Declined { .. } if current.owner == self.me => {}
            Tenure::Contested { .. } | Tenure::Released { .. } | Tenure::Declined { .. }
                if current.epoch <= released.epoch.next() => {}
            // Whoever took it over may have an older state: what was released here is kept.
            _ if current.epoch.term > released.epoch.term => self.retire(now, vm),
            Tenure::Held | Tenure::Released { .. } | Tenure::Declined { .. } | Tenure::Contested { .. } => {
                match released.disk {
                    ReleasedDisk::NeverBuilt => self.let_go(vm),
                    ReleasedDisk::Root(root) => {
                        self.hold(vm, Holding::Shadow { epoch: released.epoch, root, fragment });
                    }
                }
                self.retire(now, vm);
            }
        }
    }

    fn retire(&mut self, now: Now, vm: &VmId) {
        self.timers.cancel(&Timer::Release(vm.clone()));
        self.disown(now, vm);
    }

    fn claim_declined(
        &mut self,
        now: Now,
        vm: &VmId,
        decline: &VerifiedRecord,
        fragment: Digest,
        made: bool,
    ) {
        let Record::Link(Link::Decline(declined)) = &***decline else { return };
        let inner = declined.clone();
        let epoch = if self.mutated_decline_without_epoch() { inner.epoch } else { inner.epoch.next() };
        let basis = ClaimBasis::Declined(Box::new((**decline).clone().map(|_| inner)));
        self.timers.cancel(&Timer::Release(vm.clone()));
        let claim = Claim { vm: vm.clone(), epoch, basis };
        self.sign_link(now, Link::Claim(claim), |claim| Holding::Claimed { claim, fragment, made });
        self.reconcile(now, vm);
    }

    /// The new host has fallen silent before anything was released: the VM goes on here.
    pub(super) fn stay(&mut self, now: Now, vm: &VmId) {
        self.forget_leaving(vm);
        self.reconcile(now, vm);
    }

    fn forget_leaving(&mut self, vm: &VmId) {
        self.hand_overs.leaving.remove(vm);
        self.timers.cancel(&Timer::Leaving(vm.clone()));
    }

    /// Lets a VM go on that is no longer to leave, or not to that host.
    pub(super) fn leaving_changed(&mut self, now: Now, vm: &VmId) {
        let Some(leaving) = self.hand_overs.leaving.get(vm) else { return };
        let placed = self.projects.placement(vm).map(|host| host.key);
        if placed != Some(leaving.to) || self.right(vm) != Right::Own(leaving.epoch) {
            self.stay(now, vm);
        }
    }

    /// Gives up copies that nobody needs: the newest state is with an owner who has claimed it.
    pub(super) fn space_short(&mut self) {
        let unpinned = self.mutated_shadow_unpinned();
        let mut spare = Vec::new();
        for (vm, holding) in self.holdings.iter() {
            match holding {
                Holding::Shadow { .. } if !self.takes_over(vm) => spare.push(vm.clone()),
                Holding::Released { .. } if unpinned => spare.push(vm.clone()),
                Holding::Claimed { .. } if self.mutated_quarantined_dropped() && self.is_quarantined(vm) => {
                    spare.push(vm.clone());
                }
                Holding::Shadow { .. }
                | Holding::Claimed { .. }
                | Holding::Arriving { .. }
                | Holding::Arrived { .. }
                | Holding::Released { .. }
                | Holding::Declined { .. } => {}
            }
        }
        for vm in spare {
            self.drop_shadow(&vm);
        }
    }

    /// Whether somebody has taken a VM over that this host had claimed: what is here may be all that its people want.
    fn is_quarantined(&self, vm: &VmId) -> bool {
        matches!(self.right(vm), Right::Suspended { .. })
    }

    /// Drops the shadow of a VM that its revisions leave out by now.
    pub(super) fn drop_shadow(&mut self, vm: &VmId) {
        self.outbox.push(Output::DropCopy { vm: vm.clone() });
        if matches!(self.holdings.get(vm), Some(Holding::Shadow { .. })) {
            self.let_go(vm);
        }
    }
}
