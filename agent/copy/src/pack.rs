//! From a disk into a stream.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{CopyError, ROOT};

/// What an archive is cut into, in bytes.
const BLOCK_BYTES: u64 = 512;
/// What of a file's permissions is copied: not that it runs as its owner.
pub(crate) const MODE_BITS: u32 = 0o777;
/// How deep folders may be nested.
const DEPTH_MAX: usize = 256;

/// Whether folders are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only a file.
    File,
    /// A folder with all that is in it, too.
    Tree,
}

/// Returns about how many bytes [`pack`] will write.
pub fn measure(source: &Path, depth: Depth) -> Result<u64, CopyError> {
    let mut bytes = 2 * BLOCK_BYTES;
    walk(source, depth, &mut |_, _, _, metadata| {
        bytes += BLOCK_BYTES;
        if metadata.is_file() {
            bytes += metadata.len().next_multiple_of(BLOCK_BYTES);
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Writes a file or folder as an archive, and returns where it was written to.
///
/// Links inside of a folder are copied as links; one that is named itself is followed.
pub fn pack<W: Write>(source: &Path, depth: Depth, out: W) -> Result<W, CopyError> {
    let mut archive = tar::Builder::new(out);
    walk(source, depth, &mut |path, target, inner, metadata| {
        append(&mut archive, path, target, inner, metadata)
    })?;
    archive.into_inner().map_err(CopyError::Stream)
}

/// What is done with each: its path, what it links to, its path in the archive, what is known of it.
type Visit<'a> = dyn FnMut(&Path, Option<&Path>, &Path, &Metadata) -> Result<(), CopyError> + 'a;

fn walk(source: &Path, depth: Depth, visit: &mut Visit<'_>) -> Result<(), CopyError> {
    let metadata = fs::metadata(source).map_err(|error| CopyError::disk("reading", source, error))?;
    if metadata.is_dir() && depth == Depth::File {
        return Err(CopyError::IsFolder(source.to_owned()));
    }
    let mut waiting: Vec<(PathBuf, PathBuf, Metadata)> = vec![(source.to_owned(), ROOT.into(), metadata)];
    while let Some((path, inner, metadata)) = waiting.pop() {
        let reading = |error| CopyError::disk("reading", &path, error);
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(reading)?;
            visit(&path, Some(&target), &inner, &metadata)?;
        } else if metadata.is_file() {
            visit(&path, None, &inner, &metadata)?;
        } else if metadata.is_dir() {
            visit(&path, None, &inner, &metadata)?;
            if inner.components().count() > DEPTH_MAX {
                let text = format!("folders are nested deeper than {DEPTH_MAX}");
                return Err(reading(io::Error::other(text)));
            }
            let mut entries = Vec::new();
            for entry in fs::read_dir(&path).map_err(reading)? {
                let entry = entry.map_err(reading)?;
                let metadata = entry.metadata().map_err(reading)?;
                entries.push((entry.path(), inner.join(entry.file_name()), metadata));
            }
            // Always the same order: the same content makes the same stream.
            entries.sort_by(|one, other| other.1.cmp(&one.1));
            waiting.extend(entries);
        } else {
            return Err(CopyError::Special(path));
        }
    }
    Ok(())
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &Path,
    target: Option<&Path>,
    inner: &Path,
    metadata: &Metadata,
) -> Result<(), CopyError> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(metadata.mode() & MODE_BITS);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    if let Some(target) = target {
        header.set_entry_type(tar::EntryType::Symlink);
        return archive.append_link(&mut header, inner, target).map_err(CopyError::Stream);
    }
    if metadata.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        return archive.append_data(&mut header, inner, io::empty()).map_err(CopyError::Stream);
    }
    let file = File::open(path).map_err(|error| CopyError::disk("reading", path, error))?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(metadata.len());
    // A file that grows meanwhile is copied as long as it was.
    let mut content = Counted { inner: file.take(metadata.len()), bytes: 0, failed: None };
    let appended = archive.append_data(&mut header, inner, &mut content);
    if let Some(error) = content.failed {
        return Err(CopyError::disk("reading", path, error));
    }
    appended.map_err(CopyError::Stream)?;
    if content.bytes == metadata.len() { Ok(()) } else { Err(CopyError::Changed(path.to_owned())) }
}

/// Tells an error of the file from one of the stream.
struct Counted<R> {
    inner: R,
    bytes: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(bytes) {
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}
