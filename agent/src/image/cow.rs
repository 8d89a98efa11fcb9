//! The copy-on-write layer of User-Mode Linux: format 3, as its kernel reads it.
//!
//! ```text
//!   header │ to 8192: bitmap, a bit for each sector of the file below │ to a page: the written sectors
//! ```
//! Numbers are big-endian. The header names the file below with its size and time of change; where they differ
//! from the file's own, the guest's kernel refuses the disk. So templates never change, not even their times.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::sparse;

const MAGIC: u32 = 0x4f4f_4f4d;
const VERSION: u32 = 3;
const SECTOR_BYTES: u64 = 512;
const ALIGNMENT: u64 = 4096;
const FORMAT_BITMAP: u32 = 0;
const PATH_BYTES: usize = 4096;
const HEADER_BYTES: usize = 32 + PATH_BYTES;

/// Creates an empty layer over a file of `backing_bytes` bytes, changed `backing_mtime` seconds after 1970.
///
/// Only its owner can read it. The layer is durable when this returns; its entry in the folder is not.
pub fn create(path: &Path, backing: &Path, backing_bytes: u64, backing_mtime: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&header(backing, backing_bytes, backing_mtime)?)?;
    file.set_len(data_offset(backing_bytes) + backing_bytes)?;
    file.sync_all()
}

/// Writes a layer of a longer disk that has what another one has: what the guest has written stays where it was, and
/// behind it there is what the longer file below has.
///
/// The new layer is durable when this returns; its entry in the folder is not. On an error there may be a part of it.
pub fn lengthen(layer: &File, longer: &Path, backing: &Path, bytes: u64, mtime: u32) -> io::Result<()> {
    let old = layout(layer)?;
    if bytes < old.bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a layer can't be shorter than it was"));
    }
    create(longer, backing, bytes, mtime)?;
    let to = File::options().read(true).write(true).open(longer)?;
    let new = layout(&to)?;
    let bitmap_bytes = old.bytes.div_ceil(SECTOR_BYTES * 8);
    sparse::copy_range(layer, old.bitmap_at..old.bitmap_at + bitmap_bytes, &to, new.bitmap_at)?;
    sparse::copy_range(layer, old.data_at..old.data_at + old.bytes, &to, new.data_at)?;
    to.sync_all()
}

fn header(backing: &Path, backing_bytes: u64, backing_mtime: u32) -> io::Result<Vec<u8>> {
    let name = backing.as_os_str().as_bytes();
    if name.len() >= PATH_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the template's path is too long"));
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    for number in [MAGIC, VERSION, backing_mtime] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&backing_bytes.to_be_bytes());
    for number in [SECTOR_BYTES as u32, ALIGNMENT as u32, FORMAT_BITMAP] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(name);
    bytes.resize(HEADER_BYTES, 0);
    Ok(bytes)
}

/// Where what is in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The length of the file below, and of the disk, in bytes.
    pub bytes: u64,
    /// Where the bitmap begins; the first sector is the lowest bit of its first byte.
    pub bitmap_at: u64,
    /// Where the first sector is kept.
    pub data_at: u64,
}

/// Returns the layout of a layer; an error where the file is none.
pub fn layout(layer: &File) -> io::Result<Layout> {
    let mut start = [0; 32];
    layer.read_exact_at(&mut start, 0)?;
    let number = |at: usize| start[at..at + 4].iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    let bytes = u64::from(number(12)) << 32 | u64::from(number(16));
    let found = [number(0), number(4), number(20), number(24), number(28)];
    if found != [MAGIC, VERSION, SECTOR_BYTES as u32, ALIGNMENT as u32, FORMAT_BITMAP] {
        let what = "its disk is not a layer as this version makes them";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let bitmap_at = (HEADER_BYTES as u64).next_multiple_of(ALIGNMENT);
    Ok(Layout { bytes, bitmap_at, data_at: data_offset(bytes) })
}

/// Returns where the first sector is kept.
fn data_offset(backing_bytes: u64) -> u64 {
    let bitmap_offset = (HEADER_BYTES as u64).next_multiple_of(ALIGNMENT);
    let bitmap_bytes = backing_bytes.div_ceil(SECTOR_BYTES * 8);
    (bitmap_offset + bitmap_bytes).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_like_the_one_that_a_kernel_makes() {
        // Taken from a layer that linux.uml 6.1 made over a file of 4 GiB.
        let header = header(Path::new("/tmp/x/t.ext4"), 4 << 30, 0x6b02_056f).expect("short enough");
        let made = [
            0x4f, 0x4f, 0x4f, 0x4d, 0, 0, 0, 3, 0x6b, 0x02, 0x05, 0x6f, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0,
            0, 0, 0x10, 0, 0, 0, 0, 0,
        ];
        assert_eq!(header[..32], made);
        assert_eq!(&header[32..46], b"/tmp/x/t.ext4\0");
        assert_eq!(data_offset(4 << 30), 1_056_768);
        assert_eq!(data_offset(4 << 30) + (4 << 30), 4_296_024_064);
    }

    #[test]
    fn an_empty_layer_takes_next_to_no_space() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.cow");
        create(&path, Path::new("/t"), 4 << 30, 1).expect("creates");
        let layout = layout(&File::open(&path).expect("is there")).expect("a layer");
        assert_eq!(layout, Layout { bytes: 4 << 30, bitmap_at: 8192, data_at: 1_056_768 });
        assert!(path.metadata().expect("is there").blocks() * 512 <= 64 << 10);
        assert!(create(&path, Path::new("/t"), 4 << 30, 1).is_err(), "a layer is never replaced");
    }

    #[test]
    fn a_longer_layer_has_what_the_shorter_one_had() {
        let folder = tempfile::tempdir().expect("a folder");
        let (short, long) = (folder.path().join("short"), folder.path().join("long"));
        create(&short, Path::new("/t"), 4 << 30, 1).expect("creates");
        let from = File::options().read(true).write(true).open(&short).expect("is there");
        let old = layout(&from).expect("a layer");
        // The first sector and the last one are written.
        for (sector, byte) in [(0u64, 1u8), ((4 << 30) / 512 - 1, 2)] {
            let at = old.bitmap_at + sector / 8;
            from.write_all_at(&[1 << (sector % 8)], at).expect("writes");
            from.write_all_at(&[byte; 512], old.data_at + sector * 512).expect("writes");
        }
        lengthen(&from, &long, Path::new("/longer"), 8 << 30, 1).expect("is made");
        let to = File::open(&long).expect("is there");
        let new = layout(&to).expect("a layer");
        assert_eq!(new.bytes, 8 << 30);
        assert!(new.data_at > old.data_at, "its map is longer");
        let mut sector = [0; 512];
        for (number, byte) in [(0u64, 1u8), ((4 << 30) / 512 - 1, 2), ((4 << 30) / 512, 0)] {
            to.read_exact_at(&mut sector, new.data_at + number * 512).expect("reads");
            assert_eq!(sector, [byte; 512], "sector {number}");
            let mut bits = [0];
            to.read_exact_at(&mut bits, new.bitmap_at + number / 8).expect("reads");
            assert_eq!(bits[0] & (1 << (number % 8)) != 0, byte != 0, "sector {number}");
        }
        use std::os::unix::fs::MetadataExt;
        assert!(to.metadata().expect("is there").blocks() * 512 <= 128 << 10, "holes stay holes");
        assert!(lengthen(&to, &folder.path().join("x"), Path::new("/t"), 4 << 30, 1).is_err());
    }
}
