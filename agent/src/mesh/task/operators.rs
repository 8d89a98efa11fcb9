//! Operators: whoever asks without being a host. A connection of theirs serves one stream, and is gone with it.
//!
//! They are in no book and no gossip, and nothing is ever opened towards them but pings, which tell when they are
//! gone.

use libp2p::ping;
use libp2p::swarm::ConnectionId;
use mln_door::streams::MeshStream;
use mln_protocol::id::Digest;
use mln_protocol::trust::Standing;
use mln_protocol::wire::Refusal;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::super::book::Setback;
use super::super::handle::MeshEvent;
use super::super::hello::Place;
use super::super::{clock, limits};
use super::{Peer, Phase, Task};

impl Task {
    /// Lets an operator in whose chain was judged good.
    pub(super) fn admit_operator(
        &mut self,
        id: ConnectionId,
        grants: Vec<Digest>,
        reply: oneshot::Sender<Result<(), Refusal>>,
    ) {
        if self.is_revoked(grants.iter().copied()) {
            // A dialogue that has gone doesn't wait for the answer.
            let _ = reply.send(Err(Refusal::Revoked));
            return;
        }
        let is_operator = |phase: &Phase| matches!(phase, Phase::OpeningOperator(_) | Phase::Operator);
        let operators = self.connections.values().filter(|c| is_operator(&c.phase)).count();
        let opened =
            operators < limits::OPERATORS_MAX && self.swarm.behaviour_mut().operators.open(id).is_ok();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if opened {
            self.operators.insert(id, grants);
            connection.phase = Phase::OpeningOperator(reply);
        } else {
            // A dialogue that has gone doesn't wait for the answer.
            let _ = reply.send(Err(Refusal::Busy));
        }
    }

    pub(super) fn is_revoked(&self, mut grants: impl Iterator<Item = Digest>) -> bool {
        grants.any(|grant| self.revoked.contains(&grant))
    }

    /// Serves nobody any more who came with a grant.
    pub(super) fn revoke(&mut self, grant: Digest) {
        if !self.revoked.insert(grant) {
            return;
        }
        let has_it = |grants: &Vec<Digest>| grants.contains(&grant);
        let operators: Vec<ConnectionId> =
            self.operators.iter().filter(|(_, grants)| has_it(grants)).map(|(id, _)| *id).collect();
        let of_member = |peer: &&Peer| peer.admitted.standing.links.iter().any(|link| link.digest == grant);
        let members: Vec<ConnectionId> =
            self.peers.values().filter(of_member).map(|peer| peer.connection).collect();
        for id in operators.into_iter().chain(members) {
            if let Some(connection) = self.connections.get(&id) {
                tracing::warn!(peer = ?connection.key, "disconnected: its grant was revoked");
            }
            self.close(id, Setback::Refused);
        }
    }

    pub(super) fn on_operator_opened(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Operator) {
            Phase::OpeningOperator(reply) => {
                self.swarm.behaviour_mut().operators.release(id);
                // A dialogue that has gone has failed, and says so.
                let _ = reply.send(Ok(()));
            }
            other => connection.phase = other,
        }
    }

    pub(super) fn on_operator(&mut self, place: Place, standing: Standing, stream: MeshStream) {
        let is_open =
            self.connections.get(&place.connection).is_some_and(|c| matches!(c.phase, Phase::Operator));
        if is_open {
            // A console that is left open must not outlive the grant that opened it.
            let unix_ms = clock::now(self.own.start).unix_ms;
            let left =
                standing.not_after_unix_ms.map(|end| Duration::from_millis(end.saturating_sub(unix_ms)));
            let time = left.unwrap_or(limits::OPERATOR_TIMEOUT).min(limits::OPERATOR_TIMEOUT);
            self.set_deadline(place.connection, Some(Instant::now() + time));
            self.counters.operators += 1;
            self.emit(MeshEvent::Operator { key: place.peer, standing, stream });
        }
    }

    pub(super) fn on_operator_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(_) | Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                tracing::debug!(peer = %event.peer, %error, "an operator is gone");
                self.close(event.connection, Setback::Lost);
            }
        }
    }
}
