//! From a policy of a project to the built-in one that it names.

use super::{Ahead, Bounds, Builtin, Proximity, Queue, Scale, ScaleRule};
use crate::id::Name;
use crate::model::{BuiltinName, Decider, May, Policy};

/// The gauge that tells `scale` the load, where the file names no other.
pub const LOAD_GAUGE: &str = "load";

/// For how many windows servers are held for a load that was there: two minutes with the usual window.
const HOLD_WINDOWS: u64 = 2;

impl Builtin {
    /// Returns the built-in policy that a project's policy names, with its times and bounds; none where it names none, or
    /// where it may not scale anything and is to.
    pub fn of(policy: &Policy) -> Option<Self> {
        let Some(Decider::Builtin(name)) = policy.decider else { return None };
        let Policy { tuning, every_ms, grace_ms, .. } = policy;
        let (every_ms, grace_ms) = (*every_ms, *grace_ms);
        let builtin = match name {
            BuiltinName::Scale => {
                let (class, bounds) = policy.may.iter().find_map(|may| match may {
                    May::Scale { class, least, most } => Some((class, Bounds { least: *least, most: *most })),
                    May::Move(_) | May::Cloud { .. } | May::Volume { .. } => None,
                })?;
                let load = || Name::parse(LOAD_GAUGE).expect("a literal of letters only");
                let usual = Scale::new(class.clone(), bounds, tuning.gauge.clone().unwrap_or_else(load));
                let quota = tuning.quota_milli.map_or(usual.quota, |milli| milli as f64 / 1000.0);
                let window_ms = tuning.window_ms.unwrap_or(usual.window_ms);
                let hold_ms = window_ms.saturating_mul(HOLD_WINDOWS);
                let rule = ScaleRule::Ahead(Ahead { hold_ms, ..Ahead::default() });
                Self::Scale(Scale { quota, window_ms, every_ms, grace_ms, rule, ..usual })
            }
            BuiltinName::Proximity => {
                let usual = Proximity::default();
                let window_ms = tuning.window_ms.unwrap_or(usual.window_ms);
                let gauge = tuning.gauge.clone().unwrap_or_else(|| usual.gauge.clone());
                Self::Proximity(Proximity { gauge, window_ms, every_ms, grace_ms, ..usual })
            }
            BuiltinName::Queue => {
                let usual = Queue::default();
                let hours = policy.may.iter().find_map(|may| match may {
                    May::Cloud { hours_per_day } => Some(*hours_per_day),
                    May::Move(_) | May::Scale { .. } | May::Volume { .. } => None,
                });
                let cloud_day_ms = u64::from(hours.unwrap_or(0)) * 60 * 60_000;
                let gauge = tuning.gauge.clone().unwrap_or_else(|| usual.gauge.clone());
                Self::Queue(Queue { gauge, every_ms, move_ms: grace_ms, cloud_day_ms, ..usual })
            }
        };
        Some(builtin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tuning;
    use crate::sample::name;

    #[track_caller]
    fn check_hold(window_ms: Option<u64>, expect_ms: u64) {
        let policy = Policy {
            name: name("grow"),
            origin: name("front"),
            decider: Some(Decider::Builtin(BuiltinName::Scale)),
            tuning: Tuning { window_ms, ..Tuning::default() },
            every_ms: 1_000,
            grace_ms: 0,
            may: vec![May::Scale { class: name("web"), least: 1, most: 4 }],
        };
        let Some(Builtin::Scale(scale)) = Builtin::of(&policy) else { panic!("it names `scale`") };
        assert_eq!(scale.rule, ScaleRule::Ahead(Ahead { hold_ms: expect_ms, ..Ahead::default() }));
    }

    #[test]
    fn servers_are_held_for_two_windows() {
        check_hold(None, Ahead::default().hold_ms);
        check_hold(Some(60_000), Ahead::default().hold_ms);
        check_hold(Some(4_000), 8_000);
        check_hold(Some(u64::MAX), u64::MAX);
    }
}
