//! Events: what happens in a mesh, as rows on the wire and as lines of JSON.
//!
//! Kinds are words and not an enumeration, so that an `mlnctl` of another version shows what it doesn't know.
//! The line of JSON is the same in an agent's `events.jsonl` and in `mlnctl events --json`: its field names are a
//! promise to scripts.

use std::time::{Duration, UNIX_EPOCH};

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

/// The last millisecond of the year 9999: RFC 3339 has no later one.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

/// Writes a moment, in milliseconds since 1970, as RFC 3339 has it, in UTC; what is later than the year 9999 as its
/// end.
pub fn rfc3339(unix_ms: u64) -> String {
    let moment = UNIX_EPOCH + Duration::from_millis(unix_ms.min(UNIX_MS_MAX));
    humantime::format_rfc3339_millis(moment).to_string()
}

/// Reads what [`rfc3339`] writes.
fn parse_rfc3339(text: &str) -> Option<u64> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
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
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59.000Z"), None);
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
