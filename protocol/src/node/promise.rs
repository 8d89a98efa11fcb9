//! The voter's side of a decision: which ballots it has answered, and what it has promised.
//!
//! ```text
//!   Ballot  ──► higher than all answered? ──► noted, durable ──► Answered, with the last promise
//!   Propose ──► none higher answered, and bound or free as its answers say? ──► noted, durable ──► Promised
//!   the child is decided and known ──► the note may go: whoever asks is told who won
//! ```
//!
//! A promise never lapses and is never released: only one of a higher ballot replaces it. No clock is asked.

use std::collections::BTreeMap;

use super::io::{DecisionNote, Write};
use super::message::{Message, Propose};
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, PublicKey};
use crate::record::{Answered, Ballot, Choice, Commit, Promise, choice};
use crate::time::Now;
use crate::wire;

/// What this host has said about revisions whose child is not decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Decisions {
    notes: BTreeMap<Digest, DecisionNote>,
}

impl Decisions {
    pub(super) fn load(notes: Vec<DecisionNote>) -> Self {
        Self { notes: notes.into_iter().map(|note| (note.parent, note)).collect() }
    }

    pub(super) fn note(&self, parent: Digest) -> Option<&DecisionNote> {
        self.notes.get(&parent)
    }

    /// Returns the parents for which a child was promised.
    pub(super) fn promised(&self) -> impl Iterator<Item = Digest> {
        self.notes.values().filter(|note| note.promised.is_some()).map(|note| note.parent)
    }

    /// Returns the parts that may still be built: their reservations were signed, or their revisions promised.
    pub(super) fn parts(&self) -> impl Iterator<Item = Digest> {
        self.notes.values().flat_map(|note| {
            let promised = note.promised.iter().flat_map(|(_, child)| &child.revision.hosts);
            note.reserved.iter().map(|(_, part)| *part).chain(promised.map(|host| host.fragment))
        })
    }

    /// Returns what was reserved for: of each the parent, the child, and the part of this host.
    pub(super) fn reserved(&self) -> impl Iterator<Item = (Digest, Digest, Digest)> {
        self.notes
            .values()
            .flat_map(|note| note.reserved.iter().map(|(child, part)| (note.parent, *child, *part)))
    }

    /// Returns the children that were promised last.
    pub(super) fn promised_children(&self) -> impl Iterator<Item = &Commit> {
        self.notes.values().filter_map(|note| note.promised.as_ref()).map(|(_, child)| child)
    }
}

impl Node {
    /// Changes the note about a parent, durably.
    fn note_decision(&mut self, parent: Digest, change: impl FnOnce(&mut DecisionNote)) {
        let note = self.decisions.notes.entry(parent).or_insert_with(|| DecisionNote {
            parent,
            answered: None,
            promised: None,
            coordinated: 0,
            reserved: Vec::new(),
        });
        change(note);
        let note = note.clone();
        self.outbox.write(Write::Decision(Box::new(note)));
    }

    /// Remembers that a part was reserved for: as long as it may be committed, it is kept.
    pub(super) fn note_reserved(&mut self, parent: Digest, child: Digest, part: Digest) {
        let known = self.decisions.note(parent).is_some_and(|note| note.reserved.contains(&(child, part)));
        if known {
            return;
        }
        let over = self.reserved_to_forget(parent);
        self.note_decision(parent, |note| {
            if let Some(over) = over {
                note.reserved.retain(|(kept, _)| *kept != over);
            }
            note.reserved.push((child, part));
        });
    }

    /// Whether this host can remember one more part that it reserves for a child of this parent, or knows this one already.
    pub(super) fn can_note_reserved(&self, parent: Digest, child: Digest) -> bool {
        self.decisions.note(parent).is_none_or(|note| {
            note.reserved.len() < limits::RESERVED_PARTS_MAX
                || note.reserved.iter().any(|(known, _)| *known == child)
                || self.reserved_to_forget(parent).is_some()
        })
    }

    /// Returns whose part is forgotten where one more is to be remembered: the oldest child of this parent that this host
    /// keeps no room for any more and hasn't promised. Should it be committed after all, the part is asked for again. A disk
    /// can't be: the note that holds one is never forgotten for another.
    fn reserved_to_forget(&self, parent: Digest) -> Option<Digest> {
        let note = self.decisions.note(parent).filter(|n| n.reserved.len() >= limits::RESERVED_PARTS_MAX)?;
        let promised = note.promised.as_ref().map(|(_, child)| child.digest);
        let mut children = note.reserved.iter();
        let over = children.find(|(child, part)| {
            Some(*child) != promised
                && !self.reservations.is_held(*child)
                && !self.brings_kept_back(*child, *part)
        });
        over.map(|(child, _)| *child)
    }

    /// Forgets that a part was reserved for: its coordinator says that it was never put forward.
    pub(super) fn note_withdrawn(&mut self, parent: Digest, child: Digest) {
        let promised = |note: &DecisionNote| note.promised.as_ref().is_some_and(|(_, c)| c.digest == child);
        let known = self.decisions.note(parent);
        if known.is_some_and(|note| !promised(note) && note.reserved.iter().any(|(c, _)| *c == child)) {
            self.note_decision(parent, |note| note.reserved.retain(|(c, _)| *c != child));
        }
    }

    /// Draws the number of the next ballot of ours: higher than any that is known, and never used before, also not
    /// before a crash.
    pub(super) fn next_ballot(&mut self, parent: Digest, above: u64) -> Ballot {
        let note = self.decisions.note(parent);
        let answered = note.and_then(|note| note.answered).map_or(0, |ballot| ballot.number);
        let coordinated = note.map_or(0, |note| note.coordinated);
        let number = above.max(answered).max(coordinated).saturating_add(1);
        self.note_decision(parent, |note| note.coordinated = number);
        Ballot { number, coordinator: self.me }
    }

    /// Answers a ballot, if this host has a vote in it.
    pub(super) fn ballot_called(&mut self, from: PublicKey, parent: Digest, ballot: Ballot) {
        let Some(known) = self.projects.commit(parent).filter(|known| self.projects.is_proven(known.digest))
        else {
            return;
        };
        // Who has lost its journal can't tell what it promised.
        let remembers = !self.forgot(known.project());
        let may = remembers
            && self.records.member(from).is_some()
            && self.projects.voters(known).contains(&self.me);
        if ballot.coordinator != from || !may || !self.may_sign() || !self.is_near(parent, ballot) {
            return;
        }
        if self.tell_decided(from, parent) {
            return;
        }
        let note = self.decisions.note(parent);
        let promised = note.and_then(|note| note.promised.clone());
        match note.and_then(|note| note.answered) {
            Some(answered) if answered > ballot => {
                return self.send(from, Message::Outbid { parent, ballot, number: answered.number });
            }
            Some(answered) if answered == ballot => {
                if promised.as_ref().is_some_and(|(last, _)| *last == ballot) {
                    // It was answered before that: what is wanted by now is the promise.
                    return self.send_promise(from, parent);
                }
            }
            Some(_) | None => self.note_decision(parent, |note| note.answered = Some(ballot)),
        }
        let (named, candidate) = match promised {
            Some((last, child)) => (Some((last, child.digest)), Some(Box::new(child))),
            None => (None, None),
        };
        let answer = wire::sign_answered(&self.config.keys, Answered { parent, ballot, promised: named });
        self.send(from, Message::Answered { answer: Box::new(answer), candidate });
    }

    /// Promises a child, if no higher ballot was answered and its answers show that it may be put forward.
    pub(super) fn promise_wanted(&mut self, now: Now, from: PublicKey, propose: Propose) {
        let Propose { ballot, candidate, answers } = propose;
        let Some(parent) = candidate.revision.parent else { return };
        if ballot.coordinator != from || self.tell_decided(from, parent) || !self.may_sign() {
            return;
        }
        let Some(known) = self.projects.commit(parent).filter(|known| self.projects.is_proven(known.digest))
        else {
            return;
        };
        let voters = self.projects.voters(known);
        let remembers = !self.forgot(known.project());
        let reserved = self.projects.follows(known, &candidate) || self.mutated_promise_before_all_reserved();
        if !remembers
            || !voters.contains(&self.me)
            || !reserved
            // What counts without votes is nobody's to promise: it would bind every later ballot, and never be decided.
            || !self.projects.needs_votes(known, candidate.revision.consent)
            || !self.is_near(parent, ballot)
            || !self.may_be_put_forward(&voters, ballot, &candidate, &answers)
        {
            return;
        }
        let note = self.decisions.note(parent);
        if let Some(answered) = note.and_then(|note| note.answered).filter(|answered| *answered > ballot) {
            return self.send(from, Message::Outbid { parent, ballot, number: answered.number });
        }
        match note.and_then(|note| note.promised.as_ref()) {
            // Who puts two children forward in one ballot gets the promise that it has.
            Some((last, child)) if *last == ballot && child.digest != candidate.digest => return,
            Some((last, _)) if *last == ballot => {}
            Some(_) | None => self.note_decision(parent, |note| {
                note.answered = Some(ballot);
                note.promised = Some((ballot, Commit { promises: Vec::new(), ..candidate }));
            }),
        }
        self.await_decision(now, parent);
        self.send_promise(from, parent);
    }

    /// Whether a ballot has a number that others can still outbid.
    fn is_near(&self, parent: Digest, ballot: Ballot) -> bool {
        let note = self.decisions.note(parent);
        let answered = note.and_then(|note| note.answered).map_or(0, |answered| answered.number);
        let coordinated = note.map_or(0, |note| note.coordinated);
        ballot.number <= answered.max(coordinated).saturating_add(limits::BALLOT_JUMP_MAX)
            || self.mutated_ballot_jump_unbounded()
    }

    fn may_be_put_forward(
        &self,
        voters: &[PublicKey],
        ballot: Ballot,
        candidate: &Commit,
        answers: &[crate::trust::Verified<Answered>],
    ) -> bool {
        if self.mutated_ask_round_skipped()
            || self.mutated_majority_over_live()
            || self.mutated_half_suffices()
        {
            return true;
        }
        let of_ballot = answers
            .iter()
            .filter(|answer| Some(answer.parent) == candidate.revision.parent && answer.ballot == ballot)
            .map(|answer| (answer.author(), **answer))
            .collect();
        match choice(voters, &of_ballot) {
            Choice::Open => false,
            Choice::Free => true,
            Choice::Bound(child) => child == candidate.digest || self.mutated_highest_promise_ignored(),
        }
    }

    fn send_promise(&mut self, to: PublicKey, parent: Digest) {
        let Some((ballot, child)) = self.decisions.note(parent).and_then(|note| note.promised.as_ref())
        else {
            return;
        };
        let promise = Promise { parent, child: child.digest, ballot: *ballot };
        let promise = wire::sign_promise(&self.config.keys, promise);
        self.send(to, Message::Promised(Box::new(promise)));
    }

    /// Sends who won to whoever asks about a parent whose child is decided; false where it isn't.
    fn tell_decided(&mut self, to: PublicKey, parent: Digest) -> bool {
        let decided = self.projects.decided_child(parent).map(|child| child.digest);
        let Some(record) = decided.and_then(|child| self.projects.record(child)).cloned() else {
            return false;
        };
        self.send(to, Message::Records(vec![record]));
        true
    }

    /// Sees to it that what was promised is decided, should its coordinator be gone.
    pub(super) fn await_decision(&mut self, now: Now, parent: Digest) {
        if !self.timers.is_set(&Timer::Undecided(parent)) {
            let spread = self.draw() % limits::UNDECIDED_MS;
            self.timers.set(Timer::Undecided(parent), now.mono_ms + limits::UNDECIDED_MS + spread);
        }
    }

    /// Forgets what was said about parents of this project whose child is decided: the child is as durable as that.
    pub(super) fn forget_decided(&mut self) {
        let decided: Vec<Digest> = self
            .decisions
            .notes
            .keys()
            .filter(|&&parent| self.projects.decided_child(parent).is_some())
            .copied()
            .collect();
        for parent in decided {
            self.timers.cancel(&Timer::Undecided(parent));
            self.decisions.notes.remove(&parent);
            self.outbox.write(Write::DropDecision(parent));
        }
    }

    /// Forgets the promise for a parent: only a mutation does.
    pub(super) fn let_promise_lapse(&mut self, parent: Digest) {
        if self.decisions.note(parent).is_some_and(|note| note.promised.is_some()) {
            self.note_decision(parent, |note| note.promised = None);
        }
    }
}
