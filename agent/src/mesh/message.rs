//! `/mln/message/1`: one message to one peer, acknowledged by an answer that says nothing else.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use mln_protocol::wire::MESSAGE_BYTES_MAX;

/// The protocol's name.
pub(super) const MESSAGE_PROTOCOL: StreamProtocol = StreamProtocol::new("/mln/message/1");

/// The answer: a byte, because the end of a stream alone can also mean that it was dropped.
const ARRIVED: u8 = 1;

/// What travels. That a message is over the limit is a value, not a failure: libp2p doesn't report a request
/// that could not be read, and nobody could be blamed.
#[derive(Debug)]
pub(super) enum Parcel {
    /// A message.
    Message(Vec<u8>),
    /// The sender announced one that is over the limit; it was not read.
    OverLong,
}

/// A length of four bytes, big-endian, and so many bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct MessageCodec;

impl Codec for MessageCodec {
    type Protocol = StreamProtocol;
    type Request = Parcel;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Parcel>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut length = [0; 4];
        io.read_exact(&mut length).await?;
        let length = u64::from(u32::from_be_bytes(length));
        if length > MESSAGE_BYTES_MAX as u64 {
            return Ok(Parcel::OverLong);
        }
        // Grows as bytes arrive: a length alone makes nobody allocate.
        let mut bytes = Vec::new();
        io.take(length).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 == length {
            Ok(Parcel::Message(bytes))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        if byte == [ARRIVED] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, parcel: Parcel) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let Parcel::Message(bytes) = parcel else { return Err(io::ErrorKind::InvalidInput.into()) };
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        io.write_all(&length.to_be_bytes()).await?;
        io.write_all(&bytes).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&[ARRIVED]).await
    }
}
