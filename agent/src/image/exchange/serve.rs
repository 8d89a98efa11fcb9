//! Handing images to others.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::model::TemplateRef;
use mln_protocol::wire::{
    CHUNK_ABSENT, ChunkPacking, DecodeError, IMAGE_OFFERS_MAX, ImageAnswer, ImageAsk, ImageOffer, Manifest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Exchange;
use super::limits::{SERVE_IDLE_TIMEOUT, SERVED_MAX, SERVED_PER_PEER_MAX, ZSTD_LEVEL};
use crate::image::{ImageStore, Template};
use crate::mesh::MeshStream;

/// Why a peer was not served to the end. Only the first two are its fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// What it asks isn't understood.
    #[error("a question about images that is none")]
    Ask(#[from] DecodeError),
    /// It asks for a chunk that isn't in the manifest that it was given.
    #[error("there is no chunk {index} in image {}", digest.short())]
    NoSuchChunk {
        /// The place.
        index: u32,
        /// The image.
        digest: Digest,
    },
    /// The connection failed, or a file can't be read.
    #[error("it could not be served")]
    Io(#[from] io::Error),
}

/// Counts an image that is handed to a peer for as long as it exists.
struct Permit {
    exchange: Exchange,
    peer: PublicKey,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut served = self.exchange.shared.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = served.get_mut(&self.peer) {
            *count -= 1;
        }
        served.retain(|_, count| *count > 0);
    }
}

impl Exchange {
    /// Answers a peer that has opened a stream for images.
    pub(crate) async fn serve(
        &self,
        from: PublicKey,
        header: &[u8],
        mut stream: MeshStream,
    ) -> Result<(), ServeError> {
        let ask = ImageAsk::from_bytes(header)?;
        let images = self.shared.images.clone();
        match ask {
            ImageAsk::List => {
                let offers = blocking(move || Ok(offers(&images, images.list()))).await?;
                stream.write_block(&ImageAnswer::Offers(offers).to_bytes()).await?;
            }
            ImageAsk::Find(wanted) => {
                let offers = blocking(move || Ok(offers(&images, found(&images, &wanted)))).await?;
                stream.write_block(&ImageAnswer::Offers(offers).to_bytes()).await?;
            }
            ImageAsk::Fetch(digest) => return self.hand_over(from, digest, stream).await,
        }
        Ok(stream.shutdown().await?)
    }

    async fn hand_over(
        &self,
        peer: PublicKey,
        digest: Digest,
        mut stream: MeshStream,
    ) -> Result<(), ServeError> {
        let Some(_permit) = self.permit(peer) else {
            stream.write_block(&ImageAnswer::Busy.to_bytes()).await?;
            return Ok(stream.shutdown().await?);
        };
        let images = self.shared.images.clone();
        let whole = blocking(move || {
            let file = File::open(images.path(&digest))?;
            let manifest = images.manifest(&digest).map_err(io::Error::other)?;
            Ok((Arc::new(file), manifest))
        });
        let (whole, open) = (whole.await, self.open_part(&digest));
        let (file, manifest, open) = match (whole, open) {
            (Ok((file, manifest)), _) => (file, manifest, None),
            (Err(_), Some(open)) => (open.file().clone(), open.manifest().clone(), Some(open)),
            (Err(error), None) => {
                tracing::debug!(image = %digest.short(), %error, "asked for an image that is not here");
                stream.write_block(&ImageAnswer::Missing.to_bytes()).await?;
                return Ok(stream.shutdown().await?);
            }
        };
        stream.write_block(&ImageAnswer::Manifest(manifest.to_bytes()).to_bytes()).await?;
        loop {
            let index = match timeout(SERVE_IDLE_TIMEOUT, stream.read_u32()).await {
                Ok(Ok(index)) => index,
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            };
            if manifest.chunk(index).is_none() {
                return Err(ServeError::NoSuchChunk { index, digest });
            }
            if open.as_ref().is_some_and(|open| !open.has(index)) {
                stream.write_block(&[CHUNK_ABSENT]).await?;
                continue;
            }
            let (file, length) = (file.clone(), manifest.chunk_len(index));
            // Not verified here: whoever gets it does that anyway, and believes nobody.
            let block = blocking(move || pack(&file, Manifest::offset(index), length)).await?;
            stream.write_block(&block).await?;
        }
        Ok(())
    }

    fn permit(&self, peer: PublicKey) -> Option<Permit> {
        let mut served = self.shared.served.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = served.values().sum();
        let count = served.entry(peer).or_default();
        if *count >= SERVED_PER_PEER_MAX || all >= SERVED_MAX {
            served.retain(|_, count| *count > 0);
            return None;
        }
        *count += 1;
        Some(Permit { exchange: self.clone(), peer })
    }
}

fn found(images: &ImageStore, wanted: &TemplateRef) -> Vec<Template> {
    images.resolve(wanted).into_iter().collect()
}

/// Returns what this host offers of some templates; what has no manifest is not to be had.
pub(super) fn offers(images: &ImageStore, templates: Vec<Template>) -> Vec<ImageOffer> {
    let offer = |template: Template| {
        let manifest = images.manifest(&template.digest).ok()?;
        Some(ImageOffer {
            name: template.name,
            version: template.version,
            digest: template.digest,
            bytes: template.bytes,
            file_system_bytes: template.file_system_bytes,
            data_bytes: manifest.data_bytes(),
            added_unix_ms: template.added_unix_ms,
            memory_mib_min: template.memory_min.0,
        })
    };
    templates.into_iter().filter_map(offer).take(IMAGE_OFFERS_MAX).collect()
}

/// Reads a chunk and packs it, if that makes it shorter.
fn pack(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    let packed = zstd::bulk::compress(&bytes, ZSTD_LEVEL)?;
    let (packing, content) =
        if packed.len() < length { (ChunkPacking::Zstd, packed) } else { (ChunkPacking::Plain, bytes) };
    let mut block = Vec::with_capacity(1 + content.len());
    block.push(packing.byte());
    block.extend_from_slice(&content);
    Ok(block)
}

/// Whether a block says that the chunk isn't there.
pub(super) fn is_absent(block: &[u8]) -> bool {
    block == [CHUNK_ABSENT]
}

/// Takes a chunk out of its block; none where it isn't packed as it says, or longer than it may be.
pub(super) fn unpack(block: &[u8], length: usize) -> Option<Vec<u8>> {
    let (&packing, content) = block.split_first()?;
    match ChunkPacking::of(packing).ok()? {
        ChunkPacking::Plain => Some(content.to_vec()),
        ChunkPacking::Zstd => zstd::bulk::decompress(content, length).ok(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the work was cut off")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_out_as_it_went_in_and_never_longer() {
        use std::io::Write;
        let mut file = tempfile::tempfile().expect("a file");
        let noise: Vec<u8> =
            (0..5000u32).flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[..1].to_vec()).collect();
        file.write_all(&[vec![7; 5000], noise].concat()).expect("room");
        for (at, packing) in [(0, ChunkPacking::Zstd), (5000, ChunkPacking::Plain)] {
            let block = pack(&file, at, 5000).expect("reads");
            assert_eq!(block[0], packing.byte());
            let mut bytes = vec![0; 5000];
            file.read_exact_at(&mut bytes, at).expect("reads");
            assert_eq!(unpack(&block, 5000), Some(bytes));
        }
        let long = pack(&file, 0, 5000).expect("reads");
        assert_eq!(unpack(&long, 4999), None, "more than there may be");
        assert_eq!((unpack(&[], 1), unpack(&[9, 1], 1)), (None, None));
        assert!(is_absent(&[2]) && unpack(&[2], 0).is_none());
    }
}
