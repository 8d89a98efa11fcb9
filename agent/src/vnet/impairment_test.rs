//! Held back frames, hubs and uplinks over real sockets.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mln_protocol::model::{Delay, Impairment, Loss, Mac, Rate, SwitchKind};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::fabric_test::{Guest, counts, mac, name, switch, vm};
use super::{Fabric, LinkName, SwitchKey};

const BROADCAST: Mac = Mac([0xff; 6]);

fn impairment(delay: &str, loss: &str, rate: &str) -> Impairment {
    Impairment { delay: Delay::parse(delay), loss: Loss::parse(loss), rate: Rate::parse(rate) }
}

/// Does something to the frames of the first guest.
async fn impair(fabric: &Fabric, lan: &SwitchKey, impairment: Option<Impairment>) {
    let port = LinkName::Port { vm: vm(1), interface: name("eth0") };
    let impaired = impairment.map(|impairment| (port, impairment)).into_iter().collect();
    fabric.configure(lan, SwitchKind::Learning, impaired).await.expect("the switch is there");
}

/// Waits for something that the switch does, frame by frame of the second guest, which are not held back.
async fn until(one: &Guest, two: &Guest, is_so: impl Fn() -> bool) {
    loop {
        two.say(BROADCAST, "again");
        // From here on both are attached.
        one.hears(BROADCAST, 2, "again").await;
        if is_so() {
            return;
        }
    }
}

#[tokio::test]
async fn what_leaves_an_interface_arrives_late_and_what_comes_to_it_does_not() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    impair(&fabric, &lan, Some(impairment("200ms", "", ""))).await;
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    let start = Instant::now();
    one.say(BROADCAST, "late");
    two.say(BROADCAST, "prompt");
    one.hears(BROADCAST, 2, "prompt").await;
    two.hears(BROADCAST, 1, "late").await;
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn frames_that_are_held_back_leave_in_order_when_nothing_holds_them_any_more() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    impair(&fabric, &lan, Some(impairment("60s", "", ""))).await;
    one.say(BROADCAST, "first");
    one.say(BROADCAST, "second");
    until(&one, &two, || counts(&fabric, 1).received_frames == 2).await;
    impair(&fabric, &lan, None).await;
    two.hears(BROADCAST, 1, "first").await;
    two.hears(BROADCAST, 1, "second").await;
    one.say(BROADCAST, "third");
    two.hears(BROADCAST, 1, "third").await;
}

#[tokio::test]
async fn what_is_lost_is_counted_and_never_arrives() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    impair(&fabric, &lan, Some(impairment("", "100%", ""))).await;
    for _ in 0..10 {
        one.say(BROADCAST, "lost");
    }
    until(&one, &two, || counts(&fabric, 1).dropped_impaired == 10).await;
    impair(&fabric, &lan, None).await;
    one.say(BROADCAST, "found");
    two.hears(BROADCAST, 1, "found").await;
}

#[tokio::test]
async fn a_hub_sends_everything_everywhere_also_to_whom_it_could_know() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    fabric.configure(&lan, SwitchKind::Hub, BTreeMap::new()).await.expect("the switch is there");
    let one = Guest::attach(&fabric, &lan, 1).await;
    let two = Guest::attach(&fabric, &lan, 2).await;
    let three = Guest::attach(&fabric, &lan, 3).await;
    one.say(BROADCAST, "here is one");
    two.hears(BROADCAST, 1, "here is one").await;
    three.hears(BROADCAST, 1, "here is one").await;
    two.say(mac(1), "for one alone");
    one.hears(mac(1), 2, "for one alone").await;
    three.hears(mac(1), 2, "for one alone").await;
}

/// A socket that takes the place of a tap: one read or write is one frame there too.
fn tap() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("sockets")
}

#[tokio::test]
async fn an_uplink_is_one_more_port_and_has_its_own_vlan() {
    let (fabric, lan) = (Fabric::new(), switch("lan"));
    let one = Guest::attach(&fabric, &lan, 1).await;
    let (near, far) = tap();
    let end = fabric.add_uplink(&lan, far, Some(7)).await.expect("a socket");
    let outside = Guest::over(9, near, end);
    one.say(BROADCAST, "out");
    let (_, by, text) = outside.hear().await;
    assert_eq!((by, text.as_str()), (mac(1), "\0\u{7}\u{fffd}\u{fffd}out"), "its tag comes before its type");
    let tagged = |vlan: u8, text: &str| {
        let head = [&mac(1).0[..], &mac(9).0, &[0x81, 0, 0, vlan, 0x88, 0xb5]].concat();
        [&head, text.as_bytes()].concat()
    };
    outside.say_bytes(&tagged(8, "of another VLAN"));
    outside.say(mac(1), "of none");
    outside.say_bytes(&tagged(7, "in"));
    one.hears(mac(1), 9, "in").await;
    fabric.remove_uplink(&lan).await;
    outside.ended().await;
}
