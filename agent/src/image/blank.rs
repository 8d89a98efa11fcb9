//! Disks that begin empty: with a file system, or for swapping.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::ImageError;
use super::store::TOOL_PATH;

/// The size of a page, in bytes, by which swap is counted.
const PAGE_BYTES: u64 = 4096;
/// Where the last word of a swap area's first page begins.
const SIGNATURE_OFFSET: u64 = PAGE_BYTES - SIGNATURE.len() as u64;
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";
/// Where the numbers of a swap area begin: its version, its last page, and how many pages are bad.
const NUMBERS_OFFSET: u64 = 1024;

/// Makes a sparse file that only its owner can read, with an empty file system of a type that `mke2fs` knows.
pub(crate) fn with_file_system(path: &Path, bytes: u64, file_system: &str) -> Result<(), ImageError> {
    let written = |source| ImageError::write(path, source);
    let file = create(path).map_err(written)?;
    file.set_len(bytes).map_err(written)?;
    // The file is all zeros, so neither the journal nor the tables need to be written.
    let mut tool = Command::new("mke2fs");
    tool.args(["-q", "-t", file_system, "-m", "0"])
        .args(["-E", "lazy_itable_init=0,assume_storage_prezeroed=1,nodiscard,root_owner=0:0"])
        .arg(path);
    run_mke2fs(&mut tool)?;
    file.sync_all().map_err(written)
}

/// Runs `mke2fs` with these arguments to its end.
pub(super) fn run_mke2fs(tool: &mut Command) -> Result<(), ImageError> {
    let output = tool
        .env("PATH", TOOL_PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ImageError::Tool { tool: "mke2fs", package: "e2fsprogs", source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ImageError::ToolFailed { tool: "mke2fs", text })
}

/// Whether a file is one to swap to.
pub(crate) fn is_swap(path: &Path) -> std::io::Result<bool> {
    let mut found = [0; SIGNATURE.len()];
    match File::open(path)?.read_exact_at(&mut found, SIGNATURE_OFFSET) {
        Ok(()) => Ok(found == *SIGNATURE),
        // It is shorter than a page.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a sparse file that only its owner can read, for a guest to swap to.
pub(crate) fn for_swap(path: &Path, bytes: u64) -> Result<(), ImageError> {
    let pages = u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX);
    let numbers: Vec<u8> =
        [1, pages.saturating_sub(1), 0].into_iter().flat_map(|number: u32| number.to_le_bytes()).collect();
    let write = || {
        let file = create(path)?;
        file.set_len(bytes)?;
        file.write_all_at(&numbers, NUMBERS_OFFSET)?;
        file.write_all_at(SIGNATURE, SIGNATURE_OFFSET)?;
        file.sync_all()
    };
    write().map_err(|source| ImageError::write(path, source))
}

fn create(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_disk_takes_next_to_no_room_until_it_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        with_file_system(&path, 1 << 30, "ext4").expect("is made");
        let facts = std::fs::metadata(&path).expect("is there");
        assert_eq!(facts.len(), 1 << 30);
        assert!(facts.blocks() * 512 < 4 << 20, "{} blocks", facts.blocks());
        let check = Command::new("e2fsck").args(["-fn"]).arg(&path).env("PATH", TOOL_PATH).output();
        assert!(check.expect("runs").status.success());
        assert!(matches!(with_file_system(&path, 1 << 30, "ext4"), Err(ImageError::Write { .. })));
    }

    #[test]
    fn what_is_made_for_swap_is_known_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("swap");
        for_swap(&path, 64 << 20).expect("is made");
        let mut look = Command::new("blkid");
        look.args(["-p", "-o", "value", "-s", "TYPE"]).arg(&path).env("PATH", TOOL_PATH);
        let output = look.output().expect("runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "swap\n");
    }
}
