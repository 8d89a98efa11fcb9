//! What the guests of a host measure of themselves: named numbers, each with a short history.

use std::collections::BTreeMap;

use crate::id::{Name, VmId};

/// How many gauges of one VM its host tells others of.
pub const TOLD_GAUGES_MAX: usize = 8;
/// How many values of each.
pub const TOLD_VALUES_MAX: usize = 12;

/// What a host was told by the guests in its VMs: a record of a kind that came later, so its slot is named as
/// [`super::RecordKey::Later`] names those, and agents that don't know it keep it under the same.
///
/// It stands beside what is said of each VM, not in it: that is written into a journal with each change, and what is
/// measured is worth no journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGauges {
    /// The author's own count of these records.
    pub counter: u64,
    /// When this was so, by the author's clock, in milliseconds since 1970.
    pub told_unix_ms: u64,
    /// The gauges of each VM, by name.
    pub vms: BTreeMap<VmId, BTreeMap<Name, Vec<Reading>>>,
}

/// One value of a gauge, as others are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How long ago it was measured when the record was made, in seconds; what is older than 18 hours seems no older.
    pub age_s: u16,
    /// What was measured.
    pub value: Measured,
}

/// A finite number of seven digits: more is nobody's concern elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured(u32);

impl Measured {
    /// Returns the number next to a value; none where there is no finite one.
    pub fn of(value: f64) -> Option<Self> {
        let near = value as f32;
        near.is_finite().then(|| Self(near.to_bits()))
    }

    /// Returns the number with these bits, as IEEE 754 has them; none where it is not finite.
    pub fn from_bits(bits: u32) -> Option<Self> {
        f32::from_bits(bits).is_finite().then_some(Self(bits))
    }

    /// Returns its bits.
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// Returns the number.
    pub fn value(self) -> f64 {
        // By way of its shortest decimal: 0.1 stays 0.1, where widening would show all that it lacks of it.
        let near = f32::from_bits(self.0);
        near.to_string().parse().unwrap_or(f64::from(near))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_with_seven_digits() {
        let told = |value| Measured::of(value).map(Measured::value);
        assert_eq!((told(0.1), told(-17.25), told(123_456.7)), (Some(0.1), Some(-17.25), Some(123_456.7)));
        assert_eq!((told(f64::NAN), told(1e300)), (None, None));
        assert_eq!(Measured::from_bits(f32::INFINITY.to_bits()), None);
        assert_eq!(Measured::from_bits(1.5_f32.to_bits()), Measured::of(1.5));
    }
}
