//! The further disks of a VM that came with its project: as they were, under the letters that its definition gives them.
//!
//! A disk says what it is by what is on it. The definition may have changed since it was written: a swap may have another
//! size by now, disks may have come, and another one before may have shifted the letters.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mln_protocol::model::{Mount, MountSource, Vm};
use mln_protocol::wire::DriveShape;

use super::drives::{Content, drives, file_of, make_one};
use crate::disk::DiskFolder;
use crate::holder::{DRIVE_LETTERS, files};
use crate::image::blank;
use crate::platform::StepError;

/// How the name of a disk ends that has yet to get its letter.
const CAME: &str = "came";

/// A disk that came.
struct Came {
    letter: char,
    bytes: u64,
    is_swap: bool,
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Makes the further disks that come, all zeros, with the letters that they had.
pub(super) fn make(folder: &Path, came: &[DriveShape]) -> Result<(), StepError> {
    for drive in came.iter().filter(|drive| drive.template.is_none()) {
        let Some(letter) = letter_of(drive) else {
            let what = format!("no disk is called {}, as one that came is", drive.name);
            return Err(StepError::io("writing", folder, wrong(what)));
        };
        let path = folder.join(file_of(letter));
        let mut options = File::options();
        let made = options.write(true).create_new(true).mode(files::PRIVATE_FILE).open(&path);
        made.and_then(|file| file.set_len(drive.bytes))
            .map_err(|source| StepError::io("writing", &path, source))?;
    }
    Ok(())
}

/// Gives the disks that came the letters of the definition, makes those that are missing, and removes swaps that nobody
/// wants; an error where a disk came that the definition doesn't have. Nobody uses the folder yet.
pub(super) fn fit(folder: &Path, came: &[DriveShape], vm: &Vm) -> Result<(), StepError> {
    let wanted: Vec<(char, u64, bool)> =
        drives(vm).filter_map(|(letter, content)| wanted(letter, &content)).collect();
    let there = came.iter().filter(|drive| drive.template.is_none());
    let there: Vec<(char, u64)> = there.filter_map(|drive| Some((letter_of(drive)?, drive.bytes))).collect();
    if wanted.iter().map(|(letter, bytes, _)| (*letter, *bytes)).eq(there.iter().copied()) {
        return Ok(());
    }
    let mut left = Vec::new();
    for (letter, bytes) in there {
        let path = folder.join(file_of(letter));
        let is_swap = blank::is_swap(&path).map_err(|source| StepError::io("reading", &path, source))?;
        left.push(Came { letter, bytes, is_swap });
    }
    let mut sources: Vec<Option<char>> = vec![None; wanted.len()];
    for same_letter in [true, false] {
        for (source, (letter, bytes, is_swap)) in sources.iter_mut().zip(&wanted) {
            let fits = |came: &Came| {
                (came.bytes, came.is_swap) == (*bytes, *is_swap) && (!same_letter || came.letter == *letter)
            };
            if let (None, Some(at)) = (&source, left.iter().position(fits)) {
                *source = Some(left.remove(at).letter);
            }
        }
    }
    if let Some(disk) = left.iter().find(|disk| !disk.is_swap) {
        let what = format!(
            "a further disk of {} MiB came with it, and the text has none of that size",
            disk.bytes.div_ceil(1 << 20)
        );
        return Err(StepError::io("importing", folder, wrong(what)));
    }
    let aside = |letter: char| folder.join(file_of(letter)).with_extension(CAME);
    let put = || -> io::Result<()> {
        // What is noted of the drives is of other ones.
        DiskFolder::at(folder).void()?;
        for disk in &left {
            fs::remove_file(folder.join(file_of(disk.letter)))?;
        }
        // First all out of the way: two may change places.
        for was in sources.iter().flatten() {
            fs::rename(folder.join(file_of(*was)), aside(*was))?;
        }
        for ((letter, ..), was) in wanted.iter().zip(&sources) {
            if let Some(was) = was {
                fs::rename(aside(*was), folder.join(file_of(*letter)))?;
            }
        }
        Ok(())
    };
    put().map_err(|source| StepError::io("writing", folder, source))?;
    for (letter, content) in drives(vm) {
        let path = folder.join(file_of(letter));
        if !path.exists() {
            make_one(&path, &content)?;
        }
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StepError::io("writing", folder, source))
}

fn letter_of(drive: &DriveShape) -> Option<char> {
    DRIVE_LETTERS.into_iter().find(|letter| drive.name.as_str() == letter.to_string())
}

/// Returns the letter of a disk of the VM's own, its size in bytes, and whether it is for swapping.
fn wanted(letter: char, content: &Content<'_>) -> Option<(char, u64, bool)> {
    match content {
        Content::Swap(bytes) => Some((letter, *bytes, true)),
        Content::Mount(Mount { source: MountSource::Disk(bytes), .. }) => Some((letter, bytes.0, false)),
        Content::Mount(_) => None,
    }
}

#[cfg(test)]
#[path = "imported_test.rs"]
mod tests;
