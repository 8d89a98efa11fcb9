//! `mlnctl peers`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};

/// The arguments of `peers`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mlnctl peers\n  mlnctl peers --lan --json")]
pub struct Peers {
    /// List who was seen on the agent's local network instead, members or not
    #[arg(long, env = "MLN_LAN", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    lan: bool,
}

/// Lists the agent's peers.
pub async fn run(args: Peers, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    if args.lan {
        let answer = agent.ask(&Request::PeersLan, screen).await?;
        screen.answer(|layout| rows::lan(&answer.lan, layout), || json::lan(&answer.lan));
        return Ok(screen.troubles(&answer));
    }
    let answer = agent.ask(&Request::Peers, screen).await?;
    screen.answer(|layout| rows::peers(&answer.peers, layout), || json::peers(&answer.peers));
    Ok(screen.troubles(&answer))
}
