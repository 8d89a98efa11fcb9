//! Tokens and joining: how a host comes to its grant; `mln_protocol::wire::JoinMessage` draws the dialogue.

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use libp2p::Multiaddr;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use mln_protocol::id::{Name, PublicKey};
use mln_protocol::time::Now;
use mln_protocol::trust::{
    AdmitError, Domain, Grant, KeyPair, Signed, Verb, admit, grant_host, judge_join, mesh_of,
};
use mln_protocol::trust::{JoinError as Unfit, Standing};
use mln_protocol::wire::{
    DecodeError, HELLO_ADDRESSES_MAX, JOIN_BYTES_MAX, JoinClaim, JoinMessage, PeerAddresses, Refusal, Token,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::behaviour::{JOIN_PROTOCOL, SetupError, swarm};
use super::handle::MeshEvent;
use super::hello::Own;
use super::key::{keypair_of, peer_id_of};
use super::limits::JOIN_TIMEOUT;
use super::streams::{MeshStream, StreamError, Streams};
use super::{book, clock};

/// What a new host has to keep: with its key, all that it needs to be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The mesh's root key.
    pub root: PublicKey,
    /// The host's own chain of grants, root first.
    pub chain: Vec<Signed>,
    /// Members to connect to.
    pub known: Vec<(PublicKey, Vec<Multiaddr>)>,
}

/// Why a host did not join. Nothing changed on either side, unless the connection was lost at the very end;
/// joining again with the same key and name is safe.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token names no address that can be dialled.
    #[error("the token names no address that can be dialled")]
    NoAddress,
    /// None of the token's addresses answers as the host that made it.
    #[error("no address of the token answers")]
    Unreachable(#[source] Box<libp2p::swarm::DialError>),
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
    /// libp2p could not be set up.
    #[error("the connection can't be set up")]
    Setup(#[from] SetupError),
}

/// Why no token was made. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// This host's own grant does not hold, or doesn't include what the token is to give.
    #[error("this host's own grant does not allow it")]
    Grant(#[source] AdmitError),
    /// Its grant can't be passed on far enough: a token needs two passes, itself and the host's grant.
    #[error("this host's grant can't be passed on any further")]
    NoPasses,
}

/// What a token gives.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// What the new host may do; [`Verb::Join`] is always added.
    pub verbs: Vec<Verb>,
    /// When the token expires, in milliseconds since 1970.
    pub not_after_unix_ms: u64,
    /// Where this host can be reached, the best first; no more than fit are taken.
    pub addresses: Vec<Multiaddr>,
}

/// Makes a token: a fresh key with a grant signed by this host.
pub fn new_token(
    keys: &KeyPair,
    root: PublicKey,
    chain: &[Signed],
    invitation: &Invitation,
    now: Now,
) -> Result<Token, InviteError> {
    let own = admit(root, chain, keys.public(), now).map_err(InviteError::Grant)?;
    let passes = own.passes.checked_sub(1).filter(|passes| *passes > 0).ok_or(InviteError::NoPasses)?;
    let mut verbs: std::collections::BTreeSet<Verb> = invitation.verbs.iter().copied().collect();
    verbs.insert(Verb::Join);
    if !verbs.is_subset(&own.verbs) {
        return Err(InviteError::Grant(AdmitError::Verb));
    }
    let token_keys = KeyPair::from_secret(clock::random());
    let grant = Grant {
        mesh: mesh_of(root),
        subject: token_keys.public(),
        name: None,
        verbs,
        passes,
        not_after_unix_ms: Some(invitation.not_after_unix_ms),
    };
    let mut longer = chain.to_vec();
    longer.push(keys.sign(Domain::Grant, grant.to_bytes()));
    let addresses = invitation.addresses.iter().take(HELLO_ADDRESSES_MAX).map(Multiaddr::to_string).collect();
    Ok(Token { root, chain: longer, secret: token_keys.secret(), issuer: keys.public(), addresses })
}

/// Joins a mesh: connects to the host that made the token, proves possession of the token's key, and receives a
/// grant for this host's own key under `name`.
pub async fn join(token: &Token, name: &Name, keys: &KeyPair) -> Result<Membership, JoinError> {
    timeout(JOIN_TIMEOUT, join_over_swarm(token, name, keys)).await.map_err(|_| JoinError::Timeout)?
}

async fn join_over_swarm(token: &Token, name: &Name, keys: &KeyPair) -> Result<Membership, JoinError> {
    let issuer = peer_id_of(token.issuer).ok_or(JoinError::NoAddress)?;
    let addresses: Vec<Multiaddr> = token.addresses.iter().filter_map(|a| a.parse().ok()).collect();
    if addresses.is_empty() {
        return Err(JoinError::NoAddress);
    }
    let mut swarm = swarm(keypair_of(keys), Streams::new([]))?;
    swarm
        .dial(DialOpts::peer_id(issuer).addresses(addresses).build())
        .map_err(|error| JoinError::Unreachable(Box::new(error)))?;
    let via = loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { endpoint, .. } => {
                break book::without_peer(endpoint.get_remote_address().clone());
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                return Err(JoinError::Unreachable(Box::new(error)));
            }
            _ => {}
        }
    };
    let (reply, stream) = oneshot::channel();
    swarm.behaviour_mut().open(issuer, None, JOIN_PROTOCOL, reply);
    let dialogue = async {
        let mut stream = stream.await.map_err(|_| StreamError::NotConnected)??;
        ask(&mut stream, token, name, keys).await
    };
    tokio::pin!(dialogue);
    let (chain, known) = loop {
        tokio::select! {
            // Both arms are cancel-safe: the dialogue is only polled, and the swarm keeps its state.
            outcome = &mut dialogue => break outcome?,
            _ = swarm.select_next_some() => {}
        }
    };
    let usable = |peer: PeerAddresses| (peer.key, book::usable(&peer.addresses, &via));
    let mut known: Vec<_> = known.into_iter().map(usable).collect();
    if let Some((_, addresses)) = known.iter_mut().find(|(key, _)| *key == token.issuer) {
        addresses.retain(|address| *address != via);
        addresses.insert(0, via);
    } else {
        known.insert(0, (token.issuer, vec![via]));
    }
    Ok(Membership { root: token.root, chain, known })
}

/// The new host's side of the dialogue.
async fn ask(
    stream: &mut MeshStream,
    token: &Token,
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
    // By the introducer's clock it holds now; ours may be wrong, and a host's grant has no end of its own.
    let now = Now { mono_ms: 0, unix_ms: 0 };
    let standing = admit(token.root, &chain, keys.public(), now).map_err(JoinError::Grant)?;
    standing.allows(Verb::Join).map_err(JoinError::Grant)?;
    Ok((chain, known))
}

/// The introducer's side of the dialogue, on one connection.
pub(super) struct Introducer {
    pub(super) own: Arc<Own>,
    pub(super) keys: KeyPair,
    pub(super) host: PublicKey,
    pub(super) events: mpsc::Sender<MeshEvent>,
    /// This host and the members that it knows.
    pub(super) known: Vec<PeerAddresses>,
}

/// How a join ended for the introducer.
#[derive(Debug)]
pub(super) enum Introduced {
    /// The host has its grant.
    Granted,
    /// It was refused.
    Refused(Refusal),
    /// The dialogue broke off.
    Failed,
}

impl Introducer {
    /// Speaks with the new host until it has closed its side.
    pub(super) async fn introduce(self, mut stream: MeshStream) -> Introduced {
        match self.introduce_on(&mut stream).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!(host = ?self.host, %error, "join broke off");
                Introduced::Failed
            }
        }
    }

    async fn introduce_on(&self, stream: &mut MeshStream) -> Result<Introduced, JoinError> {
        match hear(stream).await? {
            JoinMessage::Open => {}
            other => return Err(unexpected(other)),
        }
        let nonce = clock::random();
        say(stream, &JoinMessage::Challenge(nonce)).await?;
        let (claim, chain) = match hear(stream).await? {
            JoinMessage::Claim { claim, chain } => (claim, chain),
            other => return Err(unexpected(other)),
        };
        let (message, outcome) = match self.judge(claim, &chain, nonce).await {
            Ok(chain) => (JoinMessage::Granted { chain, known: self.known.clone() }, Introduced::Granted),
            Err(why) => (JoinMessage::Refused(why), Introduced::Refused(why)),
        };
        say(stream, &message).await?;
        if stream.shutdown().await.is_ok() {
            // Whatever ends this, data, an end or a failure, the new host has had its chance to read.
            let _ = stream.read(&mut [0]).await;
        }
        Ok(outcome)
    }

    async fn judge(&self, claim: Signed, chain: &[Signed], nonce: [u8; 32]) -> Result<Vec<Signed>, Refusal> {
        let own = &self.own;
        let now = clock::now(own.start);
        let invited =
            judge_join(own.root, chain, claim, self.host, nonce, now).map_err(|e| self.refusal(&e))?;
        let standing = self.standing(now)?;
        let grant =
            grant_host(own.root, &standing, own.chain.len(), &invited).map_err(|e| self.refusal(&e))?;
        let (reply, answer) = oneshot::channel();
        let request = MeshEvent::JoinRequest { name: invited.name.clone(), key: self.host, reply };
        self.events.send(request).await.map_err(|_| Refusal::Busy)?;
        answer.await.unwrap_or(Err(Refusal::Busy))?;
        let mut longer = own.chain.clone();
        longer.push(self.keys.sign(Domain::Grant, grant.to_bytes()));
        Ok(longer)
    }

    fn standing(&self, now: Now) -> Result<Standing, Refusal> {
        admit(self.own.root, &self.own.chain, self.own.key, now).map_err(|_| Refusal::NoIntroducer)
    }

    fn refusal(&self, error: &Unfit) -> Refusal {
        tracing::debug!(host = ?self.host, %error, "join refused");
        match error {
            Unfit::Token(error) => Refusal::from(error),
            Unfit::Claim => Refusal::Forged,
            Unfit::OtherOccasion => Refusal::OtherSubject,
            Unfit::NoPasses => Refusal::NoIntroducer,
        }
    }
}

async fn say(stream: &mut MeshStream, message: &JoinMessage) -> io::Result<()> {
    stream.write_block(&message.to_bytes()).await
}

async fn hear(stream: &mut MeshStream) -> Result<JoinMessage, JoinError> {
    Ok(JoinMessage::from_bytes(&stream.read_block(JOIN_BYTES_MAX).await?)?)
}

fn unexpected(message: JoinMessage) -> JoinError {
    match message {
        JoinMessage::Refused(why) => JoinError::Refused(why),
        _ => JoinError::Unexpected,
    }
}
