//! `mlnctl key confirm`.

use mln_link::Request;
use serde_json::json;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// Has the agent's host go on as the right one of those with its key.
pub(super) async fn run(agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::ConfirmKey, screen).await?;
    let exit = screen.troubles(&answer);
    if exit == Exit::Done {
        screen.answer(|_layout| "this host signs\n".to_owned(), || json!({ "signs": true }));
    }
    Ok(exit)
}
