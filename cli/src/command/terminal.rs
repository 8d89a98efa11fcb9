//! A conversation in which the user's terminal is at the other end: `console`, and `exec -t`.

use std::io;

use mln_link::message::{OutputStream, TerminalSize};
use mln_link::{CHUNK_BYTES_MAX, LinkError, Reply, Request};
use tokio::signal::unix::{SignalKind, signal};

use crate::conversation::{Agent, Answer, Signals, read_within_window};
use crate::error::{CommandError, UsageError};
use crate::ui::screen::Screen;
use crate::ui::terminal::{self, RawTerminal};

/// The key that leaves a console: Ctrl-].
pub(super) const LEAVE_KEY: u8 = 0x1d;

/// Which key leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// [`LEAVE_KEY`].
    ByKey,
    /// None: every key is the command's.
    Never,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent ended it.
    Over(Box<Answer>),
    /// The user left.
    Left,
    /// By a signal.
    Signal(i32),
}

/// Returns what the user's terminal is; fails where there is none.
pub(super) fn kind(instead: &'static str) -> Result<(String, TerminalSize), CommandError> {
    if !terminal::is_there() {
        return Err(CommandError::Usage(UsageError::NoTerminal { instead }));
    }
    let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
    Ok((term.unwrap_or_else(|| "vt100".to_owned()), terminal::size()))
}

/// Lets the user's terminal be that of what is asked for.
pub(super) async fn converse(
    request: &Request,
    leaving: Leaving,
    agent: &Agent,
    screen: &Screen,
) -> Result<Ended, CommandError> {
    let mut signals = Signals::listen().map_err(CommandError::Terminal)?;
    let mut resized = signal(SignalKind::window_change()).map_err(CommandError::Terminal)?;
    let (mut input, mut replies) = agent.begin(request).await?;
    let mut answer = Answer::default();
    let mut stdin = tokio::io::stdin();
    let mut typed = vec![0; CHUNK_BYTES_MAX];
    let mut stdin_is_open = true;
    let mut raw = RawTerminal::enter().map_err(CommandError::Terminal)?;
    loop {
        // All arms are cancel-safe: tokio keeps what it has read of standard input.
        let sent = tokio::select! {
            reply = replies.next() => match reply.map_err(CommandError::BrokeOff)? {
                None => return Ok(Ended::Over(Box::new(answer))),
                Some(Reply::Output { stream, bytes }) => {
                    let shown = match stream {
                        OutputStream::Stdout => bytes,
                        OutputStream::Stderr => kernel_text(&bytes),
                    };
                    raw.note(&shown);
                    match screen.pass_through(OutputStream::Stdout, &shown).await {
                        // A terminal that is hung up.
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ended::Left),
                        shown => shown.map_err(CommandError::Terminal)?,
                    }
                    continue;
                }
                Some(reply) => {
                    answer.note(reply);
                    continue;
                }
            },
            read = read_within_window(&mut input, &mut stdin, &mut typed), if stdin_is_open => match read {
                Some(length @ 1..) => {
                    let keys = &typed[..length];
                    let end = keys.iter().position(|key| *key == LEAVE_KEY && leaving == Leaving::ByKey);
                    let sent = input.bytes(&keys[..end.unwrap_or(length)]).await;
                    if end.is_some() {
                        return Ok(Ended::Left);
                    }
                    sent
                }
                Some(0) | None => {
                    stdin_is_open = false;
                    input.end().await
                }
            },
            number = signals.next() => return Ok(Ended::Signal(number)),
            Some(()) = resized.recv() => input.resize(terminal::size()).await,
        };
        match sent {
            Ok(()) => {}
            // The agent has left: the replies say why.
            Err(LinkError::Io(source)) if mln_link::client::has_left(&source) => stdin_is_open = false,
            Err(error) => return Err(CommandError::BrokeOff(error)),
        }
    }
}

/// Returns what a kernel said as a raw terminal shows it: lines that begin at its left, and nothing obeyed.
fn kernel_text(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        match byte {
            b'\n' => text.extend(b"\r\n"),
            b'\r' => {}
            b'\t' | b' '..=b'~' | 0x80.. => text.push(byte),
            _ => text.push(b'?'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_lines_begin_at_the_left_and_command_nothing() {
        assert_eq!(kernel_text(b"one\r\ntwo\n\x1b[2J"), b"one\r\ntwo\r\n?[2J");
        assert_eq!(LEAVE_KEY, b"]"[0] & 0x1f);
    }
}
