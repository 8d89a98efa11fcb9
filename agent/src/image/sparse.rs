//! Copying a file with holes, and digesting it, without reading the holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use mln_protocol::id::Digest;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

const BLOCK_BYTES: usize = 1 << 20;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Copies `from` to the empty file `to`, holes as holes; returns the digest of all its bytes.
pub(super) fn copy(from: &File, to: &File) -> io::Result<Digest> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    while at < length {
        let data = data_from(from, at, length)?;
        digest_zeros(&mut hasher, data - at);
        let hole = hole_from(from, data, length)?;
        at = data;
        while at < hole {
            let wanted = BLOCK_BYTES.min((hole - at) as usize);
            let count = from.read_at(&mut block[..wanted], at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&block[..count]);
            // Zeros that were written become a hole.
            if block[..count] != ZEROS[..count] {
                to.write_all_at(&block[..count], at)?;
            }
            at += count as u64;
        }
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

fn digest_zeros(hasher: &mut blake3::Hasher, bytes: u64) {
    let mut left = bytes;
    while left > 0 {
        let count = left.min(BLOCK_BYTES as u64);
        hasher.update(&ZEROS[..count as usize]);
        left -= count;
    }
}

fn data_from(file: &File, at: u64, length: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(data.min(length)),
        // There is no data after this.
        Err(Errno::NXIO) => Ok(length),
        Err(errno) => Err(errno.into()),
    }
}

fn hole_from(file: &File, at: u64, length: u64) -> io::Result<u64> {
    if at >= length {
        return Ok(length);
    }
    Ok(rustix::fs::seek(file, SeekFrom::Hole(at))?.min(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn holes_stay_holes_and_the_digest_is_that_of_all_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |name| {
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(folder.path().join(name))
                .expect("opens")
        };
        let (from, to) = (open("from"), open("to"));
        from.set_len(32 << 20).expect("long");
        from.write_all_at(b"first", 0).expect("writes");
        from.write_all_at(&[7; 5000], 9 << 20).expect("writes");
        let digest = copy(&from, &to).expect("copies");
        let bytes = std::fs::read(folder.path().join("to")).expect("reads");
        assert_eq!(bytes, std::fs::read(folder.path().join("from")).expect("reads"));
        assert_eq!(digest, Digest::of(&bytes));
        assert!(to.metadata().expect("is there").blocks() * 512 <= 4 << 20);
    }
}
