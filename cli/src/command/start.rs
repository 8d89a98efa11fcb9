//! `mlnctl start`.

use clap::Args;
use mln_link::Request;

use super::target::TargetArgs;
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::quantity::parse_duration_ms;
use crate::ui::screen::Screen;

/// The arguments of `start`.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    target: TargetArgs,
    /// Pause between two hosts, in seconds
    #[arg(short = 's', long = "pause", env = "MLN_PAUSE", value_name = "SEC", default_value = "0", value_parser = parse_duration_ms)]
    pause_ms: u64,
}

/// Starts VMs.
pub async fn run(args: Start, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let target = args.target.target().map_err(CommandError::Usage)?;
    let request = Request::Start(mln_link::message::Start { target, pause_ms: args.pause_ms });
    let answer = agent.ask(&request, screen).await?;
    Ok(screen.outcome(&answer))
}
