//! A stream to a peer, as tokio reads and writes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::swarm::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// A stream to a peer; dropping it resets it, `shutdown` ends it in good order.
#[derive(Debug)]
pub struct MeshStream {
    stream: Compat<Stream>,
    /// Counts the stream against its peer's limit for as long as it exists.
    _permit: Option<OwnedSemaphorePermit>,
}

impl MeshStream {
    /// A stream that the peer opened.
    pub fn incoming(stream: Stream, permit: OwnedSemaphorePermit) -> Self {
        Self { stream: stream.compat(), _permit: Some(permit) }
    }

    /// A stream that we opened.
    pub fn outgoing(stream: Stream) -> Self {
        Self { stream: stream.compat(), _permit: None }
    }

    /// Sends `bytes` behind their length.
    pub async fn write_block(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.write_all(&length.to_be_bytes()).await?;
        self.write_all(bytes).await?;
        self.flush().await
    }

    /// Receives bytes behind their length, which may be at most `limit`.
    pub async fn read_block(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let length = self.read_u32().await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes, limit {limit}")));
        }
        // Grows as bytes arrive: a length alone makes nobody allocate.
        let mut bytes = Vec::new();
        (&mut *self).take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes).await?;
        if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
