//! What differs in what is not carried out yet: told, because it will count one day, and nothing is done about it.

use std::collections::{BTreeMap, BTreeSet};

use super::impact::Act;
use super::row::{Row, Sign, Subject};
use super::sequence::Permission;
use crate::model::{Kept, Section};

/// Returns rows for what came, went or changed of what is not carried out yet, to be told behind the planned `rows`:
/// `global` first, then switches and hosts by name. What comes or goes as a whole is in `rows` already. Passwords are
/// not shown.
pub fn kept_rows(rows: &[Row], from: &[Kept], to: &[Kept]) -> Vec<Row> {
    let told: BTreeSet<&Subject> =
        rows.iter().filter(|row| row.key.is_none()).map(|row| &row.subject).collect();
    let by_key = |all: &'_ [Kept]| -> BTreeMap<(Section, String), Vec<String>> {
        all.iter().map(|one| ((one.section.clone(), one.key.clone()), one.lines.clone())).collect()
    };
    let (from, to) = (by_key(from), by_key(to));
    let keys: BTreeSet<&(Section, String)> = from.keys().chain(to.keys()).collect();
    let differing = keys.into_iter().filter(|key| from.get(key) != to.get(key));
    differing
        .map(|key| {
            let (section, word) = key;
            let text = |side: &BTreeMap<(Section, String), Vec<String>>| {
                let lines = side.get(key)?;
                (!word.contains("passw") && !lines.is_empty()).then(|| lines.join("; "))
            };
            let sign = match (from.contains_key(key), to.contains_key(key)) {
                (false, _) => Sign::Added,
                (true, false) => Sign::Removed,
                (true, true) => Sign::Changed,
            };
            Row {
                sign,
                subject: match section {
                    Section::Project => Subject::Project,
                    Section::Switch(name) => Subject::Switch(name.clone()),
                    Section::Host(name) => Subject::Host(name.clone()),
                },
                key: Some(word.clone()),
                from: text(&from),
                to: text(&to),
                act: Act::Keep,
                why: "this version does not carry it out, so nothing is done about it",
                permission: Permission::Granted,
            }
        })
        .filter(|row| !told.contains(&row.subject))
        .collect()
}
