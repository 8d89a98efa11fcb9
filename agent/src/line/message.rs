//! Messages: what frames carry, put together again.

use std::collections::VecDeque;

use mln_protocol::wire::line::LINE_MESSAGE_BYTES_MAX;

use super::frame::{Direction, Frame};

/// What a message is. The numbers are on the wire and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Guest: the line is open (`HelloWire`).
    Hello = 1,
    /// Host: so it is (`WelcomeWire`).
    Welcome = 2,
    /// Guest: this much is read (`AckWire`).
    Ack = 3,
    /// Host: bytes were lost, begin a new session.
    Reset = 4,
    /// Guest: how far it has come (`ReportWire`).
    Report = 5,
    /// Host: a new channel (`OpenWire`).
    Open = 6,
    /// Either: the stream's number, then its bytes.
    Data = 7,
    /// Either: the number of the stream that has ended.
    Eof = 8,
    /// Either: room for more (`WindowWire`).
    Window = 9,
    /// Host: a signal for the channel's process (`KillWire`).
    Kill = 10,
    /// Guest: the channel has ended (`ClosedWire`).
    Closed = 11,
    /// Host: the channel's terminal has another size (`SizeWire`). Since version 2.
    Resize = 12,
    /// Either: about the project that the guest is in (`wire::me`), whole in one message. An end that doesn't know it passes
    /// it over.
    Node = 13,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Hello,
        Self::Welcome,
        Self::Ack,
        Self::Reset,
        Self::Report,
        Self::Open,
        Self::Data,
        Self::Eof,
        Self::Window,
        Self::Kill,
        Self::Closed,
        Self::Resize,
        Self::Node,
    ];

    /// Returns the kind with this number, if this program knows it.
    pub fn parse(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == number)
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The channel that it belongs to; 0 is the line itself.
    pub channel: u32,
    /// Its content, by kind.
    pub payload: Vec<u8>,
}

impl Message {
    /// Returns a message about the line itself.
    pub fn line(kind: Kind, payload: Vec<u8>) -> Self {
        Self { kind, channel: 0, payload }
    }
}

/// Puts the frames of a session together to messages, and sees when one is missing.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    sequence_next: u32,
    partial: Option<(u8, u32, Vec<u8>)>,
}

/// Frames are missing: nothing on this session can be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl Assembly {
    /// Returns the state of a session whose first frame, with number 0, has been taken already.
    pub(super) fn after_first() -> Self {
        Self { sequence_next: 1, partial: None }
    }

    /// Takes a frame; returns a message when one is complete and of a kind that this program knows.
    pub(super) fn accept(&mut self, frame: Frame) -> Result<Option<Message>, Damaged> {
        if frame.sequence != self.sequence_next {
            return Err(Damaged);
        }
        self.sequence_next = self.sequence_next.wrapping_add(1);
        let (kind, channel, mut payload) =
            self.partial.take().unwrap_or((frame.kind, frame.channel, Vec::new()));
        if (kind, channel) != (frame.kind, frame.channel)
            || payload.len() + frame.payload.len() > LINE_MESSAGE_BYTES_MAX
        {
            return Err(Damaged);
        }
        payload.extend_from_slice(&frame.payload);
        if frame.more {
            self.partial = Some((kind, channel, payload));
            return Ok(None);
        }
        Ok(Kind::parse(kind).map(|kind| Message { kind, channel, payload }))
    }
}

/// Numbers the frames of a session and cuts messages into them.
#[derive(Debug)]
pub(super) struct Cutter {
    direction: Direction,
    sequence_next: u32,
}

impl Cutter {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, sequence_next: 0 }
    }

    /// Begins a session: its first frame has number 0.
    pub(super) fn restart(&mut self) {
        self.sequence_next = 0;
    }

    /// Appends the encoded frames of `message`, each whole, to `frames`.
    pub(super) fn cut(&mut self, message: &Message, frames: &mut VecDeque<Vec<u8>>) {
        let limit = self.direction.payload_bytes_max();
        let count = message.payload.len().div_ceil(limit).max(1);
        for index in 0..count {
            let end = message.payload.len().min((index + 1) * limit);
            let frame = Frame {
                kind: message.kind as u8,
                more: index + 1 < count,
                channel: message.channel,
                sequence: self.sequence_next,
                payload: message.payload[index * limit..end].to_vec(),
            };
            self.sequence_next = self.sequence_next.wrapping_add(1);
            let mut bytes = Vec::with_capacity(frame.payload.len() + super::FRAME_BYTES);
            frame.encode(self.direction, &mut bytes);
            frames.push_back(bytes);
        }
    }
}
