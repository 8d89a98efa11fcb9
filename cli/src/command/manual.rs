//! `mlnctl manual FOLDER`: the manual pages, for whoever makes a package.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::Args;
use crate::exit::Exit;
use crate::ui::outcome::Outcome;

/// The arguments of `manual`.
#[derive(Debug, Clone, clap::Args)]
pub struct Manual {
    /// The folder that the pages go to
    into: PathBuf,
}

/// Writes a page per command.
pub fn run(args: &Manual) -> Exit {
    match clap_mangen::generate_to(Args::command(), &args.into) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let complaint = format!("error: {}: {error}\n", args.into.display());
            Exit::of_offline(Outcome { complaint, code: 1, ..Outcome::default() }.write())
        }
    }
}
