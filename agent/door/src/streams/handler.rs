//! One connection's streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libp2p::core::upgrade::UpgradeInfo;
use libp2p::core::{InboundUpgrade, OutboundUpgrade};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};
use tokio::sync::{Semaphore, oneshot};

use super::{MeshStream, StreamError};
use super::{STREAMS_OPENING_MAX, STREAMS_PER_PEER_MAX};

/// Receives a stream that was asked for; dropped unanswered if the connection goes away.
type Reply = oneshot::Sender<Result<MeshStream, StreamError>>;

/// Serves and opens streams on one connection.
pub struct StreamsHandler {
    protocols: Arc<[StreamProtocol]>,
    permits: Arc<Semaphore>,
    requests: VecDeque<OpenRequest>,
    events: VecDeque<ToStreams>,
    waker: Option<Waker>,
}

/// Open a stream.
#[derive(Debug)]
pub struct OpenRequest {
    /// Speaking what.
    pub protocol: StreamProtocol,
    /// Who receives it.
    pub reply: Reply,
}

/// What a connection tells the behaviour.
#[derive(Debug)]
pub enum ToStreams {
    /// The peer opened a stream.
    Incoming(StreamProtocol, MeshStream),
    /// The peer opened one too many.
    Excess,
}

impl StreamsHandler {
    /// Serves `protocols` as long as there are permits.
    pub fn new(protocols: Arc<[StreamProtocol]>, permits: Arc<Semaphore>) -> Self {
        Self { protocols, permits, requests: VecDeque::new(), events: VecDeque::new(), waker: None }
    }
}

impl std::fmt::Debug for StreamsHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamsHandler({:?}, {} being opened)", self.protocols, self.requests.len())
    }
}

impl ConnectionHandler for StreamsHandler {
    type FromBehaviour = OpenRequest;
    type ToBehaviour = ToStreams;
    type InboundProtocol = Raw;
    type OutboundProtocol = Raw;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Raw> {
        SubstreamProtocol::new(Raw(self.protocols.clone()), ())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Raw, Reply, ToStreams>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(OpenRequest { protocol, reply }) = self.requests.pop_front() {
            let protocol = SubstreamProtocol::new(Raw(Arc::new([protocol])), reply);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, request: OpenRequest) {
        if self.requests.len() >= STREAMS_OPENING_MAX {
            let full = StreamError::Limit { what: "streams being opened", limit: STREAMS_OPENING_MAX };
            // A receiver that is gone no longer wants the stream.
            let _ = request.reply.send(Err(full));
            return;
        }
        self.requests.push_back(request);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Raw, Raw, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                info: (),
            }) => {
                let permit = self.permits.clone().try_acquire_owned();
                self.events.push_back(match permit {
                    Ok(permit) => ToStreams::Incoming(protocol, MeshStream::incoming(stream, permit)),
                    Err(_) => {
                        tracing::debug!(%protocol, limit = STREAMS_PER_PEER_MAX, "stream over the limit dropped");
                        ToStreams::Excess
                    }
                });
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: reply,
            }) => {
                // If the receiver is gone the stream is dropped, which resets it.
                let _ = reply.send(Ok(MeshStream::outgoing(stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => StreamError::Timeout,
                    StreamUpgradeError::Apply(never) => match never {},
                    StreamUpgradeError::NegotiationFailed => StreamError::Unsupported,
                    StreamUpgradeError::Io(error) => StreamError::Io(error),
                };
                let _ = reply.send(Err(error));
            }
            _ => {}
        }
    }
}

/// Agrees on one of some protocols and hands the stream over as it is.
#[derive(Debug)]
pub struct Raw(Arc<[StreamProtocol]>);

impl UpgradeInfo for Raw {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for Raw {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Raw {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
