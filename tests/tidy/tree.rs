//! The files of the repository, as text.

use std::fs;
use std::path::{Path, PathBuf};

/// What is not the repository's: what is built, and what version control keeps for itself.
const SKIPPED: [&str; 2] = [".git", "target"];

/// A file.
pub(crate) struct Text {
    /// Its path below the repository's root, with `/` between the parts.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// Returns the repository's root.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("this crate is a folder of the repository").to_owned()
}

/// Returns all files that are text, in the order of their paths.
pub(crate) fn texts() -> Vec<Text> {
    let root = root();
    let mut texts = Vec::new();
    walk(&root, &root, &mut texts);
    texts.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(texts.iter().any(|file| file.path == "Cargo.toml"), "{} is no repository", root.display());
    texts
}

/// Returns all Rust sources.
pub(crate) fn sources() -> Vec<Text> {
    texts().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn walk(root: &Path, folder: &Path, into: &mut Vec<Text>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of a folder of the repository").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if SKIPPED.contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, into);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("it was found below the root");
            into.push(Text { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

/// Fails with all that breaks a rule.
#[track_caller]
pub(crate) fn none_break(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}
