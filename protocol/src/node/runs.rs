//! Records in the order of their slots, in runs of bounded length, each with the sum of its digests.
//!
//! A member of a mesh of ten thousand holds two records of each. So an entry is 16 bytes beside the record itself, which
//! is shared: the slot is not kept a second time but follows from the record, and its first bits stand in the entry, so
//! that looking something up touches few records. Sums of long ranges are put together from those of whole runs.

use std::cmp::Ordering;

use crate::id::Digest;
use crate::record::{Record, RecordKey, VerifiedRecord};

/// How many entries a run has at most.
const RUN_MAX: usize = 256;

/// Records in the order of their slots; no two have the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    /// None of them is empty.
    runs: Vec<Run>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Run {
    entries: Vec<Entry>,
    sum: [u8; 32],
}

#[derive(Clone, Debug)]
struct Entry {
    /// See [`prefix`].
    prefix: u64,
    record: VerifiedRecord,
}

/// Where an entry is: good until the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    run: usize,
    entry: usize,
}

impl Runs {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns where a slot is, or where it would be.
    pub(super) fn find(&self, key: &RecordKey) -> Result<Place, Place> {
        let prefix = prefix(key);
        let order = |entry: &Entry| entry.prefix.cmp(&prefix).then_with(|| compare(&entry.record, key));
        let ends_before = |run: &Run| run.entries.last().is_some_and(|last| order(last) == Ordering::Less);
        let run = self.runs.partition_point(ends_before);
        let found = self.runs.get(run).map_or(Err(0), |found| found.entries.binary_search_by(order));
        found.map(|entry| Place { run, entry }).map_err(|entry| Place { run, entry })
    }

    /// Returns what is in a place that [`Self::find`] has found.
    pub(super) fn at(&self, place: Place) -> &VerifiedRecord {
        &self.runs[place.run].entries[place.entry].record
    }

    /// Puts another record of the same slot in a place that [`Self::find`] has found.
    pub(super) fn replace(&mut self, place: Place, record: VerifiedRecord) {
        let run = &mut self.runs[place.run];
        let held = &mut run.entries[place.entry].record;
        xor(&mut run.sum, held.digest());
        xor(&mut run.sum, record.digest());
        *held = record;
    }

    /// Puts a record where [`Self::find`] has not found its slot.
    pub(super) fn insert(&mut self, mut place: Place, key: &RecordKey, record: VerifiedRecord) {
        if place.run == self.runs.len() {
            // Behind all others: what comes in order fills one run after the other.
            match self.runs.last() {
                Some(last) if last.entries.len() < RUN_MAX => {
                    place = Place { run: place.run - 1, entry: last.entries.len() };
                }
                Some(_) | None => self.runs.push(Run { entries: Vec::new(), sum: [0; 32] }),
            }
        } else if self.runs[place.run].entries.len() >= RUN_MAX {
            let run = &mut self.runs[place.run];
            let mut half = Vec::with_capacity(RUN_MAX);
            half.extend(run.entries.drain(RUN_MAX / 2..));
            let (half, rest) = (Run::of(half), Run::of(std::mem::take(&mut run.entries)));
            *run = rest;
            self.runs.insert(place.run + 1, half);
            if place.entry > RUN_MAX / 2 {
                place = Place { run: place.run + 1, entry: place.entry - RUN_MAX / 2 };
            }
        }
        let run = &mut self.runs[place.run];
        xor(&mut run.sum, record.digest());
        run.entries.insert(place.entry, Entry { prefix: prefix(key), record });
        self.len += 1;
    }

    /// Returns how many entries are before a place.
    pub(super) fn position(&self, place: Place) -> usize {
        self.runs[..place.run].iter().map(|run| run.entries.len()).sum::<usize>() + place.entry
    }

    /// Returns the records from a position on.
    pub(super) fn iter_from(&self, position: usize) -> impl Iterator<Item = &VerifiedRecord> {
        let Place { run, entry } = self.place(position);
        let runs = self.runs.get(run..).unwrap_or_default();
        runs.iter().flat_map(|run| &run.entries).skip(entry).map(|entry| &entry.record)
    }

    /// Returns the exclusive or of all digests.
    pub(super) fn fingerprint(&self) -> Digest {
        self.sum_between(0, self.len)
    }

    /// Returns the exclusive or of the digests between two positions, the last one not included.
    pub(super) fn sum_between(&self, from: usize, until: usize) -> Digest {
        let mut sum = [0; 32];
        let (mut place, mut left) = (self.place(from), until.saturating_sub(from));
        while left > 0
            && let Some(run) = self.runs.get(place.run)
        {
            let count = (run.entries.len() - place.entry).min(left);
            if count == run.entries.len() {
                xor(&mut sum, Digest(run.sum));
            } else {
                for entry in &run.entries[place.entry..place.entry + count] {
                    xor(&mut sum, entry.record.digest());
                }
            }
            left -= count;
            place = Place { run: place.run + 1, entry: 0 };
        }
        Digest(sum)
    }

    fn place(&self, position: usize) -> Place {
        let mut entry = position;
        for (run, found) in self.runs.iter().enumerate() {
            if entry < found.entries.len() {
                return Place { run, entry };
            }
            entry -= found.entries.len();
        }
        Place { run: self.runs.len(), entry: 0 }
    }
}

impl Run {
    fn of(entries: Vec<Entry>) -> Self {
        let mut sum = [0; 32];
        for entry in &entries {
            xor(&mut sum, entry.record.digest());
        }
        Self { entries, sum }
    }
}

/// Adds a digest to a sum, or takes it away again.
fn xor(sum: &mut [u8; 32], digest: Digest) {
    for (byte, other) in sum.iter_mut().zip(digest.0) {
        *byte ^= other;
    }
}

/// Returns the beginning of a slot as a number: slots are in its order, and only of equal ones more must be seen.
fn prefix(key: &RecordKey) -> u64 {
    let (kind, bytes): (u64, &[u8; 32]) = match key {
        RecordKey::Member(key) => (0, &key.0),
        RecordKey::Host(key) => (1, &key.0),
        RecordKey::Commit(digest) => (2, &digest.0),
        RecordKey::Vm(vm, _) => (3, &vm.birth.0),
        RecordKey::Link(vm, ..) => (4, &vm.birth.0),
        RecordKey::Grant(grant) => (5, &grant.0),
        RecordKey::Revocation(grant) => (6, &grant.0),
        RecordKey::Later(author, ..) => (7, &author.0),
    };
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    kind << 61 | u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 3
}

/// Compares the slot of a record with one of the same kind, without making it.
fn compare(record: &VerifiedRecord, key: &RecordKey) -> Ordering {
    let author = record.author();
    match (&***record, key) {
        (Record::Member(_), RecordKey::Member(key)) | (Record::Host(_), RecordKey::Host(key)) => {
            author.cmp(key)
        }
        (Record::Commit(commit), RecordKey::Commit(digest)) => commit.digest.cmp(digest),
        (Record::Vm(status), RecordKey::Vm(vm, by)) => (&status.vm, author).cmp(&(vm, *by)),
        (Record::Link(link), RecordKey::Link(vm, epoch, kind, by)) => {
            (link.vm(), link.epoch(), link.kind(), author).cmp(&(vm, *epoch, *kind, *by))
        }
        (Record::Later(later), RecordKey::Later(by, kind, slot)) => {
            (author, later.kind, &later.slot).cmp(&(*by, *kind, slot))
        }
        (Record::Gauges(_), RecordKey::Later(by, kind, slot)) => {
            (author, crate::wire::GAUGES_KIND, &crate::wire::GAUGES_SLOT).cmp(&(*by, *kind, slot))
        }
        // Of two kinds: their prefixes differ, and this is not asked.
        _ => record.key(author).cmp(key),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::id::{Name, PublicKey, VmId};
    use crate::model::{BootOrder, MemoryMib};
    use crate::record::{Epoch, RunState, Startup, VmState, VmStatus};
    use crate::{sample, wire};

    fn host(author: u8, counter: u64) -> VerifiedRecord {
        wire::sign_record(&sample::keys(author), Record::Host(sample::host_status(counter)))
    }

    fn vm(author: u8, birth: u8, name: usize) -> VerifiedRecord {
        let status = VmStatus {
            counter: 1,
            vm: VmId {
                birth: Digest([birth; 32]),
                name: Name::parse(&format!("vm{name}")).expect("letters and digits are a name"),
            },
            epoch: Epoch { term: 1, n: 1 },
            project: crate::id::ProjectId(Digest([birth; 32])),
            run: RunState::Down,
            run_counter: 0,
            run_by: PublicKey([0; 32]),
            state: VmState::Down,
            exit: None,
            memory: MemoryMib(1),
            boot_order: BootOrder(1),
            address: None,
            since_unix_ms: 0,
            kept_ms: 0,
            host: Name::parse("here").expect("letters are a name"),
            nat: None,
            forwards: Vec::new(),
            part: None,
            startup: Startup::Fine,
        };
        wire::sign_record(&sample::keys(author), Record::Vm(status))
    }

    fn put(runs: &mut Runs, record: &VerifiedRecord) {
        let key = record.key(record.author());
        match runs.find(&key) {
            Ok(place) => runs.replace(place, Arc::clone(record)),
            Err(place) => runs.insert(place, &key, Arc::clone(record)),
        }
    }

    /// Whatever the order in which records come, all is as in a map by slot.
    #[test]
    fn they_are_in_the_order_of_their_slots_and_their_sums_are_right() {
        let mut records: Vec<VerifiedRecord> = (0..200).map(|author| host(author, 1)).collect();
        records.extend((0..600).map(|name| vm((name % 3) as u8, (name % 5) as u8, name)));
        records.extend((0..100).map(|author| host(author, 2)));
        let (mut runs, mut map) = (Runs::default(), BTreeMap::new());
        for step in 0..records.len() {
            // 7 and 900 have no common factor: each comes once, and not in order.
            let record = &records[step * 7 % records.len()];
            put(&mut runs, record);
            map.insert(record.key(record.author()), Arc::clone(record));
        }
        assert_eq!(runs.len(), map.len());
        assert!(runs.iter_from(0).eq(map.values()));
        let values: Vec<&VerifiedRecord> = map.values().collect();
        for (from, until) in
            [(0, 0), (0, 1), (0, 800), (3, 799), (100, 101), (255, 257), (256, 512), (500, 5)]
        {
            let mut sum = [0; 32];
            for record in values.get(from..until).unwrap_or_default() {
                xor(&mut sum, record.digest());
            }
            assert_eq!(runs.sum_between(from, until), Digest(sum), "{from}..{until}");
            assert!(runs.iter_from(from).eq(values[from..].iter().copied()), "{from}..");
        }
        for (position, record) in values.iter().enumerate() {
            let place = runs.find(&record.key(record.author())).expect("it is there");
            assert_eq!(runs.position(place), position);
        }
        assert!(runs.runs.iter().all(|run| (1..=RUN_MAX).contains(&run.entries.len())));
    }

    #[test]
    fn what_comes_in_order_fills_whole_runs() {
        let mut records: Vec<VerifiedRecord> = (0..600).map(|name| vm(1, 1, name)).collect();
        records.sort_by_key(|record| record.key(record.author()));
        let mut runs = Runs::default();
        for record in &records {
            put(&mut runs, record);
        }
        assert_eq!(runs.runs.iter().map(|run| run.entries.len()).collect::<Vec<_>>(), [256, 256, 88]);
    }
}
