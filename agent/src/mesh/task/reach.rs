//! How members reach each other beyond the addresses in the book: names, the local network, relays.

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, mdns};
use mln_door::key::{key_of, peer_id_of};
use mln_door::names;
use mln_protocol::id::PublicKey;
use mln_protocol::wire::HELLO_ADDRESSES_MAX;
use tokio::time::Instant;

use super::super::book::{self, Setback};
use super::super::handle::{LanPeer, MeshEvent};
use super::super::limits;
use super::Task;

/// The names in a peer's addresses were looked up: it can be dialled there.
pub(super) type Resolved = (PublicKey, Vec<Multiaddr>);

/// Where somebody was seen on the local network.
pub(super) struct Seen {
    addresses: Vec<Multiaddr>,
    at: Instant,
}

impl Task {
    /// Dials a peer whose time has come: at its addresses, and where it was seen on the local network.
    pub(super) fn dial(&mut self, key: PublicKey, mut addresses: Vec<Multiaddr>) {
        if let Some(seen) = self.lan.get(&key) {
            let new: Vec<_> = seen.addresses.iter().filter(|a| !addresses.contains(a)).cloned().collect();
            addresses.extend(new);
        }
        if !addresses.iter().any(names::has_name) {
            return self.dial_at(key, addresses);
        }
        let resolved = self.resolved_sender.clone();
        // As many as peers are dialled at a time, each for as long as a name may take.
        tokio::spawn(async move {
            let mut found = Vec::new();
            for address in &addresses {
                match names::resolve(address).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => tracing::debug!(%address, %error, "a name is not found"),
                }
            }
            // The task is gone only when the mesh shuts down.
            let _ = resolved.send((key, found)).await;
        });
    }

    pub(super) fn on_resolved(&mut self, (key, addresses): Resolved) {
        self.dial_at(key, addresses);
    }

    fn dial_at(&mut self, key: PublicKey, addresses: Vec<Multiaddr>) {
        let now = Instant::now();
        let dialled = match peer_id_of(key) {
            Some(peer) if !self.conduct.is_shunned(key, now) => {
                self.swarm.dial(DialOpts::peer_id(peer).addresses(addresses).build()).is_ok()
            }
            _ => false,
        };
        if !dialled {
            let random = self.random();
            self.book.set_back(key, Setback::Unreachable, now, random);
        }
    }

    /// Somebody is seen on the local network, or no longer. That proves nothing: it is only tried where its key is
    /// a member's, and its grants are judged as always.
    pub(super) fn on_lan(&mut self, event: mdns::Event) {
        let now = Instant::now();
        match event {
            mdns::Event::Discovered(found) => {
                for (peer, address) in found {
                    if let Some(key) = key_of(&peer) {
                        self.saw(key, book::without_peer(address), now);
                    }
                }
            }
            mdns::Event::Expired(lost) => {
                for (peer, address) in lost {
                    let Some(key) = key_of(&peer) else { continue };
                    let address = book::without_peer(address);
                    if let Some(seen) = self.lan.get_mut(&key) {
                        seen.addresses.retain(|known| *known != address);
                    }
                    self.lan.retain(|_, seen| !seen.addresses.is_empty());
                }
            }
        }
    }

    fn saw(&mut self, key: PublicKey, address: Multiaddr, now: Instant) {
        if key == self.own.key || (self.lan.len() >= limits::LAN_PEERS_MAX && !self.lan.contains_key(&key)) {
            return;
        }
        let seen = self.lan.entry(key).or_insert_with(|| Seen { addresses: Vec::new(), at: now });
        seen.at = now;
        if !seen.addresses.contains(&address) && seen.addresses.len() < HELLO_ADDRESSES_MAX {
            seen.addresses.push(address);
        }
        if self.book.knows(key) {
            self.book.hurry(key, now);
        } else {
            self.emit(MeshEvent::Discovered { peer: key });
        }
    }

    pub(super) fn lan_peers(&self) -> Vec<LanPeer> {
        let peer = |(key, seen): (&PublicKey, &Seen)| LanPeer {
            key: *key,
            known: self.book.knows(*key),
            addresses: seen.addresses.clone(),
            age: seen.at.elapsed(),
        };
        self.lan.iter().map(peer).collect()
    }

    /// Returns where others can reach us, the best first.
    pub(super) fn reachable_at(&self) -> Vec<Multiaddr> {
        let mut addresses = self.reach.announce.clone();
        // Through a relay last: it is the longer way.
        let (relayed, direct): (Vec<_>, Vec<_>) = self.swarm.listeners().partition(|a| book::is_relayed(a));
        for address in direct.into_iter().chain(relayed) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// We listen: a relay tells its users its addresses, which libp2p takes from the external ones.
    pub(super) fn on_listening(&mut self, address: &Multiaddr) {
        if self.reach.relay && !book::is_relayed(address) {
            self.swarm.add_external_address(address.clone());
        }
    }

    /// Puts the relays into the book, so that they are dialled.
    pub(super) fn learn_relays(&mut self) {
        let now = Instant::now();
        for (key, address) in relays(&self.reach.relays) {
            self.book.learn(key, vec![address], now);
        }
    }

    /// A member is connected; where it is one of our relays, we ask to be reached through it.
    pub(super) fn ask_relay(&mut self, key: PublicKey) {
        let Some((_, address)) = relays(&self.reach.relays).into_iter().find(|(relay, _)| *relay == key)
        else {
            return;
        };
        let (Some(peer), false) = (peer_id_of(key), self.circuits.contains_key(&key)) else { return };
        match self.swarm.listen_on(address.with(Protocol::P2p(peer)).with(Protocol::P2pCircuit)) {
            Ok(listener) => drop(self.circuits.insert(key, listener)),
            Err(error) => tracing::warn!(relay = ?key, %error, "the relay can't be used"),
        }
    }

    /// Something no longer listens. Where it did so at a relay, the relay is asked again after a pause.
    pub(super) fn on_not_listening(
        &mut self,
        listener: ListenerId,
        addresses: &[Multiaddr],
        reason: &Result<(), std::io::Error>,
    ) {
        let Some(key) = self.circuits.iter().find(|(_, id)| **id == listener).map(|(key, _)| *key) else {
            tracing::warn!(?addresses, ?reason, "no longer listening");
            return;
        };
        tracing::info!(relay = ?key, ?reason, "no longer reachable through the relay");
        self.circuits.remove(&key);
        self.relays_due = Some(Instant::now() + limits::RELAY_RETRY);
    }

    pub(super) fn ask_relays_due(&mut self, now: Instant) {
        if self.relays_due.is_none_or(|at| at > now) {
            return;
        }
        self.relays_due = None;
        let connected: Vec<PublicKey> =
            self.peers.iter().filter(|(_, peer)| peer.announced).map(|(key, _)| *key).collect();
        for key in connected {
            self.ask_relay(key);
        }
    }
}

/// Returns the relays of a configuration: each address ends with the peer id of its relay.
fn relays(addresses: &[Multiaddr]) -> Vec<(PublicKey, Multiaddr)> {
    let relay = |address: &Multiaddr| match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some((key_of(&peer)?, book::without_peer(address.clone()))),
        _ => None,
    };
    addresses.iter().filter_map(relay).take(limits::RELAYS_MAX).collect()
}

/// Returns the addresses to dial now: a peer's own ones alone, and those through relays once that has failed.
pub(super) fn direct_first(addresses: Vec<Multiaddr>, failures: u32) -> Vec<Multiaddr> {
    let (relayed, direct): (Vec<_>, Vec<_>) = addresses.into_iter().partition(book::is_relayed);
    if direct.is_empty() || failures > 0 { direct.into_iter().chain(relayed).collect() } else { direct }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_tried_when_the_direct_way_has_failed() {
        let direct: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("a valid address");
        let relayed = direct.clone().with(Protocol::P2pCircuit);
        let both = vec![relayed.clone(), direct.clone()];
        assert_eq!(direct_first(both.clone(), 0), vec![direct.clone()]);
        assert_eq!(direct_first(both, 1), vec![direct, relayed.clone()]);
        assert_eq!(direct_first(vec![relayed.clone()], 0), vec![relayed]);
    }
}
