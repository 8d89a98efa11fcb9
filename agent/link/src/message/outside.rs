//! What VMs have of the outside: behind the rows of `status`, for those that have something of it.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// A VM with an interface that leads to the outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Its name.
    #[serde(with = "crate::name")]
    pub vm: Name,
    /// Whether it gets out; none where that isn't known, or it has no interface for it.
    pub nat: Option<NatState>,
    /// The ports of its service host that lead to it.
    pub forwards: Vec<ForwardRow>,
}

/// Whether a VM gets out by its host's address translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NatState {
    /// It does.
    Up,
    /// It doesn't.
    None {
        /// Why.
        why: String,
    },
}

/// A port of a service host that leads to a guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardRow {
    /// The service host's.
    pub host_port: u16,
    /// The guest's.
    pub guest_port: u16,
    /// What is carried.
    pub protocol: PortProtocol,
}

/// What a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortProtocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl NatState {
    /// Returns the word for it in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::None { .. } => "none",
        }
    }
}

impl PortProtocol {
    /// Returns the word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl std::fmt::Display for ForwardRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host_port, self.guest_port)?;
        match self.protocol {
            PortProtocol::Tcp => Ok(()),
            PortProtocol::Udp => f.write_str("/udp"),
        }
    }
}
