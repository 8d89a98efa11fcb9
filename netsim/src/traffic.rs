//! What goes over the network, counted: bytes, packets, and how a first revision gets around.

use std::collections::BTreeMap;

use mln_protocol::id::Digest;
use mln_protocol::node::Message;
use mln_protocol::record::{Record, VerifiedRecord};
use mln_protocol::wire;

use crate::transport::Packet;

/// What signature, author and lengths add to a record's payload, and gossipsub's own fields to that, in bytes.
const RECORD_BYTES: u64 = 112;
const GOSSIP_BYTES: u64 = 60;

/// What a message identity takes, and the frame around a list of them, in bytes.
const IDENTITY_BYTES: u64 = 34;
const FRAME_BYTES: u64 = 40;

/// Counts from the beginning of a world, where it is measured: encoding everything a second time takes time.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sum: Sum,
    /// What goes to one host and comes from it.
    pub(crate) watched: Option<(usize, Sum)>,
    pub(crate) change: Option<Change>,
    pub(crate) is_counted: bool,
}

/// How much was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.packets += 1;
    }

    /// Returns what was sent since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { bytes: self.bytes - before.bytes, packets: self.packets - before.packets }
    }
}

/// How a record spreads: the first commit that is published, or one that is given.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) digest: Option<Digest>,
    /// When it was first sent.
    pub(crate) made_ms: Option<u64>,
    pub(crate) copies: u64,
    /// By host, in milliseconds after it was made.
    pub(crate) known: BTreeMap<usize, u64>,
}

impl Traffic {
    pub(crate) fn sent(&mut self, (from, to): (usize, usize), packet: &Packet) {
        if !self.is_counted {
            return;
        }
        let bytes = match packet {
            Packet::Direct(direct) => wire::encode_message(&direct.0).len() as u64 + FRAME_BYTES,
            Packet::Gossip(record) => gossip_bytes(record),
            Packet::Told(list) => list.len() as u64 * IDENTITY_BYTES + FRAME_BYTES,
            Packet::Asked(list) => list.len() as u64 * IDENTITY_BYTES + FRAME_BYTES,
        };
        self.sum.add(bytes);
        if let Some((watched, sum)) = &mut self.watched
            && (*watched == from || *watched == to)
        {
            sum.add(bytes);
        }
    }

    /// Takes note of a record that is published at a host.
    pub(crate) fn published(&mut self, node: usize, record: &VerifiedRecord, now_ms: u64) {
        let Some(change) = &mut self.change else { return };
        let begins = match change.digest {
            Some(digest) => change.made_ms.is_none() && digest == record.digest(),
            None => matches!(***record, Record::Commit(_)),
        };
        if begins {
            change.digest = Some(record.digest());
            change.made_ms = Some(now_ms);
            change.known.insert(node, 0);
        }
    }

    pub(crate) fn arrived(&mut self, to: usize, packet: &Packet, now_ms: u64) {
        let Some(change) = &mut self.change else { return };
        let Some((digest, made_ms)) = change.digest.zip(change.made_ms) else { return };
        let has = match packet {
            Packet::Gossip(record) => record.digest() == digest,
            Packet::Direct(direct) => match &direct.0 {
                Message::Records(records) => records.iter().any(|record| record.digest() == digest),
                _ => false,
            },
            Packet::Told(_) | Packet::Asked(_) => false,
        };
        if has {
            change.copies += 1;
            change.known.entry(to).or_insert(now_ms - made_ms);
        }
    }
}

/// Returns how large a record is when it is gossiped.
pub(crate) fn gossip_bytes(record: &VerifiedRecord) -> u64 {
    record.signed().payload.len() as u64 + RECORD_BYTES + GOSSIP_BYTES
}
