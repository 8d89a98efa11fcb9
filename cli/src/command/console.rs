//! `mlnctl console`.

use clap::Args;
use mln_link::Request;
use mln_link::message::VmRef;

use super::terminal::{Ended, Leaving, converse, kind};
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `console`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl console ring/router1\nCtrl-] leaves; what runs there goes on.")]
pub struct Console {
    /// Which: PROJECT/HOST, or OWNER/PROJECT/HOST
    #[arg(value_name = "PROJECT/HOST", value_parser = VmRef::parse)]
    vm: VmRef,
    /// How many of its last lines are shown again
    #[arg(short = 'n', long, env = "MLN_LINES", default_value = "100")]
    lines: u32,
}

/// Shows a VM's console, and lets the user type there.
pub async fn run(args: Console, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let (term, size) = kind("mlnctl exec PROJECT/HOST -- COMMAND")?;
    let vm = args.vm.to_string();
    screen.notice(&format!("console of {vm}; Ctrl-] leaves"));
    let wanted = mln_link::message::Console { vm: args.vm, lines: args.lines, term, size };
    match converse(&Request::Console(wanted), Leaving::ByKey, agent, screen).await? {
        Ended::Over(answer) => {
            if answer.exited.is_some() {
                screen.notice(&format!(
                    "the shell on the console of {vm} has ended; the next visit starts another"
                ));
            }
            Ok(screen.troubles(&answer))
        }
        Ended::Left => {
            screen.notice(&format!("left the console of {vm}; what runs there goes on"));
            Ok(Exit::Done)
        }
        Ended::Signal(number) => Ok(Exit::of_signal(number)),
    }
}
