//! `mlnctl build`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{Existing, FileHead, OnFailure};

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::offline::Variables;
use crate::project_file::{self, GuestFiles, LoadedProject};
use crate::ui::diagnostic;
use crate::ui::screen::Screen;

/// The arguments of `build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The project file
    #[arg(short, long, env = "MLN_FILE")]
    file: PathBuf,
    /// Replace the project if it exists already: its machines go, with their disks
    #[arg(short, long, env = "MLN_REPLACE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    replace: bool,
    /// With -r: also if machines of it run
    #[arg(long, env = "MLN_FORCE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    force: bool,
    /// When a step fails, keep what is there instead of undoing it
    #[arg(long, env = "MLN_KEEP", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    keep: bool,
    #[command(flatten)]
    variables: Variables,
}

/// Builds a project. What is wrong in its file is said here, before anybody is asked.
pub async fn run(args: Build, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let vars = args.variables.by_name();
    let LoadedProject { source, files, diagnostics, tree, .. } =
        project_file::load_plugged(&args.file, vars.clone(), GuestFiles::Read, args.variables.plugins())?;
    screen.diagnostics(&diagnostics, tree.sources());
    if diagnostic::has_errors(&diagnostics) {
        return Ok(Exit::Failed);
    }
    let head = |file: &project_file::LoadedFile| FileHead {
        from: file.from.clone(),
        mode: file.mode,
        bytes: file.bytes.len() as u64,
    };
    let request = Request::Build(mln_link::message::Build {
        source,
        vars: vars.into_iter().collect(),
        files: files.iter().map(head).collect(),
        existing: match (args.replace, args.force) {
            (true, true) => Existing::ReplaceRunning,
            (true, false) => Existing::Replace,
            (false, _) => Existing::Refuse,
        },
        on_failure: if args.keep { OnFailure::Keep } else { OnFailure::Undo },
    });
    let content: Vec<u8> = files.into_iter().flat_map(|file| file.bytes).collect();
    let answer = agent.ask_with_file(&request, content.as_slice(), &args.file, screen).await?;
    Ok(screen.outcome(&answer))
}
