//! Requests and rows about the mesh: operators, and who is on the same network.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// Make a token with which somebody may become an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorToken {
    /// For how long it is good, in seconds.
    pub ttl_s: u64,
    /// What the operator may do: the bits of `mln_protocol::trust::Verb`.
    pub verbs: u32,
    /// Under which name; none is whatever name the operator likes.
    #[serde(with = "crate::name::option")]
    pub name: Option<Name>,
}

/// Somebody who was seen on the local network. What is seen there proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanRow {
    /// Its name in the mesh, where its key is a member's.
    #[serde(with = "crate::name::option")]
    pub name: Option<Name>,
    /// The key that it says it has: 64 hexadecimal digits.
    pub key: String,
    /// Whether that key is known as a member's; others are never dialled.
    pub member: bool,
    /// Where it says it listens.
    pub addresses: Vec<String>,
    /// How long ago it was last seen, in milliseconds.
    pub age_ms: u64,
}
