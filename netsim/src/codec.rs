//! The bytes between hosts: everything is encoded and decoded on its way, and what was verified once is remembered.

use std::collections::HashMap;

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::node::{Message, Mutation};
use mln_protocol::record::{Claim, ClaimBasis, Link, Record, VerifiedRecord};
use mln_protocol::trust::Signed;
use mln_protocol::wire::{self, RecordError};

/// How many verified records are remembered before all are forgotten.
const INTERNED_MAX: usize = 1 << 18;

/// What is verified of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Who has signed it, and that they may.
    Whole,
    /// A mutation: not who has signed it.
    Unsigned,
    /// A mutation: not whether a takeover was granted.
    UngrantedTakeovers,
    /// A mutation: not whether a grant was taken back by somebody who may.
    AnybodyRevokes,
}

impl Proof {
    /// Returns what is verified with a mutation, or without one.
    pub(crate) fn with(mutation: Option<Mutation>) -> Self {
        match mutation {
            Some(Mutation::UnsignedAccepted) => Self::Unsigned,
            Some(Mutation::TakeoverUngranted) => Self::UngrantedTakeovers,
            Some(Mutation::RevocationByAnybody) => Self::AnybodyRevokes,
            Some(_) | None => Self::Whole,
        }
    }

    fn verify(self, signed: &Signed, root: PublicKey) -> Result<VerifiedRecord, RecordError> {
        if self == Self::Unsigned {
            return wire::trust_record(signed.clone(), root);
        }
        let is_believed = |record: &Record| match record {
            Record::Revocation(_) => self == Self::AnybodyRevokes,
            Record::Link(Link::Claim(Claim { basis: ClaimBasis::Takeover(_), .. })) => {
                self == Self::UngrantedTakeovers
            }
            _ => false,
        };
        wire::verify_record(signed.clone(), root).or_else(|error| {
            let unproven = wire::unproven_record(signed.clone()).ok();
            unproven.filter(|record| is_believed(record)).ok_or(error)
        })
    }
}

/// Turns bytes into values, each record once: all hosts share one copy, and its signature is verified once.
pub(crate) struct Codec {
    root: PublicKey,
    proof: Proof,
    /// Looked up only, never gone through: its order has no effect on the world.
    interned: HashMap<Digest, VerifiedRecord>,
    /// How many bytes direct messages had.
    pub(crate) bytes: u64,
}

impl Codec {
    pub(crate) fn new(root: PublicKey, proof: Proof) -> Self {
        Self { root, proof, interned: HashMap::new(), bytes: 0 }
    }

    /// Verifies a record from its signed bytes, or remembers that it did.
    pub(crate) fn record(&mut self, signed: &Signed) -> Result<VerifiedRecord, RecordError> {
        record(&mut self.interned, self.root, self.proof, signed)
    }

    /// Sends a message through its bytes; returns what arrives and the digest of the bytes.
    pub(crate) fn message(&mut self, message: &Message) -> Result<(Message, Digest), RecordError> {
        let bytes = wire::encode_message(message);
        self.bytes += bytes.len() as u64;
        Ok((self.decode(&bytes)?, Digest::of(&bytes)))
    }

    /// Decodes the bytes of a message.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Message, RecordError> {
        let (interned, root, proof) = (&mut self.interned, self.root, self.proof);
        wire::decode_message_with(bytes, |signed| record(interned, root, proof, &signed))
    }
}

fn record(
    interned: &mut HashMap<Digest, VerifiedRecord>,
    root: PublicKey,
    proof: Proof,
    signed: &Signed,
) -> Result<VerifiedRecord, RecordError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&signed.author.0).update(&signed.signature).update(&signed.payload);
    let digest = Digest(*hasher.finalize().as_bytes());
    if let Some(known) = interned.get(&digest) {
        return Ok(known.clone());
    }
    let verified = proof.verify(signed, root)?;
    if interned.len() >= INTERNED_MAX {
        interned.clear();
    }
    interned.insert(digest, verified.clone());
    Ok(verified)
}
