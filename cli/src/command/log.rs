//! `mlnctl log`.

use clap::Args;
use mln_link::Request;
use mln_link::message::ProjectRef;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::change;
use crate::ui::screen::Screen;

/// The arguments of `log`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl log -p ring --json")]
pub struct Log {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
}

/// Lists a project's revisions, oldest first.
pub async fn run(args: Log, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::Log(args.project), screen).await?;
    if answer.refusals.is_empty() || !answer.revisions.is_empty() {
        screen
            .answer(|layout| change::log(&answer.revisions, layout), || change::log_json(&answer.revisions));
    }
    Ok(screen.troubles(&answer))
}
