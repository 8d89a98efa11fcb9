//! An operator's hello: who asks shows their chain of grants, who is asked shows theirs, and each judges.
//!
//! ```text
//! operator                          agent
//!    | -------- Greeting ------------> |  judges the chain: an operator's, under a name
//!    | <------- Welcome -------------- |  (or Refused)
//!    |  judges the chain: a host's of the same mesh
//!    | -------- control messages ----> |
//! ```
//! The messages are those of the hosts' hello (`mln_protocol::wire::HelloMessage`); the connection proves the keys.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::Multiaddr;
use mln_protocol::id::PublicKey;
use mln_protocol::time::Now;
use mln_protocol::trust::{AdmitError, KeyPair, Signed, Verb, admit};
use mln_protocol::wire::{DecodeError, Greeting, HELLO_BYTES_MAX, HelloMessage, Introduction, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::dial::{ConnectError, Door, Driver, Target, dial};
use crate::streams::{MeshStream, StreamError};
use crate::{OPERATOR_PROTOCOL, OPERATOR_TIMEOUT};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Their key.
    pub keys: KeyPair,
    /// Their chain of grants, root first; empty where they have none.
    pub chain: Vec<Signed>,
    /// The root key of the mesh that gave it; none where there is no chain.
    pub root: Option<PublicKey>,
    /// Their program and its version.
    pub agent: String,
}

/// An agent that has admitted the operator.
#[derive(Debug)]
pub struct Entered {
    /// The agent's key.
    pub key: PublicKey,
    /// Where it answered.
    pub via: Multiaddr,
    /// Where it listens, and which other members it knows.
    pub known: Introduction,
    /// For control messages.
    pub stream: OperatorStream,
}

/// An operator's stream with the connection that carries it; dropping it closes both.
#[derive(Debug)]
pub struct OperatorStream {
    stream: MeshStream,
    _driver: Driver,
}

impl AsyncRead for OperatorStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for OperatorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Why an agent can't be asked. Nothing was asked.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Who answers serves no operators: an agent of an older version, or something else.
    #[error("who answers at {via} serves no operators")]
    NoOperators {
        /// Where.
        via: Multiaddr,
        /// Why.
        #[source]
        source: StreamError,
    },
    /// The agent refuses.
    #[error("the agent at {via} refuses: {why}")]
    Refused {
        /// Where.
        via: Multiaddr,
        /// Why.
        why: Refusal,
    },
    /// Who answers can't prove to be a host of the mesh: nothing is asked of it.
    #[error("who answers at {via} is no host of this mesh")]
    NotAHost {
        /// Where.
        via: Multiaddr,
        /// Why.
        #[source]
        source: AdmitError,
    },
    /// The connection was closed without a word; an agent does that to a key that it refused too often.
    #[error("{via} closed the connection without a word")]
    Closed {
        /// Where.
        via: Multiaddr,
        /// How.
        #[source]
        source: io::Error,
    },
    /// It says something that doesn't belong here.
    #[error("the answer of {via} does not belong here")]
    Unexpected {
        /// Where.
        via: Multiaddr,
    },
    /// What it says can't be read.
    #[error("the answer of {via} can't be understood")]
    Decode {
        /// Where.
        via: Multiaddr,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// It took too long.
    #[error("{via} doesn't answer in {} s", OPERATOR_TIMEOUT.as_secs())]
    Timeout {
        /// Where.
        via: Multiaddr,
    },
}

/// Dials targets, the first one first, and shows the credentials to whoever answers first.
pub async fn enter(credentials: &Credentials, targets: &[Target]) -> Result<Entered, EnterError> {
    let door = dial(&credentials.keys, targets).await?;
    let via = door.via().clone();
    let greeted = timeout(OPERATOR_TIMEOUT, greet(credentials, door)).await;
    greeted.unwrap_or(Err(EnterError::Timeout { via }))
}

async fn greet(credentials: &Credentials, door: Door) -> Result<Entered, EnterError> {
    let (key, via) = (door.key(), door.via().clone());
    let (mut stream, driver) = door.open(OPERATOR_PROTOCOL).await.map_err(|source| match source {
        StreamError::Unsupported | StreamError::Limit { .. } | StreamError::Timeout => {
            EnterError::NoOperators { via: via.clone(), source }
        }
        StreamError::NotConnected => {
            EnterError::Closed { via: via.clone(), source: io::ErrorKind::ConnectionReset.into() }
        }
        StreamError::Io(source) => EnterError::Closed { via: via.clone(), source },
    })?;
    let closed = |source| EnterError::Closed { via: via.clone(), source };
    let greeting =
        Greeting { agent: credentials.agent.clone(), instance: 0, chain: credentials.chain.clone() };
    let said = stream.write_block(&HelloMessage::Greeting(greeting).to_bytes()).await;
    // Who refuses may have closed its reading side; its answer says why.
    let answer = match (said, stream.read_block(HELLO_BYTES_MAX).await) {
        (_, Ok(answer)) => answer,
        (Err(source), Err(_)) | (Ok(()), Err(source)) => return Err(closed(source)),
    };
    let answer = HelloMessage::from_bytes(&answer)
        .map_err(|source| EnterError::Decode { via: via.clone(), source })?;
    let (theirs, known) = match answer {
        HelloMessage::Welcome(theirs, known) => (theirs, known),
        HelloMessage::Refused(why) => return Err(EnterError::Refused { via, why }),
        HelloMessage::Greeting(_) | HelloMessage::Confirm(_) | HelloMessage::Ready => {
            return Err(EnterError::Unexpected { via });
        }
    };
    let not_a_host = |source| EnterError::NotAHost { via: via.clone(), source };
    let root = credentials.root.ok_or(not_a_host(AdmitError::OtherMesh))?;
    admit(root, &theirs.chain, key, now()).and_then(|host| host.allows(Verb::Join)).map_err(not_a_host)?;
    Ok(Entered { key, via, known, stream: OperatorStream { stream, _driver: driver } })
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now { mono_ms: 0, unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}
