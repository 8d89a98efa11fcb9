//! What the files of a VM's drives tell without being read: how much of them there is, and when something last wrote to them.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::VmDisk;

/// The unit in which a file system tells how much of a file is there.
const STAT_BYTES: u64 = 512;

impl VmDisk {
    /// Returns how many bytes of the drives are there, holes left out: no more than that can be sent of them.
    pub fn bytes_on_disk(&self) -> io::Result<u64> {
        Ok(self.metadata()?.iter().map(|file| file.blocks() * STAT_BYTES).sum())
    }

    /// Returns when something last wrote to a drive, in milliseconds since 1970.
    pub fn written_unix_ms(&self) -> io::Result<u64> {
        let newest = self.metadata()?.iter().map(Metadata::mtime).max().unwrap_or(0);
        Ok(u64::try_from(newest).unwrap_or(0) * 1000)
    }

    fn metadata(&self) -> io::Result<Vec<Metadata>> {
        self.drives.iter().map(|drive| std::fs::metadata(&drive.path)).collect()
    }
}
