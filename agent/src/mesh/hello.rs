//! The dialogue by which two peers admit each other; `mln_protocol::wire::HelloMessage` draws it.
//!
//! Each side runs as a task of its own over the connection's first stream. It judges by itself, and asks the
//! mesh's task ([`Step`]) for what only that may do: open the gate. A dialogue that takes too long ends when
//! the mesh's task closes the connection.

use std::io;
use std::sync::Arc;

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::trust::{Signed, Standing, Verb, admit};
use mln_protocol::wire::{DecodeError, Greeting, HELLO_BYTES_MAX, HelloMessage, Introduction, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::clock;
use super::join::Introduced;
use mln_door::streams::{MeshStream, StreamError};

/// Who we are.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) key: PublicKey,
    pub(super) root: PublicKey,
    pub(super) chain: Vec<Signed>,
    pub(super) agent: String,
    pub(super) instance: u64,
    pub(super) start: Instant,
}

/// A peer whose chain of grants was judged good.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) standing: Standing,
    pub(super) agent: String,
    pub(super) instance: u64,
}

/// Where a dialogue takes place; it may outlive its connection, whose end may become known first.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) connection: ConnectionId,
    pub(super) peer: PublicKey,
    pub(super) addr: Multiaddr,
}

/// What a dialogue on a connection tells the mesh's task, or asks of it.
#[derive(Debug)]
pub(super) enum Step {
    /// What may be told to this peer?
    Introduce(oneshot::Sender<Introduction>),
    /// Serve the peer; the answer comes when that is so.
    Admit(Admitted, oneshot::Sender<Result<(), Refusal>>),
    /// Both serve each other; this is what the peer told us.
    Done(Introduction),
    /// It has come to nothing.
    Failed(HelloError),
    /// A join over the connection has ended.
    JoinEnded(Introduced),
    /// Serve an operator with these grants on the connection; the answer comes when that is so.
    AdmitOperator(Vec<Digest>, oneshot::Sender<Result<(), Refusal>>),
    /// An operator was admitted, and has this stream.
    Operator(Standing, MeshStream),
}

/// Why there is no admission. The connection is to be closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    /// We refuse the peer, and have told it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The peer refuses us.
    #[error("the peer refuses: {0}")]
    RefusedByPeer(Refusal),
    /// The peer says something that doesn't belong here.
    #[error("the peer's message does not belong here")]
    Unexpected,
    /// The peer's message can't be read.
    #[error("the peer's message can't be read")]
    Decode(#[from] DecodeError),
    /// The connection failed or was closed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The stream was not opened.
    #[error("no stream for a hello")]
    Stream(#[from] StreamError),
}

/// One side of the dialogue on one connection.
pub(super) struct Dialogue {
    pub(super) own: Arc<Own>,
    pub(super) place: Place,
    pub(super) steps: mpsc::Sender<(Place, Step)>,
}

impl Dialogue {
    /// Speaks first, on a stream that is being opened.
    pub(super) async fn dial(self, stream: oneshot::Receiver<Result<MeshStream, StreamError>>) {
        let outcome = self.dial_on(stream).await;
        self.end(outcome).await;
    }

    /// Answers on a stream that the peer opened.
    pub(super) async fn answer(self, mut stream: MeshStream) {
        let outcome = self.answer_on(&mut stream).await;
        self.end(outcome).await;
    }

    /// Answers an operator.
    pub(super) async fn answer_operator(self, mut stream: MeshStream) {
        match self.answer_operator_on(&mut stream).await {
            Ok(standing) => self.step(Step::Operator(standing, stream)).await,
            Err(error) => self.step(Step::Failed(error)).await,
        }
    }

    async fn answer_operator_on(&self, stream: &mut MeshStream) -> Result<Standing, HelloError> {
        let greeting = self.greeting_of(stream).await?;
        let standing = match self.judge_operator(&greeting) {
            Ok(standing) => standing,
            Err(why) => return Err(refuse(stream, why).await),
        };
        let (reply, answer) = oneshot::channel();
        let grants = standing.links.iter().map(|link| link.digest).collect();
        self.step(Step::AdmitOperator(grants, reply)).await;
        if let Err(why) = answer.await.unwrap_or(Err(Refusal::Busy)) {
            return Err(refuse(stream, why).await);
        }
        let ours = self.introduction().await?;
        say(stream, &HelloMessage::Welcome(self.greeting(), ours)).await?;
        Ok(standing)
    }

    async fn dial_on(
        &self,
        stream: oneshot::Receiver<Result<MeshStream, StreamError>>,
    ) -> Result<Introduction, HelloError> {
        let mut stream = stream.await.map_err(|_| StreamError::NotConnected)??;
        say(&mut stream, &HelloMessage::Greeting(self.greeting())).await?;
        let (greeting, theirs) = match hear(&mut stream).await? {
            HelloMessage::Welcome(greeting, theirs) => (greeting, theirs),
            other => return Err(unexpected(other)),
        };
        if let Err(why) = self.admit(greeting).await {
            return Err(refuse(&mut stream, why).await);
        }
        let ours = self.introduction().await?;
        say(&mut stream, &HelloMessage::Confirm(ours)).await?;
        match hear(&mut stream).await? {
            HelloMessage::Ready => Ok(theirs),
            other => Err(unexpected(other)),
        }
    }

    async fn answer_on(&self, stream: &mut MeshStream) -> Result<Introduction, HelloError> {
        let greeting = self.greeting_of(stream).await?;
        // Judged before anything is told; the gate is opened only when the dialler has decided as well.
        if let Err(why) = self.judge(&greeting) {
            return Err(refuse(stream, why).await);
        }
        let ours = self.introduction().await?;
        say(stream, &HelloMessage::Welcome(self.greeting(), ours)).await?;
        let theirs = match hear(stream).await? {
            HelloMessage::Confirm(theirs) => theirs,
            other => return Err(unexpected(other)),
        };
        if let Err(why) = self.admit(greeting).await {
            return Err(refuse(stream, why).await);
        }
        say(stream, &HelloMessage::Ready).await?;
        Ok(theirs)
    }

    /// Receives what a peer says first.
    async fn greeting_of(&self, stream: &mut MeshStream) -> Result<Greeting, HelloError> {
        match hear(stream).await {
            Ok(HelloMessage::Greeting(greeting)) => Ok(greeting),
            Ok(other) => Err(unexpected(other)),
            Err(HelloError::Decode(error)) => {
                let why = match error {
                    DecodeError::Unknown { what: "version", .. } => Refusal::Version,
                    _ => Refusal::Malformed,
                };
                tracing::debug!(peer = ?self.place.peer, %error, "hello can't be read");
                Err(refuse(stream, why).await)
            }
            Err(error) => Err(error),
        }
    }

    fn greeting(&self) -> Greeting {
        let own = &self.own;
        Greeting { agent: own.agent.clone(), instance: own.instance, chain: own.chain.clone() }
    }

    fn judge(&self, greeting: &Greeting) -> Result<Standing, Refusal> {
        let now = clock::now(self.own.start);
        let judged = admit(self.own.root, &greeting.chain, self.place.peer, now)
            .and_then(|standing| standing.allows(Verb::Join).map(|()| standing));
        judged.map_err(|error| {
            tracing::debug!(peer = ?self.place.peer, %error, "hello refused");
            Refusal::from(&error)
        })
    }

    fn judge_operator(&self, greeting: &Greeting) -> Result<Standing, Refusal> {
        let now = clock::now(self.own.start);
        let judged = admit(self.own.root, &greeting.chain, self.place.peer, now)
            .and_then(|standing| standing.operator().map(|_| ()).map(|()| standing));
        judged.map_err(|error| {
            tracing::debug!(peer = ?self.place.peer, %error, "an operator is refused");
            Refusal::from(&error)
        })
    }

    async fn admit(&self, greeting: Greeting) -> Result<(), Refusal> {
        let standing = self.judge(&greeting)?;
        let admitted = Admitted { standing, agent: greeting.agent, instance: greeting.instance };
        let (reply, answer) = oneshot::channel();
        self.step(Step::Admit(admitted, reply)).await;
        answer.await.unwrap_or(Err(Refusal::Busy))
    }

    async fn introduction(&self) -> Result<Introduction, HelloError> {
        let (reply, answer) = oneshot::channel();
        self.step(Step::Introduce(reply)).await;
        answer.await.map_err(|_| HelloError::Io(io::ErrorKind::ConnectionAborted.into()))
    }

    async fn end(&self, outcome: Result<Introduction, HelloError>) {
        self.step(match outcome {
            Ok(theirs) => Step::Done(theirs),
            Err(error) => Step::Failed(error),
        })
        .await;
    }

    async fn step(&self, step: Step) {
        // The task is gone only when the mesh shuts down; then nobody waits for this dialogue.
        let _ = self.steps.send((self.place.clone(), step)).await;
    }
}

async fn say(stream: &mut MeshStream, message: &HelloMessage) -> io::Result<()> {
    stream.write_block(&message.to_bytes()).await
}

async fn hear(stream: &mut MeshStream) -> Result<HelloMessage, HelloError> {
    Ok(HelloMessage::from_bytes(&stream.read_block(HELLO_BYTES_MAX).await?)?)
}

fn unexpected(message: HelloMessage) -> HelloError {
    match message {
        HelloMessage::Refused(why) => HelloError::RefusedByPeer(why),
        _ => HelloError::Unexpected,
    }
}

/// Tells the peer why it is refused, and waits until it has closed: what is closed at once may not arrive.
async fn refuse(stream: &mut MeshStream, why: Refusal) -> HelloError {
    if say(stream, &HelloMessage::Refused(why)).await.is_ok() && stream.shutdown().await.is_ok() {
        // Whatever ends this, data, an end or a failure, the peer has had its chance to read.
        let _ = stream.read(&mut [0]).await;
    }
    HelloError::Refused(why)
}
