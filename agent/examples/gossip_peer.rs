//! A peer that does nothing but gossip, as an agent does, over links that take their time: thirty of them, as processes,
//! are what the simulator's model of gossip is held against (the story `gossip`).
//!
//! `gossip-peer DELAY_MS` listens on this machine, reads orders from its standard input, and writes what it sees:
//!
//! | order | |
//! |---|---|
//! | `dial ADDRESS` | connect |
//! | `mesh` | write `mesh N`: over how many links new messages are pushed |
//! | `publish NUMBER` | publish a message; writes `published NUMBER NANOSECONDS` |
//!
//! Beside that it writes `listening ADDRESS`, `subscribed` for each peer that listens to its gossip, and for every copy of
//! a message that arrives `copy NUMBER NANOSECONDS`, by the machine's monotonic clock.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::io::{AsyncRead, AsyncWrite};
use libp2p::gossipsub::{
    self, DataTransform, Message, MessageAcceptance, MessageAuthenticity, RawMessage, TopicHash,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, SwarmBuilder, Transport, core, noise, tcp, yamux};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, Sleep};

/// How large a message is, in bytes: as a host's status is.
const MESSAGE_BYTES: usize = 250;

/// How much may be under way on a link, in bytes; above it nothing more is read.
const UNDER_WAY_MAX: usize = 1 << 20;

/// Writes down every copy of a message.
struct Counting;

impl DataTransform for Counting {
    fn inbound_transform(&self, raw: RawMessage) -> Result<Message, io::Error> {
        let number = raw.data.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).unwrap_or(u64::MAX);
        say(&format!("copy {number} {}", now_ns()));
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> Result<Vec<u8>, io::Error> {
        Ok(data)
    }
}

/// A connection on which what arrives is handed on later.
struct Late {
    inner: tcp::tokio::TcpStream,
    delay: Duration,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    ended: bool,
    timer: Pin<Box<Sleep>>,
}

impl Late {
    fn new(inner: tcp::tokio::TcpStream, delay: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { inner, delay, under_way: VecDeque::new(), bytes: 0, ended: false, timer }
    }

    /// Takes in what has arrived.
    fn fill(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        while !self.ended && self.bytes < UNDER_WAY_MAX {
            let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, &mut chunk) else { break };
            let read = read?;
            self.ended = read == 0;
            self.bytes += read;
            if read > 0 {
                self.under_way.push_back((Instant::now() + self.delay, chunk[..read].to_vec()));
            }
        }
        Ok(())
    }
}

impl AsyncRead for Late {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.fill(context)?;
        loop {
            let Some((due, first)) = self.under_way.front_mut() else {
                return if self.ended { Poll::Ready(Ok(0)) } else { Poll::Pending };
            };
            let due = *due;
            if due <= Instant::now() {
                let count = first.len().min(buffer.len());
                buffer[..count].copy_from_slice(&first[..count]);
                first.drain(..count);
                if first.is_empty() {
                    self.under_way.pop_front();
                }
                self.bytes -= count;
                return Poll::Ready(Ok(count));
            }
            self.timer.as_mut().reset(due);
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Late {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let delay = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let delay = Duration::from_millis(delay.ok_or_else(|| anyhow::anyhow!("gossip-peer DELAY_MS"))?);
    let topic = gossipsub::IdentTopic::new("gossip-peer");
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|keys| {
            let late = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
                .map(move |stream, _| Late::new(stream, delay));
            let secured = late.upgrade(core::upgrade::Version::V1).authenticate(noise::Config::new(keys)?);
            Ok(secured.multiplex(yamux::Config::default()))
        })?
        .with_behaviour(|_| {
            let config = mlnd::mesh::gossip_config()?;
            let mut gossip = gossipsub::Behaviour::<Counting>::new_with_transform(
                MessageAuthenticity::Anonymous,
                config,
                Counting,
            )?;
            gossip.subscribe(&topic)?;
            Ok(gossip)
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::MAX))
        .build();
    let any: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse()?;
    swarm.listen_on(any)?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            order = orders.next_line() => {
                // Whoever gives orders has gone: so do we.
                let Some(order) = order? else { return Ok(()) };
                match order.split_once(' ') {
                    Some(("dial", address)) => {
                        let address: Multiaddr = address.parse()?;
                        swarm.dial(address)?;
                    }
                    Some(("publish", number)) => {
                        let mut data = number.parse::<u64>()?.to_be_bytes().to_vec();
                        data.resize(MESSAGE_BYTES, 0);
                        say(&format!("published {number} {}", now_ns()));
                        swarm.behaviour_mut().publish(topic.clone(), data)?;
                    }
                    _ => {
                        let count = swarm.behaviour().mesh_peers(&topic.hash()).count();
                        say(&format!("mesh {count}"));
                    }
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => say(&format!("listening {address}")),
                SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }) => say("subscribed"),
                SwarmEvent::Behaviour(gossipsub::Event::Message { propagation_source, message_id, .. }) => {
                    swarm.behaviour_mut().report_message_validation_result(
                        &message_id,
                        &propagation_source,
                        MessageAcceptance::Accept,
                    );
                }
                _ => {}
            }
        }
    }
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Writes a line to whoever gives orders.
fn say(line: &str) {
    // If they have gone, the next order says so.
    let _ = writeln!(io::stdout().lock(), "{line}");
}
