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

/// The end of the name of a folder that isn't finished.
pub(super) const BUILDING: &str = ".building";
/// The end of the name of a folder that is on its way out.
pub(super) const REMOVING: &str = ".removing";

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
        self.with_end(vm, BUILDING)
    }

    pub(super) fn removing(&self, vm: &VmId) -> PathBuf {
        self.with_end(vm, REMOVING)
    }

    fn with_end(&self, vm: &VmId, end: &str) -> PathBuf {
        self.folder.join(format!("{}-{}{end}", vm.birth.short(), vm.name))
    }

    /// Returns the folders of finished VMs, in the order of their names; clears away the others.
    pub(super) fn finished(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut finished = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
            if name.ends_with(BUILDING.as_bytes()) || name.ends_with(REMOVING.as_bytes()) {
                fs::remove_dir_all(&path)?;
            } else if path.join(files::VM).exists() {
                finished.push(path);
            }
        }
        finished.sort();
        Ok(finished)
    }
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
    for group in groups {
        tracing::warn!(folder = %folder.display(), group = group.as_raw_nonzero(), "killing a guest without holder");
        kill_and_wait(group);
    }
}
