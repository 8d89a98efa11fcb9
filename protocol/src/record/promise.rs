//! What the hosts of a revision sign to decide on its one child.
//!
//! It is one Paxos decision (Lamport, "Paxos Made Simple", 2001) per parent: an [`Answered`] is what an acceptor
//! says in the first phase, a [`Promise`] is what it accepts in the second. Who votes, and how many are a
//! majority, follows from the parent alone: never from who is alive, reachable or still a member.

use std::collections::BTreeSet;

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

#[cfg(test)]
mod tests {
    use super::*;

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
