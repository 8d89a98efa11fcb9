//! `daemon_status`, `peers` and `token new`: the mesh itself.

use std::sync::Arc;

use mln_link::Reply;
use mln_link::message::{DaemonStatusRow, HostLiveness, PeerLink, PeerRow, Role, Token};
use mln_protocol::id::Name;
use mln_protocol::node::{HostView, Reach};
use mln_protocol::trust::Verb;

use super::{answer, failure, refusal};
use crate::causes::chain;
use crate::control::ReplySender;
use crate::event_loop::EventLoop;
use crate::mesh::{Invitation, new_token};

/// After which time without a word a host is gone rather than just late, in milliseconds.
const GONE_MS: u64 = 60_000;

/// For how long a token may be good, in seconds.
const TOKEN_S_MAX: u64 = 30 * 24 * 3600;

impl EventLoop {
    pub(super) fn request_daemon_status(&self, group: Option<&Name>, reply: &ReplySender) {
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
            .hosts()
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
        let now = self.clock.now();
        let mesh = self.mesh.clone();
        tokio::spawn(async move {
            let row = |peer: crate::mesh::PeerStatus| {
                let host = hosts.iter().find(|host| host.key == peer.key);
                let heard = host.and_then(|host| host.status.as_ref()).map(|status| status.measured_unix_ms);
                let link = match (&peer.connection, heard) {
                    (Some(connection), _) => PeerLink::Connected {
                        round_trip_us: connection
                            .round_trip
                            .and_then(|time| u32::try_from(time.as_micros()).ok()),
                        since_ms: u64::try_from(connection.since.as_millis()).unwrap_or(u64::MAX),
                    },
                    (None, Some(heard)) => PeerLink::Lost { last_seen_ms: now.unix_ms.saturating_sub(heard) },
                    (None, None) => PeerLink::Never,
                };
                PeerRow {
                    name: peer.name.or_else(|| host.map(|host| host.name.clone())),
                    key: peer.key.to_string(),
                    addresses: peer.addresses.iter().map(ToString::to_string).collect(),
                    version: peer.connection.map(|connection| connection.agent),
                    link,
                }
            };
            let rows = mesh.peers().await.into_iter().map(row).collect();
            if reply.post_rows(rows, Reply::Peers).is_ok() {
                answer(&reply, []);
            }
        });
    }

    pub(super) fn request_token(&self, role: Role, ttl_s: u64, reply: ReplySender) {
        if ttl_s == 0 || ttl_s > TOKEN_S_MAX {
            let text = format!("a token is good for 1 s to {} days", TOKEN_S_MAX / 86_400);
            return answer(&reply, [refusal("token-ttl", text, None)]);
        }
        let now = self.clock.now();
        let (identity, mesh) = (Arc::clone(&self.identity), self.mesh.clone());
        tokio::spawn(async move {
            // What a service host may do: all of it; what it may pass on, its own grant bounds.
            let verbs = match role {
                Role::Host => Verb::ALL.to_vec(),
            };
            let not_after_unix_ms = now.unix_ms + ttl_s * 1000;
            let invitation = Invitation { verbs, not_after_unix_ms, addresses: mesh.listeners().await };
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
}
