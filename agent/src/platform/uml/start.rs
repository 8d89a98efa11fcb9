//! Starting a VM: what its holder needs to know, and the holder.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;

use mln_protocol::id::Digest;
use mln_protocol::model::MemoryMib;
use mln_protocol::wire::holder::{HOLDER_VERSION, LaunchWire, MemoryFileWire, OutsideWire};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::folder::{self, VmFile};
use super::{UmlConfig, blocking, disks, drives, space};
use crate::disk::DiskFolder;
use crate::holder::{self, FolderLock, files, tap};
use crate::image::ImageStore;
use crate::platform::StepError;

/// The longest that a holder says when it starts, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Starts the holder of a VM that has none; returns when the guest's process runs.
pub(super) async fn start(
    config: &UmlConfig,
    images: &ImageStore,
    folder: &Path,
    file: &VmFile,
) -> Result<(), StepError> {
    let log = {
        let (config, images, folder, file) =
            (config.clone(), images.clone(), folder.to_owned(), file.clone());
        blocking(move || prepare(&config, &images, &folder, &file)).await?
    };
    let spawning = |source| StepError::io("starting", &config.holder, source);
    let mut child = Command::new(&config.holder)
        .arg("holder")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(spawning)?;
    let mut answer = String::new();
    if let Some(output) = child.stdout.take() {
        // It closes its end once the guest's process runs, or when it ends.
        output.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await.map_err(spawning)?;
    }
    // It outlives this program; as long as that runs, somebody must take its status.
    tokio::spawn(async move { child.wait().await });
    if answer == holder::STARTED { Ok(()) } else { Err(StepError::Holder { text: answer.trim().to_owned() }) }
}

/// Returns the memory that a guest is started with: what it can have as it runs. Its holder takes the rest from it at once.
fn most_memory(folder: &Path, memory_mib: u32) -> u32 {
    match files::read::<MemoryFileWire>(folder, files::MEMORY) {
        Ok(memory) if memory.memory_mib == memory_mib => memory.memory_max_mib.max(memory_mib),
        // An older agent has written the rest since, or it is from before there was this file.
        Ok(_) | Err(_) => memory_mib,
    }
}

/// Clears the way for the holder and writes what it is to start. Returns its log.
fn prepare(config: &UmlConfig, images: &ImageStore, folder: &Path, file: &VmFile) -> Result<File, StepError> {
    if !config.kernel.exists() {
        return Err(StepError::NoKernel);
    }
    let lock = FolderLock::take(folder).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StepError::Busy { vm: file.vm.clone() },
        _ => StepError::io("locking", folder.join(files::LOCK), error),
    })?;
    folder::sweep(folder, &config.kernel);
    disks::finish(folder).map_err(|source| StepError::io("restoring", folder, source))?;
    // From now on the guest writes: what was known of its drives is over.
    DiskFolder::at(folder).void().map_err(|source| StepError::io("writing", folder, source))?;
    space::remove_own_memory_folder(folder, &config.memory_folders);
    let mut memory_folder = space::memory_folder(&config.memory_folders, MemoryMib(file.wire.memory_mib))?;
    let drives = drives::look_up(config, folder)?;
    if drives.is_some_and(|drives| !drives.folders.is_empty()) {
        // By that way it reaches all that its process may, so it may have no more there than its own.
        memory_folder = space::own_memory_folder(&memory_folder)?;
    }
    // Until the launch file is written, nobody sees that the guest uses them.
    let _holding = images.hold();
    let backing = images.backing(&Digest(file.wire.template), file.wire.backing_bytes)?;
    let agent_drive = images.agent_drive(&config.guest_agent)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let launch = LaunchWire {
        version: HOLDER_VERSION,
        kernel: text(&config.kernel),
        memory_mib: most_memory(folder, file.wire.memory_mib),
        backing: text(&backing),
        agent_drive: text(&agent_drive),
        memory_folder: text(&memory_folder),
        interfaces: file.wire.interfaces.clone(),
    };
    files::write(folder, files::LAUNCH, &launch).map_err(|error| match error {
        files::FileError::Write { name, source } => StepError::io("writing", folder.join(name), source),
        other => other.into(),
    })?;
    // A VM from before there was this file needs nothing.
    if let Ok(outside) = files::read::<OutsideWire>(folder, files::OUTSIDE) {
        tap::make(&outside)?;
    }
    let path = folder.join(files::HOLDER_LOG);
    // One log for each start: what a holder says is of interest until the next.
    let log = files::create(&path).map_err(|source| StepError::io("writing", &path, source))?;
    drop(lock);
    Ok(log)
}
