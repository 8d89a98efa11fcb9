//! Giving a VM other drives in place of its own: all of them, or none.
//!
//! ```text
//!   restoring.new/  copies are written ──► durable ──► restoring/  it is decided: from here on it is finished
//!        │ an agent that ends here                          │ what is known of the drives is void; each takes its
//!        ▼ has changed nothing: swept                       ▼ place; then the folder goes
//! ```
//!
//! A folder that an agent has left behind is finished before anything else is done with the VM: when the agent starts, and
//! when the VM does.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mln_protocol::id::VmId;

use super::{Shared, blocking, whose};
use crate::disk::DiskFolder;
use crate::disk::fit::DriveFiles;
use crate::holder::{FolderLock, files};
use crate::image::sparse;
use crate::platform::StepError;

/// Copies that are being written.
const STAGING: &str = "restoring.new";
/// Copies that are durable, and take the place of the drives.
const RESTORING: &str = "restoring";

impl Shared {
    pub(super) async fn replace_drives(&self, vm: &VmId, copies: Vec<PathBuf>) -> Result<(), StepError> {
        // One that has come here and was not started since is a copy still.
        self.take_up(vm).await?;
        let lock = self.step_lock(vm);
        let _step = lock.lock().await;
        if self.attached(vm).is_some() {
            return Err(StepError::Busy { vm: vm.clone() });
        }
        let (folder, images, vm) = (self.folders.path(vm), self.images.clone(), vm.clone());
        blocking(move || {
            if !whose(&folder, &vm)? {
                return Err(StepError::NoSuchVm { vm });
            }
            // Whoever has it runs the VM.
            let lock = FolderLock::take(&folder).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => StepError::Busy { vm: vm.clone() },
                _ => StepError::io("locking", folder.join(files::LOCK), error),
            })?;
            let failed = |source| StepError::io("restoring", &folder, source);
            finish(&folder).map_err(failed)?;
            let own = super::copies::disk_in(&images, folder.clone())?.drives;
            let own: Vec<PathBuf> = own.into_iter().map(|drive| drive.path).collect();
            fits(&own, &copies).map_err(failed)?;
            let staged = stage(&folder, &copies);
            if staged.is_err() {
                // What can't be removed now is when the VM or the agent starts.
                let _ = fs::remove_dir_all(folder.join(STAGING));
            }
            staged.map_err(failed)?;
            finish(&folder).map_err(failed)?;
            drop(lock);
            Ok(())
        })
        .await
    }
}

/// Refuses copies that are not those of all drives, each of its length.
fn fits(own: &[PathBuf], copies: &[PathBuf]) -> io::Result<()> {
    if DriveFiles::at(own)? == DriveFiles::at(copies)? {
        return Ok(());
    }
    Err(io::Error::other("the VM has other drives by now, or drives of another size: it stays as it is"))
}

/// Writes copies beside the drives; once they are durable, it is decided that they take the place of those.
fn stage(folder: &Path, copies: &[PathBuf]) -> io::Result<()> {
    let staging = folder.join(STAGING);
    DirBuilder::new().mode(files::PRIVATE_FOLDER).create(&staging)?;
    for copy in copies {
        let to = staging.join(copy.file_name().unwrap_or_default());
        let mut options = File::options();
        let target = options.read(true).write(true).create_new(true).mode(files::PRIVATE_FILE).open(&to)?;
        let source = File::open(copy)?;
        if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
            sparse::copy(&source, &target)?;
        }
        target.sync_all()?;
    }
    File::open(&staging)?.sync_all()?;
    fs::rename(&staging, folder.join(RESTORING))?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Brings to its end what was decided, and sweeps what was not. Nobody else may do anything with the drives meanwhile.
pub(super) fn finish(folder: &Path) -> io::Result<()> {
    let (staging, restoring) = (folder.join(STAGING), folder.join(RESTORING));
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let entries = match fs::read_dir(&restoring) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // What is known of the drives block by block is about others.
    DiskFolder::at(folder).void()?;
    for entry in entries {
        let entry = entry?;
        fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    File::open(folder)?.sync_all()?;
    fs::remove_dir(&restoring)?;
    File::open(folder)?.sync_all()
}

/// Finishes what an earlier agent has left, where nobody runs the VM.
pub(super) fn finish_left(folder: &Path) -> io::Result<()> {
    if !folder.join(RESTORING).exists() && !folder.join(STAGING).exists() {
        return Ok(());
    }
    let lock = FolderLock::take(folder)?;
    finish(folder)?;
    drop(lock);
    Ok(())
}

#[cfg(test)]
mod tests {
    use mln_protocol::id::Digest;

    use super::*;

    const DRIVES: [&str; 2] = ["disk.cow", "disk-d.img"];

    /// A VM's folder with two drives, and a folder with copies of what they were before.
    fn site() -> (tempfile::TempDir, PathBuf, Vec<PathBuf>) {
        let site = tempfile::tempdir().expect("a folder");
        let (vm, copies) = (site.path().join("vm"), site.path().join("copies"));
        for (folder, text) in [(&vm, "later"), (&copies, "first")] {
            fs::create_dir(folder).expect("a folder");
            for drive in DRIVES {
                fs::write(folder.join(drive), text).expect("room");
            }
        }
        DiskFolder::at(&vm).set_content(Digest([1; 32])).expect("room");
        (site, vm, DRIVES.map(|drive| copies.join(drive)).to_vec())
    }

    fn texts(vm: &Path) -> Vec<String> {
        DRIVES.map(|drive| fs::read_to_string(vm.join(drive)).expect("it is there")).to_vec()
    }

    #[test]
    fn an_agent_that_ends_while_it_restores_leaves_all_drives_as_they_were_or_all_as_they_were_before() {
        // Before it is decided.
        let (_site, vm, _) = site();
        fs::create_dir(vm.join(STAGING)).expect("a folder");
        fs::write(vm.join(STAGING).join("disk.cow"), "fir").expect("room");
        finish_left(&vm).expect("nobody runs it");
        assert_eq!(texts(&vm), ["later", "later"]);
        assert!(vm.join("content").exists(), "nothing was written to the drives");
        assert!(!vm.join(STAGING).exists());

        // After that: none, or one of them has its place already.
        for placed in 0..=2 {
            let (_site, vm, copies) = site();
            stage(&vm, &copies).expect("room");
            for drive in &DRIVES[..placed] {
                fs::rename(vm.join(RESTORING).join(drive), vm.join(drive)).expect("it is there");
            }
            finish_left(&vm).expect("nobody runs it");
            assert_eq!(texts(&vm), ["first", "first"]);
            assert!(!vm.join("content").exists(), "what was known of the drives is about others");
            assert!(!vm.join(RESTORING).exists());
        }
    }

    #[test]
    fn copies_that_are_not_of_all_drives_or_of_another_size_are_refused() {
        let (_site, vm, copies) = site();
        let own: Vec<PathBuf> = DRIVES.map(|drive| vm.join(drive)).to_vec();
        fits(&own, &copies).expect("names and lengths are the same");
        assert!(fits(&own, &copies[..1]).is_err());
        fs::write(&copies[1], "grown").and_then(|()| fs::write(&own[1], "smaller")).expect("room");
        assert!(fits(&own, &copies).is_err());
    }
}
