//! What the hosts of a revision sign to decide on its one child.
//!
//! It is one Paxos decision (Lamport, "Paxos Made Simple", 2001) per parent: an [`Answered`] is what an acceptor
//! says in the first phase, a [`Promise`] is what it accepts in the second. Who votes, and how many are a
//! majority, follows from the parent alone: never from who is alive, reachable or still a member.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Digest, PublicKey};

/// One try to decide on a parent's child: higher ones go before lower ones, and no two coordinators share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// Counts the tries.
    pub number: u64,
    /// Who coordinates it.
    pub coordinator: PublicKey,
}

/// A host's word that it takes part in no lower ballot, and what it promised last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The revision whose child is being decided.
    pub parent: Digest,
    /// The ballot that is answered.
    pub ballot: Ballot,
    /// The last promise that it has made for this parent: its ballot and the child.
    pub promised: Option<(Ballot, Digest)>,
}

/// A host's word for one child of a parent. It never lapses; only one of a higher ballot replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The parent.
    pub parent: Digest,
    /// The child.
    pub child: Digest,
    /// The ballot in which it was promised.
    pub ballot: Ballot,
}

/// Whether the hosts that `said` holds of are a majority of the voters; with an even number of them the first
/// counts twice, so that of two the first can go on alone.
///
/// Two majorities of the same voters have one in common.
pub fn is_majority(voters: &[PublicKey], said: &BTreeSet<PublicKey>) -> bool {
    let even = usize::from(voters.len().is_multiple_of(2) && !voters.is_empty());
    let all = voters.len() + even;
    let first = voters.first().is_some_and(|first| said.contains(first));
    let weight = voters.iter().filter(|voter| said.contains(voter)).count() + if first { even } else { 0 };
    2 * weight > all
}

/// What the answers to a ballot leave to its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Too few have answered.
    Open,
    /// Nobody has promised anything that could have been decided: the coordinator may put forward its own child.
    Free,
    /// This child may have been decided already: only it may be put forward.
    Bound(Digest),
}

/// Returns what may be put forward after these answers of the voters to one ballot.
///
/// Of the children that were promised, the one of the highest ballot. A coordinator that put forward two in one
/// ballot has lied; then one of them is chosen only once no other of that ballot can have a majority.
pub fn choice(voters: &[PublicKey], answers: &BTreeMap<PublicKey, Answered>) -> Choice {
    let answered: BTreeSet<PublicKey> = answers.keys().copied().collect();
    if !is_majority(voters, &answered) {
        return Choice::Open;
    }
    let promised = || {
        answers.iter().filter(|(voter, _)| voters.contains(voter)).filter_map(|(v, a)| Some((v, a.promised?)))
    };
    let Some(highest) = promised().map(|(_, (ballot, _))| ballot).max() else { return Choice::Free };
    let mut children: BTreeMap<Digest, BTreeSet<PublicKey>> = BTreeMap::new();
    for (voter, (_, child)) in promised().filter(|(_, (ballot, _))| *ballot == highest) {
        children.entry(child).or_default().insert(*voter);
    }
    let silent = || voters.iter().filter(|voter| !answered.contains(voter)).copied();
    let possible =
        |said: &BTreeSet<PublicKey>| is_majority(voters, &said.iter().copied().chain(silent()).collect());
    let mut open =
        children.iter().filter(|(_, said)| children.len() == 1 || possible(said)).map(|(child, _)| *child);
    match (open.next(), open.next()) {
        (Some(child), None) => Choice::Bound(child),
        (Some(_), Some(_)) => Choice::Open,
        // None of them can have been decided; the larger digest, so that all choose the same.
        (None, _) => children.keys().next_back().map_or(Choice::Free, |child| Choice::Bound(*child)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(number: u64) -> Ballot {
        Ballot { number, coordinator: key(9) }
    }

    /// Checks what answers leave: voter, and the ballot and child that it promised last.
    #[track_caller]
    fn check(voters: usize, said: &[(usize, Option<(u64, u8)>)], expect: Choice) {
        let voters: Vec<PublicKey> = (0..voters).map(key).collect();
        let answer = |promised: Option<(u64, u8)>| Answered {
            parent: Digest([0; 32]),
            ballot: ballot(9),
            promised: promised.map(|(number, child)| (ballot(number), Digest([child; 32]))),
        };
        let answers = said.iter().map(|&(voter, promised)| (key(voter), answer(promised))).collect();
        assert_eq!(choice(&voters, &answers), expect, "{said:?}");
    }

    #[test]
    fn what_may_have_been_decided_is_put_forward_again() {
        let bound = |child| Choice::Bound(Digest([child; 32]));
        check(3, &[(0, None)], Choice::Open);
        check(3, &[(0, None), (7, None)], Choice::Open);
        check(3, &[(0, None), (1, None)], Choice::Free);
        check(3, &[(0, None), (1, Some((1, 5)))], bound(5));
        check(3, &[(0, Some((2, 6))), (1, Some((1, 5)))], bound(6));
        // Who has no vote has no say.
        check(3, &[(0, None), (1, None), (7, Some((3, 8)))], Choice::Free);
        // Two children in one ballot: the third voter tells which one may have a majority.
        check(3, &[(0, Some((2, 6))), (1, Some((2, 5)))], Choice::Open);
        check(3, &[(0, Some((2, 6))), (1, Some((2, 5))), (2, Some((2, 5)))], bound(5));
        check(3, &[(0, Some((2, 6))), (1, Some((2, 5))), (2, None)], bound(6));
    }

    fn key(index: usize) -> PublicKey {
        PublicKey([u8::try_from(index).expect("few"); 32])
    }

    fn majority(voters: usize, said: &[usize]) -> bool {
        let voters: Vec<PublicKey> = (0..voters).map(key).collect();
        is_majority(&voters, &said.iter().map(|&index| key(index)).collect())
    }

    #[test]
    fn of_two_hosts_the_first_can_go_on_alone() {
        for (voters, said, expect) in [
            (0, &[][..], false),
            (1, &[], false),
            (1, &[0], true),
            (2, &[0], true),
            (2, &[1], false),
            (3, &[1], false),
            (3, &[1, 2], true),
            (4, &[0, 1], true),
            (4, &[1, 2], false),
            (4, &[1, 2, 3], true),
            // Who is no voter doesn't count.
            (3, &[0, 7, 8, 9], false),
        ] {
            assert_eq!(majority(voters, said), expect, "{said:?} of {voters}");
        }
    }

    #[test]
    fn two_majorities_have_a_host_in_common() {
        for voters in 1..=6 {
            let subsets = 0..1_usize << voters;
            let of = |bits: usize| (0..voters).filter(|i| bits >> i & 1 == 1).collect::<Vec<_>>();
            for a in subsets.clone().filter(|&a| majority(voters, &of(a))) {
                for b in subsets.clone().filter(|&b| majority(voters, &of(b))) {
                    assert_ne!(a & b, 0, "{voters} voters");
                }
            }
        }
    }
}
