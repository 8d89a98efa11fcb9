//! `mlnctl upgrade`.

use std::path::PathBuf;

use clap::Args;
use mln_link::message::{ChangeContent, FileHead};

use super::change::{self, ChangeArgs, Wanted};
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::offline::Variables;
use crate::project_file::{self, GuestFiles, LoadedFile, LoadedProject};
use crate::ui::diagnostic;
use crate::ui::screen::Screen;

/// The arguments of `upgrade`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: mlnctl upgrade -f ring.mln\n          mlnctl upgrade -f ring.mln --yes -S --reason 'one more router'"
)]
pub struct Upgrade {
    /// The project file
    #[arg(short, long, env = "MLN_FILE")]
    file: PathBuf,
    /// Where revisions contradict each other: go on with the machines of this one, by its digest
    #[arg(long, env = "MLN_FROM_HEAD", value_name = "DIGEST")]
    from_head: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    variables: Variables,
}

/// Changes a project to what its file says now.
pub async fn run(args: Upgrade, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let Some((content, bytes)) = read(&args.file, &args.variables, screen)? else { return Ok(Exit::Failed) };
    let (from_head, path) = (args.from_head, args.file);
    let wanted = Wanted { project: None, content, from_head, reason: "upgrade", bytes: &bytes, path };
    change::run(&args.change, wanted, agent, screen).await
}

/// Reads a project file, and the files that it copies into guests; none where something is wrong, which is said.
pub(super) fn read(
    file: &std::path::Path,
    variables: &Variables,
    screen: &Screen,
) -> Result<Option<(ChangeContent, Vec<u8>)>, CommandError> {
    let vars = variables.by_name();
    let LoadedProject { source, files, diagnostics, tree, .. } =
        project_file::load_plugged(file, vars.clone(), GuestFiles::Read, variables.plugins())?;
    screen.diagnostics(&diagnostics, tree.sources());
    if diagnostic::has_errors(&diagnostics) {
        return Ok(None);
    }
    let head = |file: &LoadedFile| FileHead {
        from: file.from.clone(),
        mode: file.mode,
        bytes: file.bytes.len() as u64,
    };
    let heads = files.iter().map(head).collect();
    let content = ChangeContent::Text { source, vars: vars.into_iter().collect(), files: heads };
    Ok(Some((content, files.into_iter().flat_map(|file| file.bytes).collect())))
}
