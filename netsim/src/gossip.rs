//! A model of gossipsub (libp2p gossipsub v1.1): each node pushes what is new to the peers of its mesh at once, and
//! tells others by name, once a heartbeat, so that they can ask for what they lack.
//!
//! Held against libp2p itself by the story `gossip`. What it leaves out: IDONTWANT, by which peers are spared copies of
//! messages of more than 1,000 bytes.

use std::collections::{BTreeMap, VecDeque};

use mln_protocol::id::Digest;
use mln_protocol::record::VerifiedRecord;

/// How often names are told, in milliseconds.
pub(crate) const HEARTBEAT_MS: u64 = 1_000;

/// For how many heartbeats a record can be asked for, and for how many it is told about: libp2p's `history_length` and
/// `history_gossip`, as the agent has them.
const HISTORY: usize = 5;
const TOLD: usize = 3;

/// For how many heartbeats a record is known again: libp2p's `duplicate_cache_time`.
const SEEN: usize = 60;

/// How long whoever was asked for a record has to send it before another is asked, in milliseconds: libp2p's
/// `iwant_followup_time`.
const PROMISED_MS: u64 = 3_000;

/// One node's side of it; all is lost when the node crashes.
#[derive(Debug, Default)]
pub(crate) struct Gossip {
    /// By heartbeat, the newest first.
    recent: VecDeque<Vec<VerifiedRecord>>,
    /// Which records were seen, and in which heartbeat.
    seen: BTreeMap<Digest, u64>,
    /// The same in the order of their times, the oldest first.
    seen_order: VecDeque<(u64, Digest)>,
    heartbeats: u64,
    /// What somebody was asked for, and until when it is waited for.
    promised: BTreeMap<Digest, u64>,
}

impl Gossip {
    /// Takes note of a record; false where it was seen before.
    pub(crate) fn note(&mut self, record: &VerifiedRecord) -> bool {
        let digest = record.digest();
        if self.seen.insert(digest, self.heartbeats).is_some() {
            return false;
        }
        self.seen_order.push_back((self.heartbeats, digest));
        self.promised.remove(&digest);
        match self.recent.front_mut() {
            Some(newest) => newest.push(record.clone()),
            None => self.recent.push_front(vec![record.clone()]),
        }
        true
    }

    /// Ends a heartbeat; returns what was new in the last few.
    pub(crate) fn heartbeat(&mut self, now_ms: u64) -> Vec<Digest> {
        let told = self.recent.iter().take(TOLD).flatten().map(|record| record.digest()).collect();
        self.recent.push_front(Vec::new());
        self.recent.truncate(HISTORY);
        self.heartbeats += 1;
        while let Some((at, digest)) = self.seen_order.front().copied()
            && at + SEEN as u64 <= self.heartbeats
        {
            self.seen_order.pop_front();
            self.seen.remove(&digest);
        }
        self.promised.retain(|_, until_ms| *until_ms > now_ms);
        told
    }

    /// Returns which of these the node has not seen and waits for from nobody; from now on it does.
    pub(crate) fn lacking(&mut self, now_ms: u64, told: &[Digest]) -> Vec<Digest> {
        let lacking =
            |digest: &&Digest| !self.seen.contains_key(digest) && !self.promised.contains_key(digest);
        let lacking: Vec<Digest> = told.iter().filter(lacking).copied().collect();
        self.promised.extend(lacking.iter().map(|digest| (*digest, now_ms + PROMISED_MS)));
        lacking
    }

    /// Returns the records that a peer asks for, as far as they are still remembered.
    pub(crate) fn remembered(&self, wanted: &[Digest]) -> Vec<VerifiedRecord> {
        let recent: BTreeMap<Digest, &VerifiedRecord> =
            self.recent.iter().flatten().map(|record| (record.digest(), record)).collect();
        wanted.iter().filter_map(|digest| recent.get(digest).map(|&record| record.clone())).collect()
    }
}
