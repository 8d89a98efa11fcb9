//! `mlnctl rollback`.

use std::path::PathBuf;

use clap::Args;
use mln_link::message::{ChangeContent, ProjectRef};

use super::change::{self, ChangeArgs, Wanted};
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Examples: mlnctl rollback -p ring\n          mlnctl rollback -p ring --to 3 --yes")]
pub struct Rollback {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
    /// The revision, by its number or digest in `mlnctl log` [default: the one before]
    #[arg(long, env = "MLN_REVISION", value_name = "N|DIGEST")]
    to: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Changes a project to what it was.
pub async fn run(args: Rollback, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let wanted = Wanted {
        project: Some(args.project),
        content: ChangeContent::Revision(args.to),
        from_head: None,
        reason: "rollback",
        bytes: &[],
        path: PathBuf::new(),
    };
    change::run(&args.change, wanted, agent, screen).await
}
