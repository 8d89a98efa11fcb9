//! `mlnctl gc`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::GcMode;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows, snapshots};

/// The arguments of `gc`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl gc --dry-run")]
pub struct Gc {
    /// Only show what would be freed
    #[arg(long, env = "MLN_DRY_RUN", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    dry_run: bool,
}

/// Frees, or shows, what of the host's images no name and no VM uses.
pub async fn run(args: Gc, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let mode = if args.dry_run { GcMode::Show } else { GcMode::Free };
    let answer = agent.ask(&Request::Gc(mode), screen).await?;
    if let Some(report) = &answer.garbage {
        let (kept, taken) = (&answer.kept, &answer.snapshots);
        screen.answer(
            |layout| rows::garbage(report, kept, mode, layout) + &snapshots::lines(taken),
            || {
                let mut all = json::garbage(report, kept, mode);
                all["snapshots"] = snapshots::json_here(taken);
                all
            },
        );
    }
    Ok(screen.troubles(&answer))
}
