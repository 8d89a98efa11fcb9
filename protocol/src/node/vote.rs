//! The coordinator's side of a decision: what the voters of one parent have answered and promised in one ballot.
//!
//! ```text
//!   answers ──(majority)──► choice: own child, or the one that may have been decided ──► promises ──(majority)──► commit
//! ```
//!
//! Pure counting: who asks, when again, and what is sent is said in `propose` and `recover`.

use std::collections::{BTreeMap, BTreeSet};

use super::message::Propose;
use crate::id::{Digest, PublicKey};
use crate::record::{Answered, Ballot, Choice, Commit, Promise, choice, is_majority};
use crate::trust::Verified;

/// One ballot, as its coordinator sees it.
#[derive(Clone, Debug)]
pub(super) struct Vote {
    pub(super) parent: Digest,
    pub(super) ballot: Ballot,
    pub(super) voters: Vec<PublicKey>,
    /// How many ballots were tried before this one.
    pub(super) tries: u32,
    answers: BTreeMap<PublicKey, Verified<Answered>>,
    /// The children that the answers name, with the reservations for them.
    candidates: BTreeMap<Digest, Commit>,
    /// What was put forward.
    pub(super) proposed: Option<Commit>,
    promises: BTreeMap<PublicKey, Verified<Promise>>,
    /// Voters that could not be reached in this ballot.
    away: BTreeSet<PublicKey>,
    /// The highest number that a voter has answered instead.
    pub(super) outbid: Option<u64>,
    pub(super) rule: VoteRule,
}

/// The rule of a vote that is broken on purpose, to see whether the simulator notices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum VoteRule {
    /// None is.
    #[default]
    InForce,
    /// Nobody has to answer before something is put forward.
    AskSkipped,
    /// What was promised before doesn't bind.
    PromisesIgnored,
    /// Only these are counted.
    Live(BTreeSet<PublicKey>),
    /// Of an even number any half will do.
    HalfSuffices,
    /// Of an even number no half will do.
    FirstCountsOnce,
}

impl Vote {
    pub(super) fn new(
        parent: Digest,
        ballot: Ballot,
        voters: Vec<PublicKey>,
        tries: u32,
        rule: VoteRule,
    ) -> Self {
        Self {
            parent,
            ballot,
            voters,
            tries,
            answers: BTreeMap::new(),
            candidates: BTreeMap::new(),
            proposed: None,
            promises: BTreeMap::new(),
            away: BTreeSet::new(),
            outbid: None,
            rule,
        }
    }

    fn is_majority(&self, said: &BTreeSet<PublicKey>) -> bool {
        match &self.rule {
            VoteRule::Live(live) => {
                let voters: Vec<PublicKey> =
                    self.voters.iter().filter(|voter| live.contains(voter)).copied().collect();
                is_majority(&voters, said)
            }
            VoteRule::HalfSuffices => 2 * self.count(said) >= self.voters.len(),
            VoteRule::FirstCountsOnce => 2 * self.count(said) > self.voters.len(),
            VoteRule::InForce | VoteRule::AskSkipped | VoteRule::PromisesIgnored => {
                is_majority(&self.voters, said)
            }
        }
    }

    fn count(&self, said: &BTreeSet<PublicKey>) -> usize {
        self.voters.iter().filter(|voter| said.contains(voter)).count()
    }

    /// Takes in an answer; `candidate` is the child that it names, if what came along is one.
    pub(super) fn answered(&mut self, answer: Verified<Answered>, candidate: Option<Commit>) {
        let voter = answer.author();
        let named = answer.promised.map(|(_, child)| child);
        let came = candidate.as_ref().map(|commit| commit.digest);
        let fits = answer.parent == self.parent && answer.ballot == self.ballot && named == came;
        if !fits || !self.voters.contains(&voter) || self.answers.contains_key(&voter) {
            return;
        }
        self.away.remove(&voter);
        self.candidates.extend(candidate.map(|commit| (commit.digest, commit)));
        self.answers.insert(voter, answer);
    }

    /// Takes in a promise of what was put forward.
    pub(super) fn promised(&mut self, promise: Verified<Promise>) {
        let child = self.proposed.as_ref().map(|proposed| proposed.digest);
        let fits =
            promise.parent == self.parent && promise.ballot == self.ballot && Some(promise.child) == child;
        if fits && self.voters.contains(&promise.author()) {
            self.promises.insert(promise.author(), promise);
        }
    }

    pub(super) fn outbid_by(&mut self, number: u64) {
        self.outbid = Some(self.outbid.map_or(number, |known| known.max(number)));
    }

    pub(super) fn unreachable(&mut self, voter: PublicKey) {
        if self.voters.contains(&voter) && !self.answers.contains_key(&voter) {
            self.away.insert(voter);
        }
    }

    /// Whether too many voters can't be reached for this ballot to come to anything.
    pub(super) fn is_hopeless(&self) -> bool {
        let rest = self.voters.iter().filter(|voter| !self.away.contains(voter)).copied().collect();
        !self.is_majority(&rest)
    }

    /// Returns the voters that have not answered yet, or not promised what was put forward.
    pub(super) fn silent(&self) -> Vec<PublicKey> {
        let has = |voter: &&PublicKey| match self.proposed {
            Some(_) => self.promises.contains_key(voter),
            None => self.answers.contains_key(voter),
        };
        self.voters.iter().filter(|voter| !has(voter)).copied().collect()
    }

    /// Returns how many voters have answered, and how many there are.
    pub(super) fn turnout(&self) -> (usize, usize) {
        (self.answers.len(), self.voters.len())
    }

    /// Returns what may be put forward now.
    pub(super) fn choice(&self) -> Choice {
        let answers: BTreeMap<PublicKey, Answered> = self.answers.iter().map(|(v, a)| (*v, **a)).collect();
        match &self.rule {
            VoteRule::AskSkipped => Choice::Free,
            VoteRule::PromisesIgnored | VoteRule::Live(_) | VoteRule::HalfSuffices => {
                let answered = answers.keys().copied().collect();
                if !self.is_majority(&answered) {
                    return Choice::Open;
                }
                match choice(&self.voters, &answers) {
                    Choice::Bound(child) if self.rule != VoteRule::PromisesIgnored => Choice::Bound(child),
                    Choice::Bound(_) | Choice::Free | Choice::Open => Choice::Free,
                }
            }
            VoteRule::InForce | VoteRule::FirstCountsOnce => choice(&self.voters, &answers),
        }
    }

    /// Returns a child that answers have named.
    pub(super) fn candidate(&self, child: Digest) -> Option<&Commit> {
        self.candidates.get(&child)
    }

    /// Returns what goes to the voters that have not promised yet.
    pub(super) fn propose(&self) -> Option<Propose> {
        Some(Propose {
            ballot: self.ballot,
            candidate: self.proposed.clone()?,
            answers: self.answers.values().cloned().collect(),
        })
    }

    /// Returns the commit, once a majority has promised.
    pub(super) fn commit(&self) -> Option<Commit> {
        let promising = self.promises.keys().copied().collect();
        let proposed = self.proposed.as_ref().filter(|_| self.is_majority(&promising))?;
        Some(Commit { promises: self.promises.values().cloned().collect(), ..proposed.clone() })
    }
}
