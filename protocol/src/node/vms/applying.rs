//! What guests that run have of their definitions, and how they get the rest.
//!
//! A definition that changes under a VM that runs is carried out on it as it runs, by [`Step::Apply`]; where its platform
//! finds that it can't be, the VM is stopped and started once. What a guest has is the platform's to know: this is what the
//! node remembers of it, and after a restart of the agent that is nothing, so that every VM that runs is asked about once.
//!
//! ```text
//!   start ──► has its definition ──redefined──► lacks it ──Apply──► has it
//!                                                 │  ▲
//!                       NotLive ◄── Apply ────────┘  └── the agent was restarted: not known
//!                          └──► Stop ──► down ──► Start
//! ```

use std::sync::Arc;

use super::{Node, OwnedVm};
use crate::id::{Digest, Name, VmId};
use crate::model::{Fragment, Vm};
use crate::node::timers::Timer;
use crate::plan::{Existence, Observed, RunPhase, Step};
use crate::record::{Commit, RunState, VmState, VmStatus};
use crate::time::Now;
use crate::wire;

/// What is known of a guest that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Guest {
    /// The part whose definition of it the guest has; none where that isn't known.
    has: Option<Arc<Fragment>>,
    /// The part with which a step is under way that gives it one.
    under_way: Option<Arc<Fragment>>,
    /// Whether a start has failed: the guest may run all the same, with the definition of then.
    start_failed: bool,
    /// Whether what it lacks takes a start.
    restart: bool,
    /// The part for which it was last started once more: that is done once for each.
    restarted_for: Option<Arc<Fragment>>,
    /// The digest of the part that was last asked for: hashing it takes its time.
    named: Option<(Arc<Fragment>, Digest)>,
}

impl Guest {
    /// Takes note that a step begins.
    pub(super) fn begins(&mut self, step: Step, part: &Arc<Fragment>) {
        match step {
            Step::Start | Step::Apply => self.under_way = Some(part.clone()),
            Step::Build | Step::Stop(_) | Step::Remove => {}
        }
    }

    /// Takes note that a step has ended.
    pub(super) fn has_ended(&mut self, step: Step, well: bool) {
        match step {
            Step::Start => {
                let part = self.under_way.take().filter(|_| well && !self.start_failed);
                self.has = part;
                self.start_failed |= !well;
            }
            Step::Apply => {
                if let Some(part) = self.under_way.take().filter(|_| well) {
                    self.has = Some(part);
                    self.start_failed = false;
                    self.restarted_for = None;
                }
            }
            Step::Build | Step::Stop(_) | Step::Remove => {}
        }
    }

    /// Takes note of what is seen of the VM: one that doesn't run has its definition from its next start on.
    pub(super) fn is_seen(&mut self, observed: &Observed) {
        match observed {
            Observed::Running(_) => {}
            Observed::Absent | Observed::Down { .. } | Observed::Lost => {
                (self.has, self.restart) = (None, false);
            }
        }
    }

    /// Returns the digest of a part.
    fn digest(&mut self, part: &Arc<Fragment>) -> Digest {
        match &self.named {
            Some((named, digest)) if Arc::ptr_eq(named, part) => *digest,
            _ => {
                let digest = Digest::of(&wire::encode_fragment(part));
                self.named = Some((part.clone(), digest));
                digest
            }
        }
    }

    /// Takes what it is to have for what it has: a mutation.
    pub(super) fn believe(&mut self, part: &Arc<Fragment>) {
        self.has = Some(part.clone());
    }
}

impl OwnedVm {
    /// Whether it is stopped to be started again.
    pub(super) fn is_to_restart(&self) -> bool {
        self.guest.restart && self.status.run == RunState::Up && self.existence == Existence::Wanted
    }

    /// Returns what a VM lacks no step for, but for that it runs with an older definition.
    pub(super) fn step_as_it_runs(&self, id: &VmId) -> Option<Step> {
        if self.status.run != RunState::Up || self.existence != Existence::Wanted {
            return None;
        }
        match self.observed {
            Observed::Running(_) if self.guest.restart => Some(Step::Stop(self.stop_limit)),
            Observed::Running(RunPhase::Ready) if !self.has_definition(id) => Some(Step::Apply),
            Observed::Running(_) | Observed::Absent | Observed::Down { .. } | Observed::Lost => None,
        }
    }

    /// Whether its guest has what it is defined as, or will have when it is started.
    fn has_definition(&self, id: &VmId) -> bool {
        match &self.guest.has {
            Some(part) => is_same(&id.name, part, &self.fragment),
            None => !matches!(self.observed, Observed::Running(_)) && self.busy != Some(Step::Start),
        }
    }
}

/// Whether two parts say the same of a VM, as far as its guest and what it runs on are concerned.
fn is_same(vm: &Name, one: &Arc<Fragment>, other: &Arc<Fragment>) -> bool {
    fn found<'a>(vm: &Name, part: &'a Fragment) -> Option<&'a Vm> {
        part.vms.iter().find(|found| found.name == *vm)
    }
    if Arc::ptr_eq(one, other) {
        return true;
    }
    let (Some(before), Some(after)) = (found(vm, one), found(vm, other)) else { return false };
    let files = |part: &Fragment| {
        let wanted = |from: &String| after.files.iter().any(|file| file.from == *from);
        let blobs = part.blobs.iter().filter(|blob| wanted(&blob.from));
        let mut blobs: Vec<(String, Digest, u32)> =
            blobs.map(|blob| (blob.from.clone(), blob.digest, blob.mode)).collect();
        blobs.sort();
        blobs
    };
    // Where it stands and when it starts is the node's business alone.
    let before =
        Vm { service_host: after.service_host.clone(), boot_order: after.boot_order, ..before.clone() };
    before == *after && one.guest_names == other.guest_names && files(one) == files(other)
}

impl Node {
    /// Whether a VM has what a commit defines it as, as far as its owner says: where it is to have something else than
    /// before. An owner whose agent is of another version may not say.
    pub(in crate::node) fn has_part(&self, commit: &Commit, status: &VmStatus) -> bool {
        let Some((_, host)) = commit.placed().find(|(vm, _)| *vm == status.vm) else { return true };
        if !commit.reserving().contains(&host.key) {
            return true;
        }
        let born = self.projects.birthplace(&status.vm).map(|host| host.fragment);
        let version = self.records.host(host.key).map(|host| &host.agent_version);
        let says_nothing = status.part.is_none() && version != Some(&self.config.agent_version);
        // One that boots has it when it is up; nobody knows when, or whether, that will be.
        let boots = status.state == VmState::Booting;
        status.part.or(born) == Some(host.fragment) || says_nothing || boots
    }

    /// Takes in that a VM can't be given its definition as it runs.
    pub(in crate::node) fn not_live(&mut self, now: Now, id: &VmId) {
        let Some(vm) = self.vms.owned.get_mut(id).filter(|vm| vm.busy == Some(Step::Apply)) else { return };
        let again = vm.guest.restarted_for.as_ref().is_some_and(|part| is_same(&id.name, part, &vm.fragment));
        if again {
            // Its platform contradicts itself; starting it again and again would not help.
            let reason = "it was started once more for its definition, and still lacks some of it".to_owned();
            return self.step_done(now, id, Step::Apply, Err(reason));
        }
        vm.guest.restarted_for = Some(vm.fragment.clone());
        vm.busy = None;
        vm.failures = 0;
        vm.guest.has_ended(Step::Apply, false);
        vm.guest.restart = true;
        self.timers.cancel(&Timer::Retry(id.clone()));
        if let Some(seen) = vm.seen_starting.take() {
            self.observed(now, id, seen);
        } else {
            self.reconcile(now, id);
        }
        self.next_queued(now);
    }

    /// Says in the status of a VM which part's definition it has.
    pub(super) fn note_part(&mut self, id: &VmId) {
        let born = self.projects.birthplace(id).map(|host| host.fragment);
        let says_so = |vm: &&mut OwnedVm| vm.kept.is_none() && vm.has_definition(id);
        let Some(vm) = self.vms.owned.get_mut(id).filter(says_so) else { return };
        let part = vm.guest.digest(&vm.fragment);
        vm.status.part = Some(part).filter(|part| Some(*part) != born);
    }
}

#[cfg(test)]
#[path = "applying_test.rs"]
mod tests;
