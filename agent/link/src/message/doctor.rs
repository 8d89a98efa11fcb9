//! What `doctor` finds: a line per check.

use serde::{Deserialize, Serialize};

/// Every check, in the order of its line; each has a heading of its name in `docs/operations.md`.
pub const DOCTOR_CHECKS: [&str; 21] = [
    "agent",
    "version",
    "configuration",
    "kernel",
    "ptrace",
    "memory-folder",
    "memory-exec",
    "landlock",
    "guest-agent",
    "tools",
    "templates",
    "disk",
    "state",
    "key",
    "ports",
    "peers",
    "clock",
    "passt",
    "default-route",
    "control-group",
    "lingering",
];

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorRow {
    /// The check: a stable word, which is a heading in `docs/operations.md`.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, for people.
    pub finding: String,
    /// One command to type; none where nothing is to be done.
    pub fix: Option<String>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something doesn't work that isn't needed for everything.
    Warn,
    /// Guests don't run, or the agent doesn't.
    Fail,
}

impl Verdict {
    /// Returns the word for it, in tables and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Ok, Self::Warn, Self::Fail].into_iter().find(|verdict| verdict.word() == word)
    }
}

/// The same as JSON: what `mlnctl doctor --json` prints, and `mlnd doctor` line by line.
#[derive(Serialize, Deserialize)]
struct DoctorLine {
    name: String,
    verdict: String,
    finding: String,
    fix: Option<String>,
}

impl DoctorRow {
    /// Returns it as one line of JSON, without the line's end.
    pub fn to_json_line(&self) -> String {
        let Self { name, verdict, finding, fix } = self.clone();
        let line = DoctorLine { name, verdict: verdict.word().to_owned(), finding, fix };
        serde_json::to_string(&line).expect("texts are JSON")
    }

    /// Reads such a line; none where it is not one.
    pub fn from_json_line(line: &str) -> Option<Self> {
        let DoctorLine { name, verdict, finding, fix } = serde_json::from_str(line).ok()?;
        Some(Self { name, verdict: Verdict::parse(&verdict)?, finding, fix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_an_entry_in_the_book() {
        let book = include_str!("../../../../docs/operations.md");
        for name in DOCTOR_CHECKS {
            let heading = format!("#### `{name}`");
            assert!(
                book.lines().any(|line| line == heading),
                "docs/operations.md lacks the heading {heading}"
            );
        }
    }

    #[test]
    fn a_line_comes_back_from_its_json() {
        let row = DoctorRow {
            name: "kernel".to_owned(),
            verdict: Verdict::Fail,
            finding: "not there".to_owned(),
            fix: Some("apt-get install user-mode-linux".to_owned()),
        };
        assert_eq!(DoctorRow::from_json_line(&row.to_json_line()), Some(row));
        assert_eq!(DoctorRow::from_json_line("{}"), None);
    }
}
