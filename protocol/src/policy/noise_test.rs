//! Whatever the gauges say: bounds and grace hold, and noise alone changes nothing twice.

use super::*;
use crate::sample::{name, sight};

const SEEDS: u64 = 200;

/// Numbers by lot: splitmix64.
struct Lot(u64);

impl Lot {
    /// Draws from 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, until: u64) -> u64 {
        (self.share() * until as f64) as u64
    }

    /// Draws a value that is at most so large a part of itself off.
    fn near(&mut self, value: f64, part: f64) -> f64 {
        value * (1.0 + part * (self.share() * 2.0 - 1.0))
    }
}

fn scale(least: u32, most: u32, rule: ScaleRule) -> Scale {
    let bounds = Bounds { least, most };
    Scale { rule, ..Scale::new(name("webserver"), bounds, name("connections")) }
}

/// Asks `scale` every five seconds and carries out what it says; the times in milliseconds and what it decided.
fn scaled(scale: &Scale, mut count: u32, ticks: u64, mut load: impl FnMut(u64) -> f64) -> Vec<(u64, u32)> {
    let policy = Builtin::Scale(scale.clone());
    let (mut memory, mut decisions) = (Memory::default(), Vec::new());
    let mut seen = sight("oslo", &[]);
    for tick in 0..ticks {
        let at_ms = tick * policy.every_ms();
        seen.now_ms = at_ms;
        seen.classes.insert(name("webserver"), count);
        seen.gauges.insert(name("connections"), vec![Sample { at_ms, value: load(tick) }]);
        let (verdict, next) = policy.decide(&seen, memory);
        memory = next;
        if let Decision::Scale { to, .. } = verdict.decision {
            decisions.push((at_ms, to));
            count = to;
        }
    }
    decisions
}

#[test]
fn a_constant_load_with_a_tenth_of_noise_is_met_once() {
    for seed in 0..SEEDS {
        let mut lot = Lot(seed);
        let load = 5.0 + 165.0 * lot.share();
        let count = 1 + lot.below(7) as u32;
        // Two hours; what was there before is settled after five minutes.
        let decisions =
            scaled(&scale(1, 7, ScaleRule::Ahead(Ahead::default())), count, 1440, |_| lot.near(load, 0.1));
        let later = decisions.iter().filter(|(at_ms, _)| *at_ms > 300_000).count();
        assert!(later <= 1, "seed {seed}: load {load:.1}, {count} at first: {decisions:?}");
    }
}

#[test]
fn whatever_the_load_bounds_and_grace_hold() {
    for seed in 0..SEEDS {
        let mut lot = Lot(seed);
        let least = lot.below(4) as u32;
        let most = least + lot.below(8) as u32;
        let rule = if lot.share() < 0.5 { ScaleRule::Mean } else { ScaleRule::Ahead(Ahead::default()) };
        let mut level = 50.0;
        let load = |_| {
            if lot.share() < 0.2 {
                level =
                    [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 30.0, 130.0, 400.0][lot.below(8) as usize];
            }
            lot.near(level, 0.5)
        };
        let decisions = scaled(&scale(least, most, rule), most + 2, 400, load);
        assert!(decisions.iter().all(|(_, to)| (least..=most).contains(to)), "seed {seed}: {decisions:?}");
        let kept = decisions.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 15_000);
        assert!(kept, "seed {seed}: {decisions:?}");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let policy = Builtin::Scale(Scale { window_ms: u64::MAX, ..scale(1, 7, ScaleRule::Mean) });
    let mut memory = Memory::default();
    let mut seen = sight("oslo", &[]);
    for at_ms in 0..3 * SAMPLES_MAX as u64 {
        seen.now_ms = at_ms;
        // Others each time.
        seen.gauges = (0..10)
            .map(|of| (name(&format!("g{}", at_ms * 10 + of)), vec![Sample { at_ms, value: 1.0 }]))
            .collect();
        memory = policy.decide(&seen, memory).1;
        assert!(memory.gauges().count() <= GAUGES_MAX);
    }
}

#[test]
fn clients_that_stay_with_a_tenth_of_noise_move_nobody_twice() {
    let sites = ["oslo", "gjovik", "berkeley"];
    let hosts = sites.map(|site| (site, Tenure::Owned, Some(10)));
    let policy = Builtin::Proximity(Proximity::default());
    for seed in 0..SEEDS {
        let mut lot = Lot(seed);
        let clients = sites.map(|_| 5.0 + 200.0 * lot.share());
        let mut seen = sight("oslo", &hosts);
        let (mut memory, mut moves) = (Memory::default(), Vec::new());
        // Half a day.
        for minute in 0..720 {
            seen.now_ms = minute * 60_000;
            for (site, clients) in sites.iter().zip(clients) {
                let sample = Sample { at_ms: seen.now_ms, value: lot.near(clients, 0.1) };
                seen.gauges.insert(name(&format!("clients.{site}")), vec![sample]);
            }
            let (verdict, next) = policy.decide(&seen, memory);
            memory = next;
            if let Decision::Move { to } = verdict.decision {
                moves.push((minute, to.clone()));
                seen.host = to;
            }
        }
        assert!(moves.len() <= 1, "seed {seed}: {clients:?}: {moves:?}");
    }
}

#[test]
fn jobs_that_come_and_go_by_lot_keep_the_grace_and_the_hours() {
    let hosts = [("oslo", Tenure::Owned, Some(1)), ("ec2", Tenure::Cloud, Some(40))];
    let settings = Queue::default();
    let policy = Builtin::Queue(settings.clone());
    for seed in 0..SEEDS {
        let mut lot = Lot(seed);
        let mut seen = sight("oslo", &hosts);
        let (mut memory, mut moves) = (Memory::default(), Vec::new());
        for minute in 0..24 * 60 {
            seen.now_ms = minute * 60_000;
            let waiting = lot.below(12) as f64;
            seen.gauges.insert(name("queue"), vec![Sample { at_ms: seen.now_ms, value: waiting }]);
            if seen.host == name("ec2") {
                seen.cloud_spent_ms += 60_000;
            }
            let (verdict, next) = policy.decide(&seen, memory);
            memory = next;
            if let Decision::Move { to } = verdict.decision {
                let left_ms = settings.cloud_day_ms.saturating_sub(seen.cloud_spent_ms);
                assert!(to != name("ec2") || left_ms >= 4 * settings.cloud_job_ms, "seed {seed}: {left_ms}");
                moves.push(minute);
                seen.host = to;
            }
        }
        assert!(moves.windows(2).all(|pair| pair[1] - pair[0] >= 15), "seed {seed}: {moves:?}");
        assert!(seen.cloud_spent_ms <= settings.cloud_day_ms, "seed {seed}: {}", seen.cloud_spent_ms);
    }
}
