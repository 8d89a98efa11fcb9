//! `mlnctl list`.

use mln_link::Request;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};

/// Lists projects.
pub async fn run(agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::List, screen).await?;
    screen.answer(|layout| rows::projects(&answer.projects, layout), || json::projects(&answer.projects));
    Ok(screen.troubles(&answer))
}
