//! One drive as a row of blocks: a plain file, or a layer over a template.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use mln_protocol::id::{Digest, Name};
use mln_protocol::wire::{DiskBlockKind, DriveShape, DriveTemplate};
use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise, fallocate};
use rustix::io::Errno;

use super::content::Shape;
use super::{BLOCK_BYTES, REGION_BLOCKS};
use crate::image::cow;

/// How many blocks are read at a time.
const GROUP_BLOCKS: u32 = 64;
const GROUP_BYTES: usize = GROUP_BLOCKS as usize * BLOCK_BYTES;
const SECTOR_BYTES: usize = 512;
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The drives of a VM that doesn't move, or of a copy of one.
#[derive(Debug, Clone)]
pub struct VmDisk {
    /// The folder that they are in, and what is known of them.
    pub folder: super::DiskFolder,
    /// The drives, in their order.
    pub drives: Vec<DriveFile>,
}

/// Where a drive is kept.
#[derive(Debug, Clone)]
pub struct DriveFile {
    /// What the drive is called among the VM's.
    pub name: Name,
    /// Its file.
    pub path: PathBuf,
    /// What it is a layer over, and where that is; none is a plain file.
    pub below: Option<(DriveTemplate, PathBuf)>,
}

/// What is done with a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is only read.
    Read,
    /// It is written as well.
    Write,
}

/// A drive that is open.
#[derive(Debug)]
pub struct Drive {
    shape: DriveShape,
    file: File,
    below: Option<Below>,
}

#[derive(Debug)]
struct Below {
    file: File,
    bitmap_at: u64,
    data_at: u64,
}

/// A block that is not what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block<'a> {
    /// Zeros, where the template has something else.
    Zero,
    /// Something else; as many bytes as a block has, what lies behind the drive's end being zeros.
    Data(&'a [u8]),
}

impl Block<'_> {
    /// Returns the digest of what is in it.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Zero => Digest::of(&ZEROS),
            Self::Data(bytes) => Digest::of(bytes),
        }
    }

    /// Returns what it is.
    pub fn kind(&self) -> DiskBlockKind {
        match self {
            Self::Zero => DiskBlockKind::Zero,
            Self::Data(_) => DiskBlockKind::Data,
        }
    }

    /// Returns what is in it; nothing where it is zeros.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Zero => &[],
            Self::Data(bytes) => bytes,
        }
    }
}

impl VmDisk {
    /// Opens all drives.
    pub fn open(&self, access: Access) -> io::Result<Vec<Drive>> {
        self.drives.iter().map(|drive| drive.open(access)).collect()
    }
}

impl DriveFile {
    /// Opens the drive.
    pub fn open(&self, access: Access) -> io::Result<Drive> {
        let file = File::options().read(true).write(access == Access::Write).open(&self.path)?;
        let (bytes, template, below) = match &self.below {
            None => (file.metadata()?.len(), None, None),
            Some((template, path)) => {
                let layout = cow::layout(&file)?;
                let below = File::open(path)?;
                if below.metadata()?.len() != layout.bytes {
                    let what = "its disk is a layer over a file of another length than the template has here";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                let below = Below { file: below, bitmap_at: layout.bitmap_at, data_at: layout.data_at };
                (layout.bytes, Some(template.clone()), Some(below))
            }
        };
        Ok(Drive { shape: DriveShape { name: self.name.clone(), bytes, template }, file, below })
    }
}

impl Drive {
    /// Returns what the drive is like.
    pub fn shape(&self) -> &DriveShape {
        &self.shape
    }

    /// Returns what it takes on the disk, in bytes; a template below not counted.
    pub fn bytes_on_disk(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// Calls `visit` with each block of a region that is not what is below it, in order. What is a hole is not read.
    ///
    /// A drive that is written to meanwhile gives blocks of some moment each, perhaps torn ones.
    pub fn read_region<E: From<io::Error>>(
        &self,
        region: u32,
        mut visit: impl FnMut(u16, Block<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let blocks = Shape::region_blocks(&self.shape, region);
        let first = u64::from(region) * u64::from(REGION_BLOCKS);
        let mut written = self.written(first, blocks)?;
        let (mut here, mut under) = (vec![0; GROUP_BYTES], vec![0; GROUP_BYTES]);
        let mut at = 0;
        while at < blocks {
            let count = GROUP_BLOCKS.min(blocks - at);
            if let Some(sectors) = written.of(self, first + u64::from(at), count)? {
                let offset = (first + u64::from(at)) * BLOCK_BYTES as u64;
                let length = count as usize * BLOCK_BYTES;
                self.read_group(offset, &mut here[..length], &mut under[..length])?;
                for index in 0..count {
                    let bytes = index as usize * BLOCK_BYTES..(index as usize + 1) * BLOCK_BYTES;
                    let block = merge(sectors[index as usize], &mut here[bytes.clone()], &under[bytes]);
                    if let Some(block) = block {
                        // A region has as many blocks as there are numbers.
                        visit(u16::try_from(at + index).unwrap_or(u16::MAX), block)?;
                    }
                }
            }
            at += count;
        }
        Ok(())
    }

    /// Reads one block into `buffer`, which is as long as one; none where it is what is below.
    pub fn read_block<'a>(
        &self,
        region: u32,
        at: u16,
        buffer: &'a mut [u8; BLOCK_BYTES],
    ) -> io::Result<Option<Block<'a>>> {
        let block = u64::from(region) * u64::from(REGION_BLOCKS) + u64::from(at);
        let mut under = [0; BLOCK_BYTES];
        let mut sectors = [u8::MAX];
        if let Some(below) = &self.below {
            read_at(&self.file, &mut sectors, below.bitmap_at + block)?;
        }
        self.read_group(block * BLOCK_BYTES as u64, buffer, &mut under)?;
        Ok(merge(sectors[0], buffer, &under))
    }

    /// Writes one block. Nothing is durable before [`Drive::sync`].
    pub fn write_block(&self, region: u32, at: u16, kind: DiskBlockKind, bytes: &[u8]) -> io::Result<()> {
        let block = u64::from(region) * u64::from(REGION_BLOCKS) + u64::from(at);
        let offset = block * BLOCK_BYTES as u64;
        let length = (BLOCK_BYTES as u64).min(self.shape.bytes.saturating_sub(offset));
        let (data_at, bitmap_at) =
            self.below.as_ref().map_or((0, None), |below| (below.data_at, Some(below.bitmap_at)));
        match kind {
            DiskBlockKind::Data => {
                let length = usize::try_from(length).unwrap_or(0).min(bytes.len());
                self.file.write_all_at(&bytes[..length], data_at + offset)?;
            }
            DiskBlockKind::Below | DiskBlockKind::Zero => self.clear(data_at + offset, length)?,
        }
        let Some(bitmap_at) = bitmap_at else { return Ok(()) };
        // Eight sectors are a block, and eight bits a byte.
        let sectors = if kind == DiskBlockKind::Below { 0 } else { u8::MAX };
        self.file.write_all_at(&[sectors], bitmap_at + block)
    }

    /// Makes all that was written durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Lets the system forget what it has of the file in memory, so that the next read is one of the disk. Only what is
    /// durable is forgotten.
    pub fn forget_cache(&self) {
        // Where it can't, what is read is what it would have written.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    fn read_group(&self, offset: u64, here: &mut [u8], under: &mut [u8]) -> io::Result<()> {
        let length =
            here.len().min(usize::try_from(self.shape.bytes.saturating_sub(offset)).unwrap_or(usize::MAX));
        here[length..].fill(0);
        match &self.below {
            None => read_at(&self.file, &mut here[..length], offset),
            Some(below) => {
                read_at(&self.file, &mut here[..length], below.data_at + offset)?;
                under[length..].fill(0);
                read_at(&below.file, &mut under[..length], offset)
            }
        }
    }

    fn clear(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, length) {
            Ok(()) => Ok(()),
            // Where no holes can be made, zeros do.
            Err(_) => self.file.write_all_at(&ZEROS[..usize::try_from(length).unwrap_or(0)], offset),
        }
    }

    fn written(&self, first: u64, blocks: u32) -> io::Result<Written> {
        let Some(below) = &self.below else { return Ok(Written::Plain { data_until: 0, hole_until: 0 }) };
        let mut bitmap = vec![0; blocks as usize];
        if data_from(&self.file, below.bitmap_at + first)? < below.bitmap_at + first + u64::from(blocks) {
            read_at(&self.file, &mut bitmap, below.bitmap_at + first)?;
        }
        Ok(Written::Layer { first, bitmap })
    }
}

/// What of a region may be something else than what is below it.
enum Written {
    Layer {
        first: u64,
        bitmap: Vec<u8>,
    },
    /// Up to where there is data, or nothing, as far as is known.
    Plain {
        data_until: u64,
        hole_until: u64,
    },
}

impl Written {
    /// Returns the written sectors of each block of a group; none where nothing is.
    fn of(
        &mut self,
        drive: &Drive,
        block: u64,
        count: u32,
    ) -> io::Result<Option<[u8; GROUP_BLOCKS as usize]>> {
        let mut sectors = [u8::MAX; GROUP_BLOCKS as usize];
        match self {
            Self::Layer { first, bitmap } => {
                let from = usize::try_from(block - *first).unwrap_or(usize::MAX);
                let group = &bitmap[from..from + count as usize];
                sectors[..count as usize].copy_from_slice(group);
                Ok(group.iter().any(|byte| *byte != 0).then_some(sectors))
            }
            Self::Plain { data_until, hole_until } => {
                let (begin, end) =
                    (block * BLOCK_BYTES as u64, (block + u64::from(count)) * BLOCK_BYTES as u64);
                if end <= *hole_until {
                    return Ok(None);
                }
                if begin >= *data_until {
                    let data = data_from(&drive.file, begin)?;
                    *hole_until = data;
                    if end <= data {
                        return Ok(None);
                    }
                    // One group is read at a time: where the data ends is looked for again behind it.
                    *data_until = end;
                }
                Ok(Some(sectors))
            }
        }
    }
}

/// Returns what a block is, of what the layer has and what is below it.
fn merge<'a>(sectors: u8, here: &'a mut [u8], under: &[u8]) -> Option<Block<'a>> {
    if sectors == 0 {
        return None;
    }
    if sectors != u8::MAX {
        for sector in 0..8 {
            if sectors & (1 << sector) == 0 {
                let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                here[bytes.clone()].copy_from_slice(&under[bytes]);
            }
        }
    }
    if *here == *under {
        return None;
    }
    Some(if *here == ZEROS { Block::Zero } else { Block::Data(here) })
}

/// Reads all bytes from a place on; behind the end of the file there are zeros.
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => {
                bytes[read..].fill(0);
                break;
            }
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns where the first byte at or behind a place is that is not in a hole.
fn data_from(file: &File, at: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(data),
        Err(Errno::NXIO) => Ok(u64::MAX),
        Err(errno) => Err(errno.into()),
    }
}
