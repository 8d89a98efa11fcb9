//! Our keys as libp2p's, and back.

use libp2p::PeerId;
use libp2p::identity::{self, Keypair};
use mln_protocol::id::PublicKey;
use mln_protocol::trust::KeyPair;

/// What a libp2p peer id with an ed25519 key begins with: an identity multihash of 36 bytes, which are the
/// protobuf message of the key's type and its 32 bytes.
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Returns the key for libp2p.
pub fn keypair_of(keys: &KeyPair) -> Keypair {
    Keypair::ed25519_from_bytes(keys.secret())
        .expect("every 32 bytes are an ed25519 secret (RFC 8032, 5.1.5)")
}

/// Returns the peer id of a key, or none where its bytes are no key.
pub fn peer_id_of(key: PublicKey) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&key.0).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// Returns the key of a peer id, or none where it is not of an ed25519 key.
pub fn key_of(peer: &PeerId) -> Option<PublicKey> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&ED25519_PREFIX)?;
    Some(PublicKey(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_names_the_same_key() {
        let keys = KeyPair::from_secret([7; 32]);
        let peer = keypair_of(&keys).public().to_peer_id();
        assert_eq!(key_of(&peer), Some(keys.public()));
        assert_eq!(peer_id_of(keys.public()), Some(peer));
    }
}
