//! Records that this program can't read, mostly of kinds that it doesn't know, as bytes: a head that all of them share, and what
//! follows it.

use super::encode;
use super::record::{FIRST_HEADED_KIND, VERSION};
use crate::record::Later;

/// The largest record of an unknown kind that is kept, in bytes.
pub const LATER_BYTES_MAX: usize = 16 << 10;

/// Version, kind, slot and counter.
const HEAD_BYTES: usize = 2 + 4 + 32 + 8;

/// Encodes a record of a kind that only its author knows.
pub(super) fn encode_later(later: &Later) -> Vec<u8> {
    let mut bytes = encode(&(VERSION, later.kind, later.slot, later.counter));
    bytes.extend(&later.rest);
    bytes
}

/// Returns what can be said of a record that can't be read; nothing of one of another version, whose head may be another
/// one, nor of one of the kinds without a head, nor of one that is too large.
pub(super) fn decode_later(bytes: &[u8]) -> Option<Later> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let (version, head) = head.split_first_chunk()?;
    let (kind, head) = head.split_first_chunk()?;
    let (slot, counter) = head.split_first_chunk()?;
    let later = Later {
        kind: u32::from_le_bytes(*kind),
        slot: *slot,
        counter: u64::from_le_bytes(*counter.first_chunk()?),
        rest: rest.to_vec(),
    };
    let is_headed = u16::from_le_bytes(*version) == VERSION && later.kind >= FIRST_HEADED_KIND;
    let is_kept = is_headed && bytes.len() <= LATER_BYTES_MAX;
    is_kept.then_some(later)
}

#[cfg(test)]
mod tests {
    use super::super::record::KINDS;
    use super::*;
    use crate::id::PublicKey;
    use crate::node::Message;
    use crate::record::{Record, RecordKey};
    use crate::trust::{Domain, KeyPair};
    use crate::wire::{decode_message, encode_message, encode_record_key, sign_record, verify_record};

    fn later(rest: &[u8]) -> Later {
        Later { kind: KINDS + 3, slot: [7; 32], counter: 9, rest: rest.to_vec() }
    }

    fn root() -> PublicKey {
        KeyPair::from_secret([9; 32]).public()
    }

    #[test]
    fn a_record_of_an_unknown_kind_goes_on_byte_for_byte() {
        let keys = KeyPair::from_secret([1; 32]);
        let made = sign_record(&keys, Record::Later(later(b"who knows")));
        let message = Message::Records(vec![made.clone()]);
        let bytes = encode_message(&message);
        let Ok(Message::Records(read)) = decode_message(&bytes, root()) else { panic!("it is kept") };
        assert_eq!(encode_message(&Message::Records(read.clone())), bytes);
        assert_eq!(read[0].signed().payload, made.signed().payload);
        assert_eq!(read[0].counter(), 9);
        let slot = RecordKey::Later(keys.public(), KINDS + 3, [7; 32]);
        assert_eq!(read[0].key(keys.public()), slot);
        let wanted = Message::Want(vec![slot]);
        assert_eq!(decode_message(&encode_message(&wanted), root()), Ok(wanted));
    }

    #[test]
    fn what_is_signed_wrong_too_large_or_of_another_version_is_not_kept() {
        let keys = KeyPair::from_secret([1; 32]);
        let signed = |payload| keys.sign(Domain::Record, payload);
        let fits = encode_later(&later(&vec![1; LATER_BYTES_MAX - HEAD_BYTES]));
        assert!(verify_record(signed(fits.clone()), root()).is_ok());
        let mut forged = signed(fits.clone());
        forged.payload[50] ^= 1;
        let error = verify_record(forged, root()).expect_err("it is not what was signed");
        assert!(!error.is_of_another_version(), "{error}");
        let newer = encode(&(VERSION + 1, KINDS, [0_u64; 5]));
        let short = encode(&(VERSION, KINDS, [0_u8; 32]));
        for left_out in [[fits, vec![1]].concat(), newer, short] {
            let error = verify_record(signed(left_out), root()).expect_err("it is left out");
            assert!(error.is_of_another_version(), "nobody is blamed for it: {error}");
        }
        // Nobody passes a kind without a head off as one with it.
        let known = encode_later(&Later { kind: 0, ..later(&[]) });
        let error = verify_record(signed(known), root()).expect_err("it is no member");
        assert!(!error.is_of_another_version(), "{error}");
    }

    /// The head of all kinds to come, and their slot in comparisons: a change here would part old and new programs.
    #[test]
    fn the_bytes_of_what_is_shared_stay_the_same() {
        let head = crate::id::hex(&encode_later(&Later { kind: 0x0a0b_0c0d, ..later(b"!") }));
        assert_eq!(head, format!("02000d0c0b0a{}090000000000000021", "07".repeat(32)));
        let key = RecordKey::Later(PublicKey([1; 32]), 0x0a0b_0c0d, [7; 32]);
        let expect = format!("07000000{}0d0c0b0a{}", "01".repeat(32), "07".repeat(32));
        assert_eq!(crate::id::hex(&encode_record_key(&key)), expect);
    }
}
