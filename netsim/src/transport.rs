//! What travels between hosts: direct messages, and records by gossip.

use std::sync::Arc;

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::node::{Input, Message};
use mln_protocol::record::VerifiedRecord;
use mln_protocol::wire;

use crate::fault::Fault;
use crate::gossip::HEARTBEAT_MS;
use crate::host::{Age, Presence};
use crate::network::{Fate, LinkChange, Up};
use crate::options::Setting;
use crate::world::{Event, World};

/// The kind of record that an old agent doesn't know, by its number on the wire.
const NEWEST_RECORD_KIND: u32 = 4;

/// Of worlds that are too large to encode every message: one in this many goes through the codec.
const SAMPLE: u64 = 100;

/// What travels over the simulated network.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A message, and the digest of its bytes.
    Direct(Box<(Message, Digest)>),
    Gossip(VerifiedRecord),
    Told(Arc<[Digest]>),
    Asked(Vec<Digest>),
}

impl World {
    /// Brings a message to the host with this key, by way of its bytes.
    pub(crate) fn send(&mut self, from: usize, to: PublicKey, message: Message) {
        let Some(to) = self.whoever_answers(from, to) else {
            return self.oracle.broken(format!("S4: {} sends to a stranger", self.hosts[from].name));
        };
        let (message, digest) = if self.options.is_coded() || self.lot.draw().is_multiple_of(SAMPLE) {
            match self.codec.message(&message) {
                Ok((arrives, _)) if arrives != message => {
                    return self.oracle.broken(format!("S4: what is sent is not what arrives: {message:?}"));
                }
                Ok(arrives) => arrives,
                Err(error) => {
                    return self
                        .oracle
                        .broken(format!("S4: {} says what nobody can read: {error}", self.hosts[from].name));
                }
            }
        } else {
            (message, Digest([0; 32]))
        };
        self.transmit(from, to, Packet::Direct(Box::new((message, digest))));
    }

    /// Brings a message that was made up to a host; what can't be read goes nowhere, as in the real agent.
    pub(crate) fn send_forged(&mut self, from: usize, to: PublicKey, message: &Message) {
        let bytes = wire::encode_message(message);
        let to = self.index.get(&to).copied();
        match (self.codec.decode(&bytes), to) {
            (Ok(message), Some(to)) => {
                self.transmit(from, to, Packet::Direct(Box::new((message, Digest::of(&bytes)))));
            }
            _ => self.tally.garbage += 1,
        }
    }

    /// Returns who answers to a key: of a host and its clone, by lot. What an agent says to itself never leaves it.
    fn whoever_answers(&mut self, from: usize, key: PublicKey) -> Option<usize> {
        if self.hosts[from].keys.public() == key {
            return Some(from);
        }
        let original = *self.index.get(&key)?;
        let clone = self
            .clones
            .iter()
            .find(|(clone, of)| **of == original && self.hosts[**clone].presence == Presence::Here);
        match clone.map(|(clone, _)| *clone) {
            Some(clone) if self.lot.chance(500) => Some(clone),
            Some(_) | None => Some(original),
        }
    }

    /// Brings a packet to another host: late, twice, or not at all.
    pub(crate) fn transmit(&mut self, from: usize, to: usize, packet: Packet) {
        if from == to {
            let at = self.now_ms;
            return self.at(at, Event::Deliver { from, to, packet });
        }
        if self.is_missed(to, &packet) {
            self.tally.faults.add(Fault::Loss);
            return;
        }
        let direct = matches!(packet, Packet::Direct(_));
        self.traffic.sent((from, to), &packet);
        match self.network.send(&self.options, (from, to), self.now_ms, &mut self.tally.faults) {
            Fate::Arrives(ms) => self.at(self.now_ms + ms, Event::Deliver { from, to, packet }),
            Fate::Twice(first, second) => {
                self.at(self.now_ms + first, Event::Deliver { from, to, packet: packet.clone() });
                self.at(self.now_ms + second, Event::Deliver { from, to, packet });
            }
            Fate::Unreachable(ms) if direct => {
                let (life, key) = (self.hosts[from].life, self.hosts[to].keys.public());
                let input = Box::new(Input::Unreachable(key));
                self.at(self.now_ms + ms, Event::Input { node: from, life, input });
            }
            Fate::Unreachable(_) | Fate::Lost => {}
        }
    }

    pub(crate) fn deliver(&mut self, from: usize, to: usize, packet: Packet) {
        let host = &self.hosts[to];
        if host.presence == Presence::Gone || !host.is_up(self.now_ms) {
            if let Packet::Direct(_) = packet {
                let key = self.hosts[to].keys.public();
                self.input(from, Input::Unreachable(key));
            }
            return;
        }
        if host.still_until_ms > self.now_ms {
            // It is in the sockets' buffers.
            let at = host.still_until_ms;
            return self.at(at, Event::Deliver { from, to, packet });
        }
        let old = host.age == Age::Old;
        self.traffic.arrived(to, &packet, self.now_ms);
        self.tally.delivered += 1;
        self.trace.update(&self.now_ms.to_le_bytes());
        self.trace.update(&(to as u64).to_le_bytes());
        match packet {
            Packet::Direct(direct) => {
                let (mut message, digest) = *direct;
                self.trace.update(&digest.0);
                if let Message::Records(records) = &mut message
                    && old
                {
                    records.retain(|record| !is_newest(record));
                }
                let key = self.hosts[from].keys.public();
                self.overhear(to, &message);
                self.input(to, Input::Message { from: key, message });
            }
            Packet::Gossip(record) => {
                self.trace.update(&record.digest().0);
                // What an old agent can't read, it doesn't pass on either.
                if !(old && is_newest(&record)) && self.hosts[to].gossip.note(&record) {
                    self.spread(to, from, &record);
                    self.input(to, Input::Record(record));
                }
            }
            Packet::Told(told) => {
                let lacking = self.hosts[to].gossip.lacking(self.now_ms, &told);
                if !lacking.is_empty() {
                    self.transmit(to, from, Packet::Asked(lacking));
                }
            }
            Packet::Asked(wanted) => {
                for record in self.hosts[to].gossip.remembered(&wanted) {
                    self.transmit(to, from, Packet::Gossip(record));
                }
            }
        }
    }

    /// Sends what a host publishes to its audience.
    pub(crate) fn publish(&mut self, node: usize, record: &VerifiedRecord) {
        self.hosts[node].gossip.note(record);
        for index in 0..self.overlay.audience(node).len() {
            let peer = self.overlay.audience(node)[index];
            self.transmit(node, peer, Packet::Gossip(record.clone()));
        }
    }

    /// Passes on what is new to a host.
    fn spread(&mut self, node: usize, except: usize, record: &VerifiedRecord) {
        for index in 0..self.overlay.mesh(node).len() {
            let peer = self.overlay.mesh(node)[index];
            if peer != except {
                self.transmit(node, peer, Packet::Gossip(record.clone()));
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, node: usize, life: u32) {
        if self.hosts[node].life != life || self.hosts[node].node.is_none() {
            return;
        }
        let at = self.now_ms + HEARTBEAT_MS;
        self.at(at, Event::Heartbeat { node, life });
        if self.options.setting == Setting::Trouble {
            self.redial(node);
        }
        if self.hosts[node].answering(self.now_ms).is_none() {
            return;
        }
        let told: Arc<[Digest]> = self.hosts[node].gossip.heartbeat(self.now_ms).into();
        if !told.is_empty() {
            for peer in self.overlay.told(node, &mut self.lot) {
                self.transmit(node, peer, Packet::Told(told.clone()));
            }
        }
    }

    /// Opens the connections that can be opened, and gives up those that carry nothing any more.
    pub(crate) fn redial(&mut self, node: usize) {
        for peer in self.overlay.peers(node).to_vec() {
            let both = self.hosts[node].is_up(self.now_ms) && self.hosts[peer].is_up(self.now_ms);
            let up = if both { Up::Both } else { Up::NotBoth };
            let (own, theirs) = (self.hosts[node].keys.public(), self.hosts[peer].keys.public());
            if own == theirs {
                continue;
            }
            match self.network.look_after(node, peer, up, self.now_ms) {
                LinkChange::Opens => {
                    self.input(node, Input::Connected(theirs));
                    self.input(peer, Input::Connected(own));
                }
                LinkChange::Breaks => {
                    self.input(node, Input::Disconnected(theirs));
                    self.input(peer, Input::Disconnected(own));
                }
                LinkChange::Stays => {}
            }
        }
    }

    /// Ends all connections of a host whose agent has ended.
    pub(crate) fn hang_up(&mut self, node: usize) {
        let own = self.hosts[node].keys.public();
        for peer in self.overlay.peers(node).to_vec() {
            if self.network.hang_up(node, peer) {
                self.input(peer, Input::Disconnected(own));
            }
        }
    }
}

/// Whether a record is of the newest kind: version and kind begin what is signed.
fn is_newest(record: &VerifiedRecord) -> bool {
    let kind = record.signed().payload.get(2..6).and_then(<[u8]>::first_chunk);
    kind.is_some_and(|kind| u32::from_le_bytes(*kind) == NEWEST_RECORD_KIND)
}
