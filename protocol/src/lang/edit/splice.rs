//! Pieces of text that are put into blocks, or taken out: in the layout of what stands around them.

use super::path::{Leaf, Step};
use super::{EditError, Setting, keyword_and_value, variable_value};
use crate::lang::diagnostic::Fix;
use crate::lang::source::{SourceId, Span, offset};
use crate::lang::tree::{Block, Node, Tree};

/// Something to be put in.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Statement(String),
    Block { head: String, inside: Vec<Item> },
}

/// How far a block is indented where nothing shows how.
const INDENT: &str = "    ";

impl Item {
    pub(super) fn block(head: String) -> Self {
        Self::Block { head, inside: Vec::new() }
    }

    /// Returns the statement that makes a setting.
    pub(super) fn of(leaf: Leaf<'_>, setting: &Setting) -> Result<Self, EditError> {
        if let Leaf::Variable(name) = leaf {
            return Ok(Self::Statement(format!("${name} = {}", variable_value(name, setting)?)));
        }
        let (keyword, value) = keyword_and_value(leaf, setting)?;
        Ok(Self::Statement(
            value.map_or(keyword.word.to_owned(), |value| format!("{} {value}", keyword.word)),
        ))
    }

    /// Adds an item in the block that steps lead to from this one; makes blocks that are not there.
    pub(super) fn add(&mut self, steps: &[Step<'_>], item: Self) {
        let Self::Block { inside, .. } = self else { return };
        let Some((step, rest)) = steps.split_first() else { return inside.push(item) };
        let wanted = step.head();
        let there =
            inside.iter_mut().position(|inner| matches!(inner, Self::Block { head, .. } if *head == wanted));
        let at = there.unwrap_or(inside.len());
        if at == inside.len() {
            inside.push(Self::block(wanted));
        }
        inside[at].add(rest, item);
    }

    fn on_one_line(&self) -> String {
        match self {
            Self::Statement(text) => text.clone(),
            Self::Block { head, inside } if inside.is_empty() => format!("{head} {{ }}"),
            Self::Block { head, inside } => {
                let inside: Vec<String> = inside.iter().map(Self::on_one_line).collect();
                format!("{head} {{ {} }}", inside.join("; "))
            }
        }
    }

    /// Returns it with a line for each statement; the first line is not indented.
    fn on_lines(&self, indent: &str, newline: &str) -> String {
        match self {
            Self::Block { head, inside } if !inside.is_empty() => {
                let inner = format!("{indent}{INDENT}");
                let lines: String = inside
                    .iter()
                    .map(|item| format!("{newline}{inner}{}", item.on_lines(&inner, newline)))
                    .collect();
                format!("{head} {{{lines}{newline}{indent}}}")
            }
            Self::Block { .. } | Self::Statement(_) => self.on_one_line(),
        }
    }
}

/// Returns the change that adds a block behind everything.
pub(super) fn at_end_of_file(tree: &Tree, item: &Item) -> Fix {
    let text = tree.sources().get(SourceId::ROOT).text();
    let newline = newline_of(text);
    let end = offset(text.len());
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { newline };
    let empty_line = if text.trim().is_empty() { "" } else { newline };
    let replacement = format!("{gap}{empty_line}{}{newline}", item.on_lines("", newline));
    Fix { span: Span { source: SourceId::ROOT, start: end, end }, replacement }
}

/// Returns the change that adds something to a block: a statement behind the last one, a block behind everything.
pub(super) fn into_block(tree: &Tree, block: &Block, item: &Item) -> Fix {
    let text = tree.sources().get(block.span.source).text();
    let place = |at: u32| Span { source: block.span.source, start: at, end: at };
    let is_anchor = |node: &&Node| match item {
        Item::Statement(_) => matches!(node, Node::Statement(_)),
        Item::Block { .. } => !matches!(node, Node::Blank(_) | Node::Comment(_)),
    };
    let is_empty = block.nodes.iter().all(|node| matches!(node, Node::Blank(_)));
    let inside = Span {
        start: block.head.end,
        end: block.close.map_or(block.span.end, |close| close.start),
        ..block.head
    };
    if is_empty && !tree.sources().slice(inside).contains('\n') {
        return Fix { span: inside, replacement: format!(" {} ", item.on_one_line()) };
    }
    let anchor = block.nodes.iter().rev().find(is_anchor);
    let at = anchor.map_or(block.head.end, |node| node.span().end);
    if let Some(line_end) = end_of_line_behind(text, at as usize) {
        let newline = newline_of(text);
        let indent = anchor
            .and_then(|node| lead(text, node.span()))
            .or_else(|| {
                block
                    .nodes
                    .iter()
                    .filter(|node| !matches!(node, Node::Blank(_)))
                    .find_map(|node| lead(text, node.span()))
            })
            .map_or_else(|| format!("{}{INDENT}", line_lead(text, block.head)), str::to_owned);
        let replacement = format!("{newline}{indent}{}", item.on_lines(&indent, newline));
        return Fix { span: place(offset(line_end)), replacement };
    }
    let item = item.on_one_line();
    let replacement = match anchor {
        None => format!(" {item};"),
        Some(Node::Statement(_)) => format!("; {item}"),
        Some(_) => format!(" {item}"),
    };
    Fix { span: place(at), replacement }
}

/// Returns the change that takes something out: with its line, if nothing else stands on it.
pub(super) fn removal(tree: &Tree, span: Span) -> Fix {
    let text = tree.sources().get(span.source).text();
    let (start, end) = (span.start as usize, span.end as usize);
    let behind = &text[end..];
    let after_blanks = behind.trim_start_matches(BLANKS);
    let after = after_blanks.strip_prefix(';').map_or(after_blanks, |rest| rest.trim_start_matches(BLANKS));
    let after_at = text.len() - after.len();
    let before = text[..start].trim_end_matches(BLANKS);
    let is_first_on_line = before.is_empty() || before.ends_with('\n');
    let is_last_on_line = after.is_empty() || after.starts_with('\n');
    let (start, end) = match (is_first_on_line, is_last_on_line) {
        (true, true) => (before.len(), (after_at + 1).min(text.len())),
        (true, false) => (start, after_at),
        // The end of the line stays, with its carriage return.
        (false, true) => (before.len(), end + after_blanks_and_semicolon(behind)),
        (false, false) => (start, after_at),
    };
    Fix {
        span: Span { source: span.source, start: offset(start), end: offset(end) },
        replacement: String::new(),
    }
}

/// Blanks within a line.
const BLANKS: [char; 5] = [' ', '\t', '\r', '\x0b', '\x0c'];

fn after_blanks_and_semicolon(behind: &str) -> usize {
    let line = behind.split('\n').next().unwrap_or_default();
    line.trim_end_matches('\r').len()
}

/// Returns where the line ends, if nothing but a semicolon or a comment stands there behind a place.
fn end_of_line_behind(text: &str, at: usize) -> Option<usize> {
    let line = &text[at..at + text[at..].find('\n')?];
    let rest = line.trim_start_matches(BLANKS);
    let rest = rest.strip_prefix(';').unwrap_or(rest).trim_start_matches(BLANKS);
    (rest.is_empty() || rest.starts_with('#')).then(|| at + line.trim_end_matches('\r').len())
}

/// Returns the blanks before something that is the first on its line.
fn lead(text: &str, span: Span) -> Option<&str> {
    let before = &text[..span.start as usize];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(&before[start..]).filter(|lead| lead.trim_matches(BLANKS).is_empty())
}

/// Returns the blanks that the line of something begins with.
fn line_lead(text: &str, span: Span) -> &str {
    let start = text[..span.start as usize].rfind('\n').map_or(0, |newline| newline + 1);
    let line = &text[start..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

fn newline_of(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}
