//! What becomes durable where: the one place that says which writes a host must never forget.
//!
//! A host keeps one journal for each project that it has given its word to, and one for itself. Whatever else it
//! knows it has heard, and can hear again. A new kind of [`Write`] has a line in each function here, and one in
//! [`crate::wire::encode_write`] and its reverse.

use super::io::{StoredState, Write};
use crate::id::{Digest, ProjectId, PublicKey};
use crate::record::Record;

/// Where a write belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// In the journal of a project, which is made if it isn't there: the host's own word.
    Project(ProjectId),
    /// In the journal of the project that a revision belongs to: the host's own word.
    Revision(Digest),
    /// In the journal of a project if it is there: what others have said and what limits the host's rights.
    Kin(ProjectId),
    /// The same, by one of the project's revisions.
    KinOf(Digest),
    /// In the host's own journal.
    Host,
    /// In a file of its own, named by the digest of what is in it.
    Contents(Digest),
    /// In no journal: others have it too.
    Heard,
}

impl Write {
    /// Returns where the write belongs on the host with the key `me`.
    pub fn home(&self, me: PublicKey) -> Home {
        match self {
            Self::Record(_, record) => {
                let own = record.author() == me;
                match &***record {
                    Record::Member(_) | Record::Host(_) if own => Home::Host,
                    Record::Member(_) | Record::Host(_) => Home::Heard,
                    Record::Vm(status) if own => Home::Project(status.project),
                    // What others say of their VMs changes often, and limits nobody.
                    Record::Vm(_) => Home::Heard,
                    Record::Commit(commit) if own => Home::Project(commit.project()),
                    Record::Commit(commit) => Home::Kin(commit.project()),
                    Record::Link(link) if own => Home::Revision(link.vm().birth),
                    Record::Link(link) => Home::KinOf(link.vm().birth),
                    // Whoever was shut out stays so, though nobody else should be there after a power cut.
                    Record::Revocation(_) => Home::Host,
                    // What guests measure is worth no write that is waited for.
                    Record::Grant(_) | Record::Gauges(_) | Record::Later(_) => Home::Heard,
                }
            }
            Self::Heard(..) => Home::Heard,
            Self::Join(project) => Home::Project(*project),
            Self::Decision(note) => Home::Revision(note.parent),
            Self::DropDecision(parent) => Home::Revision(*parent),
            Self::Holding(vm, _) | Self::DropHolding(vm) => Home::Revision(vm.birth),
            Self::Fragment(digest, _) | Self::DropFragment(digest) => Home::Contents(*digest),
            // Whether there will be a project at all is not known yet; and room is the host's, not a project's.
            Self::Reservation(_) | Self::DropReservation(_) => Home::Host,
        }
    }
}

impl StoredState {
    /// Takes in what is known from elsewhere than a journal: it may take rights away, and gives none.
    pub fn take_without_right(&mut self, write: Write) {
        if !matches!(write, Write::Join(_) | Write::Holding(..) | Write::Reservation(_)) {
            self.take(write);
        }
    }

    /// Takes in what a write has left on the disk.
    pub fn take(&mut self, write: Write) {
        match write {
            Write::Record(_, record) | Write::Heard(_, record) => self.records.push(record),
            Write::Join(project) => {
                self.joined.insert(project);
            }
            Write::Fragment(digest, fragment) => self.fragments.push((digest, fragment)),
            Write::Decision(note) => self.decisions.push(*note),
            Write::DropDecision(parent) => self.decisions.retain(|note| note.parent != parent),
            Write::Holding(vm, holding) => self.holdings.push((vm, holding)),
            Write::DropHolding(vm) => self.holdings.retain(|(kept, _)| *kept != vm),
            Write::DropFragment(digest) => self.fragments.retain(|(kept, _)| *kept != digest),
            Write::Reservation(note) => {
                self.reservations.retain(|kept| kept.revision != note.revision);
                self.reservations.push(*note);
            }
            Write::DropReservation(revision) => self.reservations.retain(|kept| kept.revision != revision),
        }
    }
}
