//! The language on data files: `ok/` and `wrong/` hold projects with what must come of them beside them.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mln-protocol --test lang` writes the expected files anew. In a project file,
//! `#! --var name=value` sets a variable and `#? PATH` asks a query. Plugins are known by their manifests, and don't
//! run.

#![expect(clippy::disallowed_methods, reason = "the core does no I/O, but its tests read their cases")]

mod edit;
mod examples;
mod explain;
mod fate;
mod format;
mod golden;
mod mutation;
mod observed;
mod plan;
mod plugins;
mod rows;
mod scale;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mln_protocol::lang::{self, Diagnostic, LoadError, Made, Plugged, SourceLoader, Tree};
use mln_protocol::resolve::{self, Options, Resolved};

/// Reads files below a folder.
struct Folder(PathBuf);

impl SourceLoader for Folder {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        std::fs::read_to_string(self.0.join(path)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => LoadError::NotFound,
            std::io::ErrorKind::InvalidData => LoadError::NotText,
            kind => LoadError::Refused { reason: kind.to_string() },
        })
    }
}

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Parses and resolves; returns the diagnostics of both.
fn understand(
    path: &str,
    text: &str,
    loader: &dyn SourceLoader,
    options: &Options,
) -> (Tree, Resolved, Vec<Diagnostic>) {
    understand_plugged(path, text, loader, options, &[])
}

/// The same with what plugins have made.
fn understand_plugged(
    path: &str,
    text: &str,
    loader: &dyn SourceLoader,
    options: &Options,
    made: &[Made],
) -> (Tree, Resolved, Vec<Diagnostic>) {
    let plugged = Plugged { manifests: &plugins::Known, made };
    let (tree, mut diagnostics) = lang::parse_with(path, text.to_owned(), loader, &plugged);
    for (id, source) in tree.sources().iter() {
        assert_eq!(tree.text(id), source.text(), "the tree of {} is not lossless", source.path());
    }
    let resolved = resolve::resolve(&tree, options);
    diagnostics.extend(resolved.diagnostics.iter().cloned());
    lang::sort(&mut diagnostics);
    (tree, resolved, diagnostics)
}

fn options(variables: &[(&str, &str)]) -> Options {
    let pairs = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Options { variables: pairs.collect::<BTreeMap<_, _>>(), owner: None }
}
