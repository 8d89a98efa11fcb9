//! `mlnctl version`.

use mln_link::Request;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};

/// Prints the versions of both ends.
pub async fn run(agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::Version, screen).await?;
    screen
        .answer(|_layout| rows::version(answer.version.as_ref()), || json::version(answer.version.as_ref()));
    Ok(screen.troubles(&answer))
}
