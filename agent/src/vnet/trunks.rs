//! Which trunks there should be: opened to the hosts that carry a switch, and again when they are lost.
//!
//! Of two hosts the one with the smaller key opens. The other takes the stream only if it wants the trunk as
//! well; since the two rarely learn that they share a switch at the same moment, a stream that comes too early
//! is kept for a while.
//!
//! ```text
//!  wanted ──► idle ──(opener: at once, then with pauses)──► opening ──► up
//!              ▲                                               │          │
//!              └──────────────── failed, ended ────────────────┴──────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mln_protocol::id::PublicKey;
use mln_protocol::wire::TrunkHeader;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::SwitchKey;
use super::fabric::{Fabric, FabricError, LinkEnd};
use super::trunk::TrunkStream;
use crate::mesh::{MeshHandle, MeshStream, StreamError, StreamKind};

/// The first pause before a trunk is opened again; it doubles with each failure.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest pause before a trunk is opened again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A trunk that was up for less counts as a failure.
const UP_MIN: Duration = Duration::from_secs(2);

/// How long a stream for a switch that this host doesn't carry yet is kept.
const PARKED_TIME: Duration = Duration::from_secs(10);

/// How many such streams are kept.
const PARKED_MAX: usize = 256;

/// How many such streams are kept of one peer.
const PARKED_PER_PEER_MAX: usize = 32;

/// Requests that wait for the task.
const REQUESTS_MAX: usize = 64;

/// Something that opens trunks to other hosts; [`MeshHandle`] does.
pub trait OpenTrunk: Send + Sync + 'static {
    /// Opens a stream to a host and sends the header of a trunk on it.
    fn open_trunk(
        &self,
        peer: PublicKey,
        header: Vec<u8>,
    ) -> impl Future<Output = Result<Box<dyn TrunkStream>, StreamError>> + Send;
}

impl OpenTrunk for MeshHandle {
    async fn open_trunk(
        &self,
        peer: PublicKey,
        header: Vec<u8>,
    ) -> Result<Box<dyn TrunkStream>, StreamError> {
        let stream: MeshStream = self.open_stream(peer, StreamKind::Trunk, &header).await?;
        Ok(Box::new(stream))
    }
}

/// The task has ended: the program is shutting down, or it is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trunks are shut down")]
pub struct TrunksStopped;

/// How a wanted trunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkState {
    /// Not there: it is opened soon, or by the other host.
    Down,
    /// There.
    Up,
}

/// A wanted trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkStatus {
    /// The switch.
    pub switch: SwitchKey,
    /// The other host.
    pub peer: PublicKey,
    /// How it is.
    pub state: TrunkState,
}

/// The handle to the trunks of this host; cheap to clone. The last one that goes ends them.
#[derive(Clone, Debug)]
pub struct Trunks {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Want(SwitchKey, BTreeSet<PublicKey>),
    Incoming(PublicKey, SwitchKey, Box<dyn TrunkStream>),
    Connected(PublicKey),
    Status(oneshot::Sender<Vec<TrunkStatus>>),
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Want(switch, peers) => f.debug_tuple("Want").field(switch).field(peers).finish(),
            Self::Incoming(peer, switch, _) => f.debug_tuple("Incoming").field(peer).field(switch).finish(),
            Self::Connected(peer) => f.debug_tuple("Connected").field(peer).finish(),
            Self::Status(_) => f.write_str("Status"),
        }
    }
}

impl Trunks {
    /// Starts with no trunk wanted. Must be called within a tokio runtime.
    pub fn start(own: PublicKey, mesh: impl OpenTrunk, fabric: Fabric) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let task = Task {
            own,
            mesh: std::sync::Arc::new(mesh),
            fabric,
            requests: receiver,
            wanted: BTreeMap::new(),
            parked: BTreeMap::new(),
            pending: FuturesUnordered::new(),
            generation: 0,
        };
        tokio::spawn(task.run());
        Self { requests }
    }

    /// Says which other hosts carry a switch; none ends its trunks. This host itself may be among them.
    pub async fn set_wanted(
        &self,
        switch: SwitchKey,
        peers: BTreeSet<PublicKey>,
    ) -> Result<(), TrunksStopped> {
        self.request(Request::Want(switch, peers)).await
    }

    /// Takes a trunk that another host has opened, if it is wanted; see the module. Returns whether the header
    /// can be read: what can't is a misbehaviour of the peer.
    pub async fn incoming(
        &self,
        from: PublicKey,
        header: &[u8],
        stream: Box<dyn TrunkStream>,
    ) -> Result<bool, TrunksStopped> {
        let Ok(header) = TrunkHeader::from_bytes(header) else { return Ok(false) };
        self.request(Request::Incoming(from, header.into(), stream)).await?;
        Ok(true)
    }

    /// Says that a host is connected, so that its trunks are opened at once.
    pub async fn connected(&self, peer: PublicKey) -> Result<(), TrunksStopped> {
        self.request(Request::Connected(peer)).await
    }

    /// Returns every wanted trunk, ordered by switch and host.
    pub async fn status(&self) -> Result<Vec<TrunkStatus>, TrunksStopped> {
        let (reply, status) = oneshot::channel();
        self.request(Request::Status(reply)).await?;
        status.await.map_err(|_| TrunksStopped)
    }

    async fn request(&self, request: Request) -> Result<(), TrunksStopped> {
        self.requests.send(request).await.map_err(|_| TrunksStopped)
    }
}

type Key = (SwitchKey, PublicKey);

struct Task<M> {
    own: PublicKey,
    mesh: std::sync::Arc<M>,
    fabric: Fabric,
    requests: mpsc::Receiver<Request>,
    wanted: BTreeMap<Key, Wanted>,
    /// Streams that came before their trunk was wanted, and until when they are kept.
    parked: BTreeMap<Key, (Instant, Box<dyn TrunkStream>)>,
    /// Trunks being opened, and the ends of those that are up.
    pending: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    /// Tells an outcome of the present trunk from one of a former trunk under the same key.
    generation: u64,
}

struct Wanted {
    failures: u32,
    state: State,
}

enum State {
    Idle { retry_at: Option<Instant> },
    Opening { generation: u64 },
    Up { generation: u64, since: Instant },
}

enum Outcome {
    Opened(Key, u64, Result<Box<dyn TrunkStream>, StreamError>),
    Ended(Key, u64),
}

impl<M: OpenTrunk> Task<M> {
    async fn run(mut self) {
        loop {
            let wake = self.next_wake();
            // Cancel-safe: a receiver and a set of futures keep what they have not returned, and the sleep is
            // until an instant.
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.on_request(request).await,
                    None => return,
                },
                Some(outcome) = self.pending.next() => self.on_outcome(outcome).await,
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            let now = Instant::now();
            self.parked.retain(|_, (until, _)| *until > now);
            self.open_due(now);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let retries = self.wanted.values().filter_map(|wanted| match wanted.state {
            State::Idle { retry_at } => retry_at,
            State::Opening { .. } | State::Up { .. } => None,
        });
        retries.chain(self.parked.values().map(|(until, _)| *until)).min()
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Want(switch, peers) => self.want(switch, peers).await,
            Request::Incoming(from, switch, stream) => self.incoming(from, switch, stream).await,
            Request::Connected(peer) => {
                let now = Instant::now();
                for (_, wanted) in self.wanted.iter_mut().filter(|((_, of), _)| *of == peer) {
                    if let State::Idle { retry_at: Some(at) } = &mut wanted.state {
                        *at = now;
                    }
                }
            }
            // Whoever asked may have gone.
            Request::Status(reply) => drop(reply.send(self.status())),
        }
    }

    async fn want(&mut self, switch: SwitchKey, mut peers: BTreeSet<PublicKey>) {
        peers.remove(&self.own);
        let of_switch = |key: &&Key| key.0 == switch && !peers.contains(&key.1);
        let gone: Vec<Key> = self.wanted.keys().filter(of_switch).cloned().collect();
        for key in gone {
            self.wanted.remove(&key);
            self.fabric.remove_trunk(&key.0, key.1).await;
        }
        for peer in peers {
            let key = (switch.clone(), peer);
            if self.wanted.contains_key(&key) {
                continue;
            }
            let retry_at = self.opens(peer).then(Instant::now);
            self.wanted.insert(key.clone(), Wanted { failures: 0, state: State::Idle { retry_at } });
            if let Some((_, stream)) = self.parked.remove(&key) {
                self.attach(key, stream).await;
            }
        }
    }

    async fn incoming(&mut self, from: PublicKey, switch: SwitchKey, stream: Box<dyn TrunkStream>) {
        let key = (switch, from);
        if self.opens(from) {
            tracing::debug!(peer = ?from, "a trunk from the wrong side is dropped");
        } else if self.wanted.contains_key(&key) {
            self.attach(key, stream).await;
        } else if self.parked.len() < PARKED_MAX
            && self.parked.keys().filter(|(_, of)| *of == from).count() < PARKED_PER_PEER_MAX
        {
            self.parked.insert(key, (Instant::now() + PARKED_TIME, stream));
        }
    }

    /// Whether this host is the one that opens trunks to another.
    fn opens(&self, peer: PublicKey) -> bool {
        self.own < peer
    }

    fn open_due(&mut self, now: Instant) {
        for (key, wanted) in &mut self.wanted {
            if !matches!(wanted.state, State::Idle { retry_at: Some(at) } if at <= now) {
                continue;
            }
            self.generation += 1;
            let generation = self.generation;
            wanted.state = State::Opening { generation };
            let (mesh, key) = (self.mesh.clone(), key.clone());
            self.pending.push(Box::pin(async move {
                let header = TrunkHeader::from(&key.0).to_bytes();
                let opened = mesh.open_trunk(key.1, header).await;
                Outcome::Opened(key, generation, opened)
            }));
        }
    }

    async fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Opened(key, generation, opened) => {
                let present = self.wanted.get(&key).map(|wanted| &wanted.state);
                if !matches!(present, Some(State::Opening { generation: g }) if *g == generation) {
                    return;
                }
                match opened {
                    Ok(stream) => self.attach(key, stream).await,
                    Err(error) => {
                        tracing::debug!(switch = %key.0.name, peer = ?key.1, %error, "trunk not opened");
                        self.retry(&key, Duration::ZERO);
                    }
                }
            }
            Outcome::Ended(key, generation) => {
                let Some(Wanted { state: State::Up { generation: g, since }, .. }) = self.wanted.get(&key)
                else {
                    return;
                };
                if *g == generation {
                    let up = since.elapsed();
                    self.retry(&key, up);
                }
            }
        }
    }

    /// Makes a stream the trunk of a wanted key.
    async fn attach(&mut self, key: Key, stream: Box<dyn TrunkStream>) {
        let attached: Result<LinkEnd, FabricError> = self.fabric.add_trunk(&key.0, key.1, stream).await;
        match attached {
            Ok(end) => {
                self.generation += 1;
                let generation = self.generation;
                if let Some(wanted) = self.wanted.get_mut(&key) {
                    wanted.state = State::Up { generation, since: Instant::now() };
                }
                self.pending.push(Box::pin(async move {
                    end.wait().await;
                    Outcome::Ended(key, generation)
                }));
            }
            Err(error) => {
                tracing::debug!(%error, "trunk not attached");
                self.retry(&key, Duration::ZERO);
            }
        }
    }

    /// Plans the next attempt after a failure, or after a trunk that was up for some time.
    fn retry(&mut self, key: &Key, was_up: Duration) {
        let opens = self.opens(key.1);
        let Some(wanted) = self.wanted.get_mut(key) else { return };
        wanted.failures = if was_up >= UP_MIN { 0 } else { wanted.failures.saturating_add(1) };
        let pause = RETRY_MIN.saturating_mul(1 << wanted.failures.min(16)).min(RETRY_MAX);
        wanted.state = State::Idle { retry_at: opens.then(|| Instant::now() + pause) };
    }

    fn status(&self) -> Vec<TrunkStatus> {
        let status = |((switch, peer), wanted): (&Key, &Wanted)| TrunkStatus {
            switch: switch.clone(),
            peer: *peer,
            state: match wanted.state {
                State::Up { .. } => TrunkState::Up,
                State::Idle { .. } | State::Opening { .. } => TrunkState::Down,
            },
        };
        self.wanted.iter().map(status).collect()
    }
}
