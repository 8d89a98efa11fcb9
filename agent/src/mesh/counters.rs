//! What the mesh has dropped and refused, for people and for tests.

/// Counts since the start; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections whose peer was admitted.
    pub admitted: u64,
    /// Peers that were refused, by us.
    pub refused: u64,
    /// Times that a peer refused us.
    pub refused_by_peer: u64,
    /// Connections that were closed because nobody said hello in time, or said something else.
    pub hello_failed: u64,
    /// Connections of shunned peers, closed unheard.
    pub shunned: u64,
    /// Hosts that joined through here.
    pub joins: u64,
    /// Joins that were refused here.
    pub joins_refused: u64,
    /// Messages that were handed to peers.
    pub messages_sent: u64,
    /// Messages that were dropped: no connection, a full queue, or lost on the way.
    pub messages_dropped: u64,
    /// Messages that arrived.
    pub messages_received: u64,
    /// Gossip that arrived.
    pub gossip_received: u64,
    /// Gossip that the receiver of events rejected.
    pub gossip_rejected: u64,
    /// Own gossip that could not be sent: nobody listens, or all queues are full.
    pub gossip_unsent: u64,
    /// Streams over a peer's limit.
    pub streams_excess: u64,
    /// Misbehaviour of peers: what was garbage, over-long or rejected.
    pub misbehaviour: u64,
    /// Peers that were disconnected for it.
    pub expelled: u64,
    /// Attempts to connect that failed.
    pub dials_failed: u64,
    /// Operators that were admitted.
    pub operators: u64,
}
