//! `console`: the console session of a VM, at the host that owns it.
//!
//! While there is nobody in the VM to ask (it boots, its kernel gave up, its agent hangs), what its kernel says is
//! shown in place of it.
//!
//! ```text
//!   nobody there ── kernel's console ──► agent answers ──► session ──► shell ended: over
//!        ▲                                                    │
//!        └───────────── the agent was restarted ──────────────┘
//! ```

use std::time::Duration;

use mln_link::InputQueue;
use mln_link::message::{Console, Input, OutputStream, Reply, TerminalSize};
use mln_protocol::id::VmId;
use tokio::time::{Instant, sleep, sleep_until};

use super::exec::{exit_of, feed, not_run, show, window_size};
use super::{answer, failure};
use crate::control::{ReplyError, ReplySender};
use crate::platform::{ConsoleLog, ConsoleView, Exec, ExecError, ExecOutputEvent, Platform};

/// How long a guest agent may take to answer before the kernel's console is shown.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two tries to reach a guest agent that isn't there.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How many of the last lines of the kernel's console are shown.
const KERNEL_LINES: usize = 25;

/// How a view of the session ended.
enum Over {
    /// It is told.
    Told,
    /// The guest agent is gone; another one comes.
    Lost,
}

/// Shows the console to the operator until its shell ends, the VM ends, or the operator leaves.
pub(super) async fn look(
    platform: &dyn Platform,
    vm: &VmId,
    wanted: Console,
    reply: ReplySender,
    mut input: InputQueue,
) {
    let (mut size, mut lines) = (wanted.size, wanted.lines);
    let mut log = match platform.console_log(vm, KERNEL_LINES).await {
        Ok(log) => log,
        Err(error) => {
            let what = format!("reading the console log of {}", vm.name);
            return answer(&reply, [failure(&what, error.to_string(), &["mlnctl status"])]);
        }
    };
    loop {
        let view = ConsoleView { term: wanted.term.clone(), size: window_size(size), lines };
        match platform.console(vm, view).await {
            Ok(exec) => {
                let over = tokio::select! {
                    // Whoever has gone lets go of the session: dropping its output ends the view.
                    () = reply.closed() => return,
                    over = follow(vm, exec, &mut log, &reply, &mut input, &mut size) => over,
                };
                match over {
                    Ok(Over::Told) | Err(_) => return,
                    Ok(Over::Lost) => lines = 0,
                }
            }
            Err(ExecError::NotReady { .. }) => {
                tokio::select! {
                    () = reply.closed() => return,
                    () = sleep(RETRY_PAUSE) => {}
                    () = show_kernel(&mut log, &reply) => {}
                    () = pass_time(&mut input, &mut size) => return,
                }
            }
            Err(error) => {
                let _ = show(&reply, OutputStream::Stderr, &log.last_lines()).await;
                return answer(&reply, [not_run(vm, &error)]);
            }
        }
    }
}

async fn follow(
    vm: &VmId,
    exec: Exec,
    log: &mut ConsoleLog,
    reply: &ReplySender,
    input: &mut InputQueue,
    size: &mut TerminalSize,
) -> Result<Over, ReplyError> {
    let Exec { input: typed, mut output, control } = exec;
    let patience = Instant::now() + ANSWER_PATIENCE;
    let showing = async {
        let mut has_answered = false;
        loop {
            let event = tokio::select! {
                event = output.next() => event,
                () = async { sleep_until(patience).await; show_kernel(log, reply).await }, if !has_answered => {
                    return Err(ReplyError::Gone);
                }
            };
            has_answered = true;
            let last = match event {
                Some(ExecOutputEvent::Stdout(bytes) | ExecOutputEvent::Stderr(bytes)) => {
                    show(reply, OutputStream::Stdout, &bytes).await?;
                    continue;
                }
                Some(ExecOutputEvent::Failed(ExecError::LineLost)) => return Ok(Over::Lost),
                Some(ExecOutputEvent::Ended(end)) => Reply::Exited(exit_of(end)),
                Some(ExecOutputEvent::Failed(error)) => not_run(vm, &error),
                None => return Ok(Over::Lost),
            };
            reply.send(last).await?;
            reply.send(Reply::Done).await?;
            return Ok(Over::Told);
        }
    };
    let feeding = feed(typed, control, input, Some(size));
    tokio::select! {
        over = showing => over,
        // Feeding only ends with the session or the operator, which the other arm and the caller see.
        over = async { feeding.await; std::future::pending().await } => over,
    }
}

/// Shows what the kernel has said and says; ends with the log or the operator. Cancel-safe but for a chunk that the
/// operator is just being sent.
async fn show_kernel(log: &mut ConsoleLog, reply: &ReplySender) {
    let mut bytes = log.last_lines();
    loop {
        if show(reply, OutputStream::Stderr, &bytes).await.is_err() {
            return;
        }
        bytes = match log.next().await {
            Ok(Some(bytes)) => bytes,
            // The end of the VM is told by others.
            Ok(None) | Err(_) => std::future::pending().await,
        };
    }
}

/// Notes sizes; what is typed while nobody listens is lost. Ends when the operator leaves.
async fn pass_time(input: &mut InputQueue, size: &mut TerminalSize) {
    while let Some(message) = input.next().await {
        if let Input::Resize(new) = message {
            *size = new;
        }
    }
}
