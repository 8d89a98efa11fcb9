//! Lengths of time, as people write and read them.

/// Why a text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a length of time is a number of seconds, or has a unit: 90, 0.5, 500ms, 90s, 5m, 1h, 7d")]
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
    let minutes = unix_ms / 60_000;
    let (year, month, day) = civil_date(minutes / 1440);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// Returns year, month and day of a number of days since 1970: Howard Hinnant's `civil_from_days`, for days
/// that are not before 1970.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
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
