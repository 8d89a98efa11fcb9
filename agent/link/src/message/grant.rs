//! Requests and rows about grants: who may do what, until when, and what was taken back.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// Sign a grant with the key of the agent's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantOrder {
    /// To whom: a key of 64 hexadecimal digits, or the name of somebody who has a grant already.
    pub to: String,
    /// Under which name; none is the one that they have already.
    #[serde(with = "crate::name::option")]
    pub name: Option<Name>,
    /// What they may do: the bits of `mln_protocol::trust::Verb`.
    pub verbs: u32,
    /// To which projects it is limited: patterns of `OWNER/PROJECT`.
    pub projects: Vec<String>,
    /// To which hosts: patterns of names, or `@GROUP`.
    pub hosts: Vec<String>,
    /// How much memory all VMs that are built with it may have together, in MiB.
    pub memory_mib: Option<u64>,
    /// How many VMs there may be.
    pub vms: Option<u64>,
    /// How large their disks may be together, in bytes.
    pub disk_bytes: Option<u64>,
    /// For how long it holds, in milliseconds; none is the usual time.
    pub valid_ms: Option<u64>,
    /// How many further grants may follow it.
    pub passes: u8,
}

/// A grant that was just signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// What its subject gives to `mlnctl ctx join`; no secret.
    pub text: String,
    /// What it says.
    pub row: GrantRow,
}

/// A grant of somebody who is no host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    /// Its digest, 64 hexadecimal digits.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// Their key, 64 hexadecimal digits.
    pub key: String,
    /// Who signed it: a name where it is known, else a key.
    pub issuer: String,
    /// What it allows: the bits of `mln_protocol::trust::Verb`.
    pub verbs: u32,
    /// To which projects it is limited; none is all.
    pub projects: Vec<String>,
    /// To which hosts; none is all.
    pub hosts: Vec<String>,
    /// How much memory all that is built with it may have together, in MiB.
    pub memory_mib: Option<u64>,
    /// How many VMs.
    pub vms: Option<u64>,
    /// How much disk, in bytes.
    pub disk_bytes: Option<u64>,
    /// When it ends, in milliseconds since 1970; none is never.
    pub ends_unix_ms: Option<u64>,
    /// How many further grants may follow it.
    pub passes: u8,
    /// That it was taken back, or one before it.
    pub revoked: Option<RevokedRow>,
    /// The chain that it ends, root first, encoded.
    pub chain: Vec<u8>,
}

/// That a grant was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedRow {
    /// By whom: a name where it is known, else a key.
    pub by: String,
    /// When, by their clock, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Why.
    pub reason: String,
}

/// Take back all grants of somebody, with the key of the agent's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Whose: a name, a key, or the beginning of a grant's digest.
    pub whom: String,
    /// Why, for people.
    pub reason: String,
}
