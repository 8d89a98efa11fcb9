//! Trunks that come up by themselves: with a made-up mesh, and over a real one.

use std::collections::BTreeSet;
use std::time::Duration;

use mln_protocol::id::PublicKey;
use mln_protocol::model::Mac;
use mln_protocol::wire::TrunkHeader;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fabric_test::{Guest, switch};
use super::{Fabric, OpenTrunk, SwitchKey, TrunkState, TrunkStream, Trunks};
use crate::mesh::StreamError;

const DEADLINE: Duration = Duration::from_secs(20);

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn only(n: u8) -> BTreeSet<PublicKey> {
    [key(n)].into()
}

/// A network of one wire: what is opened comes out of a channel.
#[derive(Clone)]
struct Wire(mpsc::Sender<(PublicKey, Vec<u8>, Box<dyn TrunkStream>)>);

type WireEnd = mpsc::Receiver<(PublicKey, Vec<u8>, Box<dyn TrunkStream>)>;

impl OpenTrunk for Wire {
    async fn open_trunk(
        &self,
        peer: PublicKey,
        header: Vec<u8>,
    ) -> Result<Box<dyn TrunkStream>, StreamError> {
        let (near, far) = tokio::io::duplex(1 << 16);
        self.0.send((peer, header, Box::new(far))).await.map_err(|_| StreamError::NotConnected)?;
        Ok(Box::new(near))
    }
}

fn host(n: u8) -> (Trunks, Fabric, WireEnd) {
    let (wire, end) = mpsc::channel(8);
    let fabric = Fabric::new();
    (Trunks::start(key(n), Wire(wire), fabric.clone()), fabric, end)
}

async fn opened(end: &mut WireEnd) -> (PublicKey, Vec<u8>, Box<dyn TrunkStream>) {
    timeout(DEADLINE, end.recv()).await.expect("it is opened").expect("it runs")
}

async fn wait_for(trunks: &Trunks, state: TrunkState) {
    let reached = async {
        while trunks.status().await.expect("it runs").iter().any(|status| status.state != state) {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, reached).await.expect("the state is reached");
}

async fn greet(from: &Guest, to: &Guest, text: &str) {
    from.say(Mac([0xff; 6]), text);
    assert_eq!(to.hear().await.2, text);
}

#[tokio::test]
async fn the_smaller_key_opens_and_the_other_takes_it() {
    let lan = switch("lan");
    let (small, left, mut wire) = host(1);
    let (large, right, mut silent) = host(2);
    small.set_wanted(lan.clone(), [key(1), key(2)].into()).await.expect("it runs");
    large.set_wanted(lan.clone(), only(1)).await.expect("it runs");
    let (to, header, stream) = opened(&mut wire).await;
    assert_eq!((to, TrunkHeader::from_bytes(&header)), (key(2), Ok(TrunkHeader::from(&lan))));
    assert_eq!(large.incoming(key(1), &header, stream).await, Ok(true));
    wait_for(&small, TrunkState::Up).await;
    wait_for(&large, TrunkState::Up).await;
    let (a, b) = (Guest::attach(&left, &lan, 1).await, Guest::attach(&right, &lan, 2).await);
    greet(&a, &b, "over the trunk").await;
    assert!(silent.try_recv().is_err(), "the larger key never opens");
    let (_, stray) = tokio::io::duplex(64);
    assert_eq!(large.incoming(key(1), b"garbage", Box::new(stray)).await, Ok(false));
}

#[tokio::test]
async fn a_lost_trunk_is_opened_again_while_it_is_wanted() {
    let lan = switch("lan");
    let (small, fabric, mut wire) = host(1);
    small.set_wanted(lan.clone(), only(2)).await.expect("it runs");
    for _ in 0..3 {
        drop(opened(&mut wire).await);
    }
    let last = opened(&mut wire).await;
    wait_for(&small, TrunkState::Up).await;
    small.set_wanted(lan, BTreeSet::new()).await.expect("it runs");
    assert!(small.status().await.expect("it runs").is_empty());
    assert!(fabric.counters().is_empty());
    drop(last);
    assert!(wire.try_recv().is_err(), "what is not wanted is not opened");
}

#[tokio::test]
async fn a_trunk_that_comes_before_it_is_wanted_is_kept_and_one_from_the_wrong_side_is_not() {
    let lan = switch("lan");
    let (large, right, _) = host(2);
    let left = Fabric::new();
    let (near, far) = tokio::io::duplex(1 << 16);
    left.add_trunk(&lan, key(2), Box::new(near)).await.expect("just made");
    let header = TrunkHeader::from(&lan).to_bytes();
    large.incoming(key(1), &header, Box::new(far)).await.expect("it runs");
    let (mut wrong, far) = tokio::io::duplex(64);
    large.incoming(key(3), &header, Box::new(far)).await.expect("it runs");
    let mut byte = [0];
    let ended = tokio::io::AsyncReadExt::read(&mut wrong, &mut byte);
    assert_eq!(timeout(DEADLINE, ended).await.expect("it is dropped").expect("in good order"), 0);
    assert!(right.counters().is_empty(), "what is not wanted is not attached");
    large.set_wanted(lan.clone(), only(1)).await.expect("it runs");
    wait_for(&large, TrunkState::Up).await;
    let (a, b) = (Guest::attach(&left, &lan, 1).await, Guest::attach(&right, &lan, 2).await);
    greet(&a, &b, "it was kept").await;
}

/// A mesh node with its switches, as the event loop wires them.
struct Host {
    trunks: Trunks,
    fabric: Fabric,
    key: PublicKey,
}

async fn wired(mut node: crate::mesh::testbed::Node) -> Host {
    let fabric = Fabric::new();
    let trunks = Trunks::start(node.key, node.mesh.clone(), fabric.clone());
    let host = Host { trunks: trunks.clone(), fabric, key: node.key };
    tokio::spawn(async move {
        while let Some(event) = node.events.recv().await {
            match event {
                crate::mesh::MeshEvent::Stream { from, header, stream, .. } => {
                    assert_eq!(trunks.incoming(from, &header, Box::new(stream)).await, Ok(true));
                }
                crate::mesh::MeshEvent::Connected { peer, .. } => {
                    trunks.connected(peer).await.expect("it runs");
                }
                _ => {}
            }
        }
    });
    host
}

#[tokio::test]
async fn a_switch_spans_two_members_of_a_real_mesh() {
    let (a, b) = crate::mesh::testbed::pair().await;
    let (a, b) = (wired(a).await, wired(b).await);
    let lan: SwitchKey = switch("lan");
    let both: BTreeSet<PublicKey> = [a.key, b.key].into();
    a.trunks.set_wanted(lan.clone(), both.clone()).await.expect("it runs");
    b.trunks.set_wanted(lan.clone(), both).await.expect("it runs");
    wait_for(&a.trunks, TrunkState::Up).await;
    wait_for(&b.trunks, TrunkState::Up).await;
    let one = Guest::attach(&a.fabric, &lan, 1).await;
    let two = Guest::attach(&b.fabric, &lan, 2).await;
    greet(&one, &two, "there").await;
    greet(&two, &one, "and back").await;
    for n in 0..500 {
        greet(&one, &two, &format!("{n}")).await;
    }
}
