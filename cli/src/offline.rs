//! The commands that need a project file and nothing else: no mesh, no agent.

mod diff;
mod edit;
mod explain;
mod fmt;
mod query;
mod show;
mod validate;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Subcommand};
use mln_link::message::ProjectRef;
use mln_protocol::lang::Rewritten;

pub use show::ShowForm;

use crate::plugin::{Allowed, Plugins};
use crate::project_file::{GuestFiles, LoadedProject, load_plugged};
use crate::source_file;
use crate::ui::diagnostic::{self, Drawing};
use crate::ui::outcome::Outcome;

/// A command about a project file.
#[derive(Clone, Debug, Subcommand)]
pub enum Offline {
    /// Say what is wrong in a project file, and what would be right.
    Validate(validate::Validate),
    /// Say what the code of an error or a warning means, with an example.
    Explain(explain::Explain),
    /// Lay a project file out in the usual way; what it says stays the same.
    Fmt(fmt::Fmt),
    /// Change a project file; every byte that the change is not about stays.
    Edit(edit::EditFile),
    /// Say what would change from one project file to another, and what that does to running hosts.
    Diff(diff::Diff),
    /// Show a project as it is understood: variables, classes and enumerations worked out.
    Show(show::Show),
    /// Print one value of a project: /host/NAME/memory, /host/NAME/network/eth0/address, /global/project.
    Query(query::Query),
}

impl Offline {
    /// Returns the project of the mesh that it is about after all, and how it is shown.
    pub fn of_mesh(&self) -> Option<(ProjectRef, ShowForm)> {
        match self {
            Self::Show(show) => show.of_mesh(),
            Self::Validate(_)
            | Self::Explain(_)
            | Self::Fmt(_)
            | Self::Edit(_)
            | Self::Diff(_)
            | Self::Query(_) => None,
        }
    }
}

/// The exit code of a command that failed, or of a project that is wrong.
const FAILED: u8 = 1;
/// The exit code of a comparison that found something.
const CHANGES: u8 = 2;

/// Which project, with `-f` or without, and with which variables.
#[derive(Clone, Debug, Args)]
pub struct ProjectFile {
    /// The project file.
    #[arg(value_name = "FILE", required_unless_present = "file")]
    path: Option<PathBuf>,
    /// The project file.
    #[arg(short = 'f', long = "file", env = "MLN_FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    variables: Variables,
}

impl ProjectFile {
    fn path(&self) -> &Path {
        self.path.as_ref().or(self.file.as_ref()).expect("clap requires one of the two")
    }
}

/// Variables of the command line, and what else decides what a project is.
#[derive(Clone, Debug, Args)]
pub struct Variables {
    /// Set a variable of the project; wins over the file.
    #[arg(long = "var", env = "MLN_VAR", value_name = "NAME=VALUE", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    /// Also run plugins from the folder `plugins` beside the project file: they may do whatever you may.
    #[arg(long, env = "MLN_ALLOW_PLUGINS", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    allow_plugins: bool,
}

impl Variables {
    /// Returns which plugins may run.
    pub fn plugins(&self) -> Plugins {
        Plugins::Run(if self.allow_plugins { Allowed::OfProject } else { Allowed::Installed })
    }

    /// Returns them by name; the last of several for one name counts.
    pub fn by_name(&self) -> BTreeMap<String, String> {
        self.variables.iter().cloned().collect()
    }
}

/// Parses `NAME=VALUE` of the command line.
fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let name = name.strip_prefix('$').unwrap_or(name);
    if mln_protocol::resolve::is_variable_name(name) {
        Ok((name.to_owned(), value.to_owned()))
    } else {
        Err(format!("`{name}` is no variable's name: letters, digits and `_`, not beginning with a digit"))
    }
}

/// Carries out a command; prints what it has to say, and returns its exit code.
pub fn run(offline: &Offline, json: bool) -> u8 {
    let drawing = Drawing::for_stderr();
    let outcome = match offline {
        Offline::Validate(command) => command.outcome(json, drawing),
        Offline::Explain(command) => command.outcome(json),
        Offline::Fmt(command) => command.outcome(json, drawing),
        Offline::Edit(command) => command.outcome(json, drawing),
        Offline::Diff(command) => command.outcome(json, drawing),
        Offline::Show(command) => command.outcome(json, drawing),
        Offline::Query(command) => command.outcome(drawing),
    };
    outcome.write()
}

fn open(file: &Path, variables: &Variables, guest_files: GuestFiles) -> Result<LoadedProject, Outcome> {
    load_plugged(file, variables.by_name(), guest_files, variables.plugins()).map_err(|error| failure(&error))
}

/// Opens a project whose text alone is of interest: plugins are not run.
fn open_text(file: &Path, variables: &Variables) -> Result<LoadedProject, Outcome> {
    load_plugged(file, variables.by_name(), GuestFiles::Ignore, Plugins::Read)
        .map_err(|error| failure(&error))
}

/// Writes files back; a failure is told with its cause.
fn write_back(files: &[Rewritten]) -> Result<(), Outcome> {
    files.iter().try_for_each(|file| {
        source_file::write(Path::new(&file.path), &file.text).map_err(|error| failure(&error))
    })
}

/// Returns that something failed, and why.
fn failure(error: &dyn Error) -> Outcome {
    let reason = error.source().map_or(String::new(), |source| format!(": {source}"));
    Outcome { answer: String::new(), complaint: format!("error: {error}{reason}\n"), code: FAILED }
}

/// Returns the exit code for a project: whether something is wrong enough to stop.
fn verdict(loaded: &LoadedProject) -> u8 {
    if diagnostic::has_errors(&loaded.diagnostics) { FAILED } else { 0 }
}

/// Returns what is wrong with a project, for people.
fn complaint(loaded: &LoadedProject, drawing: Drawing) -> String {
    diagnostic::draw(&loaded.diagnostics, loaded.tree.sources(), drawing)
}
