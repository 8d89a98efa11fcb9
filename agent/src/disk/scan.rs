//! Hashing what is on drives.

use std::io;

use mln_protocol::id::Digest;

use super::content::{Place, Region, Shape};
use super::drive::{Access, Drive, VmDisk};
use super::folder::Remembered;

/// Hashes what is on the drives, remembers it block by block, and returns its root digest. Nobody may write to them.
///
/// With [`Reading::FromDisk`] it is read from the disk itself, after all was made durable.
pub fn scan(disk: &VmDisk, reading: Reading) -> io::Result<Digest> {
    let access = if reading == Reading::FromDisk { Access::Write } else { Access::Read };
    let drives = disk.open(access)?;
    for drive in &drives {
        if reading == Reading::FromDisk {
            drive.sync()?;
            drive.forget_cache();
        }
    }
    let shapes = drives.iter().map(|drive| drive.shape().clone()).collect();
    let mut state = disk.folder.new_state(shapes)?;
    let mut region = Region::default();
    for (number, drive) in (0u16..).zip(&drives) {
        for at in 0..Shape::regions(drive.shape()) {
            hash_region(drive, at, &mut region)?;
            state.region(Place { drive: number, region: at }, &region)?;
        }
    }
    disk.folder.remember(state, Remembered::State)
}

/// How drives are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As the system has them.
    Cached,
    /// From the disk, after all was made durable.
    FromDisk,
}

/// Hashes one region.
pub(super) fn hash_region(drive: &Drive, at: u32, region: &mut Region) -> io::Result<()> {
    region.clear();
    drive.read_region::<io::Error>(at, |block, content| {
        region.set(block, Some(content.digest()));
        Ok(())
    })
}
