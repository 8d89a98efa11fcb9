//! The host's end of a line.

use std::collections::VecDeque;

use mln_protocol::wire::line::{AckWire, HelloWire, LINE_VERSION, WelcomeWire};
use mln_protocol::wire::{decode, encode};

use super::frame::{Decoder, Direction};
use super::message::{Assembly, Cutter, Kind, Message};

/// What the host may have sent that the guest has not said to have read, in bytes.
///
/// Half of what makes the terminal of User-Mode Linux deaf for ever. The other half is needed: when the guest
/// agent is replaced, this much of the old session may still be on its way, and the rest of a frame.
pub const CREDIT_BYTES: usize = 2048;

/// What a guest's end of the line has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// A guest agent has opened the line; channels of an earlier session are gone.
    Started(HelloWire),
    /// Bytes were lost: channels are gone; the guest was asked to begin again.
    Damaged,
    /// A message, of any kind but those that the line keeps for itself.
    Message(Message),
}

/// The host's end of a line.
///
/// ```text
///   silent ──Hello──► welcoming ──Ack──► open ──gap──► silent, after a Reset
///                         ▲                │
///                         └──── Hello ─────┘
/// ```
#[derive(Debug)]
pub struct HostLine {
    decoder: Decoder,
    cutter: Cutter,
    phase: Phase,
    /// Whole frames that wait for credit.
    waiting: VecDeque<Vec<u8>>,
    /// Bytes that may be written now.
    ready: Vec<u8>,
    events: VecDeque<HostEvent>,
}

#[derive(Debug)]
enum Phase {
    Silent,
    Welcoming { assembly: Assembly },
    Open { assembly: Assembly, sent_bytes: u64, read_bytes: u64 },
}

impl Default for HostLine {
    fn default() -> Self {
        Self::new()
    }
}

impl HostLine {
    /// Returns the end of a line on which nothing has been said.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(Direction::ToHost),
            cutter: Cutter::new(Direction::ToGuest),
            phase: Phase::Silent,
            waiting: VecDeque::new(),
            ready: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes bytes from the guest.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        while let Some(frame) = self.decoder.frame() {
            if frame.kind == Kind::Hello as u8 && frame.sequence == 0 && !frame.more {
                if let Ok(hello) = decode::<HelloWire>(&frame.payload, 1024) {
                    self.welcome(hello);
                }
                continue;
            }
            let assembly = match &mut self.phase {
                Phase::Silent => continue,
                Phase::Welcoming { assembly } | Phase::Open { assembly, .. } => assembly,
            };
            match assembly.accept(frame) {
                Ok(Some(message)) => self.take(message),
                Ok(None) => {}
                Err(_) => self.damaged(),
            }
        }
        self.release();
    }

    /// Returns what happened, oldest first.
    pub fn event(&mut self) -> Option<HostEvent> {
        self.events.pop_front()
    }

    /// Queues a message for the guest; without a session it is dropped.
    ///
    /// The queue has no limit of its own: what may be in it is bounded by the windows of the channels, and by whoever sends
    /// answers about the project.
    pub fn send(&mut self, message: &Message) {
        if !matches!(self.phase, Phase::Silent) {
            self.cutter.cut(message, &mut self.waiting);
            self.release();
        }
    }

    /// Returns the bytes that may be written to the guest now.
    pub fn transmit(&self) -> &[u8] {
        &self.ready
    }

    /// Notes that the first `bytes` of [`Self::transmit`] have been written.
    pub fn transmitted(&mut self, bytes: usize) {
        self.ready.drain(..bytes);
    }

    /// Returns how many bytes wait for the guest to read what it was sent before.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    fn take(&mut self, message: Message) {
        match message.kind {
            Kind::Ack => {
                let Ok(ack) = decode::<AckWire>(&message.payload, 64) else { return };
                match &mut self.phase {
                    Phase::Silent => {}
                    Phase::Welcoming { assembly } => {
                        let assembly = std::mem::take(assembly);
                        self.phase = Phase::Open { assembly, sent_bytes: 0, read_bytes: 0 };
                    }
                    // A guest that claims to have read more than it was sent gains nothing by it.
                    Phase::Open { sent_bytes, read_bytes, .. } => {
                        *read_bytes = ack.read_bytes.clamp(*read_bytes, *sent_bytes);
                    }
                }
            }
            Kind::Report | Kind::Data | Kind::Eof | Kind::Window | Kind::Closed | Kind::Node => {
                self.events.push_back(HostEvent::Message(message));
            }
            // These go the other way, or have been taken care of.
            Kind::Hello | Kind::Welcome | Kind::Reset | Kind::Open | Kind::Kill | Kind::Resize => {}
        }
    }

    fn welcome(&mut self, hello: HelloWire) {
        self.waiting.clear();
        self.cutter.restart();
        let welcome = WelcomeWire { version: LINE_VERSION, session: hello.session };
        // It goes out past the credit, which is not known yet; see CREDIT_BYTES for why that is safe. What is
        // left in `ready` is the rest of a frame that has begun, without which the guest could not find this.
        if !self.send_at_once(&Message::line(Kind::Welcome, encode(&welcome))) {
            self.phase = Phase::Silent;
            return;
        }
        self.phase = Phase::Welcoming { assembly: Assembly::after_first() };
        self.events.push_back(HostEvent::Started(hello));
    }

    fn damaged(&mut self) {
        self.waiting.clear();
        self.send_at_once(&Message::line(Kind::Reset, Vec::new()));
        self.phase = Phase::Silent;
        self.events.push_back(HostEvent::Damaged);
    }

    /// Sends without asking for credit; refuses where a guest provokes that again and again and reads nothing.
    fn send_at_once(&mut self, message: &Message) -> bool {
        if self.ready.len() > CREDIT_BYTES {
            return false;
        }
        let mut frames = VecDeque::new();
        self.cutter.cut(message, &mut frames);
        frames.into_iter().for_each(|frame| self.ready.extend(frame));
        true
    }

    fn release(&mut self) {
        let Phase::Open { sent_bytes, read_bytes, .. } = &mut self.phase else { return };
        while let Some(frame) = self.waiting.front() {
            let outstanding = (*sent_bytes - *read_bytes) as usize;
            if outstanding + frame.len() > CREDIT_BYTES {
                break;
            }
            *sent_bytes += frame.len() as u64;
            self.ready.extend_from_slice(frame);
            self.waiting.pop_front();
        }
    }
}
