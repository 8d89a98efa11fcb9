//! Hooks: what a service host runs around the start and the stop of a project's VMs.
//!
//! ```text
//!            the first VM is to start                 all that were to start are up     all VMs here are up
//!  (none) ──beforeProjectStart─►beforeHostsStart─► starts ──afterHostsStart──► ──afterProjectStart──►
//!            somebody is to stop                      all that were to stop are down    none runs here
//!         ──beforeProjectStop──►beforeHostsStop──► stops ───afterHostsStop───► ──afterProjectStop───►
//! ```
//!
//! A VM whose step has to wait for a hook is asked again when it has ended. Which hooks have been run is known in memory
//! only: an agent that is killed meanwhile runs them again. What is stopped at once, or removed, waits for nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::io::{HookOwner, Output, Vouched};
use super::message::{Refusal, Rule};
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Label, Name, ProjectId, PublicKey, VmId};
use crate::model::{Fragment, HookPoint};
use crate::plan::{Existence, Observed, RunPhase, Step, StopLimit};
use crate::record::RunState;
use crate::time::Now;

/// The hooks of all projects that are being started or stopped.
#[derive(Clone, Debug, Default)]
pub(super) struct HookRounds {
    by_project: BTreeMap<ProjectId, Rounds>,
}

/// How far a project is with its hooks.
#[derive(Clone, Debug, Default)]
struct Rounds {
    /// The hook that is being run.
    running: Option<HookPoint>,
    /// The VMs whose step waits for it.
    waiting: BTreeSet<VmId>,
    /// Those that have come before; what comes after is still due.
    begun: BTreeSet<HookPoint>,
    /// Whether orders to stop that came together have been waited for.
    gathered: Gathered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gathered {
    #[default]
    NotYet,
    Done,
}

/// How a VM of ours stands, as far as hooks care.
pub(super) struct Standing {
    pub(super) vm: VmId,
    pub(super) existence: Existence,
    pub(super) run: RunState,
    pub(super) observed: Observed,
    pub(super) busy: Option<Step>,
}

impl Standing {
    fn runs(&self) -> bool {
        matches!(self.observed, Observed::Running(_)) || self.busy == Some(Step::Start)
    }

    fn is_up(&self) -> bool {
        self.observed == Observed::Running(RunPhase::Ready)
    }

    fn is_wanted(&self) -> bool {
        self.existence == Existence::Wanted
    }

    fn rises(&self) -> bool {
        self.is_wanted() && self.run == RunState::Up && !self.is_up()
    }

    fn falls(&self) -> bool {
        self.is_wanted() && self.run == RunState::Down && self.runs()
    }
}

impl Node {
    /// Refuses a part with hooks of somebody for whom this host runs none; `author` has signed what it is part of.
    ///
    /// Hooks that the part here has already, `before`, were judged when it was taken on: whoever changes the rest of the
    /// project, or goes on with what another host had begun, need not be the one who vouches for its owner.
    pub(super) fn judge_hooks(
        &self,
        author: PublicKey,
        label: &Label,
        fragment: &Fragment,
        before: Option<&Fragment>,
    ) -> Result<(), Refusal> {
        let is_known = |vouched: &Vouched| match vouched {
            Vouched::Here => author == self.me,
            Vouched::By(host) => self.records.named(host.as_str()) == Some(author),
            Vouched::ByAnybody => true,
        };
        let mut named = self.config.hook_owners.iter().filter(|one| one.owner == label.owner);
        let stays = before.is_some_and(|before| before.hooks == fragment.hooks)
            && is_named(&self.config.hook_owners, &label.owner);
        if fragment.hooks.is_empty() || stays || named.any(|one| is_known(&one.vouched)) {
            return Ok(());
        }
        let owner = &label.owner;
        let whom = match self.records.member(author) {
            Some(member) if author != self.me => format!("{owner}@{}", member.name),
            Some(_) | None => owner.to_string(),
        };
        let detail = format!(
            "the project has hooks, and this host runs none of {whom}; whoever runs it can allow it in config.toml, and \
             then restart the agent: [hooks] owners = [\"{whom}\"]"
        );
        Err(Refusal { rule: Rule::Hooks, detail })
    }

    /// Returns whether a VM's step may begin; where it may not, a hook comes first, and the VM is asked again after it.
    pub(super) fn hooks_allow(&mut self, now: Now, id: &VmId, step: Step) -> bool {
        let Some((label, fragment, _)) = self.owned(id) else { return true };
        if fragment.hooks.is_empty() {
            return true;
        }
        let (label, fragment) = (label.clone(), fragment.clone());
        let project = self.projects.project_of(id).unwrap_or(ProjectId(id.birth));
        let standings = self.vms.standings(project);
        let is_stop = match step {
            Step::Start => false,
            // One that is removed has no next start, and a stop that is under way may only become shorter.
            Step::Stop(StopLimit::After(_))
                if standings.iter().any(|vm| vm.vm == *id && vm.is_wanted() && vm.busy.is_none()) =>
            {
                true
            }
            Step::Stop(StopLimit::After(_)) => return true,
            Step::Build | Step::Remove | Step::Apply | Step::Stop(StopLimit::Now) => return true,
        };
        let rounds = self.hooks.by_project.entry(project).or_default();
        if rounds.running.is_some() {
            rounds.waiting.insert(id.clone());
            return false;
        }
        if is_stop && rounds.gathered == Gathered::NotYet {
            rounds.waiting.insert(id.clone());
            if !self.timers.is_set(&Timer::Hooks(project)) {
                self.timers.set(Timer::Hooks(project), now.mono_ms + limits::HOOKS_GATHER_MS);
            }
            return false;
        }
        for point in before(is_stop, &standings) {
            if !rounds.begun.contains(&point) {
                if fragment.hooks.lines(point).is_none() {
                    rounds.begun.insert(point);
                    continue;
                }
                rounds.running = Some(point);
                rounds.waiting.insert(id.clone());
                if is_named(&self.config.hook_owners, &label.owner) {
                    self.outbox.push(Output::Hook { project, point, label, fragment });
                } else {
                    let reason = format!(
                        "this host runs no hooks of {owner} any more; whoever runs it can allow it in config.toml, and \
                         then restart the agent: [hooks] owners = [\"{owner}\"]",
                        owner = label.owner
                    );
                    self.hook_done(now, project, point, Err(reason));
                }
                return false;
            }
        }
        true
    }

    /// Goes on after orders to stop that came together.
    pub(super) fn hooks_gathered(&mut self, now: Now, project: ProjectId) {
        if let Some(rounds) = self.hooks.by_project.get_mut(&project) {
            rounds.gathered = Gathered::Done;
            self.hooks_release(now, project);
        }
    }

    /// Takes in how a hook has ended.
    pub(super) fn hook_done(
        &mut self,
        now: Now,
        project: ProjectId,
        point: HookPoint,
        result: Result<(), String>,
    ) {
        let Some(rounds) = self.hooks.by_project.get_mut(&project) else { return };
        if rounds.running != Some(point) {
            return;
        }
        rounds.running = None;
        let mut turned = Vec::new();
        match (before_of(point), result) {
            // What comes after: there is nothing left that could be stopped.
            (Some(first), _) => _ = rounds.begun.remove(&first),
            (None, Ok(())) => _ = rounds.begun.insert(point),
            (None, Err(reason)) => {
                let is_stop = is_of_stop(point);
                rounds.begun.retain(|&begun| is_of_stop(begun) != is_stop);
                rounds.gathered = Gathered::NotYet;
                let reason = format!("{} failed: {reason}", point.keyword());
                let back_to = if is_stop { RunState::Up } else { RunState::Down };
                let turns = |vm: &Standing| if is_stop { vm.falls() } else { vm.rises() && !vm.runs() };
                let standings = self.vms.standings(project);
                for standing in standings.iter().filter(|vm| vm.busy.is_none() && turns(vm)) {
                    // Its failure is not to be overwritten at once by how it is.
                    rounds.waiting.remove(&standing.vm);
                    turned.push(standing.vm.clone());
                }
                for vm in turned {
                    self.turn_back(now, &vm, back_to, &reason);
                }
            }
        }
        self.hooks_release(now, project);
        self.hooks_due(project);
    }

    /// Asks the VMs again that have waited.
    fn hooks_release(&mut self, now: Now, project: ProjectId) {
        let Some(rounds) = self.hooks.by_project.get_mut(&project) else { return };
        for id in std::mem::take(&mut rounds.waiting) {
            self.reconcile(now, &id);
        }
    }

    /// Runs what comes after starts and stops, where these are over.
    pub(super) fn hooks_due(&mut self, project: ProjectId) {
        let Some(rounds) = self.hooks.by_project.get_mut(&project).filter(|one| one.running.is_none()) else {
            return;
        };
        let standings = self.vms.standings(project);
        let Some(first) = standings.first() else {
            self.timers.cancel(&Timer::Hooks(project));
            self.hooks.by_project.remove(&project);
            return;
        };
        let wanted: Vec<&Standing> = standings.iter().filter(|standing| standing.is_wanted()).collect();
        // In this order: what is about VMs is over before what is about the project.
        let after: [(HookPoint, HookPoint, Over); 4] = [
            (
                HookPoint::BeforeHostsStart,
                HookPoint::AfterHostsStart,
                Over::when(!wanted.iter().any(|vm| vm.rises())),
            ),
            (
                HookPoint::BeforeProjectStart,
                HookPoint::AfterProjectStart,
                if !wanted.is_empty() && wanted.iter().all(|vm| vm.is_up()) {
                    Over::Run
                } else if !wanted.iter().any(|vm| vm.runs() || vm.rises()) {
                    // Not all were to be started, and those that were are down again.
                    Over::Forget
                } else {
                    Over::NotYet
                },
            ),
            (
                HookPoint::BeforeHostsStop,
                HookPoint::AfterHostsStop,
                Over::when(!wanted.iter().any(|vm| vm.falls())),
            ),
            (
                HookPoint::BeforeProjectStop,
                HookPoint::AfterProjectStop,
                if !wanted.iter().any(|vm| vm.runs()) {
                    Over::Run
                } else if wanted.iter().any(|vm| vm.run == RunState::Up) {
                    Over::Forget
                } else {
                    Over::NotYet
                },
            ),
        ];
        for (begun, point, over) in after {
            if !rounds.begun.contains(&begun) || over == Over::NotYet {
                continue;
            }
            if begun == HookPoint::BeforeHostsStop {
                rounds.gathered = Gathered::NotYet;
            }
            let owned = self.vms.part(&first.vm).filter(|(label, fragment)| {
                over == Over::Run
                    && fragment.hooks.lines(point).is_some()
                    && is_named(&self.config.hook_owners, &label.owner)
            });
            match owned {
                Some((label, fragment)) => {
                    rounds.running = Some(point);
                    self.outbox.push(Output::Hook { project, point, label, fragment });
                    return;
                }
                None => _ = rounds.begun.remove(&begun),
            }
        }
    }
}

/// Returns whether hooks of an owner are run at all: whose word that is was judged before the part was built.
fn is_named(owners: &[HookOwner], owner: &Name) -> bool {
    owners.iter().any(|one| one.owner == *owner)
}

/// Whether what has begun is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    NotYet,
    /// It is, and its hook is run.
    Run,
    /// It is, and came to nothing.
    Forget,
}

impl Over {
    fn when(over: bool) -> Self {
        if over { Self::Run } else { Self::NotYet }
    }
}

/// Returns what has to come before a step, outermost first.
fn before(is_stop: bool, standings: &[Standing]) -> Vec<HookPoint> {
    let mut points = Vec::new();
    if is_stop {
        if !standings.iter().any(|vm| vm.is_wanted() && vm.run == RunState::Up) {
            points.push(HookPoint::BeforeProjectStop);
        }
        points.push(HookPoint::BeforeHostsStop);
    } else {
        if !standings.iter().any(Standing::runs) {
            points.push(HookPoint::BeforeProjectStart);
        }
        points.push(HookPoint::BeforeHostsStart);
    }
    points
}

/// Returns what came before, of what comes after.
fn before_of(point: HookPoint) -> Option<HookPoint> {
    match point {
        HookPoint::AfterHostsStart => Some(HookPoint::BeforeHostsStart),
        HookPoint::AfterProjectStart => Some(HookPoint::BeforeProjectStart),
        HookPoint::AfterHostsStop => Some(HookPoint::BeforeHostsStop),
        HookPoint::AfterProjectStop => Some(HookPoint::BeforeProjectStop),
        HookPoint::BeforeProjectStart
        | HookPoint::BeforeHostsStart
        | HookPoint::BeforeProjectStop
        | HookPoint::BeforeHostsStop => None,
    }
}

fn is_of_stop(point: HookPoint) -> bool {
    match point {
        HookPoint::BeforeProjectStop
        | HookPoint::BeforeHostsStop
        | HookPoint::AfterHostsStop
        | HookPoint::AfterProjectStop => true,
        HookPoint::BeforeProjectStart
        | HookPoint::BeforeHostsStart
        | HookPoint::AfterHostsStart
        | HookPoint::AfterProjectStart => false,
    }
}

#[cfg(test)]
#[path = "hooks_test.rs"]
mod tests;
