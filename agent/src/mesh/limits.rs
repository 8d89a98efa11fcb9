//! Every limit of the mesh, by name. What exceeds one is dropped and counted, never queued.

use std::time::Duration;

use mln_protocol::wire::RECORD_BYTES_MAX;

/// How long a connection may exist before both sides have said who they are.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a join may take, from its connection on.
pub(super) use mln_door::JOIN_TIMEOUT;

/// For how long a second connection between two hosts counts as a crossing dial rather than as a reconnect.
pub(super) const CROSSING_DIALS: Duration = Duration::from_secs(10);

/// Connections per peer: of a host one that is used, and those that replace it or cross it; of an operator one for
/// each command that runs.
pub(super) const CONNECTIONS_PER_PEER_MAX: u32 = 16;

/// Members that may be reached through this host, where it is a relay.
pub(super) const RELAY_RESERVATIONS_MAX: usize = 256;

/// Reservations of one member: one that is used, and those that replace it.
pub(super) const RELAY_RESERVATIONS_PER_PEER_MAX: usize = 4;

/// How long a reservation holds; it is renewed before its end.
pub(super) const RELAY_RESERVATION_TIME: Duration = Duration::from_secs(3600);

/// Connections that pass through this host, where it is a relay.
pub(super) const RELAY_CIRCUITS_MAX: usize = 1024;

/// Connections of one member that pass through this host.
pub(super) const RELAY_CIRCUITS_PER_PEER_MAX: usize = 128;

/// How long a connection may pass through this host; then its ends connect again.
pub(super) const RELAY_CIRCUIT_TIME: Duration = Duration::from_secs(24 * 3600);

/// The pause before a relay is asked again that took back or refused a reservation.
pub(super) const RELAY_RETRY: Duration = Duration::from_secs(15);

/// Relays that this host asks to be reached through.
pub(super) const RELAYS_MAX: usize = 8;

/// Peers that are remembered as seen on the local network.
pub(super) const LAN_PEERS_MAX: usize = 256;

/// Operators' conversations altogether.
pub(super) const OPERATORS_MAX: usize = 128;

/// How long an operator's conversation may take: a console is left open over night.
pub(super) const OPERATOR_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Connections that are being set up from outside.
pub(super) const CONNECTIONS_PENDING_INCOMING_MAX: u32 = 128;

/// Connections that are being set up from here.
pub(super) const CONNECTIONS_PENDING_OUTGOING_MAX: u32 = 64;

/// Connections altogether.
pub(super) const CONNECTIONS_MAX: u32 = 1024;

/// Streams that wait on one connection for their protocol to be agreed.
pub(super) const STREAMS_NEGOTIATING_MAX: usize = 64;

/// Streams that muxers allow on one connection, requests and gossip included.
pub(super) const STREAMS_MUXED_MAX: usize = 512;

/// The header that the opener of a stream sends, in bytes.
pub(super) const STREAM_HEADER_BYTES_MAX: usize = 16 << 10;

/// How long the header of a stream may take.
pub(super) const STREAM_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses of a peer that are looked at when it says where it listens now.
pub(super) const LISTEN_ADDRESSES_READ_MAX: usize = 64;

/// Messages that wait for one peer.
pub(super) const SEND_QUEUE_MAX: usize = 256;

/// Bytes of the messages that wait for one peer.
pub(super) const SEND_QUEUE_BYTES_MAX: usize = 16 << 20;

/// Messages to one peer that are on their way and not yet acknowledged.
pub(super) const SENDS_IN_FLIGHT_MAX: usize = 8;

/// Messages from and to one peer that a connection handles at a time.
pub(super) const REQUESTS_CONCURRENT_MAX: usize = 32;

/// How long a message may take to arrive.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// What is gossiped: a record, and its author and signature around it.
pub(super) const GOSSIP_BYTES_MAX: usize = RECORD_BYTES_MAX + 512;

/// Gossip frames: a record and the protocol around it.
pub(super) const GOSSIP_FRAME_BYTES_MAX: usize = GOSSIP_BYTES_MAX + 512;

/// Commands from handles that wait for the task.
pub(super) const COMMANDS_MAX: usize = 256;

/// Steps of dialogues that wait for the task.
pub(super) const STEPS_MAX: usize = 64;

/// Events that wait for the receiver.
pub(super) const EVENTS_MAX: usize = 64;

/// Events that the task holds besides, before it stops reading from the network.
pub(super) const EVENTS_HELD_MAX: usize = 1024;

/// Bytes of the events that the task holds, before it stops reading from the network.
pub(super) const EVENTS_HELD_BYTES_MAX: usize = 16 << 20;

/// How long closing all connections may take.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Peers that the address book holds.
pub(super) const BOOK_PEERS_MAX: usize = 16_384;

/// Connections that are kept up by dialling: up to so many hosts everybody is connected to everybody. Beyond it only
/// those are dialled that something is to be sent to.
pub(super) const PEERS_DIALLED_MAX: usize = 512;

/// Connections beside those, to peers that something was to be sent to.
pub(super) const PEERS_WANTED_MAX: usize = 128;

/// The first pause before a peer is dialled again; it doubles with each failure.
pub(super) const REDIAL_MIN: Duration = Duration::from_millis(250);

/// The longest pause before a peer is dialled again.
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(30);

/// The shortest pause before a peer is dialled again because something is to be sent to it.
pub(super) const REDIAL_HURRIED_MIN: Duration = Duration::from_secs(1);

/// The shortest pause before a peer that refused us is dialled again.
pub(super) const REDIAL_REFUSED_MIN: Duration = Duration::from_secs(15);

/// Misbehaviour of one peer after which it is disconnected and shunned.
pub(super) const MISBEHAVIOUR_MAX: u32 = 16;

/// Refused hellos and joins of one key after which it is shunned.
pub(super) const REFUSALS_MAX: u32 = 8;

/// How long counts of misbehaviour and refusals are kept after the last one.
pub(super) const CONDUCT_WINDOW: Duration = Duration::from_secs(600);

/// How long a peer is shunned the first time; it doubles with each time.
pub(super) const SHUN_MIN: Duration = Duration::from_secs(10);

/// The longest time for which a peer is shunned.
pub(super) const SHUN_MAX: Duration = Duration::from_secs(3600);

/// How long nothing is heard from a peer that has signed two things in one slot: until people have looked at it. A
/// restart of the agent ends it.
pub(super) const CUT_OFF: Duration = Duration::from_secs(7 * 24 * 3600);

/// Keys whose conduct is remembered; the one that was longest quiet is forgotten first.
pub(super) const CONDUCT_KEYS_MAX: usize = 4096;

/// How often an idle connection is tried.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long an answer to a ping may take.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Joins that are judged at a time.
pub(super) const JOINS_MAX: usize = 16;
