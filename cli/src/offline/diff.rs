//! `mlnctl diff`: what would change from one project file to another.

use std::path::{Path, PathBuf};

use clap::Args;
use mln_protocol::convert;
use mln_protocol::id::Name;
use mln_protocol::plan;

use super::{CHANGES, FAILED, Variables, complaint, open};
use crate::project_file::{GuestFiles, LoadedProject};
use crate::ui;
use crate::ui::diagnostic::{self, Drawing};
use crate::ui::outcome::Outcome;

/// Say what would change from one project file to another; exit code 0 for nothing, 2 for changes, 1 for errors.
#[derive(Clone, Debug, Args)]
pub struct Diff {
    /// The project file as it is.
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// The project file as it would be.
    #[arg(value_name = "OTHER")]
    to: PathBuf,
    #[command(flatten)]
    variables: Variables,
    /// A host that may lose what is on its disk.
    #[arg(long, value_name = "HOST", value_delimiter = ',', value_parser = Name::parse)]
    rebuild: Vec<Name>,
}

impl Diff {
    pub(super) fn outcome(&self, json: bool, drawing: Drawing) -> Outcome {
        let both = self.open(&self.from, drawing).and_then(|from| Ok((from, self.open(&self.to, drawing)?)));
        let (from, to) = match both {
            Ok(both) => both,
            Err(outcome) => return outcome,
        };
        let planned = plan::plan(&from.project, &to.project, &self.rebuild.iter().cloned().collect());
        let mut rows = plan::rows(&planned);
        let kept = plan::kept_rows(&rows, &from.kept, &to.kept);
        rows.extend(kept);
        let answer = if json {
            convert::plan_json(&from.project.name, &to.project.name, &rows) + "\n"
        } else {
            ui::plan::describe(&rows)
        };
        Outcome { answer, complaint: String::new(), code: if rows.is_empty() { 0 } else { CHANGES } }
    }

    /// Nothing is compared with a project that is wrong.
    fn open(&self, path: &Path, drawing: Drawing) -> Result<LoadedProject, Outcome> {
        let loaded = open(path, &self.variables, GuestFiles::Ignore)?;
        if diagnostic::has_errors(&loaded.diagnostics) {
            let complaint = complaint(&loaded, drawing);
            return Err(Outcome { answer: String::new(), complaint, code: FAILED });
        }
        Ok(loaded)
    }
}
