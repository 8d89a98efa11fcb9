//! The seed drive: a tar of the seed and of the files for the guest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use mln_protocol::wire::seed::{SEED_BYTES_MAX, SEED_VERSION, SeedMoreWire, SeedWire};
use mln_protocol::wire::{DecodeError, decode, encode};

/// The largest file that a seed carries, in bytes: it is in memory while it is copied.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why a seed can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeedReadError {
    #[error("reading the seed drive")]
    Io(#[from] std::io::Error),
    #[error("the seed drive has no seed")]
    Missing,
    #[error("the seed")]
    Decode(#[from] DecodeError),
    #[error("the seed is of version {found}, this guest agent knows {SEED_VERSION}")]
    Version { found: u16 },
    #[error("file {index} of the seed has {bytes} bytes, more than {FILE_BYTES_MAX}")]
    FileTooLong { index: usize, bytes: u64 },
}

/// Reads the seed, without its files.
pub(super) fn read(drive: &Path) -> Result<SeedWire, SeedReadError> {
    let bytes = entry(drive, b"seed")?.ok_or(SeedReadError::Missing)?;
    let seed: SeedWire = decode(&bytes, SEED_BYTES_MAX)?;
    known(seed.version)?;
    Ok(seed)
}

/// Reads what it says besides; none where there is nothing, as in a seed from before there was any.
pub(super) fn read_more(drive: &Path) -> Result<Option<SeedMoreWire>, SeedReadError> {
    let Some(bytes) = entry(drive, b"more")? else { return Ok(None) };
    let more: SeedMoreWire = decode(&bytes, SEED_BYTES_MAX)?;
    known(more.version)?;
    Ok(Some(more))
}

fn known(version: u16) -> Result<(), SeedReadError> {
    if version == SEED_VERSION { Ok(()) } else { Err(SeedReadError::Version { found: version }) }
}

fn entry(drive: &Path, name: &[u8]) -> Result<Option<Vec<u8>>, SeedReadError> {
    let mut archive = tar::Archive::new(File::open(drive)?);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path_bytes().as_ref() == name {
            let mut bytes = Vec::new();
            entry.take(SEED_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Calls `visit` with the content of each file of the seed, by its place in the seed's list.
pub(super) fn each_file<E: From<SeedReadError>>(
    drive: &Path,
    mut visit: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(File::open(drive).map_err(SeedReadError::from)?);
    for entry in archive.entries().map_err(SeedReadError::from)? {
        let mut entry = entry.map_err(SeedReadError::from)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(index) = name.strip_prefix("files/").and_then(|n| n.parse().ok()) else { continue };
        if entry.size() > FILE_BYTES_MAX {
            return Err(SeedReadError::FileTooLong { index, bytes: entry.size() }.into());
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(SeedReadError::from)?;
        visit(index, bytes)?;
    }
    Ok(())
}

/// Returns a digest of the users, groups and files on the drive, to tell others from those that were put in place before.
pub(super) fn checksum_of_files(
    drive: &Path,
    seed: &SeedWire,
    more: Option<&SeedMoreWire>,
) -> Result<String, SeedReadError> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&encode(&seed.users));
    hasher.update(&encode(&more.map(|more| &more.groups)));
    hasher.update(&encode(&seed.files));
    let mut bytes = 0;
    each_file(drive, |index, content| {
        hasher.update(&index.to_le_bytes());
        hasher.update(&content);
        bytes += content.len();
        Ok::<(), SeedReadError>(())
    })?;
    Ok(format!("files-{:08x}-{bytes}", hasher.finalize()))
}

/// Returns a digest of the whole drive, to tell a new seed from one that was applied before.
pub(super) fn checksum(drive: &Path) -> Result<String, SeedReadError> {
    let mut hasher = crc32fast::Hasher::new();
    let mut lengths: BTreeMap<String, u64> = BTreeMap::new();
    let mut archive = tar::Archive::new(File::open(drive)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        lengths.insert(String::from_utf8_lossy(&entry.path_bytes()).into_owned(), entry.size());
        let mut block = [0; 16 << 10];
        loop {
            match entry.read(&mut block)? {
                0 => break,
                count => hasher.update(&block[..count]),
            }
        }
    }
    Ok(format!("{:08x}-{}", hasher.finalize(), lengths.values().sum::<u64>()))
}
