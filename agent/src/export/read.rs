//! Disks of a snapshot, and images, as records of an export.

use std::fs;
use std::io;
use std::path::Path;

use mln_protocol::id::{Digest, Name, ProjectId};
use mln_protocol::wire::{DiskCompare, DiskFrame, ExportImage, ExportRecord};
use tokio::sync::mpsc;

use crate::disk::content::Node;
use crate::disk::transfer::send::{Base, Outlet, SendError, Still, send, shape};
use crate::disk::{Access, DiskFolder, DriveFile, VmDisk};
use crate::image::{ImageError, ImageStore, MEMORY_MIN};
use crate::snapshot::{SnapshotError, Snapshots};

/// Why disks are not in an export. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The snapshot can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A disk can't be read.
    #[error(transparent)]
    Disk(#[from] SendError),
    /// An image can't be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A folder for the work can't be made.
    #[error("working on the export")]
    Work(#[source] io::Error),
    /// Nobody wants it any more.
    #[error("whoever wanted it has gone")]
    Gone,
}

/// Frames become records.
struct Records<'a>(&'a mpsc::Sender<ExportRecord>);

impl Outlet for Records<'_> {
    fn send(&mut self, frame: DiskFrame) -> io::Result<()> {
        let sent = self.0.blocking_send(ExportRecord::Frame(frame));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn ask(&mut self, _: DiskCompare) -> io::Result<Vec<Node>> {
        // Nothing is asked of who has nothing.
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Gives what this host has of a snapshot, VM by VM. Blocks.
pub(crate) fn disks(
    snapshots: &Snapshots,
    project: ProjectId,
    name: &Name,
    records: &mpsc::Sender<ExportRecord>,
) -> Result<(), ReadError> {
    let scratch = snapshots.scratch(project)?;
    for (vm, drives) in snapshots.drives(project, name)? {
        put(records, ExportRecord::Vm(vm.clone()))?;
        let folder = scratch.path().join(vm.as_str());
        fs::create_dir(&folder).map_err(ReadError::Work)?;
        give(&VmDisk { folder: DiskFolder::at(&folder), drives }, records)?;
        // What was noted of it on the way is wanted by nobody; what stays goes with the scratch folder.
        let _ = fs::remove_dir_all(&folder);
    }
    Ok(())
}

/// Gives an image. Blocks.
pub(crate) fn image(
    images: &ImageStore,
    digest: &Digest,
    records: &mpsc::Sender<ExportRecord>,
) -> Result<(), ReadError> {
    let _holding = images.hold();
    let work = images.work_folder()?;
    let unnamed = Name::parse("image").expect("five letters are a name");
    let known = images.list().into_iter().find(|template| template.digest == *digest);
    let (name, version, memory_min, added_unix_ms) = match known {
        Some(known) => (known.name, known.version, known.memory_min, known.added_unix_ms),
        None => (unnamed, "1".to_owned(), MEMORY_MIN, 0),
    };
    let (memory_mib_min, digest) = (memory_min.0, *digest);
    let image = ExportImage { name: name.clone(), version, digest, memory_mib_min, added_unix_ms };
    put(records, ExportRecord::Image(image))?;
    give(&plain(work.path(), name, images.path(&digest).as_path()), records)
}

/// Returns a file as the only drive of a disk, with nothing below it.
pub(super) fn plain(folder: &Path, name: Name, file: &Path) -> VmDisk {
    let drive = DriveFile { name, path: file.to_owned(), below: None };
    VmDisk { folder: DiskFolder::at(folder), drives: vec![drive] }
}

fn give(disk: &VmDisk, records: &mpsc::Sender<ExportRecord>) -> Result<(), ReadError> {
    let drives = disk.open(Access::Read).map_err(SendError::Disk)?;
    let shape = shape(&drives).map_err(SendError::Disk)?;
    drop(drives);
    put(records, ExportRecord::Frame(DiskFrame::Shape(shape)))?;
    match send(disk, Still::Yes, &Base::Nothing, &mut Records(records)) {
        Ok(_) => Ok(()),
        Err(SendError::Link(_)) => Err(ReadError::Gone),
        Err(error) => Err(error.into()),
    }
}

fn put(records: &mpsc::Sender<ExportRecord>, record: ExportRecord) -> Result<(), ReadError> {
    records.blocking_send(record).map_err(|_| ReadError::Gone)
}
