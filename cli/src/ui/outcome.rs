//! What a command has to say, and the one place that says it.

use std::io::{self, Write};

/// What a command has to say, and how it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output: the answer.
    pub answer: String,
    /// For standard error: what is wrong.
    pub complaint: String,
    /// The exit code.
    pub code: u8,
}

impl Outcome {
    /// Writes it out; returns the exit code.
    ///
    /// A reader that goes away early, such as `head`, is no failure.
    pub fn write(&self) -> u8 {
        let complained = io::stderr().lock().write_all(self.complaint.as_bytes());
        let mut stdout = io::stdout().lock();
        let answered = stdout.write_all(self.answer.as_bytes()).and_then(|()| stdout.flush());
        let is_lost =
            |result: io::Result<()>| result.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
        if is_lost(answered) || is_lost(complained) { self.code.max(1) } else { self.code }
    }
}
