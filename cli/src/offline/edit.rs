//! `mlnctl edit`: changes of a project file that leave all else alone.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mln_protocol::convert;
use mln_protocol::lang::{self, Edit, Severity};

use super::{FAILED, Variables, complaint, failure, open_text, write_back};
use crate::project_file::{LoadedProject, load_rewritten};
use crate::ui::diagnostic::Drawing;
use crate::ui::outcome::Outcome;
use crate::ui::rewritten;

/// Change a project file.
#[derive(Clone, Debug, Args)]
pub struct EditFile {
    /// The project file.
    #[arg(short = 'f', long = "file", env = "MLN_FILE", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    variables: Variables,
    #[command(subcommand)]
    change: Change,
}

/// What to change.
#[derive(Clone, Debug, Subcommand)]
enum Change {
    /// Set a keyword or a variable: /host/web/memory 96M, /global/$net 10.20.0.
    Set {
        /// Where, as in `mlnctl query`.
        #[arg(value_name = "PATH")]
        path: String,
        /// Its value; none for a flag.
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: Option<String>,
    },
    /// Take out what a block says about a keyword, or a whole block: /host/web/memory, /host/web.
    Unset {
        /// Where, as in `mlnctl query`.
        #[arg(value_name = "PATH")]
        path: String,
    },
    /// Add a host at the end of the file: add host web2 superclass=web network/eth0/switch=lan.
    #[command(subcommand)]
    Add(Addition),
    /// Say how many hosts an enumeration makes.
    Scale {
        /// The enumeration's name, or its superclass.
        #[arg(value_name = "CLASS")]
        class: String,
        /// How many hosts.
        #[arg(value_name = "N")]
        count: u32,
    },
}

/// What to add.
#[derive(Clone, Debug, Subcommand)]
enum Addition {
    /// Add a host at the end of the file.
    Host {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        /// What it has: KEYWORD=VALUE, BLOCK/NAME/KEYWORD=VALUE, or a flag's keyword alone.
        #[arg(value_name = "KEYWORD=VALUE")]
        settings: Vec<String>,
    },
}

impl From<&Change> for Edit {
    fn from(change: &Change) -> Self {
        match change {
            Change::Set { path, value } => {
                Self::Set(lang::Setting { path: path.clone(), value: value.clone() })
            }
            Change::Unset { path } => Self::Unset { path: path.clone() },
            Change::Scale { class, count } => Self::Scale { class: class.clone(), count: *count },
            Change::Add(Addition::Host { name, settings }) => Self::AddHost {
                name: name.clone(),
                settings: settings.iter().map(|setting| parse_setting(setting)).collect(),
            },
        }
    }
}

fn parse_setting(text: &str) -> lang::Setting {
    match text.split_once('=') {
        Some((path, value)) => lang::Setting { path: path.to_owned(), value: Some(value.to_owned()) },
        None => lang::Setting { path: text.to_owned(), value: None },
    }
}

impl EditFile {
    pub(super) fn outcome(&self, json: bool, drawing: Drawing) -> Outcome {
        self.try_outcome(json, drawing).unwrap_or_else(|outcome| outcome)
    }

    fn try_outcome(&self, json: bool, drawing: Drawing) -> Result<Outcome, Outcome> {
        let loaded = open_text(&self.file, &self.variables)?;
        let changes = lang::edit(&loaded.tree, &Edit::from(&self.change)).map_err(|error| failure(&error))?;
        let files = lang::rewrite(loaded.tree.sources(), changes);
        let after =
            load_rewritten(&self.file, self.variables.by_name(), &files).map_err(|error| failure(&error))?;
        if errors(&after) > errors(&loaded) {
            let mut complaint = complaint(&after, drawing);
            complaint +=
                &format!("error: {} is as it was: this change would make it wrong\n", self.file.display());
            return Err(Outcome { answer: String::new(), complaint, code: FAILED });
        }
        write_back(&files)?;
        let sources = loaded.tree.sources();
        let answer = if json {
            convert::rewritten_json(&files, sources, &after.diagnostics, after.tree.sources()) + "\n"
        } else if files.is_empty() {
            format!("{}: nothing to change\n", self.file.display())
        } else {
            rewritten::describe(&files, sources)
        };
        Ok(Outcome { answer, ..Outcome::default() })
    }
}

fn errors(loaded: &LoadedProject) -> usize {
    loaded.diagnostics.iter().filter(|one| one.severity() == Severity::Error).count()
}
