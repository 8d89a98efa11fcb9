//! Giving a VM that doesn't run what its definition says by now: it has it when it is started the next time.
//!
//! What is on its disks stays; a longer file is put under the one with the system where it is to be larger than what it
//! lies over, and further disks come and go. Every file is replaced whole; one that says the same stays, so that nothing is written
//! where nothing has changed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use mln_protocol::id::Digest;
use mln_protocol::model::{DiskSize, Vm};
use mln_protocol::wire::encode;
use mln_protocol::wire::holder::{HOLDER_VERSION, MemoryFileWire, VmFileWire};
use serde::Serialize;
use tracing::info;

use super::folder::{VmFile, VmFolders};
use super::{build, check, drives, outside, redrive};
use crate::disk::DiskFolder;
use crate::holder::{FolderLock, files};
use crate::image::{IMAGE_MTIME, ImageStore, cow};
use crate::platform::{BuildRequest, Configuration, StepError};

/// The end of the name of a file that is not yet the one.
const FRESH: &str = "new";

/// Writes what a VM is started with; nothing where it runs.
pub(super) fn configure(
    folders: &VmFolders,
    images: &ImageStore,
    configuration: Configuration,
) -> Result<(), StepError> {
    let folder = folders.path(&configuration.id);
    let known = VmFile::read(&folder)?;
    if known.vm != configuration.id {
        return Err(StepError::NoSuchVm { vm: configuration.id });
    }
    let lock = match FolderLock::take(&folder) {
        Ok(lock) => lock,
        // It runs: what it was started with stays until it doesn't.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(StepError::io("locking", folder.join(files::LOCK), error)),
    };
    let Configuration { id, vm, label, guest_names, files: contents } = configuration;
    let template = Digest(known.wire.template);
    let request = BuildRequest { id, vm, label, template, guest_names, files: contents, first: None };
    let disk_bytes = disk_bytes(images, &known.wire, request.vm.disk)?;
    let backing_bytes = make_room(&folder, images, &known.wire, disk_bytes)?;
    redrive::redrive(&folder, &request, disk_bytes)?;
    put_seed(&folder, &request, disk_bytes)?;
    put(&folder, files::OUTSIDE, &outside::outside(&request))?;
    match drives::extra(&request.vm) {
        Some(extra) => put(&folder, files::EXTRA, &extra)?,
        None => remove(&folder, files::EXTRA)?,
    }
    let wire = VmFileWire {
        memory_mib: request.vm.memory.0,
        interfaces: build::interfaces(&request).collect(),
        backing_bytes,
        ..known.wire
    };
    put(&folder, files::MEMORY, &memory_of(&request.vm))?;
    // Last: whoever reads it finds what belongs to it.
    put(&folder, files::VM, &wire)?;
    drop(lock);
    Ok(())
}

/// Returns how much memory a VM is started with, and has then.
pub(super) fn memory_of(vm: &Vm) -> MemoryFileWire {
    let most = vm.setup.memory_max.unwrap_or(vm.memory).max(vm.memory);
    MemoryFileWire { version: HOLDER_VERSION, memory_mib: vm.memory.0, memory_max_mib: most.0 }
}

/// Returns how large the file system of a VM that is there shall be; none is as it is.
pub(super) fn disk_bytes(
    images: &ImageStore,
    file: &VmFileWire,
    size: DiskSize,
) -> Result<Option<u64>, StepError> {
    let (_, file_system_bytes) = images.sizes(&Digest(file.template))?;
    Ok(check::disk_bytes(size, file_system_bytes)?)
}

/// Returns how large the disk of a VM is, which is how far its file system can grow as it runs.
pub(super) fn disk_length(folder: &Path) -> Result<u64, StepError> {
    let path = folder.join(files::DISK);
    let read = || cow::layout(&File::open(&path)?);
    let layout = read().map_err(|source| StepError::io("reading", &path, source))?;
    Ok(layout.bytes)
}

/// Puts a longer file under the disk of a VM that doesn't run, where it has no room for a file system of that size; returns
/// how large the disk is then. Where that fails the disk is as it was.
fn make_room(
    folder: &Path,
    images: &ImageStore,
    file: &VmFileWire,
    wanted: Option<u64>,
) -> Result<u64, StepError> {
    // The disk says it, and not the file beside it: the power may have gone between the two.
    let length = disk_length(folder)?;
    let path = folder.join(files::DISK);
    let fresh = path.with_extension(FRESH);
    let writing = |source| StepError::io("writing", &fresh, source);
    // What a killed agent was writing.
    remove_file(&fresh).map_err(writing)?;
    let Some(bytes) = wanted.filter(|bytes| *bytes > length) else { return Ok(length) };
    DiskFolder::at(folder).void().map_err(writing)?;
    let backing = images.backing(&Digest(file.template), bytes)?;
    let lengthen = || {
        cow::lengthen(&File::open(&path)?, &fresh, &backing, bytes, IMAGE_MTIME)?;
        fs::rename(&fresh, &path)?;
        File::open(folder)?.sync_all()
    };
    lengthen().map_err(|source| {
        // It takes the room that there was too little of; what stays goes with the next try.
        let _ = fs::remove_file(&fresh);
        writing(source)
    })?;
    info!(folder = %folder.display(), length, bytes, "a longer file is under its disk");
    Ok(bytes)
}

pub(super) fn put<T: Serialize>(folder: &Path, name: &'static str, value: &T) -> Result<(), StepError> {
    if fs::read(folder.join(name)).is_ok_and(|there| there == encode(value)) {
        return Ok(());
    }
    build::write(folder, name, value)
}

fn put_seed(folder: &Path, request: &BuildRequest, disk_bytes: Option<u64>) -> Result<(), StepError> {
    let path = folder.join(files::SEED);
    let fresh = path.with_extension(FRESH);
    let writing = |source| StepError::io("writing", &path, source);
    // What a killed agent was writing.
    remove_file(&fresh).map_err(writing)?;
    build::write_seed(&fresh, request, disk_bytes)?;
    let same = fs::read(&path).is_ok_and(|there| fs::read(&fresh).is_ok_and(|fresh| fresh == there));
    if same {
        return remove_file(&fresh).map_err(writing);
    }
    fs::rename(&fresh, &path).and_then(|()| File::open(folder)?.sync_all()).map_err(writing)
}

pub(super) fn remove(folder: &Path, name: &'static str) -> Result<(), StepError> {
    let path = folder.join(name);
    remove_file(&path).map_err(|source| StepError::io("removing", &path, source))
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
