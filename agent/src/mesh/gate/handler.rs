//! The handler of a gated connection: nothing, until the behaviour hands over the inner one.

use std::fmt;
use std::task::{Context, Poll, Waker};

use libp2p::core::InboundUpgrade;
use libp2p::core::upgrade::UpgradeInfo;
use libp2p::swarm::handler::{
    ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError, UpgradeInfoSend,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol};

/// Serves the inner handler's protocols once it has one.
pub(in crate::mesh) struct GateHandler<H: ConnectionHandler> {
    inner: Option<H>,
    /// Says once that the inner handler is in place.
    announce: bool,
    released: bool,
    /// A request of the inner handler for a stream, held back until the peer serves us too. While there is one
    /// the inner handler is not polled, so that there is never more than one.
    held: Option<Event<H>>,
    waker: Option<Waker>,
}

/// What a handler asks of its connection.
type Event<H> = ConnectionHandlerEvent<
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::OutboundOpenInfo,
    ToGate<<H as ConnectionHandler>::ToBehaviour>,
>;

/// What the gate tells a connection.
pub(in crate::mesh) enum FromGate<H: ConnectionHandler> {
    /// Serve with this.
    Open(Box<H>),
    /// The peer serves us too.
    Release,
    /// For the inner handler.
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for FromGate<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("Open"),
            Self::Release => f.write_str("Release"),
            Self::Inner(event) => f.debug_tuple("Inner").field(event).finish(),
        }
    }
}

/// What a connection tells the gate.
#[derive(Debug)]
pub(in crate::mesh) enum ToGate<E> {
    /// The inner handler is in place.
    Opened,
    /// From the inner handler.
    Inner(E),
}

impl<H: ConnectionHandler> GateHandler<H> {
    /// A handler that serves nothing.
    pub(super) fn closed() -> Self {
        Self { inner: None, announce: false, released: false, held: None, waker: None }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for GateHandler<H> {
    type FromBehaviour = FromGate<H>;
    type ToBehaviour = ToGate<H::ToBehaviour>;
    type InboundProtocol = Gated<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = Option<H::InboundOpenInfo>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match &self.inner {
            Some(inner) => inner.listen_protocol().map_upgrade(|u| Gated(Some(u))).map_info(Some),
            None => SubstreamProtocol::new(Gated(None), None),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.as_ref().is_some_and(ConnectionHandler::connection_keep_alive)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        self.waker = Some(cx.waker().clone());
        let Some(inner) = self.inner.as_mut() else { return Poll::Pending };
        if std::mem::take(&mut self.announce) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(ToGate::Opened));
        }
        if self.held.is_some() {
            return match self.held.take_if(|_| self.released) {
                Some(event) => Poll::Ready(event),
                None => Poll::Pending,
            };
        }
        let Poll::Ready(event) = inner.poll(cx) else { return Poll::Pending };
        let event = event.map_custom(ToGate::Inner);
        if !self.released && matches!(event, ConnectionHandlerEvent::OutboundSubstreamRequest { .. }) {
            self.held = Some(event);
            return Poll::Pending;
        }
        Poll::Ready(event)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match self.inner.as_mut() {
            Some(inner) => inner.poll_close(cx).map(|event| event.map(ToGate::Inner)),
            None => Poll::Ready(None),
        }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {
            FromGate::Open(inner) => {
                self.inner = Some(*inner);
                self.announce = true;
            }
            FromGate::Release => self.released = true,
            FromGate::Inner(event) => {
                if let Some(inner) = self.inner.as_mut() {
                    inner.on_behaviour_event(event);
                }
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        let Some(inner) = self.inner.as_mut() else { return };
        inner.on_connection_event(match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                let Some(info) = info else { return };
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                // A stream that was offered nothing, and failed after the gate was opened, has no info.
                let Some(info) = info else { return };
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(e) => ConnectionEvent::FullyNegotiatedOutbound(e),
            ConnectionEvent::DialUpgradeError(e) => ConnectionEvent::DialUpgradeError(e),
            ConnectionEvent::AddressChange(e) => ConnectionEvent::AddressChange(e),
            ConnectionEvent::LocalProtocolsChange(e) => ConnectionEvent::LocalProtocolsChange(e),
            ConnectionEvent::RemoteProtocolsChange(e) => ConnectionEvent::RemoteProtocolsChange(e),
            // The enum may grow: what is new there is unknown to the inner handler as well.
            _ => return,
        });
    }
}

/// The inner handler's protocols, or none at all.
pub(in crate::mesh) struct Gated<U>(Option<U>);

impl<U: UpgradeInfoSend> UpgradeInfo for Gated<U> {
    type Info = U::Info;
    type InfoIter = std::iter::Flatten<std::option::IntoIter<U::InfoIter>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.as_ref().map(UpgradeInfoSend::protocol_info).into_iter().flatten()
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for Gated<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, info: U::Info) -> Self::Future {
        self.0
            .expect("a protocol was agreed on, and without an inner upgrade none is offered")
            .upgrade_inbound(stream, info)
    }
}
