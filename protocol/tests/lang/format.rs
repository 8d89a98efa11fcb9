//! Laying out any project: what it says and its comments stay, and doing it again changes nothing.

use mln_protocol::lang::{self, Code, Diagnostic, NoIncludes, Node, SourceId, SourceLoader, Span, Tree};

use crate::golden::cases;
use crate::mutation::{Numbers, damaged};
use crate::{Folder, crate_folder, options, understand};

/// Returns what a layout must keep, in order: words, raw lines, braces and comments; blanks are left out.
fn substance(tree: &Tree) -> (Vec<String>, Vec<String>) {
    let (mut words, mut comments) = (Vec::new(), Vec::new());
    collect(tree, tree.nodes(SourceId::ROOT), &mut words, &mut comments);
    (words, comments)
}

fn collect(tree: &Tree, nodes: &[Node], words: &mut Vec<String>, comments: &mut Vec<String>) {
    let text = |span: Span| tree.sources().slice(span).trim_end().to_owned();
    for node in nodes {
        match node {
            Node::Blank(_) => {}
            Node::Comment(span) => comments.push(text(*span)),
            Node::Include(include) => words.push(text(include.span)),
            Node::Skipped(span) => words.push(text(*span)),
            Node::RawLine(raw) => words.push(text(raw.span)),
            Node::Statement(statement) => {
                words.extend(statement.words.iter().map(|&word| tree.word(word).to_owned()));
            }
            Node::Block(block) => {
                words.extend(block.words.iter().map(|&word| tree.word(word).to_owned()));
                words.push("{".to_owned());
                let start = block.words.last().map_or(block.head.start, |word| word.span.end);
                let gap = text(Span { start, ..block.head });
                let in_head = gap.lines().map(str::trim).filter(|line| line.starts_with('#'));
                comments.extend(in_head.map(str::to_owned));
                collect(tree, &block.nodes, words, comments);
                words.push("}".to_owned());
            }
        }
    }
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<Code> {
    diagnostics.iter().map(|one| one.code).collect()
}

/// Checks a text; returns whether it could be laid out.
fn check(path: &str, text: &str, loader: &dyn SourceLoader) -> bool {
    let options = options(&[("n", "2")]);
    let (tree, resolved, diagnostics) = understand(path, text, loader, &options);
    let Ok(formatted) = lang::format(&tree, &diagnostics) else { return false };
    let (new_tree, new_resolved, new_diagnostics) = understand(path, &formatted, loader, &options);
    let told = format!("{path}\n--- before\n{text}\n--- after\n{formatted}\n---");
    assert_eq!(substance(&tree), substance(&new_tree), "{told}");
    assert_eq!(resolved.project, new_resolved.project, "{told}");
    assert_eq!(codes(&diagnostics), codes(&new_diagnostics), "{told}");
    assert_eq!(lang::format(&new_tree, &new_diagnostics).as_deref(), Ok(&*formatted), "{told}");
    true
}

#[test]
fn a_layout_keeps_what_a_project_says_and_is_final() {
    let loader = Folder(crate_folder().join("tests/lang"));
    let mut laid_out = 0;
    for folder in ["ok", "wrong"] {
        for case in cases(folder) {
            let text = std::fs::read_to_string(&case).expect("cases are text");
            let name = case.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            laid_out += usize::from(check(&format!("{folder}/{name}"), &text, &loader));
        }
    }
    assert!(laid_out > 20, "only {laid_out} cases could be laid out");
}

#[test]
fn a_layout_keeps_what_damaged_projects_say_and_is_final() {
    let mut numbers = Numbers(2);
    let mut laid_out = 0;
    for case in cases("ok").into_iter().chain(cases("wrong")) {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        for _ in 0..200 {
            laid_out += usize::from(check("x.mln", &damaged(&text, &mut numbers), &NoIncludes));
        }
    }
    assert!(laid_out > 1_000, "only {laid_out} texts could be laid out: the test damages too much");
}
