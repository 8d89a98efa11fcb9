//! An image that is being put together: chunks come in any order, and what is there survives a crash.
//!
//! What a part has is found out by hashing when it is opened, so a chunk that was half written when the power went is
//! just not there yet, and there is no list beside the file that could say otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mln_protocol::id::Digest;
use mln_protocol::wire::{Chunk, Manifest};

use super::error::ImageError;
use super::sparse;
use super::store::ImageStore;

/// The images that are being fetched: each at most once.
pub(super) type Fetching = Arc<Mutex<BTreeSet<Digest>>>;

/// An image that is being put together.
#[derive(Debug)]
pub(crate) struct Part {
    store: ImageStore,
    digest: Digest,
    manifest: Manifest,
    file: File,
    path: PathBuf,
    /// The places of chunks that are not there yet.
    missing: BTreeSet<u32>,
}

impl Part {
    /// Opens the part of an image, and takes into it what other images here have of it.
    ///
    /// `manifest` must be that of the digest.
    pub(crate) fn open(store: &ImageStore, digest: Digest, manifest: Manifest) -> Result<Self, ImageError> {
        if !store.fetching().lock().unwrap_or_else(PoisonError::into_inner).insert(digest) {
            return Err(ImageError::BeingFetched { digest });
        }
        let path = store.part_path(&digest);
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let sized = opened.and_then(|file| file.set_len(manifest.bytes()).map(|()| file));
        let file = match sized {
            Ok(file) => file,
            Err(source) => {
                store.fetching().lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
                return Err(ImageError::write(path, source));
            }
        };
        let mut part = Self { store: store.clone(), digest, manifest, file, path, missing: BTreeSet::new() };
        part.missing = part.manifest.chunks().iter().map(|chunk| chunk.index).collect();
        part.find_own();
        part.take_from_others()?;
        Ok(part)
    }

    /// Returns the manifest.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the file, for reading: also after it has become an image.
    pub(crate) fn reader(&self) -> Result<File, ImageError> {
        self.file.try_clone().map_err(|source| ImageError::Read { path: self.path.clone(), source })
    }

    /// Returns the places of the chunks that are not there yet.
    pub(crate) fn missing(&self) -> &BTreeSet<u32> {
        &self.missing
    }

    /// Returns how many bytes are not there yet.
    pub(crate) fn missing_bytes(&self) -> u64 {
        self.missing.iter().map(|&index| self.manifest.chunk_len(index) as u64).sum()
    }

    /// Puts a chunk in its place, if it is the one that belongs there; false, and nothing is changed, if it isn't.
    pub(crate) fn put(&mut self, index: u32, bytes: &[u8]) -> Result<bool, ImageError> {
        let Some(chunk) = self.manifest.chunk(index) else { return Ok(false) };
        if bytes.len() != self.manifest.chunk_len(index) || Digest::of(bytes) != chunk.digest {
            return Ok(false);
        }
        if self.missing.contains(&index) {
            self.clear(index, bytes.len())?;
            sparse::write(&self.file, Manifest::offset(index), bytes)
                .map_err(|source| ImageError::write(&self.path, source))?;
            self.missing.remove(&index);
        }
        Ok(true)
    }

    /// Makes the part an image of the store. Everything must be there.
    pub(crate) fn finish(self) -> Result<(), ImageError> {
        let left = self.missing.len();
        if left > 0 {
            let source = io::Error::other(format!("{left} chunks are missing"));
            return Err(ImageError::Write { path: self.path.clone(), source });
        }
        self.store.keep_manifest(&self.digest, &self.manifest)?;
        self.store.settle(&self.path, &self.store.path(&self.digest))
    }

    /// Notes the chunks that an earlier fetch has left here whole.
    fn find_own(&mut self) {
        let mut bytes = Vec::new();
        for chunk in self.manifest.chunks() {
            if read(&self.file, &self.manifest, *chunk, &mut bytes) {
                self.missing.remove(&chunk.index);
            }
        }
    }

    /// Copies the chunks that other images of this host have.
    fn take_from_others(&mut self) -> Result<(), ImageError> {
        let others = self.store.manifests(|digest| *digest != self.digest);
        for (digest, manifest) in others {
            if self.missing.is_empty() {
                break;
            }
            let Ok(file) = File::open(self.store.path(&digest)) else { continue };
            let mut wanted: BTreeMap<Digest, Vec<u32>> = BTreeMap::new();
            for chunk in self.missing.iter().filter_map(|&index| self.manifest.chunk(index)) {
                wanted.entry(chunk.digest).or_default().push(chunk.index);
            }
            let mut bytes = Vec::new();
            for chunk in manifest.chunks() {
                let Some(places) = wanted.remove(&chunk.digest) else { continue };
                if read(&file, &manifest, *chunk, &mut bytes) {
                    for index in places {
                        self.put(index, &bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a hole where a chunk was half written or is another one: pages of zeros are not written.
    fn clear(&self, index: u32, bytes: usize) -> Result<(), ImageError> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, Manifest::offset(index), bytes as u64) {
            Ok(()) => Ok(()),
            // Where no holes can be made, zeros do.
            Err(_) => self
                .file
                .write_all_at(&vec![0; bytes], Manifest::offset(index))
                .map_err(|source| ImageError::write(&self.path, source)),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.store.fetching().lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

/// Reads a chunk of an image; false where the file doesn't have what the manifest says.
pub(super) fn read(file: &File, manifest: &Manifest, chunk: Chunk, bytes: &mut Vec<u8>) -> bool {
    bytes.resize(manifest.chunk_len(chunk.index), 0);
    file.read_exact_at(bytes, Manifest::offset(chunk.index)).is_ok() && Digest::of(bytes) == chunk.digest
}
