//! Taking a grant back: a signed statement by somebody who signed it, or a grant that it follows from.
//!
//! It is replicated like any record and kept for ever. A host that has it refuses whoever presents a chain with that
//! grant in it; it is never a reason to drop a record or not to pass one on.

use super::grant::{AdmitError, Grant, Standing, admit};
use super::signed::Signed;
use crate::id::{Digest, PublicKey};
use crate::time::Now;

/// A grant is no longer good, nor is any that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The chain, root first, that ends in the grant.
    pub chain: Vec<Signed>,
    /// When it was made, by its author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Why, for people.
    pub reason: String,
}

/// Why a revocation counts for nothing. Nothing changed; the author is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// The chain doesn't hold, so there is nothing to be taken back.
    #[error("the chain that it revokes does not hold")]
    Chain(#[source] AdmitError),
    /// Somebody who signed no link of it.
    #[error("only whoever signed a grant of the chain can revoke it")]
    Author,
}

impl Revocation {
    /// Returns the digest of the grant that is taken back.
    pub fn grant(&self) -> Digest {
        self.chain.last().map_or(Digest([0; 32]), |link| Digest::of(&link.payload))
    }

    /// Judges it by itself, whatever the time: the root key, and each holder of a grant on the way, may take back what
    /// follows from their signature.
    pub fn judge(&self, root: PublicKey, author: PublicKey) -> Result<Standing, RevocationError> {
        let standing = standing_of(root, &self.chain).map_err(RevocationError::Chain)?;
        let issued = standing.links.iter().any(|link| link.issuer == author);
        if issued { Ok(standing) } else { Err(RevocationError::Author) }
    }
}

/// Judges a chain that nobody presents, without looking at the time: whose it is, it says itself.
pub fn standing_of(root: PublicKey, chain: &[Signed]) -> Result<Standing, AdmitError> {
    let last = chain.last().ok_or(AdmitError::Empty)?;
    let grant = Grant::from_bytes(&last.payload).map_err(|_| AdmitError::Forged { link: chain.len() })?;
    admit(root, chain, grant.subject, Now { mono_ms: 0, unix_ms: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Domain, KeyPair, Scope, Verb, mesh_of};

    fn keys(seed: u8) -> KeyPair {
        KeyPair::from_secret([seed; 32])
    }

    fn link(issuer: u8, subject: u8, passes: u8) -> Signed {
        let grant = Grant {
            mesh: mesh_of(keys(0).public()),
            subject: keys(subject).public(),
            name: None,
            verbs: [Verb::View].into(),
            passes,
            not_after_unix_ms: Some(1),
            scope: Scope::default(),
        };
        keys(issuer).sign(Domain::Grant, grant.to_bytes())
    }

    #[test]
    fn only_those_on_the_way_to_a_grant_take_it_back() {
        let chain = [link(0, 1, 3), link(1, 2, 2), link(2, 3, 1)];
        let revocation = |links: usize| Revocation {
            chain: chain[..links].to_vec(),
            made_unix_ms: 9,
            reason: String::new(),
        };
        for (links, author, expect) in [
            (3, 0, true),
            (3, 1, true),
            (3, 2, true),
            (3, 3, false),
            (2, 2, false),
            (2, 1, true),
            (1, 0, true),
            (1, 1, false),
            (3, 7, false),
        ] {
            let judged = revocation(links).judge(keys(0).public(), keys(author).public());
            assert_eq!(judged.is_ok(), expect, "{links} links, by {author}");
        }
        assert_eq!(revocation(2).grant(), Digest::of(&chain[1].payload));
        let mut forged = revocation(3);
        forged.chain[1].signature[0] ^= 1;
        assert!(matches!(
            forged.judge(keys(0).public(), keys(0).public()),
            Err(RevocationError::Chain(AdmitError::Forged { link: 2 }))
        ));
        assert!(revocation(0).judge(keys(0).public(), keys(0).public()).is_err());
        assert!(revocation(1).judge(keys(1).public(), keys(0).public()).is_err(), "another mesh");
    }

    #[test]
    fn a_chain_is_refused_with_the_first_link_that_was_revoked() {
        let chain = [link(0, 1, 3), link(1, 2, 2), link(2, 3, 1)];
        let standing = standing_of(keys(0).public(), &chain).expect("a chain of three links");
        let digest = |index: usize| Digest::of(&chain[index].payload);
        assert_eq!(standing.not_revoked(|_| false), Ok(()));
        for index in 0..3 {
            let revoked = standing.not_revoked(|grant| grant == digest(index));
            assert_eq!(revoked, Err(AdmitError::Revoked { link: index + 1 }));
        }
    }
}
