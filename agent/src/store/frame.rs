//! The entries of a journal as bytes, and what is left of them after a power cut.
//!
//! ```text
//! entry:  "MLNj" · length of the payload, u32 · number of the entry, u64 · checksum, 16 bytes · payload
//! ```
//!
//! Numbers are little-endian; the checksum is BLAKE3's first 16 bytes over all of the entry but itself. An entry is
//! synced before the next one is written. So what can't be read at the end was never durable, and nothing followed
//! from it; but where a whole entry stands behind it, the disk has lost what it had.

/// How an entry begins.
const MAGIC: [u8; 4] = *b"MLNj";
/// What stands before the payload, in bytes.
const HEAD_BYTES: usize = 32;
/// The longest payload, in bytes.
pub(super) const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// What was found in a journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan<'a> {
    /// The payloads that are whole, in their order.
    pub payloads: Vec<&'a [u8]>,
    /// Where the last of them ends.
    pub end: u64,
    /// What stands behind.
    pub rest: Rest,
}

/// What stands behind the last whole entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// An entry that was never durable.
    Torn,
    /// An entry that was durable once: others stand behind it.
    Damaged,
}

/// Encodes the n-th entry; the payload is no longer than [`PAYLOAD_BYTES_MAX`].
pub(super) fn encode(number: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("callers split what is longer");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(length.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    let checksum = checksum(&bytes, payload);
    bytes.extend(checksum);
    bytes.extend(payload);
    bytes
}

fn checksum(head: &[u8], payload: &[u8]) -> [u8; 16] {
    let hash = blake3::Hasher::new().update(head).update(payload).finalize();
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Reads all entries, numbered from 0.
pub(super) fn scan(bytes: &[u8]) -> Scan<'_> {
    let (mut payloads, mut end) = (Vec::new(), 0);
    let rest = loop {
        let left = &bytes[end..];
        if left.is_empty() {
            break Rest::Nothing;
        }
        match entry(left) {
            Some((number, payload)) if number == payloads.len() as u64 => {
                payloads.push(payload);
                end += HEAD_BYTES + payload.len();
            }
            Some(_) => break Rest::Damaged,
            None if follows(left, payloads.len() as u64) => break Rest::Damaged,
            None => break Rest::Torn,
        }
    };
    Scan { payloads, end: end as u64, rest }
}

/// Returns the number and the payload of the entry that the bytes begin with.
fn entry(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, behind) = bytes.split_at_checked(HEAD_BYTES)?;
    if head[..4] != MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(*head[4..].first_chunk()?) as usize;
    let number = u64::from_le_bytes(*head[8..].first_chunk()?);
    let payload = behind.get(..length)?;
    (head[16..] == checksum(&head[..16], payload)).then_some((number, payload))
}

/// Whether an entry with a higher number than this begins anywhere in the bytes.
fn follows(bytes: &[u8], expected: u64) -> bool {
    let begins = |at: &usize| bytes[*at..].starts_with(&MAGIC);
    (1..bytes.len()).filter(begins).any(|at| entry(&bytes[at..]).is_some_and(|(number, _)| number > expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (number, payload) in [&b"first"[..], b"", b"the third"].into_iter().enumerate() {
            bytes.extend(encode(number as u64, payload));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn an_entry_that_was_cut_anywhere_was_never_there() {
        let (bytes, ends) = three();
        for cut in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let scan = scan(&bytes[..cut]);
            assert_eq!(scan.payloads.len(), whole, "cut at {cut}");
            let rest = if cut as u64 == scan.end { Rest::Nothing } else { Rest::Torn };
            assert_eq!(scan.rest, rest, "cut at {cut}");
        }
    }

    #[test]
    fn a_bit_that_flips_before_the_last_entry_is_damage_and_in_it_a_tear() {
        let (bytes, ends) = three();
        for place in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[place / 8] ^= 1 << (place % 8);
            let scan = scan(&bytes);
            let before = ends.iter().filter(|end| **end <= place / 8).count();
            assert_eq!(scan.payloads.len(), before, "bit {place}");
            let expected = if before == 2 { Rest::Torn } else { Rest::Damaged };
            assert_eq!(scan.rest, expected, "bit {place}");
        }
    }

    #[test]
    fn room_that_was_taken_and_not_used_is_a_tear() {
        let (mut bytes, _) = three();
        bytes.extend([0; 5000]);
        let scan = scan(&bytes);
        assert_eq!((scan.payloads.len(), scan.rest), (3, Rest::Torn));
    }
}
