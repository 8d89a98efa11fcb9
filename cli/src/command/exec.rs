//! `mlnctl exec`.

use clap::Args;
use mln_link::Request;
use mln_link::message::{ExecExit, VmRef};

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Where: PROJECT/HOST, or OWNER/PROJECT/HOST
    #[arg(value_name = "PROJECT/HOST", value_parser = VmRef::parse)]
    vm: VmRef,
    /// The command and its arguments, after --
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    argv: Vec<String>,
}

/// Runs a command in a VM, as if it ran here: its streams are ours, and so is its end.
pub async fn run(args: Exec, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let request = Request::Exec(mln_link::message::Exec { vm: args.vm, argv: args.argv });
    let answer = agent.attach(&request, screen).await?;
    Ok(match (screen.troubles(&answer), answer.exited) {
        (Exit::Done, Some(exited)) => Exit::Command(code_of(exited)),
        // The agent ended the conversation without the command's end.
        (Exit::Done, None) => Exit::Failed,
        (trouble, _) => trouble,
    })
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
