//! A request passed on: an agent answers its operator with what another agent answers it.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::LinkError;
use crate::client::{InputSender, Replies};
use crate::input::InputQueue;
use crate::message::{Input, Reply};

/// Carries the operator's input to the other agent, and its replies to the operator, until the last reply was
/// handed over, or the operator is gone.
///
/// [`Reply::Done`] is not handed over: the caller ends the conversation. Each end's own window holds, so
/// nothing piles up here. Fails where the other agent fails; the caller tells the operator.
pub async fn relay<S>(
    remote: (InputSender<S>, Replies<S>),
    input: InputQueue,
    replies: mpsc::Sender<Reply>,
) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    let (sender, answers) = remote;
    tokio::select! {
        result = forward_replies(answers, &replies) => result,
        () = replies.closed() => Ok(()),
        // Without an error it ended because the operator is gone; then another arm ends the relay.
        Some(error) = forward_input(sender, input) => Err(error),
    }
}

async fn forward_replies<S>(mut answers: Replies<S>, replies: &mpsc::Sender<Reply>) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    while let Some(reply) = answers.next().await? {
        if replies.send(reply).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Returns the error that ended it; none where the operator is gone.
async fn forward_input<S>(mut sender: InputSender<S>, mut input: InputQueue) -> Option<LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    while let Some(message) = input.next().await {
        let result = match message {
            Input::Bytes(bytes) => forward_bytes(&mut sender, &mut input, &bytes).await,
            Input::End => sender.end().await,
            Input::Signal(signal) => sender.signal(signal).await,
            Input::Resize(size) => sender.resize(size).await,
        };
        if let Err(error) = result {
            return Some(error);
        }
    }
    None
}

/// Sends bytes as the window allows; signals that arrive meanwhile overtake them.
async fn forward_bytes<S>(
    sender: &mut InputSender<S>,
    input: &mut InputQueue,
    mut bytes: &[u8],
) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    while !bytes.is_empty() {
        // Both arms are cancel-safe: neither takes anything before it returns.
        tokio::select! {
            credit = sender.ready() => {
                let Some(credit) = credit else { return Ok(()) };
                let (now, later) = bytes.split_at(credit.min(bytes.len()));
                sender.bytes(now).await?;
                bytes = later;
            }
            Some(signal) = input.signal() => sender.signal(signal).await?,
        }
    }
    Ok(())
}
