//! From a connection to a member, and back: dialling, hello, join, the gate, and what ends them.

use libp2p::PeerId;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::ConnectionId;
use mln_door::key::key_of;
use mln_door::streams::{MeshStream, StreamsEvent};
use mln_door::{JOIN_PROTOCOL, OPERATOR_PROTOCOL};
use mln_protocol::id::PublicKey;
use mln_protocol::wire::{HELLO_ADDRESSES_MAX, Introduction, PeerAddresses, Refusal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::behaviour::HELLO_PROTOCOL;
use super::super::book::{self, Setback};
use super::super::conduct::Offence;
use super::super::handle::{MeshEvent, RefusedBy};
use super::super::hello::{Admitted, Dialogue, HelloError, Place, Step};
use super::super::join::{Introduced, Introducer};
use super::super::limits;
use super::reach::direct_first;
use super::{Connection, Direction, Peer, Phase, Task};

impl Task {
    /// Dials all those whose time has come.
    pub(super) fn dial_due(&mut self, now: Instant) {
        while let Some((key, addresses)) = self.book.due(now) {
            let failures = self.book.failures(key);
            self.dial(key, direct_first(addresses, failures));
        }
    }

    pub(super) fn on_dial_failed(&mut self, peer: Option<PeerId>) {
        self.counters.dials_failed += 1;
        let Some(key) = peer.as_ref().and_then(key_of) else { return };
        self.set_back_if_alone(key, Setback::Unreachable);
    }

    pub(super) fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = Instant::now();
        let Some(key) = key_of(&peer) else {
            self.swarm.close_connection(id);
            return;
        };
        // Where both dial at once to get through a NAT, one of them has agreed to be the one that is called.
        let direction = match endpoint {
            ConnectedPoint::Dialer { role_override: Endpoint::Dialer, .. } => Direction::Dialled,
            ConnectedPoint::Dialer { .. } | ConnectedPoint::Listener { .. } => Direction::Accepted,
        };
        let deadline = now + limits::HELLO_TIMEOUT;
        self.deadlines.insert((deadline, id));
        let remote = book::without_peer(match endpoint {
            // Whoever comes through a relay has no address there; that of the relay is what is known of the way.
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => local_addr.clone(),
            ConnectedPoint::Listener { .. } | ConnectedPoint::Dialer { .. } => {
                endpoint.get_remote_address().clone()
            }
        });
        let place = Place { connection: id, peer: key, addr: remote.clone() };
        let connection = Connection {
            key,
            peer,
            remote,
            direction,
            phase: Phase::Silent,
            deadline: Some(deadline),
            setback: Setback::Unreachable,
        };
        self.connections.insert(id, connection);
        if self.conduct.is_shunned(key, now) {
            self.counters.shunned += 1;
            self.close(id, Setback::Refused);
        } else if direction == Direction::Dialled {
            let (reply, stream) = oneshot::channel();
            self.swarm.behaviour_mut().door.open(peer, Some(id), HELLO_PROTOCOL, reply);
            self.set_phase(id, Phase::Hello);
            tokio::spawn(self.dialogue(place).dial(stream));
        }
    }

    pub(super) fn on_closed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.operators.remove(&id);
        if let Some(deadline) = connection.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        let was_open = self.peers.get(&connection.key).is_some_and(|peer| peer.connection == id);
        let announced = was_open && self.forget_peer(connection.key);
        let setback = if announced && connection.setback == Setback::Unreachable {
            Setback::Lost
        } else {
            connection.setback
        };
        if was_open || connection.direction == Direction::Dialled {
            self.set_back_if_alone(connection.key, setback);
        }
    }

    /// Somebody opened a stream at the door.
    pub(super) fn on_door(&mut self, event: StreamsEvent) {
        let (connection, protocol, stream) = match event {
            StreamsEvent::Incoming { connection, protocol, stream, .. } => (connection, protocol, stream),
            StreamsEvent::Excess { .. } => {
                self.counters.streams_excess += 1;
                return;
            }
        };
        let Some(state) = self.connections.get(&connection) else { return };
        // One dialogue per connection: what comes after the first is dropped, which resets it.
        if !matches!(state.phase, Phase::Silent) {
            return;
        }
        let place = Place { connection, peer: state.key, addr: state.remote.clone() };
        if protocol == HELLO_PROTOCOL {
            self.set_phase(connection, Phase::Hello);
            tokio::spawn(self.dialogue(place).answer(stream));
        } else if protocol == JOIN_PROTOCOL {
            self.introduce(place, stream);
        } else if protocol == OPERATOR_PROTOCOL {
            self.set_phase(connection, Phase::Hello);
            tokio::spawn(self.dialogue(place).answer_operator(stream));
        }
    }

    fn dialogue(&self, place: Place) -> Dialogue {
        Dialogue { own: self.own.clone(), place, steps: self.steps_sender.clone() }
    }

    fn introduce(&mut self, place: Place, stream: MeshStream) {
        let id = place.connection;
        if self.joins >= limits::JOINS_MAX {
            self.counters.joins_refused += 1;
            self.close(id, Setback::Refused);
            return;
        }
        self.joins += 1;
        self.set_phase(id, Phase::Join);
        self.set_deadline(id, Some(Instant::now() + limits::JOIN_TIMEOUT));
        let mut known = vec![PeerAddresses { key: self.own.key, addresses: self.listen_texts() }];
        known.extend(self.book.introduction());
        let introducer = Introducer {
            own: self.own.clone(),
            keys: self.keys.clone(),
            host: place.peer,
            events: self.events.clone(),
            known,
        };
        let steps = self.steps_sender.clone();
        tokio::spawn(async move {
            let outcome = introducer.introduce(stream).await;
            // The task is gone only when the mesh shuts down.
            let _ = steps.send((place, Step::JoinEnded(outcome))).await;
        });
    }

    pub(super) fn on_step(&mut self, place: Place, step: Step) {
        let id = place.connection;
        match step {
            // A dialogue that has gone doesn't wait for the answer.
            Step::Introduce(reply) => drop(reply.send(self.introduction())),
            Step::Admit(admitted, reply) => self.admit(id, admitted, reply),
            Step::Done(theirs) => self.on_hello_done(id, &theirs),
            Step::Failed(error) => self.on_hello_failed(place, &error),
            Step::JoinEnded(outcome) => self.on_join_ended(place, &outcome),
            Step::AdmitOperator(grants, reply) => self.admit_operator(id, grants, reply),
            Step::Operator(standing, stream) => self.on_operator(place, standing, stream),
        }
    }

    fn introduction(&self) -> Introduction {
        Introduction { listen: self.listen_texts(), peers: self.book.introduction() }
    }

    fn listen_texts(&self) -> Vec<String> {
        self.reachable_at().iter().take(HELLO_ADDRESSES_MAX).map(ToString::to_string).collect()
    }

    /// Opens the gate for a peer whose chain was judged good, unless it is served already.
    fn admit(&mut self, id: ConnectionId, admitted: Admitted, reply: oneshot::Sender<Result<(), Refusal>>) {
        let grants = admitted.standing.links.iter().map(|link| link.digest);
        let verdict =
            if self.is_revoked(grants) { Err(Refusal::Revoked) } else { self.make_only(id, &admitted) };
        let opened = verdict.and_then(|()| {
            self.swarm.behaviour_mut().members.open(id).map_err(|error| {
                tracing::debug!(%error, "the gate stays closed");
                Refusal::Busy
            })
        });
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Err(why) = opened {
            // A dialogue that has gone doesn't wait for the answer.
            let _ = reply.send(Err(why));
            return;
        }
        connection.phase = Phase::Opening(reply);
        let peer = Peer {
            id: connection.peer,
            connection: id,
            admitted,
            opened_at: Instant::now(),
            released: false,
            subscribed: false,
            announced: false,
            round_trip: None,
            queue: Default::default(),
            queue_bytes: 0,
            in_flight: Default::default(),
        };
        self.peers.insert(connection.key, peer);
    }

    /// Decides between a new connection and one that is open, so that both sides keep the same one.
    ///
    /// Who dials has no open connection; so one that we hold is stale, unless it was dialled by us at the same
    /// time: of two crossing dials that of the smaller key stays.
    fn make_only(&mut self, id: ConnectionId, admitted: &Admitted) -> Result<(), Refusal> {
        let Some(connection) = self.connections.get(&id) else { return Err(Refusal::Busy) };
        let Some(peer) = self.peers.get(&connection.key) else { return Ok(()) };
        let other = self.connections.get(&peer.connection);
        // The direct way is better than the one through a relay, whoever dialled.
        let better = !book::is_relayed(&connection.remote)
            && other.is_some_and(|other| book::is_relayed(&other.remote));
        if better {
            let relayed = peer.connection;
            self.close(relayed, Setback::Lost);
            return Ok(());
        }
        if connection.direction == Direction::Dialled {
            return Err(Refusal::Duplicate);
        }
        let crossing = other.is_some_and(|other| other.direction == Direction::Dialled)
            && peer.admitted.instance == admitted.instance
            && peer.opened_at.elapsed() < limits::CROSSING_DIALS;
        if crossing && self.own.key < connection.key {
            return Err(Refusal::Duplicate);
        }
        let stale = peer.connection;
        self.close(stale, Setback::Lost);
        Ok(())
    }

    /// The gate is open: the hello can go on.
    pub(super) fn on_opened(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Open) {
            // A dialogue that has gone has failed, and says so.
            Phase::Opening(reply) => drop(reply.send(Ok(()))),
            other => connection.phase = other,
        }
    }

    fn on_hello_done(&mut self, id: ConnectionId, theirs: &Introduction) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (key, via) = (connection.key, connection.remote.clone());
        let dialled = connection.direction == Direction::Dialled;
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.connection == id) else { return };
        peer.released = true;
        let now = Instant::now();
        let mut addresses = book::usable(&theirs.listen, &via);
        if dialled {
            addresses.insert(0, via.clone());
        }
        self.book.admit(key, addresses, now);
        for peer in &theirs.peers {
            self.book.learn(peer.key, book::usable(&peer.addresses, &via), now);
        }
        self.counters.admitted += 1;
        self.swarm.behaviour_mut().members.release(id);
        self.announce_if_ready(key);
    }

    /// Says that a member is connected once both serve each other and gossip reaches it.
    pub(super) fn announce_if_ready(&mut self, key: PublicKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.announced || !peer.released || !peer.subscribed {
            return;
        }
        peer.announced = true;
        let (id, standing) = (peer.connection, peer.admitted.standing.clone());
        self.set_deadline(id, None);
        self.emit(MeshEvent::Connected { peer: key, standing });
        self.ask_relay(key);
    }

    fn on_hello_failed(&mut self, place: Place, error: &HelloError) {
        let Place { connection: id, peer: key, addr } = place;
        tracing::debug!(peer = ?key, %addr, %error, "no admission");
        let refused = match error {
            HelloError::Refused(Refusal::Duplicate) | HelloError::RefusedByPeer(Refusal::Duplicate) => None,
            HelloError::Refused(why) => Some((RefusedBy::Us, *why)),
            HelloError::RefusedByPeer(why) => Some((RefusedBy::Peer, *why)),
            HelloError::Unexpected | HelloError::Decode(_) | HelloError::Io(_) | HelloError::Stream(_) => {
                self.counters.hello_failed += 1;
                None
            }
        };
        if let Some((by, reason)) = refused {
            self.emit(MeshEvent::Refused { peer: key, addr, by, reason });
        }
        match refused {
            Some((RefusedBy::Us, why)) => {
                self.counters.refused += 1;
                self.close(id, Setback::Refused);
                // That we are busy is nobody's offence.
                if why != Refusal::Busy {
                    self.note_offence(key, Offence::Refusal);
                }
            }
            Some((RefusedBy::Peer, _)) => {
                self.counters.refused_by_peer += 1;
                self.close(id, Setback::Refused);
            }
            None => self.close(id, Setback::Unreachable),
        }
    }

    fn on_join_ended(&mut self, place: Place, outcome: &Introduced) {
        let Place { connection: id, peer: key, addr } = place;
        self.joins -= 1;
        self.close(id, Setback::Unreachable);
        match outcome {
            Introduced::Granted => self.counters.joins += 1,
            Introduced::Refused(reason) => {
                self.counters.joins_refused += 1;
                self.emit(MeshEvent::Refused { peer: key, addr, by: RefusedBy::Us, reason: *reason });
                self.note_offence(key, Offence::Refusal);
            }
            Introduced::Failed => self.counters.hello_failed += 1,
        }
    }

    pub(super) fn close_overdue(&mut self, now: Instant) {
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                return;
            }
            self.deadlines.remove(&(at, id));
            self.counters.hello_failed += 1;
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.deadline = None;
                tracing::debug!(peer = ?connection.key, phase = ?connection.phase, "no hello in time");
            }
            self.close(id, Setback::Unreachable);
        }
    }

    /// Closes a connection; from now on nothing is served on it.
    pub(super) fn close(&mut self, id: ConnectionId, why: Setback) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if matches!(connection.phase, Phase::Closing) {
            return;
        }
        connection.phase = Phase::Closing;
        connection.setback = why;
        self.operators.remove(&id);
        let Some(connection) = self.connections.get(&id) else { return };
        let key = connection.key;
        self.set_deadline(id, None);
        if self.peers.get(&key).is_some_and(|peer| peer.connection == id) {
            self.forget_peer(key);
        }
        self.swarm.behaviour_mut().members.shut(id);
    }

    /// Forgets a peer whose connection is gone or replaced; whether it was announced.
    fn forget_peer(&mut self, key: PublicKey) -> bool {
        let Some(peer) = self.peers.remove(&key) else { return false };
        self.counters.messages_dropped += (peer.queue.len() + peer.in_flight.len()) as u64;
        if peer.announced {
            self.emit(MeshEvent::Disconnected { peer: key });
        }
        peer.announced
    }

    /// Plans the next dial of a peer to which no other connection exists.
    fn set_back_if_alone(&mut self, key: PublicKey, why: Setback) {
        let alive = |c: &Connection| c.key == key && !matches!(c.phase, Phase::Closing);
        if !self.connections.values().any(alive) {
            let random = self.random();
            self.book.set_back(key, why, Instant::now(), random);
        }
    }

    fn set_phase(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.phase = phase;
        }
    }

    pub(super) fn set_deadline(&mut self, id: ConnectionId, deadline: Option<Instant>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut connection.deadline, deadline) {
            self.deadlines.remove(&(old, id));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, id));
        }
    }
}
