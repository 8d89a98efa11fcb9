//! What the voters of a revision sign, as bytes.

use serde::{Deserialize, Serialize};

use super::record::RecordError;
use super::{DecodeError, decode, encode};
use crate::id::{Digest, PublicKey};
use crate::record::{Answered, Ballot, Promise};
use crate::trust::{Domain, KeyPair, SignatureError, Signed, Verified};

/// More than either of the shapes below takes, in bytes.
const VOTE_BYTES_MAX: usize = 256;

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct BallotWire {
    number: u64,
    coordinator: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct AnsweredWire {
    parent: [u8; 32],
    ballot: BallotWire,
    promised: Option<(BallotWire, [u8; 32])>,
}

#[derive(Serialize, Deserialize)]
struct PromiseWire {
    parent: [u8; 32],
    child: [u8; 32],
    ballot: BallotWire,
}

impl From<Ballot> for BallotWire {
    fn from(ballot: Ballot) -> Self {
        Self { number: ballot.number, coordinator: ballot.coordinator.0 }
    }
}

impl From<BallotWire> for Ballot {
    fn from(wire: BallotWire) -> Self {
        Self { number: wire.number, coordinator: PublicKey(wire.coordinator) }
    }
}

/// Signs an answer to a ballot.
pub fn sign_answered(keys: &KeyPair, answered: Answered) -> Verified<Answered> {
    let payload = encode(&AnsweredWire {
        parent: answered.parent.0,
        ballot: answered.ballot.into(),
        promised: answered.promised.map(|(ballot, child)| (ballot.into(), child.0)),
    });
    Verified::own(keys, Domain::Ballot, answered, payload)
}

/// Verifies an answer to a ballot.
pub fn verify_answered(signed: Signed) -> Result<Verified<Answered>, RecordError> {
    let read = |bytes: &[u8]| {
        decode::<AnsweredWire>(bytes, VOTE_BYTES_MAX).map(|wire| Answered {
            parent: Digest(wire.parent),
            ballot: wire.ballot.into(),
            promised: wire.promised.map(|(ballot, child)| (ballot.into(), Digest(child))),
        })
    };
    signed.verify(Domain::Ballot, read).map_err(fault)
}

/// Signs a promise.
pub fn sign_promise(keys: &KeyPair, promise: Promise) -> Verified<Promise> {
    Verified::own(keys, Domain::Promise, promise, encode_promise(promise))
}

/// Verifies a promise.
pub fn verify_promise(signed: Signed) -> Result<Verified<Promise>, RecordError> {
    let read = |bytes: &[u8]| {
        decode::<PromiseWire>(bytes, VOTE_BYTES_MAX).map(|wire| Promise {
            parent: Digest(wire.parent),
            child: Digest(wire.child),
            ballot: wire.ballot.into(),
        })
    };
    signed.verify(Domain::Promise, read).map_err(fault)
}

/// Encodes a promise, as it is signed.
pub(super) fn encode_promise(promise: Promise) -> Vec<u8> {
    encode(&PromiseWire { parent: promise.parent.0, child: promise.child.0, ballot: promise.ballot.into() })
}

fn fault(error: SignatureError<DecodeError>) -> RecordError {
    match error {
        SignatureError::Payload(error) => RecordError::Decode(error),
        SignatureError::Key | SignatureError::Signature => RecordError::Signature,
    }
}
