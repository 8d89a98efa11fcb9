//! The table of `snapshot list`: one line for each snapshot, of what all hosts have of it.

use std::collections::{BTreeMap, BTreeSet};

use mln_link::message::SnapshotRow;
use mln_protocol::id::Name;
use serde_json::{Value, json};

use super::rows::Layout;
use super::table::{name, number, text, with_titles};
use crate::quantity::{date_time, short_bytes};

/// A snapshot, put together from what its hosts have.
struct Whole<'a> {
    name: &'a Name,
    taken_unix_ms: u64,
    bytes: u64,
    vms: BTreeSet<&'a Name>,
    /// The hosts that don't have their part.
    missing: BTreeSet<&'a Name>,
}

fn wholes(rows: &[SnapshotRow]) -> Vec<Whole<'_>> {
    let mut by_name: BTreeMap<&Name, Vec<&SnapshotRow>> = BTreeMap::new();
    for row in rows {
        by_name.entry(&row.name).or_default().push(row);
    }
    let mut all: Vec<Whole<'_>> = by_name.into_iter().map(|(name, parts)| whole(name, &parts)).collect();
    all.sort_by_key(|whole| whole.taken_unix_ms);
    all
}

fn whole<'a>(name: &'a Name, parts: &[&'a SnapshotRow]) -> Whole<'a> {
    let there: BTreeSet<&Name> = parts.iter().map(|part| &part.host).collect();
    let wanted = parts.iter().copied().flat_map(|part| &part.hosts);
    Whole {
        name,
        taken_unix_ms: parts.iter().map(|part| part.taken_unix_ms).max().unwrap_or(0),
        bytes: parts.iter().map(|part| part.bytes).sum(),
        vms: parts.iter().copied().flat_map(|part| &part.vms).collect(),
        missing: wanted.filter(|host| !there.contains(host)).collect(),
    }
}

fn words(names: &BTreeSet<&Name>) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// Returns the table, oldest first.
pub fn table(rows: &[SnapshotRow], layout: Layout) -> String {
    let columns = [name("Snapshot"), name("Taken"), number("Size"), number("Hosts"), text("")];
    let lines = wholes(rows).into_iter().map(|whole| {
        let note = match whole.missing.is_empty() {
            true => String::new(),
            false => format!("not whole: {} lacks its part", words(&whole.missing).join(", ")),
        };
        vec![
            whole.name.to_string(),
            date_time(whole.taken_unix_ms),
            short_bytes(whole.bytes),
            whole.vms.len().to_string(),
            note,
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// Returns the same as an array.
pub fn json(rows: &[SnapshotRow]) -> Value {
    wholes(rows)
        .into_iter()
        .map(|whole| {
            json!({
                "name": whole.name.as_str(),
                "taken_unix_ms": whole.taken_unix_ms,
                "bytes": whole.bytes,
                "hosts": words(&whole.vms),
                "whole": whole.missing.is_empty(),
                "missing": words(&whole.missing),
            })
        })
        .collect()
}

/// Returns a line for each part of a snapshot that a host has.
pub fn lines(rows: &[SnapshotRow]) -> String {
    let line = |row: &SnapshotRow| {
        let (size, date) = (short_bytes(row.bytes), date_time(row.taken_unix_ms));
        format!("{} snapshot {} of {date} takes {size}\n", row.project, row.name)
    };
    rows.iter().map(line).collect()
}

/// Returns the same as an array.
pub fn json_here(rows: &[SnapshotRow]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "owner": row.owner.as_str(),
                "project": row.project.as_str(),
                "name": row.name.as_str(),
                "service_host": row.host.as_str(),
                "bytes": row.bytes,
                "taken_unix_ms": row.taken_unix_ms,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_whole_when_all_its_hosts_have_their_parts() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let row = |snapshot: &str, host: &str| SnapshotRow {
            owner: name("anna"),
            project: name("ring"),
            name: name(snapshot),
            host: name(host),
            hosts: vec![name("oslo"), name("bergen")],
            vms: vec![name(if host == "oslo" { "r1" } else { "r2" })],
            bytes: 1024,
            taken_unix_ms: 0,
        };
        let rows = [row("a", "oslo"), row("a", "bergen"), row("b", "oslo")];
        let found = json(&rows);
        assert_eq!((&found[0]["whole"], &found[0]["bytes"]), (&json!(true), &json!(2048)));
        assert_eq!((&found[1]["whole"], &found[1]["missing"]), (&json!(false), &json!(["bergen"])));
        let layout = Layout { columns: 80, status_spacing: super::super::table::Spacing::Aligned };
        assert!(table(&rows, layout).contains("not whole: bergen lacks its part"));
    }
}
