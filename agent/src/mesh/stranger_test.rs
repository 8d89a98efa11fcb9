//! Those that don't belong: without a grant, with nonsense, with too much.

use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use mln_door::key::{keypair_of, peer_id_of};
use mln_door::streams::Streams;
use mln_protocol::trust::mesh_of;
use mln_protocol::wire::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::behaviour::{HELLO_PROTOCOL, topic_of};
use super::handle::RefusedBy;
use super::limits::REFUSALS_MAX;
use super::message::{MESSAGE_PROTOCOL, MessageCodec, Parcel};
use super::testbed::{Node, TCP, chain, keys, pair, root, swarm};
use super::{MeshConfig, MeshEvent, start};

/// A host of another mesh that believes to be a host of this one: its program checks its own chain, so it is
/// started for its own mesh and dials into ours.
async fn start_stranger(seed: u8, known: &Node) -> Node {
    let other_root = keys(201);
    let config = MeshConfig {
        keys: keys(seed),
        root: other_root.public(),
        chain: chain(&other_root, seed, 4),
        listen: vec![TCP.parse().expect("a valid address")],
        known: vec![known.known()],
        reach: super::Reach::default(),
    };
    let (mesh, events) = start(config).expect("the mesh starts");
    Node::listening(seed, mesh, events).await
}

#[tokio::test]
async fn a_stranger_is_refused_is_told_why_and_hears_nothing() {
    let (mut a, mut b) = pair().await;
    let mut stranger = start_stranger(9, &a).await;
    let told = stranger
        .wait_for("a refusal", |event| match event {
            MeshEvent::Refused { by: RefusedBy::Peer, reason, .. } => Some(reason),
            MeshEvent::Connected { .. } | MeshEvent::Gossip { .. } => panic!("it was let in: {event:?}"),
            _ => None,
        })
        .await;
    assert_eq!(told, Refusal::Forged);
    let (peer, reason) = a
        .wait_for("a refusal", |event| match event {
            MeshEvent::Refused { by: RefusedBy::Us, peer, reason, .. } => Some((peer, reason)),
            _ => None,
        })
        .await;
    assert_eq!((peer, reason), (stranger.key, Refusal::Forged));
    a.mesh.broadcast(b"secret".to_vec()).await.expect("short enough");
    b.wait_for("gossip", |event| matches!(event, MeshEvent::Gossip { .. }).then_some(())).await;
    a.mesh.stop().await;
    b.mesh.stop().await;
    stranger.mesh.stop().await;
    while let Some(event) = stranger.events.recv().await {
        assert!(
            !matches!(
                event,
                MeshEvent::Gossip { .. } | MeshEvent::Connected { .. } | MeshEvent::AddressBook { .. }
            ),
            "{event:?}"
        );
    }
}

/// Whoever says hello without end is shunned.
#[tokio::test]
async fn a_stranger_that_comes_again_and_again_is_no_longer_heard() {
    let mut a = Node::start(1, vec![]).await;
    for _ in 0..REFUSALS_MAX {
        let stranger = start_stranger(9, &a).await;
        a.wait_for("a refusal", |event| matches!(event, MeshEvent::Refused { .. }).then_some(())).await;
        stranger.mesh.stop().await;
    }
    let _stranger = start_stranger(9, &a).await;
    let shunned = async {
        while a.mesh.counters().await.shunned == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), shunned).await.expect("its connection is closed unheard");
    assert_eq!(a.mesh.counters().await.refused, u64::from(REFUSALS_MAX));
}

#[derive(NetworkBehaviour)]
struct Rogue {
    gossip: gossipsub::Behaviour,
    messages: request_response::Behaviour<MessageCodec>,
    door: Streams,
}

/// A program that speaks all our protocols, but with nothing before them that keeps strangers out.
fn rogue(seed: u8) -> libp2p::Swarm<Rogue> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .build()
        .expect("good parameters");
    let mut gossip = gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config)
        .expect("good parameters");
    gossip.subscribe(&topic_of(mesh_of(root().public()))).expect("a good topic");
    let messages = request_response::Behaviour::new(
        [(MESSAGE_PROTOCOL, ProtocolSupport::Full)],
        request_response::Config::default(),
    );
    let behaviour = Rogue { gossip, messages, door: Streams::new([]) };
    swarm(keypair_of(&keys(seed)), behaviour)
}

#[tokio::test]
async fn whoever_skips_the_hello_is_served_nothing_and_closed() {
    let mut a = Node::start(1, vec![]).await;
    let mut rogue = rogue(9);
    let peer = peer_id_of(a.key).expect("a key");
    rogue.dial(DialOpts::peer_id(peer).addresses(vec![a.addr.clone()]).build()).expect("it dials");
    rogue.behaviour_mut().messages.send_request(&peer, Parcel::Message(b"let me in".to_vec()));
    let (mut no_gossip, mut no_message, mut closed) = (false, false, false);
    let all = async {
        while !(no_gossip && no_message && closed) {
            match rogue.select_next_some().await {
                SwarmEvent::Behaviour(RogueEvent::Gossip(gossipsub::Event::GossipsubNotSupported {
                    ..
                })) => {
                    no_gossip = true;
                }
                SwarmEvent::Behaviour(RogueEvent::Messages(request_response::Event::OutboundFailure {
                    error: request_response::OutboundFailure::UnsupportedProtocols,
                    ..
                })) => no_message = true,
                SwarmEvent::Behaviour(RogueEvent::Gossip(event)) => panic!("{event:?}"),
                SwarmEvent::ConnectionClosed { .. } => closed = true,
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(20), all).await.expect("refused everything and closed");
    assert_eq!(a.mesh.counters().await.hello_failed, 1);
    assert!(a.mesh.peers().await.is_empty());
    a.mesh.stop().await;
    while let Some(event) = a.events.recv().await {
        assert!(!matches!(event, MeshEvent::Message { .. } | MeshEvent::Connected { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn garbage_instead_of_a_hello_is_refused_as_such() {
    let mut a = Node::start(1, vec![]).await;
    let mut rogue = swarm(keypair_of(&keys(9)), Streams::new([]));
    let peer = peer_id_of(a.key).expect("a key");
    rogue.dial(DialOpts::peer_id(peer).addresses(vec![a.addr.clone()]).build()).expect("it dials");
    while !matches!(rogue.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
    let (reply, stream) = oneshot::channel();
    rogue.behaviour_mut().open(peer, None, HELLO_PROTOCOL, reply);
    let speak = async {
        let mut stream = stream.await.expect("connected").expect("hello is served");
        stream.write_block(b"\x01\0garbage").await.expect("open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("open");
        stream.shutdown().await.expect("open");
        answer
    };
    let answer = tokio::select! {
        answer = speak => answer,
        _ = async { loop { rogue.select_next_some().await; } } => unreachable!("it goes on for ever"),
    };
    let expect = mln_protocol::wire::HelloMessage::Refused(Refusal::Malformed).to_bytes();
    assert_eq!(answer[4..], expect);
    let reason = a
        .wait_for("a refusal", |event| match event {
            MeshEvent::Refused { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, Refusal::Malformed);
}

/// A member's program that ignores the limit on messages.
#[tokio::test]
async fn an_over_long_message_is_dropped_and_counted_and_the_next_one_arrives() {
    let (a, mut b) = pair().await;
    a.mesh.send_unchecked(b.key, vec![0; mln_protocol::wire::MESSAGE_BYTES_MAX + 1]).await;
    a.mesh.send(b.key, b"after".to_vec()).await.expect("short enough");
    let next = b
        .wait_for("a message", |event| match event {
            MeshEvent::Message { bytes, .. } => Some(bytes),
            _ => None,
        })
        .await;
    assert_eq!(next, b"after");
    let counted = async {
        while b.mesh.counters().await.misbehaviour == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), counted).await.expect("it is counted");
    assert_eq!(b.mesh.counters().await.messages_received, 1);
}
