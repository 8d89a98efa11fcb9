//! The end that gets the drives: puts blocks in their places, and knows at each moment what it has.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;

use mln_protocol::id::Digest;
use mln_protocol::wire::{
    ChunkPacking, DISK_BATCH_BLOCKS_MAX, DISK_BLOCK_BYTES, DecodeError, DiskBatch, DiskBlockKind, DiskBlocks,
    DiskCompare, DiskFrame, DriveShape,
};

use super::send::Sent;
use crate::disk::content::{Node, Place, Region, Shape};
use crate::disk::drive::{Access, Block, Drive, VmDisk};
use crate::disk::folder::Remembered;
use crate::disk::{State, StateWriter};

/// The longest batch, unpacked.
const BATCH_BYTES_MAX: usize = 2 + DISK_BATCH_BLOCKS_MAX * (DISK_BLOCK_BYTES + 3);

/// A copy that is being written.
#[derive(Debug)]
pub(crate) struct Receiver {
    disk: VmDisk,
    drives: Vec<Drive>,
    /// What was there before.
    base: Option<State>,
    /// The regions of it that have not yet been come to.
    ahead: VecDeque<Place>,
    shapes: Vec<DriveShape>,
    /// What there is, as far as it has been come to; none when that is noted.
    state: Option<StateWriter>,
    /// The region that is being written, and what is in it by now.
    place: Option<Place>,
    region: Region,
    /// How many blocks may still come: each comes once at most.
    blocks_left: u64,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// The next one is awaited.
    Next,
    /// These digests are to be sent first.
    Answer(Vec<Node>),
    /// All is there.
    Done(Sent),
}

/// Why a frame can't be taken. What was taken before it is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The copy can't be written: the disk is full, for instance.
    #[error("writing the copy of its disk")]
    Disk(#[from] io::Error),
    /// It is none.
    #[error("what was sent is no part of a disk")]
    Frame(#[from] DecodeError),
    /// It is not for this disk, or comes out of order.
    #[error("what was sent is not for this disk")]
    Place,
    /// The blocks are other ones than was said.
    #[error("what was sent is not what it was said to be")]
    Digest,
}

impl ReceiveError {
    /// Whether the other end is at fault.
    pub(crate) fn is_theirs(&self) -> bool {
        match self {
            Self::Disk(_) => false,
            Self::Frame(_) | Self::Place | Self::Digest => true,
        }
    }
}

impl Receiver {
    /// Begins to write into a copy. `base` is what is on it; none is nothing but templates.
    pub(crate) fn begin(disk: VmDisk, base: Option<State>) -> io::Result<Self> {
        disk.folder.begin_arriving()?;
        let drives = disk.open(Access::Write)?;
        let shapes: Vec<DriveShape> = drives.iter().map(|drive| drive.shape().clone()).collect();
        let state = Some(disk.folder.new_state(shapes.clone())?);
        let ahead = base.iter().flat_map(State::places).collect();
        let blocks_left = shapes.iter().map(|drive| drive.bytes.div_ceil(DISK_BLOCK_BYTES as u64)).sum();
        let region = Region::default();
        Ok(Self { disk, drives, base, ahead, shapes, state, place: None, region, blocks_left })
    }

    /// Takes a frame. None comes after the last one.
    pub(crate) fn take(&mut self, frame: DiskFrame) -> Result<Step, ReceiveError> {
        match frame {
            DiskFrame::Blocks(blocks) => {
                self.enter(blocks.place)?;
                self.write(&blocks)?;
                Ok(Step::Next)
            }
            DiskFrame::Compare(compare) => {
                self.enter(compare.place)?;
                self.answer(&compare)
            }
            DiskFrame::RegionEnd { place, digest } => {
                self.enter(place)?;
                if self.region.digest() == digest { Ok(Step::Next) } else { Err(ReceiveError::Digest) }
            }
            DiskFrame::End { root, changed } => {
                if self.settle()? == root {
                    Ok(Step::Done(Sent { root, changed }))
                } else {
                    Err(ReceiveError::Digest)
                }
            }
            DiskFrame::Shape(_) | DiskFrame::Refused(_) | DiskFrame::Busy => Err(ReceiveError::Place),
        }
    }

    /// Ends early: notes what there is by now, so that the next transfer needs only the rest.
    pub(crate) fn cut(mut self) -> io::Result<()> {
        self.settle().map(drop)
    }

    fn answer(&self, compare: &DiskCompare) -> Result<Step, ReceiveError> {
        self.region.nodes(compare).map(Step::Answer).ok_or(ReceiveError::Place)
    }

    /// Goes on to a region; those before it are as they were.
    fn enter(&mut self, place: Place) -> Result<(), ReceiveError> {
        if self.place == Some(place) {
            return Ok(());
        }
        if self.place.is_some_and(|last| last > place) || !Shape::has(&self.shapes, place, 0) {
            return Err(ReceiveError::Place);
        }
        self.leave()?;
        while let Some(ahead) = self.ahead.front().copied().filter(|ahead| *ahead <= place) {
            self.ahead.pop_front();
            if ahead < place {
                self.keep(ahead)?;
            }
        }
        match &self.base {
            Some(base) => base.read(place, &mut self.region)?,
            None => self.region.clear(),
        }
        self.place = Some(place);
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        match (self.place, &mut self.state) {
            (Some(place), Some(state)) => state.region(place, &self.region),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn keep(&mut self, place: Place) -> io::Result<()> {
        if let (Some(base), Some(state)) = (&self.base, &mut self.state) {
            base.read(place, &mut self.region)?;
            state.region(place, &self.region)?;
        }
        Ok(())
    }

    fn write(&mut self, blocks: &DiskBlocks) -> Result<(), ReceiveError> {
        let plain: Cow<'_, [u8]> = match blocks.packing {
            ChunkPacking::Plain => Cow::Borrowed(&blocks.bytes),
            ChunkPacking::Zstd => zstd::bulk::decompress(&blocks.bytes, BATCH_BYTES_MAX)
                .map(Cow::Owned)
                .map_err(|_| DecodeError::Malformed)?,
        };
        let batch = DiskBatch::from_bytes(&plain)?;
        let left = self.blocks_left.checked_sub(batch.blocks.len() as u64);
        self.blocks_left = left.ok_or(ReceiveError::Place)?;
        let drive = &self.drives[usize::from(blocks.place.drive)];
        let mut data = batch.data.chunks_exact(DISK_BLOCK_BYTES);
        for (at, kind) in batch.blocks {
            if !Shape::has(&self.shapes, blocks.place, at) {
                return Err(ReceiveError::Place);
            }
            let (bytes, digest) = match kind {
                DiskBlockKind::Below => (&[][..], None),
                DiskBlockKind::Zero => (&[][..], Some(Block::Zero.digest())),
                DiskBlockKind::Data => {
                    let bytes = data.next().ok_or(DecodeError::Malformed)?;
                    (bytes, Some(Block::Data(bytes).digest()))
                }
            };
            // Half of it may be there when this fails: then nobody knows what there is.
            drive.write_block(blocks.place.region, at, kind, bytes)?;
            self.region.set(at, digest);
        }
        Ok(())
    }

    /// Makes all that was written durable, and notes what it is.
    fn settle(&mut self) -> io::Result<Digest> {
        self.leave()?;
        while let Some(ahead) = self.ahead.pop_front() {
            self.keep(ahead)?;
        }
        for drive in &self.drives {
            drive.sync()?;
        }
        let state = self.state.take().ok_or(io::ErrorKind::InvalidInput)?;
        let root = self.disk.folder.remember(state, Remembered::State)?;
        self.disk.folder.set_content(root)?;
        Ok(root)
    }
}
