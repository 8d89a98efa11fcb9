//! A guest's interface: a SEQPACKET socket on which one message is one frame.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::unix::AsyncFd;

use super::counters::LinkCounters;
use super::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};

/// Frames that wait for a guest that doesn't read, beyond what its socket holds.
pub(super) const QUEUE_FRAMES_MAX: usize = 256;

/// Bytes of these frames.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// How far reading a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// There is nothing more; the task is woken when there is.
    Idle,
    /// There may be more.
    More,
    /// The other side is gone.
    Ended,
}

/// One guest interface.
#[derive(Debug)]
pub(super) struct Port {
    fd: AsyncFd<OwnedFd>,
    queue: VecDeque<Box<[u8]>>,
    queue_bytes: usize,
    broken: bool,
}

/// Has tokio watch a socket. Must be called within a tokio runtime.
pub(super) fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns an open descriptor and keeps it until it is dropped, and nobody replaces the one
    // in the `AsyncFd`: only shared references to it are taken.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

impl Port {
    /// A port over a socket. Its flags are left as they are: it may be shared with another process.
    pub(super) fn new(fd: AsyncFd<OwnedFd>) -> Self {
        Self { fd, queue: VecDeque::new(), queue_bytes: 0, broken: false }
    }

    /// Receives up to `budget` frames and gives each to `each`.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        budget: usize,
        counters: &LinkCounters,
        mut each: impl FnMut(&[u8]),
    ) -> Reading {
        let mut left = budget;
        loop {
            let mut guard = match self.fd.poll_read_ready(cx) {
                Poll::Pending => return Reading::Idle,
                Poll::Ready(Ok(guard)) => guard,
                Poll::Ready(Err(_)) => return Reading::Ended,
            };
            loop {
                if left == 0 {
                    return Reading::More;
                }
                match recv(self.fd.get_ref(), &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                    // An empty message would be no frame either.
                    Ok((_, 0)) => return Reading::Ended,
                    Ok((_, bytes)) => {
                        left -= 1;
                        if (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&bytes) {
                            counters.received(bytes);
                            each(&buffer[..bytes]);
                        } else {
                            counters.dropped_malformed();
                        }
                    }
                    Err(Errno::AGAIN) => {
                        guard.clear_ready();
                        break;
                    }
                    Err(Errno::INTR) => {}
                    Err(_) => return Reading::Ended,
                }
            }
        }
    }

    /// Sends a frame, or queues it behind those that wait.
    pub(super) fn write(&mut self, frame: &[u8], counters: &LinkCounters) {
        if self.queue.is_empty() {
            match self.send(frame) {
                Sent::Done => return counters.sent(frame.len()),
                Sent::Lost => return counters.dropped_full(),
                Sent::Later => {}
            }
        }
        if self.queue.len() >= QUEUE_FRAMES_MAX || self.queue_bytes + frame.len() > QUEUE_BYTES_MAX {
            return counters.dropped_full();
        }
        self.queue_bytes += frame.len();
        self.queue.push_back(frame.into());
    }

    /// Sends what waits, as far as the guest reads; the task is woken when it reads more.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, counters: &LinkCounters) -> Result<(), Gone> {
        while let Some(frame) = self.queue.front() {
            let mut guard = match self.fd.poll_write_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(guard)) => guard,
                Poll::Ready(Err(_)) => return Err(Gone),
            };
            match send(self.fd.get_ref(), frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => {
                    guard.clear_ready();
                    continue;
                }
                Err(Errno::INTR) => continue,
                Ok(_) => counters.sent(frame.len()),
                Err(Errno::NOBUFS | Errno::MSGSIZE) => counters.dropped_full(),
                Err(_) => self.broken = true,
            }
            self.queue_bytes -= frame.len();
            self.queue.pop_front();
        }
        if self.broken { Err(Gone) } else { Ok(()) }
    }

    fn send(&mut self, frame: &[u8]) -> Sent {
        loop {
            return match send(self.fd.get_ref(), frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => Sent::Done,
                Err(Errno::AGAIN) => Sent::Later,
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS | Errno::MSGSIZE) => Sent::Lost,
                Err(_) => {
                    self.broken = true;
                    Sent::Lost
                }
            };
        }
    }
}

/// The other side of a link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

enum Sent {
    Done,
    Later,
    Lost,
}
