//! Frames that are to arrive late, or not at all: one queue for each interface that has it so. Pure: the time is an
//! argument, and chance begins with a given number.
//!
//! ```text
//! offer ──▶ lost? ──▶ wait for the frames before it (rate) ──▶ wait on (delay) ──▶ take_due
//! ```
//! Frames leave in the order in which they came, also when the delay becomes shorter.

use std::collections::VecDeque;
use std::time::Duration;

use mln_protocol::model::Impairment;

/// The most frames that are on their way.
pub const FRAMES_MAX: usize = 16_384;

/// The most bytes that are on their way; a gigabit a second with a delay of 64 ms.
pub const BYTES_MAX: usize = 8 << 20;

/// How much may wait for the rate, in time; where that is less than [`BACKLOG_BYTES_MIN`], that much.
pub const BACKLOG: Duration = Duration::from_millis(250);

/// How much may wait for the rate at least, in bytes: some twenty full frames.
pub const BACKLOG_BYTES_MIN: u64 = 32 << 10;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It leaves when it is due.
    Queued,
    /// It is lost, by chance.
    Lost,
    /// It is dropped, because too much waits.
    Full,
}

/// The queue of one interface.
#[derive(Debug)]
pub struct Shaper {
    impairment: Impairment,
    chance: Chance,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    /// When what waits for the rate has left.
    free_at: Duration,
    last_due: Duration,
}

#[derive(Debug)]
struct Waiting {
    /// When it has waited for the rate.
    left: Duration,
    due: Duration,
    frame: Box<[u8]>,
}

impl Shaper {
    /// An empty queue; all times are since the same moment, and grow.
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self {
            impairment,
            chance: Chance(seed),
            queue: VecDeque::new(),
            queue_bytes: 0,
            free_at: Duration::ZERO,
            last_due: Duration::ZERO,
        }
    }

    /// Does something else to frames from now on; those that are delayed leave as they would have, and those that wait for
    /// the rate wait for the new one. Else a link that was slow would stay so until the last of them has left.
    pub fn set(&mut self, now: Duration, impairment: Impairment) {
        let old = std::mem::replace(&mut self.impairment, impairment);
        if old.rate == impairment.rate {
            return;
        }
        let mut free_at = now;
        let mut last_due = Duration::ZERO;
        for waiting in &mut self.queue {
            if waiting.left > now {
                let delay = waiting.due - waiting.left;
                if let Some(rate) = impairment.rate {
                    free_at += time_of(waiting.frame.len(), rate.bits_per_s());
                }
                waiting.left = free_at;
                waiting.due = (free_at + delay).max(last_due);
            }
            last_due = waiting.due;
        }
        self.free_at = free_at;
        self.last_due = last_due;
    }

    /// Takes a frame, or doesn't.
    pub fn offer(&mut self, now: Duration, frame: &[u8]) -> Fate {
        let Impairment { delay, loss, rate } = self.impairment;
        if loss.is_some_and(|loss| self.chance.below_million() < loss.millionths()) {
            return Fate::Lost;
        }
        if self.queue.len() >= FRAMES_MAX || self.queue_bytes + frame.len() > BYTES_MAX {
            return Fate::Full;
        }
        let mut left = now;
        if let Some(rate) = rate {
            let begin = self.free_at.max(now);
            if begin > now {
                let waiting = bytes_in(begin - now, rate.bits_per_s());
                let most = bytes_in(BACKLOG, rate.bits_per_s()).max(BACKLOG_BYTES_MIN);
                if waiting + frame.len() as u64 > most {
                    return Fate::Full;
                }
            }
            left = begin + time_of(frame.len(), rate.bits_per_s());
            self.free_at = left;
        }
        let delay = delay.map_or(Duration::ZERO, |delay| Duration::from_micros(delay.us().into()));
        let due = (left + delay).max(self.last_due);
        self.last_due = due;
        self.queue_bytes += frame.len();
        self.queue.push_back(Waiting { left, due, frame: frame.into() });
        Fate::Queued
    }

    /// Returns the next frame that is due.
    pub fn take_due(&mut self, now: Duration) -> Option<Box<[u8]>> {
        let is_due = self.queue.front().is_some_and(|first| first.due <= now);
        if is_due { self.take() } else { None }
    }

    /// Returns the next frame, due or not.
    pub fn take(&mut self) -> Option<Box<[u8]>> {
        let Waiting { frame, .. } = self.queue.pop_front()?;
        self.queue_bytes -= frame.len();
        Some(frame)
    }

    /// Returns when the next frame is due; none where none waits.
    pub fn next_due(&self) -> Option<Duration> {
        self.queue.front().map(|first| first.due)
    }
}

/// Returns how long so many bytes take, rounded up.
fn time_of(bytes: usize, bits_per_s: u64) -> Duration {
    let nanoseconds = (bytes as u128 * 8 * 1_000_000_000).div_ceil(u128::from(bits_per_s.max(1)));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Returns how many bytes leave in a time.
fn bytes_in(time: Duration, bits_per_s: u64) -> u64 {
    let bytes = time.as_nanos() * u128::from(bits_per_s) / 8_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Numbers that look like chance (SplitMix64): the same ones for the same beginning.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below_million(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // Of 32 bits, so that the product fits; below a million, so that it is a u32.
        u32::try_from(((mixed >> 32) * 1_000_000) >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::model::{Delay, Loss, Rate};

    fn impairment(delay: &str, loss: &str, rate: &str) -> Impairment {
        Impairment { delay: Delay::parse(delay), loss: Loss::parse(loss), rate: Rate::parse(rate) }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_delayed_frame_is_due_exactly_that_much_later() {
        let mut shaper = Shaper::new(impairment("50ms", "", ""), 1);
        assert_eq!(shaper.next_due(), None);
        assert_eq!(shaper.offer(ms(10), b"one"), Fate::Queued);
        assert_eq!(shaper.offer(ms(12), b"two"), Fate::Queued);
        assert_eq!(shaper.next_due(), Some(ms(60)));
        assert_eq!(shaper.take_due(ms(60) - Duration::from_nanos(1)), None);
        assert_eq!(shaper.take_due(ms(60)).as_deref(), Some(&b"one"[..]));
        assert_eq!(shaper.take_due(ms(60)), None);
        assert_eq!(shaper.take_due(ms(62)).as_deref(), Some(&b"two"[..]));
        assert_eq!((shaper.next_due(), shaper.queue_bytes), (None, 0));
    }

    #[test]
    fn a_rate_lets_each_frame_wait_for_those_before_it() {
        // A thousand bytes take 8 ms.
        let mut shaper = Shaper::new(impairment("100ms", "", "1Mbit"), 1);
        for _ in 0..3 {
            assert_eq!(shaper.offer(ms(0), &[0; 1000]), Fate::Queued);
        }
        for due in [108, 116, 124] {
            assert_eq!(shaper.next_due(), Some(ms(due)));
            assert!(shaper.take_due(ms(due)).is_some());
        }
        // What was not used before is lost: there is no burst.
        assert_eq!(shaper.offer(ms(500), &[0; 1000]), Fate::Queued);
        assert_eq!(shaper.next_due(), Some(ms(608)));
    }

    #[test]
    fn what_waits_for_the_rate_is_limited_and_what_is_delayed_by_more() {
        let mut slow = Shaper::new(impairment("", "", "1Mbit"), 1);
        let taken = (0..100).filter(|_| slow.offer(ms(0), &[0; 1000]) == Fate::Queued).count();
        assert_eq!(taken as u64, BACKLOG_BYTES_MIN / 1000);
        // With time there is room again.
        assert_eq!(slow.offer(ms(8), &[0; 1000]), Fate::Queued);
        assert_eq!(slow.offer(ms(8), &[0; 1000]), Fate::Full);

        let mut late = Shaper::new(impairment("60s", "", ""), 1);
        let taken = (0..20_000).filter(|_| late.offer(ms(0), &[0; 1000]) == Fate::Queued).count();
        assert_eq!(taken, BYTES_MAX / 1000);
        let mut late = Shaper::new(impairment("60s", "", ""), 1);
        let taken = (0..20_000).filter(|_| late.offer(ms(0), &[0; 60]) == Fate::Queued).count();
        assert_eq!(taken, FRAMES_MAX);
    }

    #[test]
    fn so_many_are_lost_as_is_said_and_the_same_ones_for_the_same_beginning() {
        let lost = |text: &str, seed| -> Vec<bool> {
            let mut shaper = Shaper::new(impairment("", text, ""), seed);
            (0..10_000)
                .map(|_| {
                    let fate = shaper.offer(ms(0), b"frame");
                    shaper.take();
                    fate == Fate::Lost
                })
                .collect()
        };
        let count = |all: &[bool]| all.iter().filter(|lost| **lost).count();
        assert_eq!(count(&lost("100%", 7)), 10_000);
        assert_eq!(count(&lost("", 7)), 0);
        let tenth = lost("10%", 7);
        assert!((900..1100).contains(&count(&tenth)), "{}", count(&tenth));
        assert_eq!(tenth, lost("10%", 7));
        assert_ne!(tenth, lost("10%", 8));
    }

    #[test]
    fn frames_keep_their_order_when_the_delay_becomes_shorter() {
        let mut shaper = Shaper::new(impairment("1s", "", ""), 1);
        shaper.offer(ms(0), b"first");
        shaper.set(ms(5), impairment("1ms", "", ""));
        shaper.offer(ms(10), b"second");
        assert_eq!(shaper.take_due(ms(999)), None);
        assert_eq!(shaper.take_due(ms(1000)).as_deref(), Some(&b"first"[..]));
        assert_eq!(shaper.take_due(ms(1000)).as_deref(), Some(&b"second"[..]));
        shaper.offer(ms(1000), b"third");
        assert_eq!(shaper.next_due(), Some(ms(1001)));
    }
    #[test]
    fn what_waits_for_a_slow_rate_waits_no_longer_when_that_is_raised() {
        let mut shaper = Shaper::new(impairment("50ms", "", "8kbit"), 1);
        let offer = |shaper: &mut Shaper, now| shaper.offer(ms(now), &[0; 1000]);
        // Each takes a second.
        while offer(&mut shaper, 0) == Fate::Queued {}
        let count = shaper.queue.len();
        assert_eq!(count, 32);
        // One has left, and is delayed; those behind it take a millisecond each from now on.
        shaper.set(ms(1010), impairment("50ms", "", "8Mbit"));
        assert_eq!(offer(&mut shaper, 1010), Fate::Queued);
        assert_eq!(shaper.next_due(), Some(ms(1050)));
        assert!(shaper.take().is_some());
        for nth in 1..=count as u64 {
            assert_eq!(shaper.next_due(), Some(ms(1060 + nth)));
            assert!(shaper.take().is_some());
        }
        // Without a rate they leave at once.
        let mut shaper = Shaper::new(impairment("", "", "8kbit"), 1);
        while offer(&mut shaper, 0) == Fate::Queued {}
        shaper.set(ms(10), impairment("", "1%", ""));
        assert_eq!(std::iter::from_fn(|| shaper.take_due(ms(10))).count(), 32);
        assert_eq!((shaper.free_at, shaper.queue_bytes), (ms(10), 0));
    }
}
