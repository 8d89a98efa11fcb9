//! S4: who has signed what, and who may, verified with nothing of the program that is being looked at: the words before what
//! is signed are those of the protocol's description, the mathematics is the library's, and chains of grants are followed
//! here as `mesh.md` says: "a chain up to a root key; each link only narrows".

use ed25519_dalek::{Signature, VerifyingKey};
use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::record::{ClaimBasis, Link, Record, VerifiedRecord};
use mln_protocol::trust::{Grant, Signed, Verb};

/// What stands before the bytes of a record, a request, a promise and a grant where they are signed.
const RECORD: &[u8] = b"mln record 1\0";
const REQUEST: &[u8] = b"mln request 1\0";
const PROMISE: &[u8] = b"mln promise 1\0";
const GRANT: &[u8] = b"mln grant 1\0";

/// What stands before the root key where a mesh is named.
const MESH: &[u8] = b"mln mesh 1\0";

/// Whether the author has signed exactly this, for this use.
pub(crate) fn is_signed(signed: &Signed, prefix: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&signed.author.0) else { return false };
    let message = [prefix, &signed.payload[..]].concat();
    key.verify_strict(&message, &Signature::from_bytes(&signed.signature)).is_ok()
}

/// Follows a chain of grants from the root key; returns what its last link says, none where it doesn't hold. Whether its
/// time is over was judged by whoever signed what it stands in.
fn follow(root: PublicKey, chain: &[Signed]) -> Option<Grant> {
    let mesh = Digest::of(&[MESH, &root.0].concat());
    let mut before: Option<Grant> = None;
    for link in chain {
        let grant = Grant::from_bytes(&link.payload).ok()?;
        let issuer = before.as_ref().map_or(root, |before| before.subject);
        let narrows = before
            .as_ref()
            .is_none_or(|before| grant.passes < before.passes && grant.verbs.is_subset(&before.verbs));
        if link.author != issuer || !is_signed(link, GRANT) || grant.mesh != mesh || !narrows {
            return None;
        }
        before = Some(grant);
    }
    before
}

/// Whether a record, and all that it holds of others as proof, was signed by whom it says, and by somebody who may.
pub(crate) fn is_genuine(record: &VerifiedRecord, root: PublicKey) -> bool {
    let author = record.author();
    let own = |chain: &[Signed]| follow(root, chain).filter(|grant| grant.subject == author);
    let within = match &***record {
        Record::Commit(commit) => {
            commit.reservations.iter().all(|reservation| is_signed(reservation.signed(), REQUEST))
                && commit.promises.iter().all(|promise| is_signed(promise.signed(), PROMISE))
        }
        Record::Member(member) => {
            own(&member.chain).is_some_and(|grant| grant.name.as_ref() == Some(&member.name))
        }
        Record::Grant(chain) => follow(root, chain).is_some(),
        // "The root key, and each holder of a grant on the way, may take back what follows from their signature."
        Record::Revocation(revocation) => {
            follow(root, &revocation.chain).is_some()
                && revocation.chain.iter().any(|link| link.author == author)
        }
        Record::Link(Link::Claim(claim)) => match &claim.basis {
            ClaimBasis::Release(release) => is_signed(release.signed(), RECORD),
            ClaimBasis::Declined(decline) => {
                is_signed(decline.signed(), RECORD) && is_signed(decline.release.signed(), RECORD)
            }
            ClaimBasis::Takeover(takeover) => {
                own(&takeover.chain).is_some_and(|grant| grant.verbs.contains(&Verb::Takeover))
            }
            ClaimBasis::Birth => true,
        },
        Record::Link(Link::Decline(decline)) => is_signed(decline.release.signed(), RECORD),
        Record::Link(Link::Release(_))
        | Record::Host(_)
        | Record::Vm(_)
        | Record::Gauges(_)
        | Record::Later(_) => true,
    };
    within && is_signed(record.signed(), RECORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::{Name, VmId};
    use mln_protocol::record::{Claim, Epoch, Takeover};
    use mln_protocol::trust::{Domain, KeyPair, Revocation, Scope};
    use mln_protocol::wire;

    use crate::host::root_key;

    fn keys(seed: u8) -> KeyPair {
        KeyPair::from_secret([seed; 32])
    }

    fn link(issuer: &KeyPair, subject: u8, verbs: &[Verb], passes: u8) -> Signed {
        let grant = Grant {
            mesh: Digest::of(&[MESH, &root_key().public().0].concat()),
            subject: keys(subject).public(),
            name: None,
            verbs: verbs.iter().copied().collect(),
            passes,
            not_after_unix_ms: None,
            scope: Scope::default(),
        };
        issuer.sign(Domain::Grant, grant.to_bytes())
    }

    fn takeover(author: u8, chain: Vec<Signed>) -> VerifiedRecord {
        let vm = VmId { birth: Digest([1; 32]), name: Name::parse("vm").expect("a name") };
        let takeover = Takeover { seen: None, copy: None, chain, author: String::new(), made_unix_ms: 0 };
        let claim = Claim { vm, epoch: Epoch { term: 2, n: 1 }, basis: ClaimBasis::Takeover(takeover) };
        wire::sign_record(&keys(author), Record::Link(Link::Claim(claim)))
    }

    #[test]
    fn a_takeover_is_as_good_as_the_grants_in_it() {
        let root = root_key();
        let all = [Verb::View, Verb::Takeover];
        let whole = link(&root, 50, &all, 2);
        let cases = [
            (50, vec![whole.clone()], true),
            (51, vec![whole.clone(), link(&keys(50), 51, &all, 1)], true),
            (50, vec![], false),
            (50, vec![link(&root, 50, &[Verb::View], 2)], false),
            (51, vec![whole.clone()], false),
            (51, vec![link(&keys(50), 51, &all, 1)], false),
            (51, vec![whole.clone(), link(&root, 51, &all, 1)], false),
            (51, vec![whole.clone(), link(&keys(50), 51, &all, 2)], false),
            (51, vec![link(&root, 50, &[Verb::View], 2), link(&keys(50), 51, &all, 1)], false),
            (50, vec![Signed { signature: [0; 64], ..whole }], false),
        ];
        for (case, (author, chain, expect)) in cases.into_iter().enumerate() {
            assert_eq!(is_genuine(&takeover(author, chain), root.public()), expect, "case {case}");
        }
    }

    #[test]
    fn only_those_on_the_way_to_a_grant_take_it_back() {
        let root = root_key();
        let chain = vec![link(&root, 50, &[Verb::View], 2), link(&keys(50), 51, &[Verb::View], 1)];
        let revoked = |by: &KeyPair| {
            let revocation = Revocation { chain: chain.clone(), made_unix_ms: 0, reason: String::new() };
            is_genuine(&wire::sign_record(by, Record::Revocation(revocation)), root.public())
        };
        assert!(revoked(&root) && revoked(&keys(50)));
        assert!(!revoked(&keys(51)) && !revoked(&keys(52)));
    }
}
