//! What the rest of the agent sees of the mesh: a handle to ask, and events to receive.

use std::time::Duration;

use libp2p::Multiaddr;
use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::trust::{Role, Standing};
use mln_protocol::wire::{MESSAGE_BYTES_MAX, Refusal};
use tokio::sync::{mpsc, oneshot};

use super::behaviour::StreamKind;
use super::counters::Counters;
use super::limits::{GOSSIP_BYTES_MAX, STREAM_HEADER_BYTES_MAX};
use mln_door::streams::{MeshStream, StreamError};

/// Something that happened on the mesh. Bytes in it are as a member sent them: not decoded, not verified.
#[derive(Debug)]
pub enum MeshEvent {
    /// A member is connected; gossip that is broadcast from now on reaches it.
    Connected {
        /// Who.
        peer: PublicKey,
        /// What its grants say.
        standing: Standing,
    },
    /// A member is no longer connected. It is dialled again for ever.
    Disconnected {
        /// Who.
        peer: PublicKey,
    },
    /// Gossip. It is passed on only after [`MeshHandle::judge_gossip`] accepts it.
    Gossip {
        /// Who passed it on; not who wrote it.
        from: PublicKey,
        /// To judge it by.
        id: GossipId,
        /// At most one record.
        bytes: Vec<u8>,
    },
    /// A message for us alone.
    Message {
        /// Who sent it.
        from: PublicKey,
        /// At most [`MESSAGE_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// A member opened a stream.
    Stream {
        /// Who.
        from: PublicKey,
        /// What for.
        kind: StreamKind,
        /// What it sent first.
        header: Vec<u8>,
        /// The stream behind the header.
        stream: MeshStream,
    },
    /// An operator was admitted, and is about to ask for something.
    Operator {
        /// Who.
        key: PublicKey,
        /// What their grants say: they have a name, and are no host.
        standing: Standing,
        /// For control messages.
        stream: MeshStream,
    },
    /// A key that is not in the book was seen on the local network; whoever knows it as a member's may tell the
    /// book of it ([`MeshHandle::learn`]), without addresses.
    Discovered {
        /// Who.
        peer: PublicKey,
    },
    /// Somebody with a good token wants to join; dropping `reply` refuses.
    JoinRequest {
        /// As what.
        role: Role,
        /// The name that it wants.
        name: Name,
        /// Its key.
        key: PublicKey,
        /// The grants behind its token: none of them may be revoked.
        grants: Vec<Digest>,
        /// Whether it may; the same key asking for the same name again may.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A peer was refused here, or refused us.
    Refused {
        /// Who.
        peer: PublicKey,
        /// Where.
        addr: Multiaddr,
        /// Which of the two.
        by: RefusedBy,
        /// Why.
        reason: Refusal,
    },
    /// We listen here.
    Listening {
        /// The address.
        addr: Multiaddr,
    },
    /// The members that are known have changed: to be stored, and given to [`super::MeshConfig`] at the next
    /// start.
    AddressBook {
        /// All of them.
        entries: Vec<(PublicKey, Vec<Multiaddr>)>,
    },
}

/// Who refused whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// We refused the peer.
    Us,
    /// The peer refused us.
    Peer,
}

/// Names a piece of gossip for [`MeshHandle::judge_gossip`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipId(pub(super) libp2p::gossipsub::MessageId);

/// What is to become of a piece of gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GossipVerdict {
    /// It is passed on.
    Accept,
    /// It is not passed on, and nobody is to blame.
    Ignore,
    /// It is not passed on, and counts as misbehaviour of who sent it here.
    Reject,
}

/// A peer, as `mlnctl peers` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub key: PublicKey,
    /// Its name in the mesh, if it is connected and its grant gives one.
    pub name: Option<Name>,
    /// Where it is known to listen.
    pub addresses: Vec<Multiaddr>,
    /// The connection, if there is one.
    pub connection: Option<ConnectionStatus>,
    /// How often it misbehaved lately.
    pub misbehaviour: u32,
}

/// A connection to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The other end.
    pub address: Multiaddr,
    /// Its program and version, by its own account.
    pub agent: String,
    /// Whether it goes through a relay.
    pub relayed: bool,
    /// For how long it has been connected.
    pub since: Duration,
    /// The last measured time to the peer and back.
    pub round_trip: Option<Duration>,
}

/// Somebody who was seen on the local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanPeer {
    /// The key that it says it has.
    pub key: PublicKey,
    /// Whether that key is in the address book.
    pub known: bool,
    /// Where it says it listens.
    pub addresses: Vec<Multiaddr>,
    /// How long ago it was last seen.
    pub age: Duration,
}

/// Why something was not sent. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Longer than a message or a record may be; a bug of the caller.
    #[error("{bytes} bytes, where at most {limit} are sent")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The mesh has been shut down.
    #[error("the mesh is shut down")]
    Stopped,
}

/// Asks the mesh's task; cheap to clone. When all handles are gone, the mesh shuts down.
#[derive(Clone, Debug)]
pub struct MeshHandle {
    pub(super) commands: mpsc::Sender<Command>,
}

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Broadcast(Vec<u8>),
    Send(PublicKey, Vec<u8>),
    Judge(PublicKey, GossipId, GossipVerdict),
    OpenStream(PublicKey, StreamKind, oneshot::Sender<Result<MeshStream, StreamError>>),
    Misbehaved(PublicKey, &'static str),
    CutOff(PublicKey),
    Learn(PublicKey, Vec<Multiaddr>),
    Hurry(PublicKey),
    Revoke(Digest),
    Peers(oneshot::Sender<Vec<PeerStatus>>),
    Listeners(oneshot::Sender<Vec<Multiaddr>>),
    Lan(oneshot::Sender<Vec<LanPeer>>),
    Counters(oneshot::Sender<Counters>),
    Stop(oneshot::Sender<()>),
}

impl MeshHandle {
    /// Gossips a record to all members. Nothing is known about who receives it: repair is the caller's. What was
    /// gossiped less than a minute ago is not sent again.
    pub async fn broadcast(&self, bytes: Vec<u8>) -> Result<(), SendError> {
        check_length(&bytes, GOSSIP_BYTES_MAX)?;
        self.command(Command::Broadcast(bytes)).await
    }

    /// Sends a message to a connected member, in no particular order with others. It is dropped and counted if
    /// the member is not connected, its queue is full, or the connection ends; a member that is known but not
    /// connected is dialled at once.
    pub async fn send(&self, to: PublicKey, bytes: Vec<u8>) -> Result<(), SendError> {
        check_length(&bytes, MESSAGE_BYTES_MAX)?;
        self.command(Command::Send(to, bytes)).await
    }

    /// Says what is to become of a piece of gossip; until then it is kept and not passed on.
    pub async fn judge_gossip(
        &self,
        from: PublicKey,
        id: GossipId,
        verdict: GossipVerdict,
    ) -> Result<(), SendError> {
        self.command(Command::Judge(from, id, verdict)).await
    }

    /// Opens a stream to a connected member and sends `header` on it. That the other side wants the stream is
    /// known only by what it answers.
    pub async fn open_stream(
        &self,
        to: PublicKey,
        kind: StreamKind,
        header: &[u8],
    ) -> Result<MeshStream, StreamError> {
        if header.len() > STREAM_HEADER_BYTES_MAX {
            return Err(StreamError::Limit { what: "bytes of header", limit: STREAM_HEADER_BYTES_MAX });
        }
        let (reply, stream) = oneshot::channel();
        let asked = self.command(Command::OpenStream(to, kind, reply)).await;
        asked.map_err(|_| StreamError::NotConnected)?;
        let mut stream = stream.await.map_err(|_| StreamError::NotConnected)??;
        stream.write_block(header).await?;
        Ok(stream)
    }

    /// Counts a misbehaviour of a peer; at a limit it is disconnected and shunned for a while.
    pub async fn report_misbehaviour(&self, peer: PublicKey, why: &'static str) -> Result<(), SendError> {
        self.command(Command::Misbehaved(peer, why)).await
    }

    /// Ends all connections with a member that has signed two things in one slot, and hears nothing more of it for long.
    pub async fn cut_off(&self, peer: PublicKey) -> Result<(), SendError> {
        self.command(Command::CutOff(peer)).await
    }

    /// Tells the address book of a peer; it is dialled.
    pub async fn learn(&self, peer: PublicKey, addresses: Vec<Multiaddr>) -> Result<(), SendError> {
        self.command(Command::Learn(peer, addresses)).await
    }

    /// Dials a known member soon that is not connected, because somebody wants it.
    pub async fn hurry(&self, peer: PublicKey) -> Result<(), SendError> {
        self.command(Command::Hurry(peer)).await
    }

    /// Serves nobody any more who presents a grant: connections of theirs are closed, and further ones refused.
    pub async fn revoke(&self, grant: Digest) -> Result<(), SendError> {
        self.command(Command::Revoke(grant)).await
    }

    /// Returns all known peers, ordered by key; none if the mesh is shut down.
    pub async fn peers(&self) -> Vec<PeerStatus> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// Returns who was seen on the local network, ordered by key; none if the mesh is shut down.
    pub async fn lan(&self) -> Vec<LanPeer> {
        self.ask(Command::Lan).await.unwrap_or_default()
    }

    /// Returns the addresses where we can be reached, the best first; none if the mesh is shut down.
    pub async fn listeners(&self) -> Vec<Multiaddr> {
        self.ask(Command::Listeners).await.unwrap_or_default()
    }

    /// Returns what was counted since the start; zeros if the mesh is shut down.
    pub async fn counters(&self) -> Counters {
        self.ask(Command::Counters).await.unwrap_or_default()
    }

    /// Closes all connections and listeners; returns when that is done.
    pub async fn stop(&self) {
        self.ask(Command::Stop).await.unwrap_or_default();
    }

    /// Sends a message without looking at its length, as a broken peer would.
    #[cfg(test)]
    pub(super) async fn send_unchecked(&self, to: PublicKey, bytes: Vec<u8>) {
        self.command(Command::Send(to, bytes)).await.expect("the mesh runs");
    }

    async fn command(&self, command: Command) -> Result<(), SendError> {
        self.commands.send(command).await.map_err(|_| SendError::Stopped)
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.command(question(reply)).await.ok()?;
        answer.await.ok()
    }
}

fn check_length(bytes: &[u8], limit: usize) -> Result<(), SendError> {
    if bytes.len() > limit { Err(SendError::TooLong { bytes: bytes.len(), limit }) } else { Ok(()) }
}
