//! Diagnostics as excerpts of the source, for people.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use mln_protocol::lang::{Diagnostic, Severity, SourceId, Sources, Span};

/// How diagnostics are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// With colours and fine lines.
    Styled,
    /// ASCII alone, for files and other programs.
    Plain,
}

impl Drawing {
    /// Returns the drawing that standard error wants: styled on a terminal, unless `NO_COLOR` is set.
    pub fn for_stderr() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stderr().is_terminal() && !no_color { Self::Styled } else { Self::Plain }
    }
}

/// How many lines are shown around a place.
const LINES_AROUND: usize = 1;

/// Draws diagnostics, each with the lines that it is about, and what would be right.
pub fn draw(diagnostics: &[Diagnostic], sources: &Sources, drawing: Drawing) -> String {
    let renderer = match drawing {
        Drawing::Styled => Renderer::styled().decor_style(DecorStyle::Unicode),
        Drawing::Plain => Renderer::plain(),
    };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&renderer.render(&groups(diagnostic, sources)));
        text.push_str("\n\n");
    }
    text
}

fn groups<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Vec<Group<'a>> {
    let level = match diagnostic.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&diagnostic.message).id(diagnostic.code.as_str());
    let mut group = Group::with_title(title);
    for snippet in snippets(diagnostic, sources) {
        group = group.element(snippet);
    }
    for include in sources.chain(diagnostic.span.source) {
        let at = sources.position(include);
        group = group.element(Level::NOTE.message(format!("included at {}:{}", at.path, at.line)));
    }
    let mut groups = vec![group];
    if let Some(fix) = &diagnostic.fix {
        let excerpt = Excerpt::of(sources, fix.span.source, &[fix.span]);
        let patch = Patch::new(excerpt.range(fix.span), &fix.replacement);
        let what = if fix.replacement.is_empty() { "leave this out" } else { "write this instead" };
        groups.push(
            Group::with_title(Level::HELP.secondary_title(what)).element(excerpt.snippet().patch(patch)),
        );
    }
    groups
}

/// Returns one excerpt of each source that a diagnostic points into, the one with the mistake first.
fn snippets<'a>(
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
) -> impl Iterator<Item = Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let mut others: BTreeMap<SourceId, Vec<(Span, &'a str)>> = BTreeMap::new();
    for other in &diagnostic.others {
        others.entry(other.span.source).or_default().push((other.span, &other.text));
    }
    let own = others.remove(&diagnostic.span.source).unwrap_or_default();
    let spans: Vec<Span> =
        std::iter::once(diagnostic.span).chain(own.iter().map(|(span, _)| *span)).collect();
    let excerpt = Excerpt::of(sources, diagnostic.span.source, &spans);
    let mut primary = AnnotationKind::Primary.span(excerpt.range(diagnostic.span));
    if let Some(label) = &diagnostic.label {
        primary = primary.label(label);
    }
    let context = |excerpt: &Excerpt<'a>, (span, text): &(Span, &'a str)| {
        AnnotationKind::Context.span(excerpt.range(*span)).label(*text)
    };
    let contexts: Vec<_> = own.iter().map(|other| context(&excerpt, other)).collect();
    let first = excerpt.snippet().annotation(primary).annotations(contexts);
    let rest = others.into_iter().map(move |(source, others)| {
        let spans: Vec<Span> = others.iter().map(|(span, _)| *span).collect();
        let excerpt = Excerpt::of(sources, source, &spans);
        excerpt.snippet().annotations(others.iter().map(|other| context(&excerpt, other)))
    });
    std::iter::once(first).chain(rest)
}

/// The lines of a source from the first to the last of some places: only these are given to the renderer, which
/// looks at every line that it gets.
struct Excerpt<'a> {
    path: &'a str,
    text: &'a str,
    start: usize,
    line: usize,
}

impl<'a> Excerpt<'a> {
    fn of(sources: &'a Sources, source: SourceId, spans: &[Span]) -> Self {
        let (path, text) = (sources.get(source).path(), sources.get(source).text());
        let first = spans.iter().map(|span| span.start as usize).min().unwrap_or(0).min(text.len());
        let last = spans.iter().map(|span| span.end as usize).max().unwrap_or(0).min(text.len());
        let line_start = |at: usize| text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        let (mut start, mut end) = (line_start(first), line_end(last));
        for _ in 0..LINES_AROUND {
            start = line_start(start.saturating_sub(1));
            end = line_end((end + 1).min(text.len()));
        }
        let line =
            sources.position(Span { start: u32::try_from(start).unwrap_or(u32::MAX), end: 0, source }).line;
        Self { path, text: &text[start..end], start, line }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let inside = |at: u32| (at as usize).saturating_sub(self.start).min(self.text.len());
        inside(span.start)..inside(span.end)
    }

    fn snippet<T: Clone>(&self) -> Snippet<'a, T> {
        Snippet::source(self.text).path(self.path).line_start(self.line)
    }
}

/// Returns how many errors and warnings there are, in words; none if there are none.
pub fn count(diagnostics: &[Diagnostic]) -> Option<String> {
    let errors = diagnostics.iter().filter(|one| one.severity() == Severity::Error).count();
    let words = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        many => Some(format!("{many} {word}s")),
    };
    let parts: Vec<String> = [words(errors, "error"), words(diagnostics.len() - errors, "warning")]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Returns whether something is wrong enough to stop.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity() == Severity::Error)
}
