//! What the node has to remember.
//!
//! What this host has signed is in journals, which are the truth; sled is an index over them and over all that others
//! have said. One thread owns both, so that the event loop never waits for a disk; it gathers the writes that have
//! come in meanwhile and makes them durable together. It knows slots and bytes, not what they mean: a record is
//! stored as it was signed, and verified again when it is loaded.
//!
//! ```text
//!  Persist ─► Writer ─► Journals: written, synced ─► Persisted
//!                  └──► Index: applied; flushed when there is nothing else to do
//! ```

mod book;
pub(crate) mod failpoint;
mod frame;
mod index;
mod journal;
mod journals;
mod medium;
mod pending;
#[cfg(test)]
mod power;
mod room;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mln_protocol::id::{ProjectId, PublicKey};
use mln_protocol::node::{StoredState, Write};
use mln_protocol::wire::{Change, decode_write};
use tracing::{error, info, warn};

pub(crate) use book::AddressBook;
pub(crate) use index::broken as broken_indexes;
pub(crate) use journals::{JournalsError, PROJECTS_FOLDER, Stopped};
pub(crate) use room::FULL_BYTES;
pub(crate) use writer::{StoreNews, Writer};

use crate::causes::chain;
use index::{Index, IndexError};
use journals::{Found, Journals};
use medium::{Disk, Medium};

/// The node's memory.
#[derive(Debug)]
pub(crate) struct Store {
    data: PathBuf,
    journals: Journals,
    index: Option<Index>,
}

/// A store that was opened, and what was in it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// What the node knew.
    pub(crate) state: StoredState,
    /// What was wrong, and was put right or has to be.
    pub(crate) findings: Findings,
}

/// What is wrong with a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The index that was set aside at the start, and why.
    pub(crate) set_aside: Option<String>,
    /// The projects whose journals can't be used.
    pub(crate) stopped: BTreeMap<ProjectId, Stopped>,
}

impl Store {
    /// Opens the store of a data folder, made if there is none, and loads everything, verifying it again; what doesn't
    /// hold is left out and reported.
    pub(crate) fn open(data: &Path, me: PublicKey, root: PublicKey) -> Result<Opened, JournalsError> {
        Self::open_on(Box::new(Disk), data, me, root)
    }

    fn open_on(
        medium: Box<dyn Medium>,
        data: &Path,
        me: PublicKey,
        root: PublicKey,
    ) -> Result<Opened, JournalsError> {
        let (mut journals, Found { values, without_right }) = Journals::open(medium, data, me)?;
        let mut state = StoredState::default();
        let mut read = Vec::new();
        for (project, value) in values {
            match (decode_write(&value, root), project) {
                (Ok(write), _) => read.push((project, write)),
                (Err(error), Some(project)) => journals.stop(project, chain(&error)),
                (Err(error), None) => {
                    warn!(error = chain(&error), "something that was stored is left out");
                }
            }
        }
        for (project, write) in read {
            journals.learn(&write);
            if project.is_some_and(|project| journals.stopped().contains_key(&project)) {
                state.take_without_right(write);
            } else {
                state.take(write);
            }
        }
        for value in without_right {
            if let Some(write) = understood(&value, root) {
                state.take_without_right(write);
            }
        }
        let mut findings = Findings { set_aside: None, stopped: journals.stopped().clone() };
        let (index, values) = match Index::open(data) {
            Ok(opened) => (Some(opened.index), opened.values),
            Err(error) => (reopen(data, &error, &mut findings), Vec::new()),
        };
        for (_, value) in &values {
            let Some(write) = understood(value, root) else { continue };
            journals.learn(&write);
            // What a journal doesn't say any more was taken back.
            if !journals.tells(&write) {
                state.take_without_right(write);
            }
        }
        let mut store = Self { data: data.to_owned(), journals, index };
        store.catch_up(&values, &mut findings);
        Ok(Opened { store, state, findings })
    }

    /// Brings the index up to what the journals say; one that can't be written is made anew, once.
    fn catch_up(&mut self, values: &[(Vec<u8>, Vec<u8>)], findings: &mut Findings) {
        if let Err(error) = self.fill(values) {
            self.index = None;
            self.index = reopen(&self.data, &error, findings);
            if let Err(error) = self.fill(&[]) {
                warn!(%error, "there is no index");
                self.index = None;
            }
        }
    }

    fn fill(&self, values: &[(Vec<u8>, Vec<u8>)]) -> Result<(), IndexError> {
        let Some(index) = &self.index else { return Ok(()) };
        let known: BTreeMap<&[u8], &[u8]> =
            values.iter().map(|(slot, value)| (&slot[..], &value[..])).collect();
        let missing: Vec<Change> = self
            .journals
            .slots()
            .filter(|(slot, value)| known.get(&slot[..]) != Some(&&value[..]))
            .map(|(slot, value)| Change { slot: slot.clone(), value: Some(value.clone()) })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        index.apply(missing.iter())?;
        index.flush()
    }
}

/// Sets a broken index aside and opens an empty one; none where that doesn't work either: then there is none until the
/// next start, or until there is room.
fn reopen(data: &Path, why: &IndexError, findings: &mut Findings) -> Option<Index> {
    if why.is_full() {
        warn!(error = %why, "the index is behind until there is room");
        return None;
    }
    let aside = match Index::set_aside(data) {
        Ok(aside) => aside,
        Err(error) => {
            error!(%error, index = %why, "the index is broken and can't be set aside");
            return None;
        }
    };
    let text = format!("{why}; it is kept as {}", aside.display());
    warn!(why = text, "the index was broken: it is made anew from the journals, and from other hosts");
    findings.set_aside = Some(text);
    match Index::open(data) {
        Ok(opened) => {
            info!("there is a new index");
            Some(opened.index)
        }
        Err(error) => {
            warn!(%error, "there is no index");
            None
        }
    }
}

fn understood(value: &[u8], root: PublicKey) -> Option<Write> {
    match decode_write(value, root) {
        Ok(write) => Some(write),
        Err(error) => {
            warn!(error = chain(&error), "something that was stored is left out");
            None
        }
    }
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
