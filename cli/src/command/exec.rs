//! `mlnctl exec`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{ExecExit, VmRef};

use super::terminal::{Ended, Leaving, converse, kind};
use crate::conversation::{Agent, Answer, OnSignal};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: mlnctl exec ring/router1 -- ip address\n          mlnctl exec -t ring/router1 -- top"
)]
pub struct Exec {
    /// Give the command a terminal: this one
    #[arg(short, long, env = "MLN_TERMINAL", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    terminal: bool,
    /// Where: PROJECT/HOST, or OWNER/PROJECT/HOST
    #[arg(value_name = "PROJECT/HOST", value_parser = VmRef::parse)]
    vm: VmRef,
    /// The command and its arguments, after --
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    argv: Vec<String>,
}

/// Runs a command in a VM, as if it ran here: its streams are ours, and so is its end.
pub async fn run(args: Exec, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    if args.terminal {
        return run_on_terminal(args, agent, screen).await;
    }
    let request = Request::Exec(mln_link::message::Exec { vm: args.vm, argv: args.argv });
    let answer = agent.attach(&request, OnSignal::PassOn, screen).await?;
    Ok(exit_of(&answer, screen))
}

async fn run_on_terminal(args: Exec, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let (term, size) = kind("mlnctl exec PROJECT/HOST -- COMMAND, without -t")?;
    let request = Request::Terminal(mln_link::message::Terminal { vm: args.vm, argv: args.argv, term, size });
    match converse(&request, Leaving::Never, agent, screen).await? {
        Ended::Over(answer) => Ok(exit_of(&answer, screen)),
        Ended::Left => Ok(Exit::Failed),
        Ended::Signal(number) => Ok(Exit::of_signal(number)),
    }
}

fn exit_of(answer: &Answer, screen: &Screen) -> Exit {
    match (screen.troubles(answer), answer.exited) {
        (Exit::Done, Some(exited)) => Exit::Command(code_of(exited)),
        // The agent ended the conversation without the command's end.
        (Exit::Done, None) => Exit::Failed,
        (trouble, _) => trouble,
    }
}

/// Returns what a shell would: the status, or 128 and the signal.
fn code_of(exited: ExecExit) -> u8 {
    match exited {
        ExecExit::Status(status) => status,
        ExecExit::Signal(signal) => u8::try_from(128_i32.saturating_add(signal)).unwrap_or(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_killed_ends_as_in_a_shell() {
        assert_eq!(code_of(ExecExit::Status(7)), 7);
        assert_eq!(code_of(ExecExit::Signal(9)), 137);
        assert_eq!(code_of(ExecExit::Signal(i32::MAX)), 255);
    }
}
