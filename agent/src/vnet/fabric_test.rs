//! Switches over real sockets.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mln_protocol::id::{Digest, Name, ProjectId, PublicKey, VmId};
use mln_protocol::model::Mac;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::port::watch;
use super::{Counts, FRAME_BYTES_MAX, Fabric, LinkEnd, LinkName, SwitchKey};

const DEADLINE: Duration = Duration::from_secs(20);
const BROADCAST: Mac = Mac([0xff; 6]);

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

pub(super) fn switch(text: &str) -> SwitchKey {
    SwitchKey { project: ProjectId(Digest([1; 32])), name: name(text) }
}

pub(super) fn vm(n: u8) -> VmId {
    VmId { birth: Digest([1; 32]), name: name(&format!("vm{n}")) }
}

pub(super) fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn frame(to: Mac, by: Mac, text: &str) -> Vec<u8> {
    [&to.0[..], &by.0, &[0x88, 0xb5], text.as_bytes()].concat()
}

/// A guest's end of a port.
pub(super) struct Guest {
    n: u8,
    fd: AsyncFd<OwnedFd>,
    end: LinkEnd,
}

impl Guest {
    pub(super) async fn attach(fabric: &Fabric, switch: &SwitchKey, n: u8) -> Self {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("sockets");
        // An address that the switch can't know, so that it has to learn.
        let unknown = Mac([2, 0, 0, 0, 1, n]);
        let end = fabric.add_port(switch, vm(n), name("eth0"), unknown, far).await.expect("a socket");
        Self { n, fd: watch(near).expect("a socket"), end }
    }

    /// The other end of a link that was made elsewhere.
    pub(super) fn over(n: u8, near: OwnedFd, end: LinkEnd) -> Self {
        Self { n, fd: watch(near).expect("a socket"), end }
    }

    /// Waits until the switch has let go.
    pub(super) async fn ended(self) {
        timeout(DEADLINE, self.end.wait()).await.expect("it ends");
    }

    pub(super) fn say(&self, to: Mac, text: &str) {
        self.say_bytes(&frame(to, mac(self.n), text));
    }

    pub(super) fn say_bytes(&self, bytes: &[u8]) {
        let sent = send(self.fd.as_fd(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Receives the next frame and returns who sent it to whom, and the text.
    pub(super) async fn hear(&self) -> (Mac, Mac, String) {
        let bytes = timeout(DEADLINE, self.hear_bytes()).await.expect("a frame arrives");
        let part = |range: std::ops::Range<usize>| Mac(bytes[range].try_into().expect("six bytes"));
        (part(0..6), part(6..12), String::from_utf8_lossy(&bytes[14..]).into_owned())
    }

    async fn hear_bytes(&self) -> Vec<u8> {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            let mut guard = self.fd.readable().await.expect("a socket");
            match recv(self.fd.as_fd(), &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, bytes)) => return buffer[..bytes].to_vec(),
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) async fn hears(&self, to: Mac, by: u8, text: &str) {
        assert_eq!(self.hear().await, (to, mac(by), text.to_owned()), "at guest {}", self.n);
    }
}

pub(super) fn counts(fabric: &Fabric, n: u8) -> Counts {
    let port = LinkName::Port { vm: vm(n), interface: name("eth0") };
    fabric.counters().into_iter().find(|status| status.link == port).expect("it is attached").counts
}

/// Each hears what comes next only if it has not heard what was not for it: the marker is the proof.
#[tokio::test]
async fn an_unknown_station_is_sought_everywhere_and_then_known() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    let three = Guest::attach(&fabric, &lan, 3).await;
    one.say(mac(2), "where are you");
    two.hears(mac(2), 1, "where are you").await;
    three.hears(mac(2), 1, "where are you").await;
    two.say(mac(1), "here");
    one.hears(mac(1), 2, "here").await;
    one.say(mac(2), "good");
    two.hears(mac(2), 1, "good").await;
    one.say(BROADCAST, "marker");
    // Three has heard neither the answer nor what followed, and one not itself.
    three.hears(BROADCAST, 1, "marker").await;
    two.hears(BROADCAST, 1, "marker").await;
    two.say(mac(1), "end");
    one.hears(mac(1), 2, "end").await;
    assert_eq!(counts(&fabric, 3).sent_frames, 2);
    assert_eq!(counts(&fabric, 1).received_frames, 3);
}

#[tokio::test]
async fn switches_are_apart() {
    let fabric = Fabric::new();
    let one = Guest::attach(&fabric, &switch("lan"), 1).await;
    let two = Guest::attach(&fabric, &switch("wan"), 2).await;
    let three = Guest::attach(&fabric, &switch("lan"), 3).await;
    one.say(BROADCAST, "lan");
    three.hears(BROADCAST, 1, "lan").await;
    assert_eq!(counts(&fabric, 2).sent_frames, 0);
    drop(two);
}

#[tokio::test]
async fn a_station_that_moves_is_found_at_its_new_port() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    let three = Guest::attach(&fabric, &lan, 3).await;
    two.say(BROADCAST, "hello");
    one.hears(BROADCAST, 2, "hello").await;
    three.hears(BROADCAST, 2, "hello").await;
    three.say_bytes(&frame(mac(1), mac(2), "moved"));
    one.hears(mac(1), 2, "moved").await;
    one.say(mac(2), "found");
    // Two, which doesn't know where one is yet, has heard that somebody else speaks in its name.
    two.hears(mac(1), 2, "moved").await;
    three.hears(mac(2), 1, "found").await;
}

#[tokio::test]
async fn nothing_goes_back_to_where_it_came_from() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    one.say(mac(1), "to myself");
    one.say(BROADCAST, "to all");
    let two = Guest::attach(&fabric, &lan, 2).await;
    two.say(BROADCAST, "marker");
    one.hears(BROADCAST, 2, "marker").await;
}

#[tokio::test]
async fn a_guest_that_does_not_read_loses_frames_and_stalls_nobody() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let deaf = Guest::attach(&fabric, &lan, 2).await;
    let three = Guest::attach(&fabric, &lan, 3).await;
    let text = "x".repeat(1400);
    let rounds = 3000;
    for _ in 0..rounds {
        one.say(BROADCAST, &text);
        three.hears(BROADCAST, 1, &text).await;
    }
    let dropped = counts(&fabric, 2).dropped_full;
    assert!(dropped > 0 && dropped < rounds, "{dropped} of {rounds}");
    assert_eq!(counts(&fabric, 3).dropped_full, 0);
    // When it reads again it hears first what had been queued, then what comes now.
    for _ in 0..rounds - dropped {
        deaf.hears(BROADCAST, 1, &text).await;
    }
    one.say(BROADCAST, "now");
    deaf.hears(BROADCAST, 1, "now").await;
    assert_eq!(counts(&fabric, 2).sent_frames, rounds - dropped + 1);
}

#[tokio::test]
async fn frames_that_are_none_are_dropped_and_counted() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    one.say_bytes(&[2; 13]);
    one.say_bytes(&vec![2; FRAME_BYTES_MAX + 1]);
    let jumbo = "j".repeat(60_000);
    one.say(BROADCAST, &jumbo);
    two.hears(BROADCAST, 1, &jumbo).await;
    assert_eq!(counts(&fabric, 1).dropped_malformed, 2);
}

#[tokio::test]
async fn a_guest_that_closes_is_detached_and_one_that_is_removed_is_closed() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let Guest { fd, end, .. } = Guest::attach(&fabric, &lan, 2).await;
    drop(fd);
    timeout(DEADLINE, end.wait()).await.expect("it is noticed");
    assert_eq!(fabric.counters().len(), 1);
    fabric.remove_port(&lan, vm(1), name("eth0")).await;
    assert!(fabric.counters().is_empty());
    assert_eq!(timeout(DEADLINE, one.hear_bytes()).await.expect("it is told"), Vec::<u8>::new());
    let three = Guest::attach(&fabric, &lan, 3).await;
    fabric.remove_switch(&lan);
    timeout(DEADLINE, three.end.wait()).await.expect("it ends with its switch");
}

/// Two fabrics, joined by a stream in memory.
async fn joined(lan: &SwitchKey) -> (Fabric, Fabric) {
    let (left, right) = (Fabric::new(), Fabric::new());
    join(&left, &right, lan, 1, 2).await;
    (left, right)
}

pub(super) async fn join(left: &Fabric, right: &Fabric, lan: &SwitchKey, left_key: u8, right_key: u8) {
    let (near, far) = tokio::io::duplex(1 << 16);
    left.add_trunk(lan, PublicKey([right_key; 32]), Box::new(near)).await.expect("just made");
    right.add_trunk(lan, PublicKey([left_key; 32]), Box::new(far)).await.expect("just made");
}

#[tokio::test]
async fn a_switch_over_two_hosts_is_one_segment() {
    let lan = switch("lan");
    let (left, right) = joined(&lan).await;
    let one = Guest::attach(&left, &lan, 1).await;
    let two = Guest::attach(&right, &lan, 2).await;
    let three = Guest::attach(&right, &lan, 3).await;
    one.say(BROADCAST, "who is there");
    two.hears(BROADCAST, 1, "who is there").await;
    three.hears(BROADCAST, 1, "who is there").await;
    two.say(mac(1), "i am");
    one.hears(mac(1), 2, "i am").await;
    for n in 0..2000 {
        let text = format!("{n} {}", "y".repeat(1400));
        one.say(mac(2), &text);
        two.hears(mac(2), 1, &text).await;
    }
    let jumbo = "j".repeat(FRAME_BYTES_MAX - 14);
    two.say(mac(1), &jumbo);
    one.hears(mac(1), 2, &jumbo).await;
    assert_eq!(counts(&right, 3).sent_frames, 1, "what has an address is not flooded");
}

#[tokio::test]
async fn what_came_over_a_trunk_goes_over_no_other() {
    let lan = switch("lan");
    let fabrics = [Fabric::new(), Fabric::new(), Fabric::new()];
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let (left, right) = (u8::try_from(a).expect("small"), u8::try_from(b).expect("small"));
        join(&fabrics[a], &fabrics[b], &lan, left, right).await;
    }
    let one = Guest::attach(&fabrics[0], &lan, 1).await;
    let two = Guest::attach(&fabrics[1], &lan, 2).await;
    let three = Guest::attach(&fabrics[2], &lan, 3).await;
    for n in 0..50 {
        one.say(BROADCAST, &n.to_string());
        two.hears(BROADCAST, 1, &n.to_string()).await;
        three.hears(BROADCAST, 1, &n.to_string()).await;
    }
    three.say(BROADCAST, "marker");
    // Exactly once each: the marker is what comes next everywhere.
    one.hears(BROADCAST, 3, "marker").await;
    two.hears(BROADCAST, 3, "marker").await;
}

async fn with_raw_trunk(lan: &SwitchKey) -> (Fabric, DuplexStream, LinkEnd) {
    let fabric = Fabric::new();
    let (near, far) = tokio::io::duplex(1 << 16);
    let end = fabric.add_trunk(lan, PublicKey([9; 32]), Box::new(near)).await.expect("just made");
    (fabric, far, end)
}

#[tokio::test]
async fn a_trunk_that_does_not_read_loses_frames_and_stalls_nobody() {
    let lan = switch("lan");
    let (fabric, _far, _end) = with_raw_trunk(&lan).await;
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    let text = "z".repeat(1400);
    for _ in 0..2000 {
        one.say(BROADCAST, &text);
        two.hears(BROADCAST, 1, &text).await;
    }
    let trunk = fabric.counters().into_iter().find(|status| matches!(status.link, LinkName::Trunk { .. }));
    assert!(trunk.expect("it is attached").counts.dropped_full > 0);
}

#[tokio::test]
async fn frames_on_a_trunk_stand_behind_their_lengths() {
    let lan = switch("lan");
    let (fabric, mut far, _end) = with_raw_trunk(&lan).await;
    let one = Guest::attach(&fabric, &lan, 1).await;
    one.say(BROADCAST, "abc");
    let expect = frame(BROADCAST, mac(1), "abc");
    let mut bytes = vec![0; 2 + expect.len()];
    far.read_exact(&mut bytes).await.expect("open");
    assert_eq!(bytes[..2], [0, 17]);
    assert_eq!(bytes[2..], expect);
    // In pieces, as streams deliver them.
    let answer = [&[0, 16][..], &frame(mac(1), mac(7), "ok")].concat();
    for piece in answer.chunks(5) {
        far.write_all(piece).await.expect("open");
        far.flush().await.expect("open");
    }
    one.hears(mac(1), 7, "ok").await;
}

#[tokio::test]
async fn a_trunk_that_carries_garbage_is_dropped() {
    let lan = switch("lan");
    let (fabric, mut far, end) = with_raw_trunk(&lan).await;
    let one = Guest::attach(&fabric, &lan, 1).await;
    far.write_all(&[0, 3, 1, 2, 3]).await.expect("open");
    timeout(DEADLINE, end.wait()).await.expect("it is dropped");
    assert_eq!(fabric.counters().len(), 1);
    drop(one);
}
