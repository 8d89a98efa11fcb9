//! Signed values and grants, as bytes.

use serde::{Deserialize, Serialize};

use super::{DecodeError, RECORD_BYTES_MAX, decode, encode};
use crate::id::{Digest, Name, PublicKey};
use crate::trust::{Grant, Signed, Verb};

/// Something signed: the payload's bytes are kept as they arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignedWire {
    author: [u8; 32],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl From<&Signed> for SignedWire {
    fn from(signed: &Signed) -> Self {
        Self {
            author: signed.author.0,
            payload: signed.payload.clone(),
            signature: signed.signature.to_vec(),
        }
    }
}

impl TryFrom<SignedWire> for Signed {
    type Error = DecodeError;

    fn try_from(wire: SignedWire) -> Result<Self, DecodeError> {
        if wire.payload.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::TooLong { bytes: wire.payload.len(), limit: RECORD_BYTES_MAX });
        }
        let signature =
            wire.signature.try_into().map_err(|_| DecodeError::Invalid { what: "signature length" })?;
        Ok(Self { author: PublicKey(wire.author), payload: wire.payload, signature })
    }
}

/// The payload of a grant.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrantWire {
    mesh: [u8; 32],
    subject: [u8; 32],
    name: Option<String>,
    verbs: u32,
    passes: u8,
    not_after_unix_ms: Option<u64>,
}

impl Grant {
    /// Encodes the grant, as it is signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&GrantWire {
            mesh: self.mesh.0,
            subject: self.subject.0,
            name: self.name.as_ref().map(|n| n.as_str().to_owned()),
            verbs: self.verbs.iter().fold(0, |bits, verb| bits | verb.bit()),
            passes: self.passes,
            not_after_unix_ms: self.not_after_unix_ms,
        })
    }

    /// Decodes a grant.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: GrantWire = decode(bytes, 1024)?;
        let verbs: std::collections::BTreeSet<Verb> =
            Verb::ALL.into_iter().filter(|verb| wire.verbs & verb.bit() != 0).collect();
        let known = verbs.iter().fold(0, |bits, verb| bits | verb.bit());
        if known != wire.verbs {
            return Err(DecodeError::Unknown { what: "verb", found: wire.verbs & !known });
        }
        let name = wire.name.map(|n| Name::parse(&n)).transpose();
        Ok(Self {
            mesh: Digest(wire.mesh),
            subject: PublicKey(wire.subject),
            name: name.map_err(|_| DecodeError::Invalid { what: "name" })?,
            verbs,
            passes: wire.passes,
            not_after_unix_ms: wire.not_after_unix_ms,
        })
    }
}

impl Signed {
    /// Encodes a signed value.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&SignedWire::from(self))
    }

    /// Decodes a signed value; its signature is not verified by this.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode::<SignedWire>(bytes, RECORD_BYTES_MAX + 256)?.try_into()
    }
}

/// Encodes a chain of grants, root first.
pub fn encode_chain(chain: &[Signed]) -> Vec<u8> {
    encode(&chain.iter().map(SignedWire::from).collect::<Vec<_>>())
}

/// Decodes a chain of grants, root first; its length is checked, its signatures are not.
pub fn decode_chain(bytes: &[u8]) -> Result<Vec<Signed>, DecodeError> {
    let links: Vec<SignedWire> = decode(bytes, 16 << 10)?;
    if links.len() > crate::trust::CHAIN_LINKS_MAX {
        return Err(DecodeError::TooLong { bytes: links.len(), limit: crate::trust::CHAIN_LINKS_MAX });
    }
    links.into_iter().map(Signed::try_from).collect()
}
