//! The asking end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::frame::{FrameReader, write_frame};
use crate::message::{Input, Reply, Request, TerminalSize};
use crate::{CHUNK_BYTES_MAX, INPUT_WINDOW_BYTES, LinkError, hello};

/// Connects to the agent whose control socket is at `path`, and greets it.
pub async fn connect(path: &Path) -> Result<Client<UnixStream>, LinkError> {
    Client::over(UnixStream::connect(path).await?).await
}

/// A connection over which nothing was asked yet.
#[derive(Debug)]
pub struct Client<S> {
    reader: FrameReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite> Client<S> {
    /// Greets whoever is at the other end of `stream`.
    pub async fn over(stream: S) -> Result<Self, LinkError> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(reader);
        hello::greet(&mut reader, &mut writer).await?;
        Ok(Self { reader, writer })
    }

    /// Sends the request; returns where its input goes and where its replies come from.
    ///
    /// The two must be driven side by side where there is input: the window is granted among the replies.
    pub async fn request(mut self, request: &Request) -> Result<(InputSender<S>, Replies<S>), LinkError> {
        match write_frame(&mut self.writer, request).await {
            Ok(()) => {}
            // The server answered and left without reading it all: its replies say why.
            Err(LinkError::Io(source)) if has_left(&source) => {}
            Err(error) => return Err(error),
        }
        let credit = Arc::new(Semaphore::new(INPUT_WINDOW_BYTES));
        let input = InputSender { writer: self.writer, credit: Arc::clone(&credit) };
        Ok((input, Replies { reader: self.reader, credit, conversation: Conversation::Open }))
    }
}

/// Where the input of a request goes.
#[derive(Debug)]
pub struct InputSender<S> {
    writer: WriteHalf<S>,
    credit: Arc<Semaphore>,
}

impl<S: AsyncRead + AsyncWrite> InputSender<S> {
    /// Waits until bytes may be sent, and returns how many at most in one message; none once the request is
    /// over.
    ///
    /// Cancel-safe: it takes nothing.
    pub async fn ready(&mut self) -> Option<usize> {
        let _permit = self.credit.acquire().await.ok()?;
        // The permit is given back when it is dropped, so it counts too.
        Some((self.credit.available_permits() + 1).min(CHUNK_BYTES_MAX))
    }

    /// Sends bytes, waiting for the window as often as it takes. Sends nothing more once the request is over.
    pub async fn bytes(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        for chunk in bytes.chunks(CHUNK_BYTES_MAX) {
            let count = u32::try_from(chunk.len()).expect("a chunk has at most CHUNK_BYTES_MAX bytes");
            match self.credit.acquire_many(count).await {
                Ok(permits) => permits.forget(),
                Err(_) => return Ok(()),
            }
            write_frame(&mut self.writer, &Input::Bytes(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Says that no more bytes follow.
    pub async fn end(&mut self) -> Result<(), LinkError> {
        write_frame(&mut self.writer, &Input::End).await
    }

    /// Says that the operator's terminal has another size.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), LinkError> {
        write_frame(&mut self.writer, &Input::Resize(size)).await
    }

    /// Sends a signal.
    pub async fn signal(&mut self, signal: i32) -> Result<(), LinkError> {
        write_frame(&mut self.writer, &Input::Signal(signal)).await
    }
}

/// Where the replies to a request come from.
#[derive(Debug)]
pub struct Replies<S> {
    reader: FrameReader<ReadHalf<S>>,
    credit: Arc<Semaphore>,
    conversation: Conversation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversation {
    Open,
    Over,
}

impl<S: AsyncRead + AsyncWrite> Replies<S> {
    /// Returns the next reply that is not about the connection itself; none after [`Reply::Done`].
    ///
    /// Fails with [`LinkError::ClosedEarly`] where the other end leaves before that. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Reply>, LinkError> {
        while self.conversation == Conversation::Open {
            match self.reader.next().await {
                Ok(Some(Reply::Window { bytes })) => self.grant(bytes),
                Ok(Some(Reply::Done)) => self.finish(),
                Ok(Some(reply)) => return Ok(Some(reply)),
                Ok(None) => {
                    self.finish();
                    return Err(LinkError::ClosedEarly);
                }
                Err(error) => {
                    self.finish();
                    return Err(error_of_a_closed_connection(error));
                }
            }
        }
        Ok(None)
    }

    fn grant(&self, bytes: u32) {
        // A server that grants more than the window gains nothing by it: it is the one that would have to keep
        // the bytes. The sum is bounded so that the semaphore's own limit is never reached.
        let room = INPUT_WINDOW_BYTES.saturating_sub(self.credit.available_permits());
        self.credit.add_permits(room.min(bytes as usize));
    }

    fn finish(&mut self) {
        self.conversation = Conversation::Over;
        self.credit.close();
    }
}

impl<S> Drop for Replies<S> {
    fn drop(&mut self) {
        self.credit.close();
    }
}

/// A server that leaves without reading everything resets the connection; that is no other news than leaving.
fn error_of_a_closed_connection(error: LinkError) -> LinkError {
    match error {
        LinkError::Io(source) if has_left(&source) => LinkError::ClosedEarly,
        other => other,
    }
}

/// Whether an error only says that the other end closed the connection.
pub fn has_left(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
