//! Which images the VMs of this host use.

use std::path::PathBuf;

use mln_protocol::id::Digest;
use mln_protocol::wire::holder::LaunchWire;

use super::folder::{VmFile, VmFolders};
use crate::holder::files;
use crate::image::{ImageStore, ImageUse};
use crate::platform::StepError;

/// Returns what each VM uses. One whose folder can't be read is an error: what it uses isn't known, and must not vanish.
pub(super) fn image_uses(folders: &VmFolders, images: &ImageStore) -> Result<Vec<ImageUse>, StepError> {
    let finished = folders.known().map_err(|source| StepError::io("reading", &folders.folder, source))?;
    finished
        .into_iter()
        .map(|folder| {
            let file = VmFile::read(&folder)?;
            // A drive that a stopped VM was started with is made again when it is missing; it only takes some room.
            let launch: Option<LaunchWire> = match files::read(&folder, files::LAUNCH) {
                Ok(launch) => Some(launch),
                Err(error) if error.is_absent() => None,
                Err(error) => return Err(error.into()),
            };
            let template = Digest(file.wire.template);
            let backing = images.backing_path(&template, file.wire.backing_bytes);
            Ok(ImageUse {
                vm: file.vm,
                label: file.label,
                template,
                backing: launch.as_ref().map_or(backing, |launch| PathBuf::from(&launch.backing)),
                agent_drive: launch.map(|launch| PathBuf::from(launch.agent_drive)),
            })
        })
        .collect()
}
