//! The records that a node holds, and how a new one merges with them.

use std::ops::{Bound, RangeBounds};

use super::limits::{LATER_RECORDS_MAX, RECORDS_MAX};
use super::runs::Runs;
use crate::id::{Digest, Name, PublicKey, VmId};
use crate::record::{
    HostGauges, HostStatus, Member, Record, RecordKey, VerifiedRecord, VmStatus, supersedes,
};
use crate::trust::{Revocation, Signed, Verified};

/// The records that a node holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    slots: Runs,
    /// How many of them are members.
    members: usize,
}

/// What became of a record that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// It took its slot.
    Taken,
    /// What the slot held is as new or newer.
    Old,
    /// There are too many records already.
    Full,
}

impl Records {
    /// Merges a record; `newer` judges it against what holds its slot.
    pub(super) fn merge(
        &mut self,
        record: VerifiedRecord,
        newer: impl FnOnce(&VerifiedRecord, &VerifiedRecord) -> bool,
    ) -> Merge {
        let key = record.key(record.author());
        let place = match self.slots.find(&key) {
            Ok(place) => {
                if !newer(&record, self.slots.at(place)) {
                    return Merge::Old;
                }
                self.slots.replace(place, record);
                return Merge::Taken;
            }
            Err(place) => place,
        };
        if self.slots.len() >= RECORDS_MAX || self.has_enough_later(&key) {
            return Merge::Full;
        }
        self.members += usize::from(matches!(**record, Record::Member(_)));
        self.slots.insert(place, &key, record);
        Merge::Taken
    }

    /// Whether what nobody here can read takes another of the slots that its author may fill with such.
    fn has_enough_later(&self, key: &RecordKey) -> bool {
        let RecordKey::Later(author, ..) = *key else { return false };
        let (first, last) =
            (RecordKey::Later(author, 0, [0; 32]), RecordKey::Later(author, u32::MAX, [0xff; 32]));
        let (from, until) = self.positions(Bound::Included(&first), Bound::Included(&last));
        until - from >= LATER_RECORDS_MAX
    }

    /// The usual rule: the newer one is kept.
    pub(super) fn newer(new: &VerifiedRecord, held: &VerifiedRecord) -> bool {
        supersedes(new, held)
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&VerifiedRecord> {
        self.slots.find(key).ok().map(|place| self.slots.at(place))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the exclusive or of all digests.
    pub(super) fn fingerprint(&self) -> Digest {
        self.slots.fingerprint()
    }

    /// Returns how many members there are.
    pub(super) fn member_count(&self) -> usize {
        self.members
    }

    pub(super) fn range(&self, range: impl RangeBounds<RecordKey>) -> impl Iterator<Item = &VerifiedRecord> {
        let (from, until) = self.positions(range.start_bound(), range.end_bound());
        self.between(from, until)
    }

    /// Returns between which positions, in the order of the slots, what is in a range is.
    pub(super) fn positions(&self, from: Bound<&RecordKey>, until: Bound<&RecordKey>) -> (usize, usize) {
        let before = |key: &RecordKey| match self.slots.find(key) {
            Ok(place) | Err(place) => self.slots.position(place),
        };
        let after = |key: &RecordKey| match self.slots.find(key) {
            Ok(place) => self.slots.position(place) + 1,
            Err(place) => self.slots.position(place),
        };
        let from = match from {
            Bound::Unbounded => 0,
            Bound::Included(key) => before(key),
            Bound::Excluded(key) => after(key),
        };
        let until = match until {
            Bound::Unbounded => self.slots.len(),
            Bound::Included(key) => after(key),
            Bound::Excluded(key) => before(key),
        };
        (from, until.max(from))
    }

    /// Returns the records at these positions, the last one not included.
    pub(super) fn between(&self, from: usize, until: usize) -> impl Iterator<Item = &VerifiedRecord> {
        self.slots.iter_from(from).take(until.saturating_sub(from))
    }

    /// Returns the exclusive or of the digests of the records at these positions.
    pub(super) fn sum_between(&self, from: usize, until: usize) -> Digest {
        self.slots.sum_between(from, until)
    }

    pub(super) fn member(&self, key: PublicKey) -> Option<&Member> {
        match &***self.get(&RecordKey::Member(key))? {
            Record::Member(member) => Some(member),
            Record::Host(_)
            | Record::Commit(_)
            | Record::Vm(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_)
            | Record::Gauges(_)
            | Record::Later(_) => None,
        }
    }

    pub(super) fn host(&self, key: PublicKey) -> Option<&HostStatus> {
        match &***self.get(&RecordKey::Host(key))? {
            Record::Host(status) => Some(status),
            Record::Member(_)
            | Record::Commit(_)
            | Record::Vm(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_)
            | Record::Gauges(_)
            | Record::Later(_) => None,
        }
    }

    pub(super) fn vm(&self, vm: &VmId, owner: PublicKey) -> Option<&VmStatus> {
        match &***self.get(&RecordKey::Vm(vm.clone(), owner))? {
            Record::Vm(status) => Some(status),
            Record::Member(_)
            | Record::Host(_)
            | Record::Commit(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_)
            | Record::Gauges(_)
            | Record::Later(_) => None,
        }
    }

    /// Returns how many hosts have said what the guests on them measure, and have done so after a time by their own wall
    /// clocks, in milliseconds.
    pub(super) fn gauges_told_after(&self, unix_ms: u64) -> usize {
        // They sort behind all others, among what can't be read.
        let records = self.range(RecordKey::Later(PublicKey([0; 32]), 0, [0; 32])..);
        let told = records.filter_map(|record| match &***record {
            Record::Gauges(gauges) => Some(gauges.told_unix_ms),
            _ => None,
        });
        told.filter(|&told_ms| told_ms > unix_ms).count()
    }

    /// Returns what the guests on a host measure, as it last said.
    pub(super) fn gauges(&self, key: PublicKey) -> Option<&HostGauges> {
        match &***self.get(&RecordKey::gauges(key))? {
            Record::Gauges(gauges) => Some(gauges),
            _ => None,
        }
    }

    /// Returns what takes a grant back.
    pub(super) fn revocation(&self, grant: Digest) -> Option<&Verified<Record>> {
        self.get(&RecordKey::Revocation(grant)).map(|record| &**record)
    }

    /// Returns all revocations with their authors, in the order of the grants' digests.
    pub(super) fn revocations(&self) -> impl Iterator<Item = (PublicKey, &Revocation)> {
        self.range(RecordKey::Revocation(Digest([0; 32]))..).filter_map(|record| match &***record {
            Record::Revocation(revocation) => Some((record.author(), revocation)),
            _ => None,
        })
    }

    /// Returns the chains of those who have grants and are no members, in the order of the grants' digests.
    pub(super) fn grants(&self) -> impl Iterator<Item = &[Signed]> {
        self.range(RecordKey::Grant(Digest([0; 32]))..).map_while(|record| match &***record {
            Record::Grant(chain) => Some(chain.as_slice()),
            _ => None,
        })
    }

    /// Returns all members in the order of their keys.
    pub(super) fn members(&self) -> impl Iterator<Item = (PublicKey, &Member)> {
        // They sort before all others.
        self.slots.iter_from(0).map_while(|record| match &***record {
            Record::Member(member) => Some((record.author(), member)),
            Record::Host(_)
            | Record::Commit(_)
            | Record::Vm(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_)
            | Record::Gauges(_)
            | Record::Later(_) => None,
        })
    }

    /// Returns who has a name; of two, the one with the smaller key.
    pub(super) fn named(&self, name: &str) -> Option<PublicKey> {
        self.members().find(|(_, member)| member.name.as_str() == name).map(|(key, _)| key)
    }

    /// Returns the status of every VM that appeared in one revision, with its author.
    pub(super) fn born_in(&self, birth: Digest) -> impl Iterator<Item = (PublicKey, &VmStatus)> {
        // The shortest name sorts first among those that begin with '0'; digits sort before letters.
        let least = Name::parse("0").expect("one digit is a name");
        let from = RecordKey::Vm(VmId { birth, name: least }, PublicKey([0; 32]));
        self.range(from..).map_while(move |record| match &***record {
            Record::Vm(status) if status.vm.birth == birth => Some((record.author(), status)),
            _ => None,
        })
    }
}
