//! Keeps a behaviour away from peers that were not admitted.
//!
//! A connection begins closed: the inner behaviour does not know that it exists, and none of its protocols is
//! offered on it. [`Gate::open`] hands the inner behaviour's handler to the connection; when that is in place
//! ([`GateEvent::Opened`]) the connection serves the peer, but does not yet ask it for anything, because the
//! peer may not serve us yet. [`Gate::release`] lifts that. [`Gate::shut`] makes the inner behaviour forget
//! the connection at once and closes it.
//!
//! ```text
//!  closed ──open──► opening ──(handler in place)──► serving ──release──► released
//!     └───────────────┴───────────── shut ────────────┴──────────────────────┘──► shut
//! ```
//! Unless the gate is [for each](Gate::for_each), at most one connection of a peer is open at a time, so that the two sides' inner behaviours never disagree
//! on which connection is the peer's first; who decides that is the caller.

mod handler;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

pub(super) use handler::GateHandler;
use handler::{FromGate, ToGate};

/// A behaviour that only sees connections that were opened for it.
pub(super) struct Gate<B: NetworkBehaviour> {
    inner: B,
    rule: Rule,
    connections: BTreeMap<ConnectionId, Connection>,
    outbox: VecDeque<Action<B>>,
    waker: Option<Waker>,
}

/// How many connections of a peer may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// One at a time.
    OnePerPeer,
    /// Each by itself.
    Each,
}

type Action<B> = ToSwarm<GateEvent<<B as NetworkBehaviour>::ToSwarm>, FromGate<THandler<B>>>;

/// What comes out of a [`Gate`].
#[derive(Debug)]
pub(super) enum GateEvent<E> {
    /// A connection that was to be opened now serves the peer.
    Opened(ConnectionId),
    /// The inner behaviour says something.
    Inner(E),
}

struct Connection {
    peer: PeerId,
    endpoint: ConnectedPoint,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Opened,
    Shut,
}

/// Why a connection was not opened. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// It is gone, or was opened or shut before.
    #[error("the connection is gone")]
    Gone,
    /// Another connection of the peer is open.
    #[error("another connection of the peer is open")]
    Another,
    /// The inner behaviour doesn't want it.
    #[error("a protocol refuses the connection")]
    Denied(#[source] ConnectionDenied),
}

impl<B: NetworkBehaviour> Gate<B> {
    /// Puts a gate before `inner`.
    pub(super) fn new(inner: B) -> Self {
        Self::with(inner, Rule::OnePerPeer)
    }

    /// Puts a gate before an `inner` to which connections of one peer are as those of different ones.
    pub(super) fn for_each(inner: B) -> Self {
        Self::with(inner, Rule::Each)
    }

    fn with(inner: B, rule: Rule) -> Self {
        Self { inner, rule, connections: BTreeMap::new(), outbox: VecDeque::new(), waker: None }
    }

    /// Returns the behaviour behind the gate.
    pub(super) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Begins to serve a peer on a connection; [`GateEvent::Opened`] says when that has happened.
    pub(super) fn open(&mut self, id: ConnectionId) -> Result<(), OpenError> {
        let connection = self.connections.get(&id).ok_or(OpenError::Gone)?;
        if connection.state != State::Closed {
            return Err(OpenError::Gone);
        }
        let (peer, endpoint) = (connection.peer, connection.endpoint.clone());
        if self.rule == Rule::OnePerPeer && self.opened(peer).is_some() {
            return Err(OpenError::Another);
        }
        let handler = match &endpoint {
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                self.inner.handle_established_inbound_connection(id, peer, local_addr, send_back_addr)
            }
            ConnectedPoint::Dialer { address, role_override, port_use } => self
                .inner
                .handle_established_outbound_connection(id, peer, address, *role_override, *port_use),
        };
        let handler = Box::new(handler.map_err(OpenError::Denied)?);
        self.notify(peer, id, FromGate::Open(handler));
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = State::Opened;
        }
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        Ok(())
    }

    /// Lets the inner behaviour ask the peer for streams on an opened connection.
    pub(super) fn release(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id) {
            self.notify(connection.peer, id, FromGate::Release);
        }
    }

    /// Makes the inner behaviour forget a connection at once, and closes it.
    pub(super) fn shut(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (peer, before) = (connection.peer, connection.state);
        let endpoint = connection.endpoint.clone();
        connection.state = State::Shut;
        if before == State::Opened {
            self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id: peer,
                connection_id: id,
                endpoint: &endpoint,
                cause: None,
                remaining_established: 0,
            }));
        }
        self.push(ToSwarm::CloseConnection { peer_id: peer, connection: CloseConnection::One(id) });
    }

    fn opened(&self, peer: PeerId) -> Option<ConnectionId> {
        let open = |c: &Connection| c.peer == peer && c.state == State::Opened;
        self.connections.iter().find(|(_, connection)| open(connection)).map(|(id, _)| *id)
    }

    fn notify(&mut self, peer_id: PeerId, id: ConnectionId, event: FromGate<THandler<B>>) {
        self.push(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(id), event });
    }

    fn push(&mut self, action: Action<B>) {
        self.outbox.push_back(action);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|c| c.state == State::Opened)
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = GateHandler<THandler<B>>;
    type ToSwarm = GateEvent<B::ToSwarm>;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(GateHandler::closed())
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(GateHandler::closed())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let connection =
                    Connection { peer: peer_id, endpoint: endpoint.clone(), state: State::Closed };
                self.connections.insert(connection_id, connection);
            }
            FromSwarm::ConnectionClosed(closed) => {
                let known = self.connections.remove(&closed.connection_id);
                if known.is_some_and(|c| c.state == State::Opened) {
                    self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                        remaining_established: 0,
                        ..closed
                    }));
                }
            }
            FromSwarm::AddressChange(AddressChange { connection_id, new, .. }) => {
                if let Some(connection) = self.connections.get_mut(&connection_id) {
                    connection.endpoint = new.clone();
                }
                if self.is_open(connection_id) {
                    self.inner.on_swarm_event(event);
                }
            }
            _ => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        if !self.is_open(id) {
            return;
        }
        match event {
            ToGate::Opened => self.push(ToSwarm::GenerateEvent(GateEvent::Opened(id))),
            ToGate::Inner(event) => self.inner.on_connection_handler_event(peer, id, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.outbox.pop_front() {
                return Poll::Ready(action);
            }
            let Poll::Ready(action) = self.inner.poll(cx) else {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            match action {
                ToSwarm::NotifyHandler { peer_id, handler, event } => {
                    // "Any" may only mean a connection that the inner behaviour knows.
                    let id = match handler {
                        NotifyHandler::One(id) => Some(id).filter(|id| self.is_open(*id)),
                        NotifyHandler::Any => self.opened(peer_id),
                    };
                    if let Some(id) = id {
                        self.notify(peer_id, id, FromGate::Inner(event));
                    }
                }
                other => return Poll::Ready(other.map_in(FromGate::Inner).map_out(GateEvent::Inner)),
            }
        }
    }
}
