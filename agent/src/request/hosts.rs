//! `daemon_status`, `peers` and `token new`: the mesh itself.

use std::sync::Arc;

use mln_link::Reply;
use mln_link::message::{DaemonStatusRow, HostLiveness, LanRow, OperatorToken, PeerLink, PeerRow, Token};
use mln_protocol::id::Name;
use mln_protocol::node::{HostView, Reach};
use mln_protocol::trust::Verb;

use super::{answer, failure, refusal};
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender, Verbs};
use crate::event_loop::EventLoop;
use crate::mesh::{Invitation, LanPeer, PeerStatus, new_token};

/// After which time without a word a host is gone rather than just late, in milliseconds.
const GONE_MS: u64 = 60_000;

/// For how long a token may be good, in seconds.
const TOKEN_S_MAX: u64 = 30 * 24 * 3600;

impl EventLoop {
    pub(super) fn request_daemon_status(&self, group: Option<&Name>, reply: &ReplySender) {
        if let Some(text) = self.warning() {
            // The rows are worth more, and whoever has gone misses neither.
            let _ = reply.post(Reply::Warning { text });
        }
        let now = self.clock.now();
        let row = |host: HostView| {
            let status = host.status?;
            let age_ms = match host.reach {
                Reach::Here => 0,
                Reach::Connected | Reach::Away => now.unix_ms.saturating_sub(status.measured_unix_ms),
            };
            Some(DaemonStatusRow {
                name: host.name,
                projects: status.projects,
                vms: status.vms,
                memory_used_mib: status.memory_used.0.into(),
                memory_available_mib: status.memory_limit.0.saturating_sub(status.memory_used.0).into(),
                groups: status.groups,
                age_ms,
                liveness: match host.reach {
                    Reach::Here | Reach::Connected => HostLiveness::Alive,
                    Reach::Away if age_ms < GONE_MS => HostLiveness::Suspect,
                    Reach::Away => HostLiveness::Gone,
                },
            })
        };
        let rows: Vec<DaemonStatusRow> = self
            .node
            .hosts_by_introduction()
            .into_iter()
            .filter_map(row)
            .filter(|row| group.is_none_or(|group| row.groups.contains(group)))
            .collect();
        if reply.post_rows(rows, Reply::DaemonStatus).is_ok() {
            answer(reply, []);
        }
    }

    pub(super) fn request_peers(&self, reply: ReplySender) {
        let hosts = self.node.hosts();
        let own = self.node.key();
        let now = self.clock.now();
        let mesh = self.mesh.clone();
        tokio::spawn(async move {
            let mut peers = mesh.peers().await;
            // Members that are known from their records alone: nobody could say where they are.
            for host in hosts.iter().filter(|host| host.key != own) {
                if !peers.iter().any(|peer| peer.key == host.key) {
                    peers.push(PeerStatus {
                        key: host.key,
                        name: Some(host.name.clone()),
                        addresses: Vec::new(),
                        connection: None,
                        misbehaviour: 0,
                    });
                }
            }
            let row = |peer: PeerStatus| {
                let host = hosts.iter().find(|host| host.key == peer.key);
                peer_row(peer, host, now.unix_ms)
            };
            let rows = peers.into_iter().map(row).collect();
            if reply.post_rows(rows, Reply::Peers).is_ok() {
                answer(&reply, []);
            }
        });
    }

    /// A token for a host: it may do all that this one may.
    pub(super) fn request_host_token(&self, ttl_s: u64, reply: ReplySender) {
        self.make_token(ttl_s, Verb::ALL.to_vec(), None, reply);
    }

    /// A token for an operator: never for more than whoever asks may do, so that nobody gains by inviting.
    pub(super) fn request_operator_token(
        &self,
        token: OperatorToken,
        asked_by: &Operator,
        reply: ReplySender,
    ) {
        let wanted = Verbs::of_bits(token.verbs);
        if asked_by.standing.is_some() {
            let text =
                "a token would be signed by this host, and so could give more than you have, or for longer";
            let change = "you, by signing it yourself: mlnctl grant --to KEY";
            return answer(&reply, [refusal("grant", text.to_owned(), Some(change))]);
        }
        let excess = match asked_by.origin {
            Origin::Operator { verbs, .. } => wanted.iter().find(|verb| !verbs.contains(*verb)),
            Origin::Socket { .. } | Origin::Peer { .. } => None,
        };
        if let Some(verb) = excess {
            let text = format!("{} may not {} and so can't let others do it", asked_by.name, verb.word());
            return answer(&reply, [refusal("grant", text, Some("whoever gave the grant"))]);
        }
        if wanted.contains(Verb::Join) || !wanted.contains(Verb::View) {
            let text = "an operator may view, and is no host (join)".to_owned();
            let change = "you, by other words after --may; for a host: mlnctl token new --role host";
            return answer(&reply, [refusal("token-verbs", text, Some(change))]);
        }
        self.make_token(token.ttl_s, wanted.iter().collect(), token.name, reply);
    }

    fn make_token(&self, ttl_s: u64, verbs: Vec<Verb>, name: Option<Name>, reply: ReplySender) {
        if ttl_s == 0 || ttl_s > TOKEN_S_MAX {
            let text = format!("a token is good for 1 s to {} days", TOKEN_S_MAX / 86_400);
            return answer(&reply, [refusal("token-ttl", text, None)]);
        }
        let now = self.clock.now();
        let (identity, mesh) = (Arc::clone(&self.identity), self.mesh.clone());
        tokio::spawn(async move {
            let not_after_unix_ms = now.unix_ms + ttl_s * 1000;
            let addresses = mesh.listeners().await;
            let invitation = Invitation { verbs, name, not_after_unix_ms, addresses };
            let made = new_token(&identity.keys, identity.root, &identity.chain, &invitation, now);
            let message = match made {
                Ok(token) => {
                    Reply::Token(Token { text: token.to_text(), expires_unix_ms: not_after_unix_ms })
                }
                Err(error) => {
                    failure("making a token", chain(&error), &["mlnctl token new   # at another host"])
                }
            };
            answer(&reply, [message]);
        });
    }

    /// Who is seen on the local network, members or not.
    pub(super) fn request_peers_lan(&self, reply: ReplySender) {
        let hosts = self.node.hosts();
        let mesh = self.mesh.clone();
        tokio::spawn(async move {
            let row = |seen: LanPeer| {
                let host = hosts.iter().find(|host| host.key == seen.key);
                LanRow {
                    name: host.map(|host| host.name.clone()),
                    key: seen.key.to_string(),
                    member: seen.known || host.is_some(),
                    addresses: seen.addresses.iter().map(ToString::to_string).collect(),
                    age_ms: u64::try_from(seen.age.as_millis()).unwrap_or(u64::MAX),
                }
            };
            let rows = mesh.lan().await.into_iter().map(row).collect();
            if reply.post_rows(rows, Reply::Lan).is_ok() {
                answer(&reply, []);
            }
        });
    }
}

/// Returns the row of a peer: what the connection says, and else what the host last said of itself.
fn peer_row(peer: PeerStatus, host: Option<&HostView>, now_unix_ms: u64) -> PeerRow {
    let status = host.and_then(|host| host.status.as_ref());
    let link = match (&peer.connection, status) {
        (Some(connection), _) => PeerLink::Connected {
            round_trip_us: connection.round_trip.and_then(|time| u32::try_from(time.as_micros()).ok()),
            since_ms: u64::try_from(connection.since.as_millis()).unwrap_or(u64::MAX),
        },
        (None, Some(status)) => {
            PeerLink::Lost { last_seen_ms: now_unix_ms.saturating_sub(status.measured_unix_ms) }
        }
        (None, None) => PeerLink::Never,
    };
    let mut addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    if let Some(connection) = &peer.connection {
        // Who dialled us comes from a port where nobody listens; whether it is through a relay is told all the same.
        let in_use = connection.address.to_string();
        if connection.relayed || addresses.contains(&in_use) {
            addresses.retain(|address| *address != in_use);
            addresses.insert(0, in_use);
        }
    }
    PeerRow {
        name: peer.name.or_else(|| host.map(|host| host.name.clone())),
        key: peer.key.to_string(),
        addresses,
        version: peer
            .connection
            .map(|connection| connection.agent)
            .or_else(|| status.map(|status| format!("mlnd {}", status.agent_version))),
        link,
    }
}
