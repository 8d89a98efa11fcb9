//! Streams for whoever wants to speak a protocol of their own on a connection.
//!
//! Unlike `libp2p-stream`, a stream that a peer opens comes with the connection that it belongs to (a hello is
//! about a connection, not about a peer), none is dropped because its receiver is busy, and there is a limit
//! per peer.

mod handler;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, StreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Semaphore, oneshot};

pub use handler::{OpenRequest, StreamsHandler, ToStreams};
pub use stream::MeshStream;

/// Streams that a peer may have opened here at a time, over all kinds.
pub const STREAMS_PER_PEER_MAX: usize = 256;

/// Streams that wait on one connection to be opened from here.
pub const STREAMS_OPENING_MAX: usize = 64;

/// Opens streams and receives those that peers open.
pub struct Streams {
    protocols: Arc<[StreamProtocol]>,
    /// Each peer's connections, and how many more streams it may open.
    peers: BTreeMap<PeerId, PeerStreams>,
    outbox: VecDeque<ToSwarm<StreamsEvent, OpenRequest>>,
    waker: Option<Waker>,
}

struct PeerStreams {
    connections: Vec<ConnectionId>,
    permits: Arc<Semaphore>,
}

/// What comes out of [`Streams`].
#[derive(Debug)]
pub enum StreamsEvent {
    /// A peer opened a stream.
    Incoming {
        /// Who.
        peer: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// Speaking what.
        protocol: StreamProtocol,
        /// The stream.
        stream: MeshStream,
    },
    /// A peer opened more streams than it may; the one was dropped.
    Excess {
        /// Who.
        peer: PeerId,
    },
}

/// Why a stream could not be opened. Nothing changed; the caller may try again later.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer is not connected, or was disconnected meanwhile.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer doesn't speak the protocol: another version, or we are not admitted.
    #[error("the peer does not serve this kind of stream")]
    Unsupported,
    /// Too many streams wait to be opened, or the header is too long.
    #[error("over the limit of {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// The peer took too long to agree.
    #[error("the peer took too long")]
    Timeout,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({:?}, {} peers)", self.protocols, self.peers.len())
    }
}

impl Streams {
    /// Serves `protocols`.
    pub fn new(protocols: impl IntoIterator<Item = StreamProtocol>) -> Self {
        Self {
            protocols: protocols.into_iter().collect(),
            peers: BTreeMap::new(),
            outbox: VecDeque::new(),
            waker: None,
        }
    }

    /// Opens a stream on one connection of a peer, or on any.
    ///
    /// `reply` is dropped unanswered if the connection goes away.
    pub fn open(
        &mut self,
        peer_id: PeerId,
        connection: Option<ConnectionId>,
        protocol: StreamProtocol,
        reply: oneshot::Sender<Result<MeshStream, StreamError>>,
    ) {
        let connections = self.peers.get(&peer_id).map_or(&[][..], |peer| &peer.connections);
        let Some(id) = connections.iter().find(|id| connection.is_none_or(|wanted| wanted == **id)) else {
            // A receiver that is gone no longer wants the stream.
            let _ = reply.send(Err(StreamError::NotConnected));
            return;
        };
        let handler = NotifyHandler::One(*id);
        self.push(ToSwarm::NotifyHandler { peer_id, handler, event: OpenRequest { protocol, reply } });
    }

    fn push(&mut self, action: ToSwarm<StreamsEvent, OpenRequest>) {
        self.outbox.push_back(action);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn handler(&mut self, peer: PeerId) -> StreamsHandler {
        let peer = self.peers.entry(peer).or_insert_with(|| PeerStreams {
            connections: Vec::new(),
            permits: Arc::new(Semaphore::new(STREAMS_PER_PEER_MAX)),
        });
        StreamsHandler::new(self.protocols.clone(), peer.permits.clone())
    }

    fn forget_if_gone(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|p| p.connections.is_empty()) {
            self.peers.remove(&peer);
        }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = StreamsHandler;
    type ToSwarm = StreamsEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.connections.push(connection_id);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.connections.retain(|id| *id != connection_id);
                }
                self.forget_if_gone(peer_id);
            }
            // Another behaviour denied the connection after its handler was made here.
            FromSwarm::ListenFailure(failure) => {
                failure.peer_id.into_iter().for_each(|p| self.forget_if_gone(p))
            }
            FromSwarm::DialFailure(failure) => {
                failure.peer_id.into_iter().for_each(|p| self.forget_if_gone(p))
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.push(ToSwarm::GenerateEvent(match event {
            ToStreams::Incoming(protocol, stream) => {
                StreamsEvent::Incoming { peer, connection, protocol, stream }
            }
            ToStreams::Excess => StreamsEvent::Excess { peer },
        }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.outbox.pop_front() {
            Some(action) => Poll::Ready(action),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
