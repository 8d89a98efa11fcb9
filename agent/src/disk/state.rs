//! What was on a VM's drives at some time, block by block, as digests in a file beside them.
//!
//! ```text
//!   region, region, …   each: its blocks that are not what is below them, as place (2 bytes) and digest (32 bytes)
//!   table               drives and regions: where each begins, how many blocks it has, its digest
//!   the table's length  in the last 8 bytes, little-endian
//! ```
//! The name of the file has the root digest, and everything in it follows from that: a file that was torn or changed is
//! known by it, and is as good as none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mln_protocol::id::Digest;
use mln_protocol::wire::{DISK_TABLE_BYTES_MAX, DiskTable, DiskTableRegion, DriveShape};

use super::content::{Place, Region, RootHasher};
use super::{REGION_BLOCKS, folder};

/// The length of a block's entry, in bytes.
const ENTRY_BYTES: usize = 2 + 32;

/// What was on the drives at some time.
#[derive(Debug)]
pub struct State {
    file: File,
    root: Digest,
    drives: Vec<DriveShape>,
    regions: BTreeMap<Place, DiskTableRegion>,
}

/// Writes down what is on the drives, region by region.
#[derive(Debug)]
pub struct StateWriter {
    path: Unfinished,
    file: BufWriter<File>,
    offset: u64,
    table: DiskTable,
    hasher: RootHasher,
}

/// A file that goes with the value, unless it has got another name by then.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // One that stays only takes room.
        let _ = fs::remove_file(&self.0);
    }
}

impl State {
    /// Opens the state with this root digest; none where the file is not there, or is not it.
    pub(super) fn open(path: &Path, root: Digest) -> Option<Self> {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut last = [0; 8];
        file.read_exact_at(&mut last, length.checked_sub(8)?).ok()?;
        let table_bytes = u64::from_le_bytes(last);
        if table_bytes > DISK_TABLE_BYTES_MAX as u64 {
            return None;
        }
        let mut table = vec![0; usize::try_from(table_bytes).ok()?];
        file.read_exact_at(&mut table, (length - 8).checked_sub(table_bytes)?).ok()?;
        let table = DiskTable::from_bytes(&table).ok()?;
        let mut hasher = RootHasher::new(&table.drives);
        table.regions.iter().for_each(|region| hasher.region(region.place, region.digest));
        if hasher.finish() != root || table.regions.iter().any(|region| region.blocks > REGION_BLOCKS) {
            return None;
        }
        let regions = table.regions.into_iter().map(|region| (region.place, region)).collect();
        Some(Self { file, root, drives: table.drives, regions })
    }

    /// Returns the root digest.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Returns what the drives were like.
    pub fn drives(&self) -> &[DriveShape] {
        &self.drives
    }

    /// Returns the regions in which not everything was what is below it, in order.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.regions.keys().copied()
    }

    /// Reads a region into `region`. An error where the file doesn't have what its table says.
    pub fn read(&self, place: Place, region: &mut Region) -> io::Result<()> {
        region.clear();
        let Some(entry) = self.regions.get(&place) else { return Ok(()) };
        let mut bytes = vec![0; entry.blocks as usize * ENTRY_BYTES];
        self.file.read_exact_at(&mut bytes, entry.offset)?;
        for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
            let mut digest = [0; 32];
            digest.copy_from_slice(&entry[2..]);
            region.set(u16::from_le_bytes([entry[0], entry[1]]), Some(Digest(digest)));
        }
        if region.digest() != entry.digest {
            let what = "what is remembered of the drives is damaged";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(())
    }
}

impl StateWriter {
    /// Begins a file in a folder, under a name that is nobody's yet.
    pub(super) fn create(path: PathBuf, drives: Vec<DriveShape>) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let hasher = RootHasher::new(&drives);
        let table = DiskTable { drives, regions: Vec::new() };
        let path = Unfinished(path);
        Ok(Self { path, file: BufWriter::new(file), offset: 0, table, hasher })
    }

    /// Returns what the drives are like.
    pub fn drives(&self) -> &[DriveShape] {
        &self.table.drives
    }

    /// Goes on with a region; they must come in order.
    pub fn region(&mut self, place: Place, region: &Region) -> io::Result<()> {
        if region.is_empty() {
            return Ok(());
        }
        for (at, digest) in region.iter() {
            self.file.write_all(&at.to_le_bytes())?;
            self.file.write_all(&digest.0)?;
        }
        let digest = region.digest();
        self.hasher.region(place, digest);
        self.table.regions.push(DiskTableRegion { place, digest, offset: self.offset, blocks: region.len() });
        self.offset += u64::from(region.len()) * ENTRY_BYTES as u64;
        Ok(())
    }

    /// Ends the file and gives it its name; returns the root digest. It is durable, if its folder is.
    pub(super) fn finish(mut self, kind: folder::Remembered) -> io::Result<Digest> {
        let root = self.hasher.finish();
        let table = self.table.to_bytes();
        self.file.write_all(&table)?;
        self.file.write_all(&(table.len() as u64).to_le_bytes())?;
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        if kind == folder::Remembered::State {
            file.sync_all()?;
        }
        fs::rename(&self.path.0, self.path.0.with_file_name(kind.file_name(root)))?;
        Ok(root)
    }
}
