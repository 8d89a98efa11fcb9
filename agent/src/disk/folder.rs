//! What is known of the drives in a folder, kept beside them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use mln_protocol::id::Digest;
use mln_protocol::wire::DriveShape;

use super::state::{State, StateWriter};

/// What is on the drives, for sure: a root digest in hexadecimal digits.
const CONTENT: &str = "content";
/// The drives are a copy that is not complete.
const ARRIVING: &str = "arriving";
/// How the name of a file begins that is being written; the process and a number follow, since several may be at once.
const FRESH: &str = "fresh-";
static WRITERS: AtomicU64 = AtomicU64::new(0);
/// How many states are remembered, and how many of those that were sent from running VMs.
const STATES_KEPT: usize = 4;
const ROUNDS_KEPT: usize = 1;

/// A folder with a VM's drives.
#[derive(Debug, Clone)]
pub struct DiskFolder {
    path: PathBuf,
}

/// Why a state is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// The drives had it while nobody wrote to them: others may have it too, for long.
    State,
    /// It was sent while the VM ran, and is over with the next round.
    Round,
}

impl Remembered {
    fn prefix(self) -> &'static str {
        match self {
            Self::State => "state-",
            Self::Round => "round-",
        }
    }

    pub(super) fn file_name(self, root: Digest) -> String {
        format!("{}{root}", self.prefix())
    }

    fn kept(self) -> usize {
        match self {
            Self::State => STATES_KEPT,
            Self::Round => ROUNDS_KEPT,
        }
    }
}

impl DiskFolder {
    /// Returns the folder at a path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the state that the drives are in, if that is known for sure and remembered block by block.
    pub fn content(&self) -> Option<State> {
        let text = fs::read_to_string(self.path.join(CONTENT)).ok()?;
        self.state(Digest::from_hex(text.trim())?)
    }

    /// Notes what is on the drives. They must be durable, and nobody may write to them before [`DiskFolder::void`].
    pub fn set_content(&self, root: Digest) -> io::Result<()> {
        let fresh = self.path.join(format!("{CONTENT}.new"));
        fs::write(&fresh, format!("{root}\n"))?;
        File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, self.path.join(CONTENT))?;
        self.sync()
    }

    /// Forgets what is on the drives, before anything is written to them.
    pub fn void(&self) -> io::Result<()> {
        self.remove(CONTENT)
    }

    /// Whether the drives are a copy that is not complete.
    pub fn is_arriving(&self) -> bool {
        self.path.join(ARRIVING).exists()
    }

    /// Notes that the drives are a copy which is not complete, before it is written to.
    pub fn begin_arriving(&self) -> io::Result<()> {
        if !self.is_arriving() {
            File::create(self.path.join(ARRIVING))?.sync_all()?;
            self.sync()?;
        }
        self.void()
    }

    /// Notes that the copy is complete: it was read back.
    pub fn end_arriving(&self) -> io::Result<()> {
        self.remove(ARRIVING)
    }

    /// Returns a state that is remembered.
    pub fn state(&self, root: Digest) -> Option<State> {
        let kinds = [Remembered::State, Remembered::Round];
        kinds.into_iter().find_map(|kind| State::open(&self.path.join(kind.file_name(root)), root))
    }

    /// Begins to write down a state.
    pub fn new_state(&self, drives: Vec<DriveShape>) -> io::Result<StateWriter> {
        // Of an earlier run of the agent; one that stays only takes room.
        let own = format!("{FRESH}{}-", std::process::id());
        for entry in fs::read_dir(&self.path)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(FRESH) && !name.starts_with(&own) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let number = WRITERS.fetch_add(1, Ordering::Relaxed);
        StateWriter::create(self.path.join(format!("{own}{number}")), drives)
    }

    /// Remembers a state that is written down, and forgets the oldest of its kind.
    pub fn remember(&self, state: StateWriter, kind: Remembered) -> io::Result<Digest> {
        let root = state.finish(kind)?;
        let mut known: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.path)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(kind.prefix()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .filter(|(_, path)| !path.ends_with(kind.file_name(root)))
            .collect();
        known.sort();
        let over = (known.len() + 1).saturating_sub(kind.kept());
        for (_, path) in known.into_iter().take(over) {
            // One that stays only takes room.
            let _ = fs::remove_file(path);
        }
        Ok(root)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}
