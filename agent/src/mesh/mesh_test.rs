//! Members among themselves, over real connections.

use mln_protocol::wire::MESSAGE_BYTES_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::limits::{GOSSIP_BYTES_MAX, MISBEHAVIOUR_MAX, STREAM_HEADER_BYTES_MAX};
use super::testbed::{Known, Node, QUIC, chain, keys, name, pair, root};
use super::{GossipVerdict, MeshConfig, MeshEvent, SendError, StartError, StreamError, StreamKind, start};

async fn gossip_of(node: &mut Node) -> (mln_protocol::id::PublicKey, super::GossipId, Vec<u8>) {
    node.wait_for("gossip", |event| match event {
        MeshEvent::Gossip { from, id, bytes } => Some((from, id, bytes)),
        _ => None,
    })
    .await
}

async fn message_of(node: &mut Node) -> Vec<u8> {
    node.wait_for("a message", |event| match event {
        MeshEvent::Message { bytes, .. } => Some(bytes),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn members_find_each_other_through_one_that_both_know() {
    let mut a = Node::start(1, vec![]).await;
    let mut b = Node::start(2, vec![a.known()]).await;
    b.wait_connected(a.key).await;
    let mut c = Node::start(3, vec![a.known()]).await;
    c.wait_connected(b.key).await;
    b.wait_connected(c.key).await;
    a.wait_connected(c.key).await;
    let peers = c.mesh.peers().await;
    assert_eq!(peers.iter().map(|peer| peer.name.clone()).collect::<Vec<_>>().len(), 2);
    let named: std::collections::BTreeSet<_> = peers.iter().filter_map(|peer| peer.name.clone()).collect();
    assert_eq!(named, [name(1), name(2)].into_iter().collect());
    let agent = peers[0].connection.as_ref().map(|connection| connection.agent.clone());
    assert_eq!(agent.as_deref(), Some(super::agent().as_str()));
}

#[tokio::test]
async fn the_address_book_is_told_when_it_changes_and_serves_the_next_start() {
    let (a, mut b) = pair().await;
    let mut c = Node::start(3, vec![b.known()]).await;
    let with_three = |event| match event {
        MeshEvent::AddressBook { entries } if entries.len() == 2 => Some(entries),
        _ => None,
    };
    let book: Known = c.wait_for("a book with both others", with_three).await;
    assert_eq!(book.iter().map(|(key, _)| *key).collect::<Vec<_>>(), {
        let mut keys = vec![a.key, b.key];
        keys.sort();
        keys
    });
    c.mesh.stop().await;
    b.wait_disconnected(c.key).await;
    let mut again = Node::start(3, book).await;
    again.wait_connected(a.key).await;
}

#[tokio::test]
async fn gossip_reaches_those_that_are_not_connected_to_its_author_once_it_is_accepted() {
    let mut a = Node::start(1, vec![]).await;
    let mut b = Node::start(2, vec![a.known()]).await;
    a.wait_connected(b.key).await;
    b.wait_connected(a.key).await;
    a.mesh.broadcast(b"record".to_vec()).await.expect("short enough");
    let (from, id, bytes) = gossip_of(&mut b).await;
    assert_eq!((from, bytes), (a.key, b"record".to_vec()));
    let mut c = Node::start(3, vec![b.known()]).await;
    c.wait_connected(b.key).await;
    b.wait_connected(c.key).await;
    a.mesh.stop().await;
    b.mesh.judge_gossip(a.key, id, GossipVerdict::Accept).await.expect("it runs");
    assert_eq!(gossip_of(&mut c).await.2, b"record");
}

#[tokio::test]
async fn the_same_bytes_are_the_same_gossip_whoever_publishes_them() {
    let (a, mut b) = pair().await;
    a.mesh.broadcast(b"one".to_vec()).await.expect("short enough");
    a.mesh.broadcast(b"one".to_vec()).await.expect("short enough");
    a.mesh.broadcast(b"two".to_vec()).await.expect("short enough");
    assert_eq!(gossip_of(&mut b).await.2, b"one");
    b.mesh.broadcast(b"one".to_vec()).await.expect("short enough");
    assert_eq!(gossip_of(&mut b).await.2, b"two");
    let long = vec![0; GOSSIP_BYTES_MAX + 1];
    let expect = SendError::TooLong { bytes: GOSSIP_BYTES_MAX + 1, limit: GOSSIP_BYTES_MAX };
    assert_eq!(a.mesh.broadcast(long).await, Err(expect));
}

#[tokio::test]
async fn gossip_of_the_largest_size_arrives() {
    let (a, mut b) = pair().await;
    a.mesh.broadcast(vec![7; GOSSIP_BYTES_MAX]).await.expect("as long as allowed");
    assert_eq!(gossip_of(&mut b).await.2.len(), GOSSIP_BYTES_MAX);
}

#[tokio::test]
async fn a_member_whose_gossip_is_rejected_too_often_is_disconnected() {
    let (a, mut b) = pair().await;
    for n in 0..MISBEHAVIOUR_MAX {
        a.mesh.broadcast(n.to_be_bytes().to_vec()).await.expect("short enough");
        let (from, id, _) = gossip_of(&mut b).await;
        b.mesh.judge_gossip(from, id, GossipVerdict::Reject).await.expect("it runs");
    }
    b.wait_disconnected(a.key).await;
    let counters = b.mesh.counters().await;
    assert_eq!((counters.gossip_rejected, counters.expelled), (u64::from(MISBEHAVIOUR_MAX), 1));
}

#[tokio::test]
async fn messages_arrive_and_many_at_once_do_too() {
    let (a, mut b) = pair().await;
    for n in 0..100_u32 {
        a.mesh.send(b.key, n.to_be_bytes().to_vec()).await.expect("short enough");
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        seen.insert(message_of(&mut b).await);
    }
    assert_eq!(seen.len(), 100);
    a.mesh.send(b.key, vec![1; MESSAGE_BYTES_MAX]).await.expect("as long as allowed");
    assert_eq!(message_of(&mut b).await.len(), MESSAGE_BYTES_MAX);
    let long = a.mesh.send(b.key, vec![1; MESSAGE_BYTES_MAX + 1]).await;
    assert_eq!(long, Err(SendError::TooLong { bytes: MESSAGE_BYTES_MAX + 1, limit: MESSAGE_BYTES_MAX }));
    a.mesh.send(keys(99).public(), vec![1]).await.expect("nobody is there, which is no error");
    assert_eq!(a.mesh.counters().await.messages_dropped, 1);
}

#[tokio::test]
async fn a_stream_carries_its_header_and_bytes_both_ways() {
    let (a, mut b) = pair().await;
    let mut near = a.mesh.open_stream(b.key, StreamKind::Bulk, b"header").await.expect("it is connected");
    let (from, kind, header, mut far) = b
        .wait_for("a stream", |event| match event {
            MeshEvent::Stream { from, kind, header, stream } => Some((from, kind, header, stream)),
            _ => None,
        })
        .await;
    assert_eq!((from, kind, header), (a.key, StreamKind::Bulk, b"header".to_vec()));
    near.write_all(b"there").await.expect("open");
    near.shutdown().await.expect("open");
    let mut there = Vec::new();
    far.read_to_end(&mut there).await.expect("open");
    far.write_all(b"back").await.expect("open");
    far.shutdown().await.expect("open");
    let mut back = Vec::new();
    near.read_to_end(&mut back).await.expect("open");
    assert_eq!((there, back), (b"there".to_vec(), b"back".to_vec()));
    let nobody = a.mesh.open_stream(keys(99).public(), StreamKind::Bulk, b"").await;
    assert!(matches!(nobody, Err(StreamError::NotConnected)));
    let long = a.mesh.open_stream(b.key, StreamKind::Bulk, &[0; STREAM_HEADER_BYTES_MAX + 1]).await;
    assert!(matches!(long, Err(StreamError::Limit { .. })));
}

#[tokio::test]
async fn a_peer_that_was_restarted_is_dialled_again() {
    let (a, mut b) = pair().await;
    let (key, addr) = (a.key, a.addr.clone());
    a.mesh.stop().await;
    b.wait_disconnected(key).await;
    // The same port, and no knowledge of the other: it is the other who dials.
    let mut a = Node::start_on(&addr.to_string(), 1, chain(&root(), 1, 4), vec![]).await;
    b.wait_connected(key).await;
    a.wait_connected(b.key).await;
    b.mesh.broadcast(b"again".to_vec()).await.expect("short enough");
    assert_eq!(gossip_of(&mut a).await.2, b"again");
}

#[tokio::test]
async fn crossing_dials_leave_one_connection() {
    let listen = |seed| async move { Node::start(seed, vec![]).await };
    let (mut a, mut b) = (listen(1).await, listen(2).await);
    a.mesh.learn(b.key, vec![b.addr.clone()]).await.expect("it runs");
    b.mesh.learn(a.key, vec![a.addr.clone()]).await.expect("it runs");
    a.wait_connected(b.key).await;
    b.wait_connected(a.key).await;
    a.mesh.send(b.key, b"to b".to_vec()).await.expect("short enough");
    b.mesh.send(a.key, b"to a".to_vec()).await.expect("short enough");
    assert_eq!(message_of(&mut b).await, b"to b");
    assert_eq!(message_of(&mut a).await, b"to a");
}

/// All dial all others at the same moment.
#[tokio::test]
async fn many_crossing_dials_leave_everybody_connected_to_everybody() {
    let mut nodes = Vec::new();
    for seed in 1..=6 {
        nodes.push(Node::start(seed, vec![]).await);
    }
    let all: Known = nodes.iter().map(Node::known).collect();
    for node in &nodes {
        for (key, addresses) in &all {
            node.mesh.learn(*key, addresses.clone()).await.expect("it runs");
        }
    }
    for node in &mut nodes {
        let mut connected = std::collections::BTreeSet::new();
        while connected.len() < all.len() - 1 {
            let (key, now) = node
                .wait_for("a connection", |event| match event {
                    MeshEvent::Connected { peer, .. } => Some((peer, true)),
                    MeshEvent::Disconnected { peer } => Some((peer, false)),
                    _ => None,
                })
                .await;
            if now {
                connected.insert(key)
            } else {
                connected.remove(&key)
            };
        }
    }
    nodes[0].mesh.broadcast(b"to all".to_vec()).await.expect("short enough");
    for node in &mut nodes[1..] {
        assert_eq!(gossip_of(node).await.2, b"to all");
    }
}

/// QUIC doesn't tell the other side when a process is killed: its old connection looks alive for a while.
#[test]
fn a_peer_that_was_killed_and_comes_back_replaces_its_old_connection() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (staying, first, second) = (runtime(), runtime(), runtime());
    let mut a = staying.block_on(Node::start_on(QUIC, 1, chain(&root(), 1, 4), vec![]));
    let known = vec![a.known()];
    let mut b = first.block_on(Node::start_on(QUIC, 2, chain(&root(), 2, 4), known.clone()));
    first.block_on(b.wait_connected(a.key));
    staying.block_on(a.wait_connected(b.key));
    // Its tasks end where they are, and say nothing any more.
    first.shutdown_background();
    let mut b = second.block_on(Node::start_on(QUIC, 2, chain(&root(), 2, 4), known));
    second.block_on(b.wait_connected(a.key));
    staying.block_on(a.wait_disconnected(b.key));
    staying.block_on(a.wait_connected(b.key));
    second.block_on(b.mesh.broadcast(b"back".to_vec())).expect("short enough");
    assert_eq!(staying.block_on(gossip_of(&mut a)).2, b"back");
    staying.block_on(a.mesh.broadcast(b"welcome".to_vec())).expect("short enough");
    assert_eq!(second.block_on(gossip_of(&mut b)).2, b"welcome");
}

#[tokio::test]
async fn members_connect_over_quic_as_well() {
    let mut a = Node::start_on(QUIC, 1, chain(&root(), 1, 4), vec![]).await;
    let mut b = Node::start_on(QUIC, 2, chain(&root(), 2, 4), vec![a.known()]).await;
    b.wait_connected(a.key).await;
    a.wait_connected(b.key).await;
    a.mesh.send(b.key, b"datagrams".to_vec()).await.expect("short enough");
    assert_eq!(message_of(&mut b).await, b"datagrams");
}

#[tokio::test]
async fn a_host_whose_own_grant_does_not_hold_does_not_start() {
    let config = MeshConfig {
        keys: keys(1),
        root: root().public(),
        chain: chain(&root(), 2, 4),
        listen: vec![],
        known: vec![],
        reach: super::Reach::default(),
    };
    assert!(matches!(start(config), Err(StartError::Grant(_))));
}
