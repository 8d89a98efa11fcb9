//! Which chunks of an image are here, told to others as they come; and hearing the same of them.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::wire::{INVENTORY_BYTES_MAX, INVENTORY_NEWS_BYTES_MAX, INVENTORY_NEWS_MAX, Inventory};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::Exchange;
use super::find::AskError;
use super::limits::{FOLLOWERS_MAX, INVENTORY_TIMEOUT};
use crate::mesh::{MeshStream, StreamKind};

/// Counts one who is told, for as long as it exists.
struct Follower {
    exchange: Exchange,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.exchange.shared.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Exchange {
    /// Tells a peer what is here of an image, and what comes of it, until it is whole or nobody listens.
    pub(crate) async fn tell_inventory(&self, header: &[u8], mut stream: MeshStream) -> io::Result<()> {
        let digest: [u8; 32] = header
            .try_into()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no digest of an image"))?;
        let digest = Digest(digest);
        let images = self.shared.images.clone();
        let is_whole =
            tokio::task::spawn_blocking(move || images.has(&digest) && images.manifest(&digest).is_ok());
        let follower = self.follower();
        let open = self.open_part(&digest).filter(|_| follower.is_some());
        let Some(open) = open else {
            let inventory =
                if is_whole.await.unwrap_or(false) { Inventory::Whole } else { Inventory::Nothing };
            stream.write_block(&inventory.to_bytes()).await?;
            return stream.shutdown().await;
        };
        let (inventory, mut news) = open.follow();
        let chunks = open.chunks();
        let mut told = (0..chunks).filter(|&position| inventory.has(position)).count();
        // Whoever fetches holds it: when that is over, there is nothing more to tell.
        drop(open);
        stream.write_block(&inventory.to_bytes()).await?;
        while told < chunks {
            // Both arms are cancel-safe: nothing is taken of the news, and one byte is not expected at all.
            let news = tokio::select! {
                news = news.next(INVENTORY_NEWS_MAX) => news,
                _ = stream.read_u8() => None,
            };
            let Some(news) = news else { break };
            told += news.len();
            stream.write_block(&Inventory::news(&news)).await?;
        }
        stream.shutdown().await
    }

    fn follower(&self) -> Option<Follower> {
        let before = self.shared.followers.fetch_add(1, Ordering::Relaxed);
        let follower = Follower { exchange: self.clone() };
        (before < FOLLOWERS_MAX).then_some(follower)
    }

    /// Asks a peer what it has of an image; returns that, the time that it took, and the stream with what comes.
    pub(super) async fn ask_inventory(
        &self,
        peer: PublicKey,
        digest: &Digest,
    ) -> Result<(Inventory, Duration, MeshStream), AskError> {
        let began = Instant::now();
        let asking = async {
            let mut stream = self.shared.mesh.open_stream(peer, StreamKind::Inventory, &digest.0).await?;
            let answer = stream.read_block(INVENTORY_BYTES_MAX).await?;
            Ok::<_, AskError>((Inventory::from_bytes(&answer)?, stream))
        };
        let asked = timeout(INVENTORY_TIMEOUT, asking).await;
        let (inventory, stream) = asked.unwrap_or(Err(AskError::Timeout(INVENTORY_TIMEOUT)))?;
        Ok((inventory, began.elapsed(), stream))
    }
}

/// Reads what has come at a peer; none where it has no more to tell.
pub(super) async fn heard(stream: &mut MeshStream) -> Result<Option<Vec<u32>>, AskError> {
    match stream.read_block(INVENTORY_NEWS_BYTES_MAX).await {
        Ok(block) => Ok(Some(Inventory::positions(&block)?)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}
