//! What VMs have of the outside, beside their rows of `status`.

use std::collections::BTreeMap;

use mln_link::message::{NatState, OutsideRow, StatusRow, VmState};

/// What VMs have of the outside, by VM.
#[derive(Debug, Default)]
pub struct Outside<'a> {
    rows: BTreeMap<(&'a str, &'a str, &'a str), &'a OutsideRow>,
}

impl<'a> Outside<'a> {
    /// Sorts what the agent told.
    pub fn of(rows: &'a [OutsideRow]) -> Self {
        let key = |row: &'a OutsideRow| ((row.owner.as_str(), row.project.as_str(), row.vm.as_str()), row);
        Self { rows: rows.iter().map(key).collect() }
    }

    /// Returns what a VM has; none where that is nothing.
    pub fn of_vm(&self, row: &StatusRow) -> Option<&'a OutsideRow> {
        self.rows.get(&(row.owner.as_str(), row.project.as_str(), row.vm.as_str())).copied()
    }

    /// Returns why a VM doesn't get out; none where it does, or needn't.
    pub fn why_no_nat(&self, row: &StatusRow) -> Option<&'a str> {
        match self.of_vm(row)?.nat.as_ref()? {
            NatState::Up => None,
            NatState::None { why } => Some(why),
        }
    }

    /// Returns what the table says of it: the ports that lead to the VM, and that it doesn't get out.
    pub fn note(&self, row: &StatusRow) -> String {
        let Some(found) = self.of_vm(row) else { return String::new() };
        let ports = found.forwards.iter().map(|forward| format!("forward {forward}"));
        // What doesn't run needs no way out.
        let runs = matches!(row.state, VmState::Up | VmState::Starting);
        let nat = self.why_no_nat(row).filter(|_| runs).map(|why| format!("nat: none ({why})"));
        nat.into_iter().chain(ports).collect::<Vec<_>>().join("; ")
    }
}
