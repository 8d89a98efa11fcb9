//! Events: what happens in a mesh, as rows on the wire and as lines of JSON.
//!
//! Kinds are words and not an enumeration, so that an `mlnctl` of another version shows what it doesn't know.
//! The line of JSON is the same in an agent's `events.jsonl` and in `mlnctl events --json`: its field names are a
//! promise to scripts.

use serde::{Deserialize, Serialize};

use super::request::ProjectRef;

/// How many past events can be asked for at once.
pub const EVENTS_ASKED_MAX: u32 = 1000;

/// The kind of the line that stands for events which a slow reader missed.
pub const SKIPPED_KIND: &str = "skipped";

/// Asks for events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// How many past ones at most, the newest; [`EVENTS_ASKED_MAX`] at most.
    pub last: u32,
    /// Only those of this project.
    pub project: Option<ProjectRef>,
    /// What comes after the past ones.
    pub reading: EventReading,
}

/// What comes after past events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventReading {
    /// Nothing: the answer is over.
    Past,
    /// Each further one as it happens, until whoever asks goes away.
    Follow,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// When it happened, by the clock of the host that says so, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The service host that it happened on.
    pub host: String,
    /// Its kind: `build`, `start`, `ready`, `exit` and so on.
    pub kind: String,
    /// The project, as `OWNER/NAME`.
    pub project: Option<String>,
    /// The VM.
    pub vm: Option<String>,
    /// The rule behind a refusal.
    pub rule: Option<String>,
    /// How a VM ended, as in `exit status 3`.
    pub status: Option<String>,
    /// For people.
    pub text: String,
}

/// The same as a line of JSON.
#[derive(Serialize, Deserialize)]
struct EventLine {
    time: String,
    host: String,
    kind: String,
    project: Option<String>,
    vm: Option<String>,
    rule: Option<String>,
    status: Option<String>,
    text: String,
}

impl EventRow {
    /// Returns it as one line of JSON, without the line's end.
    pub fn to_json_line(&self) -> String {
        let row = self.clone();
        let line = EventLine {
            time: rfc3339(row.unix_ms),
            host: row.host,
            kind: row.kind,
            project: row.project,
            vm: row.vm,
            rule: row.rule,
            status: row.status,
            text: row.text,
        };
        serde_json::to_string(&line).expect("texts are JSON")
    }

    /// Reads such a line; none where it is not one, such as one that a power cut tore.
    pub fn from_json_line(line: &str) -> Option<Self> {
        let line: EventLine = serde_json::from_str(line).ok()?;
        Some(Self {
            unix_ms: parse_rfc3339(&line.time)?,
            host: line.host,
            kind: line.kind,
            project: line.project,
            vm: line.vm,
            rule: line.rule,
            status: line.status,
            text: line.text,
        })
    }
}

/// Writes a moment, in milliseconds since 1970, as RFC 3339 has it, in UTC.
pub fn rfc3339(unix_ms: u64) -> String {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil_date(days);
    let seconds = ms_of_day / 1000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        ms_of_day % 1000
    )
}

/// Reads what [`rfc3339`] writes.
fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (time, ms) = time.split_once('.')?;
    let mut time = time.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = (days_of(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
    Some(seconds * 1000 + ms.parse::<u64>().ok()?.min(999))
}

/// Returns year, month and day of a number of days since 1970: Howard Hinnant's `civil_from_days`.
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

/// The inverse: Hinnant's `days_from_civil`, for years from 1970 on.
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> EventRow {
        EventRow {
            unix_ms: 1_792_843_264_007,
            host: "oslo".to_owned(),
            kind: "exit".to_owned(),
            project: Some("anna/ring".to_owned()),
            vm: Some("router1".to_owned()),
            rule: None,
            status: Some("exit status 7".to_owned()),
            text: "ended by \"itself\"\n".to_owned(),
        }
    }

    #[test]
    fn the_names_of_a_lines_fields_are_a_promise() {
        let line = row().to_json_line();
        let expected = r#"{"time":"2026-10-24T12:01:04.007Z","host":"oslo","kind":"exit","project":"anna/ring","vm":"router1","rule":null,"status":"exit status 7","text":"ended by \"itself\"\n"}"#;
        assert_eq!(line, expected);
        assert_eq!(EventRow::from_json_line(&line), Some(row()));
    }

    #[test]
    fn a_torn_line_is_no_event() {
        let line = row().to_json_line();
        assert_eq!(EventRow::from_json_line(&line[..line.len() - 9]), None);
        assert_eq!(EventRow::from_json_line(""), None);
    }

    #[test]
    fn moments_are_written_and_read_back() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), text);
            assert_eq!(parse_rfc3339(text), Some(unix_ms));
        }
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59.000Z"), None);
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
