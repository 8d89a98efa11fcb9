//! A guest that is on another host than before is found there at once, though it hasn't said a word.

use mln_protocol::id::PublicKey;

use super::fabric_test::{Guest, join, mac, name, switch, vm};
use super::{Fabric, SwitchKey};

async fn announce(fabric: &Fabric, lan: &SwitchKey, n: u8) {
    let addresses = ["10.0.0.2".parse().expect("an address"), "fd00::2".parse().expect("an address")];
    fabric.announce(lan, vm(n), name("eth0"), mac(n), &addresses).await.expect("just made");
}

#[tokio::test]
async fn a_guest_that_moves_is_found_at_its_new_host_before_it_has_said_anything() {
    let lan = switch("lan");
    let [old, new, third] = [Fabric::new(), Fabric::new(), Fabric::new()];
    join(&old, &new, &lan, 1, 2).await;
    join(&old, &third, &lan, 1, 3).await;
    join(&new, &third, &lan, 2, 3).await;
    let one = Guest::attach(&third, &lan, 1).await;
    let stays = Guest::attach(&old, &lan, 3).await;
    let moves = Guest::attach(&old, &lan, 2).await;
    moves.say(mac(1), "from the old host");
    one.hears(mac(1), 2, "from the old host").await;
    stays.hears(mac(1), 2, "from the old host").await;
    one.say(mac(2), "known there");
    moves.hears(mac(2), 1, "known there").await;
    old.remove_port(&lan, vm(2), name("eth0")).await;
    let moved = Guest::attach(&new, &lan, 2).await;
    announce(&new, &lan, 2).await;
    // By ARP, and by the neighbours' protocol.
    for n in [&one, &stays] {
        assert_eq!(n.hear().await.1, mac(2));
        assert_eq!(n.hear().await.1, mac(2));
    }
    one.say(mac(2), "and here");
    moved.hears(mac(2), 1, "and here").await;
}

#[tokio::test]
async fn a_host_that_is_attached_later_is_told_too() {
    let lan = switch("lan");
    let [new, third] = [Fabric::new(), Fabric::new()];
    let one = Guest::attach(&third, &lan, 1).await;
    let moved = Guest::attach(&new, &lan, 2).await;
    announce(&new, &lan, 2).await;
    join(&new, &third, &lan, 2, 3).await;
    assert_eq!(one.hear().await.1, mac(2));
    assert_eq!(one.hear().await.1, mac(2));
    one.say(mac(2), "there you are");
    moved.hears(mac(2), 1, "there you are").await;
    third.remove_trunk(&lan, PublicKey([2; 32])).await;
}
