//! What an imported disk begins with.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use mln_protocol::id::{Label, Name};
use mln_protocol::wire::{DISK_FRAME_BYTES_MAX, DiskFrame, DriveShape, DriveTemplate};

use super::preamble;
use crate::disk::VmDisk;
use crate::disk::transfer::receive::{Receiver, Step};
use crate::platform::FirstContent;

/// The content of a VM's drives that came with an import, in a file.
#[derive(Debug)]
pub(crate) struct ImportedDisk {
    path: PathBuf,
    drives: Vec<DriveShape>,
    frames_at: u64,
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn frame(from: &mut dyn Read) -> io::Result<DiskFrame> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > DISK_FRAME_BYTES_MAX {
        return Err(wrong("a part of the imported disk is longer than any"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    DiskFrame::from_bytes(&bytes).map_err(io::Error::other)
}

impl ImportedDisk {
    /// Opens the disk of a VM, as [`super::Staging`] keeps it. Blocks.
    pub(crate) fn open(path: PathBuf, label: &Label, vm: &Name) -> io::Result<Self> {
        let mut file = File::open(&path)?;
        let wanted = preamble(label, vm);
        let mut found = vec![0; wanted.len()];
        file.read_exact(&mut found)?;
        if found != wanted {
            return Err(wrong("the imported disk is another virtual machine's"));
        }
        match frame(&mut file)? {
            DiskFrame::Shape(shape) => {
                let frames_at = io::Seek::stream_position(&mut file)?;
                Ok(Self { path, drives: shape.drives, frames_at })
            }
            _ => Err(wrong("the imported disk does not begin as one")),
        }
    }
}

impl ImportedDisk {
    /// Returns the image that its first drive is a layer over.
    pub(crate) fn template(&self) -> Option<&DriveTemplate> {
        self.drives.iter().find_map(|drive| drive.template.as_ref())
    }
}

impl FirstContent for ImportedDisk {
    fn drives(&self) -> &[DriveShape] {
        &self.drives
    }

    fn write(&self, disk: VmDisk) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(self.frames_at))?;
        let mut file = BufReader::new(file);
        let folder = disk.folder.clone();
        let mut receiver = Receiver::begin(disk, None)?;
        loop {
            match receiver.take(frame(&mut file)?).map_err(|error| match error {
                crate::disk::transfer::receive::ReceiveError::Disk(error) => error,
                error => io::Error::new(io::ErrorKind::InvalidData, error),
            })? {
                Step::Next => {}
                Step::Answer(_) => return Err(wrong("the imported disk asks something")),
                // All of it is on the disk, and what it is was noted.
                Step::Done(_) => return folder.end_arriving(),
            }
        }
    }
}
