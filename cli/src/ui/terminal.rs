//! The user's terminal, handed to somebody else: every key goes there, and at the end it is as it was.

use std::io::{self, IsTerminal, Write};

use mln_link::message::TerminalSize;
use rustix::termios::{OptionalActions, Termios};

/// What switches off what a program may have switched on, where it was cut off: no mouse, no bracketed paste, usual
/// keys, a visible cursor, no colours.
const CALM: &str = "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0m";
/// What leads back from a program's own screen.
const LEAVE_SCREEN: &str = "\x1b[?1049l";
/// The longest of the words about screens, in bytes.
const WORD_BYTES: usize = 8;

/// The terminal at standard input, raw; it is as it was again when this is dropped, also by a panic.
pub struct RawTerminal {
    before: Termios,
    screen: ScreenWatch,
}

impl std::fmt::Debug for RawTerminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawTerminal({:?})", self.screen)
    }
}

impl RawTerminal {
    /// Makes the terminal raw.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = rustix::termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self { before, screen: ScreenWatch::default() })
    }

    /// Notes what is shown, so that it can be undone.
    pub fn note(&mut self, shown: &[u8]) {
        self.screen.note(shown);
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let leave = if self.screen.is_programs_own { LEAVE_SCREEN } else { "" };
        let mut out = io::stdout().lock();
        // A terminal that is gone needs nothing any more.
        let _ = write!(out, "{CALM}{leave}\r\n").and_then(|()| out.flush());
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Whether both standard input and standard output are a terminal.
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Returns the terminal's size; that of a usual one where it has none.
pub fn size() -> TerminalSize {
    match rustix::termios::tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        Ok(_) | Err(_) => TerminalSize { rows: 24, columns: 80 },
    }
}

/// Watches whether a program has a screen of its own, as editors do.
#[derive(Debug, Default)]
struct ScreenWatch {
    is_programs_own: bool,
    /// The end of what was shown, in which a word may have begun.
    tail: Vec<u8>,
}

impl ScreenWatch {
    fn note(&mut self, shown: &[u8]) {
        self.tail.extend_from_slice(shown);
        for window in self.tail.windows(WORD_BYTES) {
            match window {
                b"\x1b[?1049h" => self.is_programs_own = true,
                b"\x1b[?1049l" => self.is_programs_own = false,
                _ => {}
            }
        }
        let keep = self.tail.len().min(WORD_BYTES - 1);
        self.tail.drain(..self.tail.len() - keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_own_screen_is_noticed_in_pieces() {
        let after = |pieces: &[&str]| {
            let mut watch = ScreenWatch::default();
            pieces.iter().for_each(|piece| watch.note(piece.as_bytes()));
            watch.is_programs_own
        };
        assert!(after(&["text\x1b[?10", "49h~\r\n"]));
        assert!(!after(&["\x1b[?1049h~\r\n", "\x1b[?1049", "l# "]));
        assert!(!after(&["nothing"]));
    }
}
