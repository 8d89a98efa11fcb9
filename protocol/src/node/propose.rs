//! The coordinator's side of a change: ask every host concerned, commit, watch it being carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::{
    BuildOrder, ExistingProject, FailureCause, HostRefusal, OnFailure, OpId, Outcome, Output, VmFailure,
};
use super::message::{Ask, Message, Refusal, Rule, RunningVms};
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::lang::nearest;
use crate::model::{Fragment, HostAddress};
use crate::plan::{PlacedHost, fragments};
use crate::record::{
    Commit, Consent, Record, Reservation, Revision, RevisionHost, RevisionVm, VmState, VmStatus,
};
use crate::time::Now;
use crate::trust::{Domain, Verified};
use crate::wire;

/// The changes that this node coordinates.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    by_op: BTreeMap<OpId, Proposal>,
}

#[derive(Debug)]
struct Proposal {
    goal: Goal,
    draft: Draft,
    /// Fully reserved, and to be committed right after `draft`, which removes what has its name.
    next: Option<Draft>,
    phase: Phase,
    since_ms: u64,
    shown: BTreeMap<VmId, VmState>,
}

#[derive(Debug)]
enum Goal {
    Build(OnFailure),
    Remove,
    /// A build that failed is taken back.
    Undo(Vec<VmFailure>),
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Asking,
    Watching(ProjectId),
}

#[derive(Debug)]
struct Draft {
    revision: Revision,
    digest: Digest,
    fragments: BTreeMap<PublicKey, Arc<Fragment>>,
    running: RunningVms,
    replaces: Option<ProjectId>,
    answers: BTreeMap<PublicKey, Answer>,
}

#[derive(Debug)]
enum Answer {
    Awaited,
    Reserved(Verified<Reservation>),
    Refused(Refusal),
}

impl Proposals {
    pub(super) fn len(&self) -> usize {
        self.by_op.len()
    }

    /// Returns the parts that hosts are asked about.
    pub(super) fn fragments(&self) -> impl Iterator<Item = &Arc<Fragment>> {
        let drafts = self.by_op.values().flat_map(|proposal| [Some(&proposal.draft), proposal.next.as_ref()]);
        drafts.flatten().flat_map(|draft| draft.fragments.values())
    }
}

impl Node {
    pub(super) fn propose_build(&mut self, now: Now, op: OpId, order: BuildOrder) {
        let replaces = match order.existing {
            ExistingProject::Refuse => None,
            ExistingProject::Replace(_) => self.projects.labelled(&order.label).next(),
        };
        let draft = match self.draft_build(now, &order, replaces) {
            Ok(draft) => draft,
            Err(refusals) => return self.done(op, Outcome::Refused(refusals)),
        };
        self.propose(now, op, Goal::Build(order.on_failure), draft);
    }

    fn draft_build(
        &self,
        now: Now,
        order: &BuildOrder,
        replaces: Option<ProjectId>,
    ) -> Result<Draft, Vec<HostRefusal>> {
        let here = PlacedHost { name: self.config.name.clone(), key: self.me };
        let find = |address: &HostAddress| {
            let key = self.records.named(&address.0)?;
            Some(PlacedHost { name: self.records.member(key)?.name.clone(), key })
        };
        let parts = fragments(&order.project, &order.blobs, &here, find).map_err(|unknown| {
            let known: Vec<&str> = self.records.members().map(|(_, member)| member.name.as_str()).collect();
            let refusal = |error: crate::plan::PlacementError| {
                let meant = nearest(&error.host.0, known.iter().copied());
                let meant = meant.map_or_else(String::new, |name| format!("; did you mean {name}?"));
                let detail = format!(
                    "{}: there is no service host {}{meant} (there are {})",
                    error.vm,
                    error.host,
                    known.join(", ")
                );
                HostRefusal {
                    host: here.name.to_string(),
                    refusal: Refusal { rule: Rule::UnknownHost, detail },
                }
            };
            unknown.into_iter().map(refusal).collect::<Vec<_>>()
        })?;
        self.judge_size(&parts)?;
        let hosts = parts
            .iter()
            .map(|(host, fragment)| RevisionHost {
                name: host.name.clone(),
                key: host.key,
                fragment: Digest::of(&wire::encode_fragment(fragment)),
                vms: fragment
                    .vms
                    .iter()
                    .map(|vm| RevisionVm { name: vm.name.clone(), birth: None })
                    .collect(),
            })
            .collect();
        let revision = Revision {
            project: None,
            parent: None,
            label: order.label.clone(),
            hosts,
            definition: definition_of(&parts),
            consent: Consent::Majority,
            made_unix_ms: now.unix_ms,
            author: order.author.clone(),
            reason: "build".to_owned(),
        };
        let fragments = parts.into_iter().map(|(host, fragment)| (host.key, Arc::new(fragment))).collect();
        let running = match order.existing {
            ExistingProject::Refuse => RunningVms::Refuse,
            ExistingProject::Replace(running) => running,
        };
        Ok(Draft::new(revision, fragments, running, replaces))
    }

    /// Refuses what no revision, or no message, can carry.
    fn judge_size(&self, parts: &BTreeMap<PlacedHost, Fragment>) -> Result<(), Vec<HostRefusal>> {
        let refuse = |host: String, detail: String| {
            Err(vec![HostRefusal { host, refusal: Refusal { rule: Rule::Size, detail } }])
        };
        if parts.len() > limits::PROJECT_HOSTS_MAX {
            let detail =
                format!("{} hosts, where a project spans at most {}", parts.len(), limits::PROJECT_HOSTS_MAX);
            return refuse(self.config.name.to_string(), detail);
        }
        for (host, fragment) in parts {
            let bytes = wire::encode_fragment(fragment).len();
            if bytes > limits::FRAGMENT_BYTES_MAX {
                let limit = limits::FRAGMENT_BYTES_MAX;
                let detail =
                    format!("its part of the project has {bytes} bytes, where at most {limit} are sent");
                return refuse(host.name.to_string(), detail);
            }
        }
        Ok(())
    }

    pub(super) fn propose_removal(&mut self, now: Now, op: OpId, project: ProjectId, running: RunningVms) {
        match self.draft_removal(now, project, running, "remove") {
            Some(draft) => self.propose(now, op, Goal::Remove, draft),
            // Somebody was faster: it is gone already.
            None => self.done(op, Outcome::Done),
        }
    }

    fn draft_removal(
        &self,
        now: Now,
        project: ProjectId,
        running: RunningVms,
        reason: &str,
    ) -> Option<Draft> {
        let head = self.projects.head(project).filter(|head| !head.removes())?;
        let revision = Revision {
            project: Some(project),
            parent: Some(head.digest),
            label: head.revision.label.clone(),
            hosts: Vec::new(),
            definition: head.revision.definition,
            consent: Consent::Majority,
            made_unix_ms: now.unix_ms,
            author: self.config.name.to_string(),
            reason: reason.to_owned(),
        };
        let mut draft = Draft::new(revision, BTreeMap::new(), running, None);
        draft.answers = head.revision.hosts.iter().map(|host| (host.key, Answer::Awaited)).collect();
        Some(draft)
    }

    fn propose(&mut self, now: Now, op: OpId, goal: Goal, draft: Draft) {
        let shown = BTreeMap::new();
        let proposal =
            Proposal { goal, draft, next: None, phase: Phase::Asking, since_ms: now.mono_ms, shown };
        self.proposals.by_op.insert(op, proposal);
        self.ask(now, op);
    }

    /// Sends the question to every host that has not yet answered it.
    fn ask(&mut self, now: Now, op: OpId) {
        let Some(proposal) = self.proposals.by_op.get(&op) else { return };
        let draft = &proposal.draft;
        let awaited = draft.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Awaited));
        let asks: Vec<(PublicKey, Message)> = awaited
            .map(|(&host, _)| {
                let ask = Ask {
                    host,
                    revision: draft.revision.clone(),
                    digest: draft.digest,
                    running: draft.running,
                    replaces: draft.replaces,
                };
                let payload = wire::encode_ask(&ask);
                let ask = Arc::new(Verified::own(&self.config.keys, Domain::Request, ask, payload));
                (host, Message::Ask { ask, fragment: draft.fragments.get(&host).cloned() })
            })
            .collect();
        self.timers.set(Timer::Operation(op), now.mono_ms + limits::RESEND_MS);
        for (host, message) in asks {
            self.send(host, message);
        }
    }

    pub(super) fn answered(
        &mut self,
        now: Now,
        from: PublicKey,
        revision: Digest,
        verdict: Result<Verified<Reservation>, Refusal>,
    ) {
        let answer = match verdict {
            Ok(reservation) if reservation.author() == from && reservation.revision == revision => {
                Answer::Reserved(reservation)
            }
            Ok(_) => return,
            Err(refusal) => Answer::Refused(refusal),
        };
        let asking = self
            .proposals
            .by_op
            .iter_mut()
            .find(|(_, proposal)| proposal.phase == Phase::Asking && proposal.draft.digest == revision);
        let Some((&op, proposal)) = asking else { return };
        match proposal.draft.answers.get_mut(&from) {
            Some(slot @ Answer::Awaited) => *slot = answer,
            Some(_) | None => return,
        }
        self.decide(now, op);
    }

    pub(super) fn proposal_unreachable(&mut self, now: Now, peer: PublicKey) {
        let heard =
            self.records.host(peer).map(|status| now.unix_ms.saturating_sub(status.measured_unix_ms) / 1000);
        let detail = match heard {
            Some(seconds) => format!("last heard {seconds} s ago; its part can't be done while it is off"),
            None => "never heard of; its part can't be done while it is off".to_owned(),
        };
        let mut waiting = Vec::new();
        for (&op, proposal) in &mut self.proposals.by_op {
            if proposal.phase == Phase::Asking
                && let Some(slot @ Answer::Awaited) = proposal.draft.answers.get_mut(&peer)
            {
                *slot = Answer::Refused(Refusal { rule: Rule::HostOff, detail: detail.clone() });
                waiting.push(op);
            }
        }
        for op in waiting {
            self.decide(now, op);
        }
    }

    pub(super) fn proposal_due(&mut self, now: Now, op: OpId) {
        let Some(proposal) = self.proposals.by_op.get_mut(&op) else { return };
        let waited_ms = now.mono_ms.saturating_sub(proposal.since_ms);
        match proposal.phase {
            Phase::Asking if waited_ms < limits::ANSWER_MS_MAX => self.ask(now, op),
            Phase::Asking => {
                for answer in proposal.draft.answers.values_mut() {
                    if matches!(answer, Answer::Awaited) {
                        let detail = format!("it didn't answer for {} s", limits::ANSWER_MS_MAX / 1000);
                        *answer = Answer::Refused(Refusal { rule: Rule::NoAnswer, detail });
                    }
                }
                self.decide(now, op);
            }
            Phase::Watching(project) => self.stop_watching(op, project),
        }
    }

    fn stop_watching(&mut self, op: OpId, project: ProjectId) {
        let late = self.unsettled(project);
        self.proposals.by_op.remove(&op);
        self.done(op, Outcome::Failed(late));
    }

    /// Goes on once every host has answered.
    fn decide(&mut self, now: Now, op: OpId) {
        let early = self.mutated_commit_before_all_reserved();
        let Some(proposal) = self.proposals.by_op.get_mut(&op) else { return };
        let answers = &proposal.draft.answers;
        let awaited = answers.values().filter(|answer| matches!(answer, Answer::Awaited)).count();
        let refused = answers.values().any(|answer| matches!(answer, Answer::Refused(_)));
        if awaited > 0 && (refused || !early) {
            return;
        }
        if refused {
            return self.give_up(now, op);
        }
        let running = proposal.draft.running;
        if let Some(old) = proposal.draft.replaces.take()
            && let Some(removal) = self.draft_removal(now, old, running, "replaced")
            && let Some(proposal) = self.proposals.by_op.get_mut(&op)
        {
            proposal.next = Some(std::mem::replace(&mut proposal.draft, removal));
            proposal.since_ms = now.mono_ms;
            return self.ask(now, op);
        }
        self.commit(now, op);
    }

    /// Tells the hosts that have reserved that it comes to nothing, and the operator why.
    fn give_up(&mut self, _now: Now, op: OpId) {
        let Some(proposal) = self.proposals.by_op.remove(&op) else { return };
        let mut refusals = Vec::new();
        for (&host, answer) in &proposal.draft.answers {
            match answer {
                Answer::Refused(refusal) => {
                    refusals.push(HostRefusal { host: self.host_name(host), refusal: refusal.clone() });
                }
                Answer::Reserved(_) | Answer::Awaited => {
                    self.send(host, Message::Withdraw { revision: proposal.draft.digest });
                }
            }
        }
        if let Some(next) = &proposal.next {
            for &host in next.answers.keys() {
                self.send(host, Message::Withdraw { revision: next.digest });
            }
        }
        let outcome = match proposal.goal {
            Goal::Build(_) | Goal::Remove => Outcome::Refused(refusals),
            Goal::Undo(mut failures) => {
                for refused in refusals {
                    for failure in failures.iter_mut().filter(|failure| failure.host == refused.host) {
                        failure.reason += &format!("; not taken back there: {}", refused.refusal.detail);
                    }
                }
                Outcome::Failed(failures)
            }
        };
        self.done(op, outcome);
    }

    /// Publishes what every host has reserved for, and watches it being carried out.
    fn commit(&mut self, now: Now, op: OpId) {
        let Some(proposal) = self.proposals.by_op.get_mut(&op) else { return };
        let mut drafts = vec![proposal.draft.take_commit()];
        let mut fragments: Vec<Arc<Fragment>> = proposal.draft.fragments.values().cloned().collect();
        if let Some(mut next) = proposal.next.take() {
            drafts.push(next.take_commit());
            fragments.extend(next.fragments.values().cloned());
            proposal.draft = next;
        }
        let watched = drafts.last().map(Commit::project);
        let Some(project) = watched else { return };
        proposal.phase = Phase::Watching(project);
        proposal.since_ms = now.mono_ms;
        self.timers.set(Timer::Operation(op), now.mono_ms + limits::WATCH_MS_MAX);
        for fragment in fragments {
            self.keep_fragment(fragment);
        }
        for commit in drafts {
            let (digest, hosts) =
                (commit.digest, commit.reservations.iter().map(Verified::author).collect::<Vec<_>>());
            self.publish(now, Record::Commit(commit));
            if let Some(record) = self.projects.record(digest).cloned() {
                let me = self.me;
                for host in hosts.into_iter().filter(|&host| host != me) {
                    self.send(host, Message::Records(vec![record.clone()]));
                }
            }
        }
        self.watch_build(now, project);
    }

    /// Shows what has changed in a project to whoever waits for it, and ends the wait when all is settled.
    pub(super) fn watch_build(&mut self, now: Now, project: ProjectId) {
        let watching: Vec<OpId> = self
            .proposals
            .by_op
            .iter()
            .filter(|(_, proposal)| proposal.phase == Phase::Watching(project))
            .map(|(&op, _)| op)
            .collect();
        for op in watching {
            self.show_changes(op, project);
            self.end_watch(now, op, project);
        }
    }

    fn show_changes(&mut self, op: OpId, project: ProjectId) {
        let Some(mut proposal) = self.proposals.by_op.remove(&op) else { return };
        let statuses: Vec<VmStatus> = self.project_vms(project).into_iter().cloned().collect();
        for status in statuses {
            if proposal.shown.get(&status.vm) != Some(&status.state) {
                proposal.shown.insert(status.vm.clone(), status.state.clone());
                let (vm, host, state) = (status.vm.name.clone(), status.host.clone(), status.state.clone());
                self.outbox.push(Output::Progress { op, vm, host, state });
            }
        }
        self.proposals.by_op.insert(op, proposal);
    }

    fn end_watch(&mut self, now: Now, op: OpId, project: ProjectId) {
        let Some(proposal) = self.proposals.by_op.get(&op) else { return };
        let wanted: usize = self.projects.commit(project.0).map_or(0, |first| first.revision.vm_count());
        let statuses = self.project_vms(project);
        let gone = statuses.iter().filter(|status| status.state == VmState::Removed).count();
        let built = statuses.iter().filter(|status| is_built(&status.state)).count();
        match &proposal.goal {
            Goal::Build(on_failure) => {
                let failures = failures(&statuses);
                if !failures.is_empty() {
                    let undo = *on_failure == OnFailure::Undo;
                    self.build_failed(now, op, project, failures, undo);
                } else if built == wanted {
                    self.proposals.by_op.remove(&op);
                    self.done(op, Outcome::Done);
                } else if gone > 0 && self.projects.head(project).is_some_and(Commit::removes) {
                    self.stop_watching(op, project);
                }
            }
            Goal::Remove if gone == wanted => {
                self.proposals.by_op.remove(&op);
                self.done(op, Outcome::Done);
            }
            Goal::Undo(failures) if gone == wanted => {
                let failures = failures.clone();
                self.proposals.by_op.remove(&op);
                self.done(op, Outcome::Failed(failures));
            }
            Goal::Remove | Goal::Undo(_) => {}
        }
    }

    fn build_failed(&mut self, now: Now, op: OpId, project: ProjectId, failures: Vec<VmFailure>, undo: bool) {
        self.proposals.by_op.remove(&op);
        let removal = undo.then(|| self.draft_removal(now, project, RunningVms::Stop, "undo")).flatten();
        match removal {
            Some(draft) => self.propose(now, op, Goal::Undo(failures), draft),
            None => self.done(op, Outcome::Failed(failures)),
        }
    }

    /// Returns what is known of a project's VMs, each from its own owner.
    pub(super) fn project_vms(&self, project: ProjectId) -> Vec<&VmStatus> {
        self.records
            .born_in(project.0)
            .filter(|(author, status)| self.owner(&status.vm) == Some(*author))
            .map(|(_, status)| status)
            .collect()
    }

    fn unsettled(&self, project: ProjectId) -> Vec<VmFailure> {
        let statuses = self.project_vms(project);
        let late = |status: &&VmStatus| VmFailure {
            vm: status.vm.name.clone(),
            host: status.host.to_string(),
            reason: "not settled in time; it goes on by itself, see `mlnctl status`".to_owned(),
            cause: FailureCause::Silent,
        };
        statuses.iter().filter(|status| !is_built(&status.state)).map(late).collect()
    }
}

impl Draft {
    fn new(
        revision: Revision,
        fragments: BTreeMap<PublicKey, Arc<Fragment>>,
        running: RunningVms,
        replaces: Option<ProjectId>,
    ) -> Self {
        let digest = Digest::of(&wire::encode_revision(&revision));
        let answers = fragments.keys().map(|&host| (host, Answer::Awaited)).collect();
        Self { revision, digest, fragments, running, replaces, answers }
    }

    fn take_commit(&mut self) -> Commit {
        let reservations = self
            .answers
            .values()
            .filter_map(|answer| match answer {
                Answer::Reserved(reservation) => Some(reservation.clone()),
                Answer::Awaited | Answer::Refused(_) => None,
            })
            .collect();
        Commit { revision: self.revision.clone(), digest: self.digest, reservations, promises: Vec::new() }
    }
}

/// Returns the digest of what a project is, over all of its hosts. Passwords in it are hashed already: a digest
/// of the text that people wrote would let everybody try them out.
fn definition_of(parts: &BTreeMap<PlacedHost, Fragment>) -> Digest {
    let all: Vec<u8> = parts.values().flat_map(|part| Digest::of(&wire::encode_fragment(part)).0).collect();
    Digest::of(&all)
}

fn is_built(state: &VmState) -> bool {
    match state {
        VmState::Down | VmState::Booting | VmState::Up | VmState::Stopping => true,
        VmState::Building | VmState::Removed | VmState::Failed { .. } => false,
    }
}

fn failures(statuses: &[&VmStatus]) -> Vec<VmFailure> {
    statuses
        .iter()
        .filter_map(|status| match &status.state {
            VmState::Failed { reason } => Some(VmFailure {
                vm: status.vm.name.clone(),
                host: status.host.to_string(),
                reason: reason.clone(),
                cause: FailureCause::Tried,
            }),
            VmState::Building
            | VmState::Down
            | VmState::Booting
            | VmState::Up
            | VmState::Stopping
            | VmState::Removed => None,
        })
        .collect()
}
