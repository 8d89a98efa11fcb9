//! Where VMs are kept, and what is left there and in the process table when something was killed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mln_protocol::id::{Digest, Label, Name, VmId};
use mln_protocol::wire::DecodeError;
use mln_protocol::wire::holder::VmFileWire;
use rustix::process::Pid;

use crate::holder::files::{self, FileError};
use crate::holder::group::{group_of, kill_and_wait};
use crate::holder::tap;

/// How the name of a folder begins that is no VM's: theirs begin with a digit of their birth.
const HIDDEN: &str = ".";
/// How the name of a folder ends that isn't finished. That of a VM may end so too.
const BUILDING: &str = ".building";
/// How the name of a folder ends that has the copy of a VM's drives.
const COPY: &str = ".copy";
/// How the name of a folder ends that is on its way out.
const REMOVING: &str = ".removing";

/// The folder of all VMs.
#[derive(Debug, Clone)]
pub(super) struct VmFolders {
    pub(super) folder: PathBuf,
}

impl VmFolders {
    pub(super) fn path(&self, vm: &VmId) -> PathBuf {
        self.folder.join(format!("{}-{}", vm.birth.short(), vm.name))
    }

    pub(super) fn building(&self, vm: &VmId) -> PathBuf {
        self.hidden(vm, BUILDING)
    }

    pub(super) fn removing(&self, vm: &VmId) -> PathBuf {
        self.hidden(vm, REMOVING)
    }

    pub(super) fn copy(&self, vm: &VmId) -> PathBuf {
        self.hidden(vm, COPY)
    }

    fn hidden(&self, vm: &VmId, end: &str) -> PathBuf {
        self.folder.join(format!("{HIDDEN}{}-{}{end}", vm.birth.short(), vm.name))
    }

    /// Returns the folders of finished VMs and those of copies, and changes nothing.
    pub(super) fn known(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut known = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if (!is_hidden(name.as_bytes()) || name.as_bytes().ends_with(COPY.as_bytes()))
                && entry.path().join(files::VM).exists()
            {
                known.push(entry.path());
            }
        }
        Ok(known)
    }

    /// Returns the folders of copies, in the order of their names.
    pub(super) fn copies(&self) -> std::io::Result<Vec<PathBuf>> {
        let is_copy = |path: &PathBuf| {
            let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
            is_hidden(name) && name.ends_with(COPY.as_bytes())
        };
        let mut copies = self.known()?;
        copies.retain(is_copy);
        copies.sort();
        Ok(copies)
    }

    /// Returns the folders of finished VMs, in the order of their names; clears away those that are not
    /// finished or on their way out. What can't be cleared away stays, with a warning.
    pub(super) fn finished(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut finished = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
            let ends = |end: &str| name.ends_with(end.as_bytes());
            if is_hidden(&name) && (ends(BUILDING) || ends(REMOVING)) {
                if let Err(error) = fs::remove_dir_all(&path) {
                    tracing::warn!(folder = %path.display(), %error, "a leftover stays; remove it by hand");
                }
            } else if !is_hidden(&name) && path.join(files::VM).exists() {
                finished.push(path);
            }
        }
        finished.sort();
        Ok(finished)
    }
}

/// Whether the name of a folder is no VM's.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(HIDDEN.as_bytes())
}

/// What a VM's folder says about it.
#[derive(Debug, Clone)]
pub(super) struct VmFile {
    pub(super) vm: VmId,
    pub(super) label: Label,
    pub(super) interfaces: Vec<Name>,
    pub(super) wire: VmFileWire,
}

impl VmFile {
    pub(super) fn read(folder: &Path) -> Result<Self, FileError> {
        let wire: VmFileWire = files::read(folder, files::VM)?;
        let name = |text: &str| {
            let invalid = DecodeError::Invalid { what: "name" };
            Name::parse(text).map_err(|_| FileError::Decode { name: files::VM, source: invalid })
        };
        Ok(Self {
            vm: VmId { birth: Digest(wire.birth), name: name(&wire.name)? },
            label: Label { owner: name(&wire.owner)?, project: name(&wire.project)? },
            interfaces: wire.interfaces.iter().map(|i| name(&i.name)).collect::<Result<_, _>>()?,
            wire,
        })
    }
}

/// Kills what is left of a guest whose holder is gone. Only for who has the folder's lock.
pub(super) fn sweep(folder: &Path, kernel: &Path) {
    let Ok(folder) = folder.canonicalize() else { return };
    let kernel = kernel.canonicalize().unwrap_or_else(|_| kernel.to_owned());
    let groups: Vec<Pid> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let link = |name| fs::read_link(entry.path().join(name)).ok();
            link("cwd").is_some_and(|cwd| cwd == folder) && link("exe").is_some_and(|exe| exe == kernel)
        })
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter_map(group_of)
        .collect();
    tap::remove_for(&folder);
    for group in groups {
        tracing::warn!(folder = %folder.display(), group = group.as_raw_nonzero(), "killing a guest without holder");
        kill_and_wait(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_vm_makes_its_folder_a_leftover() {
        let data = tempfile::tempdir().expect("a folder");
        let folders = VmFolders { folder: data.path().to_owned() };
        let vm = |name| VmId { birth: Digest::of(b"a revision"), name: Name::parse(name).expect("a name") };
        let mut kept: Vec<PathBuf> =
            ["a", "a.building", "a.removing"].into_iter().map(|name| folders.path(&vm(name))).collect();
        kept.sort();
        let copy = folders.copy(&vm("a"));
        let leftovers = [folders.building(&vm("b")), folders.removing(&vm("b"))];
        for folder in kept.iter().chain(&leftovers).chain([&copy]) {
            fs::create_dir(folder).expect("is made");
            fs::write(folder.join(files::VM), "a VM").expect("is written");
        }
        assert_eq!(folders.finished().expect("reads"), kept);
        assert!(leftovers.iter().all(|folder| !folder.exists()));
        assert_eq!(folders.copies().expect("reads"), [copy]);
        assert_eq!(folders.known().expect("reads").len(), 4);
    }

    #[test]
    fn what_is_no_folder_is_passed_over() {
        let data = tempfile::tempdir().expect("a folder");
        let folders = VmFolders { folder: data.path().to_owned() };
        for name in ["notes", ".notes.building"] {
            fs::write(data.path().join(name), "").expect("is written");
        }
        assert_eq!(folders.finished().expect("reads"), [] as [PathBuf; 0]);
    }
}
