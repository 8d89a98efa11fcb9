//! Tokens to nodes, through includes, with recovery.
//!
//! Open blocks are on a stack of their own, so that nesting in the text is no nesting of calls; only includes
//! recur, to a named depth.

use super::claim::{Claims, NoPlugins, named_plugins};
use super::code::Code;
use super::diagnostic::Diagnostic;
use super::grammar::{self, Body, Context};
use super::lexer::{Kind, Lexer, Token};
use super::plugged::{Made, Plugged};
use super::source::{LoadError, SourceId, SourceLoader, Sources, Span, offset};
use super::tree::{Block, Include, Node, RawLine, Statement, Tree, Word};

/// How deeply blocks may be nested, over all includes.
pub const NESTING_MAX: usize = 32;
/// How deeply includes may be nested.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// How many files one project may consist of, one that is included twice counting twice.
pub const SOURCES_MAX: usize = 1_024;
/// How long all files together may be, in bytes.
pub const SOURCE_BYTES_MAX: usize = 256 << 20;

/// How often a project is read until it names the plugins whose words it was read with.
const ROUNDS_MAX: usize = 4;

/// Parses a project file and all that it includes, without plugins. Never fails: what is wrong is in the diagnostics.
///
/// `path` is the file's own path; those of included files are relative to the file that includes them.
pub fn parse(path: &str, text: String, loader: &dyn SourceLoader) -> (Tree, Vec<Diagnostic>) {
    parse_with(path, text, loader, &Plugged { manifests: &NoPlugins, made: &[] })
}

/// Parses a project file and all that it includes, with the words of the plugins that it names, and what those have
/// made of it so far. Never fails.
pub fn parse_with(
    path: &str,
    text: String,
    loader: &dyn SourceLoader,
    plugged: &Plugged<'_>,
) -> (Tree, Vec<Diagnostic>) {
    let mut parsed = parse_once(path, text, loader, plugged, Claims::default());
    // Which words plugins claim is known once the text is read that names them. What is a plugin's then may hide, or
    // show, a line that names another one.
    for _ in 1..ROUNDS_MAX {
        let named = named_plugins(&parsed.0);
        if parsed.0.claims.is_of(&named) {
            break;
        }
        let claims = Claims::load(named, plugged.manifests);
        let text = parsed.0.sources.get(SourceId::ROOT).text().to_owned();
        parsed = parse_once(path, text, loader, plugged, claims);
    }
    let (mut tree, mut diagnostics) = parsed;
    let named = named_plugins(&tree);
    tree.claims.report(&named, &mut diagnostics);
    (tree, diagnostics)
}

fn parse_once(
    path: &str,
    text: String,
    loader: &dyn SourceLoader,
    plugged: &Plugged<'_>,
    claims: Claims,
) -> (Tree, Vec<Diagnostic>) {
    let mut parser = Parser {
        tree: Tree { sources: Sources::default(), nodes: Vec::new(), claims },
        diagnostics: Vec::new(),
        loader,
        has_unclosed: false,
    };
    let whole = plugged.made.iter().fold(text.len(), |bytes, made| bytes.saturating_add(made.text.len()));
    if whole > SOURCE_BYTES_MAX {
        let root = parser.tree.sources.add(path.to_owned(), String::new(), None);
        parser.tree.nodes.push(Vec::new());
        let message = format!("{whole} bytes, where at most {SOURCE_BYTES_MAX} are allowed");
        parser.diagnostics.push(Diagnostic::new(Code::IncludeLimit, Span::start_of(root), message));
        return (parser.tree, parser.diagnostics);
    }
    let end = offset(text.len());
    let root = parser.source(path.to_owned(), text, None, Body::Keywords(Context::Top), 0);
    let named = named_plugins(&parser.tree);
    for Made { plugin, text } in plugged.made {
        let place = named.iter().find(|(name, _)| name == plugin);
        let place = place.map_or(Span::start_of(root), |(_, span)| *span);
        let (path, body) = (format!("(made by the plugin {plugin})"), Body::Keywords(Context::Top));
        let target = parser.source(path, text.clone(), Some(place), body, 0);
        parser.tree.sources.mark_made(target);
        let span = Span { source: root, start: end, end };
        parser.tree.nodes[0].push(Node::Include(Include { span, target: Some(target) }));
    }
    (parser.tree, parser.diagnostics)
}

struct Parser<'l> {
    tree: Tree,
    diagnostics: Vec<Diagnostic>,
    loader: &'l dyn SourceLoader,
    /// Whether a block was closed without a brace, so that a brace that closes nothing may have been its own.
    has_unclosed: bool,
}

/// A block whose end has not been seen.
struct Open {
    words: Vec<Word>,
    head: Span,
    body: Body,
    nodes: Vec<Node>,
}

/// The blocks of one source that are open, and what lies outside of them.
struct Nest {
    outer: Body,
    outer_nodes: Vec<Node>,
    open: Vec<Open>,
    /// Braces open in a raw block's lines.
    raw_depth: usize,
}

impl Nest {
    fn body(&self) -> Body {
        self.open.last().map_or(self.outer, |open| open.body)
    }

    fn push(&mut self, node: Node) {
        self.open.last_mut().map_or(&mut self.outer_nodes, |open| &mut open.nodes).push(node);
    }

    /// Ends the innermost open block.
    fn close(&mut self, close: Option<Span>) {
        let Some(open) = self.open.pop() else { return };
        let last = open.nodes.last().map_or(open.head, Node::span);
        let span = open.head.to(close.unwrap_or(last));
        let Open { words, head, body, nodes } = open;
        self.push(Node::Block(Box::new(Block { span, words, head, nodes, close, body })));
        self.raw_depth = 0;
    }
}

impl Parser<'_> {
    /// Parses one source in the place where it stands; returns its id.
    fn source(
        &mut self,
        path: String,
        text: String,
        included_at: Option<Span>,
        outer: Body,
        depth: usize,
    ) -> SourceId {
        // The text is lent to the lexer while the tree, which owns it, grows.
        let id = self.tree.sources.add(path, text.clone(), included_at);
        self.tree.nodes.push(Vec::new());
        let mut nest = Nest { outer, outer_nodes: Vec::new(), open: Vec::new(), raw_depth: 0 };
        let mut lexer = Lexer::new(id, &text);
        loop {
            let body = nest.body();
            let token = if body == Body::Raw {
                if !nest.open.is_empty() && lexer.at_outermost_head() {
                    // The lines of a block that is not closed would swallow all that follows.
                    self.report_unclosed(&nest, None);
                    nest.close(None);
                    continue;
                }
                lexer.next_raw(&mut nest.raw_depth)
            } else {
                lexer.next()
            };
            match token.kind {
                Kind::End => break,
                Kind::Blank | Kind::Newline | Kind::Semicolon => blank(&mut nest, token.span),
                Kind::Comment => nest.push(Node::Comment(token.span)),
                Kind::Include => {
                    let include = self.include(token.span, body, depth + nest.open.len());
                    nest.push(Node::Include(include));
                }
                Kind::Raw => nest.push(Node::RawLine(RawLine { span: token.span })),
                Kind::Word { .. } => self.statement(&mut nest, &mut lexer, token, depth),
                Kind::Open => {
                    let message = "a block begins without a keyword before its brace";
                    let diagnostic = Diagnostic::new(Code::BlockNameless, token.span, message)
                        .label("expected a keyword, such as `host NAME`, before this");
                    self.diagnostics.push(diagnostic);
                    self.open(&mut nest, &mut lexer, Vec::new(), token.span, depth);
                }
                Kind::Close if nest.open.is_empty() => {
                    nest.push(Node::Skipped(token.span));
                    let diagnostic =
                        Diagnostic::new(Code::BraceStray, token.span, "this brace closes nothing")
                            .label("no block is open here");
                    self.diagnostics.push(match self.has_unclosed {
                        true => diagnostic,
                        false => diagnostic.fix(token.span, ""),
                    });
                }
                Kind::Close => nest.close(Some(token.span)),
            }
        }
        while !nest.open.is_empty() {
            self.report_unclosed(&nest, None);
            nest.close(None);
        }
        self.tree.nodes[id.0 as usize] = nest.outer_nodes;
        id
    }

    /// Reads a statement that begins with a word, or the head of a block.
    fn statement(&mut self, nest: &mut Nest, lexer: &mut Lexer<'_>, first: Token, depth: usize) {
        let mut words = Vec::new();
        self.word(&mut words, first);
        let mut end = first.span;
        let mut after_last_word = *lexer;
        // The brace of a block may stand on a later line.
        let mut line_is_over = false;
        loop {
            let token = lexer.next();
            match token.kind {
                Kind::Word { .. } if !line_is_over => {
                    self.word(&mut words, token);
                    end = token.span;
                    after_last_word = *lexer;
                }
                Kind::Blank => {}
                Kind::Newline | Kind::Comment => line_is_over = true,
                Kind::Open => {
                    let head = first.span.to(token.span);
                    return self.open(nest, lexer, words, head, depth);
                }
                Kind::Word { .. } | Kind::Semicolon | Kind::Include | Kind::Close | Kind::Raw | Kind::End => {
                    break;
                }
            }
        }
        *lexer = after_last_word;
        nest.push(Node::Statement(Statement { span: first.span.to(end), words }));
    }

    fn word(&mut self, words: &mut Vec<Word>, token: Token) {
        if token.kind == (Kind::Word { open_quote: true }) {
            let diagnostic = Diagnostic::new(
                Code::QuoteOpen,
                token.span,
                "this quotation mark has no partner on its line",
            )
            .label("write `\\\"` if it is meant as it is");
            self.diagnostics.push(diagnostic);
        }
        words.push(Word { span: token.span });
    }

    /// Opens a block whose brace has just been read.
    fn open(&mut self, nest: &mut Nest, lexer: &mut Lexer<'_>, words: Vec<Word>, head: Span, depth: usize) {
        let keyword = words.first().map_or("", |&word| self.tree.word(word)).to_owned();
        if grammar::is_outermost(&keyword)
            && nest.outer == Body::Keywords(Context::Top)
            && nest.body() != Body::Free
        {
            while !nest.open.is_empty() {
                self.report_unclosed(nest, Some((head, &keyword)));
                nest.close(None);
            }
        }
        if depth + nest.open.len() >= NESTING_MAX {
            let skipped = head.to(skip_block(lexer, head));
            nest.push(Node::Skipped(skipped));
            let message = format!("blocks are nested more than {NESTING_MAX} deep");
            self.diagnostics.push(Diagnostic::new(Code::NestingDeep, head, message));
            return;
        }
        let name = words.get(1).map(|&word| self.tree.word(word));
        let body = self.tree.claims.body_of(nest.body(), &keyword, name);
        nest.raw_depth = 0;
        nest.open.push(Open { words, head, body, nodes: Vec::new() });
    }

    /// Reports that the innermost open block has no end, and what came instead.
    fn report_unclosed(&mut self, nest: &Nest, instead: Option<(Span, &str)>) {
        let Some(open) = nest.open.last() else { return };
        self.has_unclosed = true;
        let text_of =
            |words: &[Word]| words.iter().map(|&word| self.tree.word(word)).collect::<Vec<_>>().join(" ");
        let name = text_of(&open.words);
        let diagnostic = match self.closed_for_another(open) {
            None => Diagnostic::new(Code::BlockOpen, open.head, format!("the block `{name}` is not closed"))
                .label("its `}` is missing"),
            Some((block, close)) => {
                let inner = text_of(&block.words);
                Diagnostic::new(Code::BlockOpen, block.head, format!("the block `{inner}` is not closed"))
                    .label("its `}` seems to be missing")
                    .other(close, "this `}` closes it, but is indented as one of a block around it")
            }
        };
        self.diagnostics.push(match instead {
            Some((span, keyword)) => {
                diagnostic.other(span, format!("`{keyword}` begins here, before the `}}`"))
            }
            None => diagnostic,
        });
    }

    /// Returns the block within an open one whose brace is most likely the missing one, with the brace that closes
    /// it and looks as if it closed a block around it.
    fn closed_for_another<'t>(&self, open: &'t Open) -> Option<(&'t Block, Span)> {
        let mut found = None;
        let (mut nodes, mut outer) = (&open.nodes, open.head);
        // Each round goes one block deeper.
        while let (Some(outer_indent), Some((block, close))) = (
            self.indent(outer),
            nodes.iter().rev().find_map(|node| match node {
                Node::Block(block) => Some((&**block, block.close?)),
                _ => None,
            }),
        ) {
            let is_anothers = self.indent(close) == Some(outer_indent)
                && self.indent(block.head).is_some_and(|own| own != outer_indent);
            if !is_anothers {
                break;
            }
            found = Some((block, close));
            (nodes, outer) = (&block.nodes, block.head);
        }
        found
    }

    /// Returns the blanks before something that is the first on its line.
    fn indent(&self, span: Span) -> Option<&str> {
        let before = self.tree.sources.get(span.source).text().get(..span.start as usize)?;
        let line = &before[before.rfind('\n').map_or(0, |newline| newline + 1)..];
        line.bytes().all(|byte| matches!(byte, b' ' | b'\t')).then_some(line)
    }

    /// Parses the file that an `#include` names, in the place where it stands.
    fn include(&mut self, span: Span, body: Body, depth: usize) -> Include {
        let path = include_path(self.tree.sources.slice(span));
        let from = self.tree.sources.get(span.source).path();
        let path = joined(from, &path);
        let chain: Vec<SourceId> = std::iter::once(span.source)
            .chain(self.tree.sources.chain(span.source).map(|include| include.source))
            .collect();
        let failed = Include { span, target: None };
        if chain.iter().any(|&id| joined("", self.tree.sources.get(id).path()) == path) {
            let mut diagnostic = Diagnostic::new(Code::IncludeCycle, span, format!("{path} includes itself"))
                .label("this file is already being read");
            for include in self.tree.sources.chain(span.source) {
                diagnostic = diagnostic.other(include, "included here");
            }
            self.diagnostics.push(diagnostic);
            return failed;
        }
        if chain.len() > INCLUDE_DEPTH_MAX || self.tree.sources.count() >= SOURCES_MAX {
            let message =
                format!("more than {SOURCES_MAX} files, or includes more than {INCLUDE_DEPTH_MAX} deep");
            self.diagnostics.push(Diagnostic::new(Code::IncludeLimit, span, message));
            return failed;
        }
        match self.loader.load(&path) {
            Ok(text) if self.tree.sources.bytes() + text.len() > SOURCE_BYTES_MAX => {
                let message = format!("all files together have more than {SOURCE_BYTES_MAX} bytes");
                self.diagnostics.push(Diagnostic::new(Code::IncludeLimit, span, message));
                failed
            }
            Ok(text) => {
                let target = self.source(path, text, Some(span), body, depth);
                Include { span, target: Some(target) }
            }
            Err(error) => {
                self.unread(span, &path, &error);
                failed
            }
        }
    }

    fn unread(&mut self, span: Span, path: &str, error: &LoadError) {
        let mut diagnostic =
            Diagnostic::new(Code::IncludeUnread, span, format!("{path} cannot be included: {error}"))
                .label("expected the path of a file, relative to this one");
        for include in self.tree.sources.chain(span.source) {
            diagnostic = diagnostic.other(include, "included here");
        }
        self.diagnostics.push(diagnostic);
    }
}

/// Adds to the blank before it, if there is one, so that there are fewer nodes.
fn blank(nest: &mut Nest, span: Span) {
    let nodes = nest.open.last_mut().map_or(&mut nest.outer_nodes, |open| &mut open.nodes);
    match nodes.last_mut() {
        Some(Node::Blank(before)) => before.end = span.end,
        Some(_) | None => nodes.push(Node::Blank(span)),
    }
}

/// Passes over a block without keeping its inside; returns its last token's span.
fn skip_block(lexer: &mut Lexer<'_>, head: Span) -> Span {
    let mut depth = 1;
    let mut last = head;
    while depth > 0 {
        let token = lexer.next();
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            Kind::End => break,
            Kind::Blank
            | Kind::Newline
            | Kind::Semicolon
            | Kind::Comment
            | Kind::Include
            | Kind::Word { .. }
            | Kind::Raw => {}
        }
        last = token.span;
    }
    last
}

/// Returns the path of an `#include`, without quotation marks and without a comment behind it.
fn include_path(directive: &str) -> String {
    let rest = directive.strip_prefix("#include").unwrap_or(directive).trim();
    if let Some(quoted) = rest.strip_prefix('"') {
        return quoted.split('"').next().unwrap_or(quoted).to_owned();
    }
    let end = rest.find(" #").or_else(|| rest.find("\t#")).unwrap_or(rest.len());
    rest[..end].trim_end().trim_end_matches(';').to_owned()
}

/// Returns a path relative to the folder of another one, without `.` and without `x/..`.
fn joined(from: &str, path: &str) -> String {
    let folder = from.rfind('/').map_or("", |at| &from[..=at]);
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{folder}{path}") };
    let root = if whole.starts_with('/') { "/" } else { "" };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("{root}{}", parts.join("/"))
}
