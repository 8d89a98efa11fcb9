//! What the voters of a revision sign, and what each of them notes, as bytes.

use serde::{Deserialize, Serialize};

use super::commit::{CommitWire, decode_commit};
use super::record::RecordError;
use super::{DecodeError, RECORD_BYTES_MAX, decode, encode};
use crate::id::{Digest, PublicKey};
use crate::node::DecisionNote;
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

/// The version of a note on the disk: its first two bytes.
const NOTE_VERSION: u16 = 1;

/// How long a note may be, in bytes: a candidate with all signatures, and the parts that were reserved for.
const NOTE_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

#[derive(Serialize, Deserialize)]
struct NoteWire {
    version: u16,
    parent: [u8; 32],
    answered: Option<BallotWire>,
    promised: Option<(BallotWire, CommitWire)>,
    coordinated: u64,
    reserved: Vec<([u8; 32], [u8; 32])>,
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

/// Encodes what a host has said about a revision, for its own disk.
pub fn encode_decision_note(note: &DecisionNote) -> Vec<u8> {
    encode(&NoteWire {
        version: NOTE_VERSION,
        parent: note.parent.0,
        answered: note.answered.map(BallotWire::from),
        promised: note.promised.as_ref().map(|(ballot, child)| ((*ballot).into(), child.into())),
        coordinated: note.coordinated,
        reserved: note.reserved.iter().map(|(child, part)| (child.0, part.0)).collect(),
    })
}

/// Decodes what a host has said about a revision; the signatures in it are verified again.
pub fn decode_decision_note(bytes: &[u8]) -> Result<DecisionNote, RecordError> {
    let wire: NoteWire = decode(bytes, NOTE_BYTES_MAX)?;
    if wire.version != NOTE_VERSION {
        let what = "version of a note about a decision";
        return Err(DecodeError::Unknown { what, found: wire.version.into() }.into());
    }
    let promised = |(ballot, child): (BallotWire, CommitWire)| {
        Ok::<_, RecordError>((ballot.into(), decode_commit(child)?))
    };
    Ok(DecisionNote {
        parent: Digest(wire.parent),
        answered: wire.answered.map(Ballot::from),
        promised: wire.promised.map(promised).transpose()?,
        coordinated: wire.coordinated,
        reserved: wire.reserved.into_iter().map(|(child, part)| (Digest(child), Digest(part))).collect(),
    })
}

fn fault(error: SignatureError<DecodeError>) -> RecordError {
    match error {
        SignatureError::Payload(error) => RecordError::Decode(error),
        SignatureError::Key | SignatureError::Signature => RecordError::Signature,
    }
}
