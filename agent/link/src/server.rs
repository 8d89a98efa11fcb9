//! The answering end.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::frame::{FrameReader, write_frame};
use crate::input::InputFeed;
use crate::message::{Failure, Input, Reply, Request};
use crate::{LinkError, hello};

/// A connection from a client, greeted.
#[derive(Debug)]
pub struct Connection<S> {
    reader: FrameReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite> Connection<S> {
    /// Awaits the client's greeting and answers it. The caller sets the time limit.
    pub async fn accept(stream: S) -> Result<Self, LinkError> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(reader);
        hello::welcome(&mut reader, &mut writer).await?;
        Ok(Self { reader, writer })
    }

    /// Returns the client's request; none where it leaves without one. The caller sets the time limit.
    pub async fn request(&mut self) -> Result<Option<Request>, LinkError> {
        self.reader.next().await
    }

    /// Sends one reply: for what is answered before the work begins.
    pub async fn reply(&mut self, reply: &Reply) -> Result<(), LinkError> {
        write_frame(&mut self.writer, reply).await
    }

    /// Sends the last reply and closes.
    pub async fn finish(mut self) -> Result<(), LinkError> {
        self.reply(&Reply::Done).await?;
        Ok(self.writer.shutdown().await?)
    }

    /// Returns one message of input, for what is received before the work begins; the caller grants the room
    /// for more by [`Reply::Window`]. None where the client leaves.
    pub async fn input(&mut self) -> Result<Option<Input>, LinkError> {
        self.reader.next().await
    }

    /// Carries input to `feed` and replies to the client until the last reply is out or the client is gone.
    ///
    /// When it returns, `replies` and `feed` are dropped: that is how whoever works on the request learns that
    /// nobody listens any more. Where `replies` ends without [`Reply::Done`], the client is told of a failure.
    pub async fn pump(self, replies: mpsc::Receiver<Reply>, feed: InputFeed) -> Result<(), LinkError> {
        let Self { reader, mut writer } = self;
        // Each direction is one future that lives until the end, never cancelled in the middle of a message: a
        // client that doesn't read its output can still send its signals.
        let result = tokio::select! {
            result = receive(reader, &feed) => result,
            result = send(&mut writer, replies, &feed) => result,
        };
        // The client may be gone already; then there is nothing to close.
        let _ = writer.shutdown().await;
        result
    }
}

async fn receive<R: AsyncRead + Unpin>(
    mut reader: FrameReader<R>,
    feed: &InputFeed,
) -> Result<(), LinkError> {
    while let Some(input) = reader.next().await? {
        feed.push(input)?;
    }
    Ok(())
}

async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut replies: mpsc::Receiver<Reply>,
    feed: &InputFeed,
) -> Result<(), LinkError> {
    loop {
        // Both arms are cancel-safe: a channel's receive, and a count that is taken when it is returned.
        let reply = tokio::select! {
            reply = replies.recv() => reply,
            bytes = feed.taken() => Some(Reply::Window { bytes }),
        };
        match reply {
            Some(Reply::Done) => return write_frame(writer, &Reply::Done).await,
            Some(reply) => write_frame(writer, &reply).await?,
            None => {
                write_frame(writer, &Reply::Failed(dropped())).await?;
                return write_frame(writer, &Reply::Done).await;
            }
        }
    }
}

/// What a client is told whose request nobody works on any more.
fn dropped() -> Failure {
    Failure {
        what: "answering".to_owned(),
        host: None,
        vm: None,
        why: "the agent stopped working on the request before it was done".to_owned(),
        console_tail: Vec::new(),
        next: vec!["mlnctl status".to_owned()],
    }
}
