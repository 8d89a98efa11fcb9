//! The index: everything that this host knows, in sled, for a quick start. Nothing depends on it.
//!
//! Local databases do break on power cuts. One that can't be opened or read, that panics, takes too long, or didn't
//! survive being opened the last time, is set aside and a new one is filled from the journals; what only others have
//! said comes again from them.

use std::any::Any;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mln_protocol::wire::Change;

use super::failpoint::reach;

/// The database's folder in the data folder.
pub(super) const FOLDER: &str = "state";
/// There while the database is being opened: where it is found, opening has ended this program.
const OPENING: &str = "state.opening";
/// How the folder of one begins that was set aside; when, in seconds since 1970, follows.
const BROKEN: &str = "state.broken-";
/// How many of those are kept, to be looked at.
const BROKEN_MAX: usize = 2;
/// How long opening and reading may take.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// The version of what is stored.
const VERSION: &[u8] = b"2";
/// How much of the database is kept in memory, in bytes.
const CACHE_BYTES: u64 = 4 << 20;

/// The index, open.
#[derive(Debug)]
pub(super) struct Index {
    database: sled::Db,
    slots: sled::Tree,
}

/// An index that was opened, with all that is in it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) index: Index,
    /// Every slot and its value.
    pub(super) values: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why the index can't be used. It is only an index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// The database says so.
    #[error("{0}")]
    Database(#[from] sled::Error),
    /// It panicked.
    #[error("it panicked: {0}")]
    Panic(String),
    /// It takes too long.
    #[error("it is not open after {} s", OPEN_LIMIT.as_secs())]
    Slow,
    /// The program ended while it was opened the last time.
    #[error("the agent has ended while it was being opened")]
    Deadly,
    /// It was written by another version of this program.
    #[error("it is of another version of mlnd ({0})")]
    Version(String),
    /// A folder can't be made or renamed.
    #[error("{0}")]
    Folder(io::Error),
}

impl IndexError {
    /// Whether it is for want of room: then nothing is wrong with the index itself.
    pub(super) fn is_full(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match self {
            Self::Database(sled::Error::Io(error)) | Self::Folder(error) => full(error.kind()),
            Self::Database(_) | Self::Panic(_) | Self::Slow | Self::Deadly | Self::Version(_) => false,
        }
    }
}

impl Index {
    /// Opens the index of a data folder, made if there is none, and reads all of it.
    pub(super) fn open(data: &Path) -> Result<Opened, IndexError> {
        let marker = data.join(OPENING);
        if marker.exists() {
            return Err(IndexError::Deadly);
        }
        fs::write(&marker, b"").map_err(IndexError::Folder)?;
        let folder = data.join(FOLDER);
        let (done, opened) = sync_channel(1);
        let work = move || {
            let opened = guarded(|| open(&folder));
            // Nobody waits any more if it took too long.
            let _ = done.send(opened);
        };
        std::thread::Builder::new().name("index".to_owned()).spawn(work).map_err(IndexError::Folder)?;
        let opened = opened.recv_timeout(OPEN_LIMIT).unwrap_or(Err(IndexError::Slow));
        // It has not ended this program; what else is wrong, is told.
        let _ = fs::remove_file(&marker);
        opened
    }

    /// Puts the index out of the way, and returns where it is now. The next one that is opened is empty.
    pub(super) fn set_aside(data: &Path) -> io::Result<PathBuf> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Above those before it, also where the clock was set back: the oldest ones go.
        let number_of = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(BROKEN)?.parse().ok();
        let last: Option<u64> = broken(data)?.iter().filter_map(number_of).max();
        let number = last.map_or(since, |last| since.max(last.saturating_add(1)));
        let aside = data.join(format!("{BROKEN}{number}"));
        match fs::rename(data.join(FOLDER), &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let _ = fs::remove_file(data.join(OPENING));
        let mut kept = broken(data)?;
        while kept.len() > BROKEN_MAX {
            fs::remove_dir_all(kept.remove(0))?;
        }
        Ok(aside)
    }

    /// Puts in changes; they are durable after [`Self::flush`].
    pub(super) fn apply<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match &change.value {
                Some(value) => batch.insert(&change.slot[..], &value[..]),
                None => batch.remove(&change.slot[..]),
            }
        }
        guarded(|| Ok(self.slots.apply_batch(batch)?))?;
        reach("index-applied");
        Ok(())
    }

    /// Makes durable what was put in.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        guarded(|| Ok(self.database.flush()?))?;
        reach("index-flushed");
        Ok(())
    }
}

/// Returns the indexes that were set aside, oldest first.
pub(crate) fn broken(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(BROKEN)) {
            kept.push(entry.path());
        }
    }
    // By number, and so by age; names of more digits come behind.
    kept.sort_by(|a, b| (a.as_os_str().len(), a).cmp(&(b.as_os_str().len(), b)));
    Ok(kept)
}

fn open(folder: &Path) -> Result<Opened, IndexError> {
    let database = sled::Config::new()
        .path(folder)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None)
        .open()?;
    match database.get("version")? {
        Some(found) if found != VERSION => {
            return Err(IndexError::Version(String::from_utf8_lossy(&found).into_owned()));
        }
        Some(_) => {}
        None if database.was_recovered() && !database.is_empty() => {
            return Err(IndexError::Version("none".to_owned()));
        }
        None => {
            database.insert("version", VERSION)?;
        }
    }
    let slots = database.open_tree("slots")?;
    // All of it is read here, so that what can't be is found now.
    let values = slots.iter().map(|entry| entry.map(|(slot, value)| (slot.to_vec(), value.to_vec())));
    let values = values.collect::<Result<_, _>>()?;
    Ok(Opened { index: Index { database, slots }, values })
}

fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    // Whatever it leaves half done is thrown away with the database.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(IndexError::Panic(words(&*payload))))
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}
