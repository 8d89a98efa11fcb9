//! `mlnctl resolve`.

use std::path::PathBuf;

use clap::Args;
use mln_link::message::{ChangeContent, ProjectRef};

use super::change::{self, ChangeArgs, Wanted};
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `resolve`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl log -p ring; mlnctl resolve -p ring 3f2a91bc")]
pub struct Resolve {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
    /// The revision that the project goes on with, by the digest in `mlnctl log`
    #[arg(value_name = "HEAD")]
    head: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Has a majority choose one of the revisions that were made in part.
pub async fn run(args: Resolve, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let wanted = Wanted {
        project: Some(args.project),
        content: ChangeContent::Head(args.head),
        from_head: None,
        reason: "resolve",
        bytes: &[],
        path: PathBuf::new(),
    };
    change::run(&args.change, wanted, agent, screen).await
}
