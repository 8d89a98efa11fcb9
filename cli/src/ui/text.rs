//! Text that somebody else wrote, made harmless for a terminal.

/// Returns the text on one line, with control characters shown instead of obeyed.
///
/// Consoles of guests and reasons from other hosts may hold escape sequences that would move the cursor, change
/// the window's title or answer in the user's name.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(' '),
            '\n' => shown.push_str("; "),
            c if c.is_control() || is_direction(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// The longest line that is waited for, in bytes; a longer one is cut.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Text that comes in pieces, line by line.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes a piece, and hands on the lines that are whole.
    pub fn push<E>(&mut self, piece: &[u8], mut line: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        for &byte in piece {
            if byte != b'\n' {
                self.begun.push(byte);
            }
            if byte == b'\n' || self.begun.len() >= LINE_BYTES_MAX {
                let whole = std::mem::take(&mut self.begun);
                line(String::from_utf8_lossy(&whole).trim_end_matches('\r'))?;
            }
        }
        Ok(())
    }

    /// Hands on the line that has not ended.
    pub fn finish<E>(&mut self, line: impl FnOnce(&str) -> Result<(), E>) -> Result<(), E> {
        let rest = std::mem::take(&mut self.begun);
        if rest.is_empty() { Ok(()) } else { line(String::from_utf8_lossy(&rest).trim_end_matches('\r')) }
    }
}

/// Whether a character turns the writing direction around, so that text looks like other text.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns at most `columns` characters, the last one `…` where some are left out.
pub fn fitted(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut fitted: String = text.chars().take(columns.saturating_sub(1)).collect();
    if columns > 0 {
        fitted.push('…');
    }
    fitted
}

/// Returns the words of a text on lines of at most so many characters, each with its end; a longer word has a line
/// of its own.
pub fn wrapped(text: &str, columns: usize) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        if width > 0 {
            let fits = width + 1 + letters <= columns;
            lines.push(if fits { ' ' } else { '\n' });
            width = if fits { width + 1 } else { 0 };
        }
        lines.push_str(word);
        width += letters;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut take = |line: &str| {
            seen.push(line.to_owned());
            Ok::<(), ()>(())
        };
        for piece in ["on", "e\r\ntwo\n\nth", "ree"] {
            lines.push(piece.as_bytes(), &mut take).expect("takes all");
        }
        lines.finish(&mut take).expect("takes all");
        assert_eq!(seen, ["one", "two", "", "three"]);
    }

    #[test]
    fn words_are_wrapped_and_never_cut() {
        assert_eq!(wrapped("a bc\n def g", 5), "a bc\ndef g\n");
        assert_eq!(wrapped("a longerword b", 5), "a\nlongerword\nb\n");
    }

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(printable("a\tb\nc"), "a b; c");
        assert_eq!(printable("\u{1b}]0;owned\u{7}"), "\\u{1b}]0;owned\\u{7}");
        assert_eq!(printable("\u{9b}2J\u{202e}x"), "\\u{9b}2J\\u{202e}x");
        assert_eq!(printable("blåbær"), "blåbær");
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        assert_eq!(fitted("router", 6), "router");
        assert_eq!(fitted("router", 4), "rou…");
        assert_eq!(fitted("router", 0), "");
    }
}
