//! What a host has room for.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mln_protocol::model::{DiskBytes, MemoryMib};
use mln_protocol::wire::holder::LaunchWire;
use rustix::fs::StatVfsMountFlags;

use crate::holder::files;
use crate::platform::StepError;

/// Returns what is free in a folder.
pub(super) fn available(folder: &Path) -> std::io::Result<DiskBytes> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(DiskBytes(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Returns what is free in a folder for guests' memory.
pub(super) fn memory_available(folder: &Path) -> std::io::Result<MemoryMib> {
    Ok(MemoryMib(u32::try_from(available(folder)?.0 >> 20).unwrap_or(u32::MAX)))
}

/// Finds the first folder where a guest's memory has room.
///
/// The file grows as the guest uses its memory, so room for all of it now is no promise; but without it the
/// guest would be killed in the middle of something.
pub(super) fn memory_folder(folders: &[PathBuf], wanted: MemoryMib) -> Result<PathBuf, StepError> {
    let mut refused = None;
    for folder in folders {
        match usable(folder, wanted) {
            Ok(()) => return Ok(folder.clone()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let nowhere = || StepError::MemoryFolderTooSmall {
        folder: PathBuf::from("/dev/shm"),
        available: MemoryMib(0),
        wanted,
    };
    Err(refused.unwrap_or_else(nowhere))
}

fn usable(folder: &Path, wanted: MemoryMib) -> Result<(), StepError> {
    let looking = |source| StepError::io("looking at", folder, source);
    let stat = rustix::fs::statvfs(folder).map_err(|errno| looking(errno.into()))?;
    if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(StepError::MemoryFolderNoExec { folder: folder.to_owned() });
    }
    let available = memory_available(folder).map_err(looking)?;
    if available < wanted {
        return Err(StepError::MemoryFolderTooSmall { folder: folder.to_owned(), available, wanted });
    }
    Ok(())
}

/// How the name of a folder begins that has the memory of one guest alone.
const OWN: &str = "mln-memory-";

/// Makes a folder in one of those for guests' memory that only one guest's process may use.
pub(super) fn own_memory_folder(parent: &Path) -> Result<PathBuf, StepError> {
    let since = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    let folder = parent.join(format!("{OWN}{}-{since}", std::process::id()));
    // Nobody else has made it: others of the host may write beside it.
    let made = fs::DirBuilder::new().mode(files::PRIVATE_FOLDER).create(&folder);
    made.map_err(|source| StepError::io("making", &folder, source))?;
    Ok(folder)
}

/// Removes such a folder, if a VM was last started with one. Only where the VM doesn't run.
pub(super) fn remove_own_memory_folder(vm_folder: &Path, parents: &[PathBuf]) {
    let Ok(launch) = files::read::<LaunchWire>(vm_folder, files::LAUNCH) else { return };
    let folder = Path::new(&launch.memory_folder);
    let is_own = folder.file_name().is_some_and(|name| name.as_bytes().starts_with(OWN.as_bytes()))
        && folder.parent().is_some_and(|parent| parents.iter().any(|one| one == parent));
    if is_own
        && let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a guest's memory folder stays; remove it by hand");
    }
}

/// Reads the host's memory, in all and free, from the text of `/proc/meminfo`.
pub(super) fn host_memory(meminfo: &str) -> (MemoryMib, MemoryMib) {
    let field = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
        let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        MemoryMib(u32::try_from(kib.unwrap_or(0) / 1024).unwrap_or(u32::MAX))
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemTotal:       24683520 kB\nMemFree: 1 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(host_memory(text), (MemoryMib(24105), MemoryMib(20)));
        assert_eq!(host_memory(""), (MemoryMib(0), MemoryMib(0)));
    }

    #[test]
    fn a_folder_that_is_too_small_is_refused_with_what_to_do() {
        let folders = [PathBuf::from("/dev/shm")];
        assert_eq!(memory_folder(&folders, MemoryMib(1)).expect("fits"), folders[0]);
        let error = memory_folder(&folders, MemoryMib(u32::MAX)).expect_err("nobody has that");
        assert!(error.to_string().contains("remount,size="), "{error}");
        // Where the next one does, it is taken.
        let none = tempfile::tempdir().expect("a folder").path().join("none");
        let either = [none, folders[0].clone()];
        assert_eq!(memory_folder(&either, MemoryMib(1)).expect("fits"), folders[0]);
    }
}
