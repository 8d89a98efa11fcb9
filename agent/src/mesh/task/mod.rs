//! The task that owns the swarm: one loop, in which everything about connections and peers happens.

mod connections;
mod operators;
mod reach;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::trust::KeyPair;
use mln_protocol::wire::Refusal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until, timeout};

use super::behaviour::{Behaviour, BehaviourEvent};
use super::book::{self, Book, Setback};
use super::conduct::{Conduct, Offence, Verdict};
use super::counters::Counters;
use super::gate::GateEvent;
use super::handle::{Command, ConnectionStatus, MeshEvent, PeerStatus};
use super::hello::{Admitted, Own, Place, Step};
use super::{Reach, clock, limits};
use reach::{Resolved, Seen};

/// The state of the mesh; see the module.
pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    own: Arc<Own>,
    keys: KeyPair,
    book: Book,
    conduct: Conduct,
    counters: Counters,
    /// Every established connection.
    connections: BTreeMap<ConnectionId, Connection>,
    /// When a connection is closed unless it has become a member's.
    deadlines: BTreeSet<(Instant, ConnectionId)>,
    /// Peers with a connection whose gate is open.
    peers: BTreeMap<PublicKey, Peer>,
    /// Joins that are being judged.
    joins: usize,
    reach: Reach,
    /// Who was seen on the local network.
    lan: BTreeMap<PublicKey, Seen>,
    /// Relays, each with what listens there for us.
    circuits: BTreeMap<PublicKey, ListenerId>,
    /// When relays are asked again.
    relays_due: Option<Instant>,
    /// Names in addresses that were looked up.
    resolved: mpsc::Receiver<Resolved>,
    resolved_sender: mpsc::Sender<Resolved>,
    commands: mpsc::Receiver<Command>,
    /// From the dialogues on connections.
    steps: mpsc::Receiver<(Place, Step)>,
    steps_sender: mpsc::Sender<(Place, Step)>,
    events: mpsc::Sender<MeshEvent>,
    /// Events that `events` has no room for yet.
    held: VecDeque<MeshEvent>,
    held_bytes: usize,
    /// The operators that are served, each with the grants that it came with.
    operators: BTreeMap<ConnectionId, Vec<Digest>>,
    /// The grants that are good for nothing any more: as many as the node has records of them.
    revoked: BTreeSet<Digest>,
}

/// An established connection.
struct Connection {
    key: PublicKey,
    peer: PeerId,
    remote: Multiaddr,
    direction: Direction,
    phase: Phase,
    deadline: Option<Instant>,
    /// Why it ends, for the next dial.
    setback: Setback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Dialled,
    Accepted,
}

/// How far a connection has come.
#[derive(Debug)]
enum Phase {
    /// Nobody has said anything yet.
    Silent,
    /// The hello is under way.
    Hello,
    /// A join is under way.
    Join,
    /// The gate is being opened; the hello waits for it.
    Opening(oneshot::Sender<Result<(), Refusal>>),
    /// The peer is served.
    Open,
    /// An operator is let in; the hello waits for it.
    OpeningOperator(oneshot::Sender<Result<(), Refusal>>),
    /// An operator is served.
    Operator,
    /// It is being closed.
    Closing,
}

/// A peer with an open connection.
struct Peer {
    id: PeerId,
    connection: ConnectionId,
    admitted: Admitted,
    opened_at: Instant,
    /// The hello is done: both serve each other.
    released: bool,
    /// It listens to our gossip.
    subscribed: bool,
    /// [`MeshEvent::Connected`] was said.
    announced: bool,
    round_trip: Option<Duration>,
    queue: VecDeque<Vec<u8>>,
    queue_bytes: usize,
    in_flight: BTreeSet<OutboundRequestId>,
}

impl Task {
    /// A task over a swarm that listens already.
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        own: Arc<Own>,
        keys: KeyPair,
        book: Book,
        reach: Reach,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<MeshEvent>,
    ) -> Self {
        let (steps_sender, steps) = mpsc::channel(limits::STEPS_MAX);
        let (resolved_sender, resolved) = mpsc::channel(limits::STEPS_MAX);
        let mut task = Self {
            swarm,
            own,
            keys,
            book,
            conduct: Conduct::default(),
            counters: Counters::default(),
            connections: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            peers: BTreeMap::new(),
            joins: 0,
            reach,
            lan: BTreeMap::new(),
            circuits: BTreeMap::new(),
            relays_due: None,
            resolved,
            resolved_sender,
            commands,
            steps,
            steps_sender,
            events,
            held: VecDeque::new(),
            held_bytes: 0,
            operators: BTreeMap::new(),
            revoked: BTreeSet::new(),
        };
        task.learn_relays();
        task
    }

    /// Runs until it is stopped, or until nobody has a handle or receives events any more.
    pub(super) async fn run(mut self) {
        let stopped = self.serve().await;
        self.shut_down().await;
        if let Some(stopped) = stopped {
            // Whoever asked may have gone meanwhile.
            let _ = stopped.send(());
        }
    }

    async fn serve(&mut self) -> Option<oneshot::Sender<()>> {
        let events = self.events.clone();
        loop {
            let wake = self.next_wake();
            let may_read =
                self.held.len() < limits::EVENTS_HELD_MAX && self.held_bytes < limits::EVENTS_HELD_BYTES_MAX;
            // Every arm is cancel-safe: receivers and the swarm keep what they have not yet returned, a
            // reservation is made anew, and the sleep is until an instant.
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Stop(reply)) => return Some(reply),
                    Some(command) => self.on_command(command),
                    None => return None,
                },
                Some((place, step)) = self.steps.recv() => self.on_step(place, step),
                Some(resolved) = self.resolved.recv() => self.on_resolved(resolved),
                event = self.swarm.select_next_some(), if may_read => self.on_swarm_event(event),
                permit = events.reserve(), if !self.held.is_empty() => match (permit, self.held.pop_front()) {
                    (Ok(permit), Some(event)) => {
                        self.held_bytes -= event_bytes(&event);
                        permit.send(event);
                    }
                    _ => return None,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            let now = Instant::now();
            self.close_overdue(now);
            self.dial_due(now);
            self.ask_relays_due(now);
            if let Some(entries) = self.book.take_changed() {
                // A later book says all that an earlier one does.
                self.held.retain(|event| !matches!(event, MeshEvent::AddressBook { .. }));
                self.emit(MeshEvent::AddressBook { entries });
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        deadline.into_iter().chain(self.book.next_due()).chain(self.relays_due).min()
    }

    fn emit(&mut self, event: MeshEvent) {
        self.held_bytes += event_bytes(&event);
        self.held.push_back(event);
    }

    fn on_command(&mut self, command: Command) {
        // A reply whose receiver is gone interests nobody, here and below.
        match command {
            Command::Broadcast(bytes) => self.broadcast(bytes),
            Command::Send(to, bytes) => self.send(to, bytes),
            Command::Judge(from, id, verdict) => self.judge_gossip(from, &id, verdict),
            Command::OpenStream(to, kind, reply) => self.open_stream(to, kind, reply),
            Command::Misbehaved(peer, why) => self.misbehaved(peer, why),
            Command::CutOff(peer) => self.note_offence(peer, Offence::TwoInOneSlot),
            Command::Learn(peer, addresses) => self.book.learn(peer, addresses, Instant::now()),
            Command::Revoke(grant) => self.revoke(grant),
            Command::Hurry(peer) => self.book.hurry(peer, Instant::now()),
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Listeners(reply) => drop(reply.send(self.reachable_at())),
            Command::Lan(reply) => drop(reply.send(self.lan_peers())),
            Command::Counters(reply) => drop(reply.send(self.counters)),
            Command::Stop(_) => unreachable!("the loop ends on it"),
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Door(event)) => self.on_door(event),
            SwarmEvent::Behaviour(BehaviourEvent::Members(GateEvent::Opened(id))) => self.on_opened(id),
            SwarmEvent::Behaviour(BehaviourEvent::Members(GateEvent::Inner(event))) => self.on_traffic(event),
            SwarmEvent::Behaviour(BehaviourEvent::Operators(GateEvent::Opened(id))) => {
                self.on_operator_opened(id)
            }
            SwarmEvent::Behaviour(BehaviourEvent::Operators(GateEvent::Inner(event))) => {
                self.on_operator_ping(event);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Limits(never)) => match never {},
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.on_closed(connection_id),
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "dial failed");
                self.on_dial_failed(peer_id);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(%send_back_addr, %error, "incoming connection failed");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Lan(event)) => self.on_lan(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                self.on_listening(&address);
                self.emit(MeshEvent::Listening { addr: address });
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                self.on_not_listening(listener_id, &addresses, &reason);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            // The rest is about what libp2p does by itself on our behalf; the enum may grow.
            _ => {}
        }
    }

    /// Counts a misbehaviour; at the limit the peer is disconnected and shunned.
    fn misbehaved(&mut self, key: PublicKey, why: &'static str) {
        self.counters.misbehaviour += 1;
        tracing::warn!(peer = ?key, why, "misbehaviour");
        self.note_offence(key, Offence::Misbehaviour);
    }

    fn note_offence(&mut self, key: PublicKey, offence: Offence) {
        let Verdict::Shunned(pause) = self.conduct.note(key, offence, Instant::now()) else { return };
        tracing::warn!(peer = ?key, ?pause, "shunned");
        if offence == Offence::Misbehaviour {
            self.counters.expelled += 1;
        }
        let of_peer = |c: &Connection| c.key == key;
        let all: Vec<_> = self.connections.iter().filter(|(_, c)| of_peer(c)).map(|(id, _)| *id).collect();
        for id in all {
            self.close(id, Setback::Refused);
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let keys: BTreeSet<PublicKey> = self.book.keys().chain(self.peers.keys().copied()).collect();
        keys.into_iter().map(|key| self.peer_status(key)).collect()
    }

    fn peer_status(&self, key: PublicKey) -> PeerStatus {
        let peer = self.peers.get(&key).filter(|peer| peer.announced);
        let connection = peer.and_then(|peer| {
            let connection = self.connections.get(&peer.connection)?;
            Some(ConnectionStatus {
                address: connection.remote.clone(),
                relayed: book::is_relayed(&connection.remote),
                agent: peer.admitted.agent.clone(),
                since: peer.opened_at.elapsed(),
                round_trip: peer.round_trip,
            })
        });
        PeerStatus {
            key,
            name: peer.and_then(|peer| peer.admitted.standing.name.clone()),
            addresses: self.book.addresses(key).to_vec(),
            connection,
            misbehaviour: self.conduct.misbehaviour(key),
        }
    }

    /// Closes all connections in good order, so that peers notice at once.
    async fn shut_down(&mut self) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            self.swarm.close_connection(id);
        }
        let all_closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(limits::STOP_TIMEOUT, all_closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn random(&self) -> u64 {
        u64::from_le_bytes(clock::random())
    }
}

/// Returns what an event weighs against the limit of what is held.
fn event_bytes(event: &MeshEvent) -> usize {
    match event {
        MeshEvent::Gossip { bytes, .. } | MeshEvent::Message { bytes, .. } => bytes.len(),
        MeshEvent::Stream { header, .. } => header.len(),
        MeshEvent::Connected { .. }
        | MeshEvent::Disconnected { .. }
        | MeshEvent::JoinRequest { .. }
        | MeshEvent::Operator { .. }
        | MeshEvent::Discovered { .. }
        | MeshEvent::Refused { .. }
        | MeshEvent::Listening { .. }
        | MeshEvent::AddressBook { .. } => 0,
    }
}
