//! A disk in memory whose power can be cut, which can be full, and which fails to sync when a test says so.
//!
//! What is not synced when the power is cut is there, away, or torn at any sector, by lot; a name that isn't synced
//! is there or not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::medium::Medium;

/// The smallest that a disk writes at once, in bytes.
const SECTOR: usize = 512;

/// The disk.
#[derive(Clone, Debug)]
pub(super) struct PowerCuts(RefCell<State>);

#[derive(Clone, Debug)]
struct State {
    lot: u64,
    /// How many more things are done before the power is cut.
    left: Option<u64>,
    is_full: bool,
    fails_to_sync: bool,
    files: Vec<File>,
    /// What names mean, and what they mean after a power cut.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// How far it has room that was taken ahead.
    ahead: u64,
}

impl PowerCuts {
    /// Returns an empty disk; the power is cut after so many things, if at all.
    pub(super) fn new(seed: u64, left: Option<u64>) -> Self {
        Self(RefCell::new(State {
            lot: seed,
            left,
            is_full: false,
            fails_to_sync: false,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
        }))
    }

    pub(super) fn is_cut(&self) -> bool {
        self.0.borrow().left == Some(0)
    }

    pub(super) fn fail_next_sync(&self) {
        self.0.borrow_mut().fails_to_sync = true;
    }

    pub(super) fn fill(&self) {
        self.0.borrow_mut().is_full = true;
    }

    pub(super) fn empty(&self) {
        self.0.borrow_mut().is_full = false;
    }

    /// Returns the disk as it is found when the power is back.
    pub(super) fn after_the_cut(&self) -> Self {
        let mut state = self.0.borrow().clone();
        let mut draw = || draw(&mut state.lot);
        for file in &mut state.files {
            file.bytes = torn(&file.durable, &file.bytes, &mut draw);
            file.durable.clone_from(&file.bytes);
        }
        // Names become durable in their order or not at all, as in any file system with a journal.
        if draw().is_multiple_of(2) {
            state.durable_names.clone_from(&state.names);
        }
        state.names.clone_from(&state.durable_names);
        state.left = None;
        state.is_full = false;
        Self(RefCell::new(state))
    }

    /// Counts something that is done; fails where the power is off.
    fn step<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.borrow_mut();
        match &mut state.left {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) => *left -= 1,
            None => {}
        }
        work(&mut state)
    }
}

fn draw(lot: &mut u64) -> u64 {
    *lot = lot.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *lot;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns what is left of a file: each sector old or new, and of what is new at the end some or nothing.
fn torn(durable: &[u8], bytes: &[u8], draw: &mut impl FnMut() -> u64) -> Vec<u8> {
    let longest = durable.len().max(bytes.len());
    let shortest = durable.len().min(bytes.len());
    let length = shortest + (draw() as usize) % (longest - shortest + 1);
    let mut left = vec![0; length];
    for (number, sector) in left.chunks_mut(SECTOR).enumerate() {
        let source = if draw().is_multiple_of(2) { durable } else { bytes };
        let source = source.get(number * SECTOR..).unwrap_or_default();
        let count = sector.len().min(source.len());
        sector[..count].copy_from_slice(&source[..count]);
        // What was durable before is not undone by a write behind it in the same sector.
        let old = durable.get(number * SECTOR..).unwrap_or_default();
        if bytes.starts_with(durable) {
            let count = sector.len().min(old.len());
            sector[..count].copy_from_slice(&old[..count]);
        }
    }
    left
}

impl State {
    fn file(&mut self, path: &Path) -> io::Result<&mut File> {
        let number = *self.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(&mut self.files[number])
    }
}

impl Medium for PowerCuts {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.0.borrow_mut();
        Ok(state.file(path).ok().map(|file| file.bytes.clone()))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.0.borrow();
        let below = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(below.filter_map(|path| Some(path.file_name()?.to_owned())).collect())
    }

    fn make_folder(&self, _path: &Path) -> io::Result<()> {
        self.step(|_| Ok(()))
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|state| {
            if state.is_full {
                return Err(ErrorKind::StorageFull.into());
            }
            let number = state.files.len();
            state.files.push(File { bytes: bytes.to_vec(), ..File::default() });
            state.names.insert(path.to_owned(), number);
            Ok(())
        })
    }

    fn write_at(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(|state| {
            let is_full = state.is_full;
            let file = state.file(path)?;
            let (at, end) = (at as usize, at as usize + bytes.len());
            if is_full && end as u64 > file.ahead {
                return Err(ErrorKind::StorageFull.into());
            }
            if file.bytes.len() < end {
                file.bytes.resize(end, 0);
            }
            file.bytes[at..end].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn reserve(&self, path: &Path, at: u64, bytes: u64) -> io::Result<()> {
        self.step(|state| {
            if state.is_full {
                return Err(ErrorKind::StorageFull.into());
            }
            state.file(path)?.ahead = at + bytes;
            Ok(())
        })
    }

    fn cut(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.step(|state| {
            let file = state.file(path)?;
            file.bytes.truncate(bytes as usize);
            file.ahead = bytes;
            Ok(())
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step(|state| {
            let fails = std::mem::take(&mut state.fails_to_sync);
            let file = state.file(path)?;
            if fails {
                return Err(io::Error::other("the disk is broken"));
            }
            file.durable.clone_from(&file.bytes);
            Ok(())
        })
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        self.step(|state| {
            state.durable_names.clone_from(&state.names);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|state| {
            let number = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), number);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|state| {
            state.names.remove(path);
            Ok(())
        })
    }
}
