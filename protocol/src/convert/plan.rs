//! Planned changes in the shape that scripts read.

use serde::Serialize;

use crate::id::Name;
use crate::plan::{Permission, Row, counts};

#[derive(Serialize)]
struct PlanJson<'a> {
    from: &'a str,
    to: &'a str,
    changes: Vec<RowJson<'a>>,
    counts: CountsJson,
}

#[derive(Serialize)]
struct RowJson<'a> {
    sign: char,
    kind: &'static str,
    name: Option<&'a str>,
    key: Option<&'a str>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    act: &'static str,
    why: &'static str,
    refused: bool,
}

#[derive(Serialize)]
struct CountsJson {
    added: usize,
    removed: usize,
    changed: usize,
    moved: usize,
    refused: usize,
}

/// Returns `{"from": …, "to": …, "changes": […], "counts": {…}}`, on several lines.
pub fn plan_json(from: &Name, to: &Name, rows: &[Row]) -> String {
    let counted = counts(rows);
    let shape = PlanJson {
        from: from.as_str(),
        to: to.as_str(),
        changes: rows
            .iter()
            .map(|row| RowJson {
                sign: row.sign.character(),
                kind: row.subject.kind(),
                name: row.subject.name().map(Name::as_str),
                key: row.key.as_deref(),
                from: row.from.as_deref(),
                to: row.to.as_deref(),
                act: row.act.word(),
                why: row.why,
                refused: row.permission != Permission::Granted,
            })
            .collect(),
        counts: CountsJson {
            added: counted.added,
            removed: counted.removed,
            changed: counted.changed,
            moved: counted.moved,
            refused: counted.refused,
        },
    };
    serde_json::to_string_pretty(&shape).expect("strings, numbers and lists of them always serialize")
}
