//! The one way to lay out a project file.
//!
//! Each statement has its line, four blanks for each block around it, one blank between words. What people decide
//! stays theirs: comments, empty lines (one of several), values over several lines, whether a block stands on one
//! line, and how lines of a raw block are indented among themselves. Blocks that nobody here can read (a plugin's,
//! or unknown ones) stay byte for byte. What the text means never changes: its words and raw lines are the same.

use super::code::Code;
use super::diagnostic::Diagnostic;
use super::grammar::Body;
use super::source::{SourceId, Span};
use super::tree::{Block, Include, Node, Statement, Tree, Word};

/// Returns the project file in its usual layout; included files are not looked at.
///
/// A text that could not be read to its end, such as one with an open block, is not laid out: the first diagnostic
/// that says so is returned. Formatting what was formatted changes nothing.
pub fn format<'d>(tree: &Tree, diagnostics: &'d [Diagnostic]) -> Result<String, &'d Diagnostic> {
    let damage = diagnostics.iter().find(|one| one.span.source == SourceId::ROOT && is_damage(one.code));
    if let Some(damage) = damage {
        return Err(damage);
    }
    let mut layout = Layout { tree, text: String::new(), line: Line::Empty };
    let nodes = tree.nodes(SourceId::ROOT);
    layout.nodes(nodes, 0, Opening::File);
    let source = tree.sources().get(SourceId::ROOT).text();
    // Behind a last backslash a line's end would be taken as a part of the value.
    let ends_in_backslash = source.ends_with('\\') && matches!(nodes.last(), Some(Node::Statement(_)));
    if !layout.text.is_empty() && !ends_in_backslash {
        layout.text.push('\n');
    }
    Ok(layout.text)
}

/// Whether a mistake leaves open where blocks and words begin and end.
fn is_damage(code: Code) -> bool {
    matches!(code, Code::QuoteOpen | Code::BlockOpen | Code::BlockNameless | Code::NestingDeep)
}

/// How far each block is indented.
const INDENT: &str = "    ";

struct Layout<'t> {
    tree: &'t Tree,
    text: String,
    line: Line,
}

/// What stands on the line that is being written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    /// Something that a comment may follow.
    Open,
    /// A comment: nothing can follow.
    Closed,
}

/// What nodes stand behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// The beginning of the file.
    File,
    /// The brace of their block.
    Brace,
}

impl<'t> Layout<'t> {
    fn slice(&self, span: Span) -> &'t str {
        self.tree.sources().slice(span)
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.line = Line::Open;
    }

    /// Begins a line, unless one has just been begun.
    fn begin_line(&mut self, depth: usize) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&INDENT.repeat(depth));
        self.line = Line::Empty;
    }

    /// Writes a comment behind what stands on the line, or on a line of its own.
    fn comment(&mut self, comment: &str, is_behind: bool, depth: usize) {
        if is_behind && self.line == Line::Open {
            self.text.push(' ');
        } else {
            self.begin_line(depth);
        }
        self.push(comment.trim_end());
        self.line = Line::Closed;
    }

    /// Writes nodes, each on its line.
    fn nodes(&mut self, nodes: &'t [Node], depth: usize, opening: Opening) {
        let mut newlines = 0;
        let mut is_first = true;
        for node in nodes {
            if let Node::Blank(span) = node {
                newlines = self.slice(*span).matches('\n').count();
                continue;
            }
            if newlines > 1 && !is_first {
                self.text.push('\n');
            }
            let is_behind = newlines == 0 && !(is_first && opening == Opening::File);
            (newlines, is_first) = (0, false);
            if let Node::Comment(span) = node {
                self.comment(self.slice(*span), is_behind, depth);
                continue;
            }
            self.begin_line(depth);
            self.node(node, depth);
        }
    }

    fn node(&mut self, node: &'t Node, depth: usize) {
        match node {
            Node::Statement(statement) => self.statement(statement, depth),
            Node::Block(block) => self.block(block, depth),
            Node::Include(include) => self.include(include),
            Node::RawLine(raw) => self.push(self.slice(raw.span)),
            Node::Comment(span) | Node::Skipped(span) => self.push(self.slice(*span)),
            Node::Blank(_) => {}
        }
    }

    fn include(&mut self, include: &Include) {
        let written = self.slice(include.span);
        let trimmed = written.trim_end();
        // Without its path it would be a comment.
        self.push(if trimmed == "#include" { written } else { trimmed });
        self.line = Line::Closed;
    }

    fn statement(&mut self, statement: &Statement, depth: usize) {
        self.words(&statement.words, depth);
        // A carriage return behind a backslash would join this line with the next one.
        if self.text.ends_with('\r') {
            self.text.push(';');
        }
    }

    /// Writes words with one blank between them, on the lines on which they were.
    fn words(&mut self, words: &[Word], depth: usize) {
        let mut before: Option<Word> = None;
        for &word in words {
            let gap = before.map(|before| Span { start: before.span.end, end: word.span.start, ..word.span });
            match gap {
                None => {}
                Some(gap) if self.slice(gap).contains('\n') => {
                    self.text.push_str(" \\\n");
                    self.text.push_str(&INDENT.repeat(depth + 1));
                }
                Some(_) => self.text.push(' '),
            }
            self.push(self.tree.word(word));
            before = Some(word);
        }
    }

    fn block(&mut self, block: &'t Block, depth: usize) {
        let is_empty = block.nodes.iter().all(|node| matches!(node, Node::Blank(_)));
        if block.body == Body::Free && !is_empty {
            return self.push(self.slice(block.span));
        }
        self.words(&block.words, depth);
        self.push(" {");
        if !self.slice(block.span).contains('\n') {
            return self.inside_of_line(block, depth);
        }
        let mut has_comments = false;
        for comment in self.head_comments(block) {
            self.comment(comment, !has_comments, depth + 1);
            has_comments = true;
        }
        if is_empty && !has_comments {
            return self.push(" }");
        }
        if block.body == Body::Raw {
            self.raw_lines(&block.nodes, depth + 1);
        } else {
            self.nodes(&block.nodes, depth + 1, Opening::Brace);
        }
        self.begin_line(depth);
        self.push("}");
    }

    /// Returns the comments between a block's words and its brace.
    fn head_comments(&self, block: &Block) -> impl Iterator<Item = &'t str> + use<'t> {
        let start = block.words.last().map_or(block.head.start, |word| word.span.end);
        let gap = self.slice(Span { start, ..block.head });
        gap.lines().map(str::trim_start).filter(|line| line.starts_with('#'))
    }

    /// Writes what is in a block that stands on one line, and its end.
    fn inside_of_line(&mut self, block: &'t Block, depth: usize) {
        let mut before: Option<&Node> = None;
        for node in block.nodes.iter().filter(|node| !matches!(node, Node::Blank(_))) {
            self.push(match before {
                Some(Node::Statement(_) | Node::RawLine(_)) => "; ",
                _ => " ",
            });
            self.node(node, depth);
            before = Some(node);
        }
        self.push(" }");
    }

    /// Writes the lines of a raw block, which keep what they are indented beyond the least indented of them.
    fn raw_lines(&mut self, nodes: &'t [Node], depth: usize) {
        let lead = |node: &Node| {
            let text = self.tree.sources().get(SourceId::ROOT).text();
            let before = &text[..node.span().start as usize];
            let start = before.rfind('\n').map_or(0, |newline| newline + 1);
            // The first line may stand behind the brace.
            Some(&before[start..]).filter(|lead| lead.trim().is_empty())
        };
        let lines = || nodes.iter().filter(|node| !matches!(node, Node::Blank(_)));
        let shared = lines().filter_map(lead).reduce(shared_start).unwrap_or_default();
        let mut newlines = 0;
        let mut is_first = true;
        for node in nodes {
            if let Node::Blank(span) = node {
                newlines = self.slice(*span).matches('\n').count();
                continue;
            }
            if newlines > 1 && !is_first {
                self.text.push('\n');
            }
            let is_behind_brace = is_first && newlines == 0;
            (newlines, is_first) = (0, false);
            if let (Node::Comment(span), true) = (node, is_behind_brace) {
                self.comment(self.slice(*span), true, depth);
                continue;
            }
            let further = lead(node).and_then(|lead| lead.strip_prefix(shared)).unwrap_or_default();
            self.begin_line(depth);
            self.text.push_str(further);
            match node {
                Node::Comment(span) => self.push(self.slice(*span).trim_end()),
                node => self.node(node, depth),
            }
        }
    }
}

/// Returns what two texts of blanks begin with.
fn shared_start<'t>(a: &'t str, b: &str) -> &'t str {
    let length = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    &a[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{NoIncludes, parse};

    fn formatted(text: &str) -> Result<String, Code> {
        let (tree, diagnostics) = parse("p.mln", text.to_owned(), &NoIncludes);
        format(&tree, &diagnostics).map_err(|damage| damage.code)
    }

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let once = formatted(text).expect("nothing is open");
        assert_eq!(once, expect);
        assert_eq!(formatted(&once).as_deref(), Ok(expect), "formatted twice");
    }

    #[test]
    fn statements_have_a_line_each_and_blocks_are_indented() {
        check(
            "host  a{ memory   64M\n size 2G;vcpus 1 }",
            "host a {\n    memory 64M\n    size 2G\n    vcpus 1\n}\n",
        );
        check("\n\n\nglobal{project p}\n\n\n\nswitch s{\n}\n\n", "global { project p }\n\nswitch s { }\n");
        check("host a {\nusers{a b;c d}}", "host a {\n    users { a b; c d }\n}\n");
        check("", "");
        check(" \r\n", "");
    }

    #[test]
    fn comments_stay_where_they_are() {
        check(
            "# a\n\n#b  \nhost a { # c\n#d\numl# e\n\n\n# f\n}# g",
            "# a\n\n#b\nhost a { # c\n    #d\n    uml # e\n\n    # f\n} # g\n",
        );
        check(
            "host a # one\n# two\n{ # three\numl }",
            "host a { # one\n    # two\n    # three\n    uml\n}\n",
        );
        check("global { project p\n} # x\n# y", "global {\n    project p\n} # x\n# y\n");
    }

    #[test]
    fn values_over_several_lines_stay_so() {
        check(
            "host a {\numl; extra a  \\\n b\\\r\nc\n}",
            "host a {\n    uml\n    extra a \\\n        b \\\n        c\n}\n",
        );
        check("host a { extra \"a  b\" c\\  }", "host a { extra \"a  b\" c\\  }\n");
    }

    #[test]
    fn raw_lines_keep_their_indentation_among_themselves() {
        check(
            "host a {\nstartup { echo one\n  if x; then\n\ty  z\n  fi\n}\n}",
            "host a {\n    startup {\n        echo one\n          if x; then\n        \ty  z\n          fi\n    }\n}\n",
        );
        check(
            "host a {\nstartup {\n  f() {\n    g \"}\"\n  } # h\n\n\n  # i\n }\n}",
            "host a {\n    startup {\n        f() {\n          g \"}\"\n        } # h\n\n        # i\n    }\n}\n",
        );
        check("host a { startup {  x;  y } }", "host a { startup { x;  y } }\n");
    }

    #[test]
    fn what_nobody_can_read_stays_as_it_is() {
        check("plugin  p {\n   a   b{\n c}\n}", "plugin  p {\n   a   b{\n c}\n}\n");
        check("host a {\numl{}\nkvm{  a  }\n}", "host a {\n    uml { }\n    kvm{  a  }\n}\n");
    }

    #[test]
    fn open_blocks_and_quotation_marks_are_not_laid_out() {
        assert_eq!(formatted("host a {\n"), Err(Code::BlockOpen));
        assert_eq!(formatted("host a { extra \"b }"), Err(Code::QuoteOpen));
        assert_eq!(formatted("{ }"), Err(Code::BlockNameless));
        assert_eq!(formatted("host a { } }\n"), Ok("host a { }\n}\n".to_owned()));
    }
}
