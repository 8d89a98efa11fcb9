//! `mlnctl`: the words people type. A thin client of any agent.
//!
//! [`args`] is the command line. [`offline`] carries out what needs a project file alone, [`command`] the rest,
//! through a [`conversation`] with an agent; [`ui`] shows what came of it. A library, so that what is generated from the command line (completions,
//! manual pages) comes from the same source.

pub mod args;
pub mod command;
pub mod context;
pub mod conversation;
pub mod error;
pub mod exit;
pub mod misfit;
pub mod network;
pub mod offline;
pub mod plugin;
pub mod project_file;
pub mod quantity;
pub mod source_file;
pub mod ui;
pub mod version;

use std::ffi::OsString;

use exit::Exit;

/// Carries out a command line and returns how `mlnctl` ends.
pub fn run(line: impl IntoIterator<Item = OsString>) -> Exit {
    let line: Vec<OsString> = line.into_iter().collect();
    if command::completions::answer_shell(&line) {
        return Exit::Done;
    }
    match args::parse(line.iter().cloned()) {
        Ok(args) => command::run(args),
        Err(error) => ui::screen::usage(error, &line),
    }
}
