//! Operators at the door, over real connections.

use mln_door::dial::Target;
use mln_door::operator::{Credentials, EnterError, enter};
use mln_protocol::id::Name;
use mln_protocol::trust::{Domain, Grant, KeyPair, Signed, Verb, mesh_of};
use mln_protocol::wire::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, Instant, timeout};

use super::testbed::{Node, chain, keys, pair, root};
use super::{MeshEvent, clock};

/// A grant of the host with key 1 for the key with this number, behind that host's own.
fn grant(seed: u8, verbs: &[Verb], not_after_unix_ms: Option<u64>) -> Vec<Signed> {
    let grant = Grant {
        mesh: mesh_of(root().public()),
        subject: keys(seed).public(),
        name: Some(Name::parse("anna").expect("a valid name")),
        verbs: verbs.iter().copied().collect(),
        passes: 0,
        not_after_unix_ms,
        scope: mln_protocol::trust::Scope::default(),
    };
    let mut links = chain(&root(), 1, 4);
    links.push(keys(1).sign(Domain::Grant, grant.to_bytes()));
    links
}

fn credentials(seed: u8, chain: Vec<Signed>, root: &KeyPair) -> Credentials {
    Credentials { keys: keys(seed), chain, root: Some(root.public()), agent: "mlnctl".to_owned() }
}

fn target(node: &Node) -> [Target; 1] {
    [Target { peer: Some(node.key), addresses: vec![node.addr.clone()] }]
}

#[tokio::test]
async fn an_operator_gets_one_stream_and_is_nobody_s_peer() {
    let (mut a, b) = pair().await;
    let anna = credentials(7, grant(7, &[Verb::View, Verb::Exec], None), &root());
    let mut entered = enter(&anna, &target(&a)).await.expect("a good grant");
    assert_eq!(entered.key, a.key);
    assert!(entered.known.peers.iter().any(|peer| peer.key == b.key), "the operator is told of others");
    let (standing, mut stream) = a
        .wait_for("an operator", |event| match event {
            MeshEvent::Operator { standing, stream, .. } => Some((standing, stream)),
            MeshEvent::Connected { .. } => panic!("an operator is no member"),
            _ => None,
        })
        .await;
    assert_eq!(standing.verbs, [Verb::View, Verb::Exec].into());
    entered.stream.write_all(b"ask").await.expect("it is served");
    entered.stream.flush().await.expect("it is served");
    let mut said = [0; 3];
    stream.read_exact(&mut said).await.expect("it was sent");
    assert_eq!(&said, b"ask");
    assert!(a.mesh.peers().await.iter().all(|peer| peer.key == b.key));
    assert_eq!(a.mesh.counters().await.operators, 1);
    // As many commands at a time as somebody types.
    let second = enter(&anna, &target(&a)).await.expect("a second command beside the first");
    drop((entered, second));
}

#[tokio::test]
async fn whoever_is_no_operator_is_refused_with_the_reason() {
    let (a, _b) = pair().await;
    let check = async |chain: Vec<Signed>, expect: Refusal| {
        let refused = enter(&credentials(7, chain, &root()), &target(&a)).await;
        assert!(
            matches!(&refused, Err(EnterError::Refused { why, .. }) if *why == expect),
            "{expect:?}: {refused:?}"
        );
    };
    let an_hour_ago = clock::now(tokio::time::Instant::now()).unix_ms - 3_600_000;
    check(vec![], Refusal::ChainLength).await;
    check(chain(&keys(201), 7, 4), Refusal::Forged).await;
    check(grant(7, &[Verb::View], Some(an_hour_ago)), Refusal::Expired).await;
    check(grant(8, &[Verb::View], None), Refusal::OtherSubject).await;
    // A host's grant makes no operator: its agent asks for it.
    check(grant(7, &[Verb::View, Verb::Join], None), Refusal::NotGranted).await;
    assert_eq!(a.mesh.counters().await.operators, 0);
}

#[tokio::test]
async fn an_operator_asks_nothing_of_a_host_of_another_mesh() {
    let (a, _b) = pair().await;
    // The grant is genuine for the host that is dialled; whoever asks trusts another root.
    let anna = credentials(7, grant(7, &[Verb::View], None), &keys(201));
    let entered = enter(&anna, &target(&a)).await;
    assert!(matches!(entered, Err(EnterError::NotAHost { .. })), "{entered:?}");
}

#[tokio::test]
async fn what_an_operator_has_open_ends_with_the_grant() {
    let (mut a, _b) = pair().await;
    let soon = clock::now(Instant::now()).unix_ms + 1500;
    let anna = credentials(7, grant(7, &[Verb::View, Verb::Console], Some(soon)), &root());
    let mut entered = enter(&anna, &target(&a)).await.expect("the grant has not ended yet");
    let _served = a
        .wait_for("an operator", |event| match event {
            MeshEvent::Operator { stream, .. } => Some(stream),
            _ => None,
        })
        .await;
    let read = timeout(Duration::from_secs(20), entered.stream.read(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "it goes on after the end of the grant: {read:?}");
    assert!(clock::now(Instant::now()).unix_ms >= soon, "it ended too early");
}

#[tokio::test]
async fn what_an_operator_has_open_ends_with_the_revocation_of_any_grant_on_the_way() {
    let (mut a, mut b) = pair().await;
    let chain = grant(7, &[Verb::View, Verb::Console], None);
    let digest = |link: &Signed| mln_protocol::id::Digest::of(&link.payload);
    let own = digest(&chain[1]);
    let anna = credentials(7, chain, &root());
    let mut entered = enter(&anna, &target(&a)).await.expect("a good grant");
    let _served = a
        .wait_for("an operator", |event| match event {
            MeshEvent::Operator { stream, .. } => Some(stream),
            _ => None,
        })
        .await;
    a.mesh.revoke(own).await.expect("the mesh runs");
    let read = timeout(Duration::from_secs(20), entered.stream.read(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "it goes on: {read:?}");
    let again = enter(&anna, &target(&a)).await;
    assert!(matches!(&again, Err(EnterError::Refused { why: Refusal::Revoked, .. })), "{again:?}");
    // Whoever hasn't heard serves her still; and a member is as little above it as she is.
    drop(enter(&anna, &target(&b)).await.expect("nobody has told this host"));
    let (key, link) = (b.key, chain_of_b());
    a.mesh.revoke(digest(&link)).await.expect("the mesh runs");
    a.wait_for("the member is shut out", |event| match event {
        MeshEvent::Disconnected { peer } if peer == key => Some(()),
        _ => None,
    })
    .await;
    b.wait_for("the member is told why", |event| match event {
        MeshEvent::Refused { reason: Refusal::Revoked, .. } => Some(()),
        _ => None,
    })
    .await;
}

/// The grant of the second host of a pair.
fn chain_of_b() -> Signed {
    chain(&root(), 2, 4)[0].clone()
}
