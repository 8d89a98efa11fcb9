//! What the node has to remember, in sled; and the thread that makes it durable.
//!
//! Knows keys and bytes, not what they mean: a record is stored as it was signed, and verified again when it is
//! loaded. One thread owns the database, so that the event loop never waits for a disk; it gathers the writes
//! that have come in meanwhile and flushes them together.

mod book;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::node::{DecisionNote, Input, StoredState, Write, WriteId};
use mln_protocol::record::Ballot;
use mln_protocol::trust::Signed;
use mln_protocol::wire;
use tokio::sync::mpsc;
use tracing::warn;

pub(crate) use book::AddressBook;

use crate::event_loop::Work;

/// The database's folder in the data folder.
const STATE_FOLDER: &str = "state";

/// The version of what is stored; another one is not opened.
const VERSION: &[u8] = b"1";

/// How much of the database is kept in memory, in bytes.
const CACHE_BYTES: u64 = 4 << 20;

/// How many groups of writes may wait for the disk.
const WRITES_MAX: usize = 4096;

/// The node's memory.
#[derive(Debug)]
pub(crate) struct Store {
    database: sled::Db,
    records: sled::Tree,
    fragments: sled::Tree,
    /// What this host has signed about VMs.
    holdings: sled::Tree,
    /// What this host has said about revisions whose child is not decided.
    decisions: sled::Tree,
}

/// Why the store can't be used. What is on the disk is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database can't be opened, read or written: a full or failing disk, or another agent.
    #[error("the state in {}", folder.display())]
    Database {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: sled::Error,
    },
    /// It was written by another version of this program.
    #[error("the state in {} was written by another version of mlnd ({found})", folder.display())]
    Version {
        /// Where.
        folder: PathBuf,
        /// Which.
        found: String,
    },
}

impl Store {
    /// Opens the store of a data folder, and makes it if there is none.
    pub(crate) fn open(data: &Path) -> Result<Self, StoreError> {
        let folder = data.join(STATE_FOLDER);
        let error = |source| StoreError::Database { folder: folder.clone(), source };
        let database = sled::Config::new()
            .path(&folder)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(error)?;
        match database.get("version").map_err(error)? {
            Some(found) if found != VERSION => {
                let found = String::from_utf8_lossy(&found).into_owned();
                return Err(StoreError::Version { folder, found });
            }
            Some(_) => {}
            None => {
                database.insert("version", VERSION).map_err(error)?;
            }
        }
        let records = database.open_tree("records").map_err(error)?;
        let fragments = database.open_tree("fragments").map_err(error)?;
        let holdings = database.open_tree("holdings").map_err(error)?;
        let decisions = database.open_tree("decisions").map_err(error)?;
        Ok(Self { database, records, fragments, holdings, decisions })
    }

    /// Loads everything, verifying it again; what doesn't hold is left out and reported.
    ///
    /// Fails where the database itself can't be read: to go on without what is in it would be to forget it.
    pub(crate) fn load(&self, data: &Path, root: PublicKey) -> Result<StoredState, StoreError> {
        let error = |source| StoreError::Database { folder: data.join(STATE_FOLDER), source };
        let mut state = StoredState::default();
        for value in self.records.iter().values() {
            let value = value.map_err(error)?;
            let record = Signed::from_bytes(&value).ok().map(|signed| wire::verify_record(signed, root));
            match record {
                Some(Ok(record)) => state.records.push(record),
                Some(Err(error)) => warn!(%error, "a stored record is left out"),
                None => warn!("a stored record is damaged and left out"),
            }
        }
        for entry in self.fragments.iter() {
            let (key, value) = entry.map_err(error)?;
            let fragment = wire::decode_fragment(&value);
            match (<[u8; 32]>::try_from(key.as_ref()), fragment) {
                (Ok(digest), Ok(fragment)) => state.fragments.push((Digest(digest), Arc::new(fragment))),
                _ => warn!("a stored part of a project is damaged and left out"),
            }
        }
        for value in self.holdings.iter().values() {
            let value = value.map_err(error)?;
            match wire::decode_holding(&value, root) {
                Ok(holding) => state.holdings.push(holding),
                // Without it the VM is not run by itself: somebody has to say so.
                Err(error) => warn!(%error, "a note of ownership is left out"),
            }
        }
        for entry in self.decisions.iter() {
            let (key, value) = entry.map_err(error)?;
            let Ok(parent) = <[u8; 32]>::try_from(key.as_ref()) else {
                warn!("a note about a decision has a damaged name and is left out");
                continue;
            };
            state.decisions.push(wire::decode_decision_note(&value).unwrap_or_else(|error| {
                warn!(%error, "a note about a decision can't be read: this host has no vote in it any more");
                mute(Digest(parent))
            }));
        }
        Ok(state)
    }

    fn apply(&self, writes: &[Write]) -> Result<(), sled::Error> {
        let mut records = sled::Batch::default();
        let mut fragments = sled::Batch::default();
        let mut holdings = sled::Batch::default();
        let mut dropped = sled::Batch::default();
        let mut decisions = sled::Batch::default();
        for write in writes {
            match write {
                Write::Record(key, record) => {
                    records.insert(wire::encode_record_key(key), record.signed().to_bytes());
                }
                Write::Fragment(digest, fragment) => {
                    fragments.insert(&digest.0, wire::encode_fragment(fragment));
                }
                Write::DropFragment(digest) => fragments.remove(&digest.0),
                Write::Holding(vm, holding) => {
                    holdings.insert(wire::encode_vm_id(vm), wire::encode_holding(vm, holding));
                }
                Write::DropHolding(vm) => dropped.remove(wire::encode_vm_id(vm)),
                Write::Decision(note) => {
                    decisions.insert(&note.parent.0, wire::encode_decision_note(note));
                }
                Write::DropDecision(parent) => decisions.remove(&parent.0),
            }
        }
        // What was signed comes first: where the rest is torn off, peers still have what follows from it.
        self.holdings.apply_batch(holdings)?;
        self.fragments.apply_batch(fragments)?;
        self.records.apply_batch(records)?;
        // Last: a note goes only once the record that makes it needless is there.
        self.holdings.apply_batch(dropped)?;
        self.decisions.apply_batch(decisions)
    }
}

/// The note of a host that no longer knows what it has said: as if it had answered the highest ballot there is. So it
/// promises nothing for this parent that could contradict what it has promised before.
fn mute(parent: Digest) -> DecisionNote {
    let last = Ballot { number: u64::MAX, coordinator: PublicKey([u8::MAX; 32]) };
    DecisionNote {
        parent,
        answered: Some(last),
        promised: None,
        coordinated: u64::MAX - 1,
        reserved: Vec::new(),
    }
}

/// Hands writes to the thread that owns the store.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: SyncSender<(WriteId, Vec<Write>)>,
}

/// The store can't be written any more: nothing that the node says may leave this host.
#[derive(Debug, thiserror::Error)]
#[error("the state can't be written")]
pub(crate) struct WriteError(#[source] pub sled::Error);

impl Writer {
    /// Starts the thread. It says [`Input::Persisted`] for the last group of each flush, or ends with an error.
    pub(crate) fn start(store: Store, done: mpsc::Sender<Work>) -> std::io::Result<Self> {
        let (queue, writes) = sync_channel(WRITES_MAX);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_all(&store, &writes, &done))?;
        Ok(Self { queue })
    }

    /// Queues a group of writes; it becomes durable as a whole. Waits only where [`WRITES_MAX`] wait already.
    pub(crate) fn write(&self, id: WriteId, writes: Vec<Write>) {
        // The thread ends only after it has reported why; then the event loop ends too.
        let _ = self.queue.send((id, writes));
    }
}

fn write_all(store: &Store, writes: &Receiver<(WriteId, Vec<Write>)>, done: &mpsc::Sender<Work>) {
    while let Ok(first) = writes.recv() {
        let groups: Vec<_> = std::iter::once(first).chain(writes.try_iter().take(WRITES_MAX)).collect();
        let applied = groups.iter().try_for_each(|(_, group)| store.apply(group));
        let flushed = applied.and_then(|()| store.database.flush());
        // One word for all: they become durable in their order, and the node takes it so.
        let last = groups.last().map(|(id, _)| *id).expect("the first group is one");
        let work = match flushed {
            Ok(_) => Work::Input(Box::new(Input::Persisted(last))),
            Err(error) => Work::StoreFailed(WriteError(error)),
        };
        let failed = matches!(work, Work::StoreFailed(_));
        if done.blocking_send(work).is_err() || failed {
            return;
        }
    }
}
