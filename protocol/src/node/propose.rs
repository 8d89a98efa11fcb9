//! The coordinator's side of a change: ask every host concerned, have it promised, commit, watch it being carried out.
//!
//! ```text
//!   Asking ── all changed hosts reserved, and (with a parent) a majority of its voters answered ──► Promising
//!     │  ▲                                                                                            │
//!     │  └──────────── outbid by another coordinator: a higher ballot, after a pause ◄────────────────┤
//!     ▼                                                                                               ▼
//!   refused: withdrawn, nothing was changed                     a majority promised: commit ──► Watching
//! ```
//!
//! What is put forward may be another child than one's own, because that one may have been decided already. Then it is
//! committed, and whoever asked is told who won.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::{Answer, Draft};
use super::grants::charge_of;
use super::io::{BuildOrder, HostRefusal, OnFailure, OpId, Outcome, ReviseOrder, VmFailure};
use super::message::{Ask, Message, Refusal, Rule, RunningVms};
use super::timers::Timer;
use super::vote::{Vote, VoteRule};
use super::{Node, limits};
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::model::Fragment;
use crate::record::{
    Answered, Ballot, Charge, Choice, Commit, Consent, Promise, Record, Reservation, VerifiedRecord, VmState,
};
use crate::time::Now;
use crate::trust::{Amount, Domain, Standing, Verified};
use crate::wire;

/// The changes that this node coordinates.
#[derive(Clone, Debug, Default)]
pub(super) struct Proposals {
    pub(super) by_op: BTreeMap<OpId, Proposal>,
}

#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) goal: Goal,
    pub(super) draft: Draft,
    /// Fully reserved, and to be committed right after `draft`, which removes what has its name.
    next: Option<Draft>,
    pub(super) phase: Phase,
    pub(super) since_ms: u64,
    /// How often a partial change was asked about without those that did not reserve.
    rounds: u32,
    /// The last ballot in which `draft` was put forward: from then on it may be decided without us.
    put_forward: Option<Ballot>,
    pub(super) shown: BTreeMap<VmId, VmState>,
    /// The VMs that were seen to run since it is carried out: whichever of them is started once more for it is waited for.
    pub(super) ran: BTreeSet<VmId>,
}

#[derive(Clone, Debug)]
pub(super) enum Goal {
    Build(OnFailure),
    Revise,
    Remove,
    /// A build that failed is taken back.
    Undo(Vec<VmFailure>),
    /// A VM of this host has asked for it.
    Guest(VmId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Asking,
    Promising,
    /// This revision is carried out.
    Watching(ProjectId, Digest),
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

    /// Returns the digests of what the projects would be submitted as that hosts are asked about.
    pub(super) fn definitions(&self) -> impl Iterator<Item = Digest> {
        let drafts = self.by_op.values().flat_map(|proposal| [Some(&proposal.draft), proposal.next.as_ref()]);
        drafts.flatten().map(|draft| draft.revision.definition)
    }

    fn votes(&mut self) -> impl Iterator<Item = &mut Vote> {
        self.by_op.values_mut().filter_map(|proposal| proposal.draft.vote.as_mut())
    }

    /// Returns the revisions whose child is being decided on.
    pub(super) fn parents(&self) -> impl Iterator<Item = Digest> {
        self.by_op.values().filter_map(|proposal| Some(proposal.draft.vote.as_ref()?.parent))
    }

    /// Returns the operations whose ballot is about this parent.
    fn about(&self, parent: Digest) -> Vec<OpId> {
        let is = |proposal: &Proposal| proposal.draft.vote.as_ref().is_some_and(|vote| vote.parent == parent);
        self.by_op.iter().filter(|(_, proposal)| is(proposal)).map(|(&op, _)| op).collect()
    }
}

impl Node {
    pub(super) fn propose_build(&mut self, now: Now, op: OpId, order: BuildOrder) {
        match self.draft_build(now, &order) {
            Ok(draft) => self.propose(now, op, Goal::Build(order.on_failure), draft),
            Err(refusals) => self.done(op, Outcome::Refused(refusals)),
        }
    }

    pub(super) fn propose_revision(&mut self, now: Now, op: OpId, order: &ReviseOrder) {
        match self.draft_revision(now, order) {
            Ok(draft) => self.propose(now, op, Goal::Revise, draft),
            Err(refusals) => self.done(op, Outcome::Refused(refusals)),
        }
    }

    pub(super) fn propose_removal(&mut self, now: Now, op: OpId, project: ProjectId, running: RunningVms) {
        match self.draft_removal(now, project, running, "remove") {
            Some(draft) => self.propose(now, op, Goal::Remove, draft),
            // Somebody was faster: it is gone already.
            None => self.done(op, Outcome::Done),
        }
    }

    pub(super) fn propose(&mut self, now: Now, op: OpId, goal: Goal, mut draft: Draft) {
        self.charge(self.principals.get(&op), &mut draft);
        draft.vote = self.first_ballot(&draft);
        let (shown, ran, rounds) = (BTreeMap::new(), BTreeSet::new(), 0);
        let (phase, since_ms) = (Phase::Asking, now.mono_ms);
        let proposal =
            Proposal { goal, draft, next: None, phase, since_ms, rounds, put_forward: None, shown, ran };
        self.proposals.by_op.insert(op, proposal);
        self.ask(now, op);
    }

    /// Has a draft say on whose grants it is made. Parts that only other hosts have count there, and not here.
    pub(super) fn charge(&self, standing: Option<&Standing>, draft: &mut Draft) {
        // A VM has no grants: what its project takes follows from the parent's.
        if draft.guest.is_some() {
            return;
        }
        let parts = draft.revision.hosts.iter().map(|host| {
            let part = draft.fragments.get(&host.key).or_else(|| self.fragments.get(&host.fragment));
            part.map(|part| &**part)
        });
        let charge =
            standing.filter(|_| !draft.revision.hosts.is_empty()).map(|standing| charge_of(standing, parts));
        let vms = draft.revision.vm_count() as u64;
        let charge = charge.map(|charge| Charge { amount: Amount { vms, ..charge.amount }, ..charge });
        if charge != draft.revision.charge {
            draft.revision.charge = charge;
            draft.digest = Digest::of(&wire::encode_revision(&draft.revision));
        }
    }

    /// Calls the first ballot about a draft, where the hosts of its parent decide.
    fn first_ballot(&mut self, draft: &Draft) -> Option<Vote> {
        let parent = self.projects.commit(draft.revision.parent?)?;
        if !self.projects.needs_votes(parent, draft.revision.consent) {
            return None;
        }
        self.call_ballot(parent.digest, 0, 0)
    }

    pub(super) fn vote_rule(&self) -> VoteRule {
        if self.mutated_ask_round_skipped() {
            VoteRule::AskSkipped
        } else if self.mutated_highest_promise_ignored() {
            VoteRule::PromisesIgnored
        } else if self.mutated_majority_over_live() {
            VoteRule::Live(self.connected.iter().copied().chain([self.me]).collect())
        } else if self.mutated_half_suffices() {
            VoteRule::HalfSuffices
        } else if self.mutated_first_counts_once() {
            VoteRule::FirstCountsOnce
        } else {
            VoteRule::InForce
        }
    }

    /// Sends what is wanted of them to all hosts that have not yet answered.
    fn ask(&mut self, now: Now, op: OpId) {
        if !self.may_sign() {
            return self.timers.set(Timer::Operation(op), now.mono_ms + limits::RESEND_MS);
        }
        let Some(proposal) = self.proposals.by_op.get(&op) else { return };
        let draft = &proposal.draft;
        let chain = self.chain_for(op, &proposal.goal);
        let mut messages = Vec::new();
        let parent = draft.revision.parent.and_then(|parent| self.projects.record(parent)).cloned();
        // Who is asked for a VM has to know in which epoch this host owns it.
        let link =
            draft.guest.as_ref().and_then(|right| self.ledger.links(&right.request.vm).next()).cloned();
        let awaited = draft.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Awaited));
        for (&host, _) in awaited.filter(|_| proposal.phase == Phase::Asking) {
            let ask = Ask {
                host,
                revision: draft.revision.clone(),
                digest: draft.digest,
                running: draft.running,
                replaces: draft.replaces,
                chain: chain.clone(),
                guest: draft.guest.clone(),
            };
            let payload = wire::encode_ask(&ask);
            let ask = Arc::new(Verified::own(&self.config.keys, Domain::Request, ask, payload));
            let records: Vec<VerifiedRecord> = parent.clone().into_iter().chain(link.clone()).collect();
            if !records.is_empty() {
                messages.push((host, Message::Records(records)));
            }
            messages.push((host, Message::Ask { ask, fragment: draft.fragments.get(&host).cloned() }));
        }
        messages.extend(draft.vote.iter().flat_map(|vote| self.vote_messages(vote)));
        self.timers.set(Timer::Operation(op), now.mono_ms + limits::RESEND_MS);
        for (host, message) in messages {
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

    /// Takes in a voter's answer to a ballot of ours.
    pub(super) fn ballot_answered(
        &mut self,
        now: Now,
        answer: Verified<Answered>,
        candidate: Option<Commit>,
    ) {
        let parent = answer.parent;
        let Some(known) = self.projects.commit(parent) else { return };
        if candidate.as_ref().is_some_and(|candidate| !self.projects.follows(known, candidate)) {
            return;
        }
        for vote in self.proposals.votes().chain(self.recoveries.votes()) {
            vote.answered(answer.clone(), candidate.clone());
        }
        self.vote_heard(now, parent);
    }

    pub(super) fn promise_heard(&mut self, now: Now, promise: &Verified<Promise>) {
        for vote in self.proposals.votes().chain(self.recoveries.votes()) {
            vote.promised(promise.clone());
        }
        self.vote_heard(now, promise.parent);
    }

    /// Takes in that a ballot of ours is over; the next one comes after a pause, by lot.
    /// A voter has answered a higher ballot than ours; only voters can, and none near the end of all numbers.
    pub(super) fn outbid(&mut self, from: PublicKey, parent: Digest, ballot: Ballot, number: u64) {
        let votes = self.proposals.votes().chain(self.recoveries.votes());
        let near = ballot.number.saturating_add(limits::BALLOT_JUMP_MAX);
        for vote in votes.filter(|vote| vote.parent == parent && vote.ballot == ballot) {
            if vote.voters.contains(&from) && number <= near {
                vote.outbid_by(number);
            }
        }
    }

    fn vote_heard(&mut self, now: Now, parent: Digest) {
        for op in self.proposals.about(parent) {
            self.decide(now, op);
        }
        self.recovery_heard(now, parent);
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
            if proposal.phase != Phase::Asking {
                continue;
            }
            if let Some(slot @ Answer::Awaited) = proposal.draft.answers.get_mut(&peer) {
                *slot = Answer::Refused(Refusal { rule: Rule::HostOff, detail: detail.clone() });
            }
            if let Some(vote) = &mut proposal.draft.vote {
                vote.unreachable(peer);
            }
            waiting.push(op);
        }
        for op in waiting {
            self.decide(now, op);
        }
    }

    pub(super) fn proposal_due(&mut self, now: Now, op: OpId) {
        let Some(proposal) = self.proposals.by_op.get_mut(&op) else { return };
        let late = now.mono_ms.saturating_sub(proposal.since_ms) >= limits::ANSWER_MS_MAX;
        let outbid = proposal.draft.vote.as_ref().and_then(|vote| vote.outbid);
        match (proposal.phase, outbid) {
            (Phase::Watching(project, target), _) => self.stop_watching(op, project, target),
            (Phase::Asking, _) if late => {
                for answer in proposal.draft.answers.values_mut() {
                    if matches!(answer, Answer::Awaited) {
                        let detail = format!("it didn't answer for {} s", limits::ANSWER_MS_MAX / 1000);
                        *answer = Answer::Refused(Refusal { rule: Rule::NoAnswer, detail });
                    }
                }
                self.decide(now, op);
                // Unless that has begun something new.
                let late = |p: &Proposal| now.mono_ms.saturating_sub(p.since_ms) >= limits::ANSWER_MS_MAX;
                if self.proposals.by_op.get(&op).is_some_and(late) {
                    self.no_majority(op);
                }
            }
            (Phase::Promising, _) if late => self.undecided_for(op),
            (Phase::Asking | Phase::Promising, Some(number)) => self.next_try(now, op, number),
            (Phase::Asking | Phase::Promising, None) => self.ask(now, op),
        }
    }

    /// Calls a higher ballot, in place of one that was outbid. What was reserved stays so.
    fn next_try(&mut self, now: Now, op: OpId, above: u64) {
        let Some(vote) = self.proposals.by_op.get(&op).and_then(|proposal| proposal.draft.vote.as_ref())
        else {
            return;
        };
        let (parent, tries, proposed) = (vote.parent, vote.tries + 1, vote.proposed.is_some());
        if tries >= limits::BALLOTS_MAX {
            return if proposed { self.undecided_for(op) } else { self.no_majority(op) };
        }
        let vote = self.call_ballot(parent, above, tries);
        if let Some(proposal) = self.proposals.by_op.get_mut(&op) {
            proposal.draft.vote = vote;
            proposal.phase = Phase::Asking;
        }
        self.ask(now, op);
        // Two that outbid each other again and again part by lot, and the longer the later.
        let pause_ms = limits::RESEND_MS / 2 + self.draw() % (limits::RESEND_MS * u64::from(tries));
        self.timers.set(Timer::Operation(op), now.mono_ms + pause_ms);
    }

    /// Gives up where too few voters have answered in time.
    fn no_majority(&mut self, op: OpId) {
        let waits = |proposal: &Proposal| proposal.phase == Phase::Asking;
        let Some(proposal) = self.proposals.by_op.get_mut(&op).filter(|proposal| waits(proposal)) else {
            return;
        };
        let Some(vote) = &proposal.draft.vote else { return };
        if proposal.put_forward.is_some() {
            // A voter may have promised it: withdrawn, it could be decided without what was reserved for it.
            return self.undecided_for(op);
        }
        let (said, all) = vote.turnout();
        let away: Vec<PublicKey> = vote.silent();
        let away: Vec<String> = away.into_iter().map(|host| self.host_name(host)).collect();
        let detail = format!(
            "{said} of the {all} hosts that decide on it have answered, without {}; bring them up, or change only what is \
             there with --partial",
            away.join(", ")
        );
        let refusals = self.refused_here(Rule::Majority, detail);
        self.give_up(op, refusals);
    }

    /// Goes on once the hosts have answered.
    fn decide(&mut self, now: Now, op: OpId) {
        let early = self.mutated_commit_before_all_reserved();
        let unreserved = self.mutated_promise_before_all_reserved();
        let Some(proposal) = self.proposals.by_op.get_mut(&op) else { return };
        if let Phase::Watching(..) = proposal.phase {
            return;
        }
        let draft = &mut proposal.draft;
        let answers = &draft.answers;
        let awaited = answers.values().filter(|answer| matches!(answer, Answer::Awaited)).count();
        let refused = answers.values().any(|answer| matches!(answer, Answer::Refused(_)));
        if proposal.phase == Phase::Promising {
            let decided = draft.vote.as_ref().and_then(Vote::commit);
            if let Some(commit) = decided {
                self.decided(now, op, commit);
            }
            return;
        }
        let choice = draft.vote.as_ref().map(Vote::choice);
        if let (Some(Choice::Bound(child)), Some(vote)) = (choice, &mut draft.vote)
            && vote.candidate(child).is_some()
        {
            // It may have been decided: only it can be, whatever becomes of ours.
            vote.proposed = vote.candidate(child).cloned();
            proposal.phase = Phase::Promising;
            proposal.since_ms = now.mono_ms;
            return self.ask(now, op);
        }
        if awaited > 0 && (refused || !(early || unreserved)) {
            return;
        }
        if refused {
            return self.some_refused(now, op);
        }
        if draft.vote.as_ref().is_some_and(Vote::is_hopeless) {
            return self.no_majority(op);
        }
        if let Some(old) = draft.replaces.take() {
            let running = draft.running;
            return self.ask_for_replaced(now, op, old, running);
        }
        match (choice, &mut draft.vote) {
            (None, _) | (_, None) => {
                let commit = draft.commit();
                self.decided(now, op, commit);
            }
            (Some(Choice::Open | Choice::Bound(_)), _) => {}
            (Some(Choice::Free), Some(_)) => {
                let own = draft.commit();
                if let Some(vote) = &mut draft.vote {
                    vote.proposed = Some(own);
                    proposal.put_forward = Some(vote.ballot);
                }
                proposal.phase = Phase::Promising;
                proposal.since_ms = now.mono_ms;
                self.ask(now, op);
            }
        }
    }

    /// Asks about the removal of what a build replaces, once the build is reserved for.
    fn ask_for_replaced(&mut self, now: Now, op: OpId, old: ProjectId, running: RunningVms) {
        let Some(mut removal) = self.draft_removal(now, old, running, "replaced") else {
            return self.decide(now, op);
        };
        removal.vote = self.first_ballot(&removal);
        if let Some(proposal) = self.proposals.by_op.get_mut(&op) {
            proposal.next = Some(std::mem::replace(&mut proposal.draft, removal));
            proposal.since_ms = now.mono_ms;
            self.ask(now, op);
        }
    }

    /// Gives up what a host refuses; what is partial goes on without it.
    fn some_refused(&mut self, now: Now, op: OpId) {
        let Some(proposal) = self.proposals.by_op.get_mut(&op) else { return };
        let refusals = proposal.draft.answers.iter().filter_map(|(&host, answer)| match answer {
            Answer::Refused(refusal) => Some((host, refusal.clone())),
            Answer::Reserved(_) | Answer::Awaited => None,
        });
        let refusals: Vec<(PublicKey, Refusal)> = refusals.collect();
        let partial = proposal.draft.revision.consent == Consent::Partial;
        let named = |(host, refusal): (PublicKey, Refusal), node: &Self| HostRefusal {
            host: node.host_name(host),
            refusal,
        };
        if !partial || proposal.rounds >= limits::PARTIAL_ROUNDS_MAX {
            let refusals = refusals.into_iter().map(|refused| named(refused, self)).collect();
            return self.give_up(op, refusals);
        }
        proposal.rounds += 1;
        let Some(proposal) = self.proposals.by_op.get(&op) else { return };
        let mut less = match self.draft_without(&proposal.draft) {
            Ok(less) => less,
            Err(refused) => {
                let refusals =
                    refusals.into_iter().map(|refused| named(refused, self)).chain(refused).collect();
                return self.give_up(op, refusals);
            }
        };
        self.withdraw(op);
        self.charge(self.principals.get(&op), &mut less);
        less.vote = self.first_ballot(&less);
        if let Some(proposal) = self.proposals.by_op.get_mut(&op) {
            proposal.draft = less;
            proposal.since_ms = now.mono_ms;
        }
        self.ask(now, op);
    }

    /// Tells the hosts that have reserved that it comes to nothing.
    fn withdraw(&mut self, op: OpId) {
        let Some(proposal) = self.proposals.by_op.get(&op) else { return };
        let mut asked = Vec::new();
        for draft in [Some(&proposal.draft), proposal.next.as_ref()].into_iter().flatten() {
            let took_part = draft.answers.iter().filter(|(_, answer)| !matches!(answer, Answer::Refused(_)));
            asked.extend(took_part.map(|(&host, answer)| {
                let here = host == self.me && matches!(answer, Answer::Reserved(_));
                (host, draft.digest, here)
            }));
        }
        for (host, revision, here) in asked {
            if here {
                // At once, not by a message: whoever is told of the end finds nothing left of it here.
                self.withdrawn(host, revision);
            } else {
                self.send(host, Message::Withdraw { revision });
            }
        }
    }

    /// Ends a change that was not put forward or lost to another, and tells the operator why.
    fn give_up(&mut self, op: OpId, refusals: Vec<HostRefusal>) {
        self.withdraw(op);
        self.refused(op, refusals);
    }

    /// Ends a change that may have been decided, for all that is known here.
    fn undecided_for(&mut self, op: OpId) {
        if self.mutated_put_forward_withdrawn() {
            self.withdraw(op);
        }
        let detail = format!(
            "too few of the hosts that decide on it have promised within {} s; those that have see to it that it is \
             decided, for or against it, as soon as enough are there; look at `mlnctl log`",
            limits::ANSWER_MS_MAX / 1000
        );
        let refusals = self.refused_here(Rule::Undecided, detail);
        self.refused(op, refusals);
    }

    fn refused(&mut self, op: OpId, refusals: Vec<HostRefusal>) {
        let Some(proposal) = self.proposals.by_op.remove(&op) else { return };
        // What was reserved for it here was still asked for until now.
        self.drop_unused_fragments();
        let outcome = match proposal.goal {
            Goal::Build(_) | Goal::Revise | Goal::Remove | Goal::Guest(_) => Outcome::Refused(refusals),
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

    /// Publishes what was decided: our own, or one that was promised before it.
    fn decided(&mut self, now: Now, op: OpId, commit: Commit) {
        let Some(proposal) = self.proposals.by_op.get_mut(&op) else { return };
        if commit.digest != proposal.draft.digest {
            // Whoever waits for the parent hears of it when it is known, and so do we.
            self.publish_commit(now, commit);
            return;
        }
        let mut commits = vec![commit];
        let mut fragments: Vec<Arc<Fragment>> = proposal.draft.fragments.values().cloned().collect();
        if let Some(next) = proposal.next.take() {
            commits.push(next.commit());
            fragments.extend(next.fragments.values().cloned());
            proposal.draft = next;
        }
        let Some(target) = commits.last() else { return };
        let (project, target) = (target.project(), target.digest);
        proposal.phase = Phase::Watching(project, target);
        proposal.since_ms = now.mono_ms;
        self.timers.set(Timer::Operation(op), now.mono_ms + limits::WATCH_MS_MAX);
        for fragment in fragments {
            self.keep_fragment(fragment);
        }
        for commit in commits {
            self.publish_commit(now, commit);
        }
        self.watch_build(now, project);
    }

    /// Publishes a commit, and sends it to the hosts that it concerns: gossip may be late.
    fn publish_commit(&mut self, now: Now, commit: Commit) {
        let digest = commit.digest;
        let mut hosts = commit.reserving();
        hosts.extend(commit.promising());
        self.publish(now, Record::Commit(commit));
        if let Some(record) = self.projects.record(digest).cloned() {
            let me = self.me;
            for host in hosts.into_iter().filter(|&host| host != me) {
                self.send(host, Message::Records(vec![record.clone()]));
            }
        }
    }

    /// Ends the changes of ours whose parent has got another child, or goes on with the one that it has got.
    pub(super) fn parent_decided(&mut self, now: Now, parent: Digest) {
        self.recoveries.end(parent);
        let Some(winner) = self.projects.decided_child(parent).cloned() else { return };
        for op in self.proposals.about(parent) {
            let Some(proposal) = self.proposals.by_op.get(&op) else { continue };
            if let Phase::Watching(..) = proposal.phase {
                continue;
            }
            let removed = winner.removes() && matches!(proposal.goal, Goal::Remove | Goal::Undo(_));
            if winner.digest == proposal.draft.digest {
                // Somebody else has put the parts together: a host that had promised it, for example.
                self.decided(now, op, winner.clone());
            } else if removed {
                self.withdraw(op);
                if let Some(proposal) = self.proposals.by_op.get_mut(&op) {
                    proposal.phase = Phase::Watching(winner.project(), winner.digest);
                    proposal.since_ms = now.mono_ms;
                }
                self.timers.set(Timer::Operation(op), now.mono_ms + limits::WATCH_MS_MAX);
                self.watch_build(now, winner.project());
            } else if self.mutated_overtaken_not_told() {
                self.withdraw(op);
                self.proposals.by_op.remove(&op);
            } else {
                let revision = &winner.revision;
                let detail = format!(
                    "{} by {} was decided first; look at it and ask again",
                    revision.reason, revision.author
                );
                let refusals = self.refused_here(Rule::Overtaken, detail);
                self.give_up(op, refusals);
            }
        }
    }
}
