//! One append-only journal: what this host has signed and must not forget, in the order in which it did.
//!
//! ```text
//!  create: journal.new, whole and synced ─► renamed ─► folder synced
//!  append: an entry ─► synced ─► only now may anything follow from it
//!  compact, when most of it is out of date: as create, with what counts
//! ```
//!
//! Some room on the disk is always taken ahead, so that a host whose disk is full can still say that it stops,
//! releases or declines.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mln_protocol::wire::{
    Change, DecodeError, JournalHeader, decode_changes, decode_journal_header, encode_changes,
    encode_journal_header,
};

use super::failpoint::reach;
use super::frame::{self, PAYLOAD_BYTES_MAX, Rest};
use super::medium::Medium;

/// The journal's name in its folder.
pub(super) const FILE: &str = "journal";
/// One that is being written.
const FILE_NEW: &str = "journal.new";

/// How much room is taken ahead, in bytes.
const AHEAD_BYTES: u64 = 32 << 10;
/// When less than this is left of it, more is taken.
const AHEAD_BYTES_MIN: u64 = 16 << 10;
/// A journal that is shorter is not worth being compacted, in bytes.
const COMPACT_BYTES_MIN: u64 = 256 << 10;
/// How many times longer than what counts in it a journal may be.
const COMPACT_RATIO: u64 = 4;
/// How much of a payload may be changes; the rest is for their frame.
const CHANGES_BYTES_MAX: usize = PAYLOAD_BYTES_MAX / 2;

/// A journal, open for more.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    header: JournalHeader,
    live: BTreeMap<Vec<u8>, Vec<u8>>,
    live_bytes: u64,
    end: u64,
    entries: u64,
    ahead: u64,
    /// Below this length it isn't compacted.
    compact_from: u64,
    trust: Trust,
}

/// Whether the file is known to be as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It is.
    Sound,
    /// The disk has failed to sync it: what it has of it is not known, so it is written anew.
    Unsure,
}

/// Why a journal can't be used. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// It can't be read.
    #[error("it can't be read")]
    Read(#[from] io::Error),
    /// An entry that was durable can't be read any more, though later ones can.
    #[error("it is damaged at byte {at}")]
    Damaged {
        /// Where.
        at: u64,
    },
    /// It is another host's, or another project's.
    #[error("it was written by the host with the key {host}, or for another project")]
    Foreign {
        /// The host that it says.
        host: String,
    },
    /// It is of a newer program, or not a journal's contents.
    #[error("its contents are not understood")]
    Contents(#[from] DecodeError),
}

/// A journal that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) journal: Journal,
    /// How many bytes at its end were never durable, and were cut off.
    pub(super) torn_bytes: u64,
}

/// A journal that can't be opened.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) error: JournalError,
    /// What stands in it before the place that can't be read: it takes rights away, and gives none.
    pub(super) before: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Journal {
    /// Makes a journal in a folder that is there.
    pub(super) fn create(medium: &dyn Medium, folder: &Path, header: JournalHeader) -> io::Result<Self> {
        let mut journal = Self {
            folder: folder.to_owned(),
            header,
            live: BTreeMap::new(),
            live_bytes: 0,
            end: 0,
            entries: 0,
            ahead: 0,
            compact_from: COMPACT_BYTES_MIN,
            trust: Trust::Sound,
        };
        journal.write_anew(medium, &[])?;
        Ok(journal)
    }

    /// Opens the journal of a folder; none where there is none.
    pub(super) fn open(
        medium: &dyn Medium,
        folder: &Path,
        header: &JournalHeader,
    ) -> Result<Option<Opened>, Broken> {
        let broken = |error| Broken { error, before: BTreeMap::new() };
        let path = folder.join(FILE);
        let read = medium.read(&path).map_err(|error| broken(error.into()))?;
        let Some(bytes) = read else { return Ok(None) };
        let scan = frame::scan(&bytes);
        let mut payloads = scan.payloads.iter();
        // It got its name after its first entry was durable.
        let Some(first) = payloads.next() else { return Err(broken(JournalError::Damaged { at: 0 })) };
        let found = decode_journal_header(first).map_err(|error| broken(error.into()))?;
        if found != *header {
            let host = mln_protocol::id::PublicKey(found.host).short();
            return Err(broken(JournalError::Foreign { host }));
        }
        let mut live = BTreeMap::new();
        for payload in payloads {
            match decode_changes(payload, PAYLOAD_BYTES_MAX) {
                Ok(changes) => changes.into_iter().for_each(|change| put(&mut live, change)),
                Err(error) => return Err(Broken { error: error.into(), before: live }),
            }
        }
        let torn_bytes = match scan.rest {
            Rest::Nothing => 0,
            Rest::Torn => bytes.len() as u64 - scan.end,
            Rest::Damaged => {
                return Err(Broken { error: JournalError::Damaged { at: scan.end }, before: live });
            }
        };
        if torn_bytes > 0 {
            let cut = medium.cut(&path, scan.end).and_then(|()| medium.sync(&path));
            cut.map_err(|error| broken(error.into()))?;
        }
        let live_bytes = live.iter().map(|(slot, value)| (slot.len() + value.len()) as u64).sum();
        let journal = Self {
            folder: folder.to_owned(),
            header: found,
            live,
            live_bytes,
            end: scan.end,
            entries: scan.payloads.len() as u64,
            ahead: scan.end,
            compact_from: COMPACT_BYTES_MIN,
            trust: Trust::Sound,
        };
        Ok(Some(Opened { journal, torn_bytes }))
    }

    /// Returns what counts in it, by slot.
    pub(super) fn live(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.live
    }

    /// Makes changes durable, all or none; where it fails, none of them counts and it may be tried again.
    pub(super) fn append(&mut self, medium: &dyn Medium, changes: &[Change]) -> io::Result<()> {
        let is_new = |change: &&Change| self.live.get(&change.slot) != change.value.as_ref();
        let changes: Vec<Change> = changes.iter().filter(is_new).cloned().collect();
        if changes.is_empty() && self.trust == Trust::Sound {
            return Ok(());
        }
        let overdue = self.end > self.compact_from && self.end > COMPACT_RATIO * self.live_bytes;
        if self.trust == Trust::Unsure {
            return self.write_anew(medium, &changes);
        }
        if overdue {
            match self.write_anew(medium, &changes) {
                Ok(()) => return Ok(()),
                // There may be no room for a second one; there is behind the first.
                Err(_) => self.compact_from = self.end + COMPACT_BYTES_MIN,
            }
        }
        self.append_entries(medium, &changes)?;
        for change in changes {
            self.take(change);
        }
        Ok(())
    }

    fn append_entries(&mut self, medium: &dyn Medium, changes: &[Change]) -> io::Result<()> {
        let path = self.folder.join(FILE);
        for entry in entries_of(self.entries, changes) {
            self.append_entry(medium, &path, &entry)?;
        }
        Ok(())
    }

    fn append_entry(&mut self, medium: &dyn Medium, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.take_room(medium, path, bytes.len() as u64);
        #[cfg(feature = "failpoints")]
        medium.write_at(path, self.end, &bytes[..bytes.len() / 2])?;
        reach("entry-torn");
        if let Err(error) = medium.write_at(path, self.end, bytes) {
            // What is there of it is a torn entry in any case; the next one takes its place.
            let _ = medium.cut(path, self.end);
            self.ahead = self.end;
            return Err(error);
        }
        reach("entry-written");
        if let Err(error) = medium.sync(path) {
            // The system has forgotten what it couldn't write; syncing again would succeed without it.
            self.trust = Trust::Unsure;
            return Err(error);
        }
        reach("entry-durable");
        self.end += bytes.len() as u64;
        self.entries += 1;
        Ok(())
    }

    /// Takes room ahead on the disk. Where that can't be had, an append finds out whether it is needed.
    fn take_room(&mut self, medium: &dyn Medium, path: &Path, bytes: u64) {
        let needed = self.end + bytes + AHEAD_BYTES_MIN;
        if self.ahead < needed {
            let ahead = self.end + bytes + AHEAD_BYTES;
            if medium.reserve(path, self.end, ahead - self.end).is_ok() {
                self.ahead = ahead;
            }
        }
    }

    /// Writes what counts, with further changes, to a new file that takes the old one's place.
    fn write_anew(&mut self, medium: &dyn Medium, changes: &[Change]) -> io::Result<()> {
        let (new, path) = (self.folder.join(FILE_NEW), self.folder.join(FILE));
        let mut live = self.live.clone();
        for change in changes {
            put(&mut live, change.clone());
        }
        let all: Vec<Change> = live
            .iter()
            .map(|(slot, value)| Change { slot: slot.clone(), value: Some(value.clone()) })
            .collect();
        let mut bytes = frame::encode(0, &encode_journal_header(&self.header));
        let entries = entries_of(1, &all);
        bytes.extend(entries.iter().flatten());
        let write = || {
            medium.put(&new, &bytes)?;
            reach("compact-written");
            medium.sync(&new)?;
            reach("compact-durable");
            medium.rename(&new, &path)
        };
        if let Err(error) = write() {
            let _ = medium.remove(&new);
            return Err(error);
        }
        reach("compact-renamed");
        // From here on it is the journal, whether its name is durable or not: going back to the old one would be to
        // write behind the end of a file that may be gone.
        self.live_bytes = live.iter().map(|(slot, value)| (slot.len() + value.len()) as u64).sum();
        self.live = live;
        self.end = bytes.len() as u64;
        self.entries = entries.len() as u64 + 1;
        self.ahead = self.end;
        self.compact_from = COMPACT_BYTES_MIN;
        self.trust = Trust::Unsure;
        medium.sync_folder(&self.folder)?;
        self.trust = Trust::Sound;
        Ok(())
    }

    fn take(&mut self, change: Change) {
        let size = |slot: &[u8], value: &[u8]| (slot.len() + value.len()) as u64;
        if let Some(old) = self.live.get(&change.slot) {
            self.live_bytes -= size(&change.slot, old);
        }
        if let Some(value) = &change.value {
            self.live_bytes += size(&change.slot, value);
        }
        put(&mut self.live, change);
    }
}

fn put(live: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: Change) {
    match change.value {
        Some(value) => live.insert(change.slot, value),
        None => live.remove(&change.slot),
    };
}

/// Encodes changes as one entry; as several where they are too long for one, which happens only to very large
/// projects.
fn entries_of(first: u64, changes: &[Change]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    let mut rest = changes;
    while !rest.is_empty() {
        let mut size = 0;
        let fits = |change: &&Change| {
            size += change.slot.len() + change.value.as_ref().map_or(0, Vec::len) + 24;
            size <= CHANGES_BYTES_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        entries.push(frame::encode(first + entries.len() as u64, &encode_changes(now)));
        rest = later;
    }
    entries
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod tests;
