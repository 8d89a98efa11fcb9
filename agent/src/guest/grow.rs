//! Growing the root file system, while it is mounted, into the room that its device has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::ext4::{Ext4Size, SUPERBLOCK_OFFSET};

/// `EXT4_IOC_RESIZE_FS`, `_IOW('f', 16, u64)`: the new size in file-system blocks.
const EXT4_IOC_RESIZE_FS: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<u64>(b'f', 16);

/// Why a file system could not be grown.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrowError {
    #[error("reading {device}")]
    Read { device: String, source: io::Error },
    #[error("{device} has no ext4 file system")]
    NotExt4 { device: String },
    #[error("growing the root file system to {bytes} bytes")]
    Resize { bytes: u64, source: io::Error },
}

/// Grows the ext4 file system that is mounted on `/` from `device` to at least `bytes`; never shrinks it.
///
/// Returns whether it grew.
pub(super) fn grow_root(device: &Path, bytes: u64) -> Result<bool, GrowError> {
    let name = || device.display().to_string();
    let mut superblock = [0; 1024];
    File::open(device)
        .and_then(|file| file.read_exact_at(&mut superblock, SUPERBLOCK_OFFSET))
        .map_err(|source| GrowError::Read { device: name(), source })?;
    let size = Ext4Size::parse(&superblock).ok_or_else(|| GrowError::NotExt4 { device: name() })?;
    if bytes <= size.bytes() {
        return Ok(false);
    }
    let blocks = bytes / size.block_bytes;
    let root = File::open("/").map_err(|source| GrowError::Resize { bytes, source })?;
    // SAFETY: the kernel reads one u64 behind the pointer, which is what `Setter` passes, and keeps nothing.
    let done =
        unsafe { rustix::ioctl::ioctl(&root, rustix::ioctl::Setter::<EXT4_IOC_RESIZE_FS, u64>::new(blocks)) };
    done.map_err(|errno| GrowError::Resize { bytes, source: errno.into() })?;
    Ok(true)
}
