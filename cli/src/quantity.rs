//! Lengths of time, as people write and read them.

use mln_link::message::rfc3339;

/// Why a text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a length of time is a number of seconds, or has a unit: 90, 0.5, 500ms, 90s, 5m, 1h, 7d, 2w")]
pub struct DurationError;

/// The longest length of time, in milliseconds: ten years. Far from any overflow.
const DURATION_MS_MAX: f64 = 10.0 * 365.0 * 86_400_000.0;

/// Parses a length of time into milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<u64, DurationError> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => 1.0,
        "" | "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        "w" => 7.0 * 86_400_000.0,
        _ => return Err(DurationError),
    };
    let ms = number.parse::<f64>().map_err(|_| DurationError)? * unit_ms;
    // A cast from a float saturates; what is left after the check is exact enough.
    if ms.is_finite() && ms <= DURATION_MS_MAX { Ok(ms.round() as u64) } else { Err(DurationError) }
}

/// Writes a length of time in at most two units: `12s`, `3m12s`, `2h05m`, `4d3h`.
pub fn short_duration(ms: u64) -> String {
    let s = ms / 1000;
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m{:02}s", s % 60),
        (0, _, _) => format!("{h}h{:02}m", m % 60),
        _ => format!("{d}d{}h", h % 24),
    }
}

/// Writes seconds with one decimal: how long a step took.
pub fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// Writes a number of bytes in the largest unit that leaves three digits: `20 MiB`, `1.5 GiB`.
pub fn short_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match (tenths / 10, tenths % 10) {
        (whole, tenth) if whole < 10 && tenth != 0 => format!("{whole}.{tenth} {}", UNITS[unit]),
        (whole, _) => format!("{whole} {}", UNITS[unit]),
    }
}

/// Writes a moment, in milliseconds since 1970, as a date and time of UTC.
pub fn date_time(unix_ms: u64) -> String {
    // Date, `T`, hours and minutes; seconds and more are of no interest here.
    rfc3339(unix_ms)[..16].replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        for (text, ms) in [
            ("3", 3000),
            ("0.2", 200),
            ("120", 120_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("5m", 300_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "s", "-1", "1e3", "1 h", "5x", "1.2.3", "99999d", "inf", "nan"] {
            assert_eq!(parse_duration_ms(text), Err(DurationError), "{text}");
        }
    }

    #[test]
    fn quantities_are_short() {
        let times = [0, 12_000, 192_000, 7_500_000, 360_000_000].map(short_duration);
        assert_eq!(times, ["0s", "12s", "3m12s", "2h05m", "4d4h"]);
        assert_eq!(seconds(4_250), "4.2 s");
        let sizes = [0, 999, 1024, 1536, 20 << 20, 3 << 30, (3 << 30) / 2].map(short_bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1 KiB", "1.5 KiB", "20 MiB", "3 GiB", "1.5 GiB"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_time(0), "1970-01-01 00:00");
        assert_eq!(date_time(951_782_399_000), "2000-02-28 23:59");
        assert_eq!(date_time(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(date_time(1_795_296_600_000), "2026-11-21 21:30");
    }
}
