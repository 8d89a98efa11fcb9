//! Giving a VM that doesn't run other further disks: those that stay keep what is on them, under whatever letter they have
//! by now, and those that come are made.
//!
//! The disks and the files that describe them change together. All that is to be is put into a folder beside them first,
//! the disks that stay as second names of the same files. Giving that folder its name is what decides; after it the change
//! is carried out again and again until it is whole, however often the host goes down meanwhile.
//!
//! ```text
//!   disks.new/ is filled ──rename──► disks.next/ ──put in place──► disks.old/ ──removed──► (nothing)
//!   a crash:   removed               put in place again             removed
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use mln_protocol::model::{Mount, MountSource, Vm};
use mln_protocol::wire::holder::DrivesWire;
use mln_protocol::wire::seed::SeedMoreWire;
use tracing::info;

use super::drives::{Content, drives, extra, file_of, make_one};
use super::{build, configure};
use crate::disk::DiskFolder;
use crate::holder::{DRIVE_LETTERS, files};
use crate::image::seed;
use crate::platform::{BuildRequest, StepError};

/// What is being put together.
const FRESH: &str = "disks.new";
/// What is decided, and is being put in place.
const NEXT: &str = "disks.next";
/// What is in place.
const OVER: &str = "disks.old";

/// A disk that a VM has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Had {
    letter: char,
    bytes: u64,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Swap,
    Mounted { at: String, file_system: String },
}

/// Where the disk of a letter comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// It is the one that has had this letter.
    Stays(char),
    /// It is made.
    Made,
}

/// Whether one disk can be another one.
type Fits = dyn Fn(&Kind, &Kind) -> bool;

/// What disks a VM is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    disks: Vec<(char, Source)>,
    /// Where the disks were mounted that nobody wants any more.
    lost: Vec<String>,
}

impl Layout {
    /// Whether each disk stays where it is, and none comes or goes.
    fn is_as_it_was(&self, had: &[Had]) -> bool {
        let stays = |(letter, source): &(char, Source)| *source == Source::Stays(*letter);
        self.disks.len() == had.len() && self.disks.iter().all(stays)
    }
}

/// Gives a VM its further disks, as far as they are its own, and the files that describe them. Its folder is locked.
pub(super) fn redrive(
    folder: &Path,
    request: &BuildRequest,
    disk_bytes: Option<u64>,
) -> Result<(), StepError> {
    finish(folder)?;
    let Some(had) = had(folder)? else { return Ok(()) };
    let layout = layout(&had, &request.vm);
    if layout.is_as_it_was(&had) {
        return Ok(());
    }
    if let Some(at) = layout.lost.first() {
        // The mesh has refused such a definition before.
        return Err(StepError::DiskWouldBeLost { vm: request.id.clone(), at: at.clone() });
    }
    let fresh = folder.join(FRESH);
    let writing = |source| StepError::io("writing", &fresh, source);
    remove_folder(&fresh).map_err(writing)?;
    DirBuilder::new().mode(files::PRIVATE_FOLDER).create(&fresh).map_err(writing)?;
    let filled = fill(folder, &fresh, &layout, request, disk_bytes).and_then(|()| {
        // What was known of its drives is over.
        DiskFolder::at(folder).void().map_err(writing)?;
        let decide = || {
            File::open(&fresh)?.sync_all()?;
            fs::rename(&fresh, folder.join(NEXT))?;
            File::open(folder)?.sync_all()
        };
        decide().map_err(writing)
    });
    if filled.is_err() {
        // What can't be removed now is with the next try.
        let _ = remove_folder(&fresh);
    }
    filled?;
    info!(folder = %folder.display(), "it has other further disks");
    finish(folder)
}

/// Puts in place what is decided, if that was cut off.
pub(super) fn finish(folder: &Path) -> Result<(), StepError> {
    let (next, over) = (folder.join(NEXT), folder.join(OVER));
    let put = || -> io::Result<()> {
        remove_folder(&over)?;
        if !next.exists() {
            return Ok(());
        }
        let names = DRIVE_LETTERS.map(file_of);
        for name in names.iter().map(String::as_str).chain([files::SEED, files::EXTRA]) {
            put_in_place(&next.join(name), &folder.join(name))?;
        }
        File::open(folder)?.sync_all()?;
        fs::rename(&next, &over)?;
        File::open(folder)?.sync_all()?;
        remove_folder(&over)
    };
    put().map_err(|source| StepError::io("writing", folder, source))
}

/// Gives a file that is in place another file's content by its name; where there is none it goes. Again changes nothing.
fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    let beside = to.with_extension("put");
    configure::remove_file(&beside)?;
    if !from.exists() {
        return configure::remove_file(to);
    }
    fs::hard_link(from, &beside)?;
    fs::rename(&beside, to)?;
    // Where both were names of one file already, renaming leaves them.
    configure::remove_file(&beside)
}

fn fill(
    folder: &Path,
    fresh: &Path,
    layout: &Layout,
    request: &BuildRequest,
    disk_bytes: Option<u64>,
) -> Result<(), StepError> {
    for (letter, content) in drives(&request.vm) {
        let path = fresh.join(file_of(letter));
        match layout.disks.iter().find(|(of, _)| *of == letter) {
            Some((_, Source::Stays(was))) => fs::hard_link(folder.join(file_of(*was)), &path)
                .map_err(|source| StepError::io("linking", &path, source))?,
            Some((_, Source::Made)) => make_one(&path, &content)?,
            // It is the host's.
            None => {}
        }
    }
    build::write_seed(&fresh.join(files::SEED), request, disk_bytes)?;
    match extra(&request.vm) {
        Some(extra) => build::write(fresh, files::EXTRA, &extra),
        None => Ok(()),
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the disks that a VM has of its own; none where nothing says what they are, as in a copy that has just come: those
/// were compared with its definition before.
fn had(folder: &Path) -> Result<Option<Vec<Had>>, StepError> {
    let extra: Option<DrivesWire> = match files::read(folder, files::EXTRA) {
        Ok(extra) => Some(extra),
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(error.into()),
    };
    let more = match fs::read(folder.join(files::SEED)) {
        Ok(drive) => seed::more(&drive),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StepError::io("reading", folder.join(files::SEED), source)),
    };
    let drives = extra.iter().flat_map(|extra| &extra.drives);
    let own = DRIVE_LETTERS.into_iter().zip(drives).filter(|(_, drive)| !drive.path.starts_with('/'));
    let mut had = Vec::new();
    for (letter, drive) in own {
        let path = folder.join(&drive.path);
        let bytes = fs::metadata(&path).map_err(|source| StepError::io("reading", &path, source))?.len();
        had.push(Had { letter, bytes, kind: kind_of(letter, more.as_ref()) });
    }
    Ok(Some(had))
}

fn kind_of(letter: char, more: Option<&SeedMoreWire>) -> Kind {
    let device = format!("/dev/ubd{letter}");
    match more.and_then(|more| more.mounts.iter().find(|mount| mount.device == device)) {
        Some(mount) => Kind::Mounted { at: mount.at.clone(), file_system: mount.file_system.clone() },
        None => Kind::Swap,
    }
}

/// Says which disk gets which letter: first those that are mounted where they were, then those that are like one another.
fn layout(had: &[Had], vm: &Vm) -> Layout {
    let wanted: Vec<(char, u64, Kind)> =
        drives(vm).filter_map(|(letter, content)| wanted(letter, &content)).collect();
    let mut left: Vec<&Had> = had.iter().collect();
    let mut disks: Vec<(char, Source)> = wanted.iter().map(|(letter, ..)| (*letter, Source::Made)).collect();
    let is_like = |one: &Kind, other: &Kind| match (one, other) {
        (Kind::Mounted { file_system: one, .. }, Kind::Mounted { file_system: other, .. }) => one == other,
        (Kind::Swap, Kind::Swap) => true,
        (Kind::Mounted { .. }, Kind::Swap) | (Kind::Swap, Kind::Mounted { .. }) => false,
    };
    let is_same = |one: &Kind, other: &Kind| one == other;
    let rounds: [&Fits; 2] = [&is_same, &is_like];
    for fits in rounds {
        for ((_, source), (_, bytes, kind)) in disks.iter_mut().zip(&wanted) {
            let found = left.iter().position(|had| had.bytes == *bytes && fits(&had.kind, kind));
            if let (Source::Made, Some(found)) = (*source, found) {
                *source = Source::Stays(left.remove(found).letter);
            }
        }
    }
    let lost = left.into_iter().filter_map(|had| match &had.kind {
        Kind::Mounted { at, .. } => Some(at.clone()),
        Kind::Swap => None,
    });
    Layout { disks, lost: lost.collect() }
}

fn wanted(letter: char, content: &Content<'_>) -> Option<(char, u64, Kind)> {
    match content {
        Content::Swap(bytes) => Some((letter, *bytes, Kind::Swap)),
        Content::Mount(Mount { source: MountSource::Disk(bytes), at, file_system, .. }) => {
            let kind = Kind::Mounted { at: at.clone(), file_system: file_system.clone() };
            Some((letter, bytes.0, kind))
        }
        Content::Mount(_) => None,
    }
}

#[cfg(test)]
#[path = "redrive_test.rs"]
mod tests;
