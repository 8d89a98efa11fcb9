//! An error in words, for people: what it says, and what lies behind it.

use std::error::Error;

/// Returns an error with all of its causes, the outermost first.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}
