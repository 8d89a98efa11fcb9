//! Control messages: what `mlnctl` and an agent say to each other.
//!
//! One connection carries one request and then a stream of replies that ends with [`Reply::Done`]. Both ends
//! begin with a [hello](hello) that settles the version. A request may be followed by input (a command's
//! standard input, the bytes of files), which a window bounds, so that neither end ever holds more than
//! [`INPUT_WINDOW_BYTES`] of it and a signal is never stuck behind it.
//!
//! It runs over any byte stream: a unix socket between `mlnctl` and its agent, a libp2p stream between two
//! agents. Nothing here knows who may ask for what, nor what a request means; `mlnctl` and the agent's
//! `control` module call it. The structs in [`message`] are wire structs: a change of one that is not an
//! addition at the end of an enum is a new [`hello::VERSION_NEWEST`].
//!
//! ```text
//! client                         server
//!   hello  ────────────────────▶
//!          ◀────────────────────  hello
//!   Request ───────────────────▶
//!   Input* ────────────────────▶         (never more than the window)
//!          ◀────────────────────  Reply* (Window, Progress, rows, Output, Refused, Failed …)
//!          ◀────────────────────  Done
//! ```

mod bytes;
pub mod client;
pub mod frame;
pub mod hello;
pub mod input;
pub mod message;
mod name;
pub mod place;
pub mod relay;
pub mod server;

pub use client::{Client, InputSender, Replies, connect};
pub use input::{InputFeed, InputQueue, input_channel};
pub use message::{Input, Reply, Request};
pub use server::Connection;

/// How many bytes of input may be on their way, unread by whoever consumes them.
pub const INPUT_WINDOW_BYTES: usize = 256 << 10;

/// How many bytes one message of input or output carries at most.
pub const CHUNK_BYTES_MAX: usize = 32 << 10;

/// Why a conversation ended before its time. The connection is of no use afterwards; whether a request was
/// carried out is not known unless a reply said so.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The other end announced a message longer than the limit; none of it was read.
    #[error("a message of {bytes} bytes, where at most {limit} are allowed")]
    TooLong {
        /// What was announced.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The stream ended inside a message or before the last reply.
    #[error("the other end closed the connection before it was done")]
    ClosedEarly,
    /// The bytes are no message that this program knows.
    #[error("a message that cannot be understood")]
    Decode(#[from] mln_protocol::wire::DecodeError),
    /// The other end does not speak this protocol at all.
    #[error("whoever listens there is no MLN agent")]
    NotMln,
    /// The other end speaks other versions only.
    #[error(
        "the other end speaks control version {theirs_oldest} to {theirs_newest}, this program {} to {}",
        hello::VERSION_OLDEST,
        hello::VERSION_NEWEST
    )]
    Version {
        /// The oldest that it speaks.
        theirs_oldest: u16,
        /// The newest that it speaks.
        theirs_newest: u16,
    },
    /// The other end sent more input than its window allows.
    #[error("more than {INPUT_WINDOW_BYTES} bytes of input were sent without being asked for")]
    WindowExceeded,
}
