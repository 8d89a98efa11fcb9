//! `mlnctl show`: a project as it is understood.

use clap::Args;
use mln_protocol::convert;

use super::{ProjectFile, complaint, open, verdict};
use crate::project_file::GuestFiles;
use crate::ui::diagnostic::Drawing;
use crate::ui::outcome::Outcome;
use crate::ui::project;

/// Show a project as it is understood.
#[derive(Clone, Debug, Args)]
pub struct Show {
    #[command(flatten)]
    project: ProjectFile,
}

impl Show {
    pub(super) fn outcome(&self, json: bool, drawing: Drawing) -> Outcome {
        let path = self.project.path();
        let loaded = match open(path, &self.project.variables, GuestFiles::Ignore) {
            Ok(loaded) => loaded,
            Err(outcome) => return outcome,
        };
        let code = verdict(&loaded);
        if json {
            let sources = loaded.tree.sources();
            let made = &loaded.made_files;
            let answer =
                convert::project_json_with(&loaded.project, None, &loaded.diagnostics, sources, made) + "\n";
            return Outcome { answer, complaint: String::new(), code };
        }
        Outcome { answer: project::describe(&loaded.project), complaint: complaint(&loaded, drawing), code }
    }
}
