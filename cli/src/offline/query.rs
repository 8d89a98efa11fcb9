//! `mlnctl query`: one value of a project.

use std::path::PathBuf;

use clap::Args;
use mln_protocol::resolve;

use super::{FAILED, Variables, complaint, open};
use crate::project_file::GuestFiles;
use crate::ui::diagnostic::{self, Drawing};
use crate::ui::outcome::Outcome;

/// Print one value of a project.
#[derive(Clone, Debug, Args)]
pub struct Query {
    /// The project file.
    #[arg(short = 'f', long = "file", env = "MLN_FILE", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    variables: Variables,
    /// What to print: a pair's value, a list's lines, or a block's keywords, one on each line.
    #[arg(value_name = "PATH")]
    path: String,
}

impl Query {
    /// Nothing is answered from a project that is wrong: the value might be, too.
    pub(super) fn outcome(&self, drawing: Drawing) -> Outcome {
        let loaded = match open(&self.file, &self.variables, GuestFiles::Ignore) {
            Ok(loaded) => loaded,
            Err(outcome) => return outcome,
        };
        if diagnostic::has_errors(&loaded.diagnostics) {
            let complaint = complaint(&loaded, drawing);
            return Outcome { answer: String::new(), complaint, code: FAILED };
        }
        match resolve::query(&loaded.tree, &loaded.options, &self.path) {
            Some(lines) => {
                let answer = lines.iter().map(|line| format!("{line}\n")).collect();
                Outcome { answer, complaint: String::new(), code: 0 }
            }
            None => {
                let complaint =
                    format!("there is nothing at {}; paths look like /host/NAME/memory\n", self.path);
                Outcome { answer: String::new(), complaint, code: FAILED }
            }
        }
    }
}
