//! Taking over a VM whose owner is gone: explicit, signed, and only with a copy of the disk that was read whole.
//!
//! ```text
//!   asked ──► Asking: has any reachable peer heard the owner lately? ──► refused
//!                │ nobody has, or it is forced
//!                ▼
//!             Reading the copy ──► refused
//!                │
//!                ▼
//!             claim of a new term: the old owner, when it hears of it, holds still and keeps its copy
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{Holding, HostRefusal, OpId, Outcome, Output, OwnerHeard};
use super::ledger::Tenure;
use super::message::{HandOver, Message, Refusal, Rule};
use super::ownership::Right;
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, PublicKey, VmId};
use crate::model::Fragment;
use crate::record::{Claim, ClaimBasis, Epoch, Link, Takeover};
use crate::time::Now;
use crate::trust::Verb;

/// The takeovers that this host was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Takeovers {
    by_op: BTreeMap<OpId, TakingOver>,
    /// When each peer was last heard, on the monotonic clock.
    heard: BTreeMap<PublicKey, u64>,
}

#[derive(Clone, Debug)]
struct TakingOver {
    vm: VmId,
    author: String,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Who has not yet said when it heard the owner.
    Asking {
        owner: PublicKey,
        awaited: BTreeSet<PublicKey>,
    },
    Reading,
}

impl Takeovers {
    pub(super) fn len(&self) -> usize {
        self.by_op.len()
    }

    /// Notes that a peer is there. Only members are noted: there is a bound on these.
    pub(super) fn hear(&mut self, now_ms: u64, peer: PublicKey) {
        self.heard.insert(peer, now_ms);
    }
}

impl Node {
    /// Whether a VM is being taken over here.
    pub(super) fn takes_over(&self, vm: &VmId) -> bool {
        self.takeovers.by_op.values().any(|taking| taking.vm == *vm)
    }

    pub(super) fn take_over(&mut self, now: Now, op: OpId, vm: VmId, heard: OwnerHeard, author: String) {
        if let Right::Own(_) = self.right(&vm) {
            return self.done(op, Outcome::Done);
        }
        if let Err(refusal) = self.judge_taker(now, op, &vm) {
            let host = self.config.name.to_string();
            return self.done(op, Outcome::Refused(vec![HostRefusal { host, refusal }]));
        }
        if let Err(detail) = self.judge_takeover(&vm) {
            return self.refuse_takeover(op, detail);
        }
        // Whom it was released to may have claimed it by now.
        let owner = self.ledger.owner(&vm).map(|current| match &current.tenure {
            Tenure::Released { to, .. } => *to,
            Tenure::Held | Tenure::Declined { .. } | Tenure::Contested { .. } => current.owner,
        });
        let owner = owner.filter(|&owner| {
            owner != self.me && heard == OwnerHeard::Refuse && !self.mutated_takeover_unasked()
        });
        let contested = self.ledger.owner(&vm).is_some_and(|o| matches!(o.tenure, Tenure::Contested { .. }));
        let Some(owner) = owner.filter(|_| !contested) else {
            return self.read_copy(now, op, vm, author);
        };
        let connected = self.connected.contains(&owner);
        let ago_ms = self.heard_ago(now, owner);
        if connected || ago_ms.is_some_and(|ago_ms| ago_ms < limits::FAILURE_MS) {
            let detail = self.heard_detail(owner, self.me, if connected { Some(0) } else { ago_ms });
            return self.refuse_takeover(op, detail);
        }
        let awaited = self.connected.clone();
        if awaited.is_empty() {
            return self.read_copy(now, op, vm, author);
        }
        for &peer in &awaited {
            self.send(peer, Message::HandOver(HandOver::HeardWanted { host: owner }));
        }
        self.timers.set(Timer::Operation(op), now.mono_ms + limits::HEARD_MS);
        let phase = Phase::Asking { owner, awaited };
        self.takeovers.by_op.insert(op, TakingOver { vm, author, phase });
    }

    /// Refuses what this host's own grant, which the claim will hold, or that of whoever asks is not good for.
    fn judge_taker(&self, now: Now, op: OpId, vm: &VmId) -> Result<(), Refusal> {
        let Some(label) = self.projects.project_of(vm).and_then(|project| self.label(project)) else {
            // It is known nowhere, and is refused as such.
            return Ok(());
        };
        let Some(own) = self.member_standing(self.me) else { return Ok(()) };
        let who = format!("this host, {},", self.config.name);
        self.judge_standing(&own, &who, Verb::Takeover, &label)?;
        self.judge_grants(now, self.me, &self.chain_of(op), Verb::Takeover, &label).map(drop)
    }

    /// Judges what can be known at once: that there is a copy here which is complete, and its definition.
    fn judge_takeover(&self, vm: &VmId) -> Result<(), String> {
        if self.takes_over(vm) {
            return Err("it is being taken over already".to_owned());
        }
        if self.definition_for_takeover(vm).is_none() {
            return Err(
                "this host has no definition of it; ask a host that has a copy of its disk".to_owned()
            );
        }
        match self.holdings.get(vm) {
            Some(Holding::Shadow { .. } | Holding::Released { .. } | Holding::Claimed { .. }) => Ok(()),
            Some(Holding::Arrived { .. }) => Ok(()),
            Some(Holding::Arriving { .. } | Holding::Declined { .. }) => {
                Err("the copy of its disk that is here is not complete".to_owned())
            }
            None if self.ledger.owner(vm).is_none() || self.vms.has_disk(vm) => Ok(()),
            None => Err("there is no copy of its disk here; ask a host that has one".to_owned()),
        }
    }

    fn definition_for_takeover(&self, vm: &VmId) -> Option<(Digest, Arc<Fragment>)> {
        let noted = self.holdings.get(vm).and_then(Holding::fragment);
        let noted = noted.and_then(|digest| Some((digest, self.definition_in(digest, vm)?)));
        noted.or_else(|| self.placed_here(vm))
    }

    fn heard_ago(&self, now: Now, host: PublicKey) -> Option<u64> {
        self.takeovers.heard.get(&host).map(|at_ms| now.mono_ms.saturating_sub(*at_ms))
    }

    /// Tells a peer when this host last heard another.
    pub(super) fn tell_heard(&mut self, now: Now, to: PublicKey, host: PublicKey) {
        let here = host == self.me || self.connected.contains(&host);
        let ago_ms = if here { Some(0) } else { self.heard_ago(now, host) };
        self.send(to, Message::HandOver(HandOver::HeardTold { host, ago_ms }));
    }

    pub(super) fn heard_told(&mut self, now: Now, from: PublicKey, host: PublicKey, ago_ms: Option<u64>) {
        let mut alive = Vec::new();
        let mut silent = Vec::new();
        for (&op, taking) in &mut self.takeovers.by_op {
            let Phase::Asking { owner, awaited } = &mut taking.phase else { continue };
            if *owner != host || !awaited.remove(&from) {
                continue;
            }
            if ago_ms.is_some_and(|ago_ms| ago_ms < limits::FAILURE_MS) {
                alive.push(op);
            } else if awaited.is_empty() {
                silent.push(op);
            }
        }
        for op in alive {
            self.takeovers.by_op.remove(&op);
            let detail = self.heard_detail(host, from, ago_ms);
            self.refuse_takeover(op, detail);
        }
        for op in silent {
            self.takeover_due(now, op);
        }
    }

    fn heard_detail(&self, owner: PublicKey, by: PublicKey, ago_ms: Option<u64>) -> String {
        let ago = ago_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} s ago", ms / 1000));
        format!(
            "{} has heard its owner {} {ago}; stop it there, or use --force where that host is certainly gone",
            self.host_name(by),
            self.host_name(owner)
        )
    }

    /// Who has not answered by now is not reachable.
    pub(super) fn takeover_due(&mut self, now: Now, op: OpId) {
        let Some(taking) = self.takeovers.by_op.remove(&op) else { return };
        match taking.phase {
            Phase::Asking { .. } => self.read_copy(now, op, taking.vm, taking.author),
            Phase::Reading => {
                self.takeovers.by_op.insert(op, taking);
            }
        }
    }

    fn read_copy(&mut self, now: Now, op: OpId, vm: VmId, author: String) {
        self.timers.cancel(&Timer::Operation(op));
        let copied = self.holdings.get(&vm).is_some() || self.vms.has_disk(&vm);
        self.takeovers.by_op.insert(op, TakingOver { vm: vm.clone(), author, phase: Phase::Reading });
        if let Some(noted) = self.noted_copy(&vm).filter(|_| self.mutated_takeover_unread()) {
            self.claim_takeover(now, op, Some(noted));
        } else if copied && !self.vms.never_built(&vm) {
            self.outbox.push(Output::ReadCopy { vm });
        } else {
            self.claim_takeover(now, op, None);
        }
    }

    /// The copy for a takeover was read; false where none has come of it, and others may wait for the same.
    pub(super) fn takeover_read(&mut self, now: Now, vm: &VmId, result: &Result<Digest, String>) -> bool {
        let waits =
            |(_, taking): &(&OpId, &TakingOver)| taking.vm == *vm && matches!(taking.phase, Phase::Reading);
        let Some((&op, _)) = self.takeovers.by_op.iter().find(waits) else { return false };
        let noted = self.noted_copy(vm);
        let refusal = match result {
            Ok(root) if noted.is_none_or(|noted| noted == *root) => {
                self.claim_takeover(now, op, Some(*root));
                return true;
            }
            Ok(_) => "the copy that is here is damaged".to_owned(),
            Err(reason) => format!("the copy that is here can't be read: {reason}"),
        };
        self.takeovers.by_op.remove(&op);
        self.refuse_takeover(op, refusal);
        // If it is released to this host, that has to be answered as well.
        false
    }

    /// Returns what a copy here must be, where that was noted.
    fn noted_copy(&self, vm: &VmId) -> Option<Digest> {
        match self.holdings.get(vm)? {
            Holding::Shadow { root, .. } | Holding::Arrived { root, .. } => Some(*root),
            Holding::Claimed { .. }
            | Holding::Released { .. }
            | Holding::Arriving { .. }
            | Holding::Declined { .. } => None,
        }
    }

    fn claim_takeover(&mut self, now: Now, op: OpId, copy: Option<Digest>) {
        let Some(taking) = self.takeovers.by_op.remove(&op) else { return };
        let vm = taking.vm;
        if !self.may_sign() {
            return self.refuse_takeover(op, self.doubled_refusal().detail);
        }
        let Some((digest, fragment)) = self.definition_for_takeover(&vm) else {
            return self.refuse_takeover(op, "its definition is gone from this host meanwhile".to_owned());
        };
        let memory = fragment.vms.iter().find(|found| found.name == vm.name).map(|found| found.memory);
        let fits = |memory| self.vms.has_room_for(Some(&vm), memory, self.config.memory_limit);
        if !memory.is_some_and(fits) && !self.mutated_takeover_without_room() {
            let detail =
                "there is no memory left for it on this host; stop or move another VM first".to_owned();
            return self.refuse_takeover(op, detail);
        }
        let seen = self.ledger.owner(&vm).map(|current| current.epoch);
        let before = seen.unwrap_or(Epoch::FIRST);
        let epoch = if self.mutated_takeover_keeps_term() { before.next() } else { before.taken_over() };
        let takeover = Takeover {
            seen,
            copy,
            chain: self.config.chain.clone(),
            author: taking.author,
            made_unix_ms: now.unix_ms,
        };
        let heard = self.last_run(&vm);
        let claim = Claim { vm: vm.clone(), epoch, basis: ClaimBasis::Takeover(takeover) };
        let made = copy.is_some();
        self.sign_link(now, Link::Claim(claim), |claim| Holding::Claimed { claim, fragment: digest, made });
        self.begin_owning(now, &vm, &fragment, made, heard);
        self.done(op, Outcome::Done);
    }

    fn refuse_takeover(&mut self, op: OpId, detail: String) {
        let refusal = Refusal { rule: Rule::Ownership, detail };
        self.done(op, Outcome::Refused(vec![HostRefusal { host: self.config.name.to_string(), refusal }]));
    }
}
