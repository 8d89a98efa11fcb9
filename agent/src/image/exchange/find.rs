//! Who has what.

use std::time::Duration;

use mln_protocol::id::PublicKey;
use mln_protocol::model::TemplateRef;
use mln_protocol::wire::{DecodeError, IMAGE_ANSWER_BYTES_MAX, ImageAnswer, ImageAsk, ImageOffer};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Exchange;
use super::limits::{FIND_TIMEOUT, PEERS_ASKED_MAX};
use crate::mesh::{MeshStream, StreamError, StreamKind};

/// What a host has.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Who.
    pub peer: PublicKey,
    /// What it is called.
    pub host: String,
    /// The templates.
    pub offers: Vec<ImageOffer>,
}

/// Why a host gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("it can't be asked")]
    Stream(#[from] StreamError),
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    #[error("it took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("its answer is none")]
    Answer(#[from] DecodeError),
}

/// Returns the newest of all that was found, by when it was made.
pub(crate) fn newest(found: &[Found]) -> Option<&ImageOffer> {
    let offers = found.iter().flat_map(|found| &found.offers);
    offers.max_by_key(|offer| (offer.added_unix_ms, offer.digest))
}

impl Exchange {
    /// Asks all connected hosts, or one, for a template; returns those that have it, after two seconds at the latest.
    pub(crate) async fn find(&self, wanted: &TemplateRef, only: Option<PublicKey>) -> Vec<Found> {
        self.survey(&ImageAsk::Find(wanted.clone()), only).await
    }

    /// Asks all connected hosts which templates they have.
    pub(crate) async fn list(&self) -> Vec<Found> {
        self.survey(&ImageAsk::List, None).await
    }

    async fn survey(&self, ask: &ImageAsk, only: Option<PublicKey>) -> Vec<Found> {
        let peers = self.shared.mesh.peers().await;
        let connected = peers
            .into_iter()
            .filter(|peer| peer.connection.is_some() && only.is_none_or(|only| only == peer.key));
        let mut answers = JoinSet::new();
        for peer in connected.take(PEERS_ASKED_MAX) {
            let (exchange, ask) = (self.clone(), ask.clone());
            answers.spawn(async move {
                let host = peer.name.map_or_else(|| peer.key.short(), |name| name.to_string());
                match exchange.ask(peer.key, &ask, FIND_TIMEOUT).await {
                    Ok((ImageAnswer::Offers(offers), _)) if !offers.is_empty() => {
                        Some(Found { peer: peer.key, host, offers })
                    }
                    Ok(_) => None,
                    Err(error) => {
                        tracing::debug!(
                            host,
                            error = &error as &dyn std::error::Error,
                            "not asked for images"
                        );
                        if let AskError::Answer(_) = error {
                            exchange.report(peer.key, "an answer about images that is none").await;
                        }
                        None
                    }
                }
            });
        }
        let mut found: Vec<Found> = answers.join_all().await.into_iter().flatten().collect();
        found.sort_by(|a, b| a.host.cmp(&b.host));
        found
    }

    /// Asks one host; returns also the stream behind the answer.
    pub(super) async fn ask(
        &self,
        peer: PublicKey,
        ask: &ImageAsk,
        limit: Duration,
    ) -> Result<(ImageAnswer, MeshStream), AskError> {
        let asking = async {
            let mut stream = self.shared.mesh.open_stream(peer, StreamKind::Image, &ask.to_bytes()).await?;
            let answer = stream.read_block(IMAGE_ANSWER_BYTES_MAX).await?;
            Ok((ImageAnswer::from_bytes(&answer)?, stream))
        };
        timeout(limit, asking).await.unwrap_or(Err(AskError::Timeout(limit)))
    }

    pub(super) async fn report(&self, peer: PublicKey, why: &'static str) {
        // The mesh's task has ended only if the agent is about to.
        let _ = self.shared.mesh.report_misbehaviour(peer, why).await;
    }
}
