//! The same switch on another host: a stream of frames, each behind its length in two bytes, big-endian.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::counters::LinkCounters;
use super::port::{Gone, Reading};
use super::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 2;

/// Bytes that wait for another host that is behind, beyond what the stream holds.
pub(super) const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Bytes that are read at a time: at least the longest frame and its length.
const READ_BYTES: usize = 2 * (FRAME_BYTES_MAX + LENGTH_BYTES);

/// How often a trunk is read before others get their turn.
const READS_MAX: usize = 8;

/// A stream that can be a trunk.
pub trait TrunkStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> TrunkStream for S {}

/// One trunk.
pub(super) struct Trunk {
    stream: Box<dyn TrunkStream>,
    received: Box<[u8]>,
    /// The part of `received` that is not yet frames.
    start: usize,
    end: usize,
    /// Frames to be written; those before `written` are.
    queue: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl Trunk {
    /// A trunk over a stream, behind its header.
    pub(super) fn new(stream: Box<dyn TrunkStream>) -> Self {
        Self {
            stream,
            received: vec![0; READ_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            queue: Vec::new(),
            written: 0,
            unflushed: false,
        }
    }

    /// Receives frames and gives each to `each`.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        counters: &LinkCounters,
        mut each: impl FnMut(&[u8]),
    ) -> Reading {
        for _ in 0..READS_MAX {
            if self.end == self.received.len() {
                self.received.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let mut space = ReadBuf::new(&mut self.received[self.end..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut space) {
                Poll::Pending => return Reading::Idle,
                Poll::Ready(Err(_)) => return Reading::Ended,
                Poll::Ready(Ok(())) => {}
            }
            let count = space.filled().len();
            if count == 0 {
                return Reading::Ended;
            }
            self.end += count;
            while let Some((length, rest)) =
                self.received[self.start..self.end].split_first_chunk::<LENGTH_BYTES>()
            {
                let bytes = usize::from(u16::from_be_bytes(*length));
                if bytes < FRAME_BYTES_MIN {
                    // Nothing behind it can be trusted to be a frame.
                    counters.dropped_malformed();
                    return Reading::Ended;
                }
                let Some(frame) = rest.get(..bytes) else { break };
                counters.received(bytes);
                each(frame);
                self.start += LENGTH_BYTES + bytes;
            }
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            }
        }
        Reading::More
    }

    /// Queues a frame; [`Trunk::flush`] sends what has gathered.
    pub(super) fn write(&mut self, frame: &[u8], counters: &LinkCounters) {
        let Ok(length) = u16::try_from(frame.len()) else { return counters.dropped_malformed() };
        if self.queue.len() - self.written + LENGTH_BYTES + frame.len() > QUEUE_BYTES_MAX {
            return counters.dropped_full();
        }
        self.queue.extend_from_slice(&length.to_be_bytes());
        self.queue.extend_from_slice(frame);
        counters.sent(frame.len());
    }

    /// Sends what waits, as far as the other host reads; the task is woken when it reads more.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        while self.written < self.queue.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.queue[self.written..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return Err(Gone),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.unflushed = true;
                }
            }
        }
        if self.written == self.queue.len() {
            self.queue.clear();
            self.written = 0;
        } else if self.written >= QUEUE_BYTES_MAX {
            self.queue.drain(..self.written);
            self.written = 0;
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Err(Gone),
            }
        }
        Ok(())
    }
}
