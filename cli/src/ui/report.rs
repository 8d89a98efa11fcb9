//! Refusals, failures and errors, for people: what, where, why, and what to type next.

use mln_link::message::{Failure, Refusal, Silence};
use mln_protocol::id::Name;

use super::text::printable;
use crate::error::CommandError;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// With colours of the terminal.
    Colour,
    /// Without.
    Plain,
}

impl Paint {
    /// Returns a word that says what kind of message follows.
    fn kind(self, word: &str, colour: u8) -> String {
        match self {
            Self::Colour => format!("\u{1b}[1;{colour}m{word}\u{1b}[0m"),
            Self::Plain => word.to_owned(),
        }
    }
}

const RED: u8 = 31;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;

/// Returns a refusal: the rule and who can change it.
pub fn refusal(refusal: &Refusal, paint: Paint) -> String {
    let by = refusal.host.as_ref().map_or("the agent", Name::as_str);
    let about = refusal.vm.as_ref().map(|vm| format!("{vm}: ")).unwrap_or_default();
    let kind = paint.kind("refused", RED);
    let mut text =
        format!("{kind} by {by}: {about}{} (rule {})\n", printable(&refusal.text), printable(&refusal.rule));
    if let Some(who) = &refusal.who_can_change {
        text.push_str(&hint(&format!("this can be changed by {}", printable(who)), paint));
    }
    text
}

/// Returns a failure: what, where, why, the last lines of the console, and what to try.
pub fn failure(failure: &Failure, paint: Paint) -> String {
    let vm = failure.vm.as_ref().map(|vm| format!(" {vm}")).unwrap_or_default();
    let host = failure.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
    let kind = paint.kind("failed", RED);
    let mut text = format!("{kind}: {}{vm}{host}: {}\n", printable(&failure.what), printable(&failure.why));
    if !failure.console_tail.is_empty() {
        text.push_str("  the last lines of its console:\n");
        for line in &failure.console_tail {
            text.push_str(&format!("  | {}\n", printable(line)));
        }
    }
    for command in &failure.next {
        text.push_str(&hint(&format!("try `{}`", printable(command)), paint));
    }
    text
}

/// Returns who didn't answer, and what follows from that.
pub fn silence(silence: &Silence, paint: Paint) -> String {
    format!("{} from {}: {}\n", paint.kind("no answer", YELLOW), silence.host, printable(&silence.text))
}

/// Returns a warning.
pub fn warning(text: &str, paint: Paint) -> String {
    format!("{}: {}\n", paint.kind("warning", YELLOW), printable(text))
}

/// Returns an error of this side with its causes and hints.
pub fn error(error: &CommandError, hints: &[String], paint: Paint) -> String {
    let mut text = format!("{}: {}", paint.kind("error", RED), printable(&error.to_string()));
    for cause in causes(error) {
        text.push_str(&format!(": {}", printable(&cause)));
    }
    text.push('\n');
    for line in hints {
        text.push_str(&hint(line, paint));
    }
    text
}

/// Returns the chain of what is behind an error, outermost first.
pub fn causes(error: &CommandError) -> Vec<String> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source()).map(ToString::to_string).collect()
}

fn hint(text: &str, paint: Paint) -> String {
    format!("{}: {text}\n", paint.kind("hint", CYAN))
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
