//! Files with holes, by chunks: copying them, writing them, and finding what they are made of.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use mln_protocol::id::Digest;
use mln_protocol::wire::{CHUNK_BYTES, Chunk, Manifest};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// What is written at a time: a page of the guest's and of the host's file system.
const PAGE_BYTES: usize = 4096;
static ZEROS: [u8; CHUNK_BYTES as usize] = [0; CHUNK_BYTES as usize];

/// Copies `from` to the empty file `to`: holes, and pages of zeros, become holes.
pub(crate) fn copy(from: &File, to: &File) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    each_chunk(from, |index, bytes| write(to, Manifest::offset(index), bytes))
}

/// Copies a part of a file to another place in one that has a hole there: holes, and pages of zeros, become holes. What
/// lies behind the end of `from` is a hole.
pub(super) fn copy_range(from: &File, range: Range<u64>, to: &File, to_at: u64) -> io::Result<()> {
    let end = range.end.min(from.metadata()?.len());
    let mut block = vec![0; CHUNK_BYTES as usize];
    let mut at = range.start;
    while at < end {
        let data = data_from(from, at, end)?;
        if data >= end {
            break;
        }
        let wanted = (end - data).min(u64::from(CHUNK_BYTES)) as usize;
        from.read_exact_at(&mut block[..wanted], data)?;
        write(to, to_at + (data - range.start), &block[..wanted])?;
        at = data + wanted as u64;
    }
    Ok(())
}

/// Returns the length of a file and its chunks that are not all zeros, without reading its holes.
pub(crate) fn chunks(file: &File) -> io::Result<(u64, Vec<Chunk>)> {
    let mut chunks = Vec::new();
    each_chunk(file, |index, bytes| {
        chunks.push(Chunk { index, digest: Digest::of(bytes) });
        Ok(())
    })?;
    Ok((file.metadata()?.len(), chunks))
}

/// Writes bytes into a file that has a hole there; pages of zeros stay holes.
pub(super) fn write(to: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let mut from = 0;
    while from < bytes.len() {
        let is_hole = |page: &[u8]| page == &ZEROS[..page.len()];
        let pages = bytes[from..].chunks(PAGE_BYTES);
        let data: usize = pages.take_while(|page| !is_hole(page)).map(<[u8]>::len).sum();
        if data > 0 {
            to.write_all_at(&bytes[from..from + data], at + from as u64)?;
            from += data;
        } else {
            from += PAGE_BYTES;
        }
    }
    Ok(())
}

/// Calls `visit` with each chunk of a file that is not all zeros, in order; holes are not read.
fn each_chunk(file: &File, mut visit: impl FnMut(u32, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let length = file.metadata()?.len();
    let chunk_bytes = u64::from(CHUNK_BYTES);
    let mut block = vec![0; CHUNK_BYTES as usize];
    let mut at = 0;
    while at < length {
        let data = data_from(file, at, length)?;
        if data == length {
            break;
        }
        let begin = data - data % chunk_bytes;
        let wanted = chunk_bytes.min(length - begin) as usize;
        file.read_exact_at(&mut block[..wanted], begin)?;
        if block[..wanted] != ZEROS[..wanted] {
            let index = u32::try_from(begin / chunk_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
            visit(index, &block[..wanted])?;
        }
        at = begin + chunk_bytes;
    }
    Ok(())
}

fn data_from(file: &File, at: u64, length: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(data.min(length)),
        // There is no data after this.
        Err(Errno::NXIO) => Ok(length),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    fn open(path: &Path) -> File {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).open(path).expect("opens")
    }

    /// Numbers that look random, the same in every run.
    pub(in crate::image) struct Lot(pub(in crate::image) u64);

    impl Lot {
        pub(in crate::image) fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    /// Writes a sparse file: some bytes here and there, also zeros that are written.
    pub(in crate::image) fn random_file(path: &Path, lot: &mut Lot) -> File {
        let file = open(path);
        let length = 1 + lot.below(6 << 20);
        file.set_len(length).expect("long");
        for _ in 0..lot.below(12) {
            let at = lot.below(length);
            let count = (1 + lot.below(300_000)).min(length - at) as usize;
            let byte = lot.below(3) as u8;
            let bytes: Vec<u8> =
                (0..count).map(|i| byte.wrapping_mul(((i / 1000) as u8).wrapping_add(1))).collect();
            file.write_all_at(&bytes, at).expect("writes");
        }
        file
    }

    #[test]
    fn a_copy_of_any_sparse_file_is_the_same_and_has_the_same_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        for seed in 0..60 {
            let from = random_file(&folder.path().join("from"), &mut Lot(seed));
            let to = open(&folder.path().join("to"));
            copy(&from, &to).expect("copies");
            let [one, other] =
                ["from", "to"].map(|name| std::fs::read(folder.path().join(name)).expect("reads"));
            assert!(one == other, "seed {seed}");
            let manifest = |file| {
                let (bytes, chunks) = chunks(file).expect("reads");
                Manifest::new(bytes, chunks).expect("small")
            };
            assert_eq!(manifest(&from), manifest(&to), "seed {seed}");
            // Every chunk that it doesn't name is all zeros, and the others have the digest that it gives.
            for (index, bytes) in one.chunks(CHUNK_BYTES as usize).enumerate() {
                let chunk = manifest(&from).chunk(index as u32);
                match chunk {
                    Some(chunk) => assert_eq!(chunk.digest, Digest::of(bytes), "seed {seed}"),
                    None => assert!(bytes.iter().all(|&byte| byte == 0), "seed {seed}"),
                }
            }
            assert_eq!(Manifest::from_bytes(&manifest(&from).to_bytes()), Ok(manifest(&from)), "seed {seed}");
        }
    }

    #[test]
    fn any_byte_that_changes_changes_the_manifest_in_its_chunk_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut lot = Lot(7);
        let file = random_file(&folder.path().join("file"), &mut lot);
        let (length, before) = chunks(&file).expect("reads");
        for _ in 0..200 {
            let at = lot.below(length);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("reads");
            let flipped = [byte[0] ^ (1 << lot.below(8))];
            file.write_all_at(&flipped, at).expect("writes");
            let (_, after) = chunks(&file).expect("reads");
            let index = (at / u64::from(CHUNK_BYTES)) as u32;
            let of = |chunks: &[Chunk]| chunks.iter().find(|chunk| chunk.index == index).copied();
            assert_ne!(of(&before), of(&after), "byte {at}");
            let others = |chunks: &[Chunk]| {
                chunks.iter().filter(|chunk| chunk.index != index).copied().collect::<Vec<_>>()
            };
            assert_eq!(others(&before), others(&after));
            file.write_all_at(&byte, at).expect("writes");
        }
    }

    #[test]
    fn holes_stay_holes_and_written_zeros_become_holes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (open(&folder.path().join("from")), open(&folder.path().join("to")));
        from.set_len(32 << 20).expect("long");
        from.write_all_at(b"first", 0).expect("writes");
        from.write_all_at(&vec![0; 4 << 20], 20 << 20).expect("writes");
        from.write_all_at(&[7; 5000], 9 << 20).expect("writes");
        copy(&from, &to).expect("copies");
        assert!(to.metadata().expect("is there").blocks() * 512 <= 64 << 10);
    }
}
