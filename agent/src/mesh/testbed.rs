//! Real swarms in one process, for the tests of the mesh.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{Multiaddr, SwarmBuilder, noise, tcp, yamux};
use mln_protocol::id::{Name, PublicKey};
use mln_protocol::trust::{Domain, Grant, KeyPair, Signed, Verb, mesh_of};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{MeshConfig, MeshEvent, MeshHandle, Reach, start};

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(30);

/// The key of a test's mesh.
pub(super) fn root() -> KeyPair {
    keys(200)
}

/// A key by number.
pub(super) fn keys(seed: u8) -> KeyPair {
    KeyPair::from_secret([seed; 32])
}

/// A name by number.
pub(super) fn name(seed: u8) -> Name {
    Name::parse(&format!("host{seed}")).expect("a valid name")
}

/// A host's chain of one link, signed by `issuer`.
pub(super) fn chain(issuer: &KeyPair, seed: u8, passes: u8) -> Vec<Signed> {
    let grant = Grant {
        mesh: mesh_of(issuer.public()),
        subject: keys(seed).public(),
        name: Some(name(seed)),
        verbs: Verb::ALL.into_iter().collect(),
        passes,
        not_after_unix_ms: None,
        scope: mln_protocol::trust::Scope::default(),
    };
    vec![issuer.sign(Domain::Grant, grant.to_bytes())]
}

/// What members know of others.
pub(super) type Known = Vec<(PublicKey, Vec<Multiaddr>)>;

/// A member with a TCP listener, and a place for its events.
pub(crate) struct Node {
    pub(crate) key: PublicKey,
    pub(crate) mesh: MeshHandle,
    pub(crate) events: mpsc::Receiver<MeshEvent>,
    pub(super) addr: Multiaddr,
}

/// Any free TCP port of this machine.
pub(super) const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// Any free QUIC port of this machine.
pub(super) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

impl Node {
    /// Starts a member of the test's mesh.
    pub(super) async fn start(seed: u8, known: Known) -> Self {
        Self::start_on(TCP, seed, chain(&root(), seed, 4), known).await
    }

    /// Starts a member with a chain of its own on an address.
    pub(super) async fn start_on(listen: &str, seed: u8, chain: Vec<Signed>, known: Known) -> Self {
        let listen = vec![listen.parse().expect("a valid address")];
        let (mesh, events) = start(MeshConfig {
            keys: keys(seed),
            root: root().public(),
            chain,
            listen,
            known,
            reach: Reach::default(),
        })
        .expect("the mesh starts");
        Self::listening(seed, mesh, events).await
    }

    /// Waits until a mesh that was just started listens.
    pub(super) async fn listening(seed: u8, mesh: MeshHandle, events: mpsc::Receiver<MeshEvent>) -> Self {
        let mut node =
            Self { key: keys(seed).public(), mesh, events, addr: TCP.parse().expect("a valid address") };
        node.addr = node
            .wait_for("listening", |event| match event {
                MeshEvent::Listening { addr } => Some(addr),
                _ => None,
            })
            .await;
        node
    }

    /// Returns what others need to know to dial it.
    pub(super) fn known(&self) -> (PublicKey, Vec<Multiaddr>) {
        (self.key, vec![self.addr.clone()])
    }

    /// Waits for an event that `pick` takes; others are dropped.
    pub(super) async fn wait_for<T>(&mut self, what: &str, pick: impl Fn(MeshEvent) -> Option<T>) -> T {
        let mut last = String::from("nothing");
        let found = timeout(DEADLINE, async {
            loop {
                let event = self.events.recv().await.expect("the mesh runs");
                last = format!("{event:?}");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("{:?} waited for {what}; the last event was {last}", self.key),
        }
    }

    /// Waits until a member is connected.
    pub(super) async fn wait_connected(&mut self, other: PublicKey) {
        self.wait_for("a connection", |event| match event {
            MeshEvent::Connected { peer, .. } if peer == other => Some(()),
            _ => None,
        })
        .await;
    }

    /// Waits until a member is no longer connected.
    pub(super) async fn wait_disconnected(&mut self, other: PublicKey) {
        self.wait_for("a disconnection", |event| match event {
            MeshEvent::Disconnected { peer } if peer == other => Some(()),
            _ => None,
        })
        .await;
    }
}

/// Two members that are connected.
pub(crate) async fn pair() -> (Node, Node) {
    let mut a = Node::start(1, vec![]).await;
    let mut b = Node::start(2, vec![a.known()]).await;
    a.wait_connected(b.key).await;
    b.wait_connected(a.key).await;
    (a, b)
}

/// A program that is no member: a swarm with a behaviour of the test's choice.
pub(super) fn swarm<B: NetworkBehaviour>(keys: Keypair, behaviour: B) -> Swarm<B> {
    let Ok(builder) = SwarmBuilder::with_existing_identity(keys)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("keys for noise")
        .with_quic()
        .with_behaviour(|_| behaviour);
    builder.with_swarm_config(|config| config.with_idle_connection_timeout(Duration::MAX)).build()
}
