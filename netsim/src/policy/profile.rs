//! The published load: 0 to 130 connections a second in steps, slowly down to 20, a burst, 18 minutes, 84,600 in all.
//!
//! How long each step takes and how high the burst is wasn't published. The burst is as high as the first surge: one
//! server of 30 a second then loses 77 % of it, and 78 % were published. The steps are short enough for the
//! published rule to lose about as much as was published.

use std::ops::Range;

use crate::lot::Lot;

/// How long it lasts, in seconds.
pub(crate) const RUN_S: u64 = 18 * 60;
/// How many connections there are in all.
pub(crate) const CONNECTIONS: usize = 84_600;
/// The steps: how long each takes, in seconds, and by how much it is higher, per second.
const STEP_S: u64 = 15;
const STEP: f64 = 26.0;
/// The most, and the least at the end, per second.
const HIGH: f64 = 130.0;
const LOW: f64 = 20.0;
/// From when the load falls, and until when, in seconds; so that the sum is right.
const FALL_FROM_S: u64 = 436;
const FALL_UNTIL_S: u64 = 720;
/// When the burst begins: near minute 13, or, to see how much hangs on that, anywhere; in seconds.
pub(crate) const BURST_NEAR_S: Range<u64> = 13 * 60 - 15..13 * 60 + 16;
pub(crate) const BURST_ANYWHERE_S: Range<u64> = 10 * 60..17 * 60;
/// How long the burst lasts, in seconds.
pub(crate) const BURST_LASTS_S: u64 = 30;
/// Until when the first surge lasts, in seconds: the steps, and as long again.
pub(crate) const SURGE_UNTIL_S: u64 = 160;

const PARTS_A_SECOND: u64 = 10;

/// One run's connections.
pub(crate) struct Arrivals {
    /// When each comes, in microseconds, in order.
    pub(crate) at_us: Vec<u64>,
    /// When the burst begins, in seconds.
    pub(crate) burst_s: u64,
}

/// Returns how many connections a second the profile has at a time, in seconds.
fn rate(at_s: f64, burst_s: u64) -> f64 {
    let (fall_from, fall_until) = (FALL_FROM_S as f64, FALL_UNTIL_S as f64);
    if at_s >= burst_s as f64 && at_s < (burst_s + BURST_LASTS_S) as f64 {
        HIGH
    } else if at_s < fall_from {
        (STEP * ((at_s / STEP_S as f64).floor() + 1.0)).min(HIGH)
    } else if at_s < fall_until {
        HIGH - (HIGH - LOW) * (at_s - fall_from) / (fall_until - fall_from)
    } else {
        LOW
    }
}

impl Arrivals {
    /// Draws the connections of one run: so many in all, each by itself.
    pub(crate) fn draw(seed: u64, burst_s: Range<u64>) -> Self {
        let mut lot = Lot::of(seed, "connections");
        let burst_s = lot.between(burst_s.start, burst_s.end);
        let mut sums = Vec::with_capacity((RUN_S * PARTS_A_SECOND) as usize);
        let mut sum = 0.0;
        for part in 0..RUN_S * PARTS_A_SECOND {
            sum += rate(part as f64 / PARTS_A_SECOND as f64, burst_s);
            sums.push(sum);
        }
        let part_us = 1_000_000 / PARTS_A_SECOND;
        let mut at_us: Vec<u64> = (0..CONNECTIONS)
            .map(|_| {
                let drawn = lot.share() * sum;
                sums.partition_point(|until| *until <= drawn) as u64 * part_us + lot.between(0, part_us)
            })
            .collect();
        at_us.sort_unstable();
        Self { at_us, burst_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_has_the_published_numbers() {
        let rate = |at_s: f64| super::rate(at_s, 780);
        assert_eq!([0.0, 14.0, 15.0, 60.0, 430.0].map(rate), [26.0, 26.0, 52.0, 130.0, 130.0]);
        assert_eq!(
            [720.0, 779.9, 780.0, 809.9, 810.0, 1079.0].map(rate),
            [20.0, 20.0, 130.0, 130.0, 20.0, 20.0]
        );
        let sum: f64 = (0..RUN_S).map(|second| rate(second as f64)).sum();
        assert!((sum - CONNECTIONS as f64).abs() < 100.0, "{sum}");
        let arrivals = Arrivals::draw(1, BURST_NEAR_S);
        assert_eq!(arrivals.at_us.len(), CONNECTIONS);
        assert!(arrivals.at_us.is_sorted() && arrivals.at_us[CONNECTIONS - 1] < RUN_S * 1_000_000);
    }
}
