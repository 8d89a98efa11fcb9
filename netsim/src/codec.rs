//! The bytes between hosts: everything is encoded and decoded on its way, and what was verified once is remembered.

use std::collections::HashMap;

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::node::Message;
use mln_protocol::record::VerifiedRecord;
use mln_protocol::trust::Signed;
use mln_protocol::wire::{self, RecordError};

/// How many verified records are remembered before all are forgotten.
const INTERNED_MAX: usize = 1 << 18;

/// Whether it matters who has signed a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signatures {
    /// It does.
    Checked,
    /// It doesn't: a mutation.
    Ignored,
}

/// Turns bytes into values, each record once: all hosts share one copy, and its signature is verified once.
pub(crate) struct Codec {
    root: PublicKey,
    signatures: Signatures,
    /// Looked up only, never gone through: its order has no effect on the world.
    interned: HashMap<Digest, VerifiedRecord>,
    /// How many bytes direct messages had.
    pub(crate) bytes: u64,
}

impl Codec {
    pub(crate) fn new(root: PublicKey, signatures: Signatures) -> Self {
        Self { root, signatures, interned: HashMap::new(), bytes: 0 }
    }

    /// Verifies a record from its signed bytes, or remembers that it did.
    pub(crate) fn record(&mut self, signed: &Signed) -> Result<VerifiedRecord, RecordError> {
        record(&mut self.interned, self.root, self.signatures, signed)
    }

    /// Sends a message through its bytes; returns what arrives and the digest of the bytes.
    pub(crate) fn message(&mut self, message: &Message) -> Result<(Message, Digest), RecordError> {
        let bytes = wire::encode_message(message);
        self.bytes += bytes.len() as u64;
        Ok((self.decode(&bytes)?, Digest::of(&bytes)))
    }

    /// Decodes the bytes of a message.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Message, RecordError> {
        let (interned, root, signatures) = (&mut self.interned, self.root, self.signatures);
        wire::decode_message_with(bytes, |signed| record(interned, root, signatures, &signed))
    }
}

fn record(
    interned: &mut HashMap<Digest, VerifiedRecord>,
    root: PublicKey,
    signatures: Signatures,
    signed: &Signed,
) -> Result<VerifiedRecord, RecordError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&signed.author.0).update(&signed.signature).update(&signed.payload);
    let digest = Digest(*hasher.finalize().as_bytes());
    if let Some(known) = interned.get(&digest) {
        return Ok(known.clone());
    }
    let verified = match signatures {
        Signatures::Checked => wire::verify_record(signed.clone(), root)?,
        Signatures::Ignored => wire::trust_record(signed.clone(), root)?,
    };
    if interned.len() >= INTERNED_MAX {
        interned.clear();
    }
    interned.insert(digest, verified.clone());
    Ok(verified)
}
