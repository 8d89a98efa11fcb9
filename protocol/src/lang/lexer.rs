//! Bytes to tokens, in the two ways in which the inside of a block is read.
//!
//! All delimiters are ASCII, so tokens never cut a character in two.

use super::grammar;
use super::source::{SourceId, Span, offset};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Blanks, and line ends behind a backslash.
    Blank,
    /// The end of a line.
    Newline,
    /// `;`.
    Semicolon,
    /// `#` to the end of the line.
    Comment,
    /// `#include` with its path.
    Include,
    /// Anything else.
    Word {
        /// A quotation mark has no partner.
        open_quote: bool,
    },
    /// `{`.
    Open,
    /// `}`.
    Close,
    /// A line of a raw block.
    Raw,
    /// The end of the text.
    End,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// Reads one text from its beginning to its end.
#[derive(Clone, Copy)]
pub(super) struct Lexer<'a> {
    source: SourceId,
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: SourceId, text: &'a str) -> Self {
        Self { source, text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Advances while `more` holds.
    fn skip(&mut self, more: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&more) {
            self.at += 1;
        }
    }

    fn token(&self, kind: Kind, start: usize) -> Token {
        Token { kind, span: Span { source: self.source, start: offset(start), end: offset(self.at) } }
    }

    /// Reads the next token where words count.
    pub(super) fn next(&mut self) -> Token {
        let start = self.at;
        let Some(byte) = self.peek() else {
            return self.token(Kind::End, start);
        };
        self.at += 1;
        let kind = match byte {
            b'\n' => Kind::Newline,
            b';' => Kind::Semicolon,
            b'{' => Kind::Open,
            b'}' => Kind::Close,
            b'#' => {
                self.skip(|b| b != b'\n');
                comment_kind(&self.text[start..self.at])
            }
            _ => {
                self.at = start;
                self.blank_or_word()
            }
        };
        self.token(kind, start)
    }

    fn blank_or_word(&mut self) -> Kind {
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' if self.newline_after(1).is_some() => self.at += self.newline_after(1).unwrap_or(1),
                _ if is_blank(byte) => self.at += 1,
                _ => break,
            }
        }
        if self.at > start {
            return Kind::Blank;
        }
        let mut open_quote = false;
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' | b';' | b'{' | b'}' | b'#' => break,
                _ if is_blank(byte) => break,
                b'\\' if self.newline_after(1).is_some() => break,
                b'\\' => self.character_after_backslash(),
                b'"' => match self.end_of_quote() {
                    Some(end) => self.at = end,
                    None => {
                        open_quote = true;
                        self.at += 1;
                    }
                },
                _ => self.at += 1,
            }
        }
        Kind::Word { open_quote }
    }

    /// Returns how far it is to the byte after the line end that begins `distance` bytes ahead, if there is one.
    fn newline_after(&self, distance: usize) -> Option<usize> {
        let rest = &self.text.as_bytes()[self.at + distance..];
        match rest {
            [b'\n', ..] => Some(distance + 1),
            [b'\r', b'\n', ..] => Some(distance + 2),
            _ => None,
        }
    }

    fn character_after_backslash(&mut self) {
        self.at += 1;
        self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
    }

    /// Returns the byte after the partner of the quotation mark here, if it has one on its line.
    fn end_of_quote(&self) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            match bytes.get(at)? {
                b'"' => return Some(at + 1),
                b'\n' => return None,
                b'\\' if bytes.get(at + 1).is_some_and(|&b| b != b'\n') => at += 2,
                _ => at += 1,
            }
        }
    }

    /// Reads the next token where lines count. Braces that have no partner end the block; `depth` counts those
    /// that are open from line to line.
    pub(super) fn next_raw(&mut self, depth: &mut usize) -> Token {
        let start = self.at;
        self.skip(|b| is_blank(b) || b == b'\n');
        if self.at > start {
            return self.token(Kind::Blank, start);
        }
        match self.peek() {
            None => return self.token(Kind::End, start),
            Some(b'}') if *depth == 0 => {
                self.at += 1;
                return self.token(Kind::Close, start);
            }
            Some(b'#') => {
                self.skip(|b| b != b'\n');
                return self.token(comment_kind(&self.text[start..self.at]), start);
            }
            Some(_) => {}
        }
        self.raw_line(depth);
        let line = &self.text[start..self.at];
        self.at = start + line.trim_end_matches([' ', '\t', '\r', '\x0b', '\x0c']).len();
        self.token(Kind::Raw, start)
    }

    /// Advances to the end of the line, or to the brace that ends the block.
    fn raw_line(&mut self, depth: &mut usize) {
        let bytes = self.text.as_bytes();
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => return,
                b'{' => *depth += 1,
                b'}' if *depth == 0 => return,
                b'}' => *depth -= 1,
                b'\\' if bytes.get(self.at + 1).is_some_and(|&b| b != b'\n') => self.at += 1,
                b'"' | b'\'' => self.at = self.end_of_shell_quote(byte).unwrap_or(self.at),
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Returns where the partner of a shell's quotation mark is, if it has one on its line: braces between the two
    /// are text.
    fn end_of_shell_quote(&self, quote: u8) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            match bytes.get(at)? {
                b'\n' => return None,
                b'\\' if quote == b'"' && bytes.get(at + 1).is_some_and(|&b| b != b'\n') => at += 2,
                &byte if byte == quote => return Some(at),
                _ => at += 1,
            }
        }
    }

    /// Returns whether the line that begins here looks like the head of a block outside of all others: nobody
    /// writes `host web {` in a shell.
    pub(super) fn at_outermost_head(&self) -> bool {
        let bytes = self.text.as_bytes();
        let word_end = |from: usize| {
            bytes[from..].iter().position(|&b| !(b.is_ascii_alphanumeric() || b"_-.$[]".contains(&b)))
        };
        let blank_end = |from: usize| bytes[from..].iter().position(|&b| b != b' ' && b != b'\t');
        let Some(keyword_len) = word_end(self.at) else { return false };
        let keyword = &self.text[self.at..self.at + keyword_len];
        if !grammar::is_outermost(keyword) {
            return false;
        }
        let head = || {
            let name_at = self.at + keyword_len + blank_end(self.at + keyword_len)?;
            let name_len = word_end(name_at)?;
            let brace_at = name_at + name_len + blank_end(name_at + name_len)?;
            let named = (name_len > 0) == (keyword != "global");
            Some(named && bytes[brace_at] == b'{')
        };
        head().unwrap_or(false)
    }
}

/// Returns whether lines stay within the raw block that they are put into, and are nothing but its lines.
pub(super) fn is_raw(lines: &str) -> bool {
    let mut lexer = Lexer::new(SourceId::ROOT, lines);
    let mut depth = 0;
    loop {
        if lexer.at_outermost_head() {
            return false;
        }
        match lexer.next_raw(&mut depth).kind {
            Kind::End => return depth == 0,
            Kind::Blank | Kind::Newline | Kind::Semicolon | Kind::Comment | Kind::Word { .. } | Kind::Raw => {
            }
            Kind::Include | Kind::Open | Kind::Close => return false,
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c')
}

fn comment_kind(text: &str) -> Kind {
    match text.strip_prefix("#include") {
        Some(rest) if rest.starts_with([' ', '\t', '"']) => Kind::Include,
        Some(_) | None => Kind::Comment,
    }
}
