//! The control endpoint: where `mlnctl` asks the agent for something.
//!
//! It settles who asks and whether they may speak to this agent at all, receives the request with the files
//! that belong to it, and hands both to the event loop as a [`ControlCommand`]; then it carries replies and
//! input until the work is done or the operator is gone. What a request means, and whether the mesh allows it,
//! is the event loop's business. It runs over the unix socket and over streams from other agents alike, so
//! nothing here knows libp2p.
//!
//! ```text
//! socket ─▶ accept ─▶ who is it? ─▶ may they? ─▶ request ─▶ files ─▶ event loop
//!                                      │ no                             │ replies
//!                                      ▼                                ▼
//!                                   Refused                     pump until Done or gone
//! ```

mod access;
mod account;
mod forward;
mod lock;
mod password;
mod reply;
mod serve;
mod socket;
mod upload;

pub use access::{Access, Caller, Verbs};
pub use account::AccountError;
#[cfg(feature = "host")]
pub(crate) use account::gid_of;
pub use forward::forward;
pub use lock::{DataFolderLock, LockError};
pub use password::{Account, PasswordError, PasswordForm, crypt_password, form_of};
pub use reply::{REPLIES_WAITING_MAX, ReplyError, ReplySender};
pub use serve::{CONTROL_COMMANDS_WAITING_MAX, serve};
pub use socket::{BindError, ControlSocket};
pub use upload::{BUILD_FILES_BYTES_MAX, BUILD_FILES_MAX, SubmittedFile};

use std::sync::Arc;

use mln_link::{InputQueue, Request};
use mln_protocol::id::{Label, Name, PublicKey};
use mln_protocol::trust::Standing;
use mln_protocol::wire::encode_chain;

/// A request that somebody who may speak to this agent made of it.
#[derive(Debug)]
pub struct ControlCommand {
    /// What is asked.
    pub request: Request,
    /// The files of a build, in the order in which it names them; none for any other request.
    pub files: Vec<SubmittedFile>,
    /// Who asks.
    pub operator: Operator,
    /// Where the answer goes. Dropping it without [`mln_link::Reply::Done`] tells the operator of a failure.
    pub reply: ReplySender,
    /// What follows the request: a command's standard input, a template's bytes.
    pub input: InputQueue,
}

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Their name: the owner of what they build.
    pub name: Name,
    /// How they came.
    pub origin: Origin,
    /// What their own grants say; none of a user of this host or of another one.
    pub standing: Option<Arc<Standing>>,
}

impl Operator {
    /// A user of this host, or of a host that vouches for the name.
    pub fn of_host(name: Name, origin: Origin) -> Self {
        Self { name, origin, standing: None }
    }

    /// Returns who it is to be another host that a request is passed on to: the name, and any grants behind a zero byte.
    pub fn header(&self) -> Vec<u8> {
        let mut header = self.name.as_str().as_bytes().to_vec();
        if let Some(standing) = &self.standing {
            header.push(0);
            header.extend(encode_chain(&standing.chain()));
        }
        header
    }

    /// Whether they may know of a project.
    pub fn sees(&self, label: &Label) -> bool {
        self.standing.as_ref().is_none_or(|standing| standing.covers(label).is_ok())
    }
}

/// How an operator came to this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Over the unix socket, as a user of this machine.
    Socket {
        /// The user's number.
        uid: u32,
    },
    /// Over a stream from another agent, which vouches for the name.
    Peer {
        /// That agent's host.
        key: PublicKey,
    },
    /// Over the network, with a key and a chain of grants that were judged.
    Operator {
        /// The key.
        key: PublicKey,
        /// What the grants allow.
        verbs: Verbs,
    },
}
