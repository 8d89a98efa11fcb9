//! Writes that wait for the disk: gathered by where they go, so that all that waits becomes durable together.

use std::collections::BTreeMap;
use std::io;

use mln_protocol::node::{Write, WriteId};
use mln_protocol::wire::{Change, encode_write};

use super::journals::{Journals, Place};

/// How many slots may wait that are for the index alone; past that, others tell them again.
const INDEX_SLOTS_MAX: usize = 16_384;

/// What is to be made durable. Of two changes of one slot only the later one waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: BTreeMap<Place, BTreeMap<Vec<u8>, Change>>,
    last: Option<WriteId>,
}

impl Pending {
    /// Adds a group.
    pub(super) fn add(&mut self, journals: &mut Journals, id: WriteId, writes: &[Write]) {
        for write in writes {
            let change = encode_write(write);
            let place = journals.place(write, &change.slot);
            let slots = self.changes.entry(place).or_default();
            if place != Place::Index || slots.len() < INDEX_SLOTS_MAX || slots.contains_key(&change.slot) {
                slots.insert(change.slot.clone(), change);
            }
        }
        self.last = Some(id);
    }

    /// Returns the last group; none where nothing waits.
    pub(super) fn last(&self) -> Option<WriteId> {
        self.last
    }

    /// Makes all of it durable. Where that fails, some of it may be, and all of it may be tried again.
    pub(super) fn commit(&self, journals: &mut Journals) -> io::Result<()> {
        // A part of a project comes before what names it, and goes after it. What the host notes of a reservation goes once
        // the project's own journal is there.
        let order = |place: &Place, slots: &BTreeMap<Vec<u8>, Change>| match place {
            Place::Contents(_) if slots.values().any(|change| change.value.is_some()) => 0,
            Place::Project(_) | Place::Index => 1,
            Place::Host => 2,
            Place::Contents(_) => 3,
        };
        let mut places: Vec<_> = self.changes.iter().collect();
        places.sort_by_key(|(place, slots)| order(place, slots));
        places.into_iter().try_for_each(|(place, slots)| {
            let changes: Vec<Change> = slots.values().cloned().collect();
            journals.write(*place, &changes)
        })
    }

    /// Returns what the index has of it.
    pub(super) fn indexed(&self) -> impl Iterator<Item = &Change> {
        let of_index = self.changes.iter().filter(|(place, _)| !matches!(place, Place::Contents(_)));
        of_index.flat_map(|(_, slots)| slots.values())
    }
}
