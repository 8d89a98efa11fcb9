//! What journals are written with: the file system, or in tests one whose power can be cut.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// What is done with files, one call each, so that a test can stop between any two of them.
///
/// Nothing is durable before it is synced: a file's contents by [`Self::sync`], its name by [`Self::sync_folder`].
pub(super) trait Medium: Debug + Send {
    /// Returns what is in a file; none where there is no such file.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Returns the names in a folder; none where there is no such folder.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a folder, if it isn't there.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a file with these contents, or replaces what is in it.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Writes into a file that is there.
    fn write_at(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Takes room on the disk behind the end of a file, without making it longer.
    fn reserve(&self, path: &Path, at: u64, bytes: u64) -> io::Result<()>;
    /// Makes a file shorter.
    fn cut(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Makes a file's contents durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in the place of whatever has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, if it is there.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk;

impl Medium for Disk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        absent_is_none(fs::read(path))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let Some(entries) = absent_is_none(fs::read_dir(folder))? else { return Ok(Vec::new()) };
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all_at(bytes, 0)
    }

    fn write_at(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.write_all_at(bytes, at)
    }

    fn reserve(&self, path: &Path, at: u64, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(fallocate(file, FallocateFlags::KEEP_SIZE, at, bytes)?)
    }

    fn cut(&self, path: &Path, bytes: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        absent_is_none(fs::remove_file(path)).map(|_| ())
    }
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
