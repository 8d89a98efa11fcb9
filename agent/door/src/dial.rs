//! A connection to a member's door, of a program that has no other connections.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, StreamProtocol, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, noise, ping, tcp, yamux};
use mln_protocol::id::PublicKey;
use mln_protocol::trust::KeyPair;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::key::{key_of, keypair_of, peer_id_of};
use crate::names;
use crate::streams::{MeshStream, StreamError, Streams};

/// How long an attempt at one peer stays alone, before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(400);

/// How long dialling may take in all.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How many peers are tried.
pub const PEERS_TRIED_MAX: usize = 16;

/// How often the connection is tried while nothing else is said on it.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// How long an answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Somebody to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who must answer there; none is whoever does.
    pub peer: Option<PublicKey>,
    /// Where; names are looked up.
    pub addresses: Vec<Multiaddr>,
}

impl Target {
    /// Returns the target of an address, which may end with who must answer there.
    pub fn of(mut address: Multiaddr) -> Self {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => {
                address.pop();
                key_of(&peer)
            }
            _ => None,
        };
        Self { peer, addresses: vec![address] }
    }
}

/// Why there is no connection. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no address that this program can dial.
    #[error("there is no address that can be dialled")]
    NoAddress,
    /// Nobody answers, or not whom we look for; with what went wrong at each address.
    #[error("nobody answers: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// It took too long.
    #[error("no answer in {} s", DIAL_TIMEOUT.as_secs())]
    Timeout,
    /// libp2p could not be set up.
    #[error("the connection can't be set up")]
    Setup(#[from] noise::Error),
}

/// What is spoken on the connection.
#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: Streams,
    ping: ping::Behaviour,
}

/// A connection to somebody's door. Dropping it closes the connection.
pub struct Door {
    swarm: Swarm<Behaviour>,
    peer: PeerId,
    key: PublicKey,
    connection: ConnectionId,
    via: Multiaddr,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Door(of {} at {})", self.key.short(), self.via)
    }
}

/// Keeps a connection alive for its streams; dropping it closes the connection.
#[derive(Debug)]
pub struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Dials targets, the first one first, and returns the first connection.
pub async fn dial(keys: &KeyPair, targets: &[Target]) -> Result<Door, ConnectError> {
    timeout(DIAL_TIMEOUT, dial_staggered(keys, targets)).await.map_err(|_| ConnectError::Timeout)?
}

async fn dial_staggered(keys: &KeyPair, targets: &[Target]) -> Result<Door, ConnectError> {
    let mut swarm = swarm(keys)?;
    let mut waiting = targets.iter().take(PEERS_TRIED_MAX);
    let mut failures = Vec::new();
    // What is under way: so many attempts, each counted by its connection.
    let mut under_way: BTreeMap<ConnectionId, ()> = BTreeMap::new();
    let mut next_at = Instant::now();
    let mut all_tried = false;
    loop {
        if all_tried && under_way.is_empty() {
            let none = failures.is_empty();
            return Err(if none { ConnectError::NoAddress } else { ConnectError::Unreachable(failures) });
        }
        // Both arms are cancel-safe: the swarm keeps its state, and the sleep is until an instant.
        tokio::select! {
            () = sleep_until(next_at), if !all_tried => match waiting.next() {
                Some(target) => {
                    for attempt in attempts(target, &mut failures).await {
                        let id = attempt.connection_id();
                        match swarm.dial(attempt) {
                            Ok(()) => drop(under_way.insert(id, ())),
                            Err(error) => failures.push(told(&error)),
                        }
                    }
                    next_at = Instant::now() + STAGGER;
                }
                None => all_tried = true,
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                    let Some(key) = key_of(&peer_id) else {
                        failures.push("who answers has no ed25519 key".to_owned());
                        under_way.remove(&connection_id);
                        continue;
                    };
                    let via = without_peer(endpoint.get_remote_address().clone());
                    return Ok(Door { swarm, peer: peer_id, key, connection: connection_id, via });
                }
                SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                    under_way.remove(&connection_id);
                    failures.push(told(&error));
                    next_at = next_at.min(Instant::now());
                }
                _ => {}
            },
        }
    }
}

/// Returns what to dial for a target, its names looked up.
async fn attempts(target: &Target, failures: &mut Vec<String>) -> Vec<DialOpts> {
    let mut addresses = Vec::new();
    for address in &target.addresses {
        match names::resolve(address).await {
            Ok(resolved) => addresses.extend(resolved),
            Err(error) => failures.push(match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
    if addresses.is_empty() {
        return Vec::new();
    }
    match target.peer.and_then(peer_id_of) {
        Some(peer) => vec![DialOpts::peer_id(peer).addresses(addresses).build()],
        None => addresses.into_iter().map(|a| DialOpts::unknown_peer_id().address(a).build()).collect(),
    }
}

/// Tells an error of a dial as people need it: what was wrong at each address.
fn told(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let each = errors.iter().map(|(address, error)| {
                let mut why = error.to_string().trim_start_matches(": ").to_owned();
                let mut cause = std::error::Error::source(error);
                while let Some(inner) = cause {
                    // libp2p's errors often repeat what is behind them.
                    let told = inner.to_string();
                    let told = told.trim_start_matches(": ");
                    if why.is_empty() {
                        why = told.to_owned();
                    } else if !why.contains(told) {
                        why = format!("{why}: {told}");
                    }
                    cause = inner.source();
                }
                format!("{}: {why}", without_peer(address.clone()))
            });
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::WrongPeerId { obtained, address } => {
            format!("{}: somebody else answers there, {obtained}", without_peer(address.clone()))
        }
        other => other.to_string(),
    }
}

fn swarm(keys: &KeyPair) -> Result<Swarm<Behaviour>, noise::Error> {
    let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
    let behaviour = Behaviour { streams: Streams::new([]), ping: ping::Behaviour::new(ping) };
    let builder = SwarmBuilder::with_existing_identity(keypair_of(keys)).with_tokio().with_tcp(
        tcp::Config::default().nodelay(true),
        noise::Config::new,
        yamux::Config::default,
    )?;
    #[cfg(feature = "quic")]
    let builder = builder.with_quic();
    let Ok(builder) = builder.with_behaviour(|_| behaviour);
    Ok(builder.with_swarm_config(|config| config.with_idle_connection_timeout(Duration::MAX)).build())
}

/// Returns an address without the peer id that may end it: keys are kept beside addresses.
pub fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

impl Door {
    /// Returns who answered.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Returns where they answered.
    pub fn via(&self) -> &Multiaddr {
        &self.via
    }

    /// Opens a stream; the connection lives as long as the driver that comes with it.
    pub async fn open(mut self, protocol: StreamProtocol) -> Result<(MeshStream, Driver), StreamError> {
        let (reply, stream) = oneshot::channel();
        self.swarm.behaviour_mut().streams.open(self.peer, Some(self.connection), protocol, reply);
        let connection = self.connection;
        let driver = Driver(tokio::spawn(async move {
            loop {
                match self.swarm.select_next_some().await {
                    // Without its connection, the streams have ended as well.
                    SwarmEvent::ConnectionClosed { connection_id, .. } if connection_id == connection => {
                        return;
                    }
                    SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                        result: Err(error), ..
                    })) if !matches!(error, ping::Failure::Unsupported) => {
                        tracing::debug!(%error, "no answer to a ping");
                        return;
                    }
                    _ => {}
                }
            }
        }));
        let stream = stream.await.map_err(|_| StreamError::NotConnected)??;
        Ok((stream, driver))
    }
}
