//! `/mln/join/1`: a new host shows a token and receives its own grant.
//!
//! ```text
//! new host                         introducer
//!    | -------- Open ----------------> |
//!    | <------- Challenge ------------ |  a nonce
//!    | -------- Claim ---------------> |  signed with the token's key; judged by the introducer's clock
//!    | <------- Granted -------------- |  (or Refused)
//! ```

use serde::{Deserialize, Serialize};

use super::hello::{PeerAddressesWire, at_most, chain_of, decode_versioned, versioned};
use super::{DecodeError, HELLO_PEERS_MAX, PeerAddresses, Refusal, SignedWire, decode, encode};
use crate::id::{Digest, Name, PublicKey};
use crate::trust::Signed;

/// The version of these messages: the first two bytes of each.
pub const JOIN_VERSION: u16 = 1;

/// The longest message of a join, in bytes.
pub const JOIN_BYTES_MAX: usize = 512 << 10;

/// What the token's key signs (as a request): that this key wants to be this host of this mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinClaim {
    /// The mesh.
    pub mesh: Digest,
    /// The new host's own key, which is also the one of the connection.
    pub host: PublicKey,
    /// The name that it wants.
    pub name: Name,
    /// The introducer's challenge.
    pub nonce: [u8; 32],
}

/// One message of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinMessage {
    /// The new host's first.
    Open,
    /// A random number that the claim has to hold.
    Challenge([u8; 32]),
    /// A signed [`JoinClaim`], and the chain that ends in the key which signed it.
    Claim {
        /// The claim; not verified by decoding.
        claim: Signed,
        /// The token's chain of grants, root first; not judged by decoding.
        chain: Vec<Signed>,
    },
    /// The new host's chain of grants, and members that it can connect to.
    Granted {
        /// Root first.
        chain: Vec<Signed>,
        /// The introducer first.
        known: Vec<PeerAddresses>,
    },
    /// Either side ends it.
    Refused(Refusal),
}

#[derive(Serialize, Deserialize)]
struct ClaimWire {
    mesh: [u8; 32],
    host: [u8; 32],
    name: String,
    nonce: [u8; 32],
}

#[derive(Serialize, Deserialize)]
enum JoinWire {
    Open,
    Challenge([u8; 32]),
    Claim(SignedWire, Vec<SignedWire>),
    Granted(Vec<SignedWire>, Vec<PeerAddressesWire>),
    Refused(u16),
}

impl JoinClaim {
    /// Encodes the claim, as it is signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&ClaimWire {
            mesh: self.mesh.0,
            host: self.host.0,
            name: self.name.as_str().to_owned(),
            nonce: self.nonce,
        })
    }

    /// Decodes a claim.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: ClaimWire = decode(bytes, 512)?;
        let name = Name::parse(&wire.name).map_err(|_| DecodeError::Invalid { what: "name" })?;
        Ok(Self { mesh: Digest(wire.mesh), host: PublicKey(wire.host), name, nonce: wire.nonce })
    }
}

impl JoinMessage {
    /// Encodes the message, its version first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let links = |chain: &[Signed]| chain.iter().map(SignedWire::from).collect();
        let wire = match self {
            Self::Open => JoinWire::Open,
            Self::Challenge(nonce) => JoinWire::Challenge(*nonce),
            Self::Claim { claim, chain } => JoinWire::Claim(claim.into(), links(chain)),
            Self::Granted { chain, known } => {
                JoinWire::Granted(links(chain), known.iter().map(PeerAddressesWire::from).collect())
            }
            Self::Refused(why) => JoinWire::Refused(why.code()),
        };
        versioned(JOIN_VERSION, &wire)
    }

    /// Decodes a message and checks every limit in it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match decode_versioned(bytes, JOIN_VERSION, JOIN_BYTES_MAX)? {
            JoinWire::Open => Self::Open,
            JoinWire::Challenge(nonce) => Self::Challenge(nonce),
            JoinWire::Claim(claim, chain) => {
                Self::Claim { claim: claim.try_into()?, chain: chain_of(chain)? }
            }
            JoinWire::Granted(chain, known) => {
                at_most(known.len(), HELLO_PEERS_MAX + 1)?;
                let known = known.into_iter().map(PeerAddresses::try_from).collect::<Result<_, _>>()?;
                Self::Granted { chain: chain_of(chain)?, known }
            }
            JoinWire::Refused(code) => Self::Refused(Refusal::from_code(code)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Domain, KeyPair};

    #[test]
    fn messages_come_back_as_they_were() {
        let keys = KeyPair::from_secret([1; 32]);
        let claim = JoinClaim {
            mesh: Digest::of(b"m"),
            host: keys.public(),
            name: Name::parse("h1").expect("a valid name"),
            nonce: [4; 32],
        };
        assert_eq!(JoinClaim::from_bytes(&claim.to_bytes()), Ok(claim.clone()));
        let signed = keys.sign(Domain::Request, claim.to_bytes());
        let known = vec![PeerAddresses { key: keys.public(), addresses: vec!["/ip4/10.0.0.1/tcp/1".into()] }];
        for message in [
            JoinMessage::Open,
            JoinMessage::Challenge([9; 32]),
            JoinMessage::Claim { claim: signed.clone(), chain: vec![signed.clone()] },
            JoinMessage::Granted { chain: vec![signed], known },
            JoinMessage::Refused(Refusal::NameTaken),
        ] {
            assert_eq!(JoinMessage::from_bytes(&message.to_bytes()), Ok(message));
        }
        assert_eq!(crate::id::hex(&JoinMessage::Refused(Refusal::NameTaken).to_bytes()), "0100040000000d00");
        assert_eq!(
            JoinMessage::from_bytes(b"garbage!"),
            Err(DecodeError::Unknown { what: "version", found: 24935 })
        );
    }
}
