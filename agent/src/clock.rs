//! The machine's clocks, read in one place, for everything that is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mln_protocol::time::Now;

/// The machine's clocks. What is waited for goes by the monotonic one alone: the other may be set, by any amount either way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall: fn() -> SystemTime,
}

impl Clock {
    /// Starts the monotonic clock at 0.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now }
    }

    /// Returns what both clocks show.
    pub(crate) fn now(&self) -> Now {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let unix = (self.wall)().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: millis(self.start.elapsed()), unix_ms: millis(unix) }
    }

    /// Returns when the monotonic clock will show this.
    pub(crate) fn instant(&self, mono_ms: u64) -> tokio::time::Instant {
        (self.start + Duration::from_millis(mono_ms)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_clock_that_is_set_moves_what_is_written_down_and_no_timer() {
        let right = Clock::start();
        let ahead = Clock { wall: || SystemTime::now() + DAY, ..right };
        let behind = Clock { wall: || SystemTime::now() - DAY, ..right };
        let (before, forward, back) = (right.now(), ahead.now(), behind.now());
        assert!(forward.unix_ms >= before.unix_ms + 86_400_000 && back.unix_ms < before.unix_ms);
        assert!(before.mono_ms <= forward.mono_ms && forward.mono_ms <= back.mono_ms, "it never goes back");
        assert!(back.mono_ms - before.mono_ms < 86_400_000);
        assert_eq!(ahead.instant(5_000), right.instant(5_000));
        assert_eq!(behind.instant(5_000), right.instant(5_000));
    }

    #[test]
    fn a_clock_that_shows_a_time_before_all_counting_is_taken_for_its_beginning() {
        let clock = Clock { wall: || UNIX_EPOCH - DAY, ..Clock::start() };
        assert_eq!(clock.now().unix_ms, 0);
    }
}
