//! One agent per data folder: a lock that the kernel releases when the agent ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK_NAME: &str = "mlnd.lock";

/// The right to use a data folder, until it is dropped.
///
/// Take it before anything in the folder is opened. The processes that an agent starts don't inherit it.
#[derive(Debug)]
pub struct DataFolderLock {
    folder: PathBuf,
    _file: File,
}

/// Why a data folder can't be used. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent uses it.
    #[error("another agent runs with the data folder {0}")]
    Taken(PathBuf),
    /// The lock file can't be opened or locked.
    #[error("the lock file {path} can't be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataFolderLock {
    /// Locks the folder, which must exist. Never waits.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(LOCK_NAME);
        let failed = |source: io::Error| LockError::File { path: path.clone(), source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Taken(folder.to_owned())),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_on_the_same_folder_is_refused_until_the_first_ends() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = DataFolderLock::take(folder.path()).expect("nobody else uses it");
        let second = DataFolderLock::take(folder.path()).expect_err("the first still runs");
        assert!(matches!(second, LockError::Taken(_)), "{second}");
        drop(first);
        DataFolderLock::take(folder.path()).expect("the first has ended");
    }
}
