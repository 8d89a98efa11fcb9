//! The replicated values, and how two of one slot merge.
//!
//! A record is small and signed by one key. Records merge by "keep the newer one", so the order of arrival does
//! not matter, and whether one is stored never depends on a clock or on a grant's validity.

mod claim;
mod commit;
mod gauges;
mod host;
mod later;
mod promise;
mod vm;

use std::sync::Arc;

pub use claim::{Claim, ClaimBasis, Decline, Epoch, Link, LinkKind, Ready, Release, ReleasedDisk, Takeover};
pub use commit::{Charge, Commit, Consent, Reservation, Revision, RevisionHost, RevisionVm};
pub use gauges::{HostGauges, Measured, Reading, TOLD_GAUGES_MAX, TOLD_VALUES_MAX};
pub use host::{HostStatus, Member};
pub use later::Later;
pub use promise::{Answered, Ballot, Choice, Promise, choice, is_majority};
pub use vm::{ExitStatus, Nat, RunState, Startup, VmState, VmStatus};

use crate::id::{Digest, PublicKey, VmId};
use crate::trust::{Revocation, Signed, Verified};

/// A record whose signature was verified, shared by whoever holds it.
pub type VerifiedRecord = Arc<Verified<Record>>;

/// A replicated value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Somebody belongs to the mesh.
    Member(Member),
    /// What a host carries and has left.
    Host(HostStatus),
    /// A project's revision, with the proof that the hosts that it concerns have reserved for it.
    Commit(Commit),
    /// What a VM is doing, by the host that owns it.
    Vm(VmStatus),
    /// Who owns a VM from now on, or no longer does.
    Link(Link),
    /// Somebody has a grant and is no member, as a chain of grants, root first: so that everybody can show it and take
    /// it back.
    Grant(Vec<Signed>),
    /// A grant was taken back. Unlike all others it may be signed by somebody who is no member: the chain inside says
    /// what the author is.
    Revocation(Revocation),
    /// What the guests on a host measure.
    Gauges(HostGauges),
    /// Something of a kind that only a newer program knows, or nobody can read.
    Later(Later),
}

/// The slot of a record: of two records in one slot only the newer one is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// One per member.
    Member(PublicKey),
    /// One per host.
    Host(PublicKey),
    /// One per revision.
    Commit(Digest),
    /// One per VM and author: only the owner's counts, but that is not known when a record arrives.
    Vm(VmId, PublicKey),
    /// One per VM, epoch, kind and author: an honest author never takes one twice.
    Link(VmId, Epoch, LinkKind, PublicKey),
    /// One per grant.
    Grant(Digest),
    /// One per grant.
    Revocation(Digest),
    /// One per author, kind and slot, of all kinds that came after the others: also of those that this program knows.
    Later(PublicKey, u32, [u8; 32]),
}

impl RecordKey {
    /// Returns the slot of what the guests on a host measure.
    pub fn gauges(host: PublicKey) -> Self {
        Self::Later(host, crate::wire::GAUGES_KIND, crate::wire::GAUGES_SLOT)
    }
}

impl Record {
    /// Returns the slot that the record takes when `author` signs it.
    pub fn key(&self, author: PublicKey) -> RecordKey {
        match self {
            Self::Member(_) => RecordKey::Member(author),
            Self::Host(_) => RecordKey::Host(author),
            Self::Commit(commit) => RecordKey::Commit(commit.digest),
            Self::Vm(status) => RecordKey::Vm(status.vm.clone(), author),
            Self::Link(link) => RecordKey::Link(link.vm().clone(), link.epoch(), link.kind(), author),
            Self::Grant(chain) => {
                RecordKey::Grant(chain.last().map_or(Digest([0; 32]), |link| Digest::of(&link.payload)))
            }
            Self::Revocation(revocation) => RecordKey::Revocation(revocation.grant()),
            Self::Gauges(_) => RecordKey::gauges(author),
            Self::Later(later) => RecordKey::Later(author, later.kind, later.slot),
        }
    }

    /// Returns the author's own count of the records in this slot; of two proofs of one revision the fuller one is newer.
    pub fn counter(&self) -> u64 {
        match self {
            Self::Member(member) => member.counter,
            Self::Host(status) => status.counter,
            // Whoever leaves reservations or promises out does not win the slot.
            Self::Commit(commit) => (commit.reserving().len() + commit.promising().len()) as u64,
            Self::Vm(status) => status.counter,
            Self::Gauges(gauges) => gauges.counter,
            Self::Later(later) => later.counter,
            // Of two in one slot the larger digest stays, everywhere.
            Self::Link(_) | Self::Grant(_) | Self::Revocation(_) => 0,
        }
    }
}

/// Whether `new` takes the slot that `old` holds: the higher counter, and of equal ones the larger digest.
pub fn supersedes(new: &Verified<Record>, old: &Verified<Record>) -> bool {
    (new.counter(), new.digest()) > (old.counter(), old.digest())
}
