//! Messages on a byte stream: four bytes of length, little-endian, and the encoded message.

use mln_protocol::wire;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::LinkError;

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = wire::MESSAGE_BYTES_MAX;

/// How much is read at once, in bytes: memory for a message grows as it arrives, not as it is announced.
const READ_BYTES: usize = 64 << 10;

const LENGTH_BYTES: usize = 4;

/// Reads messages from a stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    /// What has arrived and is not decoded yet.
    arrived: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Returns a reader of `stream`.
    pub fn new(stream: R) -> Self {
        Self { stream, arrived: Vec::new() }
    }

    /// Returns the next message; none when the stream ends between two messages.
    ///
    /// Cancel-safe: what has arrived stays in the reader.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LinkError> {
        loop {
            if let Some(frame_bytes) = self.complete_frame_bytes()? {
                let message = wire::decode(&self.arrived[LENGTH_BYTES..frame_bytes], MESSAGE_BYTES_MAX);
                self.arrived.drain(..frame_bytes);
                return Ok(Some(message?));
            }
            self.arrived.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.arrived).await? == 0 {
                return if self.arrived.is_empty() { Ok(None) } else { Err(LinkError::ClosedEarly) };
            }
        }
    }

    /// Reads exactly `N` bytes that are no message: the hello.
    pub(crate) async fn next_bytes<const N: usize>(&mut self) -> Result<[u8; N], LinkError> {
        loop {
            if let Some(bytes) = self.arrived.first_chunk::<N>().copied() {
                self.arrived.drain(..N);
                return Ok(bytes);
            }
            if self.stream.read_buf(&mut self.arrived).await? == 0 {
                return Err(LinkError::ClosedEarly);
            }
        }
    }

    /// Returns the length of the first frame, length field included, once all of it has arrived.
    fn complete_frame_bytes(&self) -> Result<Option<usize>, LinkError> {
        let Some(length) = self.arrived.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLong { bytes, limit: MESSAGE_BYTES_MAX });
        }
        let frame_bytes = LENGTH_BYTES + bytes;
        Ok((self.arrived.len() >= frame_bytes).then_some(frame_bytes))
    }
}

/// Writes one message and flushes.
///
/// Fails with [`LinkError::TooLong`] before anything is written. Not cancel-safe: half a message may be out.
pub async fn write_frame<W, T>(stream: &mut W, message: &T) -> Result<(), LinkError>
where
    W: AsyncWrite + Unpin,
    T: Serialize,
{
    let encoded = wire::encode(message);
    let length = u32::try_from(encoded.len()).ok().filter(|_| encoded.len() <= MESSAGE_BYTES_MAX);
    let Some(length) = length else {
        return Err(LinkError::TooLong { bytes: encoded.len(), limit: MESSAGE_BYTES_MAX });
    };
    let mut frame = Vec::with_capacity(LENGTH_BYTES + encoded.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&encoded);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all_of(bytes: &[u8]) -> Result<Option<String>, LinkError> {
        FrameReader::new(bytes).next::<String>().await
    }

    #[tokio::test]
    async fn messages_come_back_one_by_one_however_they_are_cut() {
        let mut bytes = Vec::new();
        for text in ["one", "", "three"] {
            write_frame(&mut bytes, &text).await.expect("a Vec takes everything");
        }
        let (mut near, far) = tokio::io::duplex(1);
        let writer = async {
            near.write_all(&bytes).await.expect("the reader is there");
            drop(near);
        };
        let reader = async {
            let mut reader = FrameReader::new(far);
            let mut texts = Vec::new();
            while let Some(text) = reader.next::<String>().await.expect("whole messages") {
                texts.push(text);
            }
            texts
        };
        let ((), texts) = tokio::join!(writer, reader);
        assert_eq!(texts, ["one", "", "three"]);
    }

    #[tokio::test]
    async fn an_over_long_message_is_refused_by_its_length_alone() {
        let announced = u32::try_from(MESSAGE_BYTES_MAX + 1).expect("the limit is far below 4 GiB");
        let error = read_all_of(&announced.to_le_bytes()).await.expect_err("too long");
        assert!(
            matches!(error, LinkError::TooLong { bytes, .. } if bytes == MESSAGE_BYTES_MAX + 1),
            "{error}"
        );
        let mut out = Vec::new();
        let error = write_frame(&mut out, &"x".repeat(MESSAGE_BYTES_MAX)).await.expect_err("too long");
        assert!(matches!(error, LinkError::TooLong { .. }), "{error}");
        assert!(out.is_empty());
    }

    #[tokio::test]
    async fn garbage_and_cut_off_messages_are_errors() {
        let garbage = [3, 0, 0, 0, 0xff, 0xff, 0xff];
        assert!(matches!(read_all_of(&garbage).await, Err(LinkError::Decode(_))));
        assert!(matches!(read_all_of(&garbage[..5]).await, Err(LinkError::ClosedEarly)));
        assert!(matches!(read_all_of(&garbage[..2]).await, Err(LinkError::ClosedEarly)));
        assert!(matches!(read_all_of(&[]).await, Ok(None)));
    }
}
