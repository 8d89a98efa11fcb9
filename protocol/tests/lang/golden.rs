//! Each file of `ok/` and `wrong/` against its expected file.

use std::fmt::Write;
use std::path::PathBuf;

use mln_protocol::convert;
use mln_protocol::lang::{self, Diagnostic, NoIncludes, Severity, Sources};
use mln_protocol::resolve;

use crate::{Folder, crate_folder, options, understand};

/// Returns the project files of a folder below `tests/lang`, in order.
pub(crate) fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = crate_folder().join("tests/lang").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the folder of cases is part of the repository");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mln"))
        .collect();
    cases.sort();
    cases
}

/// Returns the variables of the command line that a case asks for.
pub(crate) fn variables_of(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter_map(|line| line.strip_prefix("#! --var ")?.split_once('=')).collect()
}

fn outcome(folder: &str, name: &str, text: &str) -> (String, Vec<Diagnostic>) {
    let loader = Folder(crate_folder().join("tests/lang"));
    let options = options(&variables_of(text));
    let path = format!("{folder}/{name}");
    let (tree, resolved, diagnostics) = understand(&path, text, &loader, &options);
    let shown = convert::Shown {
        project: &resolved.project,
        mandates: &resolved.mandates,
        owner: None,
        diagnostics: &[],
        sources: tree.sources(),
        made_files: &[],
    };
    let shown = shown.to_json();

    let folded = lang::fold(&tree);
    let (_, again, new_diagnostics) = understand(&path, &folded, &NoIncludes, &options);
    if diagnostics.iter().all(|diagnostic| diagnostic.severity() == Severity::Warning) {
        assert_eq!(resolved.project, again.project, "{path}: folding changes the project");
        assert_eq!(resolved.mandates, again.mandates, "{path}: folding changes what VMs may decide");
        assert_eq!(diagnostics.len(), new_diagnostics.len(), "{path}: folding changes the diagnostics");
    }

    let mut outcome = draw(&diagnostics, tree.sources());
    for query in text.lines().filter_map(|line| line.strip_prefix("#? ")) {
        let answer = resolve::query(&tree, &options, query);
        let answer = answer.map_or("none".to_owned(), |lines| format!("{lines:?}"));
        writeln!(outcome, "{query} = {answer}").expect("a String takes all text");
    }
    outcome.push_str(&shown);
    outcome.push('\n');
    (outcome, diagnostics)
}

fn draw(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let place = |span| {
            let at = sources.position(span);
            format!("{}:{}:{} «{}»", at.path, at.line, at.column, sources.slice(span).escape_debug())
        };
        text += &format!("{} {}\n  at {}", diagnostic.code, diagnostic.message, place(diagnostic.span));
        if let Some(label) = &diagnostic.label {
            text += &format!(": {label}");
        }
        text.push('\n');
        for other in &diagnostic.others {
            text += &format!("  and {}: {}\n", place(other.span), other.text);
        }
        if let Some(fix) = &diagnostic.fix {
            text += &format!("  fix {} → «{}»\n", place(fix.span), fix.replacement);
        }
        for include in sources.chain(diagnostic.span.source) {
            text += &format!("  included at {}\n", place(include));
        }
    }
    text
}

fn check_folder(folder: &str, is_right: impl Fn(&[Diagnostic]) -> bool) {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases(folder) {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        let name = case.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (found, diagnostics) = outcome(folder, &name, &text);
        assert!(is_right(&diagnostics), "{name} belongs in the other folder:\n{found}");
        let golden = case.with_extension("expect");
        if update {
            std::fs::write(&golden, &found).expect("the repository can be written");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{name}\n--- expected\n{expected}\n--- found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn right_projects_resolve_as_expected() {
    check_folder("ok", |all| all.iter().all(|one| one.severity() == Severity::Warning));
}

#[test]
fn wrong_projects_are_explained_as_expected() {
    check_folder("wrong", |all| all.iter().any(|one| one.severity() == Severity::Error));
}
