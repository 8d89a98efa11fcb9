//! Watching a change being carried out, for whoever asked for it.

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::io::{FailureCause, OnFailure, OpId, Outcome, Output, VmFailure};
use super::message::RunningVms;
use super::propose::{Goal, Phase};
use super::vms::KEPT;
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::record::{Commit, Consent, RunState, VmState, VmStatus};
use crate::time::Now;

impl Node {
    /// Shows what has changed in a project to whoever waits for it, and ends the wait when all is settled.
    pub(super) fn watch_build(&mut self, now: Now, project: ProjectId) {
        let watching: Vec<(OpId, Digest)> = self
            .proposals
            .by_op
            .iter()
            .filter_map(|(&op, proposal)| match proposal.phase {
                Phase::Watching(watched, target) if watched == project => Some((op, target)),
                Phase::Watching(..) | Phase::Asking | Phase::Promising => None,
            })
            .collect();
        for (op, target) in watching {
            self.show_changes(op, project);
            self.end_watch(now, op, project, target);
        }
    }

    fn show_changes(&mut self, op: OpId, project: ProjectId) {
        let Some(mut proposal) = self.proposals.by_op.remove(&op) else { return };
        let statuses: Vec<VmStatus> = self.project_vms(project).into_iter().cloned().collect();
        for status in statuses {
            if status.run == RunState::Up && matches!(status.state, VmState::Up | VmState::Stopping) {
                proposal.ran.insert(status.vm.clone());
            }
            if proposal.shown.get(&status.vm) != Some(&status.state) {
                proposal.shown.insert(status.vm.clone(), status.state.clone());
                let (vm, host, state) = (status.vm.name.clone(), status.host.clone(), status.state.clone());
                self.outbox.push(Output::Progress { op, vm, host, state });
            }
        }
        self.proposals.by_op.insert(op, proposal);
    }

    fn end_watch(&mut self, now: Now, op: OpId, project: ProjectId, target: Digest) {
        let (Some(proposal), Some(commit)) = (self.proposals.by_op.get(&op), self.projects.commit(target))
        else {
            return;
        };
        let wanted: BTreeSet<VmId> = commit.placed().map(|(vm, _)| vm).collect();
        let left_out = match commit.revision.consent {
            Consent::Majority => self.left_out(commit),
            // It removes nothing.
            Consent::Partial => BTreeSet::new(),
        };
        let statuses = self.project_vms(project);
        let of_target: Vec<&VmStatus> =
            statuses.iter().filter(|status| wanted.contains(&status.vm)).copied().collect();
        let is_over = |state: &VmState| match state {
            VmState::Removed | VmState::Kept => true,
            // Nobody removes it: that is all that can be done.
            VmState::Failed { reason } => reason == KEPT,
            VmState::Building | VmState::Down | VmState::Booting | VmState::Up | VmState::Stopping => false,
        };
        let gone = statuses.iter().filter(|s| left_out.contains(&s.vm) && is_over(&s.state)).count();
        let all_gone = gone == left_out.len();
        let moved = self.moved_by(commit);
        let built = of_target
            .iter()
            .filter(|status| self.is_there(status, &moved) && self.has_part(commit, status))
            .filter(|status| !is_coming_up(status, &proposal.ran))
            .count();
        // Somebody has changed it again.
        let over = of_target.iter().any(|status| status.state == VmState::Removed)
            || !self.projects.heads_of(project).is_some_and(|heads| heads.path().any(|r| *r == target));
        let failures = failures(&of_target);
        match &proposal.goal {
            Goal::Build(on_failure) if !failures.is_empty() => {
                let undo = *on_failure == OnFailure::Undo;
                self.build_failed(now, op, project, failures, undo);
            }
            Goal::Revise | Goal::Guest(_) if !failures.is_empty() => self.end(op, Outcome::Failed(failures)),
            Goal::Build(_) | Goal::Revise | Goal::Guest(_) if built == wanted.len() && all_gone => {
                self.end(op, Outcome::Done);
            }
            Goal::Build(_) | Goal::Revise | Goal::Guest(_) if over => self.stop_watching(op, project, target),
            Goal::Remove if all_gone => self.end(op, Outcome::Done),
            Goal::Undo(failures) if all_gone => {
                let failures = failures.clone();
                self.end(op, Outcome::Failed(failures));
            }
            Goal::Build(_) | Goal::Revise | Goal::Guest(_) | Goal::Remove | Goal::Undo(_) => {}
        }
    }

    /// Returns the VMs that a revision places on another host than its parent did, with that host.
    fn moved_by(&self, commit: &Commit) -> BTreeMap<VmId, PublicKey> {
        let Some(parent) = commit.revision.parent.and_then(|parent| self.projects.commit(parent)) else {
            return BTreeMap::new();
        };
        let before: BTreeMap<VmId, PublicKey> = parent.placed().map(|(vm, host)| (vm, host.key)).collect();
        let elsewhere = |(vm, host): &(VmId, PublicKey)| before.get(vm).is_some_and(|at| at != host);
        commit.placed().map(|(vm, host)| (vm, host.key)).filter(elsewhere).collect()
    }

    /// Whether a VM is as a change wants it: built; and one that moves is with its new owner and does there what it did.
    fn is_there(&self, status: &VmStatus, moved: &BTreeMap<VmId, PublicKey>) -> bool {
        let Some(&to) = moved.get(&status.vm) else { return is_built(&status.state) };
        let does = match status.run {
            RunState::Up => status.state == VmState::Up,
            RunState::Down => status.state == VmState::Down,
        };
        does && self.owner(&status.vm) == Some(to)
    }

    fn end(&mut self, op: OpId, outcome: Outcome) {
        self.proposals.by_op.remove(&op);
        self.done(op, outcome);
    }

    /// Tells the operator what is not where it should be: it goes on by itself.
    pub(super) fn stop_watching(&mut self, op: OpId, project: ProjectId, target: Digest) {
        let ran = self.proposals.by_op.get(&op).map(|proposal| proposal.ran.clone()).unwrap_or_default();
        let late = self.unsettled(project, target, &ran);
        self.end(op, Outcome::Failed(late));
    }

    fn build_failed(&mut self, now: Now, op: OpId, project: ProjectId, failures: Vec<VmFailure>, undo: bool) {
        self.proposals.by_op.remove(&op);
        let removal = undo.then(|| self.draft_removal(now, project, RunningVms::Stop, "undo")).flatten();
        match removal {
            Some(draft) => self.propose(now, op, Goal::Undo(failures), draft),
            None => self.done(op, Outcome::Failed(failures)),
        }
    }

    /// Returns what is known of a project's VMs, each from its own owner.
    pub(super) fn project_vms(&self, project: ProjectId) -> Vec<&VmStatus> {
        let births: Vec<Digest> = self.projects.births(project).collect();
        births
            .into_iter()
            .flat_map(|birth| {
                let of_owner =
                    move |(author, status): &(PublicKey, &VmStatus)| self.owner(&status.vm) == Some(*author);
                self.records.born_in(birth).filter(of_owner)
            })
            .map(|(_, status)| status)
            .collect()
    }

    fn unsettled(&self, project: ProjectId, target: Digest, ran: &BTreeSet<VmId>) -> Vec<VmFailure> {
        let commit = self.projects.commit(target);
        let wanted: BTreeSet<VmId> = commit.into_iter().flat_map(Commit::placed).map(|(vm, _)| vm).collect();
        let statuses = self.project_vms(project);
        let moved = commit.map(|commit| self.moved_by(commit)).unwrap_or_default();
        let late = |status: &&VmStatus| VmFailure {
            vm: status.vm.name.clone(),
            host: status.host.to_string(),
            reason: if is_coming_up(status, ran) { LATE_UP } else { LATE }.to_owned(),
            cause: FailureCause::Silent,
        };
        statuses
            .iter()
            .filter(|status| {
                let is_there = self.is_there(status, &moved)
                    && !is_coming_up(status, ran)
                    && commit.is_none_or(|commit| self.has_part(commit, status));
                !is_there && (wanted.is_empty() || wanted.contains(&status.vm))
            })
            .map(late)
            .collect()
    }
}

/// What is said of a VM with which it takes too long.
const LATE: &str = "not settled in time; it goes on by itself, see `mlnctl status`";

/// What is said of one that was started once more.
const LATE_UP: &str = "it was started once more, and is not up yet; see `mlnctl status` and `mlnctl logs`";

/// Whether a VM that ran is to run again, and doesn't yet.
fn is_coming_up(status: &VmStatus, ran: &BTreeSet<VmId>) -> bool {
    status.run == RunState::Up && status.state != VmState::Up && ran.contains(&status.vm)
}

fn is_built(state: &VmState) -> bool {
    match state {
        VmState::Down | VmState::Booting | VmState::Up | VmState::Stopping => true,
        VmState::Building | VmState::Removed | VmState::Kept | VmState::Failed { .. } => false,
    }
}

fn failures(statuses: &[&VmStatus]) -> Vec<VmFailure> {
    statuses
        .iter()
        .filter_map(|status| match &status.state {
            VmState::Failed { reason } => Some(VmFailure {
                vm: status.vm.name.clone(),
                host: status.host.to_string(),
                reason: reason.clone(),
                cause: FailureCause::Tried,
            }),
            VmState::Building
            | VmState::Down
            | VmState::Booting
            | VmState::Up
            | VmState::Stopping
            | VmState::Removed
            | VmState::Kept => None,
        })
        .collect()
}
