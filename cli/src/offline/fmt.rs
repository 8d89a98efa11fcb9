//! `mlnctl fmt`: a project file in the usual layout.

use clap::Args;
use mln_protocol::lang::{self, Rewritten, SourceId};
use serde_json::json;

use super::{FAILED, ProjectFile, open_text, write_back};
use crate::ui::diagnostic::{self, Drawing};
use crate::ui::outcome::Outcome;

/// Lay a project file out in the usual way.
#[derive(Clone, Debug, Args)]
pub struct Fmt {
    #[command(flatten)]
    project: ProjectFile,
    /// Change nothing; fail if something would be changed.
    #[arg(long)]
    check: bool,
}

impl Fmt {
    pub(super) fn outcome(&self, json: bool, drawing: Drawing) -> Outcome {
        let path = self.project.path();
        let loaded = match open_text(path, &self.project.variables) {
            Ok(loaded) => loaded,
            Err(outcome) => return outcome,
        };
        let sources = loaded.tree.sources();
        let text = match lang::format(&loaded.tree, &loaded.diagnostics) {
            Ok(text) => text,
            Err(damage) => {
                let mut complaint = diagnostic::draw(std::slice::from_ref(damage), sources, drawing);
                complaint += &format!("error: {} cannot be laid out before this is mended\n", path.display());
                return Outcome { answer: String::new(), complaint, code: FAILED };
            }
        };
        let before = sources.get(SourceId::ROOT);
        let is_changed = text != before.text();
        if is_changed && !self.check {
            let file = Rewritten { path: before.path().to_owned(), text, changes: Vec::new() };
            if let Err(outcome) = write_back(&[file]) {
                return outcome;
            }
        }
        let code = if is_changed && self.check { FAILED } else { 0 };
        let answer = if json {
            format!("{:#}\n", json!({"file": before.path(), "changed": is_changed}))
        } else {
            let what = match (is_changed, self.check) {
                (false, _) => "nothing to change",
                (true, false) => "laid out",
                (true, true) => "not in the usual layout: `mlnctl fmt` would change it",
            };
            format!("{}: {what}\n", path.display())
        };
        Outcome { answer, complaint: String::new(), code }
    }
}
