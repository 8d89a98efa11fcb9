//! What a large file is made of: its length, and the digest of each chunk that is not all zeros.
//!
//! The digest of a manifest's bytes names the file. So whoever has that digest can verify the manifest first, and then
//! each chunk on its own, whoever sends it and in whatever order. One file has one manifest: there is one way to write
//! it down, and bytes that say the same in another way are refused.

use serde::{Deserialize, Serialize};

use super::{DecodeError, MESSAGE_BYTES_MAX, decode, encode};
use crate::id::Digest;

/// The version of the manifest that this program writes. Another one gives the same file another digest.
pub const MANIFEST_VERSION: u16 = 1;

/// The longest encoded manifest, in bytes, so that it fits into a message: some 30 GiB of data that is not zero, and any length of holes.
pub const MANIFEST_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 64;

/// The length of a chunk, in bytes; the last one of a file may be shorter.
pub const CHUNK_BYTES: u32 = 256 << 10;

/// The longest file that has a manifest, in bytes.
pub const MANIFEST_FILE_BYTES_MAX: u64 = 1 << 40;

/// A chunk of a file that is not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chunk {
    /// Its place: it begins at this many times [`CHUNK_BYTES`].
    pub index: u32,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// What a file is made of. Between its chunks there is nothing but zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    bytes: u64,
    /// In ascending order of place, each place once.
    chunks: Vec<Chunk>,
}

/// Why a file has no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The file is too long.
    #[error("{bytes} bytes, where a file may have at most {limit}")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// There is too much in the file that is not zero.
    #[error("{chunks} chunks of data make a manifest longer than {MANIFEST_BYTES_MAX} bytes")]
    TooManyChunks {
        /// How many.
        chunks: usize,
    },
    /// The chunks are not in ascending order, or lie behind the end. A bug of the caller.
    #[error("the chunks are out of order")]
    Order,
}

#[derive(Serialize, Deserialize)]
struct ManifestWire {
    version: u16,
    chunk_bytes: u32,
    bytes: u64,
    runs: Vec<RunWire>,
}

/// Chunks that follow each other without a hole between them.
#[derive(Serialize, Deserialize)]
struct RunWire {
    first: u32,
    digests: Vec<[u8; 32]>,
}

impl Manifest {
    /// Makes the manifest of a file of `bytes` bytes; `chunks` are those that are not all zeros, in ascending order.
    pub fn new(bytes: u64, chunks: Vec<Chunk>) -> Result<Self, ManifestError> {
        if bytes > MANIFEST_FILE_BYTES_MAX {
            return Err(ManifestError::TooLong { bytes, limit: MANIFEST_FILE_BYTES_MAX });
        }
        let ascending = chunks.windows(2).all(|pair| pair[0].index < pair[1].index);
        if !ascending || chunks.last().is_some_and(|last| last.index >= places(bytes)) {
            return Err(ManifestError::Order);
        }
        let manifest = Self { bytes, chunks };
        if manifest.to_bytes().len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooManyChunks { chunks: manifest.chunks.len() });
        }
        Ok(manifest)
    }

    /// Returns the length of the file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the chunks that are not all zeros, in ascending order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Returns the chunk at a place; none is a hole, or behind the end.
    pub fn chunk(&self, index: u32) -> Option<Chunk> {
        let at = self.chunks.binary_search_by_key(&index, |chunk| chunk.index).ok()?;
        Some(self.chunks[at])
    }

    /// Returns where a chunk begins, in bytes.
    pub fn offset(index: u32) -> u64 {
        u64::from(index) * u64::from(CHUNK_BYTES)
    }

    /// Returns the length of the chunk at a place, in bytes: only the last one may be shorter than the others.
    pub fn chunk_len(&self, index: u32) -> usize {
        let left = self.bytes.saturating_sub(Self::offset(index));
        // At most the length of a chunk, which fits.
        left.min(u64::from(CHUNK_BYTES)) as usize
    }

    /// Returns how many bytes of data there are, holes left out.
    pub fn data_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| self.chunk_len(chunk.index) as u64).sum()
    }

    /// Returns the file's name: the digest of the manifest's bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Encodes it, in the one way that there is.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut runs: Vec<RunWire> = Vec::new();
        for chunk in &self.chunks {
            match runs.last_mut() {
                Some(run) if run.first as usize + run.digests.len() == chunk.index as usize => {
                    run.digests.push(chunk.digest.0);
                }
                _ => runs.push(RunWire { first: chunk.index, digests: vec![chunk.digest.0] }),
            }
        }
        let wire =
            ManifestWire { version: MANIFEST_VERSION, chunk_bytes: CHUNK_BYTES, bytes: self.bytes, runs };
        encode(&wire)
    }

    /// Decodes a manifest; one that is written down in another way than [`Manifest::to_bytes`] does is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let version = bytes.get(..2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        if version != MANIFEST_VERSION {
            return Err(DecodeError::Unknown { what: "manifest version", found: version.into() });
        }
        let wire: ManifestWire = decode(bytes, MANIFEST_BYTES_MAX)?;
        if wire.chunk_bytes != CHUNK_BYTES {
            return Err(DecodeError::Invalid { what: "chunk length" });
        }
        let mut chunks = Vec::new();
        for run in wire.runs {
            for (at, digest) in run.digests.into_iter().enumerate() {
                let index = u32::try_from(at).ok().and_then(|at| run.first.checked_add(at));
                let index = index.ok_or(DecodeError::Invalid { what: "chunk's place" })?;
                chunks.push(Chunk { index, digest: Digest(digest) });
            }
        }
        let manifest =
            Self::new(wire.bytes, chunks).map_err(|_| DecodeError::Invalid { what: "manifest" })?;
        let last = places(manifest.bytes).saturating_sub(1);
        let zeros = [zeros_digest(CHUNK_BYTES as usize), zeros_digest(manifest.chunk_len(last))];
        if manifest.chunks.iter().any(|chunk| zeros.contains(&chunk.digest)) || manifest.to_bytes() != bytes {
            return Err(DecodeError::Invalid { what: "way to write a manifest" });
        }
        Ok(manifest)
    }
}

/// Returns how many places for chunks a file has. Its length is at most [`MANIFEST_FILE_BYTES_MAX`].
fn places(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(u64::from(CHUNK_BYTES))).unwrap_or(u32::MAX)
}

fn zeros_digest(bytes: usize) -> Digest {
    Digest::of(&vec![0; bytes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    fn chunk(index: u32, byte: u8) -> Chunk {
        Chunk { index, digest: Digest([byte; 32]) }
    }

    fn example() -> Manifest {
        let chunks = vec![chunk(0, 1), chunk(1, 2), chunk(7, 3)];
        Manifest::new(7 * u64::from(CHUNK_BYTES) + 5, chunks).expect("in order")
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let golden = include_str!("golden/manifest_1.hex").trim();
        assert_eq!(hex(&example().to_bytes()), golden);
        assert_eq!(Manifest::from_bytes(&example().to_bytes()), Ok(example()));
    }

    #[test]
    fn lengths_and_places_are_those_of_the_file() {
        let manifest = example();
        assert_eq!((manifest.chunk_len(0), manifest.chunk_len(7), manifest.chunk_len(8)), (256 << 10, 5, 0));
        assert_eq!(manifest.data_bytes(), (512 << 10) + 5);
        assert_eq!(manifest.chunk(7), Some(chunk(7, 3)));
        assert_eq!(manifest.chunk(2), None);
    }

    #[test]
    fn what_is_written_in_another_way_is_refused() {
        let split = ManifestWire {
            version: 1,
            chunk_bytes: CHUNK_BYTES,
            bytes: 1 << 20,
            runs: vec![
                RunWire { first: 0, digests: vec![[1; 32]] },
                RunWire { first: 1, digests: vec![[2; 32]] },
            ],
        };
        let invalid = |wire: &ManifestWire| {
            matches!(Manifest::from_bytes(&encode(wire)), Err(DecodeError::Invalid { .. }))
        };
        assert!(invalid(&split), "two runs that touch");
        let run = |first, digest| vec![RunWire { first, digests: vec![digest] }];
        assert!(invalid(&ManifestWire { runs: run(4, [1; 32]), ..split }), "behind the end");
        let wire = ManifestWire { version: 1, chunk_bytes: CHUNK_BYTES, bytes: 1 << 20, runs: vec![] };
        let zeros = zeros_digest(CHUNK_BYTES as usize).0;
        assert!(invalid(&ManifestWire { runs: run(1, zeros), ..wire }), "a hole as a chunk");
        let wire = ManifestWire { version: 1, chunk_bytes: 4096, bytes: 1 << 20, runs: vec![] };
        assert!(invalid(&wire), "chunks of another length");
        let mut bytes = example().to_bytes();
        bytes[0] = 2;
        assert_eq!(
            Manifest::from_bytes(&bytes),
            Err(DecodeError::Unknown { what: "manifest version", found: 2 })
        );
    }

    #[test]
    fn what_no_manifest_can_hold_is_an_error() {
        assert!(matches!(Manifest::new(u64::MAX, vec![]), Err(ManifestError::TooLong { .. })));
        let many = (0..140_000).map(|index| chunk(index, 9)).collect();
        assert!(matches!(
            Manifest::new(1 << 40, many),
            Err(ManifestError::TooManyChunks { chunks: 140_000 })
        ));
        assert_eq!(Manifest::new(1 << 20, vec![chunk(1, 1), chunk(1, 1)]), Err(ManifestError::Order));
    }

    #[test]
    fn a_terabyte_of_holes_is_a_short_manifest() {
        let manifest = Manifest::new(1 << 40, vec![]).expect("short");
        assert_eq!(manifest.to_bytes().len(), 2 + 4 + 8 + 8);
    }
}
