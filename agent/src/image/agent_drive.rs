//! The drive with the guest agent: one for each version of it, read by all guests at once.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use mln_protocol::id::Digest;

use super::error::ImageError;
use super::store::ImageStore;

/// What the file system itself needs, in bytes.
const OVERHEAD_BYTES: u64 = 1 << 20;
/// The name of the guest agent on its drive; a template's init runs it with the word `guest`.
const AGENT: &str = "mlnd";
/// Held while a drive is made.
static MAKING: Mutex<()> = Mutex::new(());

impl ImageStore {
    /// Returns the drive with this guest agent; makes it if it isn't there yet.
    pub fn agent_drive(&self, guest_agent: &Path) -> Result<PathBuf, ImageError> {
        let bytes = read(guest_agent)?;
        let drive = self.drive_of(&bytes);
        // One at a time: User-Mode Linux opens a drive by its path more than once, and a second drive of the same agent,
        // made at the same moment and put in its place, has other checksums.
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if drive.exists() {
            return Ok(drive);
        }
        let work = self.work_folder()?;
        let root = work.path().join("root");
        let image = work.path().join("image");
        let make = || {
            fs::create_dir(&root)?;
            fs::write(root.join(AGENT), &bytes)?;
            fs::set_permissions(root.join(AGENT), fs::Permissions::from_mode(0o755))?;
            File::create(&image)?.set_len((bytes.len() as u64 + OVERHEAD_BYTES).next_multiple_of(4096))
        };
        make().map_err(|source| ImageError::write(&root, source))?;
        let mut tool = Command::new("mke2fs");
        tool.args([
            "-q",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-m",
            "0",
            "-N",
            "16",
            "-O",
            "^has_journal,^resize_inode",
        ])
        .args(["-E", "lazy_itable_init=0,nodiscard,root_owner=0:0", "-d"])
        .arg(&root)
        .arg(&image);
        super::blank::run_mke2fs(&mut tool)?;
        self.settle(&image, &drive)?;
        Ok(drive)
    }

    /// Returns the path that [`ImageStore::agent_drive`] gives, without making the drive.
    pub(super) fn agent_drive_path(&self, guest_agent: &Path) -> Result<PathBuf, ImageError> {
        Ok(self.drive_of(&read(guest_agent)?))
    }

    fn drive_of(&self, guest_agent: &[u8]) -> PathBuf {
        self.folder().join(format!("agent-{}.img", Digest::of(guest_agent)))
    }
}

fn read(guest_agent: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(guest_agent).map_err(|source| ImageError::GuestAgent { path: guest_agent.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_drive_that_a_guest_was_given_is_not_replaced_by_another_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = ImageStore::open(&folder.path().join("images")).expect("a store");
        let agent = folder.path().join("mlnd-guest");
        fs::write(&agent, "a guest agent").expect("writes");
        let start = || {
            let drive = store.agent_drive(&agent).expect("is made");
            fs::metadata(drive).expect("is there").ino()
        };
        let given: Vec<u64> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().expect("no panic")).collect()
        });
        assert!(given.iter().all(|inode| *inode == given[0]), "{given:?}");
    }
}
