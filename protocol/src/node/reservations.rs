//! What this host has reserved for, and what it notes of that: a crash gives no room away twice, and takes no word back.
//!
//! ```text
//!   Checking ──► Held, noted before it is said ──► committed: the project gets its journal, the note goes
//!                  │                          └──► withdrawn, or another child is decided: nothing stays
//!                  └── its time is over ──► Lapsed: the room is free; "a late commit still counts"
//! ```
//!
//! The note is in the host's own journal. A project that this host has not given its word to before gets a journal only
//! once it is there: what is refused elsewhere leaves nothing behind. Of what nobody has told the end of, the newest
//! [`limits::LAPSED_MAX`] words are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::Write;
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, Label, Name, ProjectId, PublicKey};
use crate::model::Fragment;
use crate::record::Charge;
use crate::time::Now;
use crate::wire;

/// A host's own note of a revision that it has reserved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationNote {
    /// The revision.
    pub revision: Digest,
    /// Counts the host's notes: which of two is older.
    pub number: u64,
    /// Who has asked, and may withdraw it.
    pub coordinator: PublicKey,
    /// What people call the project.
    pub label: Label,
    /// The project; none where the revision is its first.
    pub project: Option<ProjectId>,
    /// The revision that it would follow.
    pub parent: Option<Digest>,
    /// The memory in MiB that it takes beside what the project has here already.
    pub memory_mib: u32,
    /// The digest of the part for this host; none where it has none any more.
    pub part: Option<Digest>,
    /// The digest of what the project would be submitted as.
    pub definition: Digest,
    /// On whose grants it is made.
    pub charge: Option<Charge>,
    /// Whether there is still room kept for it.
    pub room: ReservedRoom,
}

/// Whether room is kept for what was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedRoom {
    /// It is.
    Held,
    /// No longer; a commit still counts.
    Lapsed,
}

/// The revisions that this host has been asked about and that are not yet decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservations {
    pub(super) by_revision: BTreeMap<Digest, Reserved>,
}

#[derive(Clone, Debug)]
pub(super) struct Reserved {
    pub(super) coordinator: PublicKey,
    pub(super) label: Label,
    pub(super) project: Option<ProjectId>,
    pub(super) parent: Option<Digest>,
    /// The memory that it takes beside what the project has here already.
    pub(super) memory_mib: u32,
    pub(super) fragment: Option<Arc<Fragment>>,
    pub(super) part: Option<Digest>,
    /// The digest of what the project would be submitted as.
    pub(super) definition: Digest,
    pub(super) charge: Option<Charge>,
    pub(super) stage: Stage,
    /// The number of the note, where this host has given its word.
    pub(super) noted: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The platform looks at it.
    Checking,
    /// Answered with yes.
    Held,
    /// So it was, and its time is over.
    Lapsed,
}

impl Reserved {
    fn note(&self, revision: Digest, number: u64) -> ReservationNote {
        ReservationNote {
            revision,
            number,
            coordinator: self.coordinator,
            label: self.label.clone(),
            project: self.project,
            parent: self.parent,
            memory_mib: self.memory_mib,
            part: self.part,
            definition: self.definition,
            charge: self.charge.clone(),
            room: if self.stage == Stage::Lapsed { ReservedRoom::Lapsed } else { ReservedRoom::Held },
        }
    }

    /// Returns the project that it would change, or begin.
    pub(super) fn project(&self, revision: Digest) -> ProjectId {
        self.project.unwrap_or(ProjectId(revision))
    }
}

impl Reservations {
    /// Takes up what was noted before this start: room that was promised stays promised.
    pub(super) fn load(notes: Vec<ReservationNote>, fragments: &BTreeMap<Digest, Arc<Fragment>>) -> Self {
        let reserved = |note: ReservationNote| {
            let held = note.room == ReservedRoom::Held;
            let fragment = note.part.filter(|_| held).and_then(|part| fragments.get(&part).cloned());
            let reserved = Reserved {
                coordinator: note.coordinator,
                label: note.label,
                project: note.project,
                parent: note.parent,
                memory_mib: note.memory_mib,
                fragment,
                part: note.part,
                definition: note.definition,
                charge: note.charge,
                stage: if held { Stage::Held } else { Stage::Lapsed },
                noted: Some(note.number),
            };
            (note.revision, reserved)
        };
        Self { by_revision: notes.into_iter().map(reserved).collect() }
    }

    /// Returns what room is kept for.
    pub(super) fn held(&self) -> impl Iterator<Item = (&Digest, &Reserved)> {
        self.by_revision.iter().filter(|(_, reserved)| reserved.stage != Stage::Lapsed)
    }

    /// Whether room is kept for a revision.
    pub(super) fn is_held(&self, revision: Digest) -> bool {
        self.by_revision.get(&revision).is_some_and(|reserved| reserved.stage != Stage::Lapsed)
    }

    pub(super) fn memory_mib(&self) -> u32 {
        self.held().map(|(_, reserved)| reserved.memory_mib).sum()
    }

    /// Returns the parts that this host keeps room for.
    pub(super) fn fragments(&self) -> impl Iterator<Item = &Arc<Fragment>> {
        self.held().filter_map(|(_, reserved)| reserved.fragment.as_ref())
    }

    /// Returns what others are made on, beside what is asked about and what replaces a project that is about to be
    /// changed.
    pub(super) fn charges(
        &self,
        asked: Digest,
        changed: &[Option<ProjectId>],
    ) -> impl Iterator<Item = &Charge> {
        self.held()
            .filter(move |(revision, reserved)| {
                let same = reserved.project.is_some() && changed.contains(&reserved.project);
                **revision != asked && !same
            })
            .filter_map(|(_, reserved)| reserved.charge.as_ref())
    }

    /// Returns the digests of what projects would be submitted as.
    pub(super) fn definitions(&self) -> impl Iterator<Item = Digest> {
        self.held().map(|(_, reserved)| reserved.definition)
    }

    /// Whether a revision of a project is asked about in which this host has a VM of this name.
    pub(super) fn asked_for(&self, project: Option<ProjectId>, name: &Name) -> bool {
        let of_project = self.held().filter(|(_, reserved)| reserved.project == project);
        let mut parts = of_project.filter_map(|(_, reserved)| reserved.fragment.as_ref());
        parts.any(|part| part.vms.iter().any(|vm| vm.name == *name))
    }

    fn lapsed(&self) -> impl Iterator<Item = (u64, Digest)> {
        let over = self.by_revision.iter().filter(|(_, reserved)| reserved.stage == Stage::Lapsed);
        over.map(|(revision, reserved)| (reserved.noted.unwrap_or(0), *revision))
    }
}

impl Node {
    /// Takes up what this host had reserved for when it went down: for as long again as if it had just been asked.
    pub(super) fn resume_reservations(&mut self, now: Now) {
        let all: Vec<Digest> = self.reservations.by_revision.keys().copied().collect();
        for revision in all {
            let Some(reserved) = self.reservations.by_revision.get(&revision) else { continue };
            let joined = self.joined.contains(&reserved.project(revision));
            // A commit that is known comes with the journal of its project: where that is gone, it has been lost.
            if self.projects.is_proven(revision) || (joined && reserved.stage == Stage::Lapsed) {
                self.end_reservation(revision);
                continue;
            }
            let (own, held) = (reserved.coordinator == self.me, reserved.stage == Stage::Held);
            // Only this host could have committed it, would know, and doesn't: nobody ever will.
            if own && reserved.parent.is_none() {
                self.free(revision);
                continue;
            }
            if self.mutated_reservation_forgotten() {
                self.lapse(revision);
            } else if held {
                let ms = if own { limits::RESERVATION_ORPHANED_MS } else { limits::RESERVATION_MS };
                self.timers.set(Timer::Reservation(revision), now.mono_ms + ms);
            }
        }
    }

    /// Notes that this host gives its word, before it does.
    pub(super) fn note_reservation(&mut self, revision: Digest) {
        let last = self.reservations.by_revision.values().filter_map(|reserved| reserved.noted).max();
        let number = last.map_or(1, |last| last.saturating_add(1));
        let Some(reserved) = self.reservations.by_revision.get_mut(&revision) else { return };
        reserved.noted = Some(number);
        let note = reserved.note(revision, number);
        self.outbox.write(Write::Reservation(Box::new(note)));
    }

    /// Frees the room of what was reserved; the word stays where nothing else says that it was given.
    pub(super) fn lapse(&mut self, revision: Digest) {
        let Some(reserved) = self.reservations.by_revision.get_mut(&revision) else { return };
        let joined = self.joined.contains(&reserved.project(revision));
        let Some(number) = reserved.noted.filter(|_| !joined) else { return self.free(revision) };
        reserved.stage = Stage::Lapsed;
        let (note, fragment) = (reserved.note(revision, number), reserved.fragment.take());
        self.outbox.write(Write::Reservation(Box::new(note)));
        if let Some(fragment) = fragment {
            self.drop_fragment(Digest::of(&wire::encode_fragment(&fragment)));
        }
        while self.reservations.lapsed().count() > limits::LAPSED_MAX
            && let Some((_, oldest)) = self.reservations.lapsed().min()
        {
            self.free(oldest);
        }
    }

    /// Ends a reservation: the revision is committed, withdrawn or too old.
    pub(super) fn end_reservation(&mut self, revision: Digest) -> Option<Arc<Fragment>> {
        self.timers.cancel(&Timer::Reservation(revision));
        let reserved = self.reservations.by_revision.remove(&revision)?;
        if reserved.noted.is_some() {
            self.outbox.write(Write::DropReservation(revision));
        }
        reserved.fragment
    }

    /// The same for one that came to nothing: its part isn't needed either.
    pub(super) fn free(&mut self, revision: Digest) {
        if let Some(fragment) = self.end_reservation(revision) {
            self.drop_fragment(Digest::of(&wire::encode_fragment(&fragment)));
        }
    }

    /// Ends the reservations of committed revisions, whose VMs are counted instead, and of those that have lost. Where
    /// this host has given its word to the project by one of them, the project gets its journal.
    pub(super) fn settle_reservations(&mut self, project: ProjectId) {
        let settled = |(revision, reserved): (&Digest, &Reserved)| {
            let lost = reserved.parent.is_some_and(|parent| self.projects.decided_child(parent).is_some());
            let proven = self.projects.is_proven(*revision);
            let own = reserved.project(*revision) == project;
            // Whoever is only left out has given its word to nothing that it would have to remember.
            let by_our_word = proven && reserved.noted.is_some() && reserved.part.is_some();
            (own && (lost || proven)).then_some((*revision, by_our_word))
        };
        let over: Vec<(Digest, bool)> = self.reservations.by_revision.iter().filter_map(settled).collect();
        if over.iter().any(|(_, by_our_word)| *by_our_word) {
            self.join(project);
        }
        for (revision, by_our_word) in over {
            if by_our_word {
                self.end_reservation(revision);
            } else {
                self.free(revision);
            }
        }
    }
}
