//! Waiting for a condition, with a limit.

use std::time::{Duration, Instant};

/// The pause between two looks: short beside what is waited for, long enough to leave the processor alone.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until what is looked at is so; panics with the last thing that was seen when that takes too long.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut look: impl FnMut() -> Result<(), String>) {
    until_some(what, limit, || look().map(Some));
}

/// Looks until there is something, and returns it. None and an error both mean: not yet.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>, String>) -> T {
    let began = Instant::now();
    loop {
        let seen = match look() {
            Ok(Some(found)) => return found,
            Ok(None) => "nothing".to_owned(),
            Err(seen) => seen,
        };
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}; seen last: {seen}");
        std::thread::park_timeout(PAUSE);
    }
}
