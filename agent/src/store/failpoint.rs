//! Places at which a test can let the agent end, as a machine does whose power is cut.
//!
//! `MLN_ABORT_AT=POINT:N` ends the process when it comes to that place for the n-th time. Only builds with the
//! feature `failpoints` look at it, and no release is one.

/// Every place. Tests that go through all of them have the same list.
#[cfg(feature = "failpoints")]
const ALL: [&str; 28] = [
    "journal-made",
    "journal-named",
    "entry-torn",
    "entry-written",
    "entry-durable",
    "compact-written",
    "compact-durable",
    "compact-renamed",
    "contents-written",
    "contents-named",
    "index-applied",
    "index-flushed",
    "file-written",
    "file-named",
    "pull-begun",
    "pull-round",
    "sealed",
    "halted",
    "pull-last",
    "copy-read",
    "ready",
    "released",
    "shelved",
    "claimed",
    "copy-taken",
    "copy-dropped",
    "guest-judged",
    "guest-decided",
];

/// Ends the process if a test has asked for it here.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(point: &str) {
    if hits(point) {
        std::process::abort();
    }
}

/// Ends the process if a test has asked for it here: this build has no tests in it.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn reach(_point: &str) {}

/// Whether the process is to end here.
#[cfg(feature = "failpoints")]
fn hits(point: &str) -> bool {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    debug_assert!(ALL.contains(&point), "{point} is in the list");
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("MLN_ABORT_AT").ok()?;
        let (name, number) = text.split_once(':')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    match asked {
        Some((name, number)) if name == point => COUNT.fetch_add(1, Ordering::SeqCst) + 1 == *number,
        Some(_) | None => false,
    }
}
