//! A command that runs in a guest, as its caller sees it: streams with backpressure, and an end.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};

use super::{End, ExecError};
use crate::line::{STDERR, STDOUT};

/// The most that is sent to a guest in one message, in bytes.
const CHUNK_BYTES: usize = 4 << 10;

/// A command for a guest, run as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecCommand {
    /// The program and its arguments; not of a shell.
    pub argv: Vec<Vec<u8>>,
    /// Variables beside those that the guest sets.
    pub environment: Vec<(String, String)>,
    /// The folder to run it in; none is `/root`.
    pub folder: Option<String>,
}

impl ExecCommand {
    /// Returns a command of these words.
    pub fn of<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> Self {
        let argv = words.into_iter().map(|word| word.as_ref().to_vec()).collect();
        Self { argv, environment: Vec::new(), folder: None }
    }
}

/// A command for a guest that runs on a terminal of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalCommand {
    /// The command; `TERM` is among its variables.
    pub command: ExecCommand,
    /// The terminal's size.
    pub size: WindowSize,
}

/// How somebody wants to see a guest's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleView {
    /// What kind of terminal they have, as in `TERM`.
    pub term: String,
    /// Its size.
    pub size: WindowSize,
    /// How many of the last lines they want to see again.
    pub lines: u32,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// How many lines.
    pub rows: u16,
    /// How many characters in a line.
    pub columns: u16,
}

/// A command that runs in a guest, or a view of its console. Dropping the output kills the command, and ends the
/// view.
#[derive(Debug)]
pub struct Exec {
    /// What goes in.
    pub input: ExecInput,
    /// What comes out.
    pub output: ExecOutput,
    /// Signals.
    pub control: ExecControl,
}

/// What a handle asks of whoever has the line.
#[derive(Debug)]
pub(super) enum ChannelRequest {
    Input(Vec<u8>),
    InputEnd,
    Signal(i32),
    Resize(WindowSize),
    /// The caller has taken this much of a stream.
    Taken {
        stream: u8,
        bytes: u32,
    },
    /// Nobody listens any more.
    Abandon,
}

/// Sends requests about one channel.
#[derive(Debug, Clone)]
pub(super) struct ChannelSender {
    pub(super) channel: u32,
    pub(super) requests: mpsc::Sender<(u32, ChannelRequest)>,
}

impl ChannelSender {
    async fn send(&self, request: ChannelRequest) -> Result<(), ExecError> {
        self.requests.send((self.channel, request)).await.map_err(|_| ExecError::GuestEnded)
    }
}

impl Exec {
    pub(super) fn new(
        sender: ChannelSender,
        window: Arc<Semaphore>,
        events: mpsc::UnboundedReceiver<ExecOutputEvent>,
    ) -> Self {
        Self {
            input: ExecInput { sender: sender.clone(), window },
            control: ExecControl { sender: sender.clone() },
            output: ExecOutput { sender, events, taken: [0; 3], over: false },
        }
    }
}

/// The input of a command in a guest. Dropping it leaves the command's input open; see [`ExecInput::close`].
#[derive(Debug)]
pub struct ExecInput {
    sender: ChannelSender,
    /// What the guest has room for, in bytes.
    window: Arc<Semaphore>,
}

impl ExecInput {
    /// Sends bytes to the command; waits while it doesn't take what it was sent before.
    ///
    /// Not cancel-safe: some of the bytes may have been sent.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ExecError> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let room = self.window.acquire_many(chunk.len() as u32).await;
            room.map_err(|_| ExecError::GuestEnded)?.forget();
            self.sender.send(ChannelRequest::Input(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Ends the command's input.
    pub async fn close(self) -> Result<(), ExecError> {
        self.sender.send(ChannelRequest::InputEnd).await
    }
}

/// Sends signals to a command in a guest, and the size of its terminal.
#[derive(Debug, Clone)]
pub struct ExecControl {
    sender: ChannelSender,
}

impl ExecControl {
    /// Sends a signal to the command and to those that it started; one that has ended gets none.
    pub async fn signal(&self, signal: i32) -> Result<(), ExecError> {
        self.sender.send(ChannelRequest::Signal(signal)).await
    }

    /// Gives the command's terminal another size; where it has none nothing happens.
    pub async fn resize(&self, size: WindowSize) -> Result<(), ExecError> {
        self.sender.send(ChannelRequest::Resize(size)).await
    }
}

/// What came out of a command in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutputEvent {
    /// Bytes of its results.
    Stdout(Vec<u8>),
    /// Bytes of its complaints.
    Stderr(Vec<u8>),
    /// It ended, and all that it wrote came before this. Nothing follows.
    Ended(End),
    /// It wasn't started, or its end is unknown. Nothing follows.
    Failed(ExecError),
}

/// The output of a command in a guest.
#[derive(Debug)]
pub struct ExecOutput {
    sender: ChannelSender,
    /// Its length is bounded by the windows of the two streams.
    events: mpsc::UnboundedReceiver<ExecOutputEvent>,
    /// Bytes that were taken since the guest was told, by stream.
    taken: [u32; 3],
    over: bool,
}

impl ExecOutput {
    /// Returns what comes next; none after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<ExecOutputEvent> {
        if self.over {
            return None;
        }
        self.report_taken(crate::line::OUTPUT_WINDOW_BYTES / 4).await;
        let event = match self.events.try_recv() {
            Ok(event) => event,
            Err(_) => {
                // About to wait: the guest may be waiting for this.
                self.report_taken(1).await;
                self.events.recv().await.unwrap_or(ExecOutputEvent::Failed(ExecError::GuestEnded))
            }
        };
        match &event {
            ExecOutputEvent::Stdout(bytes) => self.taken[usize::from(STDOUT)] += bytes.len() as u32,
            ExecOutputEvent::Stderr(bytes) => self.taken[usize::from(STDERR)] += bytes.len() as u32,
            ExecOutputEvent::Ended(_) | ExecOutputEvent::Failed(_) => self.over = true,
        }
        Some(event)
    }

    async fn report_taken(&mut self, bytes_min: u32) {
        for stream in [STDOUT, STDERR] {
            let bytes = self.taken[usize::from(stream)];
            // Reset only after it is sent, so that a cancelled call forgets nothing.
            if bytes >= bytes_min && self.sender.send(ChannelRequest::Taken { stream, bytes }).await.is_ok() {
                self.taken[usize::from(stream)] = 0;
            }
        }
    }
}

impl Drop for ExecOutput {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let abandon = (self.sender.channel, ChannelRequest::Abandon);
        if let Err(TrySendError::Full(abandon)) = self.sender.requests.try_send(abandon)
            && let Ok(runtime) = Handle::try_current()
        {
            let requests = self.sender.requests.clone();
            runtime.spawn(async move {
                // The guest may end first.
                let _ = requests.send(abandon).await;
            });
        }
    }
}
