//! `mlnctl peers`.

use mln_link::Request;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};

/// Lists the agent's peers.
pub async fn run(agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::Peers, screen).await?;
    screen.answer(|layout| rows::peers(&answer.peers, layout), || json::peers(&answer.peers));
    Ok(screen.troubles(&answer))
}
