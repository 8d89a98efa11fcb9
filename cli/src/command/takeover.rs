//! `mlnctl takeover`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{OwnerHeard, TakeOver, VmRef};

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `takeover`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: mlnctl takeover ring/router1\n\nWhat the host has written since the copy was made is lost. If its service host comes back, it keeps its disk and \
                  doesn't run it."
)]
pub struct Takeover {
    /// The host: PROJECT/HOST, or OWNER/PROJECT/HOST
    #[arg(value_name = "PROJECT/HOST", env = "MLN_VM", value_parser = VmRef::parse)]
    vm: VmRef,
    /// Also if somebody has just heard its service host: only where that is certainly gone
    #[arg(long, env = "MLN_FORCE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    force: bool,
}

/// Takes a VM over from an owner that is gone.
pub async fn run(args: Takeover, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let owner_heard = if args.force { OwnerHeard::Force } else { OwnerHeard::Refuse };
    let answer = agent.ask(&Request::TakeOver(TakeOver { vm: args.vm, owner_heard }), screen).await?;
    Ok(screen.outcome(&answer))
}
