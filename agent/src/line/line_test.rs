//! Both ends of a line, with a terminal between them that goes deaf like the real one.

use std::collections::VecDeque;

use super::super::{CREDIT_BYTES, GuestEvent, GuestLine, HostEvent, HostLine, Kind, Message};

/// Unread bytes at which the terminal of User-Mode Linux stops for ever.
const WEDGE_BYTES: usize = 4095;

struct Pair {
    host: HostLine,
    guest: GuestLine,
    /// Sent by the host, unread by the guest.
    unread: VecDeque<u8>,
    unread_bytes_max: usize,
    at_host: Vec<HostEvent>,
    at_guest: Vec<GuestEvent>,
}

impl Pair {
    fn silent() -> Self {
        Self {
            host: HostLine::new(),
            guest: GuestLine::new(),
            unread: VecDeque::new(),
            unread_bytes_max: 0,
            at_host: Vec::new(),
            at_guest: Vec::new(),
        }
    }

    fn open() -> Self {
        let mut pair = Self::silent();
        pair.guest.start(1, "test");
        pair.settle(64);
        assert!(matches!(pair.at_host[..], [HostEvent::Started(_)]), "{:?}", pair.at_host);
        assert_eq!(pair.at_guest, [GuestEvent::Welcomed]);
        pair.at_host.clear();
        pair.at_guest.clear();
        pair
    }

    fn host_writes(&mut self) -> bool {
        let bytes = self.host.transmit().to_vec();
        self.host.transmitted(bytes.len());
        self.unread.extend(&bytes);
        self.unread_bytes_max = self.unread_bytes_max.max(self.unread.len());
        assert!(self.unread.len() < WEDGE_BYTES, "{} bytes unread: the line is dead", self.unread.len());
        !bytes.is_empty()
    }

    fn guest_reads(&mut self, bytes: usize) -> bool {
        let bytes: Vec<u8> = self.unread.drain(..bytes.min(self.unread.len())).collect();
        self.guest.receive(&bytes);
        self.at_guest.extend(std::iter::from_fn(|| self.guest.event()));
        !bytes.is_empty()
    }

    fn guest_writes(&mut self, chunk: usize) -> bool {
        let bytes = self.guest.transmit();
        let bytes = bytes[..bytes.len().min(chunk)].to_vec();
        self.guest.transmitted(bytes.len());
        self.host.receive(&bytes);
        self.at_host.extend(std::iter::from_fn(|| self.host.event()));
        !bytes.is_empty()
    }

    /// Runs until neither end has anything to say; the guest reads and writes at most `chunk` bytes at a time.
    fn settle(&mut self, chunk: usize) {
        while self.host_writes() | self.guest_reads(chunk) | self.guest_writes(chunk) {}
    }
}

fn data(channel: u32, bytes: usize) -> Message {
    let payload = (0..bytes).map(|i| (i * 7 + i / 256) as u8).collect();
    Message { kind: Kind::Data, channel, payload }
}

#[test]
fn nothing_is_sent_to_a_guest_that_has_not_said_hello() {
    let mut pair = Pair::silent();
    pair.host.send(&data(1, 10));
    pair.host.receive(b"Debian GNU/Linux 12 ttyS0\r\n\r\nlogin: ");
    assert_eq!(pair.host.transmit(), b"");
    assert_eq!(pair.host.waiting_bytes(), 0);
}

#[test]
fn the_host_stays_within_its_credit_until_the_guest_has_read() {
    let mut pair = Pair::open();
    pair.host.send(&data(3, 60_000));
    while pair.host_writes() {}
    assert!(pair.unread.len() <= CREDIT_BYTES && pair.unread.len() > CREDIT_BYTES / 2);
    assert!(!pair.host_writes(), "more is sent only after an acknowledgement");
    pair.settle(100);
    assert_eq!(pair.at_guest, [GuestEvent::Message(data(3, 60_000))]);
    assert!(pair.unread_bytes_max <= CREDIT_BYTES);
}

#[test]
fn messages_of_every_size_arrive_whole_at_any_speed() {
    for chunk in [1, 7, 500, 5000] {
        let mut pair = Pair::open();
        for size in [0, 1, 487, 488, 489, 8168, 8169, 65_536] {
            pair.host.send(&data(1, size));
            pair.guest.send(&data(2, size));
            pair.settle(chunk);
            assert_eq!(pair.at_guest, [GuestEvent::Message(data(1, size))], "{size} bytes by {chunk}");
            assert_eq!(pair.at_host, [HostEvent::Message(data(2, size))], "{size} bytes by {chunk}");
            pair.at_guest.clear();
            pair.at_host.clear();
        }
    }
}

#[test]
fn a_log_line_between_two_frames_does_no_harm() {
    let mut pair = Pair::open();
    pair.host.receive(b"[    1.5] EXT4-fs (ubda): mounted filesystem\r\n");
    pair.guest.send(&data(2, 5));
    pair.settle(64);
    assert_eq!(pair.at_host, [HostEvent::Message(data(2, 5))]);
}

#[test]
fn bytes_lost_on_the_way_in_begin_a_new_session() {
    let mut pair = Pair::open();
    pair.host.send(&data(1, 100));
    pair.host_writes();
    pair.unread.drain(..5);
    pair.settle(64);
    // The loss shows with the next frame.
    pair.host.send(&data(1, 3));
    pair.settle(64);
    assert_eq!(pair.at_guest, [GuestEvent::Over]);
    pair.guest.start(2, "test");
    pair.settle(64);
    assert!(matches!(pair.at_host[..], [HostEvent::Started(_)]), "{:?}", pair.at_host);
    pair.host.send(&data(9, 4000));
    pair.settle(64);
    assert_eq!(pair.at_guest.last(), Some(&GuestEvent::Message(data(9, 4000))));
}

#[test]
fn bytes_lost_on_the_way_out_begin_a_new_session() {
    let mut pair = Pair::open();
    pair.guest.send(&data(1, 20));
    let bytes = pair.guest.transmit().len();
    pair.guest.transmitted(bytes);
    pair.guest.send(&data(1, 3));
    pair.settle(64);
    assert_eq!(pair.at_host, [HostEvent::Damaged]);
    assert_eq!(pair.at_guest, [GuestEvent::Over]);
    pair.at_host.clear();
    pair.guest.start(2, "test");
    pair.guest_writes(usize::MAX);
    assert!(matches!(pair.at_host[..], [HostEvent::Started(_)]), "{:?}", pair.at_host);
}

#[test]
fn a_guest_agent_that_is_replaced_mid_stream_never_wedges_the_line() {
    for stop in [1, 30, 300, 511, 512, 1000, 2047] {
        let mut pair = Pair::open();
        pair.host.send(&data(1, 30_000));
        pair.host_writes();
        pair.guest_reads(stop);
        // The new one knows nothing, and finds what the old one left.
        pair.guest = GuestLine::new();
        pair.guest.start(2, "test");
        pair.at_guest.clear();
        pair.host.send(&data(1, 3000));
        while pair.guest_writes(64) {}
        while pair.host_writes() {}
        pair.settle(64);
        assert_eq!(pair.at_guest, [GuestEvent::Welcomed], "after {stop} bytes");
        pair.host.send(&data(2, 9000));
        pair.settle(64);
        assert_eq!(pair.at_guest.last(), Some(&GuestEvent::Message(data(2, 9000))), "after {stop} bytes");
    }
}

#[test]
fn a_guest_that_acknowledges_what_it_was_never_sent_gains_nothing() {
    use mln_protocol::wire::{encode, line::AckWire};
    let mut pair = Pair::open();
    pair.guest.send(&Message::line(Kind::Ack, encode(&AckWire { read_bytes: u64::MAX })));
    pair.settle(64);
    pair.host.send(&data(1, 60_000));
    while pair.host_writes() {}
    assert!(pair.unread.len() <= CREDIT_BYTES);
}

#[test]
fn a_guest_that_only_says_hello_makes_the_host_keep_little() {
    let mut pair = Pair::silent();
    for session in 0..10_000 {
        pair.guest.start(session, "test");
        while pair.guest_writes(usize::MAX) {}
    }
    assert!(pair.host.transmit().len() < 2 * CREDIT_BYTES);
}

#[test]
fn what_is_about_the_project_goes_both_ways_whole() {
    let node = |bytes| Message::line(Kind::Node, vec![7; bytes]);
    let mut pair = Pair::open();
    pair.guest.send(&node(61_440));
    pair.host.send(&node(61_440));
    pair.settle(1000);
    assert_eq!(pair.at_host, [HostEvent::Message(node(61_440))]);
    assert_eq!(pair.at_guest, [GuestEvent::Message(node(61_440))]);
}

#[test]
fn a_kind_that_an_older_end_does_not_know_is_passed_over() {
    use super::super::{Direction, Frame};
    let mut pair = Pair::open();
    let mut bytes = Vec::new();
    // The guest's hello and its first acknowledgement have had 0 and 1.
    let newer = Frame { kind: 99, more: false, channel: 0, sequence: 2, payload: vec![1] };
    newer.encode(Direction::ToHost, &mut bytes);
    let known = Frame { kind: Kind::Report as u8, more: false, channel: 0, sequence: 3, payload: vec![2] };
    known.encode(Direction::ToHost, &mut bytes);
    pair.host.receive(&bytes);
    assert_eq!(pair.host.event(), Some(HostEvent::Message(Message::line(Kind::Report, vec![2]))));
}
