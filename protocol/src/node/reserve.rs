//! The asked host's side of a change: check, reserve, answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{Output, Room, Write};
use super::message::{Ask, Message, Refusal, Rule, RunningVms};
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, Label, Name, ProjectId, PublicKey};
use crate::model::{Forward, Fragment, Vm};
use crate::time::Now;
use crate::trust::Verified;
use crate::wire;

/// The revisions that this host has been asked about and that are not yet decided.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_revision: BTreeMap<Digest, Reserved>,
}

#[derive(Debug)]
struct Reserved {
    coordinator: PublicKey,
    project: ProjectId,
    label: Label,
    memory_mib: u32,
    fragment: Option<Arc<Fragment>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The platform looks at it.
    Checking,
    /// Answered with yes.
    Promised,
}

impl Reservations {
    fn memory_mib(&self) -> u32 {
        self.by_revision.values().map(|r| r.memory_mib).sum()
    }

    /// Returns the parts that this host keeps room for.
    pub(super) fn fragments(&self) -> impl Iterator<Item = &Arc<Fragment>> {
        self.by_revision.values().filter_map(|reserved| reserved.fragment.as_ref())
    }

    /// Ends a reservation: the revision is committed, withdrawn or too old.
    pub(super) fn take(&mut self, revision: Digest) -> Option<Arc<Fragment>> {
        self.by_revision.remove(&revision)?.fragment
    }
}

/// Returns the ports of its service host that lead to a VM.
fn ports(vm: &Vm) -> impl Iterator<Item = &Forward> {
    vm.networks.iter().flat_map(|network| &network.forwards)
}

impl Node {
    pub(super) fn asked(
        &mut self,
        now: Now,
        from: PublicKey,
        ask: &Verified<Ask>,
        fragment: Option<Arc<Fragment>>,
    ) {
        let revision = ask.digest;
        if ask.host != self.me {
            return;
        }
        if self.records.member(ask.author()).is_none() {
            let detail = format!("nobody here knows the key {} that signed this", ask.author().short());
            return self.refuse(from, revision, Refusal { rule: Rule::Grant, detail });
        }
        if self.projects.commit(revision).is_some() {
            self.promise(from, revision);
            return;
        }
        if let Some(reserved) = self.reservations.by_revision.get(&revision) {
            if reserved.stage == Stage::Promised {
                self.promise(from, revision);
            }
            return;
        }
        if self.reservations.by_revision.len() >= limits::RESERVATIONS_MAX {
            let detail = format!("{} changes are being decided; try again", limits::RESERVATIONS_MAX);
            return self.refuse(from, revision, Refusal { rule: Rule::NoAnswer, detail });
        }
        let judged = self.judge_journal(ask).and_then(|()| match &fragment {
            Some(fragment) => self.judge_part(ask, fragment),
            None => self.judge_removal(ask),
        });
        let memory_mib = match judged {
            Ok(memory_mib) => memory_mib,
            Err(refusal) => return self.refuse(from, revision, refusal),
        };
        let stage = if fragment.is_some() { Stage::Checking } else { Stage::Promised };
        let label = ask.revision.label.clone();
        let project = ask.revision.project.unwrap_or(ProjectId(revision));
        let reserved =
            Reserved { coordinator: from, project, label, memory_mib, fragment: fragment.clone(), stage };
        self.reservations.by_revision.insert(revision, reserved);
        self.timers.set(Timer::Reservation(revision), now.mono_ms + limits::RESERVATION_MS);
        match fragment {
            Some(fragment) => {
                self.outbox.push(Output::Check { revision, coordinator: from, fragment });
            }
            None => self.promise(from, revision),
        }
    }

    /// Refuses to speak for a project that this host has given its word to and forgotten.
    fn judge_journal(&self, ask: &Ask) -> Result<(), Refusal> {
        let Some(project) = ask.revision.project.filter(|project| self.carries_forgotten(*project)) else {
            return Ok(());
        };
        let detail = format!(
            "this host has lost its journal of the project: put a copy of projects/{} in its data folder back, or leave \
             this host out",
            project.0
        );
        Err(Refusal { rule: Rule::Forgotten, detail })
    }

    /// Whether a revision of a project says that this host carries a part, and this host knows nothing of it.
    fn carries_forgotten(&self, project: ProjectId) -> bool {
        let revisions = [self.projects.commit(project.0), self.projects.head(project)];
        let named = revisions.into_iter().flatten().any(|commit| commit.host(self.me).is_some());
        named && self.forgot(project)
    }

    /// Returns the projects that this host carries a part of and may not touch, since its journal of them is lost.
    pub fn forgotten(&self) -> impl Iterator<Item = ProjectId> {
        self.projects
            .heads()
            .filter(|(project, head)| !head.removes() && self.carries_forgotten(*project))
            .map(|(project, _)| project)
    }

    /// Judges a part that is to be built here, by what the node itself knows; returns its memory in MiB.
    fn judge_part(&self, ask: &Ask, fragment: &Fragment) -> Result<u32, Refusal> {
        let malformed = |detail: &str| Refusal { rule: Rule::Malformed, detail: detail.to_owned() };
        let Some(part) = ask.revision.hosts.iter().find(|host| host.key == self.me) else {
            return Err(malformed("the revision has no part for this host"));
        };
        if part.fragment != Digest::of(&wire::encode_fragment(fragment))
            || !part.vms.iter().map(|vm| &vm.name).eq(fragment.vms.iter().map(|vm| &vm.name))
        {
            return Err(malformed("the part is not the one that the revision names"));
        }
        let names: BTreeSet<_> = fragment.vms.iter().map(|vm| &vm.name).collect();
        if names.len() != fragment.vms.len() || part.name != self.config.name {
            return Err(malformed("the part names a VM twice, or another host"));
        }
        if self.room == Room::Full {
            let detail = "the disk of this host is full; free some space there".to_owned();
            return Err(Refusal { rule: Rule::Disk, detail });
        }
        self.judge_label(ask)?;
        if let Some(replaced) = ask.replaces {
            self.judge_running(ask, replaced)?;
        }
        if let Some(vm) = fragment.vms.iter().find(|vm| !self.config.platforms.contains(&vm.platform)) {
            let detail = format!("{}: this host does not run {} VMs", vm.name, vm.platform.keyword());
            return Err(Refusal { rule: Rule::Platform, detail });
        }
        self.judge_ports(ask, fragment)?;
        self.judge_memory(ask, fragment)
    }

    /// Refuses a port of this host that leads, or will lead, to another VM.
    fn judge_ports(&self, ask: &Ask, fragment: &Fragment) -> Result<(), Refusal> {
        let promised = self.reservations.by_revision.values().filter_map(|reserved| {
            let fragment =
                reserved.fragment.as_ref().filter(|_| Some(&reserved.label) != Some(&ask.revision.label))?;
            Some(
                fragment
                    .vms
                    .iter()
                    .flat_map(move |vm| ports(vm).map(move |port| (&reserved.label, &vm.name, port))),
            )
        });
        let label = &ask.revision.label;
        let mut taken: Vec<(&Label, &Name, &Forward)> =
            self.vms.forwards(ask.replaces).chain(promised.flatten()).collect();
        for vm in &fragment.vms {
            for port in ports(vm) {
                if let Some((label, other, _)) = taken.iter().find(|(_, _, there)| there.clashes_with(port)) {
                    let detail = format!(
                        "{}: forward {port}: port {} ({}) of this host leads to {label}/{other} already; choose another one, \
                         or remove that project",
                        vm.name,
                        port.host_port,
                        port.transport.word()
                    );
                    return Err(Refusal { rule: Rule::Platform, detail });
                }
                taken.push((label, &vm.name, port));
            }
        }
        Ok(())
    }

    fn judge_label(&self, ask: &Ask) -> Result<(), Refusal> {
        let label = &ask.revision.label;
        let built = self.projects.labelled(label).any(|project| Some(project) != ask.replaces);
        let pending = self.reservations.by_revision.iter().any(|(revision, reserved)| {
            *revision != ask.digest && reserved.label == *label && reserved.fragment.is_some()
        });
        if (built || pending) && !self.mutated_label_not_checked() {
            let detail = if built {
                format!("there is a project {label} already; build with -r to replace it")
            } else {
                format!("{label} is being built right now")
            };
            return Err(Refusal { rule: Rule::LabelInUse, detail });
        }
        Ok(())
    }

    fn judge_memory(&self, ask: &Ask, fragment: &Fragment) -> Result<u32, Refusal> {
        let wanted: u64 = fragment.vms.iter().map(|vm| u64::from(vm.memory.0)).sum();
        let reserved =
            if self.mutated_reservation_not_counted() { 0 } else { self.reservations.memory_mib() };
        let replaced = ask.replaces.map_or(0, |project| self.vms.memory_mib_of(project));
        let used = (self.vms.memory_mib() + reserved).saturating_sub(replaced);
        let limit = self.config.memory_limit.0;
        let free = limit.saturating_sub(used);
        match u32::try_from(wanted) {
            Ok(wanted) if wanted <= free => Ok(wanted),
            _ => {
                let detail = format!(
                    "{wanted} MiB wanted, {free} of {limit} MiB free; remove a project there, ask for less, or raise \
                     the host's memory limit"
                );
                Err(Refusal { rule: Rule::Memory, detail })
            }
        }
    }

    /// Judges a revision that leaves this host out; it needs no memory.
    fn judge_removal(&self, ask: &Ask) -> Result<u32, Refusal> {
        if ask.revision.parent.is_none() || ask.revision.hosts.iter().any(|host| host.key == self.me) {
            let detail = "the revision has a part for this host, and it did not come along".to_owned();
            return Err(Refusal { rule: Rule::Malformed, detail });
        }
        let known = ask.revision.project.and_then(|project| self.projects.head(project));
        if known.map(|head| head.digest) != ask.revision.parent {
            let detail = "this host knows another state of the project; try again in a moment".to_owned();
            return Err(Refusal { rule: Rule::Parent, detail });
        }
        if let Some(project) = ask.revision.project {
            self.judge_running(ask, project)?;
        }
        Ok(0)
    }

    /// Refuses to take running VMs away from under somebody.
    fn judge_running(&self, ask: &Ask, project: ProjectId) -> Result<(), Refusal> {
        let running: Vec<&str> = self.vms.running(project).map(Name::as_str).collect();
        if ask.running == RunningVms::Refuse && !running.is_empty() {
            let detail = format!(
                "{} still running; stop the project first, or use --force (its disks go either way)",
                running.join(", ")
            );
            return Err(Refusal { rule: Rule::Running, detail });
        }
        Ok(())
    }

    pub(super) fn checked(&mut self, _now: Now, revision: Digest, verdict: Result<(), Refusal>) {
        let Some(reserved) = self.reservations.by_revision.get_mut(&revision) else { return };
        let coordinator = reserved.coordinator;
        match verdict {
            Ok(()) => {
                reserved.stage = Stage::Promised;
                let (project, fragment) = (reserved.project, reserved.fragment.clone());
                if let Some(fragment) = fragment {
                    self.keep_fragment(fragment);
                }
                self.join(project);
                self.promise(coordinator, revision);
            }
            Err(refusal) => {
                self.reservations.take(revision);
                self.timers.cancel(&Timer::Reservation(revision));
                self.refuse(coordinator, revision, refusal);
            }
        }
    }

    pub(super) fn withdrawn(&mut self, _now: Now, from: PublicKey, revision: Digest) {
        if self.reservations.by_revision.get(&revision).is_some_and(|r| r.coordinator == from) {
            self.timers.cancel(&Timer::Reservation(revision));
            self.reservation_lapsed(revision);
        }
    }

    /// Forgets a reservation. What lapses is the room; a commit that comes later still counts.
    pub(super) fn reservation_lapsed(&mut self, revision: Digest) {
        if let Some(fragment) = self.reservations.take(revision) {
            self.drop_fragment(Digest::of(&wire::encode_fragment(&fragment)));
        }
    }

    pub(super) fn keep_fragment(&mut self, fragment: Arc<Fragment>) {
        let digest = Digest::of(&wire::encode_fragment(&fragment));
        if self.fragments.insert(digest, fragment.clone()).is_none() {
            self.outbox.write(Write::Fragment(digest, fragment));
        }
    }

    /// Forgets a fragment unless a project names it that is not removed, or whose removal is not done here.
    pub(super) fn drop_fragment(&mut self, digest: Digest) {
        let used = self.projects.heads().any(|(project, head)| {
            let part = self.projects.commit(project.0).and_then(|first| first.host(self.me));
            let own = part.is_some_and(|part| part.fragment == digest);
            head.revision.hosts.iter().any(|host| host.fragment == digest) || (own && !self.is_over(project))
        });
        // The same part may stand in several revisions: what is still being decided needs it, too.
        let decided = self.reservations.fragments().chain(self.proposals.fragments());
        let awaited = decided.into_iter().any(|part| Digest::of(&wire::encode_fragment(part)) == digest);
        if !used && !awaited && self.fragments.remove(&digest).is_some() {
            self.outbox.write(Write::DropFragment(digest));
        }
    }

    /// Forgets what was kept for revisions that were never committed.
    pub(super) fn drop_unused_fragments(&mut self) {
        let kept: Vec<Digest> = self.fragments.keys().copied().collect();
        for digest in kept {
            self.drop_fragment(digest);
        }
    }

    fn promise(&mut self, to: PublicKey, revision: Digest) {
        let verdict = Ok(wire::sign_reservation(&self.config.keys, revision));
        self.send(to, Message::Answer { revision, verdict });
    }

    fn refuse(&mut self, to: PublicKey, revision: Digest, refusal: Refusal) {
        self.send(to, Message::Answer { revision, verdict: Err(refusal) });
    }

    /// Ends the reservation of a committed revision: from now on its VMs are counted instead.
    pub(super) fn settle_reservation(&mut self, project: ProjectId) {
        let Some(head) = self.projects.head(project).map(|head| head.digest) else { return };
        self.timers.cancel(&Timer::Reservation(head));
        self.reservations.take(head);
    }
}
