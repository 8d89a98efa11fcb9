//! What an interface does to the frames that leave it: late, lost, paced.

use std::fmt;

/// What is done to the frames that a guest sends over an interface; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Impairment {
    /// How much later they arrive.
    pub delay: Option<Delay>,
    /// How many of them don't.
    pub loss: Option<Loss>,
    /// How fast they leave at most.
    pub rate: Option<Rate>,
}

impl Impairment {
    /// Whether frames pass as they come.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A time that frames take longer, in microseconds; from 1 to [`Delay::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delay(u32);

/// A share of frames, in millionths; from 1 to [`Loss::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss(u32);

/// An amount of data in a time, in bits per second; from [`Rate::MIN`] to [`Rate::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Delay {
    /// The longest delay: a minute.
    pub const MAX: Self = Self(60_000_000);
    const UNITS: [(&str, u64); 3] = [("s", 1_000_000), ("ms", 1_000), ("us", 1)];

    /// Returns a delay of so many microseconds; none where that is no delay, or too long.
    pub fn from_us(us: u32) -> Option<Self> {
        (1..=Self::MAX.0).contains(&us).then_some(Self(us))
    }

    /// Parses `50ms`, `1.5s` or `200us`.
    pub fn parse(text: &str) -> Option<Self> {
        let us = scaled(text, &Self::UNITS)?;
        Self::from_us(u32::try_from(us).ok()?)
    }

    /// Returns it in microseconds.
    pub fn us(self) -> u32 {
        self.0
    }
}

impl Loss {
    /// The largest loss: everything.
    pub const MAX: Self = Self(1_000_000);
    const UNITS: [(&str, u64); 1] = [("%", 10_000)];

    /// Returns a loss of so many millionths; none where that is no loss, or more than all.
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (1..=Self::MAX.0).contains(&millionths).then_some(Self(millionths))
    }

    /// Parses `1%` or `0.5%`.
    pub fn parse(text: &str) -> Option<Self> {
        let millionths = scaled(text, &Self::UNITS)?;
        Self::from_millionths(u32::try_from(millionths).ok()?)
    }

    /// Returns it in millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl Rate {
    /// The lowest rate: a full frame takes a second and a half.
    pub const MIN: Self = Self(8_000);
    /// The highest rate, which no switch of ours reaches.
    pub const MAX: Self = Self(1_000_000_000_000);
    const UNITS: [(&str, u64); 4] =
        [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

    /// Returns a rate of so many bits per second; none where that is too low or too high.
    pub fn from_bits_per_s(bits: u64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&bits).then_some(Self(bits))
    }

    /// Parses `10Mbit`, `512kbit` or `1.5Gbit`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bits_per_s(scaled(text, &Self::UNITS)?)
    }

    /// Returns it in bits per second.
    pub fn bits_per_s(self) -> u64 {
        self.0
    }
}

/// The most digits behind a decimal point.
const DECIMALS_MAX: usize = 6;

/// Parses a number, perhaps with a decimal point, and a unit; none where that is no whole number of the smallest unit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let &(_, size) = units.iter().find(|(word, _)| word.eq_ignore_ascii_case(unit.trim()))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > DECIMALS_MAX {
        return None;
    }
    // At most six digits: this fits.
    let of_part = 10u64.pow(u32::try_from(part.len()).ok()?);
    let fraction = part.parse::<u64>().ok()?.checked_mul(size)?;
    if !fraction.is_multiple_of(of_part) {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(size)?.checked_add(fraction / of_part)
}

/// Writes a number in the largest unit in which it is a whole one.
fn whole(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, size)| number.is_multiple_of(*size)) {
        Some((unit, size)) => write!(f, "{}{unit}", number / size),
        None => write!(f, "{number}"),
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        whole(f, self.0.into(), &Self::UNITS)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, part) = (self.0 / 10_000, self.0 % 10_000);
        if part == 0 {
            return write!(f, "{percent}%");
        }
        let part = format!("{part:04}");
        write!(f, "{percent}.{}%", part.trim_end_matches('0'))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        whole(f, self.0, &Self::UNITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_time_up_to_a_minute() {
        for (text, us) in [("50ms", 50_000), ("1s", 1_000_000), ("200us", 200), ("1.5 s", 1_500_000)] {
            assert_eq!(Delay::parse(text).map(Delay::us), Some(us), "{text}");
        }
        for bad in ["", "50", "ms", "0ms", "61s", "0.1us", "1.s", ".5s", "1m", "-1s", "1,5s", "1..5s", "9e9s"]
        {
            assert_eq!(Delay::parse(bad), None, "{bad}");
        }
        assert_eq!(Delay::parse("99999999999999999999s"), None);
    }

    #[test]
    fn a_loss_is_a_share_up_to_all() {
        for (text, millionths) in [("1%", 10_000), ("0.5%", 5_000), ("100%", 1_000_000), ("0.0001 %", 1)] {
            assert_eq!(Loss::parse(text).map(Loss::millionths), Some(millionths), "{text}");
        }
        for bad in ["1", "0%", "101%", "0.00001%", "%", "1%%"] {
            assert_eq!(Loss::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_rate_is_in_bits_whatever_the_case_of_the_unit() {
        for (text, bits) in [("10Mbit", 10_000_000), ("512kbit", 512_000), ("1gbit", 1_000_000_000)] {
            assert_eq!(Rate::parse(text).map(Rate::bits_per_s), Some(bits), "{text}");
        }
        for bad in ["10", "10M", "10MB", "7kbit", "0Mbit", "1001Gbit", "10Mbit/s"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["50ms", "1s", "1500ms", "201us", "60s"] {
            assert_eq!(Delay::parse(text).map(|delay| delay.to_string()).as_deref(), Some(text));
        }
        for text in ["1%", "0.5%", "12.3456%", "100%"] {
            assert_eq!(Loss::parse(text).map(|loss| loss.to_string()).as_deref(), Some(text));
        }
        for text in ["10Mbit", "1500kbit", "2Gbit", "8001bit"] {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()).as_deref(), Some(text));
        }
    }
}
