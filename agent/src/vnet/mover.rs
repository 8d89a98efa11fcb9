//! The thread that moves frames.
//!
//! It does nothing else: an agent that verifies signatures or reads its database keeps no frame waiting, and a
//! flood of frames keeps nobody else waiting. All switches of a host share it; frames are mostly copied by the
//! kernel, for which one thread does several gigabits a second.

use std::os::fd::OwnedFd;
use std::{future::Future, io};

use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tracing::warn;

use super::port::watch;

/// A thread with an event loop of its own, which ends with this value.
#[derive(Debug)]
pub(super) struct Mover {
    handle: Handle,
    /// Dropped with this value, which the thread waits for.
    _stop: Option<oneshot::Sender<()>>,
}

impl Mover {
    /// Starts the thread; where there can't be one, the caller's runtime does its work. Must be called within a
    /// tokio runtime.
    pub(super) fn start() -> Self {
        Self::with_thread().unwrap_or_else(|error| {
            warn!(%error, "frames are moved by no thread of their own");
            Self { handle: Handle::current(), _stop: None }
        })
    }

    fn with_thread() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        // Ends when the sender is dropped; nothing is ever sent.
        let work = move || drop(runtime.block_on(stopped));
        std::thread::Builder::new().name("vnet".to_owned()).spawn(work)?;
        Ok(Self { handle, _stop: Some(stop) })
    }

    /// Has the thread run a task.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Has the thread's event loop watch a socket.
    pub(super) fn watch(&self, socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        let _within = self.handle.enter();
        watch(socket)
    }
}
