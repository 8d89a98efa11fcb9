//! Planned changes for people: a line for each, why where it stops something, and counts last.

use mln_protocol::plan::{Act, Counts, Effect, Permission, Row, counts};

use super::table::{self, Spacing};

/// How wide the lines are, in characters.
const COLUMNS: usize = 80;

/// Returns planned changes as lines: `+` comes, `-` goes, `~` changes, `>` moves.
pub fn describe(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no changes\n".to_owned();
    }
    let columns = [table::name(""), table::text(""), table::name("")];
    let cells = rows.iter().map(|row| vec![subject(row), what(row), row.act.word().to_owned()]).collect();
    let lines = table::without_titles(&columns, cells, Spacing::Aligned, COLUMNS);
    let mut text = String::new();
    let next = rows.iter().skip(1).map(Some).chain([None]);
    for ((line, row), next) in lines.lines().zip(rows).zip(next) {
        text += &format!("{line}\n");
        // What several lines in a row have in common is said once.
        if !next.is_some_and(|next| row.act == Act::Keep && (next.act, next.why) == (row.act, row.why)) {
            text += &reason(row);
        }
    }
    text + &counted(counts(rows)) + "\n"
}

fn subject(row: &Row) -> String {
    let name = row.subject.name().map_or(String::new(), |name| format!(" {name}"));
    format!("{} {}{name}", row.sign.character(), row.subject.kind())
}

fn what(row: &Row) -> String {
    let Some(key) = &row.key else { return String::new() };
    match (&row.from, &row.to) {
        (Some(from), Some(to)) => format!("{key}: {from} → {to}"),
        (Some(one), None) | (None, Some(one)) => format!("{key}: {one}"),
        (None, None) => key.clone(),
    }
}

/// Returns why something is stopped, and how to ask for what is refused.
fn reason(row: &Row) -> String {
    let why = match row.act {
        Act::Build | Act::Remove | Act::Return | Act::Change(Effect::Live) => return String::new(),
        Act::Keep | Act::Change(Effect::LiveOrReboot | Effect::Reboot | Effect::Rebuild | Effect::Move) => {
            format!("      {}\n", row.why)
        }
    };
    match (row.permission, row.subject.name()) {
        (Permission::Refused(_), Some(name)) => {
            format!("{why}      refused unless asked for: --rebuild {name}\n")
        }
        (Permission::Refused(_), None) | (Permission::Granted, _) => why,
    }
}

fn counted(counts: Counts) -> String {
    let Counts { added, removed, changed, moved, refused } = counts;
    let parts = [
        (added, "added"),
        (removed, "removed"),
        (changed, "changed"),
        (moved, "moved"),
        (refused, "of these refused"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    parts.join(", ")
}
