//! Joining with tokens, over real connections.

use mln_door::dial::ConnectError;
use mln_protocol::id::PublicKey;
use mln_protocol::trust::{Role, Verb, admit};
use mln_protocol::wire::{Refusal, Token};

use super::testbed::{Node, chain, keys, name, root};
use super::{Invitation, InviteError, JoinError, MeshEvent, clock, join, new_token};

fn now() -> mln_protocol::time::Now {
    clock::now(tokio::time::Instant::now())
}

fn token(issuer: &Node, not_after_unix_ms: u64) -> Token {
    let invitation = Invitation {
        verbs: vec![Verb::Join, Verb::View],
        name: None,
        not_after_unix_ms,
        addresses: vec![issuer.addr.clone()],
    };
    new_token(&keys(1), root().public(), &chain(&root(), 1, 4), &invitation, now()).expect("passes are left")
}

fn in_an_hour() -> u64 {
    now().unix_ms + 3_600_000
}

/// Answers requests to join as an event loop that has one name taken.
async fn answer_joins(mut node: Node, taken: PublicKey) -> Node {
    loop {
        let Some(event) = node.events.recv().await else { return node };
        if let MeshEvent::JoinRequest { key, reply, .. } = event {
            let verdict = if key == taken { Err(Refusal::NameTaken) } else { Ok(()) };
            reply.send(verdict).expect("the join waits");
        }
    }
}

/// A member, and its events apart from it.
async fn introducer() -> (Node, Node) {
    let node = Node::start(1, vec![]).await;
    let (_, nothing) = tokio::sync::mpsc::channel(1);
    let events =
        Node { key: node.key, mesh: node.mesh.clone(), addr: node.addr.clone(), events: node.events };
    (Node { events: nothing, ..node }, events)
}

#[tokio::test]
async fn a_token_makes_a_member_and_again_the_same_one() {
    let (one, events) = introducer().await;
    tokio::spawn(answer_joins(events, keys(9).public()));
    let text = token(&one, in_an_hour()).to_text();
    let token = Token::parse(&text).expect("as it was made");
    let membership = join(&token, Role::Host, &name(5), &keys(5)).await.expect("a good token");
    let standing = admit(root().public(), &membership.chain, keys(5).public(), now()).expect("a good chain");
    assert_eq!(standing.name, Some(name(5)));
    assert_eq!(standing.verbs, [Verb::Join, Verb::View].into_iter().collect());
    assert_eq!(membership.known[0], one.known());
    let again = join(&token, Role::Host, &name(5), &keys(5)).await.expect("a good token");
    assert_eq!(again.chain, membership.chain);
    let mut five = Node::start_on(super::testbed::TCP, 5, membership.chain, membership.known).await;
    five.wait_connected(one.key).await;
    assert_eq!(one.mesh.counters().await.joins, 2);
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let (one, events) = introducer().await;
    tokio::spawn(answer_joins(events, keys(9).public()));
    let refused = join(&token(&one, in_an_hour()), Role::Host, &name(5), &keys(9)).await;
    assert!(matches!(refused, Err(JoinError::Refused(Refusal::NameTaken))), "{refused:?}");
}

#[tokio::test]
async fn an_expired_token_and_a_forged_one_are_refused_with_the_reason() {
    let (one, mut events) = introducer().await;
    let expired = join(&token(&one, 1_000_000), Role::Host, &name(5), &keys(5)).await;
    assert!(matches!(expired, Err(JoinError::Refused(Refusal::Expired))), "{expired:?}");
    // Its chain is genuine, but the secret is of another key.
    let stolen = Token { secret: [77; 32], ..token(&one, in_an_hour()) };
    let stolen = join(&stolen, Role::Host, &name(5), &keys(5)).await;
    assert!(matches!(stolen, Err(JoinError::Refused(Refusal::OtherSubject))), "{stolen:?}");
    let mut forged = token(&one, in_an_hour());
    forged.chain[1].payload[70] ^= 1;
    let forged = join(&forged, Role::Host, &name(5), &keys(5)).await;
    assert!(matches!(forged, Err(JoinError::Refused(Refusal::Forged))), "{forged:?}");
    let refusals = events
        .wait_for("the third refusal", |event| match event {
            MeshEvent::Refused { reason: Refusal::Forged, peer, .. } => Some(peer),
            MeshEvent::JoinRequest { .. } => panic!("nobody may be asked about a bad token"),
            _ => None,
        })
        .await;
    assert_eq!(refusals, keys(5).public());
    assert_eq!(one.mesh.counters().await.joins_refused, 3);
}

#[tokio::test]
async fn a_token_that_leads_nowhere_says_so() {
    let (one, _events) = introducer().await;
    let mut token = token(&one, in_an_hour());
    token.addresses = vec!["not an address".into()];
    assert!(matches!(
        join(&token, Role::Host, &name(5), &keys(5)).await,
        Err(JoinError::Connect(ConnectError::NoAddress))
    ));
    token.addresses = vec!["/ip4/127.0.0.1/tcp/1".into()];
    assert!(matches!(
        join(&token, Role::Host, &name(5), &keys(5)).await,
        Err(JoinError::Connect(ConnectError::Unreachable(_)))
    ));
    // Somebody else answers there.
    let two = Node::start(2, vec![]).await;
    token.addresses = vec![two.addr.to_string()];
    assert!(matches!(
        join(&token, Role::Host, &name(5), &keys(5)).await,
        Err(JoinError::Connect(ConnectError::Unreachable(_)))
    ));
}

#[test]
fn a_host_whose_grant_ends_with_it_makes_no_token() {
    let invitation = Invitation { verbs: vec![], name: None, not_after_unix_ms: 0, addresses: vec![] };
    let made = new_token(&keys(1), root().public(), &chain(&root(), 1, 1), &invitation, now());
    assert_eq!(made, Err(InviteError::NoPasses));
}
