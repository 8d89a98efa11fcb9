//! The machine's clocks, read in one place, for everything that is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mln_protocol::time::Now;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock at 0.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Returns what both clocks show.
    pub(crate) fn now(&self) -> Now {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: millis(self.start.elapsed()), unix_ms: millis(unix) }
    }

    /// Returns when the monotonic clock will show this.
    pub(crate) fn instant(&self, mono_ms: u64) -> tokio::time::Instant {
        (self.start + Duration::from_millis(mono_ms)).into()
    }
}
