//! `mlnctl validate`: what is wrong in a project file.

use clap::Args;
use mln_protocol::convert;
use mln_protocol::lang::{self, Rewritten};

use super::{ProjectFile, complaint, open, verdict, write_back};
use crate::project_file::{GuestFiles, LoadedProject};
use crate::ui::diagnostic::{self, Drawing};
use crate::ui::outcome::Outcome;
use crate::ui::rewritten;

/// Say what is wrong in a project file.
#[derive(Clone, Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    project: ProjectFile,
    /// Make the changes that are proposed, in included files as well, and say what is still wrong then.
    #[arg(long)]
    fix: bool,
}

impl Validate {
    pub(super) fn outcome(&self, json: bool, drawing: Drawing) -> Outcome {
        let loaded = match self.open() {
            Ok(loaded) => loaded,
            Err(outcome) => return outcome,
        };
        if !self.fix {
            return self.report(&loaded, json, drawing);
        }
        let fixes = loaded.diagnostics.iter().filter_map(|diagnostic| diagnostic.fix.clone());
        let files = lang::rewrite(loaded.tree.sources(), fixes);
        match write_back(&files).and_then(|()| self.open()) {
            Ok(mended) => self.report_mended(&files, &loaded, &mended, json, drawing),
            Err(outcome) => outcome,
        }
    }

    fn open(&self) -> Result<LoadedProject, Outcome> {
        open(self.project.path(), &self.project.variables, GuestFiles::Look)
    }

    fn report_mended(
        &self,
        files: &[Rewritten],
        before: &LoadedProject,
        mended: &LoadedProject,
        json: bool,
        drawing: Drawing,
    ) -> Outcome {
        if json {
            let answer = convert::rewritten_json(
                files,
                before.tree.sources(),
                &mended.diagnostics,
                mended.tree.sources(),
            );
            return Outcome { answer: answer + "\n", complaint: String::new(), code: verdict(mended) };
        }
        let Outcome { answer, complaint, code } = self.report(mended, json, drawing);
        let answer = rewritten::describe(files, before.tree.sources()) + &answer;
        Outcome { answer, complaint, code }
    }

    fn report(&self, loaded: &LoadedProject, json: bool, drawing: Drawing) -> Outcome {
        let path = self.project.path();
        let code = verdict(loaded);
        if json {
            let answer = convert::diagnostics_json(&loaded.diagnostics, loaded.tree.sources()) + "\n";
            return Outcome { answer, complaint: String::new(), code };
        }
        let mut complaint = complaint(loaded, drawing);
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
