//! The line between a host and the agent in a guest: framing and credit on a raw serial terminal.
//!
//! Pure state machines, bytes in and bytes out; the holder drives [`HostLine`], the guest agent [`GuestLine`].
//! They know nothing of files, time or processes, and nothing of what the messages on a channel mean.
//!
//! The line of User-Mode Linux has one vice that shapes all of this: when about 4 KB that the host sent are
//! unread in the guest's terminal, input stops for ever. So the host has at most [`CREDIT_BYTES`] outstanding
//! that the guest has not said to have *read*. In the other direction the terminal itself holds the guest back.
//!
//! ```text
//!   guest                                host
//!   open, raw, flush ── Hello ─────────►            nothing is sent to the guest before this:
//!          ◄──────────── Welcome ──────             a terminal that is not raw yet would echo it
//!   count from here ──── Ack 0 ────────►  ready
//!          ◄──────────── frames ───────  ≤ CREDIT_BYTES
//!          ───────────── Ack n ────────►
//! ```
//!
//! Frames are numbered in each direction. A gap means that bytes were lost, so that no channel can be trusted:
//! the guest begins a new session with a new Hello (the host asks for it by Reset), and every channel ends.

mod frame;
mod guest;
mod host;
mod message;

pub use frame::{Decoder, Direction, FRAME_BYTES, Frame, PAYLOAD_TO_GUEST_BYTES, PAYLOAD_TO_HOST_BYTES};
pub use guest::{GuestEvent, GuestLine};
pub use host::{CREDIT_BYTES, HostEvent, HostLine};
pub use message::{Kind, Message};

/// The number of the stream that goes into a process.
pub const STDIN: u8 = 0;
/// The number of the stream of a process's results.
pub const STDOUT: u8 = 1;
/// The number of the stream of a process's complaints.
pub const STDERR: u8 = 2;

/// What may be on its way into a process unread, in bytes: the guest holds it.
pub const STDIN_WINDOW_BYTES: u32 = 16 << 10;
/// What may be on its way out of a process unread, for each of its streams, in bytes: the agent holds it.
pub const OUTPUT_WINDOW_BYTES: u32 = 64 << 10;
/// The most processes that one guest runs for the host at a time.
pub const CHANNELS_MAX: usize = 32;
