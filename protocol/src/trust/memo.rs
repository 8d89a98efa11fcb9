//! What was signed and verified once, remembered: simulators and fuzzers do the same again millions of times.
//!
//! Signatures stay the real ones: ed25519 gives the same bytes for the same key and message. No shipped program has this.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::id::PublicKey;

/// How many signatures are remembered, and how many verifications, before all are forgotten.
const REMEMBERED_MAX: usize = 1 << 17;

#[derive(Default)]
struct Memo {
    made: BTreeMap<[u8; 32], [u8; 64]>,
    verified: BTreeSet<[u8; 32]>,
}

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

/// Returns the signature of `message`, made with `sign` unless it is known.
pub(super) fn signature(author: PublicKey, message: &[u8], sign: impl FnOnce() -> [u8; 64]) -> [u8; 64] {
    let key = *blake3::Hasher::new().update(&author.0).update(message).finalize().as_bytes();
    if let Some(known) = MEMO.with_borrow(|memo| memo.made.get(&key).copied()) {
        return known;
    }
    let made = sign();
    MEMO.with_borrow_mut(|memo| {
        if memo.made.len() >= REMEMBERED_MAX {
            memo.made.clear();
        }
        memo.made.insert(key, made);
    });
    made
}

/// Whether a signature is right, as `verify` says unless it is known that it is. Wrong ones are verified each time.
pub(super) fn is_right(
    author: PublicKey,
    message: &[u8],
    signature: &[u8; 64],
    verify: impl FnOnce() -> bool,
) -> bool {
    let mut hasher = blake3::Hasher::new();
    let key = *hasher.update(&author.0).update(signature).update(message).finalize().as_bytes();
    if MEMO.with_borrow(|memo| memo.verified.contains(&key)) {
        return true;
    }
    let right = verify();
    if right {
        MEMO.with_borrow_mut(|memo| {
            if memo.verified.len() >= REMEMBERED_MAX {
                memo.verified.clear();
            }
            memo.verified.insert(key);
        });
    }
    right
}
