//! Plugins: found, read, run, and their answers put into the project.
//!
//! ```text
//! project file ──names──▶ Shelf: manifests ──words──▶ parse ──▶ resolve ──▶ process: JSON in, JSON out
//!                                                       ▲                        │
//!                                                       └── text of the language ┘   files for guests
//! ```
//!
//! A plugin is a program of the user's. It runs here, where a project is submitted, and nowhere else: what it makes is
//! text and files. Which ones run stands in the project; whether they may, is for [`shelf`] to say.

mod manifest;
mod process;
mod shelf;

use mln_protocol::convert;
use mln_protocol::lang::{self, Code, Diagnostic, Made, NamedPlugin, Plugged, Severity, SourceLoader, Tree};
use mln_protocol::resolve::{self, Options, PluginFile, Resolved};

pub use process::RUN_TIME_MAX;
pub use shelf::{Allowed, Shelf};

/// Whether plugins run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugins {
    /// They do, as far as they may.
    Run(Allowed),
    /// Only their words count: for what is done to the text alone.
    Read,
}

/// A project with what its plugins have made of it.
#[derive(Debug)]
pub struct Understood {
    /// The project's tree, with what plugins have made.
    pub tree: Tree,
    /// The project.
    pub resolved: Resolved,
    /// All that is wrong, what plugins say included; not in order.
    pub diagnostics: Vec<Diagnostic>,
    /// The files for guests that plugins have made.
    pub files: Vec<PluginFile>,
}

/// Parses and resolves a project, and runs its plugins, each on what the one before it has left.
///
/// None runs on a project with an error: what is wrong is said first.
pub fn understand(
    path: &str,
    text: String,
    loader: &dyn SourceLoader,
    options: &Options,
    shelf: &Shelf,
    plugins: Plugins,
) -> Understood {
    let mut made: Vec<Made> = Vec::new();
    let mut files: Vec<PluginFile> = Vec::new();
    let mut remarks: Vec<Diagnostic> = Vec::new();
    let read = |text: String, made: &[Made]| {
        let (tree, mut diagnostics) =
            lang::parse_with(path, text, loader, &Plugged { manifests: shelf, made });
        let resolved = resolve::resolve(&tree, options);
        diagnostics.extend(resolved.diagnostics.iter().cloned());
        (tree, resolved, diagnostics)
    };
    let (mut tree, mut resolved, mut diagnostics) = read(text.clone(), &made);
    let mut next = 0;
    // There is one round for each plugin that the file names, and their number is limited.
    while let (Plugins::Run(allowed), Some(plugin)) = (plugins, tree.claims().plugins().get(next)) {
        if has_errors(&diagnostics) || has_errors(&remarks) {
            break;
        }
        match answer(plugin, next, &resolved, shelf, allowed) {
            Ok(Answered { made: one, files: more, diagnostics: said }) => {
                remarks.extend(said);
                files.extend(more);
                if !one.text.is_empty() {
                    made.push(one);
                    (tree, resolved, diagnostics) = read(text.clone(), &made);
                }
            }
            Err(diagnostic) => remarks.push(*diagnostic),
        }
        next += 1;
    }
    diagnostics.extend(remarks);
    Understood { tree, resolved, diagnostics, files }
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|one| one.severity() == Severity::Error)
}

/// What came of a plugin.
struct Answered {
    made: Made,
    files: Vec<PluginFile>,
    diagnostics: Vec<Diagnostic>,
}

/// Runs a plugin on a project, and reads its answer.
fn answer(
    plugin: &NamedPlugin,
    index: usize,
    resolved: &Resolved,
    shelf: &Shelf,
    allowed: Allowed,
) -> Result<Answered, Box<Diagnostic>> {
    let failed = |code: Code, message: String, label: &str| {
        let message = format!("the plugin `{}` {message}", plugin.name);
        Box::new(Diagnostic::new(code, plugin.span, message).label(label))
    };
    let program = shelf.program(&plugin.name).map_err(|error| {
        failed(Code::PluginUnusable, format!("cannot be used: {error}"), "see `mlnctl explain E0902`")
    })?;
    if program.is_beside_project && allowed == Allowed::Installed {
        let message =
            format!("is not allowed to run: it came with the project, in {}", program.path.display());
        return Err(failed(Code::PluginForbidden, message, "if you trust it: --allow-plugins"));
    }
    let request = convert::plugin_request(plugin, index, resolved);
    let what = program.path.display();
    let text = process::run(&program.path, shelf.project_folder(), request).map_err(|error| {
        failed(Code::PluginFailed, format!("failed: {what} {error}"), "the project was not changed by it")
    })?;
    let unread = |reason: String| {
        failed(Code::PluginFailed, format!("failed: {what}: {reason}"), "see docs/plugins.md")
    };
    let answer = convert::plugin_answer(&text).map_err(|error| unread(error.to_string()))?;
    let (made, files) = answer.made(&plugin.name).map_err(|error| unread(error.to_string()))?;
    let diagnostics = answer.diagnostics(plugin, index, resolved);
    Ok(Answered { made, files, diagnostics })
}
