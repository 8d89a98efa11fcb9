//! The asked host's side of a change: check, reserve, answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::io::{Output, Write};
use super::message::{Ask, Message, Refusal, Rule, RunningVms};
use super::projects::Fate;
use super::reservations::{Reserved, Stage};
use super::standing::Signing;
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use crate::model::{Forward, Fragment, Hooks, Project, Vm};
use crate::plan::{Change, Permission, plan};
use crate::record::{Commit, Consent, RevisionHost};
use crate::time::Now;
use crate::trust::Verified;
use crate::wire;

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
        match self.signing() {
            // It is asked again in a moment.
            _ if ask.host != self.me => return,
            Signing::Asking => return,
            Signing::Doubled => return self.refuse(from, revision, self.doubled_refusal()),
            Signing::Confirmed | Signing::Unconfirmed => {}
        }
        if self.records.member(ask.author()).is_none() && !self.mutated_strangers_heard() {
            let detail = format!("nobody here knows the key {} that signed this", ask.author().short());
            return self.refuse(from, revision, Refusal { rule: Rule::Grant, detail });
        }
        if self.projects.is_proven(revision) {
            self.reserve(from, revision);
            return;
        }
        let before = self.reservations.by_revision.get(&revision);
        match before.map(|reserved| reserved.stage) {
            Some(Stage::Held) => return self.reserve(from, revision),
            Some(Stage::Checking) => return,
            Some(Stage::Lapsed) | None => {}
        }
        let noted = before.and_then(|reserved| reserved.noted);
        if self.reservations.held().count() >= limits::RESERVATIONS_MAX {
            let detail = format!("{} changes are being decided; try again", limits::RESERVATIONS_MAX);
            return self.refuse(from, revision, Refusal { rule: Rule::NoAnswer, detail });
        }
        let judged = self.judge_asked(now, ask).and_then(|()| self.judge(ask, fragment));
        let (fragment, memory_mib) = match judged {
            Ok(judged) => judged,
            Err(refusal) => return self.refuse(from, revision, refusal),
        };
        let parent = ask.revision.parent;
        let reserved = Reserved {
            coordinator: from,
            label: ask.revision.label.clone(),
            project: ask.revision.project,
            parent,
            memory_mib,
            fragment: fragment.clone(),
            part: ask.revision.host(self.me).map(|part| part.fragment),
            definition: ask.revision.definition,
            charge: ask.revision.charge.clone(),
            stage: Stage::Checking,
            noted,
        };
        self.reservations.by_revision.insert(revision, reserved);
        self.timers.set(Timer::Reservation(revision), now.mono_ms + limits::RESERVATION_MS);
        let (arriving, leaving) = self.moving(ask);
        match fragment {
            Some(fragment) => {
                let before = self.carried_before(ask);
                let output =
                    Output::Check { revision, coordinator: from, fragment, before, arriving, leaving };
                self.outbox.push(output);
            }
            None => self.checked(now, revision, Ok(())),
        }
    }

    /// Returns the digest of what a project would be submitted as by a revision that this host is asked about.
    pub fn definition_asked(&self, revision: Digest) -> Option<Digest> {
        self.reservations.by_revision.get(&revision).map(|reserved| reserved.definition)
    }

    /// Returns what a revision that this host is asked about would follow.
    pub fn parent_asked(&self, revision: Digest) -> Option<Digest> {
        self.reservations.by_revision.get(&revision)?.parent
    }

    /// Returns the VMs of these names that a revision has, each with who owns it.
    pub fn arrivals(&self, parent: Option<Digest>, names: &[Name]) -> Vec<(VmId, PublicKey)> {
        let Some(parent) = parent.and_then(|parent| self.projects.commit(parent)) else { return Vec::new() };
        let vms = parent.revision.hosts.iter().flat_map(|host| host.ids(parent.digest));
        vms.filter(|vm| names.contains(&vm.name))
            .filter_map(|vm| Some((vm.clone(), self.owner(&vm)?)))
            .collect()
    }

    /// Returns the part of this host in the parent of what is asked.
    pub(super) fn part_before(&self, ask: &Ask) -> Option<&RevisionHost> {
        self.projects.commit(ask.revision.parent?)?.host(self.me)
    }

    /// Returns what this host carries of the project before what is asked, with the VMs that it brings back.
    pub(super) fn carried_before(&self, ask: &Ask) -> Option<Arc<Fragment>> {
        let before = self.part_before(ask).and_then(|part| self.fragments.get(&part.fragment));
        match ask.revision.host(self.me) {
            Some(after) => self.with_kept(before, after, ask.digest),
            None => before.cloned(),
        }
    }

    /// Refuses to bring a VM back whose disk is not here: it would be another one under its name.
    fn judge_return(&self, ask: &Ask, part: &RevisionHost) -> Result<(), Refusal> {
        let gone = |vm: &VmId| {
            vm.birth != ask.digest
                && self.projects.fate(vm) == Some(Fate::Removed)
                && !self.may_come_back(vm)
                && !self.mutated_identity_without_birth()
        };
        let Some(vm) = part.ids(ask.digest).find(gone) else { return Ok(()) };
        let detail = format!(
            "{}: the disk that it had is gone by now, or is just being deleted; ask again in a moment, for a new one",
            vm.name
        );
        Err(Refusal { rule: Rule::Parent, detail })
    }

    /// Returns the VMs of a revision that come here from other hosts, and those that go from here to others.
    pub(super) fn moving(&self, ask: &Ask) -> (Vec<Name>, Vec<Name>) {
        let ids = |host: &RevisionHost, revision| host.ids(revision).collect::<BTreeSet<VmId>>();
        let parent = ask.revision.parent.and_then(|parent| self.projects.commit(parent));
        let before =
            parent.and_then(|parent| Some(ids(parent.host(self.me)?, parent.digest))).unwrap_or_default();
        let after = ask.revision.host(self.me).map(|host| ids(host, ask.digest)).unwrap_or_default();
        let everywhere: BTreeSet<VmId> =
            ask.revision.hosts.iter().flat_map(|host| host.ids(ask.digest)).collect();
        let names = |ids: &mut dyn Iterator<Item = &VmId>| ids.map(|vm| vm.name.clone()).collect();
        (
            // One that is here by a partial revision needs no way here.
            names(&mut after.difference(&before).filter(|vm| vm.birth != ask.digest && !self.vms.owns(vm))),
            names(&mut before.difference(&after).filter(|vm| everywhere.contains(vm))),
        )
    }

    /// Judges this host's part of a revision by what the node itself knows; returns the part, if it has one, and the
    /// memory in MiB that it takes beside what the project has here.
    pub(super) fn judge(
        &self,
        ask: &Verified<Ask>,
        fragment: Option<Arc<Fragment>>,
    ) -> Result<(Option<Arc<Fragment>>, u32), Refusal> {
        let malformed = |detail: &str| Refusal { rule: Rule::Malformed, detail: detail.to_owned() };
        self.judge_journal(ask)?;
        if let Some(parent) = ask.revision.parent {
            self.judge_parent(ask, parent)?;
        }
        let Some(part) = ask.revision.host(self.me) else {
            if ask.revision.parent.is_none() || fragment.is_some() {
                return Err(malformed("the revision has no part for this host"));
            }
            if let Some(project) = ask.revision.project {
                self.judge_running(ask, project)?;
            }
            return Ok((None, 0));
        };
        // What it has had already need not come along: going back to an earlier revision, for example.
        let fragment = fragment.or_else(|| self.fragments.get(&part.fragment).cloned()).ok_or_else(|| {
            malformed("the revision has a part for this host, and it did not come along nor is it known here")
        })?;
        self.judge_charge(ask, &fragment)?;
        let before = self.part_before(ask).and_then(|part| self.fragments.get(&part.fragment));
        self.judge_hooks(ask.author(), &ask.revision.label, &fragment, before.map(|part| &**part))?;
        let memory_mib = self.judge_part(ask, part, &fragment)?;
        Ok((Some(fragment), memory_mib))
    }

    /// Refuses to speak for a project that this host has given its word to and forgotten, but for leaving it out: that
    /// takes no room and no memory of what was promised, and without it nobody could go on.
    fn judge_journal(&self, ask: &Ask) -> Result<(), Refusal> {
        let Some(project) = ask.revision.project.filter(|project| self.carries_forgotten(*project)) else {
            return Ok(());
        };
        if self.lets_others_go_on(ask) && !self.mutated_forgotten_not_let_go() {
            return Ok(());
        }
        let detail = format!(
            "this host has lost its journal of the project: put a copy of projects/{} in its data folder back, or leave \
             this host out",
            project.0
        );
        Err(Refusal { rule: Rule::Forgotten, detail })
    }

    /// Whether a revision has no part for this host, and leaves somebody who can decide on the next one: of a partial
    /// one these are the hosts that it names and that reserve for it.
    fn lets_others_go_on(&self, ask: &Ask) -> bool {
        if ask.revision.host(self.me).is_some() {
            return false;
        }
        let parent = ask.revision.parent.and_then(|parent| self.projects.commit(parent));
        match (ask.revision.consent, parent) {
            (Consent::Majority, _) => true,
            (Consent::Partial, Some(parent)) => {
                let changed = parent.revision.changed_hosts(parent.digest, &ask.revision, ask.digest);
                ask.revision.hosts.iter().any(|host| changed.contains(&host.key))
            }
            (Consent::Partial, None) => false,
        }
    }

    /// Whether a revision of a project that counts says that this host carries a part, and this host has forgotten it.
    fn carries_forgotten(&self, project: ProjectId) -> bool {
        self.forgot(project) && self.projects.proven(project).any(|commit| commit.host(self.me).is_some())
    }

    /// Returns the projects that this host carries a part of and may not promise for, since its journal is lost.
    pub fn forgotten(&self) -> impl Iterator<Item = ProjectId> {
        self.projects
            .heads()
            .filter(|(project, head)| head.host(self.me).is_some() && self.carries_forgotten(*project))
            .map(|(project, _)| project)
    }

    /// Refuses what doesn't follow from what this host knows of the project.
    pub(super) fn judge_parent(&self, ask: &Verified<Ask>, parent: Digest) -> Result<(), Refusal> {
        let other = || Refusal {
            rule: Rule::Parent,
            detail: "this host knows another state of the project; try again in a moment".to_owned(),
        };
        let heads =
            ask.revision.project.and_then(|project| self.projects.heads_of(project)).ok_or_else(other)?;
        let fits = match ask.revision.consent {
            Consent::Majority => *heads.newest() == parent,
            Consent::Partial => heads.head() == parent && heads.contested.is_empty(),
        };
        let known = self.projects.commit(parent).filter(|_| fits).ok_or_else(other)?;
        let candidate = Commit {
            revision: ask.revision.clone(),
            digest: ask.digest,
            reservations: Vec::new(),
            promises: Vec::new(),
        };
        if !self.projects.changed(known, &candidate).contains(&self.me) {
            let detail = "the revision doesn't change this host's part".to_owned();
            return Err(Refusal { rule: Rule::Malformed, detail });
        }
        if !self.projects.births_are_known(&candidate) {
            let detail = "the revision has a VM that was born in one that this host doesn't know".to_owned();
            return Err(Refusal { rule: Rule::Parent, detail });
        }
        if ask.revision.host(self.me).is_some() {
            self.judge_noted(parent, ask.digest)?;
        }
        Ok(())
    }

    /// Refuses one more child of a parent than this host can remember that it has given its word to.
    fn judge_noted(&self, parent: Digest, child: Digest) -> Result<(), Refusal> {
        if self.can_note_reserved(parent, child) {
            return Ok(());
        }
        let detail = format!(
            "this host has said yes to {} other changes of this project, of which none is decided; wait {} s, or until \
             those who want them give up",
            limits::RESERVED_PARTS_MAX,
            limits::RESERVATION_MS / 1000
        );
        Err(Refusal { rule: Rule::Parent, detail })
    }

    /// Judges a part that is to be carried here; returns the memory in MiB that it takes beside what is there.
    fn judge_part(&self, ask: &Ask, part: &RevisionHost, fragment: &Fragment) -> Result<u32, Refusal> {
        let malformed = |detail: &str| Refusal { rule: Rule::Malformed, detail: detail.to_owned() };
        if part.fragment != Digest::of(&wire::encode_fragment(fragment))
            || !part.vms.iter().map(|vm| &vm.name).eq(fragment.vms.iter().map(|vm| &vm.name))
        {
            return Err(malformed("the part is not the one that the revision names"));
        }
        let names: BTreeSet<_> = fragment.vms.iter().map(|vm| &vm.name).collect();
        if names.len() != fragment.vms.len() || part.name != self.config.name {
            return Err(malformed("the part names a VM twice, or another host"));
        }
        match ask.revision.parent {
            None => self.judge_label(ask)?,
            Some(_) => {
                self.judge_return(ask, part)?;
                self.judge_loss(ask, fragment)?;
            }
        }
        if let Some(changed) = ask.replaces.or(ask.revision.project) {
            self.judge_running(ask, changed)?;
        }
        if let Some(vm) = fragment.vms.iter().find(|vm| !self.config.platforms.contains(&vm.platform)) {
            let detail = format!("{}: this host does not run {} VMs", vm.name, vm.platform.keyword());
            return Err(Refusal { rule: Rule::Platform, detail });
        }
        self.judge_ports(ask, fragment)?;
        self.judge_memory(ask, fragment)
    }

    /// Refuses what would cost a VM that stays what it has written to its disk.
    fn judge_loss(&self, ask: &Ask, fragment: &Fragment) -> Result<(), Refusal> {
        let Some(before) = self.carried_before(ask) else { return Ok(()) };
        let stays: BTreeSet<&Name> = self
            .staying(ask)
            .into_iter()
            .flat_map(|part| &part.vms)
            .filter(|vm| vm.birth.is_some())
            .map(|vm| &vm.name)
            .collect();
        let project = |fragment: &Fragment| Project {
            name: ask.revision.label.project.clone(),
            vms: fragment.vms.iter().filter(|vm| stays.contains(&vm.name)).cloned().collect(),
            switches: Vec::new(),
            hooks: Hooks::default(),
        };
        for change in plan(&project(&before), &project(fragment), &BTreeSet::new()) {
            if let (Permission::Refused(loss), Change::VmChanged { vm, .. }) =
                (change.permission, &change.change)
            {
                let detail =
                    format!("{vm}: {}; give the new one another name, or leave it as it is", loss.reason());
                return Err(Refusal { rule: Rule::DiskLoss, detail });
            }
        }
        Ok(())
    }

    fn staying<'a>(&self, ask: &'a Ask) -> Option<&'a RevisionHost> {
        ask.revision.host(self.me)
    }

    /// Refuses a port of this host that leads, or will lead, to another VM.
    fn judge_ports(&self, ask: &Ask, fragment: &Fragment) -> Result<(), Refusal> {
        let promised = self.reservations.held().filter_map(|(_, reserved)| {
            let fragment = reserved.fragment.as_ref().filter(|_| reserved.label != ask.revision.label)?;
            Some(
                fragment
                    .vms
                    .iter()
                    .flat_map(move |vm| ports(vm).map(move |port| (&reserved.label, &vm.name, port))),
            )
        });
        let label = &ask.revision.label;
        let mut taken: Vec<(&Label, &Name, &Forward)> =
            self.vms.forwards(ask.replaces.or(ask.revision.project)).chain(promised.flatten()).collect();
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
        let pending = self.reservations.held().any(|(revision, reserved)| {
            *revision != ask.digest && reserved.label == *label && reserved.part.is_some()
        });
        if (built || pending) && !self.mutated_label_not_checked() {
            let detail = if built && ask.replaces.is_some() {
                format!("there are two projects {label}; remove one by its digest: mlnctl remove -p DIGEST")
            } else if built {
                format!(
                    "there is a project {label} already; `mlnctl upgrade -f FILE` changes it and keeps its disks, `mlnctl build -r \
                     -f FILE` replaces it by a new one"
                )
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
        // What is counted with the new part, or makes room for it. VMs that move away are here until they have moved, and
        // what no majority has ever had is never removed.
        let part: BTreeSet<VmId> =
            ask.revision.host(self.me).into_iter().flat_map(|part| part.ids(ask.digest)).collect();
        let stays: BTreeSet<VmId> = ask.revision.hosts.iter().flat_map(|host| host.ids(ask.digest)).collect();
        let makes_room = |vm: &VmId| {
            ask.revision.consent == Consent::Majority && !stays.contains(vm) && self.projects.was_decided(vm)
        };
        let changed = ask.replaces.or(ask.revision.project);
        let staying = changed.map_or(0, |project| self.vms.memory_mib_of(project, |vm| part.contains(vm)));
        let going = changed.map_or(0, |project| self.vms.memory_mib_of(project, makes_room));
        let arriving = self.arriving_memory().0;
        let here = self.vms.memory_mib() + self.left_over_mib();
        let used = (here + arriving + reserved).saturating_sub(staying + going);
        let limit = self.config.memory_limit.0;
        let free = limit.saturating_sub(used);
        match u32::try_from(wanted) {
            // What stays is counted with its VMs. What goes makes room only once it has gone: until then others must not
            // take it.
            Ok(wanted) if wanted <= free || self.mutated_room_not_counted() => {
                Ok(wanted.saturating_sub(staying))
            }
            _ => {
                let detail = format!(
                    "{wanted} MiB wanted, {free} of {limit} MiB free; remove a project there, ask for less, or raise \
                     the host's memory limit"
                );
                Err(Refusal { rule: Rule::Memory, detail })
            }
        }
    }

    /// Refuses to take running VMs away from under somebody: those that stay go on.
    fn judge_running(&self, ask: &Ask, project: ProjectId) -> Result<(), Refusal> {
        let stays: BTreeSet<VmId> = ask.revision.hosts.iter().flat_map(|host| host.ids(ask.digest)).collect();
        let running = self.vms.running(project).filter(|vm| ask.replaces.is_some() || !stays.contains(vm));
        let running: Vec<&str> = running.map(|vm| vm.name.as_str()).collect();
        if ask.running == RunningVms::Refuse && !running.is_empty() {
            let disks = if ask.revision.keep_removed_ms > 0 && ask.replaces.is_none() {
                "the disks are kept for a while"
            } else {
                "the disks go either way"
            };
            let names = running.join(", ");
            let detail = format!("{names} still running; stop first what goes, or use --force ({disks})");
            return Err(Refusal { rule: Rule::Running, detail });
        }
        Ok(())
    }

    pub(super) fn checked(&mut self, _now: Now, revision: Digest, verdict: Result<(), Refusal>) {
        let Some(reserved) = self.reservations.by_revision.get(&revision) else { return };
        let coordinator = reserved.coordinator;
        let verdict = if self.own_runs.signs() { verdict } else { Err(self.doubled_refusal()) };
        // Others were asked about, too, while the platform looked at this one.
        let noted = reserved.parent.filter(|_| reserved.fragment.is_some());
        let verdict =
            verdict.and_then(|()| noted.map_or(Ok(()), |parent| self.judge_noted(parent, revision)));
        let Some(reserved) = self.reservations.by_revision.get_mut(&revision) else { return };
        match verdict {
            Ok(()) => {
                reserved.stage = Stage::Held;
                let (fragment, parent) = (reserved.fragment.clone(), reserved.parent);
                let project = reserved.project(revision);
                // Whoever only lets the others go on remembers no more than before.
                let remembers = self.mutated_left_out_remembers() && self.carries_forgotten(project);
                if remembers || self.mutated_joined_when_asked() {
                    self.join(project);
                }
                self.note_reservation(revision);
                if let Some(fragment) = fragment {
                    // Where there is no journal of the project yet, the note of the reservation stays as long.
                    if let Some(parent) = parent.filter(|_| self.joined.contains(&project)) {
                        self.note_reserved(parent, revision, Digest::of(&wire::encode_fragment(&fragment)));
                    }
                    self.keep_fragment(fragment);
                }
                self.reserve(coordinator, revision);
            }
            Err(refusal) => {
                if reserved.noted.is_some() {
                    // What was said yes to once stays said.
                    self.timers.cancel(&Timer::Reservation(revision));
                    self.lapse(revision);
                } else {
                    self.end_reservation(revision);
                }
                self.refuse(coordinator, revision, refusal);
            }
        }
    }

    pub(super) fn withdrawn(&mut self, from: PublicKey, revision: Digest) {
        if self.reservations.by_revision.get(&revision).is_some_and(|r| r.coordinator == from) {
            if let Some(parent) = self.reservations.by_revision.get(&revision).and_then(|r| r.parent) {
                self.note_withdrawn(parent, revision);
            }
            self.free(revision);
        }
    }

    /// Frees the room of a reservation whose time is over; a commit that comes later still counts.
    pub(super) fn reservation_lapsed(&mut self, revision: Digest) {
        let parent = self.reservations.by_revision.get(&revision).and_then(|reserved| reserved.parent);
        if let Some(parent) = parent.filter(|_| self.mutated_promise_lapses()) {
            self.let_promise_lapse(parent);
        }
        if !self.mutated_reservation_never_lapses() {
            self.lapse(revision);
        }
    }

    /// Shortens the time for which room is held for whoever was started anew: it has forgotten what it asked for. What it
    /// had decided on before, it tells first.
    pub(super) fn coordinator_restarted(&mut self, now: Now, coordinator: PublicKey) {
        let orphaned = self.reservations.held().filter(|(_, r)| r.coordinator == coordinator);
        for (&revision, _) in orphaned {
            self.timers
                .set_earlier(Timer::Reservation(revision), now.mono_ms + limits::RESERVATION_ORPHANED_MS);
        }
    }

    pub(super) fn keep_fragment(&mut self, fragment: Arc<Fragment>) {
        let digest = Digest::of(&wire::encode_fragment(&fragment));
        if self.fragments.insert(digest, fragment.clone()).is_none() {
            self.outbox.write(Write::Fragment(digest, fragment));
        }
    }

    /// Forgets a fragment unless a project's last revisions name it, or a VM is left here that was made from it.
    pub(super) fn drop_fragment(&mut self, digest: Digest) {
        let used = self.projects.heads().any(|(project, head)| {
            let path = self.projects.heads_of(project).into_iter().flat_map(|heads| heads.path().rev());
            let names_it = |revision: &Digest| {
                let commit = self.projects.commit(*revision);
                commit.is_some_and(|commit| commit.revision.hosts.iter().any(|host| host.fragment == digest))
            };
            !head.removes() && path.take(limits::REVISIONS_KEPT).any(names_it)
        });
        let parts =
            self.vms.fragments().chain(self.reservations.fragments()).chain(self.proposals.fragments());
        // The same part may stand in several revisions: what is still being decided needs it, too.
        let held = parts.into_iter().any(|part| Digest::of(&wire::encode_fragment(part)) == digest)
            || self.decisions.parts().any(|part| part == digest)
            || self.holdings.names_fragment(digest)
            || self.parts_here().contains(&digest)
            || self.brings_disks(digest);
        if !used && !held && self.fragments.remove(&digest).is_some() {
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

    fn reserve(&mut self, to: PublicKey, revision: Digest) {
        let verdict = Ok(wire::sign_reservation(&self.config.keys, revision));
        self.send(to, Message::Answer { revision, verdict });
    }

    fn refuse(&mut self, to: PublicKey, revision: Digest, refusal: Refusal) {
        if self.mutated_refused_not_told() {
            return;
        }
        self.send(to, Message::Answer { revision, verdict: Err(refusal) });
    }
}
