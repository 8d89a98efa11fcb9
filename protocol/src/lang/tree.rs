//! The lossless tree: every byte of a source belongs to exactly one node, in order.
//!
//! Words keep their quotation marks, backslashes and variables; `resolve` takes those out. Edits (`fmt`, `edit`)
//! replace the text of spans and leave all else alone.

use super::claim::Claims;
use super::grammar::Body;
use super::source::{SourceId, Sources, Span};

/// A parsed project: its sources, and the nodes of each.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(super) sources: Sources,
    pub(super) nodes: Vec<Vec<Node>>,
    pub(super) claims: Claims,
}

/// A piece of a source.
#[derive(Clone, Debug)]
pub enum Node {
    /// Blanks, ends of lines, semicolons.
    Blank(Span),
    /// `#` to the end of the line.
    Comment(Span),
    /// Another file's nodes stand here.
    Include(Include),
    /// Words to the end of the statement.
    Statement(Statement),
    /// A line of a raw block, as it is.
    RawLine(RawLine),
    /// A keyword with braces.
    Block(Box<Block>),
    /// A closing brace that closes nothing, or what is nested too deeply: reported, and otherwise passed over.
    Skipped(Span),
}

/// `#include PATH`.
#[derive(Clone, Debug)]
pub struct Include {
    /// The directive, without the end of its line.
    pub span: Span,
    /// What was included; none if that failed.
    pub target: Option<SourceId>,
}

/// A pair, a flag, a variable's definition or a line of a list.
#[derive(Clone, Debug)]
pub struct Statement {
    /// From the first word to the last one.
    pub span: Span,
    /// Its words; at least one.
    pub words: Vec<Word>,
}

/// A line of a raw block, without the blanks around it.
#[derive(Clone, Copy, Debug)]
pub struct RawLine {
    /// The line.
    pub span: Span,
}

/// Words and what stands in the braces behind them.
#[derive(Clone, Debug)]
pub struct Block {
    /// All of it, braces included.
    pub span: Span,
    /// The words before the brace; none if a brace stands alone.
    pub words: Vec<Word>,
    /// From the first word up to and including the opening brace.
    pub head: Span,
    /// What is in it.
    pub nodes: Vec<Node>,
    /// The closing brace; none if it is missing.
    pub close: Option<Span>,
    /// How its inside was read.
    pub body: Body,
}

/// A word as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where it is.
    pub span: Span,
}

impl Node {
    /// Returns the node's bytes.
    pub fn span(&self) -> Span {
        match self {
            Self::Blank(span) | Self::Comment(span) | Self::Skipped(span) => *span,
            Self::Include(include) => include.span,
            Self::Statement(statement) => statement.span,
            Self::RawLine(line) => line.span,
            Self::Block(block) => block.span,
        }
    }

    /// Returns the word that a statement or a block begins with: its keyword, if it has one.
    pub fn first_word(&self) -> Option<Word> {
        match self {
            Self::Statement(statement) => statement.words.first().copied(),
            Self::Block(block) => block.words.first().copied(),
            Self::Blank(_) | Self::Comment(_) | Self::Include(_) | Self::RawLine(_) | Self::Skipped(_) => {
                None
            }
        }
    }
}

impl Tree {
    /// Returns the sources that it was read from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Returns the plugins that the project names, and the words that they add to the language.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns the nodes of one source.
    pub fn nodes(&self, source: SourceId) -> &[Node] {
        &self.nodes[source.0 as usize]
    }

    /// Returns a word as written.
    pub fn word(&self, word: Word) -> &str {
        self.sources.slice(word.span)
    }

    /// Returns nodes with those of included files in the place of their `#include`.
    pub fn through_includes<'a>(&'a self, nodes: &'a [Node]) -> impl Iterator<Item = &'a Node> {
        let mut stack = vec![nodes.iter()];
        std::iter::from_fn(move || {
            loop {
                match stack.last_mut()?.next() {
                    Some(Node::Include(Include { target: Some(target), .. })) => {
                        stack.push(self.nodes(*target).iter());
                    }
                    Some(node) => return Some(node),
                    None => {
                        stack.pop();
                    }
                }
            }
        })
    }

    /// Puts the text of a source together from its leaves: always the text that was parsed.
    pub fn text(&self, source: SourceId) -> String {
        let mut text = String::with_capacity(self.sources.get(source).text().len());
        self.write(self.nodes(source), &mut text);
        text
    }

    fn write(&self, nodes: &[Node], text: &mut String) {
        for node in nodes {
            match node {
                Node::Block(block) => {
                    text.push_str(self.sources.slice(block.head));
                    self.write(&block.nodes, text);
                    text.push_str(block.close.map_or("", |span| self.sources.slice(span)));
                }
                leaf => text.push_str(self.sources.slice(leaf.span())),
            }
        }
    }
}
