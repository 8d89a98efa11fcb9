//! The end that has the drives: finds what differs, and sends it.

use std::io;

use mln_protocol::id::Digest;
use mln_protocol::wire::{
    ChunkPacking, DISK_BATCH_BLOCKS_MAX, DiskBatch, DiskBlockKind, DiskBlocks, DiskCompare, DiskFrame,
    DiskShape,
};

use super::limits::ZSTD_LEVEL;
use crate::disk::content::{Node, Place, Region, Shape};
use crate::disk::drive::{Access, Block, Drive, VmDisk};
use crate::disk::folder::Remembered;
use crate::disk::scan::hash_region;
use crate::disk::{BLOCK_BYTES, State};

/// Where frames go, and answers come from.
pub(crate) trait Outlet {
    /// Sends a frame.
    fn send(&mut self, frame: DiskFrame) -> io::Result<()>;

    /// Asks for the digests of nodes; the answer is as long as whoever gives it likes.
    fn ask(&mut self, compare: DiskCompare) -> io::Result<Vec<Node>>;
}

/// What the other end has.
#[derive(Debug)]
pub(crate) enum Base {
    /// Nothing but templates.
    Nothing,
    /// This.
    Known(State),
    /// Something; it is asked for.
    Unknown,
}

/// Whether drives may change while they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Still {
    /// They don't.
    Yes,
    /// Their VM runs.
    No,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The root digest of what the other end has now.
    pub(crate) root: Digest,
    /// How many blocks it lacked.
    pub(crate) changed: u64,
}

/// Why drives were not sent whole. Nothing was changed here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// A drive can't be read, or what is known of it can't be written down.
    #[error("its disk can't be read")]
    Disk(#[from] io::Error),
    /// The other end is gone, or the connection.
    #[error("the connection failed")]
    Link(#[source] io::Error),
    /// The other end answers what was not asked.
    #[error("an answer about digests that is none")]
    Answer,
    /// It is something else than when it was hashed.
    #[error("its disk has changed since it was stopped")]
    Changed,
}

/// Returns what drives are like.
pub(crate) fn shape(drives: &[Drive]) -> io::Result<DiskShape> {
    let mut shape = DiskShape { drives: Vec::new(), bytes_on_disk: 0 };
    for drive in drives {
        shape.drives.push(drive.shape().clone());
        shape.bytes_on_disk += drive.bytes_on_disk()?;
    }
    Ok(shape)
}

/// Sends all that the other end lacks, and remembers what it has then.
pub(crate) fn send(
    disk: &VmDisk,
    still: Still,
    base: &Base,
    outlet: &mut dyn Outlet,
) -> Result<Sent, SendError> {
    let drives = disk.open(Access::Read)?;
    let shapes: Vec<_> = drives.iter().map(|drive| drive.shape().clone()).collect();
    let sealed = match still {
        Still::Yes => disk.folder.content().filter(|sealed| Shape::are_same(sealed.drives(), &shapes)),
        Still::No => None,
    };
    let kind = if still == Still::Yes { Remembered::State } else { Remembered::Round };
    let mut state = match sealed {
        Some(_) => None,
        None => Some(disk.folder.new_state(shapes)?),
    };
    let mut sender = Sender { outlet, batch: DiskBatch::default(), changed: 0 };
    let (mut now, mut before) = (Region::default(), Region::default());
    for (number, drive) in (0u16..).zip(&drives) {
        for at in 0..Shape::regions(drive.shape()) {
            let place = Place { drive: number, region: at };
            let earlier = sender.changed;
            if let Some(sealed) = &sealed
                && sealed.read(place, &mut now).is_err()
            {
                // It is hashed anew the next time.
                disk.folder.void()?;
                return Err(SendError::Changed);
            }
            before.clear();
            let is_known = match base {
                Base::Nothing => true,
                // What is damaged is as good as forgotten.
                Base::Known(base) => base.read(place, &mut before).is_ok(),
                Base::Unknown => false,
            };
            match (is_known, &sealed) {
                (true, None) => sender.differing(place, drive, &mut now, &before)?,
                (true, Some(_)) => {
                    let differ: Vec<u16> = now.differences(&before).collect();
                    sender.blocks(place, drive, &differ, &mut now, Still::Yes)?;
                }
                (false, None) => {
                    hash_region(drive, at, &mut now)?;
                    let differ = sender.compare(place, &now)?;
                    sender.blocks(place, drive, &differ, &mut now, Still::No)?;
                }
                (false, Some(_)) => {
                    let differ = sender.compare(place, &now)?;
                    sender.blocks(place, drive, &differ, &mut now, Still::Yes)?;
                }
            }
            sender.flush(place)?;
            // Also where nothing differs: whoever waits hears that it goes on, and that it has the same.
            if sender.changed > earlier || !now.is_empty() {
                sender.frame(DiskFrame::RegionEnd { place, digest: now.digest() })?;
            }
            if let Some(state) = &mut state {
                state.region(place, &now)?;
            }
        }
    }
    let root = match (sealed, state) {
        (Some(sealed), _) => sealed.root(),
        (None, Some(state)) => disk.folder.remember(state, kind)?,
        (None, None) => return Err(SendError::Changed),
    };
    let changed = sender.changed;
    sender.frame(DiskFrame::End { root, changed })?;
    Ok(Sent { root, changed })
}

struct Sender<'a> {
    outlet: &'a mut dyn Outlet,
    batch: DiskBatch,
    changed: u64,
}

impl Sender<'_> {
    /// Reads a region once, sends what differs from what the other end has, and notes what it is.
    fn differing(
        &mut self,
        place: Place,
        drive: &Drive,
        now: &mut Region,
        before: &Region,
    ) -> Result<(), SendError> {
        now.clear();
        drive.read_region(place.region, |at, block| {
            let digest = Some(block.digest());
            now.set(at, digest);
            if before.get(at) == digest { Ok(()) } else { self.put(place, at, block.kind(), block.bytes()) }
        })?;
        // Batches are in order each, not one with the next.
        self.flush(place)?;
        for (at, _) in before.iter() {
            if now.get(at).is_none() {
                self.put(place, at, DiskBlockKind::Below, &[])?;
            }
        }
        Ok(())
    }

    /// Sends these blocks of a region. Where they must not have changed, they are held against what they were.
    fn blocks(
        &mut self,
        place: Place,
        drive: &Drive,
        differ: &[u16],
        now: &mut Region,
        still: Still,
    ) -> Result<(), SendError> {
        let mut buffer = [0; BLOCK_BYTES];
        for &at in differ {
            let block = drive.read_block(place.region, at, &mut buffer)?;
            let digest = block.as_ref().map(Block::digest);
            match still {
                Still::Yes if digest != now.get(at) => return Err(SendError::Changed),
                Still::Yes => {}
                Still::No => now.set(at, digest),
            }
            match block {
                Some(block) => self.put(place, at, block.kind(), block.bytes())?,
                None => self.put(place, at, DiskBlockKind::Below, &[])?,
            }
        }
        Ok(())
    }

    /// Finds where the other end has something else, from coarse to fine.
    fn compare(&mut self, place: Place, now: &Region) -> Result<Vec<u16>, SendError> {
        let mut parents = vec![0];
        for level in 0..=3 {
            let compare = DiskCompare { place, level, parents };
            let ours = now.nodes(&compare).ok_or(SendError::Answer)?;
            let children = Region::children(level, &compare.parents);
            let theirs = self.outlet.ask(compare).map_err(SendError::Link)?;
            if theirs.len() != ours.len() {
                return Err(SendError::Answer);
            }
            let pairs = children.into_iter().zip(ours.iter().zip(&theirs));
            parents = pairs.filter(|(_, (ours, theirs))| ours != theirs).map(|(child, _)| child).collect();
            if parents.is_empty() {
                break;
            }
        }
        Ok(parents)
    }

    fn put(&mut self, place: Place, at: u16, kind: DiskBlockKind, bytes: &[u8]) -> Result<(), SendError> {
        self.batch.push(at, kind, bytes);
        self.changed += 1;
        if self.batch.blocks.len() >= DISK_BATCH_BLOCKS_MAX { self.flush(place) } else { Ok(()) }
    }

    fn flush(&mut self, place: Place) -> Result<(), SendError> {
        if self.batch.blocks.is_empty() {
            return Ok(());
        }
        let plain = std::mem::take(&mut self.batch).to_bytes();
        let packed = zstd::bulk::compress(&plain, ZSTD_LEVEL)?;
        let (packing, bytes) = if packed.len() < plain.len() {
            (ChunkPacking::Zstd, packed)
        } else {
            (ChunkPacking::Plain, plain)
        };
        self.frame(DiskFrame::Blocks(DiskBlocks { place, packing, bytes }))
    }

    fn frame(&mut self, frame: DiskFrame) -> Result<(), SendError> {
        self.outlet.send(frame).map_err(SendError::Link)
    }
}
