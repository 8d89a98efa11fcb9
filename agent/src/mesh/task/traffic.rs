//! What passes between members: gossip, messages, streams, pings, and news of addresses.

use libp2p::gossipsub::{self, MessageAcceptance, PublishError};
use libp2p::request_response::{self, Message, OutboundRequestId};
use libp2p::{PeerId, identify, ping};
use mln_door::key::{key_of, peer_id_of};
use mln_door::streams::{MeshStream, StreamError, StreamsEvent};
use mln_protocol::id::PublicKey;
use mln_protocol::trust::mesh_of;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::super::behaviour::{Members, MembersEvent, StreamKind, topic_of};
use super::super::book::{self, Setback};
use super::super::handle::{GossipId, GossipVerdict, MeshEvent};
use super::super::limits;
use super::super::message::Parcel;
use super::Task;

type MessageEvent = request_response::Event<Parcel, ()>;

impl Task {
    pub(super) fn on_traffic(&mut self, event: MembersEvent) {
        match event {
            MembersEvent::Gossip(event) => self.on_gossip(event),
            MembersEvent::Messages(event) => self.on_message(event),
            MembersEvent::Streams(event) => self.on_stream(event),
            MembersEvent::Ping(event) => self.on_ping(event),
            MembersEvent::Identify(event) => self.on_identify(event),
            MembersEvent::Relay(event) => tracing::debug!(?event, "relay"),
            MembersEvent::Circuits(event) => tracing::debug!(?event, "through a relay"),
            MembersEvent::Punch(event) => tracing::debug!(?event, "a direct way"),
        }
    }

    fn members(&mut self) -> &mut Members {
        self.swarm.behaviour_mut().members.inner_mut()
    }

    pub(super) fn broadcast(&mut self, bytes: Vec<u8>) {
        let topic = topic_of(mesh_of(self.own.root));
        match self.members().gossip.publish(topic, bytes) {
            // The same record again within the memory of gossip: everybody has it, or repair brings it.
            Ok(_) | Err(PublishError::Duplicate) => {}
            Err(error) => {
                self.counters.gossip_unsent += 1;
                tracing::debug!(%error, "gossip not sent");
            }
        }
    }

    pub(super) fn judge_gossip(&mut self, from: PublicKey, id: &GossipId, verdict: GossipVerdict) {
        let acceptance = match verdict {
            GossipVerdict::Accept => MessageAcceptance::Accept,
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => {
                self.counters.gossip_rejected += 1;
                MessageAcceptance::Reject
            }
        };
        if let Some(source) = peer_id_of(from) {
            // False means that gossip has forgotten it: it was judged too late to be passed on.
            self.members().gossip.report_message_validation_result(&id.0, &source, acceptance);
        }
        if verdict == GossipVerdict::Reject {
            self.misbehaved(from, "rejected gossip");
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let Some(from) = key_of(&propagation_source) else { return };
                self.counters.gossip_received += 1;
                let id = GossipId(message_id);
                if message.data.len() > limits::GOSSIP_BYTES_MAX {
                    self.judge_gossip(from, &id, GossipVerdict::Reject);
                } else {
                    self.emit(MeshEvent::Gossip { from, id, bytes: message.data });
                }
            }
            gossipsub::Event::Subscribed { peer_id, .. } => {
                let Some(key) = key_of(&peer_id) else { return };
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.subscribed = true;
                }
                self.announce_if_ready(key);
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                self.close_peer(&peer_id, "it does not gossip");
            }
            gossipsub::Event::Unsubscribed { .. } | gossipsub::Event::SlowPeer { .. } => {
                tracing::debug!(?event, "gossip");
            }
        }
    }

    pub(super) fn send(&mut self, to: PublicKey, bytes: Vec<u8>) {
        let Some(peer) = self.peers.get_mut(&to) else {
            self.counters.messages_dropped += 1;
            self.book.hurry(to, Instant::now());
            return;
        };
        let queue_bytes = peer.queue_bytes + bytes.len();
        if peer.queue.len() >= limits::SEND_QUEUE_MAX || queue_bytes > limits::SEND_QUEUE_BYTES_MAX {
            self.counters.messages_dropped += 1;
            return;
        }
        peer.queue_bytes = queue_bytes;
        peer.queue.push_back(bytes);
        self.send_queued(to);
    }

    fn send_queued(&mut self, to: PublicKey) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        while peer.in_flight.len() < limits::SENDS_IN_FLIGHT_MAX {
            let Some(bytes) = peer.queue.pop_front() else { return };
            peer.queue_bytes -= bytes.len();
            let members = self.swarm.behaviour_mut().members.inner_mut();
            peer.in_flight.insert(members.messages.send_request(&peer.id, Parcel::Message(bytes)));
        }
    }

    fn on_message(&mut self, event: MessageEvent) {
        match event {
            MessageEvent::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let Some(from) = key_of(&peer) else { return };
                match request {
                    Parcel::Message(bytes) => {
                        self.counters.messages_received += 1;
                        // Fails only if the connection is gone; then the sender knows nothing, and it has arrived.
                        let _ = self.members().messages.send_response(channel, ());
                        self.emit(MeshEvent::Message { from, bytes });
                    }
                    // Dropping the channel ends the request without an answer.
                    Parcel::OverLong => self.misbehaved(from, "a message over the limit"),
                }
            }
            MessageEvent::Message { peer, message: Message::Response { request_id, .. }, .. } => {
                if self.landed(&peer, request_id) {
                    self.counters.messages_sent += 1;
                }
            }
            MessageEvent::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "message lost");
                if self.landed(&peer, request_id) {
                    self.counters.messages_dropped += 1;
                }
            }
            MessageEvent::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "message not acknowledged");
            }
            MessageEvent::ResponseSent { .. } => {}
        }
    }

    /// Takes a message off those on their way; whether it was one of the present connection.
    fn landed(&mut self, peer: &PeerId, id: OutboundRequestId) -> bool {
        let Some(key) = key_of(peer) else { return false };
        let known = self.peers.get_mut(&key).is_some_and(|peer| peer.in_flight.remove(&id));
        self.send_queued(key);
        known
    }

    pub(super) fn open_stream(
        &mut self,
        to: PublicKey,
        kind: StreamKind,
        reply: oneshot::Sender<Result<MeshStream, StreamError>>,
    ) {
        match self.peers.get(&to).filter(|peer| peer.released) {
            Some(peer) => {
                let (id, connection) = (peer.id, peer.connection);
                self.members().streams.open(id, Some(connection), kind.protocol(), reply);
            }
            None => {
                self.book.hurry(to, Instant::now());
                // Whoever asked may have gone.
                let _ = reply.send(Err(StreamError::NotConnected));
            }
        }
    }

    fn on_stream(&mut self, event: StreamsEvent) {
        match event {
            StreamsEvent::Incoming { peer, protocol, stream, .. } => {
                let (Some(from), Some(kind)) = (key_of(&peer), StreamKind::of(&protocol)) else { return };
                tokio::spawn(receive_header(from, kind, stream, self.events.clone()));
            }
            StreamsEvent::Excess { peer } => {
                self.counters.streams_excess += 1;
                if let Some(key) = key_of(&peer) {
                    self.misbehaved(key, "too many streams");
                }
            }
        }
    }

    fn on_ping(&mut self, event: ping::Event) {
        let Some(key) = key_of(&event.peer) else { return };
        match event.result {
            Ok(round_trip) => {
                if let Some(peer) = self.peers.get_mut(&key).filter(|p| p.connection == event.connection) {
                    peer.round_trip = Some(round_trip);
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                tracing::debug!(peer = ?key, %error, "no answer to a ping");
                self.close(event.connection, Setback::Lost);
            }
        }
    }

    /// Members say when their addresses change.
    fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { connection_id, peer_id, info } = event else { return };
        let Some(via) = self.connections.get(&connection_id).map(|c| c.remote.clone()) else { return };
        let listen: Vec<String> = info
            .listen_addrs
            .iter()
            .take(limits::LISTEN_ADDRESSES_READ_MAX)
            .map(ToString::to_string)
            .collect();
        if let Some(key) = key_of(&peer_id) {
            self.book.relocate(key, book::usable(&listen, &via), Instant::now());
        }
    }

    fn close_peer(&mut self, peer: &PeerId, why: &'static str) {
        let Some(id) = key_of(peer).and_then(|key| self.peers.get(&key)).map(|peer| peer.connection) else {
            return;
        };
        tracing::debug!(%peer, why, "closed");
        self.close(id, Setback::Unreachable);
    }
}

/// Receives the header of a stream that a member opened, and hands the stream over.
async fn receive_header(
    from: PublicKey,
    kind: StreamKind,
    mut stream: MeshStream,
    events: mpsc::Sender<MeshEvent>,
) {
    let header =
        timeout(limits::STREAM_HEADER_TIMEOUT, stream.read_block(limits::STREAM_HEADER_BYTES_MAX)).await;
    let Ok(Ok(header)) = header else {
        tracing::debug!(peer = ?from, ?kind, "a stream without a proper header");
        return;
    };
    // Fails only when nobody receives events any more; then the stream is dropped, which resets it.
    let _ = events.send(MeshEvent::Stream { from, kind, header, stream }).await;
}
