//! `mlnctl logs`.

use std::io;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::message::{LogExtent, VmRef};
use mln_link::{Reply, Request};
use tokio::signal::ctrl_c;

use crate::conversation::{Agent, Answer};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::text::Lines;

/// The arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl logs ring/router1 -n 20 --follow")]
pub struct Logs {
    /// Which: PROJECT/HOST, or OWNER/PROJECT/HOST
    #[arg(value_name = "PROJECT/HOST", value_parser = VmRef::parse)]
    vm: VmRef,
    /// How many of its last lines
    #[arg(short = 'n', long, env = "MLN_LINES", default_value = "1000")]
    lines: u32,
    /// Also show what comes, until Ctrl-C
    #[arg(long, env = "MLN_FOLLOW", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    follow: bool,
}

/// Shows the log of a VM's console; the VM may be down.
pub async fn run(args: Logs, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let extent = if args.follow { LogExtent::Follow } else { LogExtent::Present };
    let wanted = mln_link::message::Logs { vm: args.vm, lines: args.lines, extent };
    let (_input, mut replies) = agent.begin(&Request::Logs(wanted)).await?;
    let mut answer = Answer::default();
    let mut lines = Lines::default();
    loop {
        // Both arms are cancel-safe: a reply that isn't whole stays in its reader.
        let reply = tokio::select! {
            reply = replies.next() => reply.map_err(CommandError::BrokeOff)?,
            Ok(()) = ctrl_c(), if args.follow => return Ok(Exit::Done),
        };
        let shown = match reply {
            Some(Reply::Output { bytes, .. }) => lines.push(&bytes, |line| screen.log_line(line)),
            Some(reply) => {
                answer.note(reply);
                Ok(())
            }
            None => {
                // Whoever doesn't read the last line doesn't miss it.
                let _ = lines.finish(|line| screen.log_line(line));
                return Ok(screen.troubles(&answer));
            }
        };
        match shown {
            // `head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            shown => shown.map_err(CommandError::Terminal)?,
        }
    }
}
