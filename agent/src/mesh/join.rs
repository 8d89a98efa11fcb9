//! Tokens, and the introducer's side of joining; `mln_protocol::wire::JoinMessage` draws the dialogue, and
//! `mln_door::join` has the other side.

use std::sync::Arc;

use libp2p::Multiaddr;
use mln_door::join::{hear, say, unexpected};
use mln_protocol::id::{Name, PublicKey};
use mln_protocol::time::Now;
use mln_protocol::trust::{
    AdmitError, Domain, Grant, Invited, KeyPair, Signed, Verb, admit, grant_joined, judge_join, mesh_of,
};
use mln_protocol::trust::{JoinError as Unfit, Standing};
use mln_protocol::wire::{HELLO_ADDRESSES_MAX, JoinMessage, PeerAddresses, Refusal, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::clock;
use super::handle::MeshEvent;
use super::hello::Own;
pub use mln_door::join::{JoinError, Membership, join};
use mln_door::streams::MeshStream;

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
    /// What the new host or operator may do: with [`Verb::Join`] it is a host.
    pub verbs: Vec<Verb>,
    /// Under which name; none is whatever name the new one likes.
    pub name: Option<Name>,
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
    let verbs: std::collections::BTreeSet<Verb> = invitation.verbs.iter().copied().collect();
    if !verbs.is_subset(&own.verbs) {
        return Err(InviteError::Grant(AdmitError::Verb));
    }
    let token_keys = KeyPair::from_secret(clock::random());
    let grant = Grant {
        mesh: mesh_of(root),
        subject: token_keys.public(),
        name: invitation.name.clone(),
        verbs,
        passes,
        not_after_unix_ms: Some(invitation.not_after_unix_ms),
        scope: mln_protocol::trust::Scope::default(),
    };
    let mut longer = chain.to_vec();
    longer.push(keys.sign(Domain::Grant, grant.to_bytes()));
    let addresses = invitation.addresses.iter().take(HELLO_ADDRESSES_MAX).map(Multiaddr::to_string).collect();
    Ok(Token { root, chain: longer, secret: token_keys.secret(), issuer: keys.public(), addresses })
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
        let grant = grant_joined(own.root, &standing, own.chain.len(), &invited, now)
            .map_err(|e| self.refusal(&e))?;
        let (reply, answer) = oneshot::channel();
        let Invited { role, name, token, .. } = invited;
        let grants = token.links.iter().map(|link| link.digest).collect();
        let request = MeshEvent::JoinRequest { role, name, key: self.host, grants, reply };
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
            Unfit::OtherName => Refusal::OtherName,
            Unfit::Limits => Refusal::NotGranted,
        }
    }
}
