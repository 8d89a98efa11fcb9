//! S4: who has signed what, verified with nothing of the program that is being looked at: the words before what is signed
//! are those of the protocol's description, and the mathematics is the library's.

use ed25519_dalek::{Signature, VerifyingKey};
use mln_protocol::record::{ClaimBasis, Link, Record, VerifiedRecord};
use mln_protocol::trust::Signed;

/// What stands before the bytes of a record, a request, a promise and a grant where they are signed.
const RECORD: &[u8] = b"mln record 1\0";
const REQUEST: &[u8] = b"mln request 1\0";
const PROMISE: &[u8] = b"mln promise 1\0";
const GRANT: &[u8] = b"mln grant 1\0";

/// Whether the author has signed exactly this, for this use.
fn is_signed(signed: &Signed, prefix: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&signed.author.0) else { return false };
    let message = [prefix, &signed.payload[..]].concat();
    key.verify_strict(&message, &Signature::from_bytes(&signed.signature)).is_ok()
}

/// Whether a record, and all that it holds of others as proof, was signed by whom it says.
pub(crate) fn is_genuine(record: &VerifiedRecord) -> bool {
    let within = match &***record {
        Record::Commit(commit) => {
            commit.reservations.iter().all(|reservation| is_signed(reservation.signed(), REQUEST))
                && commit.promises.iter().all(|promise| is_signed(promise.signed(), PROMISE))
        }
        Record::Member(member) => member.chain.iter().all(|link| is_signed(link, GRANT)),
        Record::Grant(chain) => chain.iter().all(|link| is_signed(link, GRANT)),
        Record::Link(Link::Claim(claim)) => match &claim.basis {
            ClaimBasis::Release(release) => is_signed(release.signed(), RECORD),
            ClaimBasis::Declined(decline) => {
                is_signed(decline.signed(), RECORD) && is_signed(decline.release.signed(), RECORD)
            }
            ClaimBasis::Birth | ClaimBasis::Takeover(_) => true,
        },
        Record::Link(Link::Decline(decline)) => is_signed(decline.release.signed(), RECORD),
        Record::Link(Link::Release(_))
        | Record::Host(_)
        | Record::Vm(_)
        | Record::Revocation(_)
        | Record::Later(_) => true,
    };
    within && is_signed(record.signed(), RECORD)
}
