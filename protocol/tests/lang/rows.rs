//! Every row of the reference has cases: `docs/language-reference.md` says the rules and lists the keywords, and the
//! cases of `ok/` and `wrong/` say by `#= section/rule` which of them what follows proves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use mln_protocol::lang::grammar::{self, Body, Context, Keyword, Naming, State};
use mln_protocol::lang::{Diagnostic, Node, Severity, SourceId, Span, Tree};

use crate::golden::{cases, variables_of};
use crate::{Folder, crate_folder, options, understand};

fn reference_path() -> PathBuf {
    crate_folder().join("../docs/language-reference.md")
}

fn reference() -> String {
    std::fs::read_to_string(reference_path()).expect("the reference is part of the repository")
}

/// Returns the cells of the rows of each table, with the heading that the table stands below.
fn tables(page: &str) -> Vec<(String, Vec<Vec<String>>)> {
    let mut tables: Vec<(String, Vec<Vec<String>>)> = Vec::new();
    let mut heading = String::new();
    let mut in_table = false;
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text.to_owned();
        }
        let Some(row) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            in_table = in_table && line.starts_with("|---");
            continue;
        };
        if !in_table {
            tables.push((heading.clone(), Vec::new()));
            in_table = true;
        }
        let cells = row.split(" | ").map(str::to_owned).collect();
        tables.last_mut().expect("one was begun above").1.push(cells);
    }
    tables
}

/// Returns the rows with a rule, as the cases name them: `text/raw lines`.
fn rules() -> Vec<String> {
    let tables = tables(&reference());
    let of_rules = tables.iter().filter(|(_, rows)| rows[0][0] == "rule");
    of_rules
        .flat_map(|(heading, rows)| {
            rows[1..].iter().map(|row| format!("{}/{}", heading.to_lowercase(), row[0]))
        })
        .collect()
}

/// A case that was understood.
struct Case {
    path: String,
    text: String,
    tree: Tree,
    diagnostics: Vec<Diagnostic>,
}

fn understood(folder: &str) -> Vec<Case> {
    let loader = Folder(crate_folder().join("tests/lang"));
    let read = |case: PathBuf| {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        let name = case.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = format!("{folder}/{name}");
        let (tree, _, diagnostics) = understand(&path, &text, &loader, &options(&variables_of(&text)));
        Case { path, text, tree, diagnostics }
    };
    cases(folder).into_iter().map(read).collect()
}

/// Returns the rules that a case names, each with the bytes up to the next one.
fn marks(text: &str) -> Vec<(&str, std::ops::Range<usize>)> {
    let starts: Vec<usize> = text.match_indices("#= ").map(|(at, _)| at).collect();
    let ends = starts.iter().copied().skip(1).chain([text.len()]);
    let name = |start: usize| text[start + 3..].lines().next().unwrap_or_default().trim();
    starts.iter().zip(ends).map(|(&start, end)| (name(start), start..end)).collect()
}

/// Returns the place in the project file of what a diagnostic is about.
fn root_span(tree: &Tree, span: Span) -> Span {
    tree.sources().chain(span.source).last().unwrap_or(span)
}

#[test]
fn every_rule_has_a_right_and_a_wrong_case_and_every_case_a_rule() {
    let rules: BTreeSet<String> = rules().into_iter().collect();
    assert!(rules.len() > 50, "only {} rules were found", rules.len());
    let mut astray = Vec::new();
    let mut proven: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for folder in ["ok", "wrong"] {
        for Case { path, text, tree, diagnostics } in understood(folder) {
            for (rule, range) in marks(&text) {
                if !rules.contains(rule) {
                    astray.push(format!("{path} names `{rule}`, which is no rule of the reference"));
                }
                let errors = diagnostics.iter().filter(|one| one.severity() == Severity::Error);
                let is_refused = errors
                    .map(|one| root_span(&tree, one.span))
                    .any(|span| range.contains(&(span.start as usize)));
                if folder == "wrong" && !is_refused {
                    astray.push(format!("{path}: nothing is wrong behind `#= {rule}`"));
                }
                proven.entry(folder).or_default().insert(rule.to_owned());
            }
        }
    }
    for folder in ["ok", "wrong"] {
        let there = proven.remove(folder).unwrap_or_default();
        astray.extend(rules.difference(&there).map(|rule| format!("`{rule}` has no case in {folder}/")));
    }
    assert!(astray.is_empty(), "{}", astray.join("\n"));
}

/// Every keyword, with the kind of block it stands in.
fn all_keywords() -> impl Iterator<Item = (Context, &'static Keyword)> {
    Context::ALL
        .into_iter()
        .flat_map(|context| grammar::keywords(context).iter().map(move |one| (context, one)))
}

/// Collects the keywords that a text has, each with the bytes that are its own.
fn keywords_in(
    tree: &Tree,
    nodes: &[Node],
    context: Context,
    found: &mut Vec<(Context, &'static str, Span)>,
) {
    for node in tree.through_includes(nodes) {
        let (words, span, inside) = match node {
            Node::Statement(statement) => (&statement.words, statement.span, None),
            Node::Block(block) => (&block.words, block.span, Some(block)),
            _ => continue,
        };
        let Some(keyword) = words.first().and_then(|&word| grammar::keyword(context, tree.word(word))) else {
            continue;
        };
        match (inside, keyword.block.map(|form| form.body)) {
            (Some(block), Some(Body::Keywords(inner))) => {
                found.push((context, keyword.word, block.head));
                keywords_in(tree, &block.nodes, inner, found);
            }
            _ => found.push((context, keyword.word, span)),
        }
    }
}

#[test]
fn every_keyword_has_a_right_and_a_wrong_case() {
    let mut astray = Vec::new();
    for folder in ["ok", "wrong"] {
        let mut there: BTreeSet<(Context, &str)> = BTreeSet::new();
        for Case { tree, diagnostics, .. } in understood(folder) {
            let mut found = Vec::new();
            keywords_in(&tree, tree.nodes(SourceId::ROOT), Context::Top, &mut found);
            let is_wrong = |span: Span| {
                diagnostics.iter().filter(|one| one.severity() == Severity::Error).any(|one| {
                    one.span.source == span.source
                        && span.start <= one.span.start
                        && one.span.start < span.end
                })
            };
            there.extend(
                found
                    .iter()
                    .filter(|(.., span)| folder == "ok" || is_wrong(*span))
                    .map(|&(at, word, _)| (at, word)),
            );
        }
        astray.extend(
            all_keywords() // What is refused cannot be in a right one.
                .filter(|(_, keyword)| folder == "wrong" || keyword.state != State::Refused)
                .filter(|(context, keyword)| !there.contains(&(*context, keyword.word)))
                .map(|(context, keyword)| {
                    format!("`{}` {} has no case in {folder}/", keyword.word, context.place())
                }),
        );
    }
    assert!(astray.is_empty(), "{}", astray.join("\n"));
}

/// Returns what a keyword looks like.
fn shape(keyword: &Keyword) -> String {
    let mut shapes = Vec::new();
    if keyword.value {
        shapes.push(format!("`{} …`", keyword.word));
    }
    if keyword.flag {
        shapes.push(format!("`{}`", keyword.word));
    }
    if let Some(form) = keyword.block {
        let name = match form.naming {
            Naming::None => "",
            Naming::Optional => " [NAME]",
            Naming::Required => " NAME",
        };
        shapes.push(format!("`{}{name} {{ }}`", keyword.word));
    }
    shapes.join(", ")
}

/// Returns a table of all keywords, as the reference has it.
fn keyword_tables() -> String {
    let mut text = String::new();
    for context in Context::ALL {
        write!(
            text,
            "## Keywords {}\n\n| keyword | another word for | on User-Mode Linux |\n|---|---|---|\n",
            context.place()
        )
        .expect("a String takes all text");
        for keyword in grammar::keywords(context) {
            let other = match keyword.canonical {
                canonical if canonical == keyword.word || canonical == "platform" => "".to_owned(),
                canonical => format!("`{canonical}`"),
            };
            writeln!(text, "| {} | {other} | {} |", shape(keyword), keyword.state.words())
                .expect("a String takes all text");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

#[test]
fn the_reference_lists_every_keyword_with_what_becomes_of_it() {
    let page = reference();
    let at = page.find("## Keywords").unwrap_or(page.len());
    let expected = keyword_tables();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let page = format!("{}{expected}", &page[..at]);
        std::fs::write(reference_path(), page).expect("the repository can be written");
        return;
    }
    assert_eq!(&page[at..], expected, "`UPDATE_GOLDEN=1 cargo test` writes the table anew");
}
