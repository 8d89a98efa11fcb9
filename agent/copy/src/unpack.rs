//! From a stream onto a disk: each file whole or not at all.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::pack::MODE_BITS;
use crate::{CopyError, ROOT, Seal, Unsealing};

/// The permissions of a file whose sender has none.
const USUAL_MODE: u32 = 0o644;
/// How much is read at a time, in bytes.
const READ_BYTES: usize = 64 << 10;

/// What may stand between two contents of an archive, in bytes: long names do, and they are kept in memory.
const HEADERS_BYTES_MAX: u64 = 64 << 10;

/// What is in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An archive, as [`crate::pack`] writes it.
    Archive,
    /// An archive of which only a file is taken: whoever asked for a file gets no folder, whatever the sender says.
    OneFile,
    /// The content of one file.
    Content,
}

/// Returns where something goes that is called `name`: into `wanted` where that is a folder, else there.
///
/// Fails where that can't be, before anything is sent.
pub fn destination(wanted: &Path, name: Option<&OsStr>) -> Result<PathBuf, CopyError> {
    let ends_as_folder = wanted.as_os_str().as_encoded_bytes().ends_with(b"/");
    if wanted.is_dir() {
        return match name {
            Some(name) => Ok(wanted.join(name)),
            None => Err(CopyError::FolderInTheWay(wanted.to_owned())),
        };
    }
    let parent = match wanted.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => wanted,
    };
    if ends_as_folder {
        return Err(CopyError::NoFolder(wanted.to_owned()));
    }
    if parent.is_dir() { Ok(wanted.to_owned()) } else { Err(CopyError::NoFolder(parent.to_owned())) }
}

/// Puts what a stream has at `target`; returns what the stream was.
///
/// A file, or a folder that wasn't there before, appears once all of the stream has arrived and is verified. Into
/// a folder that is there, files come one by one.
pub fn unpack<R: Read>(mut stream: Unsealing<R>, form: Form, target: &Path) -> Result<Seal, CopyError> {
    if form == Form::Content {
        if target.is_dir() {
            return Err(CopyError::FolderInTheWay(target.to_owned()));
        }
        let fresh = Fresh::fill(target, &mut stream)?;
        let seal = stream.finish().map_err(CopyError::Stream)?;
        fresh.settle(
            target,
            fs::metadata(target).map_or(USUAL_MODE, |metadata| metadata.permissions().mode()),
        )?;
        return Ok(seal);
    }
    let mut tree = Tree { form, target, stage: None, file: None, modes: Vec::new() };
    let room = Rc::new(Cell::new(HEADERS_BYTES_MAX));
    let mut archive = tar::Archive::new(Metered { inner: stream, room: Rc::clone(&room) });
    for entry in archive.entries().map_err(CopyError::Stream)? {
        let entry = entry.map_err(CopyError::Stream)?;
        room.set(u64::MAX);
        tree.take(entry)?;
        room.set(HEADERS_BYTES_MAX);
    }
    let mut stream = archive.into_inner().inner;
    let seal = stream.finish().map_err(CopyError::Stream)?;
    tree.settle()?;
    Ok(seal)
}

/// Gives no more than there is room for: an archive's headers are read into memory, however long they say they are.
struct Metered<R> {
    inner: R,
    /// What may still be read, in bytes.
    room: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let room = self.room.get();
        if room == 0 && !bytes.is_empty() {
            let text = format!("it has more than {HEADERS_BYTES_MAX} bytes of names before a file");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let wanted = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut bytes[..wanted])?;
        self.room.set(room - count as u64);
        Ok(count)
    }
}

/// What arrives of an archive.
struct Tree<'a> {
    form: Form,
    target: &'a Path,
    /// The folder that becomes `target` at the end; none where that is there, or is a file.
    stage: Option<Stage>,
    /// The only file, where it is one.
    file: Option<(Fresh, u32)>,
    /// Folders get their permissions last: one may be forbidden to write into.
    modes: Vec<(PathBuf, u32)>,
}

impl Tree<'_> {
    fn take<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), CopyError> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let outside = || CopyError::Outside(name.clone());
        let inner = entry.path().map_err(CopyError::Stream)?.into_owned();
        let inner = inner.strip_prefix(ROOT).map_err(|_| outside())?;
        if !inner.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(outside());
        }
        let mode = entry.header().mode().map_err(CopyError::Stream)? & MODE_BITS;
        let kind = entry.header().entry_type();
        if self.form == Form::OneFile && (!inner.as_os_str().is_empty() || kind != tar::EntryType::Regular) {
            return Err(CopyError::NoFile);
        }
        if inner.as_os_str().is_empty() {
            return if kind == tar::EntryType::Directory {
                self.begin_folder(mode)
            } else if kind == tar::EntryType::Regular && self.target.is_dir() {
                Err(CopyError::FolderInTheWay(self.target.to_owned()))
            } else if kind == tar::EntryType::Regular {
                self.file = Some((Fresh::fill(self.target, &mut entry)?, mode));
                Ok(())
            } else {
                Err(outside())
            };
        }
        let base = self.stage.as_ref().map_or(self.target, |stage| &stage.0).to_owned();
        let path = base.join(inner);
        // A link that came before must not lead out.
        let folders = path.ancestors().skip(1).take(inner.components().count());
        if folders.into_iter().any(|folder| !fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir())) {
            return Err(outside());
        }
        match kind {
            tar::EntryType::Directory => {
                match fs::create_dir(&path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                            return Err(CopyError::FileInTheWay(path));
                        }
                    }
                    made => {
                        made.map_err(|error| CopyError::disk("making", &path, error))?;
                        // One that was there before is somebody's, with the permissions that they gave it.
                        self.modes.push((path, mode));
                    }
                }
            }
            tar::EntryType::Regular => {
                if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                    return Err(CopyError::FolderInTheWay(path));
                }
                Fresh::fill(&path, &mut entry)?.settle(&path, mode)?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().map_err(CopyError::Stream)?.ok_or_else(outside)?;
                let fresh = beside(&path);
                let made =
                    std::os::unix::fs::symlink(&target, &fresh).and_then(|()| fs::rename(&fresh, &path));
                made.map_err(|error| CopyError::disk("linking", &path, error))?;
            }
            _ => return Err(CopyError::Special(path)),
        }
        Ok(())
    }

    fn begin_folder(&mut self, mode: u32) -> Result<(), CopyError> {
        if self.target.is_dir() {
            return Ok(());
        }
        if self.target.exists() {
            return Err(CopyError::FileInTheWay(self.target.to_owned()));
        }
        let stage = beside(self.target);
        // Until it has its own permissions, what is in it is nobody else's business.
        let made = fs::DirBuilder::new().mode(0o700).create(&stage);
        made.map_err(|error| CopyError::disk("making", &stage, error))?;
        self.modes.push((stage.clone(), mode));
        self.stage = Some(Stage(stage));
        Ok(())
    }

    fn settle(self) -> Result<(), CopyError> {
        for (path, mode) in self.modes.iter().rev() {
            fs::set_permissions(path, Permissions::from_mode(*mode))
                .map_err(|error| CopyError::disk("setting the permissions of", path, error))?;
        }
        if let Some((fresh, mode)) = self.file {
            fresh.settle(self.target, mode)?;
        }
        if let Some(stage) = self.stage {
            fs::rename(&stage.0, self.target)
                .map_err(|error| CopyError::disk("making", self.target, error))?;
        }
        Ok(())
    }
}

/// A folder on its way; gone, unless it was renamed.
struct Stage(PathBuf);

impl Drop for Stage {
    fn drop(&mut self) {
        // After it was renamed there is nothing of that name.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file on its way: without a name where the file system can do that, so that nothing is left of it whatever
/// happens.
struct Fresh {
    file: File,
    name: Option<PathBuf>,
}

impl Fresh {
    /// Makes a file in the folder of `target`, and fills it.
    fn fill(target: &Path, content: &mut impl Read) -> Result<Self, CopyError> {
        let writing = |error| CopyError::disk("writing", target, error);
        let mut fresh = Self::beside(target).map_err(writing)?;
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match content.read(&mut bytes) {
                Ok(0) => return Ok(fresh),
                Ok(count) => fresh.file.write_all(&bytes[..count]).map_err(writing)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CopyError::Stream(error)),
            }
        }
    }

    fn beside(target: &Path) -> io::Result<Self> {
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            return Ok(Self { file: file.into(), name: None });
        }
        let name = beside(target);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&name)?;
        Ok(Self { file, name: Some(name) })
    }

    /// Gives it its permissions and its name; whatever had that name is replaced.
    fn settle(mut self, target: &Path, mode: u32) -> Result<(), CopyError> {
        let settle = || -> io::Result<()> {
            self.file.set_permissions(Permissions::from_mode(mode & MODE_BITS))?;
            let name = match &self.name {
                Some(name) => name.clone(),
                None => {
                    use std::os::fd::AsRawFd;
                    let name = beside(target);
                    let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                    rustix::fs::linkat(CWD, file, CWD, &name, AtFlags::SYMLINK_FOLLOW)?;
                    self.name.insert(name).clone()
                }
            };
            fs::rename(&name, target)?;
            self.name = None;
            Ok(())
        };
        let mut settle = settle;
        settle().map_err(|error| CopyError::disk("writing", target, error))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs::remove_file(name);
        }
    }
}

/// Returns a name beside a file that nobody else has.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
    // A name may have 255 bytes.
    let name: String = name.chars().take(50).collect();
    path.with_file_name(format!(".{name}.mln-{}", std::process::id()))
}

#[cfg(test)]
#[path = "unpack_test.rs"]
mod tests;
