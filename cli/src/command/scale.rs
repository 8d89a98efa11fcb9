//! `mlnctl scale`.

use std::path::PathBuf;

use clap::Args;
use mln_link::Request;
use mln_link::message::{ChangeContent, ProjectRef};
use mln_protocol::lang::{self, Edit, NoIncludes, SourceId};

use super::change::{self, ChangeArgs, Wanted};
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `scale`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mlnctl scale -p farm node 5 --yes -S")]
pub struct Scale {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
    /// The enumeration's name, or its superclass
    #[arg(value_name = "CLASS")]
    class: String,
    /// How many hosts
    #[arg(value_name = "N")]
    count: u32,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Changes how many hosts an enumeration of the project makes, in the text that the project came from.
pub async fn run(args: Scale, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::Definition(args.project.clone()), screen).await?;
    let Some(definition) = &answer.definition else { return Ok(screen.outcome(&answer)) };
    let (tree, _) = lang::parse("project", definition.source.clone(), &NoIncludes);
    let edit = Edit::Scale { class: args.class, count: args.count };
    let changes = lang::edit(&tree, &edit)
        .map_err(|source| CommandError::Edit { project: definition.project.to_string(), source })?;
    let files = lang::rewrite(tree.sources(), changes);
    let unchanged = || tree.text(SourceId::ROOT);
    let source = files.into_iter().next().map_or_else(unchanged, |file| file.text);
    let wanted = Wanted {
        project: Some(args.project),
        content: ChangeContent::Edited { source },
        from_head: None,
        reason: "scale",
        bytes: &[],
        path: PathBuf::new(),
    };
    change::run(&args.change, wanted, agent, screen).await
}
