//! Decisions whose coordinator is gone: a host that has promised a child sees to it that it is decided.
//!
//! Otherwise a child that a majority has promised, and nobody has committed, would hold up its project until
//! somebody wants another change. Any number of hosts may do this at once: it is a ballot like any other.

use std::collections::BTreeMap;

use super::message::Message;
use super::timers::Timer;
use super::vote::Vote;
use super::{Node, limits};
use crate::id::{Digest, PublicKey};
use crate::record::{Choice, Record};
use crate::time::Now;

/// The ballots that this host coordinates for nobody but the project.
#[derive(Clone, Debug, Default)]
pub(super) struct Recoveries {
    by_parent: BTreeMap<Digest, Recovery>,
}

#[derive(Clone, Debug)]
struct Recovery {
    vote: Vote,
    since_ms: u64,
}

impl Recoveries {
    pub(super) fn votes(&mut self) -> impl Iterator<Item = &mut Vote> {
        self.by_parent.values_mut().map(|recovery| &mut recovery.vote)
    }

    pub(super) fn parents(&self) -> impl Iterator<Item = Digest> {
        self.by_parent.keys().copied()
    }

    /// Ends the ballots about a parent whose child is decided.
    pub(super) fn end(&mut self, parent: Digest) {
        self.by_parent.remove(&parent);
    }
}

impl Node {
    /// Begins a ballot about a parent, or goes on with it, or lets it rest for a while.
    pub(super) fn undecided(&mut self, now: Now, parent: Digest) {
        let promised = self.decisions.note(parent).is_some_and(|note| note.promised.is_some());
        if !promised || self.projects.decided_child(parent).is_some() {
            self.recoveries.end(parent);
            return;
        }
        if !self.may_sign() {
            return self.await_decision(now, parent);
        }
        if self.mutated_promise_lapses() {
            return self.let_promise_lapse(parent);
        }
        match self.recoveries.by_parent.get(&parent) {
            None => self.recover(now, parent, 0, now.mono_ms),
            Some(recovery) => {
                let (tries, since_ms) = (recovery.vote.tries + 1, recovery.since_ms);
                let late = now.mono_ms.saturating_sub(since_ms) >= limits::ANSWER_MS_MAX;
                match recovery.vote.outbid {
                    _ if late || tries >= limits::BALLOTS_MAX => {
                        self.recoveries.end(parent);
                        self.await_decision(now, parent);
                    }
                    Some(_) => self.recover(now, parent, tries, since_ms),
                    None => self.recovery_sends(now, parent),
                }
            }
        }
    }

    fn recover(&mut self, now: Now, parent: Digest, tries: u32, since_ms: u64) {
        let outbid = self.recoveries.by_parent.get(&parent).and_then(|recovery| recovery.vote.outbid);
        let Some(vote) = self.call_ballot(parent, outbid.unwrap_or(0), tries) else { return };
        self.recoveries.by_parent.insert(parent, Recovery { vote, since_ms });
        self.recovery_sends(now, parent);
    }

    fn recovery_sends(&mut self, now: Now, parent: Digest) {
        let Some(recovery) = self.recoveries.by_parent.get(&parent) else { return };
        let messages = self.vote_messages(&recovery.vote);
        let spread = self.draw() % limits::RESEND_MS;
        self.timers.set(Timer::Undecided(parent), now.mono_ms + limits::RESEND_MS + spread);
        for (to, message) in messages {
            self.send(to, message);
        }
    }

    /// Goes on with a ballot after an answer or a promise.
    pub(super) fn recovery_heard(&mut self, now: Now, parent: Digest) {
        let Some(recovery) = self.recoveries.by_parent.get_mut(&parent) else { return };
        let vote = &mut recovery.vote;
        if let Some(commit) = vote.commit() {
            self.recoveries.end(parent);
            self.publish(now, Record::Commit(commit));
            return;
        }
        if vote.proposed.is_some() {
            return;
        }
        let own = self
            .decisions
            .note(parent)
            .and_then(|note| note.promised.as_ref())
            .map(|(_, child)| child.clone());
        vote.proposed = match vote.choice() {
            Choice::Open => return,
            Choice::Free => own,
            Choice::Bound(child) => vote.candidate(child).cloned(),
        };
        self.recovery_sends(now, parent);
    }

    /// Makes the next ballot of ours about a parent, above all that we know of.
    pub(super) fn call_ballot(&mut self, parent: Digest, above: u64, tries: u32) -> Option<Vote> {
        let voters = self.projects.voters(self.projects.commit(parent)?);
        let rule = self.vote_rule();
        let ballot = self.next_ballot(parent, above);
        Some(Vote::new(parent, ballot, voters, tries, rule))
    }

    /// Returns what the voters are to be sent that have not said yet what is wanted of them.
    pub(super) fn vote_messages(&self, vote: &Vote) -> Vec<(PublicKey, Message)> {
        let mut messages = Vec::new();
        let parent = self.projects.record(vote.parent).cloned();
        for voter in vote.silent() {
            match vote.propose() {
                Some(propose) => messages.push((voter, Message::Propose(Box::new(propose)))),
                None => {
                    // Who hasn't heard of the parent can't answer.
                    messages.extend(parent.clone().map(|record| (voter, Message::Records(vec![record]))));
                    messages.push((voter, Message::Ballot { parent: vote.parent, ballot: vote.ballot }));
                }
            }
        }
        messages
    }
}
