//! The time and the randomness that the protocol is given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mln_protocol::time::Now;
use tokio::time::Instant;

/// Returns the present moment; the monotonic part counts from `start`.
pub(super) fn now(start: Instant) -> Now {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: millis(start.elapsed()), unix_ms: millis(unix) }
}

/// Returns random bytes for keys and challenges.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("a kernel that runs agents has getrandom(2)");
    bytes
}
