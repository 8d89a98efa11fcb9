//! The mesh as libp2p sees it: connections to members, gossip, messages, streams, and keeping strangers out.
//!
//! One task owns the swarm and everything that belongs to it; a [`MeshHandle`] asks it, and [`MeshEvent`]s come
//! from it. It moves bytes and names peers by [`PublicKey`]; what records and messages say it deliberately does
//! not know. The event loop calls it, and nobody else.
//!
//! A connection serves hello and join only, until both sides have judged each other's chain of grants:
//!
//! ```text
//!  established ──hello──► admitting ──gate open──► serving ──both serve, gossip subscribed──► connected
//!       │  ├────join────► (a grant is given; closed)
//!       │  └──operator──► operator: this one stream is served, and nothing else on the connection
//!       └── refused, too late, shunned ──► closed
//! ```
//!
//! - `gate`: protocols that a peer gets only when it is admitted
//! - `hello`, `join`: the dialogues at the door; `mln_door` has the asking sides, and streams of bytes
//! - `book`, `conduct`: who is dialled, and who is shunned (pure)
//! - `task`: the loop

mod behaviour;
mod book;
mod clock;
mod conduct;
mod counters;
mod gate;
mod handle;
mod hello;
mod join;
mod limits;
mod message;
mod port;
mod task;

#[cfg(test)]
mod join_test;
#[cfg(test)]
mod mesh_test;
#[cfg(test)]
mod operator_test;
#[cfg(test)]
mod stranger_test;
#[cfg(test)]
pub(crate) mod testbed;

use std::sync::Arc;

use libp2p::{Multiaddr, TransportError};
use mln_protocol::id::PublicKey;
use mln_protocol::trust::{AdmitError, KeyPair, Signed, Verb, admit, mesh_of};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use behaviour::{SetupError, StreamKind, gossip_config};
pub use counters::Counters;
pub use handle::{
    ConnectionStatus, GossipId, GossipVerdict, LanPeer, MeshEvent, MeshHandle, PeerStatus, RefusedBy,
    SendError,
};
pub use join::{Invitation, InviteError, JoinError, Membership, join, new_token};
pub use mln_door::streams::{MeshStream, StreamError};

use behaviour::member_swarm;
use book::Book;
use hello::Own;
use mln_door::key::keypair_of;
use task::Task;

/// Returns what this program calls itself to its peers.
fn agent() -> String {
    format!("mlnd {}", crate::version::VERSION)
}

/// What a member needs to be one.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The host's key, from which its libp2p peer id is derived.
    pub keys: KeyPair,
    /// The mesh's root key.
    pub root: PublicKey,
    /// The host's chain of grants, root first.
    pub chain: Vec<Signed>,
    /// Where to listen: `/ip4/0.0.0.0/tcp/4001`, `/ip4/0.0.0.0/udp/4001/quic-v1`.
    pub listen: Vec<Multiaddr>,
    /// The members that are known, as [`MeshEvent::AddressBook`] or [`Membership`] said.
    pub known: Vec<(PublicKey, Vec<Multiaddr>)>,
    /// How it reaches others and is reached, beyond addresses.
    pub reach: Reach,
}

/// How a member reaches others and is reached, beyond the addresses where it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether to look for members on the local network.
    pub mdns: bool,
    /// Whether others may reach each other through this host.
    pub relay: bool,
    /// Through which relays this host can be reached: addresses that end with the relay's peer id.
    pub relays: Vec<Multiaddr>,
    /// Where others can reach it, besides the addresses where it listens: a host name, a forwarded port.
    pub announce: Vec<Multiaddr>,
}

/// Why the mesh did not start. Nothing is running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host's own grants don't hold: every peer would refuse it.
    #[error("this host's own grant does not hold")]
    Grant(#[source] AdmitError),
    /// libp2p could not be set up.
    #[error("the network can't be set up")]
    Setup(#[from] SetupError),
    /// An address can't be listened on: it is in use, not ours, or not of a known transport.
    #[error("can't listen on {addr}")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// Why.
        #[source]
        source: TransportError<std::io::Error>,
    },
}

/// Starts a member of a mesh: listens, and dials those it knows. Must be called within a tokio runtime.
///
/// While events are not received, the mesh soon stops reading from the network; it still answers its handle.
pub fn start(config: MeshConfig) -> Result<(MeshHandle, mpsc::Receiver<MeshEvent>), StartError> {
    let start = Instant::now();
    let key = config.keys.public();
    admit(config.root, &config.chain, key, clock::now(start))
        .and_then(|standing| standing.allows(Verb::Join))
        .map_err(StartError::Grant)?;
    let libp2p_keys = keypair_of(&config.keys);
    let reach = config.reach;
    let mut swarm = member_swarm(libp2p_keys, mesh_of(config.root), &agent(), &reach)?;
    for address in &reach.announce {
        swarm.add_external_address(address.clone());
    }
    for addr in config.listen {
        if let Err(source) = port::is_free(&addr) {
            return Err(StartError::Listen { addr, source: TransportError::Other(source) });
        }
        if let Err(source) = swarm.listen_on(addr.clone()) {
            return Err(StartError::Listen { addr, source });
        }
    }
    let own = Arc::new(Own {
        key,
        root: config.root,
        chain: config.chain,
        agent: agent(),
        instance: u64::from_le_bytes(clock::random()),
        start,
    });
    let (commands, commands_receiver) = mpsc::channel(limits::COMMANDS_MAX);
    let (events, events_receiver) = mpsc::channel(limits::EVENTS_MAX);
    let book = Book::new(key, config.known, start);
    tokio::spawn(Task::new(swarm, own, config.keys, book, reach, commands_receiver, events).run());
    Ok((MeshHandle { commands }, events_receiver))
}
