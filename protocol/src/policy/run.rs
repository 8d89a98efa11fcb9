//! The policies of one VM, run: when each is asked, what it sees, and what becomes of what it wants.
//!
//! ```text
//!            due                    wants                     answered
//! waiting ─────────▶ asked ─────────────────▶ open ─────────────────────▶ waiting
//!    ▲  ▲              │ a built-in one at once, a program when it ends      │ granted: asked again after `every`
//!    │  └── stays ─────┘                                                      │ refused: after a pause that doubles
//!    └── stands by: another VM with the same policy is elected                ▼
//! ```
//!
//! No clock, no process, no line: who runs it tells the time, starts programs and passes on what is wanted. One thing is
//! open at a time for each policy, so a policy that is slow, or a host that is, is never asked twice.

use super::{
    Builtin, Decided, Decision, GaugeError, Gauges, HostSeen, Machines, Memory, Sample, Sight, Verdict,
};
use crate::id::Name;
use crate::model::{Decider, Policy};

/// After so many refusals in a row the pause no longer grows: it is 2 to this power times `every`.
const DOUBLINGS_MAX: u32 = 6;
/// After how long what it wants counts as refused, in milliseconds: whoever was asked has forgotten it.
const OPEN_MS_MAX: u64 = 300_000;
/// How many of its own decisions a policy is told of.
pub const DECIDED_MAX: usize = 16;

/// What the service host has told of the mesh and the project.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The VM.
    pub vm: Name,
    /// The service host that it is on.
    pub host: Name,
    /// How many of each class the project's head has.
    pub classes: std::collections::BTreeMap<Name, u32>,
    /// The VM's further disks.
    pub volumes: u32,
    /// The hosts that it may be on, its own among them.
    pub hosts: Vec<HostSeen>,
    /// How long it has been in a cloud today, in milliseconds.
    pub cloud_spent_ms: u64,
    /// What the other machines of the project measure, by the clock that [`Runner::turn`] is called with.
    pub machines: Machines,
    /// For each of its policies, by name: who shares it, and what was decided by it.
    pub shared: std::collections::BTreeMap<Name, Shared>,
}

/// One policy among all VMs that have it from the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The VMs that have it, with this one.
    pub vms: Vec<Companion>,
    /// What was decided by it, by any of them, the newest last; by the clock that [`Runner::turn`] is called with.
    pub decided: Vec<Decided>,
}

/// A VM that has the same policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// Which.
    pub vm: Name,
    /// Whether it runs, as far as is known.
    pub runs: bool,
}

/// What is to be done for a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Its program is to be run; what comes of it is for [`Runner::ended`].
    Run {
        /// The policy.
        policy: Name,
        /// The program's absolute path, and its arguments.
        program: Vec<String>,
        /// What it sees.
        sight: Box<Sight>,
    },
    /// It wants something done; what comes of it is for [`Runner::answered`].
    Ask {
        /// The policy.
        policy: Name,
        /// What it wants, and why.
        verdict: Verdict,
    },
    /// It was asked, and wants nothing.
    Stay {
        /// The policy.
        policy: Name,
        /// Why.
        reason: String,
    },
    /// Another VM asks for all that have it.
    StandBy {
        /// The policy.
        policy: Name,
        /// Which one.
        elected: Name,
    },
}

/// What has become of something that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It is done, or will be.
    Yes,
    /// It is not: somebody was first, the envelope forbids it, or no host could be asked.
    No,
}

/// The policies of one VM.
#[derive(Clone, Debug)]
pub struct Runner {
    running: Vec<Running>,
    gauges: Gauges,
}

/// One of them.
#[derive(Clone, Debug)]
struct Running {
    policy: Policy,
    builtin: Option<Builtin>,
    memory: Memory,
    stage: Stage,
    /// How often in a row it was told no.
    refusals: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is asked at this time, in milliseconds.
    Waiting { until_ms: u64 },
    /// Its program runs.
    Asked,
    /// What it wants was passed on at this time, in milliseconds.
    Open { since_ms: u64 },
}

impl Runner {
    /// Begins to run policies: each is asked for the first time after its `every`. One without `run` and `builtin` is never
    /// asked.
    pub fn new(policies: Vec<Policy>, now_ms: u64) -> Self {
        let running = |policy: Policy| Running {
            builtin: Builtin::of(&policy),
            memory: Memory::default(),
            stage: Stage::Waiting { until_ms: now_ms.saturating_add(policy.every_ms) },
            refusals: 0,
            policy,
        };
        let running = policies.into_iter().filter(|policy| policy.decider.is_some()).map(running).collect();
        Self { running, gauges: Gauges::default() }
    }

    /// Replaces the policies, as a change of the project may; those that are as before go on as before.
    pub fn replace(&mut self, policies: Vec<Policy>, now_ms: u64) {
        let mut next = Self::new(policies, now_ms);
        for running in &mut next.running {
            if let Some(at) = self.running.iter().position(|before| before.policy == running.policy) {
                *running = self.running.swap_remove(at);
            }
        }
        self.running = next.running;
    }

    /// Takes the value of a gauge.
    pub fn measure(&mut self, gauge: &Name, sample: Sample) -> Result<(), GaugeError> {
        self.gauges.set(gauge, sample)
    }

    /// Returns the gauges.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Returns when a policy is to be asked next, in milliseconds; none while nothing waits.
    pub fn next_ms(&self) -> Option<u64> {
        let waiting = self.running.iter().filter_map(|running| match running.stage {
            Stage::Waiting { until_ms } => Some(until_ms),
            // Its answer may be lost.
            Stage::Open { since_ms } => Some(since_ms.saturating_add(OPEN_MS_MAX)),
            Stage::Asked => None,
        });
        waiting.min()
    }

    /// Asks each policy that is due.
    pub fn turn(&mut self, now_ms: u64, told: &Told) -> Vec<Turn> {
        for running in &mut self.running {
            if matches!(running.stage, Stage::Open { since_ms } if since_ms.saturating_add(OPEN_MS_MAX) <= now_ms)
            {
                running.refused(now_ms);
            }
        }
        let histories = self.gauges.histories();
        let is_due = |stage| matches!(stage, Stage::Waiting { until_ms } if until_ms <= now_ms);
        let due = self.running.iter_mut().filter(|running| is_due(running.stage));
        let asked = due.filter_map(|running| {
            let shared = told.shared.get(&running.policy.name).cloned().unwrap_or_default();
            let sight = Sight {
                now_ms,
                vm: told.vm.clone(),
                host: told.host.clone(),
                classes: told.classes.clone(),
                volumes: told.volumes,
                hosts: told.hosts.clone(),
                cloud_spent_ms: told.cloud_spent_ms,
                gauges: histories.clone(),
                machines: told.machines.clone(),
                decided: shared.decided.iter().rev().take(DECIDED_MAX).rev().cloned().collect(),
            };
            running.ask(&shared, sight)
        });
        asked.collect()
    }

    /// Takes what a policy's program has decided, or that it has not: with what went wrong it is asked again after a pause.
    pub fn ended(&mut self, policy: &Name, now_ms: u64, verdict: Result<Verdict, String>) -> Option<Turn> {
        let running = self.find(policy).filter(|running| running.stage == Stage::Asked)?;
        match verdict {
            Ok(verdict) => Some(running.decided(now_ms, verdict)),
            Err(reason) => {
                running.refused(now_ms);
                Some(Turn::Stay { policy: policy.clone(), reason })
            }
        }
    }

    /// Takes what has become of what a policy wanted.
    pub fn answered(&mut self, policy: &Name, now_ms: u64, granted: Granted) {
        let is_open = |running: &&mut Running| matches!(running.stage, Stage::Open { .. });
        let Some(running) = self.find(policy).filter(is_open) else { return };
        match granted {
            Granted::Yes => {
                running.refusals = 0;
                running.wait(now_ms, running.policy.every_ms);
            }
            Granted::No => running.refused(now_ms),
        }
    }

    fn find(&mut self, policy: &Name) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.policy.name == *policy)
    }
}

impl Running {
    fn ask(&mut self, shared: &Shared, sight: Sight) -> Option<Turn> {
        let (policy, now_ms) = (self.policy.name.clone(), sight.now_ms);
        if let Some(elected) = elected(&shared.vms).filter(|elected| **elected != sight.vm) {
            self.wait(now_ms, self.policy.every_ms);
            return Some(Turn::StandBy { policy, elected: elected.clone() });
        }
        match (&self.policy.decider, &self.builtin) {
            (Some(Decider::Builtin(_)), Some(builtin)) => {
                let (verdict, memory) = builtin.decide(&sight, std::mem::take(&mut self.memory));
                self.memory = memory;
                Some(self.decided(now_ms, verdict))
            }
            // Nothing says of what class it may have more: it can't want anything.
            (Some(Decider::Builtin(_)), None) => {
                self.wait(now_ms, self.policy.every_ms);
                let reason = "the policy has no `may scale`".to_owned();
                Some(Turn::Stay { policy, reason })
            }
            (Some(Decider::Run(program)), _) => {
                self.stage = Stage::Asked;
                Some(Turn::Run { policy, program: program.clone(), sight: Box::new(sight) })
            }
            (None, _) => None,
        }
    }

    fn decided(&mut self, now_ms: u64, verdict: Verdict) -> Turn {
        let policy = self.policy.name.clone();
        if verdict.decision == Decision::Stay {
            self.refusals = 0;
            self.wait(now_ms, self.policy.every_ms);
            return Turn::Stay { policy, reason: verdict.reason };
        }
        self.stage = Stage::Open { since_ms: now_ms };
        Turn::Ask { policy, verdict }
    }

    fn refused(&mut self, now_ms: u64) {
        let pause_ms = self.policy.every_ms.saturating_mul(1 << self.refusals.min(DOUBLINGS_MAX));
        self.refusals = self.refusals.saturating_add(1);
        self.wait(now_ms, pause_ms);
    }

    fn wait(&mut self, now_ms: u64, pause_ms: u64) {
        self.stage = Stage::Waiting { until_ms: now_ms.saturating_add(pause_ms.max(1)) };
    }
}

/// Returns which of the VMs that have one policy asks for all: the first by name of those that run.
///
/// It follows from what everybody knows, so that nobody has to be asked. Where two don't know the same, both ask: then one
/// revision wins, and the budget is one.
fn elected(vms: &[Companion]) -> Option<&Name> {
    vms.iter().filter(|companion| companion.runs).map(|companion| &companion.vm).min()
}

#[cfg(test)]
#[path = "run_test.rs"]
mod tests;
