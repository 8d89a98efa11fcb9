//! A member's door, seen from outside: dialling it, joining the mesh, and an operator's hello.
//!
//! Strangers get three protocols of a member: hello (for hosts, which the agent's `mesh` speaks), join and operator.
//! Here are the asking sides of the last two, and what both they and the agent need for it: keys as libp2p has them,
//! [streams] of bytes, addresses with [names]. `mlnctl` uses it to reach an agent over the network, `mlnd join` to
//! become a member. What is said over an operator's stream after the hello it deliberately does not know.
//!
//! ```text
//! dial ──► join      a token becomes a grant; the connection is closed
//!     └──► operator  a chain of grants is shown and judged on both sides; the stream is the caller's
//! ```

pub mod dial;
pub mod join;
pub mod key;
pub mod names;
pub mod operator;
pub mod streams;

use std::time::Duration;

pub use libp2p::Multiaddr;
use libp2p::swarm::StreamProtocol;

/// How a new host or operator gets its grant.
pub const JOIN_PROTOCOL: StreamProtocol = StreamProtocol::new("/mln/join/1");

/// How an operator shows their grant; what follows on the stream are control messages.
pub const OPERATOR_PROTOCOL: StreamProtocol = StreamProtocol::new("/mln/operator/1");

/// How long a join may take, from its connection on.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an operator's hello may take.
pub const OPERATOR_TIMEOUT: Duration = Duration::from_secs(10);
