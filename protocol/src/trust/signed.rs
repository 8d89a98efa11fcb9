//! Values with a signature, before and after it was verified.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::id::{Digest, PublicKey};

/// What a signature is for: signed with the bytes, so that a signature for one use can't serve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// A grant.
    Grant,
    /// A record that is replicated.
    Record,
    /// A request to one host.
    Request,
    /// A host's answer to a ballot.
    Ballot,
    /// A host's promise for one child of a revision.
    Promise,
    /// An owner's word on which key its guest has.
    Attestation,
    /// What a guest wants for itself.
    GuestRequest,
}

impl Domain {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Grant => b"mln grant 1\0",
            Self::Record => b"mln record 1\0",
            Self::Request => b"mln request 1\0",
            Self::Ballot => b"mln ballot 1\0",
            Self::Promise => b"mln promise 1\0",
            Self::Attestation => b"mln attestation 1\0",
            Self::GuestRequest => b"mln guest request 1\0",
        }
    }
}

/// A key that signs.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// Makes the key from its secret, 32 bytes from a good source of randomness.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    /// Returns the secret, to be kept in a file that only its owner can read.
    pub fn secret(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `payload` for one use.
    pub fn sign(&self, domain: Domain, payload: Vec<u8>) -> Signed {
        let signature = self.signature(&message(domain, &payload));
        Signed { author: self.public(), payload, signature }
    }

    #[cfg(not(feature = "memo"))]
    fn signature(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    #[cfg(feature = "memo")]
    fn signature(&self, message: &[u8]) -> [u8; 64] {
        super::memo::signature(self.public(), message, || self.0.sign(message).to_bytes())
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.public().short())
    }
}

/// Bytes with a signature that nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Who is said to have signed.
    pub author: PublicKey,
    /// What is signed, as it arrived: passed on byte for byte.
    pub payload: Vec<u8>,
    /// An ed25519 signature (RFC 8032).
    pub signature: [u8; 64],
}

impl Signed {
    /// Verifies the signature and decodes the payload with `decode`.
    pub fn verify<T, E>(
        self,
        domain: Domain,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Verified<T>, SignatureError<E>> {
        self.verify_signature(&message(domain, &self.payload))?;
        let value = decode(&self.payload).map_err(SignatureError::Payload)?;
        let digest = Digest::of(&self.payload);
        Ok(Verified { value, digest, signed: self })
    }

    #[cfg(not(feature = "memo"))]
    fn verify_signature<E>(&self, message: &[u8]) -> Result<(), SignatureError<E>> {
        self.compute(message)
    }

    /// A signature that was found right is not computed again; one that is wrong says each time what is wrong.
    #[cfg(feature = "memo")]
    fn verify_signature<E>(&self, message: &[u8]) -> Result<(), SignatureError<E>> {
        let mut computed = Ok(());
        super::memo::is_right(self.author, message, &self.signature, || {
            computed = self.compute(message);
            computed.is_ok()
        });
        computed
    }

    fn compute<E>(&self, message: &[u8]) -> Result<(), SignatureError<E>> {
        let key = VerifyingKey::from_bytes(&self.author.0).map_err(|_| SignatureError::Key)?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(message, &signature).map_err(|_| SignatureError::Signature)
    }
}

/// A mutation, for the simulator alone.
#[cfg(feature = "mutants")]
impl Signed {
    /// Decodes the payload, whoever has signed it.
    pub(crate) fn unverified<T, E>(
        self,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Verified<T>, E> {
        let value = decode(&self.payload)?;
        let digest = Digest::of(&self.payload);
        Ok(Verified { value, digest, signed: self })
    }
}

/// A value whose signature was verified: the only thing that may be acted on.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "memo"), derive(Debug))]
pub struct Verified<T> {
    value: T,
    digest: Digest,
    signed: Signed,
}

/// Its digest says it all, and is shown a thousand times as fast.
#[cfg(feature = "memo")]
impl<T> std::fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({} by {})", self.digest, self.signed.author.short())
    }
}

impl<T> Verified<T> {
    /// Signs a value of our own, which needs no further proof.
    pub fn own(keys: &KeyPair, domain: Domain, value: T, payload: Vec<u8>) -> Self {
        let digest = Digest::of(&payload);
        Self { value, digest, signed: keys.sign(domain, payload) }
    }

    /// Returns the same signed bytes under another type: what they say must be the same.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Verified<U> {
        Verified { value: f(self.value), digest: self.digest, signed: self.signed }
    }

    /// Returns who signed it.
    pub fn author(&self) -> PublicKey {
        self.signed.author
    }

    /// Returns the digest of the signed payload.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the signed bytes, to be stored or passed on.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why a signed value was not accepted. Nothing changed; the sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError<E> {
    /// The author is no ed25519 key.
    #[error("the author's key is not an ed25519 key")]
    Key,
    /// The signature does not belong to these bytes, this key and this use.
    #[error("the signature is wrong")]
    Signature,
    /// Signed, but not decodable.
    #[error("the signed bytes can't be read")]
    Payload(#[source] E),
}

fn message(domain: Domain, payload: &[u8]) -> Vec<u8> {
    let prefix = domain.prefix();
    let mut bytes = Vec::with_capacity(prefix.len() + payload.len());
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, std::convert::Infallible> {
        Ok(bytes.to_vec())
    }

    #[test]
    fn a_signature_serves_one_use_and_one_payload() {
        let keys = KeyPair::from_secret([7; 32]);
        let signed = keys.sign(Domain::Record, b"up".to_vec());
        assert_eq!(signed.clone().verify(Domain::Record, decode).map(|v| v.to_vec()), Ok(b"up".to_vec()));
        assert_eq!(signed.clone().verify(Domain::Request, decode), Err(SignatureError::Signature));
        let mut other = signed.clone();
        other.payload = b"down".to_vec();
        assert_eq!(other.verify(Domain::Record, decode), Err(SignatureError::Signature));
        let mut stolen = signed;
        stolen.author = KeyPair::from_secret([8; 32]).public();
        assert_eq!(stolen.verify(Domain::Record, decode), Err(SignatureError::Signature));
    }
}
