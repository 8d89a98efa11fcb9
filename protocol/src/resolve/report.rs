//! Diagnostics on their way out: each mistake once, however many hosts inherit it.

use std::collections::BTreeSet;

use crate::lang::{Code, Diagnostic, Span, nearest, sort};

/// Collects diagnostics.
#[derive(Debug, Default)]
pub(super) struct Report {
    all: Vec<Diagnostic>,
    seen: BTreeSet<(Code, Span)>,
    comparisons: usize,
}

/// How many names are compared with misspelt ones, over a whole project, so that time stays linear.
const COMPARISONS_MAX: usize = 200_000;

impl Report {
    /// Adds a diagnostic, unless the same was found at the same place before.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        if self.seen.insert((diagnostic.code, diagnostic.span)) {
            self.all.push(diagnostic);
        }
    }

    /// Returns whether something of a kind was found.
    pub(super) fn has(&self, code: Code) -> bool {
        self.all.iter().any(|one| one.code == code)
    }

    /// Adds that a word is not one of those that it could be, with the nearest one as a fix.
    pub(super) fn push_unknown<'c>(
        &mut self,
        diagnostic: Diagnostic,
        place: Span,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) {
        if self.seen.contains(&(diagnostic.code, diagnostic.span)) {
            return;
        }
        let budget = COMPARISONS_MAX.saturating_sub(self.comparisons);
        let mut compared = 0;
        let found = nearest(word, candidates.into_iter().take(budget).inspect(|_| compared += 1));
        self.comparisons += compared;
        self.push(match found {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(place, near),
            None => diagnostic,
        });
    }

    /// Returns all, in the order of the text, project file first; what belongs to no place comes last.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        sort(&mut self.all);
        self.all
    }
}
