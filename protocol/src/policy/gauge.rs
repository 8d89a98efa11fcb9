//! Gauges: named numbers that a VM measures, each with its short history.

use std::collections::BTreeMap;

use super::{GAUGES_MAX, Sample, Window};
use crate::id::Name;

/// How many values of a gauge are kept for those who look; what a policy remembers of them is its own.
pub const HISTORY_MAX: usize = 120;

/// The gauges of one VM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    windows: BTreeMap<Name, Window>,
}

/// Why a value is not taken. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GaugeError {
    /// It is infinite, or no number.
    #[error("a gauge's value is a finite number")]
    NotFinite,
    /// There are so many gauges already.
    #[error("there are {GAUGES_MAX} gauges already, and `{0}` is none of them: a VM can have no more")]
    TooMany(Name),
}

impl Gauges {
    /// Takes a value. A second one of the same moment, or an older one, changes nothing.
    pub fn set(&mut self, name: &Name, sample: Sample) -> Result<(), GaugeError> {
        if !sample.value.is_finite() {
            return Err(GaugeError::NotFinite);
        }
        if self.windows.len() >= GAUGES_MAX && !self.windows.contains_key(name) {
            return Err(GaugeError::TooMany(name.clone()));
        }
        let window = self.windows.entry(name.clone()).or_default();
        window.push(sample);
        window.keep_newest(HISTORY_MAX);
        Ok(())
    }

    /// Returns each gauge with its history, the newest value last.
    pub fn histories(&self) -> BTreeMap<Name, Vec<Sample>> {
        self.windows.iter().map(|(name, window)| (name.clone(), window.samples().collect())).collect()
    }

    /// Returns each gauge with its newest value.
    pub fn newest(&self) -> impl Iterator<Item = (&Name, Sample)> {
        self.windows.iter().filter_map(|(name, window)| Some((name, window.newest()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::name;

    fn at(at_ms: u64, value: f64) -> Sample {
        Sample { at_ms, value }
    }

    #[test]
    fn a_gauge_has_its_last_values() {
        let mut gauges = Gauges::default();
        for moment in 0..200 {
            gauges.set(&name("load"), at(moment, moment as f64)).expect("a number");
        }
        gauges.set(&name("load"), at(3, 7.0)).expect("an older value is passed over");
        let histories = gauges.histories();
        let load = &histories[&name("load")];
        assert_eq!((load.len(), load[0], load[HISTORY_MAX - 1]), (HISTORY_MAX, at(80, 80.0), at(199, 199.0)));
        assert_eq!(gauges.newest().collect::<Vec<_>>(), [(&name("load"), at(199, 199.0))]);
    }

    #[test]
    fn what_is_no_number_or_one_gauge_too_many_is_refused() {
        let mut gauges = Gauges::default();
        assert_eq!(gauges.set(&name("load"), at(1, f64::NAN)), Err(GaugeError::NotFinite));
        for number in 0..GAUGES_MAX {
            gauges.set(&name(&format!("g{number}")), at(1, 1.0)).expect("there is room");
        }
        assert_eq!(gauges.set(&name("more"), at(1, 1.0)), Err(GaugeError::TooMany(name("more"))));
        assert_eq!(gauges.set(&name("g0"), at(2, 1.0)), Ok(()));
    }
}
