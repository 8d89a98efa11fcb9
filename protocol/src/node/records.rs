//! The records that a node holds, and how a new one merges with them.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use super::limits::RECORDS_MAX;
use super::sync::xor;
use crate::id::{Digest, Name, PublicKey, VmId};
use crate::record::{HostStatus, Member, Record, RecordKey, VerifiedRecord, VmStatus, supersedes};
use crate::trust::{Revocation, Signed, Verified};

/// The records that a node holds.
#[derive(Debug, Default)]
pub(super) struct Records {
    slots: BTreeMap<RecordKey, VerifiedRecord>,
    fingerprint: [u8; 32],
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
        match self.slots.get(&key) {
            Some(held) if !newer(&record, held) => return Merge::Old,
            None if self.slots.len() >= RECORDS_MAX => return Merge::Full,
            Some(_) | None => {}
        }
        xor(&mut self.fingerprint, record.digest());
        if let Some(old) = self.slots.insert(key, record) {
            xor(&mut self.fingerprint, old.digest());
        }
        Merge::Taken
    }

    /// The usual rule: the newer one is kept.
    pub(super) fn newer(new: &VerifiedRecord, held: &VerifiedRecord) -> bool {
        supersedes(new, held)
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&VerifiedRecord> {
        self.slots.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn fingerprint(&self) -> Digest {
        Digest(self.fingerprint)
    }

    pub(super) fn range(
        &self,
        range: impl RangeBounds<RecordKey>,
    ) -> impl Iterator<Item = (&RecordKey, &VerifiedRecord)> {
        self.slots.range(range)
    }

    pub(super) fn member(&self, key: PublicKey) -> Option<&Member> {
        match &***self.slots.get(&RecordKey::Member(key))? {
            Record::Member(member) => Some(member),
            Record::Host(_)
            | Record::Commit(_)
            | Record::Vm(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_) => None,
        }
    }

    pub(super) fn host(&self, key: PublicKey) -> Option<&HostStatus> {
        match &***self.slots.get(&RecordKey::Host(key))? {
            Record::Host(status) => Some(status),
            Record::Member(_)
            | Record::Commit(_)
            | Record::Vm(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_) => None,
        }
    }

    pub(super) fn vm(&self, vm: &VmId, owner: PublicKey) -> Option<&VmStatus> {
        match &***self.slots.get(&RecordKey::Vm(vm.clone(), owner))? {
            Record::Vm(status) => Some(status),
            Record::Member(_)
            | Record::Host(_)
            | Record::Commit(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_) => None,
        }
    }

    /// Returns what takes a grant back.
    pub(super) fn revocation(&self, grant: Digest) -> Option<&Verified<Record>> {
        self.slots.get(&RecordKey::Revocation(grant)).map(|record| &**record)
    }

    /// Returns all revocations with their authors, in the order of the grants' digests.
    pub(super) fn revocations(&self) -> impl Iterator<Item = (PublicKey, &Revocation)> {
        self.slots.range(RecordKey::Revocation(Digest([0; 32]))..).filter_map(
            |(_, record)| match &***record {
                Record::Revocation(revocation) => Some((record.author(), revocation)),
                _ => None,
            },
        )
    }

    /// Returns the chains of those who have grants and are no members, in the order of the grants' digests.
    pub(super) fn grants(&self) -> impl Iterator<Item = &[Signed]> {
        self.slots.range(RecordKey::Grant(Digest([0; 32]))..).map_while(|(_, record)| match &***record {
            Record::Grant(chain) => Some(chain.as_slice()),
            _ => None,
        })
    }

    /// Returns all members in the order of their keys.
    pub(super) fn members(&self) -> impl Iterator<Item = (PublicKey, &Member)> {
        let least = RecordKey::Member(PublicKey([0; 32]));
        self.slots.range(least..).map_while(|(key, record)| match (key, &***record) {
            (RecordKey::Member(key), Record::Member(member)) => Some((*key, member)),
            _ => None,
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
        self.slots.range(from..).map_while(move |(key, record)| match (key, &***record) {
            (RecordKey::Vm(vm, author), Record::Vm(status)) if vm.birth == birth => Some((*author, status)),
            _ => None,
        })
    }
}
