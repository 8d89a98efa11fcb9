//! Input on its way to whoever consumes it: bounded by the window, with signals that overtake bytes.
//!
//! The connection pushes into an [`InputFeed`] what arrives; the consumer takes it from the [`InputQueue`], and
//! what it takes makes room in the client's window.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::message::{Input, TerminalSize};
use crate::{CHUNK_BYTES_MAX, INPUT_WINDOW_BYTES, LinkError};

/// How many signals may wait; further ones are dropped, since the command ignores those before.
const SIGNALS_MAX: usize = 16;

/// Returns the two ends of a queue of input.
pub fn input_channel() -> (InputFeed, InputQueue) {
    let shared = Arc::new(Shared::default());
    (InputFeed { shared: Arc::clone(&shared) }, InputQueue { shared })
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something was pushed, or the feed is gone.
    pushed: Notify,
    /// Something was taken.
    taken: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves no half-made state: every change below is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    signals: VecDeque<i32>,
    /// The newest size that the consumer hasn't seen.
    size: Option<TerminalSize>,
    bytes: VecDeque<u8>,
    /// Bytes that were taken and not yet granted again to the client.
    taken_bytes: usize,
    end: End,
    feed: Feed,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The client ended its input, the consumer hasn't seen that yet.
    Pending,
    /// The consumer has seen it.
    Seen,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Feed {
    #[default]
    Attached,
    Gone,
}

/// Where a connection puts the input that arrives.
#[derive(Debug)]
pub struct InputFeed {
    shared: Arc<Shared>,
}

impl InputFeed {
    /// Adds what arrived. Bytes after the end are dropped.
    ///
    /// Fails with [`LinkError::WindowExceeded`] where the client sent more than it was granted.
    pub fn push(&self, input: Input) -> Result<(), LinkError> {
        let mut state = self.shared.lock();
        match input {
            Input::Bytes(bytes) if state.end == End::Open => {
                if state.bytes.len() + state.taken_bytes + bytes.len() > INPUT_WINDOW_BYTES {
                    return Err(LinkError::WindowExceeded);
                }
                state.bytes.extend(bytes);
            }
            Input::End if state.end == End::Open => state.end = End::Pending,
            Input::Bytes(_) | Input::End => {}
            Input::Signal(signal) => {
                if state.signals.len() < SIGNALS_MAX {
                    state.signals.push_back(signal);
                }
            }
            Input::Resize(size) => state.size = Some(size),
        }
        drop(state);
        self.shared.pushed.notify_one();
        Ok(())
    }

    /// Waits until bytes were taken, and returns how many more the client may send.
    ///
    /// Cancel-safe: the count is taken in the same step in which it is returned.
    pub async fn taken(&self) -> u32 {
        loop {
            let bytes = std::mem::take(&mut self.shared.lock().taken_bytes);
            if bytes > 0 {
                return u32::try_from(bytes).unwrap_or(u32::MAX);
            }
            self.shared.taken.notified().await;
        }
    }
}

impl Drop for InputFeed {
    fn drop(&mut self) {
        self.shared.lock().feed = Feed::Gone;
        self.shared.pushed.notify_one();
    }
}

/// Where a consumer takes input from.
#[derive(Debug)]
pub struct InputQueue {
    shared: Arc<Shared>,
}

impl InputQueue {
    /// Returns the next input: signals first, then a new size, then bytes (at most [`CHUNK_BYTES_MAX`]), then one
    /// [`Input::End`]. None means that the client is gone; without an end before it, it left in the middle.
    ///
    /// Cancel-safe: what isn't returned stays in the queue.
    pub async fn next(&mut self) -> Option<Input> {
        loop {
            let feed = {
                let mut state = self.shared.lock();
                if let Some(input) = state.take() {
                    drop(state);
                    self.shared.taken.notify_one();
                    return Some(input);
                }
                state.feed
            };
            match feed {
                Feed::Gone => return None,
                Feed::Attached => self.shared.pushed.notified().await,
            }
        }
    }
}

impl InputQueue {
    /// Returns the next signal, leaving bytes where they are; none where the client is gone. Cancel-safe.
    ///
    /// For a consumer that holds bytes which it cannot get rid of yet.
    pub async fn signal(&mut self) -> Option<i32> {
        loop {
            let feed = {
                let mut state = self.shared.lock();
                if let Some(signal) = state.signals.pop_front() {
                    return Some(signal);
                }
                state.feed
            };
            match feed {
                Feed::Gone => return None,
                Feed::Attached => self.shared.pushed.notified().await,
            }
        }
    }
}

impl State {
    fn take(&mut self) -> Option<Input> {
        if let Some(signal) = self.signals.pop_front() {
            return Some(Input::Signal(signal));
        }
        if let Some(size) = self.size.take() {
            return Some(Input::Resize(size));
        }
        if !self.bytes.is_empty() {
            let length = self.bytes.len().min(CHUNK_BYTES_MAX);
            self.taken_bytes += length;
            return Some(Input::Bytes(self.bytes.drain(..length).collect()));
        }
        if self.end == End::Pending {
            self.end = End::Seen;
            return Some(Input::End);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signals_overtake_bytes_and_the_end_comes_last() {
        let (feed, mut queue) = input_channel();
        feed.push(Input::Bytes(b"ab".to_vec())).expect("room");
        feed.push(Input::Bytes(b"c".to_vec())).expect("room");
        feed.push(Input::End).expect("no bytes");
        feed.push(Input::Bytes(b"late".to_vec())).expect("dropped");
        feed.push(Input::Signal(15)).expect("no bytes");
        drop(feed);
        let mut seen = Vec::new();
        while let Some(input) = queue.next().await {
            seen.push(input);
        }
        assert_eq!(seen, [Input::Signal(15), Input::Bytes(b"abc".to_vec()), Input::End]);
    }

    #[tokio::test]
    async fn of_several_new_sizes_the_last_counts_and_overtakes_bytes() {
        let (feed, mut queue) = input_channel();
        let size = |rows| TerminalSize { rows, columns: 80 };
        feed.push(Input::Bytes(b"a".to_vec())).expect("room");
        feed.push(Input::Resize(size(24))).expect("no bytes");
        feed.push(Input::Resize(size(50))).expect("no bytes");
        assert_eq!(queue.next().await, Some(Input::Resize(size(50))));
        assert_eq!(queue.next().await, Some(Input::Bytes(b"a".to_vec())));
    }

    #[tokio::test]
    async fn what_was_taken_is_granted_once() {
        let (feed, mut queue) = input_channel();
        feed.push(Input::Bytes(vec![0; INPUT_WINDOW_BYTES])).expect("just the window");
        let over = feed.push(Input::Bytes(vec![0])).expect_err("the window is full");
        assert!(matches!(over, LinkError::WindowExceeded), "{over}");
        queue.next().await.expect("bytes");
        let over = feed.push(Input::Bytes(vec![0])).expect_err("nothing is granted yet");
        assert!(matches!(over, LinkError::WindowExceeded), "{over}");
        assert_eq!(feed.taken().await as usize, CHUNK_BYTES_MAX);
        feed.push(Input::Bytes(vec![0; CHUNK_BYTES_MAX])).expect("room again");
    }

    #[tokio::test]
    async fn a_client_that_leaves_in_the_middle_is_no_end() {
        let (feed, mut queue) = input_channel();
        let (seen, ()) = tokio::join!(queue.next(), async { drop(feed) });
        assert_eq!(seen, None);
    }
}
