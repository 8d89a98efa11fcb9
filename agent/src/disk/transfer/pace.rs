//! No more than so many bits in a second, over all transfers of a host.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How much may leave in a second.
#[derive(Debug)]
pub(super) struct Pace {
    bits_per_s: Option<u64>,
    /// When all that was let through has left.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// No limit, or one.
    pub(super) fn new(bits_per_s: Option<u64>) -> Self {
        Self { bits_per_s, free_at: Mutex::new(None) }
    }

    /// Waits until so many bytes may leave.
    pub(super) async fn wait(&self, bytes: usize) {
        if let Some(until) = self.after(Instant::now(), bytes) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Returns when bytes may leave that are there now.
    fn after(&self, now: Instant, bytes: usize) -> Option<Instant> {
        let bits_per_s = u128::from(self.bits_per_s?.max(1));
        let nanoseconds = (bytes as u128 * 8 * 1_000_000_000).div_ceil(bits_per_s);
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free_at.map_or(now, |free_at| free_at.max(now));
        *free_at = Some(begin + takes);
        (begin > now).then_some(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_in_a_second_is_what_may() {
        let (pace, now) = (Pace::new(Some(8_000)), Instant::now());
        let ms = |ms| Some(now + Duration::from_millis(ms));
        assert_eq!(pace.after(now, 500), None);
        assert_eq!(pace.after(now, 1000), ms(500));
        assert_eq!(pace.after(now, 1), ms(1500));
        assert_eq!(pace.after(now + Duration::from_secs(9), 1), None, "what was not used is lost");
        assert_eq!(Pace::new(None).after(now, 1 << 30), None);
    }
}
