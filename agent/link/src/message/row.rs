//! The rows of the tables that an agent answers with.

use std::net::IpAddr;

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Its name.
    #[serde(with = "crate::name")]
    pub vm: Name,
    /// The service host that carries it.
    #[serde(with = "crate::name")]
    pub host: Name,
    /// What it does.
    pub state: VmState,
    /// The address of its first interface that has one.
    pub address: Option<IpAddr>,
    /// How long it has been in that state, in milliseconds; where that is known.
    pub since_ms: Option<u64>,
    /// How long ago its host said so, in milliseconds.
    pub age_ms: u64,
}

/// What a VM does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmState {
    /// It runs and is ready.
    Up,
    /// It doesn't run, as wanted or because it ended.
    Down {
        /// The status with which its last run ended.
        exit_status: Option<i32>,
    },
    /// Its disk is being made.
    Building,
    /// It boots.
    Starting,
    /// It shuts down.
    Stopping,
    /// It should be otherwise, but that didn't work.
    Failed {
        /// Why.
        why: String,
    },
    /// Nobody knows: its host is silent.
    Unknown,
}

impl VmState {
    /// Returns the word for it in tables and in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down { .. } => "down",
            Self::Building => "building",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Failed { .. } => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A service host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatusRow {
    /// Its name in the mesh.
    #[serde(with = "crate::name")]
    pub name: Name,
    /// How many projects have a part there.
    pub projects: u32,
    /// How many VMs it carries.
    pub vms: u32,
    /// The memory that its VMs are given, in MiB.
    pub memory_used_mib: u64,
    /// The memory that further VMs may have, in MiB.
    pub memory_available_mib: u64,
    /// Its groups.
    #[serde(with = "crate::name::list")]
    pub groups: Vec<Name>,
    /// How long ago it said so, in milliseconds.
    pub age_ms: u64,
    /// Whether it is there.
    pub liveness: HostLiveness,
}

/// Whether a host is there, as far as the asked agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostLiveness {
    /// It is heard.
    Alive,
    /// It was not heard when it should have been.
    Suspect,
    /// It is off, or can't be reached.
    Gone,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRow {
    /// Whose.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Its name.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Its identity: 64 hexadecimal digits.
    pub id: String,
    /// How many revisions it has.
    pub revisions: u32,
    /// How many service hosts have a part of it.
    pub hosts: u32,
    /// How many VMs it has.
    pub vms: u32,
    /// How many of them are up.
    pub vms_up: u32,
}

/// A peer of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its name in the mesh, where that is known.
    #[serde(with = "crate::name::option")]
    pub name: Option<Name>,
    /// Its key: 64 hexadecimal digits.
    pub key: String,
    /// Where it can be reached, the one in use first.
    pub addresses: Vec<String>,
    /// Whether there is a connection.
    pub link: PeerLink,
    /// The version of its agent, where that is known.
    pub version: Option<String>,
}

/// Whether there is a connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerLink {
    /// There is.
    Connected {
        /// The last measured round trip, in microseconds.
        round_trip_us: Option<u32>,
        /// For how long, in milliseconds.
        since_ms: u64,
    },
    /// There was.
    Lost {
        /// How long ago it was last heard, in milliseconds.
        last_seen_ms: u64,
    },
    /// There never was in this run of the agent.
    Never,
}

/// A template image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRow {
    /// Its name.
    #[serde(with = "crate::name")]
    pub name: Name,
    /// Which one of that name.
    pub version: String,
    /// The digest of its content: 64 hexadecimal digits.
    pub digest: String,
    /// The size of its file system, in bytes.
    pub bytes: u64,
    /// What it takes on the host's disk, in bytes.
    pub bytes_on_disk: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
}

/// A token with which somebody may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its text; whoever has it may join.
    pub text: String,
    /// When it ends, in milliseconds since 1970.
    pub expires_unix_ms: u64,
}

/// Who and what an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentVersion {
    /// Its version.
    pub agent: String,
    /// Its host's name in the mesh.
    #[serde(with = "crate::name")]
    pub host: Name,
    /// Its host's key: 64 hexadecimal digits.
    pub key: String,
    /// The mesh's identity: 64 hexadecimal digits.
    pub mesh: String,
}
