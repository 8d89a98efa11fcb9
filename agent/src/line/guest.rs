//! The guest's end of a line.

use std::collections::VecDeque;

use mln_protocol::wire::line::{AckWire, HelloWire, LINE_VERSION, WelcomeWire};
use mln_protocol::wire::{decode, encode};

use super::frame::{Decoder, Direction};
use super::message::{Assembly, Cutter, Kind, Message};

/// What the host's end of the line has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// The host knows this session: reports and channels may follow.
    Welcomed,
    /// Bytes were lost or the host asked: the session is over and channels must end.
    /// Call [`GuestLine::start`] again.
    Over,
    /// A message, of any kind but those that the line keeps for itself.
    Message(Message),
}

/// The guest's end of a line.
#[derive(Debug)]
pub struct GuestLine {
    decoder: Decoder,
    cutter: Cutter,
    session: u64,
    /// Set once the host has welcomed this session.
    open: Option<Open>,
    /// Whole frames that wait to be written.
    frames: VecDeque<Vec<u8>>,
    /// How much of the first of them is written.
    written_bytes: usize,
    events: VecDeque<GuestEvent>,
}

#[derive(Debug)]
struct Open {
    assembly: Assembly,
    read_bytes: u64,
    /// Bytes read up to the newest acknowledgement.
    acknowledged_bytes: Option<u64>,
}

impl Default for GuestLine {
    fn default() -> Self {
        Self::new()
    }
}

impl GuestLine {
    /// Returns the end of a line on which nothing has been said.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(Direction::ToGuest),
            cutter: Cutter::new(Direction::ToHost),
            session: 0,
            open: None,
            frames: VecDeque::new(),
            written_bytes: 0,
            events: VecDeque::new(),
        }
    }

    /// Begins a session: says hello. `session` must differ from that of any session before.
    pub fn start(&mut self, session: u64, agent_version: &str) {
        self.session = session;
        self.open = None;
        // A frame that is half written is finished, so that the host finds the next one.
        self.frames.truncate(usize::from(self.written_bytes > 0));
        self.cutter.restart();
        let hello = HelloWire { version: LINE_VERSION, session, agent_version: agent_version.to_owned() };
        self.cutter.cut(&Message::line(Kind::Hello, encode(&hello)), &mut self.frames);
    }

    /// Takes bytes that were read from the terminal: each byte, in the order of reading.
    pub fn receive(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.open {
            open.read_bytes += bytes.len() as u64;
        }
        self.decoder.push(bytes);
        while let Some(frame) = self.decoder.frame() {
            let Some(open) = &mut self.open else {
                let welcome = (frame.kind == Kind::Welcome as u8 && frame.sequence == 0)
                    .then(|| decode::<WelcomeWire>(&frame.payload, 64).ok())
                    .flatten();
                if welcome.is_some_and(|w| w.session == self.session) {
                    self.open = Some(Open {
                        assembly: Assembly::after_first(),
                        read_bytes: self.decoder.pending_bytes() as u64,
                        acknowledged_bytes: None,
                    });
                    self.events.push_back(GuestEvent::Welcomed);
                }
                continue;
            };
            match open.assembly.accept(frame) {
                Ok(Some(message)) => match message.kind {
                    Kind::Reset => self.over(),
                    Kind::Open
                    | Kind::Data
                    | Kind::Eof
                    | Kind::Window
                    | Kind::Kill
                    | Kind::Resize
                    | Kind::Node => {
                        self.events.push_back(GuestEvent::Message(message));
                    }
                    Kind::Hello | Kind::Welcome | Kind::Ack | Kind::Report | Kind::Closed => {}
                },
                Ok(None) => {}
                Err(_) => self.over(),
            }
        }
    }

    /// Returns what happened, oldest first.
    pub fn event(&mut self) -> Option<GuestEvent> {
        self.events.pop_front()
    }

    /// Queues a message for the host; without a session it is dropped.
    ///
    /// The queue has no limit of its own: what may be in it is bounded by the windows of the channels, and by how many
    /// questions about the project the guest agent has open.
    pub fn send(&mut self, message: &Message) {
        if self.open.is_some() {
            self.cutter.cut(message, &mut self.frames);
        }
    }

    /// Returns bytes to write to the host next; empty when there are none.
    pub fn transmit(&mut self) -> &[u8] {
        if self.written_bytes == 0 {
            self.acknowledge();
        }
        self.frames.front().map_or(&[], |frame| &frame[self.written_bytes..])
    }

    /// Returns whether there are bytes to write.
    pub fn has_output(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Notes that the first `bytes` of [`Self::transmit`] have been written.
    pub fn transmitted(&mut self, bytes: usize) {
        self.written_bytes += bytes;
        if self.frames.front().is_some_and(|frame| frame.len() <= self.written_bytes) {
            self.frames.pop_front();
            self.written_bytes = 0;
        }
    }

    fn over(&mut self) {
        self.open = None;
        self.events.push_back(GuestEvent::Over);
    }

    /// Queues one acknowledgement for all that has been read since the newest one.
    fn acknowledge(&mut self) {
        let Some(open) = &mut self.open else { return };
        if open.acknowledged_bytes == Some(open.read_bytes) {
            return;
        }
        open.acknowledged_bytes = Some(open.read_bytes);
        let ack = encode(&AckWire { read_bytes: open.read_bytes });
        self.cutter.cut(&Message::line(Kind::Ack, ack), &mut self.frames);
    }
}

#[cfg(test)]
#[path = "line_test.rs"]
mod tests;
