//! `/mln/hello/1`: the first stream of a connection, in which two peers show who they are.
//!
//! ```text
//! dialler                          listener
//!    | -------- Greeting ------------> |  judges the chain
//!    | <------- Welcome -------------- |  (or Refused)
//!    |  judges the chain; from here on it serves the listener
//!    | -------- Confirm -------------> |  from here on it serves the dialler
//!    | <------- Ready ---------------- |
//! ```
//! So neither asks the other for anything before the other serves it, and what a peer knows of others is told
//! only to those whose chain was judged.

use serde::{Deserialize, Serialize};

use super::{DecodeError, Refusal, SignedWire, decode, encode};
use crate::id::PublicKey;
use crate::trust::{CHAIN_LINKS_MAX, Signed};

/// The version of these messages: the first two bytes of each.
pub const HELLO_VERSION: u16 = 1;

/// The longest message of a hello, in bytes.
pub const HELLO_BYTES_MAX: usize = 512 << 10;

/// How many peers one side tells the other about.
pub const HELLO_PEERS_MAX: usize = 256;

/// How many addresses are told for each.
pub const HELLO_ADDRESSES_MAX: usize = 8;

/// The longest address, in bytes of its text.
pub const ADDRESS_BYTES_MAX: usize = 200;

/// The longest name of a program's version, in bytes.
pub const AGENT_VERSION_BYTES_MAX: usize = 64;

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its program and version, for people.
    pub agent: String,
    /// A random number that is new at each start of the program.
    pub instance: u64,
    /// Its chain of grants, root first; not judged by decoding.
    pub chain: Vec<Signed>,
}

/// A peer and where it was reached; the addresses are multiaddrs as text, not parsed by decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddresses {
    /// The peer.
    pub key: PublicKey,
    /// Its addresses, the best first.
    pub addresses: Vec<String>,
}

/// What a peer tells another one that it has admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Where it listens.
    pub listen: Vec<String>,
    /// Which other members it knows.
    pub peers: Vec<PeerAddresses>,
}

/// One message of a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloMessage {
    /// The dialler's first.
    Greeting(Greeting),
    /// The listener has admitted the dialler.
    Welcome(Greeting, Introduction),
    /// The dialler has admitted the listener and serves it now.
    Confirm(Introduction),
    /// The listener serves the dialler now.
    Ready,
    /// Either side ends the hello.
    Refused(Refusal),
}

#[derive(Serialize, Deserialize)]
enum HelloWire {
    Greeting(GreetingWire),
    Welcome(GreetingWire, IntroductionWire),
    Confirm(IntroductionWire),
    Ready,
    Refused(u16),
}

#[derive(Serialize, Deserialize)]
struct GreetingWire {
    agent: String,
    instance: u64,
    chain: Vec<SignedWire>,
}

#[derive(Serialize, Deserialize)]
struct IntroductionWire {
    listen: Vec<String>,
    peers: Vec<PeerAddressesWire>,
}

/// A peer and its addresses, as bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PeerAddressesWire {
    key: [u8; 32],
    addresses: Vec<String>,
}

impl HelloMessage {
    /// Encodes the message, its version first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = match self {
            Self::Greeting(greeting) => HelloWire::Greeting(greeting.into()),
            Self::Welcome(greeting, known) => HelloWire::Welcome(greeting.into(), known.into()),
            Self::Confirm(known) => HelloWire::Confirm(known.into()),
            Self::Ready => HelloWire::Ready,
            Self::Refused(why) => HelloWire::Refused(why.code()),
        };
        versioned(HELLO_VERSION, &wire)
    }

    /// Decodes a message and checks every limit in it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match decode_versioned(bytes, HELLO_VERSION, HELLO_BYTES_MAX)? {
            HelloWire::Greeting(greeting) => Self::Greeting(greeting.try_into()?),
            HelloWire::Welcome(greeting, known) => Self::Welcome(greeting.try_into()?, known.try_into()?),
            HelloWire::Confirm(known) => Self::Confirm(known.try_into()?),
            HelloWire::Ready => Self::Ready,
            HelloWire::Refused(code) => Self::Refused(Refusal::from_code(code)),
        })
    }
}

/// Encodes a value behind its version, so that another version is recognised before anything else is read.
pub(super) fn versioned<T: Serialize>(version: u16, value: &T) -> Vec<u8> {
    let mut bytes = version.to_le_bytes().to_vec();
    bytes.extend_from_slice(&encode(value));
    bytes
}

/// Decodes what [`versioned`] made.
pub(super) fn decode_versioned<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    version: u16,
    limit: usize,
) -> Result<T, DecodeError> {
    let Some((found, rest)) = bytes.split_first_chunk::<2>() else { return Err(DecodeError::Malformed) };
    let found = u16::from_le_bytes(*found);
    if found != version {
        return Err(DecodeError::Unknown { what: "version", found: found.into() });
    }
    decode(rest, limit)
}

/// Decodes the links of a chain, which are at most [`CHAIN_LINKS_MAX`].
pub(super) fn chain_of(links: Vec<SignedWire>) -> Result<Vec<Signed>, DecodeError> {
    at_most(links.len(), CHAIN_LINKS_MAX)?;
    links.into_iter().map(Signed::try_from).collect()
}

/// Checks addresses of one peer against their limits.
pub(super) fn addresses_of(addresses: Vec<String>) -> Result<Vec<String>, DecodeError> {
    at_most(addresses.len(), HELLO_ADDRESSES_MAX)?;
    for address in &addresses {
        at_most(address.len(), ADDRESS_BYTES_MAX)?;
    }
    Ok(addresses)
}

/// Refuses a length beyond its limit.
pub(super) fn at_most(length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit { Err(DecodeError::TooLong { bytes: length, limit }) } else { Ok(()) }
}

impl From<&Greeting> for GreetingWire {
    fn from(greeting: &Greeting) -> Self {
        Self {
            agent: greeting.agent.clone(),
            instance: greeting.instance,
            chain: greeting.chain.iter().map(SignedWire::from).collect(),
        }
    }
}

impl TryFrom<GreetingWire> for Greeting {
    type Error = DecodeError;

    fn try_from(wire: GreetingWire) -> Result<Self, DecodeError> {
        at_most(wire.agent.len(), AGENT_VERSION_BYTES_MAX)?;
        if wire.agent.chars().any(char::is_control) {
            return Err(DecodeError::Invalid { what: "agent version" });
        }
        Ok(Self { agent: wire.agent, instance: wire.instance, chain: chain_of(wire.chain)? })
    }
}

impl From<&PeerAddresses> for PeerAddressesWire {
    fn from(peer: &PeerAddresses) -> Self {
        Self { key: peer.key.0, addresses: peer.addresses.clone() }
    }
}

impl TryFrom<PeerAddressesWire> for PeerAddresses {
    type Error = DecodeError;

    fn try_from(wire: PeerAddressesWire) -> Result<Self, DecodeError> {
        Ok(Self { key: PublicKey(wire.key), addresses: addresses_of(wire.addresses)? })
    }
}

impl From<&Introduction> for IntroductionWire {
    fn from(known: &Introduction) -> Self {
        Self {
            listen: known.listen.clone(),
            peers: known.peers.iter().map(PeerAddressesWire::from).collect(),
        }
    }
}

impl TryFrom<IntroductionWire> for Introduction {
    type Error = DecodeError;

    fn try_from(wire: IntroductionWire) -> Result<Self, DecodeError> {
        at_most(wire.peers.len(), HELLO_PEERS_MAX)?;
        let peers = wire.peers.into_iter().map(PeerAddresses::try_from).collect::<Result<_, _>>()?;
        Ok(Self { listen: addresses_of(wire.listen)?, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Domain, KeyPair};

    fn greeting() -> Greeting {
        let keys = KeyPair::from_secret([1; 32]);
        Greeting {
            agent: "mlnd 0.1.0".into(),
            instance: 7,
            chain: vec![keys.sign(Domain::Grant, vec![1, 2])],
        }
    }

    fn introduction() -> Introduction {
        let peer = PeerAddresses { key: PublicKey([3; 32]), addresses: vec!["/ip4/10.0.0.1/tcp/1".into()] };
        Introduction { listen: vec!["/ip4/10.0.0.2/tcp/1".into()], peers: vec![peer] }
    }

    #[test]
    fn messages_come_back_as_they_were() {
        for message in [
            HelloMessage::Greeting(greeting()),
            HelloMessage::Welcome(greeting(), introduction()),
            HelloMessage::Confirm(Introduction::default()),
            HelloMessage::Ready,
            HelloMessage::Refused(Refusal::Expired),
        ] {
            assert_eq!(HelloMessage::from_bytes(&message.to_bytes()), Ok(message));
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        let hex = |message: HelloMessage| crate::id::hex(&message.to_bytes());
        assert_eq!(hex(HelloMessage::Ready), "010003000000");
        assert_eq!(hex(HelloMessage::Refused(Refusal::Expired)), "0100040000000700");
        let nobody = Greeting { agent: "m".into(), instance: 2, chain: vec![] };
        assert_eq!(
            hex(HelloMessage::Greeting(nobody)),
            "01000000000001000000000000006d02000000000000000000000000000000"
        );
    }

    #[test]
    fn another_version_and_what_is_over_a_limit_are_refused() {
        let mut bytes = HelloMessage::Ready.to_bytes();
        bytes[0] = 9;
        assert_eq!(HelloMessage::from_bytes(&bytes), Err(DecodeError::Unknown { what: "version", found: 9 }));
        assert_eq!(HelloMessage::from_bytes(&[1]), Err(DecodeError::Malformed));
        let mut known = introduction();
        known.listen = vec![String::new(); HELLO_ADDRESSES_MAX + 1];
        let bytes = HelloMessage::Confirm(known).to_bytes();
        assert!(matches!(HelloMessage::from_bytes(&bytes), Err(DecodeError::TooLong { .. })));
        let loud = Greeting { agent: "\x1b[31m".into(), ..greeting() };
        let bytes = HelloMessage::Greeting(loud).to_bytes();
        assert_eq!(HelloMessage::from_bytes(&bytes), Err(DecodeError::Invalid { what: "agent version" }));
    }
}
