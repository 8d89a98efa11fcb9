//! Requests that lead into a VM: terminals, its console, its console log.

use serde::{Deserialize, Serialize};

use super::request::VmRef;

/// Run a command in a VM on a terminal of its own; what is typed follows as input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Where.
    pub vm: VmRef,
    /// The command and its arguments; no shell is involved.
    pub argv: Vec<String>,
    /// What kind of terminal the operator has, as in `TERM`.
    pub term: String,
    /// Its size.
    pub size: TerminalSize,
}

/// Look at a VM's console; what is typed follows as input.
///
/// What the console shows comes as standard output; what the VM's kernel says, while there is nobody in the VM to
/// ask, as standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// Which.
    pub vm: VmRef,
    /// How many of the last lines are shown again.
    pub lines: u32,
    /// What kind of terminal the operator has, as in `TERM`.
    pub term: String,
    /// Its size.
    pub size: TerminalSize,
}

/// The console log of a VM, as standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Which.
    pub vm: VmRef,
    /// How many of its last lines.
    pub lines: u32,
    /// Whether that is all.
    pub extent: LogExtent,
}

/// How much of a log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogExtent {
    /// What is there.
    Present,
    /// Also what comes, until the operator leaves.
    Follow,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// How many lines.
    pub rows: u16,
    /// How many characters in a line.
    pub columns: u16,
}
