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

/// Returns the newest of all that was found, by when it was made. What is wanted by its digest may have several names:
/// the one that was asked for goes first, since it is called so here too.
pub(crate) fn newest<'a>(found: &'a [Found], wanted: &TemplateRef) -> Option<&'a ImageOffer> {
    let offers = found.iter().flat_map(|found| &found.offers);
    offers.max_by_key(|offer| (offer.name == *wanted.name(), offer.added_unix_ms, offer.digest))
}

/// Whether an offer is of what was asked for. A host can say anything; what a digest pins would else be the choice of
/// whoever answers.
fn is_of(offer: &ImageOffer, ask: &ImageAsk) -> bool {
    match ask {
        ImageAsk::List => true,
        ImageAsk::Find(TemplateRef::Newest(name)) => offer.name == *name,
        ImageAsk::Find(TemplateRef::Version(name, version)) => {
            offer.name == *name && offer.version == *version
        }
        // It is found under any name.
        ImageAsk::Find(TemplateRef::Exact(_, digest)) => offer.digest == *digest,
        ImageAsk::Fetch(_) => false,
    }
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
                    Ok((ImageAnswer::Offers(mut offers), _)) => {
                        let said = offers.len();
                        offers.retain(|offer| is_of(offer, &ask));
                        if offers.len() < said {
                            tracing::warn!(host, ?ask, "a host offers other images than it was asked for");
                            exchange.report(peer.key, "an offer of what was not asked for").await;
                        }
                        (!offers.is_empty()).then_some(Found { peer: peer.key, host, offers })
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

#[cfg(test)]
mod tests {
    use mln_protocol::id::{Digest, Name};

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    fn offer(name_text: &str, version: &str, digest: u8, added_unix_ms: u64) -> ImageOffer {
        ImageOffer {
            name: name(name_text),
            version: version.to_owned(),
            digest: Digest([digest; 32]),
            bytes: 1,
            file_system_bytes: 1,
            data_bytes: 1,
            added_unix_ms,
            memory_mib_min: 1,
        }
    }

    #[test]
    fn an_offer_of_something_else_is_none() {
        let mini = offer("mini", "1", 7, 5);
        let find = ImageAsk::Find;
        let exact = |digest| find(TemplateRef::Exact(name("mini"), Digest([digest; 32])));
        let version = |version: &str| find(TemplateRef::Version(name("mini"), version.to_owned()));
        for (ask, expect) in [
            (ImageAsk::List, true),
            (find(TemplateRef::Newest(name("mini"))), true),
            (find(TemplateRef::Newest(name("debian"))), false),
            (version("1"), true),
            (version("2"), false),
            (exact(7), true),
            // A project pins images by digests: nobody may answer with another one.
            (exact(8), false),
        ] {
            assert_eq!(is_of(&mini, &ask), expect, "{ask:?}");
        }
    }

    #[test]
    fn the_newest_counts_and_before_that_the_name_that_was_asked_for() {
        let found = |offers| [Found { peer: PublicKey([1; 32]), host: "oslo".to_owned(), offers }];
        let newer = found(vec![offer("mini", "1", 7, 5), offer("mini", "2", 8, 6)]);
        let of = |found: &[Found], wanted| newest(found, &wanted).map(|offer| offer.version.clone());
        assert_eq!(of(&newer, TemplateRef::Newest(name("mini"))).as_deref(), Some("2"));
        let renamed = found(vec![offer("mini", "1", 7, 5), offer("debian", "9", 7, u64::MAX)]);
        let exact = TemplateRef::Exact(name("mini"), Digest([7; 32]));
        assert_eq!(of(&renamed, exact).as_deref(), Some("1"));
    }
}
