//! The next step of one VM: a pure function of what is wanted of it and what was observed.

use crate::record::{ExitStatus, RunState};

/// Whether a VM should exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// The head revision has it.
    Wanted,
    /// The head revision leaves it out.
    Unwanted,
}

/// What the platform sees of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// There is nothing of it.
    Absent,
    /// It has a disk and does not run.
    Down {
        /// How it last ended, if it ever ran and that was noticed.
        exit: Option<ExitStatus>,
    },
    /// It ran, and whoever would know how it ended is gone: after a power cut.
    Lost,
    /// It runs.
    Running(RunPhase),
}

/// How far a running VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// Its guest has not yet said that it is ready.
    Booting,
    /// Its guest is ready.
    Ready,
}

/// One idempotent change of one VM, for its platform to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make its disk.
    Build,
    /// Start it.
    Start,
    /// Bring it down.
    Stop(StopLimit),
    /// Delete it.
    Remove,
    /// Give it, as it runs, what its definition says by now.
    Apply,
}

/// How long a VM may take to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopLimit {
    /// This long, in milliseconds; then it is killed.
    After(u64),
    /// No time: it is killed at once.
    Now,
}

impl StopLimit {
    /// Whether it ends a VM earlier than another limit that begins at the same time.
    pub fn is_sooner_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::Now, Self::After(_)) => true,
            (Self::After(ms), Self::After(other_ms)) => ms < other_ms,
            (Self::Now | Self::After(_), Self::Now) => false,
        }
    }
}

/// Returns what brings a VM closer to what is wanted, or nothing where it is there.
pub fn next_step(existence: Existence, run: RunState, limit: StopLimit, observed: &Observed) -> Option<Step> {
    match (existence, run, observed) {
        (Existence::Unwanted, _, Observed::Absent) => None,
        (Existence::Unwanted, _, Observed::Running(_)) => Some(Step::Stop(limit)),
        (Existence::Unwanted, _, Observed::Down { .. } | Observed::Lost) => Some(Step::Remove),
        (Existence::Wanted, _, Observed::Absent) => Some(Step::Build),
        (Existence::Wanted, RunState::Up, Observed::Down { .. } | Observed::Lost) => Some(Step::Start),
        (Existence::Wanted, RunState::Up, Observed::Running(_)) => None,
        (Existence::Wanted, RunState::Down, Observed::Running(_)) => Some(Step::Stop(limit)),
        (Existence::Wanted, RunState::Down, Observed::Down { .. } | Observed::Lost) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vm_gets_where_it_should_be_in_three_steps() {
        let seen = [
            Observed::Absent,
            Observed::Down { exit: None },
            Observed::Lost,
            Observed::Running(RunPhase::Booting),
            Observed::Running(RunPhase::Ready),
        ];
        for existence in [Existence::Wanted, Existence::Unwanted] {
            for run in [RunState::Up, RunState::Down] {
                for start in &seen {
                    let mut observed = start.clone();
                    let mut steps = 0;
                    while let Some(step) = next_step(existence, run, StopLimit::Now, &observed) {
                        observed = match step {
                            Step::Build | Step::Stop(_) => Observed::Down { exit: None },
                            Step::Start => Observed::Running(RunPhase::Ready),
                            Step::Remove => Observed::Absent,
                            Step::Apply => observed,
                        };
                        steps += 1;
                        assert!(steps <= 3, "{existence:?} {run:?} from {start:?} goes round in circles");
                    }
                    let running = matches!(observed, Observed::Running(_));
                    let absent = observed == Observed::Absent;
                    assert_eq!(absent, existence == Existence::Unwanted);
                    assert_eq!(running, existence == Existence::Wanted && run == RunState::Up);
                }
            }
        }
    }
}
