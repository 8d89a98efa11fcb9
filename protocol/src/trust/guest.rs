//! What a VM asks for itself, and by what right.
//!
//! A guest's key is in its memory alone, and new with each boot, resume and claim. Its owner attests it; with it the guest
//! signs what it wants, and never a revision: hosts make that from the parent's text.

use std::fmt;
use std::sync::Arc;

use super::envelope::Use;
use super::signed::Verified;
use crate::id::{Digest, Name, PublicKey, VmId};
use crate::model::HostAddress;
use crate::record::Epoch;

/// The longest encoded definition of a project whose VMs change it, in bytes: it travels with each question.
pub const GUEST_DEFINITION_BYTES_MAX: usize = 256 << 10;

/// How many VMs a project may have that its VMs change: every host that is asked makes all of it again.
pub const GUEST_VMS_MAX: usize = 2_048;

/// How much text the values of all VMs of such a project may have together, in bytes.
pub const GUEST_VALUES_BYTES_MAX: usize = 16 << 20;

/// How many bytes of that each thing counts beside its text that is merged or put in: each VM inherits it anew.
pub const GUEST_ITEM_BYTES: usize = 16;

/// The longest text that a guest can ask for, in bytes.
pub const GUEST_TEXT_BYTES_MAX: usize = 48 << 10;

/// The longest reason that a guest gives, in bytes.
pub const GUEST_REASON_BYTES_MAX: usize = 512;

/// How many uses of policies one decision has at most.
pub const GUEST_USES_MAX: usize = 64;

/// An owner's word that its guest has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Which VM.
    pub vm: VmId,
    /// The epoch in which its author owns it: the key ends with it.
    pub epoch: Epoch,
    /// Rises with each boot, resume and claim under this owner; a newer one ends the older keys.
    pub boot: u64,
    /// The guest's key.
    pub key: PublicKey,
    /// When it was made, by its author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
}

/// What a guest wants for itself; signed with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRequest {
    /// Which VM asks.
    pub vm: VmId,
    /// The revision that it has seen: what it asks for is to follow this one, and no other.
    pub parent: Digest,
    /// Rises with each request under one key.
    pub number: u64,
    /// What it wants.
    pub wanted: Wanted,
    /// Why, for people; at most [`GUEST_REASON_BYTES_MAX`].
    pub reason: String,
    /// When it was made, by the guest's clock, in milliseconds since 1970; nobody acts on it.
    pub made_unix_ms: u64,
}

/// One change of its project that a guest wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many of a class.
    Scale {
        /// The superclass or enumeration.
        class: Name,
        /// How many.
        to: u32,
    },
    /// To be on another service host.
    Move {
        /// The service host, or its group.
        to: HostAddress,
    },
    /// A keyword or a variable to be set.
    Set {
        /// Where, as in `query`: `/host/web/service_host`.
        path: String,
        /// What it is to be; none for a flag.
        value: Option<String>,
    },
    /// This to be the project's text; at most [`GUEST_TEXT_BYTES_MAX`].
    Text(String),
}

/// What a host needs in order to judge a guest's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRight {
    /// The owner's word on the key.
    pub attestation: Verified<Attestation>,
    /// What the guest wants.
    pub request: Verified<GuestRequest>,
    /// What the parent was submitted as, encoded; the revision has its digest.
    pub definition: Arc<[u8]>,
}

/// What a revision says of the VM that decided on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which VM.
    pub vm: VmId,
    /// The digest of its request.
    pub request: Digest,
    /// What was granted, by which policies: budgets are counted from this.
    pub uses: Vec<Use>,
}

impl GuestRequest {
    /// Returns the reason that its revision gives: the guest's, or what it wants.
    pub fn reason_given(&self) -> String {
        if self.reason.is_empty() { self.wanted.to_string() } else { self.reason.clone() }
    }
}

impl fmt::Display for Wanted {
    /// Writes it in few words, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale { class, to } => write!(f, "scale {class} to {to}"),
            Self::Move { to } => write!(f, "move to {to}"),
            Self::Set { .. } => f.write_str("set a value"),
            Self::Text(_) => f.write_str("another text"),
        }
    }
}
