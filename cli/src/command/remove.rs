//! `mlnctl remove`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{ProjectRef, Removal};

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
    /// Also while hosts of it are up: they are stopped first
    #[arg(long, env = "MLN_FORCE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    force: bool,
}

/// Removes a project.
pub async fn run(args: Remove, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let removal = if args.force { Removal::Forced } else { Removal::Stopped };
    let request = Request::Remove(mln_link::message::Remove { project: args.project, removal });
    let answer = agent.ask(&request, screen).await?;
    Ok(screen.outcome(&answer))
}
