//! `scale`: as many of a class as its load needs, neither more nor fewer than the owner allows.
//!
//! The published rule (Begnum, 2010) takes the mean of a window and divides it by the quota. Half a window goes by
//! before it sees a rise, and it gives a server back at the first dip. [`ScaleRule::Ahead`] looks forward by what
//! a decision takes to have an effect, and backward before it gives something up.

use super::{Decision, Memory, Sample, Sight, Verdict, Window};
use crate::id::Name;

/// The settings of `scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The superclass or enumeration that grows and shrinks.
    pub class: Name,
    /// How many there may be: what the envelope says.
    pub bounds: Bounds,
    /// The gauge that tells the load.
    pub gauge: Name,
    /// How much of it one server is to have.
    pub quota: f64,
    /// How often to look, in milliseconds.
    pub every_ms: u64,
    /// How much of the past counts, in milliseconds.
    pub window_ms: u64,
    /// How long nothing is decided after a decision, in milliseconds.
    pub grace_ms: u64,
    /// How the load is read.
    pub rule: ScaleRule,
}

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At least.
    pub least: u32,
    /// At most; not fewer than that.
    pub most: u32,
}

/// How the load is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScaleRule {
    /// The published rule: the mean of the window.
    Mean,
    /// The mean, or what the load will be if it rises as it does.
    Ahead(Ahead),
}

/// How far [`ScaleRule::Ahead`] looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ahead {
    /// How long a server takes until it serves, in milliseconds.
    pub boot_ms: u64,
    /// By which part of the load it has to rise for that to be looked at: what a quota leaves room for anyway.
    pub rise: f64,
    /// What is looked forward to is never more than so many times what is measured now.
    pub times_max: f64,
    /// How long servers are held for a load that was there, in milliseconds.
    pub hold_ms: u64,
    /// Which part of a quota has to be free for a server to go.
    pub margin: f64,
}

impl Scale {
    /// Returns the published numbers, for a class, its bounds and the gauge that tells its load: a window of 60 s,
    /// every 5 s, a grace of 15 s and a quota of 25.
    pub fn new(class: Name, bounds: Bounds, gauge: Name) -> Self {
        let rule = ScaleRule::Ahead(Ahead::default());
        let (quota, every_ms, window_ms, grace_ms) = (25.0, 5_000, 60_000, 15_000);
        Self { class, bounds, gauge, quota, every_ms, window_ms, grace_ms, rule }
    }

    pub(super) fn judge(&self, sight: &Sight, memory: &mut Memory) -> Verdict {
        let Some(count) = sight.classes.get(&self.class).copied() else {
            return Verdict::stay(format!("the project has no class `{}`", self.class));
        };
        let load = memory.gauge(&self.gauge).and_then(|window| self.load(window));
        let Some((demand, words)) = load else {
            return Verdict::stay(format!("the gauge `{}` tells nothing", self.gauge));
        };
        let held = match self.rule {
            ScaleRule::Mean => demand,
            ScaleRule::Ahead(ahead) => {
                memory.demands.push(Sample { at_ms: sight.now_ms, value: demand });
                memory.demands.keep_last(sight.now_ms, ahead.hold_ms);
                memory.demands.most().unwrap_or(demand)
            }
        };
        let margin = match self.rule {
            ScaleRule::Mean => 0.0,
            ScaleRule::Ahead(ahead) => ahead.margin,
        };
        let quota = self.quota;
        let needed = self.servers(demand, quota);
        let kept = self.servers(held, quota * (1.0 - margin));
        let to = if needed > count { needed } else { kept.min(count).max(self.bounds.least) };
        let sum = format!("{words}, which is {needed} × {quota} at most, between {}", self.bounds);
        if to > count {
            return self.scale(to, format!("{sum}; there are {count}"));
        }
        if to < count {
            return self.scale(to, format!("{sum}; the most of late was {held:.1}, and there are {count}"));
        }
        Verdict::stay(format!("{sum}; there are {count}"))
    }

    fn scale(&self, to: u32, reason: String) -> Verdict {
        Verdict { decision: Decision::Scale { class: self.class.clone(), to }, reason }
    }

    /// Returns how many servers a load needs, within the bounds.
    fn servers(&self, load: f64, quota: f64) -> u32 {
        // Saturates; what is no number is 0.
        let needed = (load / quota).ceil() as u32;
        needed.min(self.bounds.most).max(self.bounds.least)
    }

    /// Returns what is to be served, and says where it is read from.
    fn load(&self, window: &Window) -> Option<(f64, String)> {
        let mean = window.mean()?;
        let gauge = &self.gauge;
        let by_mean = (mean, format!("{gauge} {mean:.1} over {} s", self.window_ms / 1000));
        let ScaleRule::Ahead(ahead) = self.rule else { return Some(by_mean) };
        let newest = window.newest()?.value;
        let most = newest.max(mean) * ahead.times_max;
        // The next decision comes after the grace, and what it starts is there when that has booted.
        let lead_s = (self.grace_ms + ahead.boot_ms) as f64 / 1000.0;
        let window_s = self.window_ms as f64 / 1000.0;
        let trend = window.line().filter(|line| line.per_s * window_s > mean * ahead.rise).map(|line| {
            let value = (line.newest + line.per_s * lead_s).min(most);
            let minute = line.per_s * 60.0;
            (
                value,
                format!("{gauge} {newest:.1}, rising by {minute:.1} a minute, {value:.1} in {lead_s:.0} s"),
            )
        });
        let surge = window.step().filter(|(newest, _, mean)| {
            // One value of few clients says little, so half a quota more is asked for.
            newest.value > mean * (1.0 + ahead.rise) + self.quota / 2.0
        });
        let surge = surge.map(|(newest, previous, before)| {
            let apart_s = (newest.at_ms - previous.at_ms) as f64 / 1000.0;
            let rise = (newest.value - previous.value).max(0.0) / apart_s * lead_s;
            let (value, newest) = ((newest.value + rise).min(most), newest.value);
            (value, format!("{gauge} {newest:.1} after {before:.1}, a surge, {value:.1} in {lead_s:.0} s"))
        });
        let readings = [Some(by_mean), trend, surge].into_iter().flatten();
        // Of equal ones the first: the mean says more than a line.
        readings.reduce(|best, other| if other.0 > best.0 { other } else { best })
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self { boot_ms: 5_000, rise: 0.25, times_max: 2.0, hold_ms: 120_000, margin: 0.1 }
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.least, self.most)
    }
}
