//! The last output of the console, to be shown again.

use std::collections::VecDeque;

/// How much is kept, in bytes.
pub(super) const SCROLLBACK_BYTES_MAX: usize = 64 << 10;

/// The last output of the console.
#[derive(Debug, Default)]
pub(super) struct Scrollback {
    bytes: VecDeque<u8>,
    /// Whether something before the first byte is gone, so that the first line is half a line.
    is_cut: bool,
}

impl Scrollback {
    /// Adds output; the oldest goes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = match bytes.len().checked_sub(SCROLLBACK_BYTES_MAX) {
            Some(over @ 1..) => {
                self.is_cut = true;
                &bytes[over..]
            }
            Some(0) | None => bytes,
        };
        let over = (self.bytes.len() + bytes.len()).saturating_sub(SCROLLBACK_BYTES_MAX);
        self.is_cut |= over > 0;
        self.bytes.drain(..over.min(self.bytes.len()));
        self.bytes.extend(bytes);
    }

    /// Returns the last `lines` lines, the one that has not ended among them.
    pub(super) fn tail(&self, lines: usize) -> Vec<u8> {
        if lines == 0 {
            return Vec::new();
        }
        let ends = |byte: &u8| *byte == b'\n';
        let after_end = |at: usize| at + 1;
        // The line that has not ended is one; before the n-th line from the end stands the n-th end of a line.
        let start = self.bytes.iter().rev().enumerate().filter(|(_, byte)| ends(byte)).nth(lines - 1);
        let start = match start {
            Some((from_end, _)) => self.bytes.len() - from_end,
            None if self.is_cut => self.bytes.iter().position(ends).map_or(0, after_end),
            None => 0,
        };
        self.bytes.iter().skip(start).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(pieces: &[&str], lines: usize) -> String {
        let mut scrollback = Scrollback::default();
        pieces.iter().for_each(|piece| scrollback.push(piece.as_bytes()));
        String::from_utf8(scrollback.tail(lines)).expect("text")
    }

    #[test]
    fn the_last_lines_come_back_with_the_one_that_has_not_ended() {
        let pieces = ["one\ntw", "o\nthree\n# "];
        assert_eq!(tail(&pieces, 0), "");
        assert_eq!(tail(&pieces, 1), "# ");
        assert_eq!(tail(&pieces, 2), "three\n# ");
        assert_eq!(tail(&pieces, 100), "one\ntwo\nthree\n# ");
    }

    #[test]
    fn it_stays_within_its_limit_and_begins_with_a_whole_line() {
        let mut scrollback = Scrollback::default();
        for number in 0..20_000 {
            scrollback.push(format!("{number:07}\n").as_bytes());
        }
        let all = scrollback.tail(usize::MAX);
        assert!(all.len() <= SCROLLBACK_BYTES_MAX && all.len() > SCROLLBACK_BYTES_MAX - 16);
        assert!(all.len().is_multiple_of(8) && all.ends_with(b"0019999\n"));
        scrollback.push(&[b'x'; 3 * SCROLLBACK_BYTES_MAX]);
        assert_eq!(scrollback.tail(1).len(), SCROLLBACK_BYTES_MAX);
    }
}
