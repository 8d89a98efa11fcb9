//! `mlnctl validate`: what is wrong in a project file.

use clap::Args;
use mln_protocol::convert;

use super::{ProjectFile, complaint, open, verdict};
use crate::project_file::GuestFiles;
use crate::ui::diagnostic::{self, Drawing};
use crate::ui::outcome::Outcome;

/// Say what is wrong in a project file.
#[derive(Clone, Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    project: ProjectFile,
}

impl Validate {
    pub(super) fn outcome(&self, json: bool, drawing: Drawing) -> Outcome {
        let path = self.project.path();
        let loaded = match open(path, &self.project.variables, GuestFiles::Look) {
            Ok(loaded) => loaded,
            Err(outcome) => return outcome,
        };
        let code = verdict(&loaded);
        if json {
            let answer = convert::diagnostics_json(&loaded.diagnostics, loaded.tree.sources()) + "\n";
            return Outcome { answer, complaint: String::new(), code };
        }
        let mut complaint = complaint(&loaded, drawing);
        let count = diagnostic::count(&loaded.diagnostics);
        if code != 0 {
            complaint += &format!("{}: {}\n", path.display(), count.unwrap_or_default());
            return Outcome { answer: String::new(), complaint, code };
        }
        let hosts = loaded.project.vms.len();
        let switches = loaded.project.switches.len();
        let verdict = count.map_or("no errors".to_owned(), |count| format!("no errors, {count}"));
        let answer = format!("{}: {hosts} hosts, {switches} switches: {verdict}\n", path.display());
        Outcome { answer, complaint, code }
    }
}
