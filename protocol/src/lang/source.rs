//! Source files, and places in them.

use std::fmt;

/// One loaded file; a file that is included twice is two sources, each with its own way in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(pub(super) u32);

impl SourceId {
    /// The project file itself.
    pub const ROOT: Self = Self(0);
}

/// A range of bytes of one source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Which source.
    pub source: SourceId,
    /// Its first byte.
    pub start: u32,
    /// The byte after its last one.
    pub end: u32,
}

impl Span {
    /// Returns the empty span before the first byte of a source.
    pub fn start_of(source: SourceId) -> Self {
        Self { source, start: 0, end: 0 }
    }

    /// Returns the span from the beginning of this one to the end of another one of the same source.
    pub fn to(self, other: Self) -> Self {
        Self { end: other.end.max(self.start), ..self }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}..{}", self.source.0, self.start, self.end)
    }
}

/// A source's text and where it came from.
#[derive(Clone, Debug)]
pub struct Source {
    path: String,
    text: String,
    included_at: Option<Span>,
    line_starts: Vec<u32>,
    is_made: bool,
}

impl Source {
    /// Returns the path by which it was loaded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether a plugin has made it: there is no such file.
    pub fn is_made(&self) -> bool {
        self.is_made
    }

    /// Returns the `#include` that brought it in; none for the project file.
    pub fn included_at(&self) -> Option<Span> {
        self.included_at
    }
}

/// A place as people count: lines and columns from 1, a column being a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The source's path.
    pub path: &'a str,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// All sources of a project, the project file first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    all: Vec<Source>,
    bytes: usize,
}

impl Sources {
    /// Adds a source. The parser's limits keep texts below 4 GiB.
    pub(super) fn add(&mut self, path: String, text: String, included_at: Option<Span>) -> SourceId {
        let breaks =
            text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| offset(at + 1));
        let line_starts = std::iter::once(0).chain(breaks).collect();
        let id = SourceId(offset(self.all.len()));
        self.bytes += text.len();
        self.all.push(Source { path, text, included_at, line_starts, is_made: false });
        id
    }

    /// Says that a source was made by a plugin, and is no file.
    pub(super) fn mark_made(&mut self, id: SourceId) {
        if let Some(source) = self.all.get_mut(id.0 as usize) {
            source.is_made = true;
        }
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns the bytes of all of them together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns a source; ids come from the same project, so there always is one.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.all[id.0 as usize]
    }

    /// Returns every source with its id, the project file first.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.all.iter().enumerate().map(|(index, source)| (SourceId(offset(index)), source))
    }

    /// Returns the text that a span covers.
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.source).text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Returns the place of a span's first byte.
    pub fn position(&self, span: Span) -> Position<'_> {
        let source = self.get(span.source);
        let line = source.line_starts.partition_point(|&start| start <= span.start);
        let line_start = source.line_starts[line.saturating_sub(1)] as usize;
        let before = source.text.get(line_start..span.start as usize).unwrap_or("");
        Position { path: &source.path, line, column: before.chars().count() + 1 }
    }

    /// Returns the `#include`s that lead to a source, the nearest first; none for the project file.
    pub fn chain(&self, id: SourceId) -> impl Iterator<Item = Span> {
        std::iter::successors(self.get(id).included_at, |span| self.get(span.source).included_at)
    }
}

/// Returns a length or an index as an offset. The parser refuses sources that would not fit.
pub(super) fn offset(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Reads the files that a project includes, for the parser, which reads none itself.
pub trait SourceLoader {
    /// Returns the text of a file; `path` is already relative to where the project file's path starts from.
    fn load(&self, path: &str) -> Result<String, LoadError>;
}

/// Includes nothing: for a source that is already folded, such as one that a peer sends.
#[derive(Clone, Copy, Debug)]
pub struct NoIncludes;

impl SourceLoader for NoIncludes {
    fn load(&self, _path: &str) -> Result<String, LoadError> {
        Err(LoadError::NotAllowed)
    }
}

/// Why a file was not loaded. The parser reports it at the `#include` and goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// It is not text in UTF-8.
    #[error("it is not text in UTF-8")]
    NotText,
    /// Included files are not looked at here, such as when a folded source is read again.
    #[error("files are not included here")]
    NotAllowed,
    /// The system refuses it.
    #[error("{reason}")]
    Refused {
        /// In the system's words.
        reason: String,
    },
}
