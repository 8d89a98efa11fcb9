//! The files that are a VM's disks, and giving it other ones.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{VmFile, VmFolders};
use crate::holder::files;
use crate::image::sparse;
use crate::platform::StepError;
use mln_protocol::id::VmId;

/// How the name of a file ends that is to take a disk's place.
const RESTORING: &str = ".restoring";

/// Returns the files that hold what a VM has written: its layer, and its further disks.
pub(super) fn of(folders: &VmFolders, vm: &VmId) -> Result<Vec<PathBuf>, StepError> {
    let folder = folders.path(vm);
    match VmFile::read(&folder) {
        Ok(file) if file.vm == *vm => {}
        Ok(_) => return Err(StepError::NoSuchVm { vm: vm.clone() }),
        Err(error) if error.is_absent() => return Err(StepError::NoSuchVm { vm: vm.clone() }),
        Err(error) => return Err(error.into()),
    }
    let entries = fs::read_dir(&folder).map_err(|source| StepError::io("reading", &folder, source))?;
    let is_disk = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name == files::DISK || name.starts_with("disk-") && name.ends_with(".img")
    };
    let mut disks: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_disk).collect();
    disks.sort();
    Ok(disks)
}

/// Gives a VM that doesn't run copies of these files as its disks. Each takes the place of the one of its name, whole or
/// not at all; the VM must have one of that name and length.
pub(super) fn replace(folders: &VmFolders, vm: &VmId, copies: &[PathBuf]) -> Result<(), StepError> {
    let own = of(folders, vm)?;
    let mut staged = Vec::new();
    for copy in copies {
        let place = own.iter().find(|disk| disk.file_name() == copy.file_name());
        let failed = |source| StepError::io("restoring", copy, source);
        let length = |path: &Path| path.metadata().map(|metadata| metadata.len());
        let place = place.filter(|place| length(place).ok() == length(copy).ok()).ok_or_else(|| {
            failed(io::Error::other("the VM has no such disk any more, or one of another size"))
        })?;
        let mut name = place.file_name().unwrap_or_default().to_os_string();
        name.push(RESTORING);
        let stage = place.with_file_name(name);
        let written = || {
            match fs::remove_file(&stage) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let target = File::options().read(true).write(true).create_new(true).open(&stage)?;
            let source = File::open(copy)?;
            if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
                sparse::copy(&source, &target)?;
            }
            target.set_permissions(place.metadata()?.permissions())?;
            target.sync_all()
        };
        written().map_err(failed)?;
        staged.push((stage, place.clone()));
    }
    let folder = folders.path(vm);
    let placed = || {
        for (stage, place) in &staged {
            fs::rename(stage, place)?;
        }
        File::open(&folder)?.sync_all()
    };
    placed().map_err(|source| StepError::io("restoring", &folder, source))
}
