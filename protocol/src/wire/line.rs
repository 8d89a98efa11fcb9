//! What host and guest say to each other over a guest's line, below exec, console and the like.
//!
//! Enumerations grow at their end only: host and guest may be of different versions.

use serde::{Deserialize, Serialize};

/// The version of the line's messages that this program speaks.
///
/// 1: commands. 2: terminals and the console too; a guest agent of version 1 answers those with
/// [`ClosedWire::NotStarted`] and no error number.
pub const LINE_VERSION: u16 = 2;

/// The longest message on a line, in bytes; it may span several frames.
pub const LINE_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The first words of a guest agent, each time that it opens the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloWire {
    /// [`LINE_VERSION`] of the guest.
    pub version: u16,
    /// Tells this opening of the line from earlier ones.
    pub session: u64,
    /// The guest agent's own version, for people.
    pub agent_version: String,
}

/// The host's answer to a [`HelloWire`]; the guest counts what it reads from the end of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeWire {
    /// [`LINE_VERSION`] of the host.
    pub version: u16,
    /// The session that the guest named.
    pub session: u64,
}

/// How much the guest has read: the host may have few bytes outstanding (see `line` in the agent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckWire {
    /// Bytes that were read since the end of the welcome, whatever they meant.
    pub read_bytes: u64,
}

/// How a process, or a whole guest, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndWire {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// How far a guest has come since it booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportWire {
    /// The seed is applied, the startup lines run.
    Starting,
    /// All of the seed is applied and the startup lines have ended well.
    Ready,
    /// The seed could not be applied.
    SeedFailed {
        /// What failed and why.
        text: String,
    },
    /// The startup lines ended with an error; the guest is otherwise usable.
    StartupFailed {
        /// How the shell ended that ran them.
        end: EndWire,
        /// The last lines that they printed.
        log_tail: String,
    },
}

/// What the host wants of a new channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenWire {
    /// A command, as root, with its three streams.
    Exec(ExecWire),
    /// A command, as root, on a terminal of its own: its output is one stream. Since version 2.
    Terminal(TerminalWire),
    /// The guest's console: a shell that outlives those who look at it. Since version 2.
    Console(ConsoleWire),
}

/// A command to run on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalWire {
    /// The command.
    pub exec: ExecWire,
    /// The terminal's size.
    pub size: SizeWire,
}

/// Somebody who wants to see and use the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleWire {
    /// What kind of terminal they have, as in `TERM`; counts for a shell that is started now.
    pub term: String,
    /// Its size; the console takes that of whoever came, or changed theirs, last.
    pub size: SizeWire,
    /// How many of the last lines they want to see again.
    pub lines: u32,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeWire {
    /// How many lines.
    pub rows: u16,
    /// How many characters in a line.
    pub columns: u16,
}

/// A command to run in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecWire {
    /// The program and its arguments; not of a shell.
    pub argv: Vec<Vec<u8>>,
    /// Variables beside those that the guest agent sets.
    pub environment: Vec<(String, String)>,
    /// The folder to run it in; none is `/root` or `/`.
    pub folder: Option<String>,
}

/// Room that the reader of a stream has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowWire {
    /// The stream, as in data messages.
    pub stream: u8,
    /// How many bytes more it may be sent.
    pub bytes: u32,
}

/// A signal for the process of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillWire {
    /// Its number; 0 kills the process and gives up what it still has to say, because nobody listens any more.
    pub signal: i32,
}

/// The last message of a channel, from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClosedWire {
    /// The process ran and ended.
    Ended(EndWire),
    /// The process could not be started.
    NotStarted {
        /// Why, with the program's name.
        text: String,
        /// The system's error number.
        errno: i32,
    },
    /// The guest runs as many as it can.
    TooMany {
        /// How many those are.
        limit: u32,
    },
}
