//! What VMs have of the outside, beside their rows of `status`.

use std::collections::{BTreeMap, BTreeSet};

use mln_link::message::{NatState, OutsideRow, StartupRow, StatusRow, VmState};

/// What VMs have of the outside, by VM.
#[derive(Debug, Default)]
pub struct Outside<'a> {
    rows: BTreeMap<(&'a str, &'a str, &'a str), &'a OutsideRow>,
    /// Those whose startup lines failed.
    unready: BTreeSet<(&'a str, &'a str, &'a str)>,
}

impl<'a> Outside<'a> {
    /// Sorts what the agent told.
    pub fn of(rows: &'a [OutsideRow]) -> Self {
        let key = |row: &'a OutsideRow| ((row.owner.as_str(), row.project.as_str(), row.vm.as_str()), row);
        Self { rows: rows.iter().map(key).collect(), unready: BTreeSet::new() }
    }

    /// Takes in which VMs had startup lines that failed.
    pub fn and_startup(self, rows: &'a [StartupRow]) -> Self {
        let key = |row: &'a StartupRow| (row.owner.as_str(), row.project.as_str(), row.vm.as_str());
        Self { unready: rows.iter().map(key).collect(), ..self }
    }

    /// Whether the startup lines of a VM failed.
    pub fn has_failed_startup(&self, row: &StatusRow) -> bool {
        self.unready.contains(&(row.owner.as_str(), row.project.as_str(), row.vm.as_str()))
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
        let startup = self
            .has_failed_startup(row)
            .then(|| format!("its startup lines failed: mlnctl logs {}/{}", row.project, row.vm));
        let Some(found) = self.of_vm(row) else { return startup.unwrap_or_default() };
        let ports = found.forwards.iter().map(|forward| format!("forward {forward}"));
        // What doesn't run needs no way out.
        let runs = matches!(row.state, VmState::Up | VmState::Starting);
        let nat = self.why_no_nat(row).filter(|_| runs).map(|why| format!("nat: none ({why})"));
        startup.into_iter().chain(nat).chain(ports).collect::<Vec<_>>().join("; ")
    }
}
