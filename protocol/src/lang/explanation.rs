//! What a code means, at length, with an example: `explain/CODE.md`, one page for each.
//!
//! A page is a paragraph and then sections, each a heading that ends in a colon and a fenced text: `Wrong:` and
//! `Right:`, perhaps with variables of the command line, and other files by their names. Tests hold that each
//! wrong example has its code and no other, and that the right one has none.

use super::code::Code;

/// What a code means, at length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What is wrong about it, and what to do.
    pub paragraph: &'static str,
    /// A project with this mistake and no other.
    pub wrong: &'static str,
    /// The same project without it.
    pub right: &'static str,
    /// Files beside the example, by their names.
    pub beside: Vec<(&'static str, &'static str)>,
    /// The variables of the command line, `NAME=VALUE`.
    pub variables: Vec<&'static str>,
}

/// How a fenced text begins and ends.
const FENCE: &str = "```\n";

impl Code {
    /// Returns what it means, at length.
    pub fn explanation(self) -> Explanation {
        let mut pieces = self.page().split(FENCE);
        let (paragraph, mut heading) = split_heading(pieces.next().unwrap_or_default());
        let mut explanation =
            Explanation { paragraph, wrong: "", right: "", beside: Vec::new(), variables: Vec::new() };
        while let Some(text) = pieces.next() {
            if heading.starts_with("Wrong") {
                explanation.wrong = text;
                explanation.variables =
                    quoted(heading).filter_map(|var| var.strip_prefix("--var ")).collect();
            } else if heading.starts_with("Right") {
                explanation.right = text;
            } else {
                explanation.beside.extend(quoted(heading).map(|name| (name, text)));
            }
            (_, heading) = split_heading(pieces.next().unwrap_or_default());
        }
        explanation
    }
}

/// Splits what stands before a fence into the paragraphs and the heading.
fn split_heading(text: &str) -> (&str, &str) {
    let (before, heading) = text.trim_end().rsplit_once("\n\n").unwrap_or(("", text.trim()));
    (before, heading.trim())
}

/// Returns what stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
