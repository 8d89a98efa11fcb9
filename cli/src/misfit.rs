//! Disks of an export that its text has no place for: a build from it would be refused, or would fail.

use std::collections::BTreeMap;

use mln_protocol::id::Name;
use mln_protocol::lang::{self, NoIncludes};
use mln_protocol::model::{MountSource, Vm};
use mln_protocol::resolve::{self, Options};
use mln_protocol::wire::{DriveShape, ExportedDisk};

/// A further disk that the text of its machine says nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Whose.
    pub vm: Name,
    /// How large it is, in bytes.
    pub bytes: u64,
    /// Whether it may be for swapping, and then simply goes.
    pub kind: MisfitKind,
}

/// What a disk without a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MisfitKind {
    /// It is mounted: a build is refused.
    Mounted,
    /// It is the last one, as that for swapping is: whether it is that stands on it alone.
    MountedOrSwap,
}

impl Misfit {
    /// Returns it in words.
    pub fn text(&self) -> String {
        let Self { vm, bytes, kind } = self;
        let mib = bytes.div_ceil(1 << 20);
        let what =
            format!("{vm}: a further disk of {mib} MiB came with it, and the text has none of that size");
        match kind {
            MisfitKind::Mounted => what,
            MisfitKind::MountedOrSwap => format!("{what}: unless it is for swapping, it can't be built"),
        }
    }
}

/// Returns the disks that a text has no place for, by the machines of the text.
pub fn misfits(source: &str, variables: BTreeMap<String, String>, disks: &[ExportedDisk]) -> Vec<Misfit> {
    let (tree, _) = lang::parse("project", source.to_owned(), &NoIncludes);
    let project = resolve::resolve(&tree, &Options { variables, owner: None }).project;
    let of_disk = |disk: &ExportedDisk| {
        let vm = project.vms.iter().find(|vm| vm.name == disk.name)?;
        Some(of_vm(vm, &disk.drives))
    };
    disks.iter().filter_map(of_disk).flatten().collect()
}

fn of_vm(vm: &Vm, drives: &[DriveShape]) -> Vec<Misfit> {
    let mut wanted: Vec<u64> = vm
        .setup
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Disk(bytes) => Some(bytes.0),
            MountSource::Image(_) | MountSource::Folder(_) => None,
        })
        .chain(vm.setup.swap.map(|bytes| bytes.0))
        .collect();
    let came: Vec<u64> =
        drives.iter().filter(|drive| drive.template.is_none()).map(|drive| drive.bytes).collect();
    let last = came.len().saturating_sub(1);
    let mut misfits = Vec::new();
    for (index, bytes) in came.into_iter().enumerate() {
        match wanted.iter().position(|wanted| *wanted == bytes) {
            Some(found) => drop(wanted.remove(found)),
            None => {
                let kind = if index == last { MisfitKind::MountedOrSwap } else { MisfitKind::Mounted };
                misfits.push(Misfit { vm: vm.name.clone(), bytes, kind });
            }
        }
    }
    misfits
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::Digest;
    use mln_protocol::wire::DriveTemplate;

    const MIB: u64 = 1 << 20;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[track_caller]
    fn check(inside: &str, came_mib: &[u64], expect: &[(u64, MisfitKind)]) {
        let template = DriveTemplate { name: name("mini"), digest: Digest([1; 32]) };
        let mut drives = vec![DriveShape { name: name("root"), bytes: MIB, template: Some(template) }];
        drives.extend(came_mib.iter().zip('d'..).map(|(mib, letter)| DriveShape {
            name: name(&letter.to_string()),
            bytes: mib * MIB,
            template: None,
        }));
        let disk = ExportedDisk { name: name("vm"), drives, blocks: 0, bytes: 0, root: Digest([2; 32]) };
        let text = format!("global {{ project p }}\nhost vm {{ {inside} }}\n");
        let found: Vec<_> = misfits(&text, BTreeMap::new(), &[disk])
            .into_iter()
            .map(|misfit| (misfit.bytes / MIB, misfit.kind))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_disk_that_the_text_has_no_place_for_is_found_and_the_last_may_be_a_swap() {
        let two = "mount { 8M /a ext4; 9M /b ext4 }; swap 16M";
        check(two, &[8, 9, 16], &[]);
        check(two, &[9, 8, 16], &[]);
        check(two, &[8, 9], &[]);
        check(two, &[8, 9, 32], &[(32, MisfitKind::MountedOrSwap)]);
        check(two, &[8, 10, 16], &[(10, MisfitKind::Mounted)]);
        check("", &[8, 16], &[(8, MisfitKind::Mounted), (16, MisfitKind::MountedOrSwap)]);
    }
}
