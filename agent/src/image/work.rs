//! Folders for half-finished work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A folder for half-finished work, which vanishes with the value.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    /// Makes one in `parent`; clears away those of processes that are gone.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        // What a process left that was killed; its number is in the name.
        for entry in fs::read_dir(parent)?.flatten() {
            let stale = entry.file_name().to_string_lossy().strip_prefix(".work-").is_some_and(|rest| {
                let pid = rest.split('-').next().unwrap_or_default();
                !Path::new("/proc").join(pid).exists()
            });
            if stale {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = parent.join(format!(".work-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
