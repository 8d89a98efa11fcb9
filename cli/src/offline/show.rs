//! `mlnctl show`: a project as it is understood, from a file or as it is in the mesh.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::message::ProjectRef;
use mln_protocol::convert;

use super::{Variables, complaint, open, verdict};
use crate::project_file::GuestFiles;
use crate::ui::diagnostic::Drawing;
use crate::ui::outcome::Outcome;
use crate::ui::project;

/// Show a project as it is understood.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples: mlnctl show -f ring.mln\n          mlnctl show -p ring --source >ring.mln")]
pub struct Show {
    /// The project file.
    #[arg(value_name = "FILE", required_unless_present_any = ["file", "project"])]
    path: Option<PathBuf>,
    /// The project file.
    #[arg(short = 'f', long = "file", env = "MLN_FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    /// A project of the mesh, where no file is given: NAME, or OWNER/NAME.
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: Option<ProjectRef>,
    /// With -p: its text.
    #[arg(long, env = "MLN_SHOW_SOURCE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    source: bool,
    #[command(flatten)]
    variables: Variables,
}

/// How a project of the mesh is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowForm {
    /// As it is understood.
    Understood,
    /// Its text.
    Text,
}

/// Which of a file and a project of the mesh was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typed {
    File,
    Project,
    Both,
}

/// The exit code for arguments that don't go together.
const USAGE: u8 = 64;

impl Show {
    /// Returns the project of the mesh that is to be shown; none where it is a file.
    pub(super) fn of_mesh(&self) -> Option<(ProjectRef, ShowForm)> {
        let form = if self.source { ShowForm::Text } else { ShowForm::Understood };
        match (&self.path, &self.file, &self.project) {
            (None, file, Some(project)) if file.is_none() || self.typed() == Typed::Project => {
                Some((project.clone(), form))
            }
            _ => None,
        }
    }

    /// Returns which of the two was typed: what the environment has gives way to that.
    fn typed(&self) -> Typed {
        let of_environment =
            |name: &str, is_it: &dyn Fn(&str) -> bool| std::env::var(name).is_ok_and(|value| is_it(&value));
        let file = self.path.is_some()
            || self.file.as_ref().is_some_and(|file| {
                !of_environment("MLN_FILE", &|value| std::path::Path::new(value) == file.as_path())
            });
        let project = self.project.as_ref().is_some_and(|project| {
            !of_environment("MLN_PROJECT", &|value| ProjectRef::parse(value).as_ref() == Ok(project))
        });
        match (file, project) {
            (true, true) => Typed::Both,
            (false, true) => Typed::Project,
            (true | false, false) => Typed::File,
        }
    }

    pub(super) fn outcome(&self, json: bool, drawing: Drawing) -> Outcome {
        if self.typed() == Typed::Both {
            let text =
                "error: a project is shown as it is in the mesh (-p) or in a file (-f): say one of them\n";
            return Outcome { complaint: text.to_owned(), code: USAGE, ..Outcome::default() };
        }
        let path = self.path.as_deref().or(self.file.as_deref()).unwrap_or(std::path::Path::new(""));
        let loaded = match open(path, &self.variables, GuestFiles::Ignore) {
            Ok(loaded) => loaded,
            Err(outcome) => return outcome,
        };
        let code = verdict(&loaded);
        if json {
            let shown = convert::Shown {
                project: &loaded.project,
                mandates: &loaded.mandates,
                owner: None,
                diagnostics: &loaded.diagnostics,
                sources: loaded.tree.sources(),
                made_files: &loaded.made_files,
            };
            let answer = shown.to_json() + "\n";
            return Outcome { answer, complaint: String::new(), code };
        }
        Outcome { answer: project::describe(&loaded.project), complaint: complaint(&loaded, drawing), code }
    }
}
