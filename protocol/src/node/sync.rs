//! Repair of records by range-based set reconciliation (Meyer, "Range-Based Set Reconciliation", 2023).
//!
//! Two nodes compare fingerprints of ranges of their ordered record keys; where they differ, the range is split,
//! and where it is small, its keys are listed. The cost grows with the difference, not with the number of
//! records. No state is kept between messages: each answer is a pure function of the records and the question.

use std::ops::Bound;

use super::limits::{
    SYNC_BYTES_MAX, SYNC_LIST_MAX, SYNC_RANGES_MAX, SYNC_RECORDS_MAX, SYNC_SPLIT, SYNC_SPLITS_MAX,
};
use super::message::Message;
use super::records::Records;
use crate::id::Digest;
use crate::record::{RecordKey, VerifiedRecord};

/// A range of record keys and what the sender has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRange {
    /// Where it begins; none is the very beginning.
    pub from: Option<RecordKey>,
    /// Before what it ends; none is the very end.
    pub until: Option<RecordKey>,
    /// What the sender has.
    pub content: SyncContent,
}

/// What a node has in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncContent {
    /// This many records with this fingerprint.
    Sum {
        /// How many.
        records: u64,
        /// The exclusive or of their digests.
        fingerprint: Digest,
    },
    /// Exactly these.
    List(Vec<(RecordKey, Digest)>),
}

/// Returns the question that opens a comparison: everything, in one range.
pub(super) fn opening(records: &Records) -> Message {
    Message::Sync(vec![SyncRange { from: None, until: None, content: sum_of(records, 0, records.len()) }])
}

/// Returns the answers to a peer's ranges.
pub(super) fn answers(records: &Records, ranges: &[SyncRange]) -> Vec<Message> {
    let mut reply = Vec::new();
    let mut push = Vec::new();
    let mut want = Vec::new();
    let mut listed = 0;
    // A range that ends before it begins is nothing that an honest peer asks for, and nothing that can be looked up.
    for range in ranges.iter().take(SYNC_RANGES_MAX).filter(|range| ordered(range)) {
        match &range.content {
            SyncContent::Sum { records: count, fingerprint } => {
                let (first, end) = positions(records, range);
                let same = SyncContent::Sum { records: *count, fingerprint: *fingerprint };
                // What is left out here differs in the next comparison, too.
                let has_room = reply.len() < SYNC_SPLITS_MAX && listed < SYNC_RECORDS_MAX;
                if has_room && sum_of(records, first, end) != same {
                    listed += split(records, range, *count, &mut reply);
                }
            }
            SyncContent::List(theirs) => compare(records, range, theirs, &mut push, &mut want),
        }
    }
    reply.truncate(SYNC_RANGES_MAX);
    want.truncate(SYNC_RECORDS_MAX);
    let mut messages = Vec::new();
    if !reply.is_empty() {
        messages.push(Message::Sync(reply));
    }
    if !want.is_empty() {
        messages.push(Message::Want(want));
    }
    messages.extend(batches(push));
    messages
}

/// Returns the records that a peer asked for, in messages of bounded size.
pub(super) fn wanted(records: &Records, keys: &[RecordKey]) -> Vec<Message> {
    batches(keys.iter().take(SYNC_RECORDS_MAX).filter_map(|key| records.get(key).cloned()))
}

fn batches(found: impl IntoIterator<Item = VerifiedRecord>) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for record in found.into_iter().take(SYNC_RECORDS_MAX) {
        bytes += record.signed().payload.len() + 128;
        batch.push(record);
        if bytes >= SYNC_BYTES_MAX {
            messages.push(Message::Records(std::mem::take(&mut batch)));
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        messages.push(Message::Records(batch));
    }
    messages
}

/// Returns between which positions a range's records are.
fn positions(records: &Records, range: &SyncRange) -> (usize, usize) {
    let from = range.from.as_ref().map_or(Bound::Unbounded, Bound::Included);
    records.positions(from, range.until.as_ref().map_or(Bound::Unbounded, Bound::Excluded))
}

fn sum_of(records: &Records, from: usize, until: usize) -> SyncContent {
    SyncContent::Sum { records: (until - from) as u64, fingerprint: records.sum_between(from, until) }
}

/// Answers a range that differs: lists it where either side has little, else splits it at its own keys. Returns how many
/// keys it has listed.
fn split(records: &Records, range: &SyncRange, theirs: u64, reply: &mut Vec<SyncRange>) -> usize {
    let (first, end) = positions(records, range);
    let listed = end - first <= SYNC_LIST_MAX || theirs == 0;
    let size = if listed { SYNC_RECORDS_MAX } else { (end - first).div_ceil(SYNC_SPLIT) };
    // The parts' ranges touch, and the outer ends stay where they were.
    let starts: Vec<usize> = if first == end { vec![first] } else { (first..end).step_by(size).collect() };
    let key_at = |position: usize| {
        let record = records.between(position, position + 1).next()?;
        Some(record.key(record.author()))
    };
    for start in starts {
        let until = (start + size).min(end);
        let content = if listed {
            let list = records.between(start, until);
            SyncContent::List(list.map(|record| (record.key(record.author()), record.digest())).collect())
        } else {
            sum_of(records, start, until)
        };
        reply.push(SyncRange {
            from: if start > first { key_at(start) } else { range.from.clone() },
            until: if until < end { key_at(until) } else { range.until.clone() },
            content,
        });
    }
    if listed { end - first } else { 0 }
}

fn compare(
    records: &Records,
    range: &SyncRange,
    theirs: &[(RecordKey, Digest)],
    push: &mut Vec<VerifiedRecord>,
    want: &mut Vec<RecordKey>,
) {
    let theirs: std::collections::BTreeMap<&RecordKey, Digest> =
        theirs.iter().map(|(key, d)| (key, *d)).collect();
    let (first, end) = positions(records, range);
    for record in records.between(first, end) {
        // What is left out here differs in the next comparison, too.
        if push.len() >= SYNC_RECORDS_MAX {
            break;
        }
        if theirs.get(&record.key(record.author())) != Some(&record.digest()) {
            push.push(record.clone());
        }
    }
    for (key, digest) in theirs {
        if records.get(key).is_none_or(|record| record.digest() != digest) {
            want.push(key.clone());
        }
    }
}

fn ordered(range: &SyncRange) -> bool {
    match (&range.from, &range.until) {
        (Some(from), Some(until)) => from < until,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PublicKey;
    use crate::record::Record;
    use crate::trust::KeyPair;
    use crate::{sample, wire};

    /// Found by the fuzzer: such a question, from any member, ended the agent.
    #[test]
    fn a_range_that_ends_before_it_begins_is_passed_over() {
        let records = Records::default();
        let key = |byte| Some(RecordKey::Host(PublicKey([byte; 32])));
        for content in [
            SyncContent::Sum { records: 1, fingerprint: Digest([7; 32]) },
            SyncContent::List(vec![(RecordKey::Host(PublicKey([1; 32])), Digest([7; 32]))]),
        ] {
            let backwards = SyncRange { from: key(2), until: key(1), content };
            assert_eq!(answers(&records, &[backwards]), Vec::new());
        }
    }

    fn host(number: u64) -> VerifiedRecord {
        let mut secret = [3; 32];
        secret[..8].copy_from_slice(&number.to_le_bytes());
        wire::sign_record(&KeyPair::from_secret(secret), Record::Host(sample::host_status(1)))
    }

    /// However much differs, a step of a comparison is not broad: the rest comes with the next one.
    #[test]
    fn an_answer_is_bounded_where_everything_differs() {
        let (mut all, mut none) = (Records::default(), Records::default());
        for number in 0..3000 {
            all.merge(host(number), Records::newer);
        }
        none.merge(host(9999), Records::newer);
        // The one that lacks all asks, and pretends to have much, so that nothing is listed too soon.
        let mut ranges = vec![SyncRange {
            from: None,
            until: None,
            content: SyncContent::Sum { records: 3000, fingerprint: Digest([1; 32]) },
        }];
        let mut listed = 0;
        for _ in 0..6 {
            let answer = answers(&all, &ranges).into_iter().find_map(|message| match message {
                Message::Sync(ranges) => Some(ranges),
                _ => None,
            });
            ranges = answer.expect("all differs");
            assert!(ranges.len() <= SYNC_SPLITS_MAX + SYNC_SPLIT, "{} ranges", ranges.len());
            listed = ranges
                .iter()
                .map(|range| match &range.content {
                    SyncContent::List(list) => list.len(),
                    SyncContent::Sum { .. } => 0,
                })
                .sum();
            if listed > 0 {
                break;
            }
            for range in &mut ranges {
                range.content = SyncContent::Sum { records: 3000, fingerprint: Digest([1; 32]) };
            }
        }
        assert!((1..SYNC_RECORDS_MAX + SYNC_LIST_MAX).contains(&listed), "{listed} keys");
        let wanted: usize = answers(&none, &ranges)
            .iter()
            .map(|message| if let Message::Want(keys) = message { keys.len() } else { 0 })
            .sum();
        assert_eq!(wanted, listed.min(SYNC_RECORDS_MAX));
    }
}
