//! An export that comes in: nothing of it counts before its end is there and right.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use mln_protocol::id::{Digest, Label, Name};
use mln_protocol::model::{Blob, MemoryMib};
use mln_protocol::resolve::VMS_MAX;
use mln_protocol::wire::{DiskFrame, ExportContents, ExportError, ExportImage, ExportReader, ExportRecord};
use tempfile::{NamedTempFile, TempPath};

use super::brought::Brought;
use super::read::plain;
use super::{preamble, write_frame};
use crate::blob::{BlobError, Blobs};
use crate::control::{BUILD_FILES_BYTES_MAX, SubmittedFile};
use crate::disk::transfer::receive::{ReceiveError, Receiver, Step};
use crate::image::{ImageError, ImageStore, NewName, NewVersion, WorkFolder};

/// Why an export is not taken in. No project comes of it, and no image has got a name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// It is none, or is damaged.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// What it brings can't be kept: the disk is full, for instance.
    #[error("keeping what the import brings")]
    Disk(#[from] io::Error),
    /// The same, of what is kept by its digest.
    #[error("keeping what the import brings")]
    Blob(#[from] BlobError),
    /// An image in it can't be kept.
    #[error("keeping an image that the import brings")]
    Image(#[from] ImageError),
    /// An image in it is not what it is said to be.
    #[error("an image in it is damaged, or is not the one that it is said to be")]
    OtherImage,
    /// Its image is a part of a disk that is none.
    #[error("an image in it")]
    Receive(#[from] ReceiveError),
    /// It brings images, and that was not said before.
    #[error("it brings images, which is not what was asked for")]
    UnsaidImage,
    /// It has more machines than a project may have.
    #[error("it has more than {VMS_MAX} machines")]
    Machines,
    /// Its files are more than a project may bring.
    #[error("its files have more than {} MiB together", BUILD_FILES_BYTES_MAX >> 20)]
    Files,
}

/// An export on its way in.
#[derive(Debug)]
pub(crate) struct Staging {
    reader: ExportReader,
    blobs: Blobs,
    images: ImageStore,
    takes_images: bool,
    label: Label,
    files: Vec<Vec<u8>>,
    files_bytes: u64,
    section: Option<Section>,
    disks: BTreeMap<Name, (TempPath, Digest, u64)>,
    arrived: Vec<(ExportImage, WorkFolder)>,
}

#[derive(Debug)]
enum Section {
    Vm(Name, Box<Disk>),
    Image(ExportImage, Image),
}

/// The disk of a VM, as it came.
#[derive(Debug)]
struct Disk {
    file: BufWriter<NamedTempFile>,
    hasher: Box<blake3::Hasher>,
    bytes: u64,
}

/// An image that comes.
#[derive(Debug)]
enum Image {
    /// It is here already.
    Known,
    /// Its length has yet to come.
    Begun(WorkFolder),
    Writing(WorkFolder, Box<Receiver>),
}

/// An export that is here, whole and right.
#[derive(Debug)]
pub(crate) struct Staged {
    /// What was in it.
    pub(crate) contents: ExportContents,
    /// The files of the project.
    pub(crate) files: Vec<SubmittedFile>,
    blobs: Blobs,
    images: ImageStore,
    disks: BTreeMap<Name, (TempPath, Digest, u64)>,
    arrived: Vec<(ExportImage, WorkFolder)>,
}

impl Staging {
    /// Begins to take in an export, for a project that will be called so.
    pub(crate) fn begin(label: Label, blobs: Blobs, images: ImageStore, takes_images: bool) -> Self {
        Self {
            reader: ExportReader::whole(),
            blobs,
            images,
            takes_images,
            label,
            files: Vec::new(),
            files_bytes: 0,
            section: None,
            disks: BTreeMap::new(),
            arrived: Vec::new(),
        }
    }

    /// Takes some bytes. Blocks.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.reader.push(bytes);
        while let Some(record) = self.reader.record()? {
            self.record(record)?;
        }
        Ok(())
    }

    /// Ends, when no more bytes come.
    pub(crate) fn end(self) -> Result<Staged, StageError> {
        let contents = self.reader.end()?;
        let known = contents.definition.iter().flat_map(|definition| &definition.files);
        let files = known.zip(self.files).map(|(blob, bytes)| SubmittedFile {
            from: blob.from.clone(),
            mode: blob.mode,
            bytes,
        });
        let files = files.collect();
        let Self { blobs, images, disks, arrived, .. } = self;
        Ok(Staged { contents, files, blobs, images, disks, arrived })
    }

    fn record(&mut self, record: ExportRecord) -> Result<(), StageError> {
        match record {
            ExportRecord::Definition(definition) => {
                let total = definition.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
                if total > BUILD_FILES_BYTES_MAX {
                    return Err(StageError::Files);
                }
                self.files = definition.files.iter().map(|_| Vec::new()).collect();
            }
            ExportRecord::File { index, bytes } => {
                self.files_bytes += bytes.len() as u64;
                if self.files_bytes > BUILD_FILES_BYTES_MAX {
                    return Err(StageError::Files);
                }
                // The reader has found that there is such a file.
                if let Some(file) = self.files.get_mut(index as usize) {
                    file.extend(bytes);
                }
            }
            ExportRecord::Vm(vm) => {
                if self.disks.len() >= VMS_MAX {
                    return Err(StageError::Machines);
                }
                let file = BufWriter::new(self.blobs.stage()?);
                let mut disk = Disk { file, hasher: Box::new(blake3::Hasher::new()), bytes: 0 };
                disk.write_all(&preamble(&self.label, &vm))?;
                self.section = Some(Section::Vm(vm, Box::new(disk)));
            }
            ExportRecord::Image(image) => {
                if !self.takes_images {
                    return Err(StageError::UnsaidImage);
                }
                let is_here = self.images.has(&image.digest);
                let coming = if is_here { Image::Known } else { Image::Begun(self.images.work_folder()?) };
                self.section = Some(Section::Image(image, coming));
            }
            ExportRecord::Frame(frame) => self.frame(frame)?,
            ExportRecord::Head(_) | ExportRecord::End => {}
        }
        Ok(())
    }

    fn frame(&mut self, frame: DiskFrame) -> Result<(), StageError> {
        let is_end = matches!(frame, DiskFrame::End { .. });
        self.section = match self.section.take() {
            Some(Section::Vm(vm, mut disk)) => {
                let bytes = frame.to_bytes();
                self.blobs.room_for(bytes.len() as u64)?;
                write_frame(&mut *disk, &bytes)?;
                if !is_end {
                    Some(Section::Vm(vm, disk))
                } else {
                    let file = disk.file.into_inner().map_err(io::IntoInnerError::into_error)?;
                    let digest = Digest(*disk.hasher.finalize().as_bytes());
                    // It is closed: a project may have more machines than an agent may have files open.
                    self.disks.insert(vm, (file.into_temp_path(), digest, disk.bytes));
                    None
                }
            }
            Some(Section::Image(image, coming)) => match coming.take(&image.name, frame)? {
                Image::Writing(work, receiver) if is_end => {
                    drop(receiver);
                    self.arrived.push((image, work));
                    None
                }
                coming if !is_end => Some(Section::Image(image, coming)),
                _ => None,
            },
            None => None,
        };
        Ok(())
    }
}

impl Image {
    fn take(self, name: &Name, frame: DiskFrame) -> Result<Self, StageError> {
        Ok(match (self, frame) {
            (Self::Known, _) => Self::Known,
            (Self::Begun(work), DiskFrame::Shape(shape)) => {
                let [drive] = &shape.drives[..] else { return Err(StageError::OtherImage) };
                let path = work.path().join("image");
                File::create_new(&path)?.set_len(drive.bytes)?;
                let receiver = Receiver::begin(plain(work.path(), name.clone(), &path), None)?;
                Self::Writing(work, Box::new(receiver))
            }
            (Self::Begun(_), _) => return Err(StageError::OtherImage),
            (Self::Writing(work, mut receiver), frame) => match receiver.take(frame)? {
                Step::Next | Step::Done(_) => Self::Writing(work, receiver),
                Step::Answer(_) => return Err(StageError::OtherImage),
            },
        })
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What is kept of an export until its VMs are built.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The disks, as contents of the project.
    pub(crate) disks: Vec<Blob>,
    /// The names that images have got, each with its version.
    pub(crate) images: Vec<(Name, String)>,
}

impl Staged {
    /// Keeps the images and disks that came. Where it fails, no image has another name than before. Blocks.
    pub(crate) fn keep(self) -> Result<Kept, StageError> {
        // The disks go when nobody names them, so they come before what stays.
        let disks = self.disks.into_iter().map(|(vm, (file, digest, bytes))| {
            self.blobs.adopt(file, digest)?;
            Ok(Blob { from: Blob::disk_of(&vm), digest, bytes, mode: 0o600 })
        });
        let disks: Result<Vec<Blob>, StageError> = disks.collect();
        let mut kept = Kept { disks: disks?, images: Vec::new() };
        for (image, work) in self.arrived {
            if let Err(error) = kept.name(&self.images, &image, &work) {
                Brought { images: kept.images, ..Brought::default() }.unname(&self.images);
                return Err(error);
            }
        }
        Ok(kept)
    }
}

impl Kept {
    /// Gives an image that came its name.
    fn name(
        &mut self,
        images: &ImageStore,
        image: &ExportImage,
        work: &WorkFolder,
    ) -> Result<(), StageError> {
        let version = NewVersion::Elsewhere(&image.version, image.added_unix_ms);
        let memory_min = MemoryMib(image.memory_mib_min);
        let new = NewName { name: &image.name, version, memory_min };
        let added = images.add(&work.path().join("image"), &new)?;
        // Its bytes go when nobody uses them.
        let is_other = added.digest != image.digest;
        self.images.push((added.name, added.version));
        if is_other { Err(StageError::OtherImage) } else { Ok(()) }
    }

    /// Returns what somebody may still want from here.
    pub(crate) fn brought(&self) -> Brought {
        Brought { disks: self.disks.iter().map(|disk| disk.digest).collect(), images: self.images.clone() }
    }
}
