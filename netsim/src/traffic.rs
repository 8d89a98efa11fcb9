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

/// Counts from the beginning of a world.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    /// Only where it is measured: encoding everything a second time takes time.
    pub(crate) change: Option<Change>,
}

/// How the first commit of a world spreads.
#[derive(Debug, Default)]
pub(crate) struct Change {
    digest: Option<Digest>,
    /// When it was first sent, and how many bytes had been sent before.
    pub(crate) made: Option<(u64, u64)>,
    pub(crate) copies: u64,
    /// By host, in milliseconds after it was made.
    pub(crate) known: BTreeMap<usize, u64>,
}

impl Traffic {
    pub(crate) fn sent(&mut self, packet: &Packet) {
        if self.change.is_none() {
            return;
        }
        self.packets += 1;
        self.bytes += match packet {
            Packet::Direct(direct) => wire::encode_message(&direct.0).len() as u64 + FRAME_BYTES,
            Packet::Gossip(record) => record.signed().payload.len() as u64 + RECORD_BYTES + GOSSIP_BYTES,
            Packet::Told(list) | Packet::Asked(list) => list.len() as u64 * IDENTITY_BYTES + FRAME_BYTES,
        };
    }

    /// Takes note of a commit that is published at a host.
    pub(crate) fn published(&mut self, node: usize, record: &VerifiedRecord, now_ms: u64) {
        let bytes = self.bytes;
        let Some(change) = &mut self.change else { return };
        if change.digest.is_none() && matches!(***record, Record::Commit(_)) {
            change.digest = Some(record.digest());
            change.made = Some((now_ms, bytes));
            change.known.insert(node, 0);
        }
    }

    pub(crate) fn arrived(&mut self, to: usize, packet: &Packet, now_ms: u64) {
        let Some(change) = &mut self.change else { return };
        let Some((digest, (made_ms, _))) = change.digest.zip(change.made) else { return };
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
