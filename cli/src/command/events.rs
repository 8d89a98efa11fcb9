//! `mlnctl events`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{EVENTS_ASKED_MAX, EventReading, ProjectRef};

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `events`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl events -n 50 --follow -p ring --json")]
pub struct Events {
    /// How many past events to show, the newest; 1000 at most
    #[arg(short = 'n', long = "last", env = "MLN_EVENTS", value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(EVENTS_ASKED_MAX)))]
    last: u32,
    /// Go on with each event as it happens, until it is interrupted
    #[arg(long, env = "MLN_FOLLOW", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    follow: bool,
    /// Only events of this project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: Option<ProjectRef>,
}

/// Shows what happened, and with `--follow` what happens.
pub async fn run(args: Events, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let reading = if args.follow { EventReading::Follow } else { EventReading::Past };
    let events = mln_link::message::Events { last: args.last, project: args.project, reading };
    let answer = match agent.ask(&Request::Events(events), screen).await {
        // Nothing was begun that could go on: this is how following ends.
        Err(CommandError::Interrupted { signal }) => return Ok(Exit::of_signal(signal)),
        answer => answer?,
    };
    Ok(match (screen.troubles(&answer), answer.exited) {
        // Whoever read our output has left.
        (Exit::Done, Some(_)) => Exit::Done,
        (exit, _) => exit,
    })
}
