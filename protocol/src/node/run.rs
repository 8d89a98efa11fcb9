//! Starting and stopping: the coordinator's pacing, and the owner's judgement of a request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::io::{FailureCause, OpId, Outcome, Output, VmFailure};
use super::message::{Message, Refusal, Rule, RunOrder, RunRequest, RunVerdict};
use super::standing::Signing;
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, Name, PublicKey, VmId};
use crate::model::BootOrder;
use crate::record::{Epoch, RunState, VmState, VmStatus};
use crate::time::Now;
use crate::trust::{Domain, Verb, Verified};
use crate::wire;

/// The starts and stops that this node coordinates.
#[derive(Clone, Debug, Default)]
pub(super) struct RunOperations {
    by_op: BTreeMap<OpId, RunOperation>,
}

#[derive(Clone, Debug)]
struct RunOperation {
    order: RunOrder,
    pause_ms: u64,
    queue: VecDeque<Target>,
    active: BTreeMap<VmId, Active>,
    failures: Vec<VmFailure>,
    /// When the next VM may be asked for, with a pause between VMs.
    next_ms: u64,
    since_ms: u64,
}

#[derive(Clone, Debug)]
struct Target {
    vm: VmId,
    owner: PublicKey,
    host: Name,
    boot_order: BootOrder,
    epoch: Epoch,
    seen_counter: u64,
}

#[derive(Clone, Debug)]
struct Active {
    target: Target,
    request: Arc<Verified<RunRequest>>,
    sent_ms: u64,
    phase: Phase,
    shown: Option<VmState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Sent,
    Applied,
}

impl RunOperations {
    pub(super) fn len(&self) -> usize {
        self.by_op.len()
    }

    /// Nobody waits any more: what was asked for goes on at the owners, what was not is not.
    pub(super) fn unwatch(&mut self, op: OpId) {
        self.by_op.remove(&op);
    }
}

impl Node {
    pub(super) fn run(&mut self, now: Now, op: OpId, vms: Vec<VmId>, order: RunOrder, pause_ms: u64) {
        let mut failures = Vec::new();
        let mut targets = Vec::new();
        for vm in vms {
            match self.legitimate(&vm) {
                // What a host that is away last said proves nothing about now.
                Some((owner, status)) if !is_there(order, status) || !self.hears(owner) => {
                    targets.push(Target {
                        owner,
                        host: status.host.clone(),
                        boot_order: status.boot_order,
                        epoch: status.epoch,
                        seen_counter: status.run_counter,
                        vm,
                    })
                }
                Some((_, status)) => {
                    let (vm, host, state) = (vm.name.clone(), status.host.clone(), status.state.clone());
                    self.outbox.push(Output::Progress { op, vm, host, state });
                }
                None => {
                    let reason = "no host says that it has this VM".to_owned();
                    let cause = FailureCause::Tried;
                    failures.push(VmFailure { vm: vm.name.clone(), host: String::new(), reason, cause });
                }
            }
        }
        targets.sort_by(|a, b| (a.boot_order, &a.vm.name, &a.vm).cmp(&(b.boot_order, &b.vm.name, &b.vm)));
        if let RunOrder::Down(_) = order {
            targets.reverse();
        }
        let operation = RunOperation {
            order,
            pause_ms,
            queue: targets.into(),
            active: BTreeMap::new(),
            failures,
            next_ms: now.mono_ms,
            since_ms: now.mono_ms,
        };
        self.runs.by_op.insert(op, operation);
        self.advance(now, op);
    }

    /// Whether a host's records are fresh: it is this one, or connected.
    fn hears(&self, host: PublicKey) -> bool {
        host == self.me || self.connected.contains(&host)
    }

    /// Returns the status of a VM from the host that owns it.
    fn legitimate(&self, vm: &VmId) -> Option<(PublicKey, &VmStatus)> {
        self.records
            .born_in(vm.birth)
            .filter(|(_, status)| status.vm == *vm)
            .find(|(author, _)| self.owner(vm) == Some(*author))
    }

    /// Asks for the next VMs whose turn has come, and ends the operation after the last one.
    fn advance(&mut self, now: Now, op: OpId) {
        let chain = self.chain_of(op);
        let Some(operation) = self.runs.by_op.get_mut(&op) else { return };
        let mut requests = Vec::new();
        while let Some(target) = operation.queue.front() {
            // Lower boot orders first, each only when those before it are where they should be.
            let blocked =
                operation.active.values().any(|active| active.target.boot_order != target.boot_order);
            if blocked || now.mono_ms < operation.next_ms {
                break;
            }
            let Some(target) = operation.queue.pop_front() else { break };
            operation.next_ms = now.mono_ms + operation.pause_ms;
            let request = RunRequest {
                owner: target.owner,
                vm: target.vm.clone(),
                epoch: target.epoch,
                seen_counter: target.seen_counter,
                order: operation.order,
                made_unix_ms: now.unix_ms,
                chain: chain.clone(),
            };
            let payload = wire::encode_run_request(&request);
            let request = Arc::new(Verified::own(&self.config.keys, Domain::Request, request, payload));
            requests.push((target.owner, request.clone()));
            let phase = Phase::Sent;
            let active = Active { request, sent_ms: now.mono_ms, phase, shown: None, target: target.clone() };
            operation.active.insert(target.vm, active);
        }
        let ended = operation.queue.is_empty() && operation.active.is_empty();
        if ended {
            let failures =
                self.runs.by_op.remove(&op).map(|operation| operation.failures).unwrap_or_default();
            let outcome = if failures.is_empty() { Outcome::Done } else { Outcome::Failed(failures) };
            return self.done(op, outcome);
        }
        let waits_for_pause = !operation.queue.is_empty() && operation.next_ms > now.mono_ms;
        let due = now.mono_ms + limits::RESEND_MS;
        let due = if waits_for_pause { due.min(operation.next_ms) } else { due };
        self.timers.set(Timer::Operation(op), due);
        for (owner, request) in requests {
            self.send(owner, Message::Run(request));
        }
    }

    pub(super) fn run_due(&mut self, now: Now, op: OpId) {
        let Some(operation) = self.runs.by_op.get_mut(&op) else { return };
        let mut resend = Vec::new();
        let mut late = Vec::new();
        for (vm, active) in &operation.active {
            let waited_ms = now.mono_ms.saturating_sub(active.sent_ms);
            match active.phase {
                Phase::Sent if waited_ms >= limits::ANSWER_MS_MAX => {
                    late.push((vm.clone(), "its host did not answer".to_owned(), FailureCause::Silent));
                }
                Phase::Sent => resend.push((active.target.owner, active.request.clone())),
                Phase::Applied if now.mono_ms.saturating_sub(operation.since_ms) >= limits::WATCH_MS_MAX => {
                    let reason = "not there in time; its host goes on trying".to_owned();
                    late.push((vm.clone(), reason, FailureCause::Tried));
                }
                // Whether its host is there at all: what it has applied already it only answers once more.
                Phase::Applied if waited_ms >= limits::PROBE_MS => {
                    resend.push((active.target.owner, active.request.clone()));
                }
                Phase::Applied => {}
            }
        }
        for (vm, reason, cause) in late {
            self.run_failed(op, &vm, reason, cause);
        }
        for (owner, request) in resend {
            self.send(owner, Message::Run(request));
        }
        self.advance(now, op);
    }

    fn run_failed(&mut self, op: OpId, vm: &VmId, reason: String, cause: FailureCause) {
        let Some(operation) = self.runs.by_op.get_mut(&op) else { return };
        if let Some(active) = operation.active.remove(vm) {
            let host = active.target.host.to_string();
            operation.failures.push(VmFailure { vm: vm.name.clone(), host, reason, cause });
        }
    }

    pub(super) fn run_unreachable(&mut self, now: Now, peer: PublicKey) {
        let mut lost = Vec::new();
        for (&op, operation) in &self.runs.by_op {
            for (vm, active) in &operation.active {
                let waited_ms = now.mono_ms.saturating_sub(active.sent_ms);
                if active.target.owner == peer
                    && (active.phase == Phase::Sent || waited_ms >= limits::PROBE_MS)
                {
                    lost.push((op, vm.clone(), active.phase));
                }
            }
        }
        for (op, vm, phase) in lost {
            let reason = match phase {
                Phase::Sent => "its host is off or can't be reached".to_owned(),
                Phase::Applied => "its host went off meanwhile; it goes on when it is back".to_owned(),
            };
            self.run_failed(op, &vm, reason, FailureCause::Silent);
            self.advance(now, op);
        }
    }

    pub(super) fn run_answered(&mut self, now: Now, from: PublicKey, request: Digest, verdict: RunVerdict) {
        let found = self.runs.by_op.iter_mut().find_map(|(&op, operation)| {
            let active = operation.active.values_mut().find(|active| {
                active.request.digest() == request
                    && active.target.owner == from
                    && active.phase == Phase::Sent
            })?;
            Some((op, active))
        });
        let Some((op, active)) = found else { return };
        let vm = active.target.vm.clone();
        // Our own request, applied before its owner was interrupted or its answer lost.
        let again = |counter, by| by == self.me && counter == active.target.seen_counter.saturating_add(1);
        match verdict {
            RunVerdict::Applied => active.phase = Phase::Applied,
            RunVerdict::Stale { counter, by } if again(counter, by) => active.phase = Phase::Applied,
            RunVerdict::Stale { by, .. } => {
                let reason =
                    format!("changed meanwhile by {}; look at its status and ask again", self.host_name(by));
                self.run_failed(op, &vm, reason, FailureCause::Tried);
            }
            RunVerdict::NotOwner => {
                self.run_failed(op, &vm, "its host no longer has it".to_owned(), FailureCause::Tried);
            }
            RunVerdict::Refused(refusal) => {
                let reason = format!("refused (rule {}): {}", refusal.rule.code(), refusal.detail);
                self.run_failed(op, &vm, reason, FailureCause::Tried);
            }
        }
        self.watch_run(now, &vm);
        self.advance(now, op);
    }

    /// Ends the wait for a VM that is where it should be, or that failed.
    pub(super) fn watch_run(&mut self, now: Now, vm: &VmId) {
        let Some(current) = self.ledger.owner(vm) else { return };
        let (owner, term) = (current.owner, current.epoch.term);
        let status = self.records.vm(vm, owner).cloned();
        let ops: Vec<OpId> = self
            .runs
            .by_op
            .iter()
            .filter(|(_, operation)| operation.active.get(vm).is_some_and(|a| a.phase == Phase::Applied))
            .map(|(&op, _)| op)
            .collect();
        for op in ops {
            let Some(operation) = self.runs.by_op.get_mut(&op) else { continue };
            let Some(active) = operation.active.get_mut(vm) else { continue };
            if term > active.target.epoch.term {
                // A release carries what the owner was told; whoever takes it over may never have heard of it.
                let reason = format!("{} took it over meanwhile; ask again", self.host_name(owner));
                self.run_failed(op, vm, reason, FailureCause::Tried);
                self.advance(now, op);
                continue;
            }
            let Some(status) = &status else { continue };
            if status.run_counter <= active.target.seen_counter {
                continue;
            }
            if active.shown.as_ref() != Some(&status.state) {
                active.shown = Some(status.state.clone());
                let (vm, host, state) = (vm.name.clone(), status.host.clone(), status.state.clone());
                self.outbox.push(Output::Progress { op, vm, host, state });
            }
            match arrival(operation.order, active.target.seen_counter, status) {
                Arrival::Waiting => continue,
                Arrival::There => {
                    operation.active.remove(vm);
                }
                Arrival::Failed(reason) => self.run_failed(op, vm, reason, FailureCause::Tried),
            }
            self.advance(now, op);
        }
    }

    /// Judges a request for a VM of ours: it counts if its author saw what is so now.
    pub(super) fn run_requested(&mut self, now: Now, from: PublicKey, request: &Verified<RunRequest>) {
        if let Err(refusal) = self.judge_run(now, request) {
            let verdict = RunVerdict::Refused(Box::new(refusal));
            return self.send(from, Message::RunAnswer { request: request.digest(), verdict });
        }
        match self.signing() {
            // It is asked again in a moment.
            Signing::Asking => return,
            Signing::Doubled => {
                let verdict = RunVerdict::Refused(Box::new(self.doubled_refusal()));
                return self.send(from, Message::RunAnswer { request: request.digest(), verdict });
            }
            Signing::Confirmed | Signing::Unconfirmed => {}
        }
        let verdict = match self.run_counter(&request.vm, request.order) {
            _ if request.owner != self.me => RunVerdict::NotOwner,
            None if self.is_unremembered(&request.vm) => {
                RunVerdict::Refused(Box::new(self.unremembered(&request.vm)))
            }
            None => RunVerdict::NotOwner,
            Some((epoch, _, by)) if epoch != request.epoch && !self.mutated_run_request_without_epoch() => {
                RunVerdict::Stale { counter: request.seen_counter, by }
            }
            Some((_, counter, by))
                if counter != request.seen_counter && !self.mutated_run_request_without_counter() =>
            {
                RunVerdict::Stale { counter, by }
            }
            Some(_) => {
                self.apply_run(now, &request.vm, request.order, request.author());
                RunVerdict::Applied
            }
        };
        self.send(from, Message::RunAnswer { request: request.digest(), verdict });
    }

    /// Judges whether whoever asks may start or stop a VM of this project.
    fn judge_run(&self, now: Now, request: &Verified<RunRequest>) -> Result<(), Refusal> {
        let project = self.projects.project_of(&request.vm);
        let Some(label) = project.and_then(|project| self.label(project)) else {
            // What it is about is known nowhere, and is answered so; but not to strangers.
            let known = request.author() == self.me || self.records.member(request.author()).is_some();
            let detail = format!("nobody here knows the key {} that signed this", request.author().short());
            return if known { Ok(()) } else { Err(Refusal { rule: Rule::Grant, detail }) };
        };
        let verb = match request.order {
            RunOrder::Up => Verb::Start,
            RunOrder::Down(_) => Verb::Stop,
        };
        self.judge_grants(now, request.author(), &request.chain, verb, &label).map(drop)
    }
}

enum Arrival {
    Waiting,
    There,
    Failed(String),
}

fn wanted(order: RunOrder) -> RunState {
    match order {
        RunOrder::Up => RunState::Up,
        RunOrder::Down(_) => RunState::Down,
    }
}

/// Whether an order would change nothing.
fn is_there(order: RunOrder, status: &VmStatus) -> bool {
    status.run == wanted(order)
        && match order {
            RunOrder::Up => matches!(status.state, VmState::Booting | VmState::Up),
            RunOrder::Down(_) => {
                matches!(status.state, VmState::Down | VmState::Building | VmState::Removed | VmState::Kept)
            }
        }
}

fn arrival(order: RunOrder, seen_counter: u64, status: &VmStatus) -> Arrival {
    if let VmState::Failed { reason } = &status.state {
        return Arrival::Failed(reason.clone());
    }
    if is_there(order, status) {
        return Arrival::There;
    }
    if matches!(status.state, VmState::Removed | VmState::Kept) {
        return Arrival::Failed("it was removed meanwhile".to_owned());
    }
    if status.run != wanted(order) {
        // The counter has moved on since: by its guest, or by somebody else.
        let ended = status.exit.map_or_else(String::new, |exit| format!(" ({exit})"));
        return if status.run_counter > seen_counter.saturating_add(1) {
            Arrival::Failed(format!("it went the other way again{ended}; see `mlnctl status`"))
        } else {
            Arrival::Waiting
        };
    }
    Arrival::Waiting
}
