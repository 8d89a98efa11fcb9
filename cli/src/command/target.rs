//! `-p PROJECT | -a [-h HOST]`: which VMs a command is about.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::message::{ProjectRef, ProjectSelection, Target};
use mln_protocol::id::Name;

use crate::error::UsageError;

/// Which VMs, where it must be said.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    pub project: Option<ProjectRef>,
    /// All projects
    #[arg(short, long, env = "MLN_ALL", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    pub all: bool,
    /// Only this host of the project; may be repeated
    #[arg(short = 'h', long, env = "MLN_VM", value_name = "HOST", value_delimiter = ',', value_parser = Name::parse)]
    pub host: Vec<Name>,
}

impl TargetArgs {
    /// Returns what is meant.
    pub fn target(self) -> Result<Target, UsageError> {
        let projects = match (self.project, self.all) {
            (Some(project), false) => ProjectSelection::One(project),
            (None, true) => ProjectSelection::All,
            (None, false) => return Err(UsageError::NoTarget),
            (Some(project), true) => return Err(UsageError::ProjectAndAll(project.to_string())),
        };
        Ok(Target { projects, vms: self.host })
    }
}
