//! The drive with the guest agent: one for each version of it, read by all guests at once.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use mln_protocol::id::Digest;

use super::store::{ImageError, ImageStore};

/// What the file system itself needs, in bytes.
const OVERHEAD_BYTES: u64 = 1 << 20;
/// The name of the guest agent on its drive; a template's init runs it with the word `guest`.
const AGENT: &str = "mlnd";
/// Held while a drive is made.
static MAKING: Mutex<()> = Mutex::new(());

impl ImageStore {
    /// Returns the drive with this guest agent; makes it if it isn't there yet.
    pub fn agent_drive(&self, guest_agent: &Path) -> Result<PathBuf, ImageError> {
        let read = |source| ImageError::GuestAgent { path: guest_agent.to_owned(), source };
        let bytes = fs::read(guest_agent).map_err(read)?;
        let drive = self.folder().join(format!("agent-{}.img", Digest::of(&bytes)));
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
        make().map_err(|source| ImageError::Write { path: root.clone(), source })?;
        let output = Command::new("mke2fs")
            .args([
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
            .arg(&image)
            .env("PATH", super::store::TOOL_PATH)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ImageError::Tool { tool: "mke2fs", package: "e2fsprogs", source })?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ImageError::ToolFailed { tool: "mke2fs", text });
        }
        self.settle(&image, &drive)?;
        Ok(drive)
    }
}
