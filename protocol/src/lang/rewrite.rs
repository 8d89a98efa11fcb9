//! Changes of the text, put in: all in one pass, every other byte left alone.

use std::collections::BTreeMap;

use super::diagnostic::Fix;
use super::source::{SourceId, Sources};

/// A file with its changes put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Its path, as it was loaded.
    pub path: String,
    /// Its new text.
    pub text: String,
    /// What was changed, in the order of the old text, in which the spans are.
    pub changes: Vec<Fix>,
}

/// Puts changes into the files that they are about, and returns these, in the order of their first inclusion.
///
/// A change that overlaps one before it is left out, and so is one that is there already: a file that is included
/// twice is one file, and what is wrong in it is found twice. What plugins have made is in no file, and stays.
pub fn rewrite(sources: &Sources, changes: impl IntoIterator<Item = Fix>) -> Vec<Rewritten> {
    let mut first_of_path: BTreeMap<&str, SourceId> = BTreeMap::new();
    for (id, source) in sources.iter() {
        first_of_path.entry(source.path()).or_insert(id);
    }
    let mut by_file: BTreeMap<SourceId, Vec<Fix>> = BTreeMap::new();
    // What a plugin has made is no file.
    for mut change in changes.into_iter().filter(|change| !sources.get(change.span.source).is_made()) {
        let file = first_of_path.get(sources.get(change.span.source).path()).copied();
        change.span.source = file.unwrap_or(change.span.source);
        by_file.entry(change.span.source).or_default().push(change);
    }
    let files = by_file.into_iter().map(|(id, changes)| {
        let source = sources.get(id);
        let changes = apart(changes);
        Rewritten { path: source.path().to_owned(), text: put_in(source.text(), &changes), changes }
    });
    files.filter(|file| !file.changes.is_empty()).collect()
}

/// Puts changes in order and leaves out those that overlap one before them.
fn apart(mut changes: Vec<Fix>) -> Vec<Fix> {
    changes.sort_by_key(|change| change.span);
    let mut kept: Vec<Fix> = Vec::with_capacity(changes.len());
    for change in changes {
        let is_apart = kept.last().is_none_or(|last| {
            last.span.end <= change.span.start
                && (last.span.start, last.span.end) != (change.span.start, change.span.end)
        });
        if is_apart {
            kept.push(change);
        }
    }
    kept
}

fn put_in(text: &str, changes: &[Fix]) -> String {
    let mut new = String::with_capacity(text.len());
    let mut at = 0;
    for change in changes {
        let (start, end) = (change.span.start as usize, change.span.end as usize);
        new.push_str(text.get(at..start).unwrap_or_default());
        new.push_str(&change.replacement);
        at = end;
    }
    new.push_str(text.get(at..).unwrap_or_default());
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{NoIncludes, Span, parse};

    fn change(start: u32, end: u32, replacement: &str) -> Fix {
        Fix { span: Span { source: SourceId::ROOT, start, end }, replacement: replacement.to_owned() }
    }

    #[track_caller]
    fn check(changes: &[Fix], expect: &str, count: usize) {
        let (tree, _) = parse("p.mln", "abcdef".to_owned(), &NoIncludes);
        let files = rewrite(tree.sources(), changes.to_vec());
        let found: Vec<(&str, usize)> = files.iter().map(|file| (&*file.text, file.changes.len())).collect();
        assert_eq!(found, if count == 0 { vec![] } else { vec![(expect, count)] });
    }

    #[test]
    fn changes_are_put_in_in_any_order_and_overlapping_ones_are_left_out() {
        check(&[], "abcdef", 0);
        check(&[change(4, 6, "X"), change(0, 1, "")], "bcdX", 2);
        check(&[change(1, 3, "X"), change(2, 4, "Y")], "aXdef", 1);
        check(&[change(1, 3, "X"), change(3, 4, "Y")], "aXYef", 2);
    }

    #[test]
    fn one_change_that_is_found_twice_is_put_in_once() {
        check(&[change(2, 2, "X"), change(2, 2, "X")], "abXcdef", 1);
        check(&[change(2, 2, "X"), change(2, 3, "Y")], "abXYdef", 2);
        check(&[change(2, 3, "X"), change(2, 3, "X")], "abXdef", 1);
    }
}
