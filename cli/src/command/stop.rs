//! `mlnctl stop`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::StopManner;

use super::target::TargetArgs;
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::quantity::parse_duration_ms;
use crate::ui::screen::Screen;

/// The arguments of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    target: TargetArgs,
    /// Pause between two hosts, in seconds
    #[arg(short = 's', long = "pause", env = "MLN_PAUSE", value_name = "SEC", default_value = "0", value_parser = parse_duration_ms)]
    pause_ms: u64,
    /// How long a host may take to shut down before it is killed, in seconds
    #[arg(short = 'w', long = "wait", env = "MLN_STOP_WAIT", value_name = "SEC", value_parser = parse_duration_ms)]
    wait_ms: Option<u64>,
    /// Kill the hosts at once
    #[arg(short = 'H', long, env = "MLN_HALT", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    halt: bool,
}

impl Stop {
    /// Returns how VMs are stopped: `-H` is stronger than `-w`.
    fn manner(&self) -> StopManner {
        match (self.halt, self.wait_ms) {
            (true, _) => StopManner::Halt,
            (false, Some(after_ms)) => StopManner::AskThenKill { after_ms },
            (false, None) => StopManner::Ask,
        }
    }
}

/// Stops VMs.
pub async fn run(args: Stop, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let manner = args.manner();
    let target = args.target.target().map_err(CommandError::Usage)?;
    let request = Request::Stop(mln_link::message::Stop { target, pause_ms: args.pause_ms, manner });
    let answer = agent.ask(&request, screen).await?;
    Ok(screen.outcome(&answer))
}
