//! Joining: how a host or an operator comes to its grant; `mln_protocol::wire::JoinMessage` draws the dialogue.
//!
//! The introducer's side is in the agent's `mesh`.

use std::io;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use mln_protocol::id::{Name, PublicKey};
use mln_protocol::time::Now;
use mln_protocol::trust::{AdmitError, Domain, KeyPair, Role, Signed, admit, mesh_of};
use mln_protocol::wire::{
    DecodeError, JOIN_BYTES_MAX, JoinClaim, JoinMessage, PeerAddresses, Refusal, Token,
};
use tokio::time::timeout;

use crate::dial::{ConnectError, Door, Target, dial, without_peer};
use crate::streams::{MeshStream, StreamError};
use crate::{JOIN_PROTOCOL, JOIN_TIMEOUT};

/// What somebody who has joined has to keep: with their key, all that they need to be in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The mesh's root key.
    pub root: PublicKey,
    /// Their own chain of grants, root first.
    pub chain: Vec<Signed>,
    /// Members to connect to, the introducer first.
    pub known: Vec<(PublicKey, Vec<Multiaddr>)>,
}

/// Why nobody has joined. Nothing changed on either side, unless the connection was lost at the very end;
/// joining again with the same key and name is safe.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is for the other role.
    #[error("the token makes {}, not {}", role_text(*.token), role_text(*.wanted))]
    OtherRole {
        /// What the token makes.
        token: Role,
        /// What was to be made.
        wanted: Role,
    },
    /// No address of the token answers as the host that made it.
    #[error("no address of the token answers")]
    Connect(#[from] ConnectError),
    /// The host that made the token refuses.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// It took too long.
    #[error("no answer in {} s", JOIN_TIMEOUT.as_secs())]
    Timeout,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The host that made the token does not answer as it should.
    #[error("the answer can't be understood")]
    Decode(#[from] DecodeError),
    /// It doesn't take joins.
    #[error("the host that made the token does not take joins")]
    Stream(#[from] StreamError),
    /// It says something that doesn't belong here.
    #[error("the answer does not belong here")]
    Unexpected,
    /// The grant that it gave doesn't hold.
    #[error("the grant that was received does not hold")]
    Grant(#[source] AdmitError),
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Host => "a host",
        Role::Operator => "an operator",
    }
}

/// Joins a mesh in a role: connects to the host that made the token, proves possession of the token's key, and
/// receives a grant for the key in `keys` under `name`.
pub async fn join(token: &Token, role: Role, name: &Name, keys: &KeyPair) -> Result<Membership, JoinError> {
    // What can't be read here, its host judges.
    if let Some(other) = token.role().filter(|found| *found != role) {
        return Err(JoinError::OtherRole { token: other, wanted: role });
    }
    let addresses = token.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let door = dial(keys, &[Target { peer: Some(token.issuer), addresses }]).await?;
    let dialogue = timeout(JOIN_TIMEOUT, join_at(door, token, role, name, keys));
    dialogue.await.map_err(|_| JoinError::Timeout)?
}

async fn join_at(
    door: Door,
    token: &Token,
    role: Role,
    name: &Name,
    keys: &KeyPair,
) -> Result<Membership, JoinError> {
    let via = door.via().clone();
    let (mut stream, _driver) = door.open(JOIN_PROTOCOL).await?;
    let (chain, known) = ask(&mut stream, token, role, name, keys).await?;
    let near = is_loopback(&via);
    let usable = |peer: PeerAddresses| {
        let parsed = peer.addresses.iter().filter_map(|text| text.parse().ok()).map(without_peer);
        (peer.key, parsed.filter(|address| near || !is_loopback(address)).collect())
    };
    let mut known: Vec<(PublicKey, Vec<Multiaddr>)> = known.into_iter().map(usable).collect();
    if let Some((_, addresses)) = known.iter_mut().find(|(key, _)| *key == token.issuer) {
        addresses.retain(|address| *address != via);
        addresses.insert(0, via);
    } else {
        known.insert(0, (token.issuer, vec![via]));
    }
    Ok(Membership { root: token.root, chain, known })
}

/// Whether an address means this machine.
pub fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// The joiner's side of the dialogue.
async fn ask(
    stream: &mut MeshStream,
    token: &Token,
    role: Role,
    name: &Name,
    keys: &KeyPair,
) -> Result<(Vec<Signed>, Vec<PeerAddresses>), JoinError> {
    say(stream, &JoinMessage::Open).await?;
    let nonce = match hear(stream).await? {
        JoinMessage::Challenge(nonce) => nonce,
        other => return Err(unexpected(other)),
    };
    let claim = JoinClaim { mesh: mesh_of(token.root), host: keys.public(), name: name.clone(), nonce };
    let claim = KeyPair::from_secret(token.secret).sign(Domain::Request, claim.to_bytes());
    say(stream, &JoinMessage::Claim { claim, chain: token.chain.clone() }).await?;
    let (chain, known) = match hear(stream).await? {
        JoinMessage::Granted { chain, known } => (chain, known),
        other => return Err(unexpected(other)),
    };
    // By the introducer's clock it holds now; ours may be wrong, and a grant that was just given has not ended.
    let now = Now { mono_ms: 0, unix_ms: 0 };
    let standing = admit(token.root, &chain, keys.public(), now).map_err(JoinError::Grant)?;
    if Role::of(&standing.verbs) != Some(role) {
        return Err(JoinError::Grant(AdmitError::Verb));
    }
    Ok((chain, known))
}

/// Sends a message of a join.
pub async fn say(stream: &mut MeshStream, message: &JoinMessage) -> io::Result<()> {
    stream.write_block(&message.to_bytes()).await
}

/// Receives a message of a join.
pub async fn hear(stream: &mut MeshStream) -> Result<JoinMessage, JoinError> {
    Ok(JoinMessage::from_bytes(&stream.read_block(JOIN_BYTES_MAX).await?)?)
}

/// Returns why a message ends the dialogue.
pub fn unexpected(message: JoinMessage) -> JoinError {
    match message {
        JoinMessage::Refused(why) => JoinError::Refused(why),
        JoinMessage::Open
        | JoinMessage::Challenge(_)
        | JoinMessage::Claim { .. }
        | JoinMessage::Granted { .. } => JoinError::Unexpected,
    }
}
