//! Exit codes: what a script learns.

/// How `mlnctl` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `status`, all are up.
    Done,
    /// Something failed; for `status`, not all are up.
    Failed,
    /// There are changes: for `diff` and `plan`.
    Changes,
    /// A host, or the agent, refused.
    Refused,
    /// There is no agent to be reached.
    NoAgent,
    /// Some hosts didn't answer.
    Silent,
    /// The command line is wrong.
    Usage,
    /// As the command ended that `exec` ran.
    Command(u8),
}

impl Exit {
    /// Returns how a command ends that needs no agent: its code is 0, 1, 2 or 64.
    pub fn of_offline(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Changes,
            64 => Self::Usage,
            _ => Self::Failed,
        }
    }

    /// Returns how `mlnctl` ends that a signal ends: as a shell has it.
    pub fn of_signal(number: i32) -> Self {
        Self::Command(u8::try_from(128_i32.saturating_add(number)).unwrap_or(u8::MAX))
    }

    /// Returns the code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::Refused => 3,
            Self::NoAgent => 4,
            Self::Silent => 5,
            Self::Usage => 64,
            Self::Command(code) => code,
        }
    }
}
