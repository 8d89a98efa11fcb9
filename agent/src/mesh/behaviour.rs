//! Which protocols are spoken, with which limits, over which transports.

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{self, MessageAuthenticity, MessageId, ValidationMode, WhitelistSubscriptionFilter};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, StreamProtocol, Swarm};
use libp2p::{SwarmBuilder, dcutr, identify, mdns, noise, ping, relay, tcp, yamux};
use mln_protocol::id::Digest;

use super::Reach;

use mln_door::{JOIN_PROTOCOL, OPERATOR_PROTOCOL};

use super::gate::Gate;
use super::limits;
use super::message::{MESSAGE_PROTOCOL, MessageCodec};
use mln_door::streams::Streams;

/// The first stream of a connection.
pub(super) const HELLO_PROTOCOL: StreamProtocol = StreamProtocol::new("/mln/hello/1");

/// What a stream between members is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKind {
    /// Frames of a virtual switch.
    Trunk,
    /// Control messages, passed on for a user.
    Control,
    /// Files of projects.
    Bulk,
    /// Images: who has which, and their chunks.
    Image,
    /// What is on the drives of VMs that move.
    Disk,
    /// Which chunks of an image a host has, as they come.
    Inventory,
}

impl StreamKind {
    const ALL: [Self; 6] = [Self::Trunk, Self::Control, Self::Bulk, Self::Image, Self::Disk, Self::Inventory];

    /// Returns its protocol's name on the wire.
    pub(super) fn protocol(self) -> StreamProtocol {
        StreamProtocol::new(match self {
            Self::Trunk => "/mln/trunk/1",
            Self::Control => "/mln/control/1",
            Self::Bulk => "/mln/bulk/1",
            Self::Image => "/mln/image/1",
            Self::Disk => "/mln/disk/1",
            Self::Inventory => "/mln/inventory/1",
        })
    }

    /// Returns what a protocol's name stands for.
    pub(super) fn of(protocol: &StreamProtocol) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.protocol() == *protocol)
    }
}

/// Everything that is spoken on a connection.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    /// Hello, join and an operator's hello: all that strangers get.
    pub(super) door: Streams,
    /// For those that were admitted.
    pub(super) members: Gate<Members>,
    /// Tells whether operators are still there; for those that were admitted as such.
    pub(super) operators: Gate<ping::Behaviour>,
    /// Sees who is on the local network, and tells that we are.
    pub(super) lan: Toggle<mdns::tokio::Behaviour>,
}

/// What is spoken among members.
#[derive(NetworkBehaviour)]
pub(super) struct Members {
    pub(super) gossip: Gossip,
    pub(super) messages: request_response::Behaviour<MessageCodec>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) streams: Streams,
    /// Lets members reach each other through us.
    relay: Toggle<relay::Behaviour>,
    /// Reaches members, and is reached by them, through others.
    circuits: relay::client::Behaviour,
    /// Tries to make a direct connection of one through a relay.
    punch: dcutr::Behaviour,
}

/// Gossip with one topic.
pub(super) type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, WhitelistSubscriptionFilter>;

/// Why the mesh could not be set up: a bug or a machine without what libp2p needs.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The encryption's keys can't be made.
    #[error("noise")]
    Noise(#[from] noise::Error),
    /// Gossip refuses its parameters.
    #[error("gossip: {0}")]
    Gossip(String),
    /// A protocol can't be set up.
    #[error("a protocol: {0}")]
    Behaviour(String),
}

/// Returns the one topic of a mesh.
pub(super) fn topic_of(mesh: Digest) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(format!("mln/{mesh}"))
}

impl Behaviour {
    /// All protocols of a member of `mesh`.
    pub(super) fn new(
        keys: &Keypair,
        mesh: Digest,
        agent: &str,
        reach: &Reach,
        circuits: relay::client::Behaviour,
    ) -> Result<Self, SetupError> {
        let own = keys.public().to_peer_id();
        // A machine where nobody can be seen is no reason not to start.
        let lan = reach.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), own));
        let lan = lan.and_then(|lan| lan.inspect_err(|error| tracing::warn!(%error, "no mDNS")).ok());
        let relay = reach.relay.then(|| relay::Behaviour::new(own, relay_limits()));
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits::CONNECTIONS_PENDING_INCOMING_MAX))
            .with_max_pending_outgoing(Some(limits::CONNECTIONS_PENDING_OUTGOING_MAX))
            .with_max_established(Some(limits::CONNECTIONS_MAX))
            .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER_MAX));
        let identify = identify::Config::new("mln/1".into(), keys.public())
            .with_agent_version(agent.to_owned())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let messages = request_response::Config::default()
            .with_request_timeout(limits::SEND_TIMEOUT)
            .with_max_concurrent_streams(limits::REQUESTS_CONCURRENT_MAX);
        let ping =
            ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIMEOUT);
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            door: Streams::new([HELLO_PROTOCOL, JOIN_PROTOCOL, OPERATOR_PROTOCOL]),
            operators: Gate::for_each(ping::Behaviour::new(ping.clone())),
            members: Gate::new(Members {
                gossip: gossip(mesh)?,
                messages: request_response::Behaviour::new(
                    [(MESSAGE_PROTOCOL, ProtocolSupport::Full)],
                    messages,
                ),
                identify: identify::Behaviour::new(identify),
                ping: ping::Behaviour::new(ping),
                streams: Streams::new(StreamKind::ALL.map(StreamKind::protocol)),
                relay: relay.into(),
                circuits,
                punch: dcutr::Behaviour::new(own),
            }),
            lan: lan.into(),
        })
    }
}

/// Returns the settings of gossip: what the simulator's model of it is held against.
///
/// Records are signed by their authors, so gossip adds neither author nor signature, and a message is named by
/// its bytes: the same record is the same message, whoever publishes it. What is new is told to a fixed number of the
/// peers that it isn't pushed to, and not to a share of them: in a large mesh there are hundreds.
///
/// # Errors
///
/// Gossip refuses these settings: a bug.
pub fn gossip_config() -> Result<gossipsub::Config, SetupError> {
    gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| MessageId::from(Digest::of(&message.data).0.to_vec()))
        .max_transmit_size(limits::GOSSIP_FRAME_BYTES_MAX)
        .gossip_factor(0.0)
        .build()
        .map_err(|error| SetupError::Gossip(error.to_string()))
}

fn gossip(mesh: Digest) -> Result<Gossip, SetupError> {
    let config = gossip_config()?;
    let topic = topic_of(mesh);
    let filter = WhitelistSubscriptionFilter([topic.hash()].into_iter().collect());
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
        .map_err(|error| SetupError::Gossip(error.to_owned()))?;
    gossip.subscribe(&topic).map_err(|error| SetupError::Gossip(error.to_string()))?;
    Ok(gossip)
}

/// What a relay takes upon itself. What passes through it is not limited: switches span hosts.
fn relay_limits() -> relay::Config {
    relay::Config {
        max_reservations: limits::RELAY_RESERVATIONS_MAX,
        max_reservations_per_peer: limits::RELAY_RESERVATIONS_PER_PEER_MAX,
        reservation_duration: limits::RELAY_RESERVATION_TIME,
        max_circuits: limits::RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: limits::RELAY_CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: limits::RELAY_CIRCUIT_TIME,
        max_circuit_bytes: 0,
        ..relay::Config::default()
    }
}

fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(limits::STREAMS_MUXED_MAX);
    config
}

/// Returns a member's swarm: over TCP (Noise, Yamux), QUIC, and through relays.
pub(super) fn member_swarm(
    keys: Keypair,
    mesh: Digest,
    agent: &str,
    reach: &Reach,
) -> Result<Swarm<Behaviour>, SetupError> {
    let quic_streams =
        NonZeroU32::MIN.saturating_add(limits::STREAMS_MUXED_MAX.try_into().unwrap_or(u32::MAX));
    let builder = SwarmBuilder::with_existing_identity(keys)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, muxer)?
        .with_quic_config(|mut config| {
            config.max_concurrent_stream_limit = quic_streams.get();
            config
        })
        .with_relay_client(noise::Config::new, muxer)?
        .with_behaviour(|keys, circuits| {
            Behaviour::new(keys, mesh, agent, reach, circuits).map_err(Into::into)
        })
        .map_err(|error| SetupError::Behaviour(error.to_string()))?;
    let swarm = builder.with_swarm_config(|config| {
        config
            .with_max_negotiating_inbound_streams(limits::STREAMS_NEGOTIATING_MAX)
            // Members stay connected, and strangers are closed by the hello's deadline.
            .with_idle_connection_timeout(Duration::MAX)
    });
    Ok(swarm.build())
}
