//! What is an event: a function of what was known before and of what the node, a platform or the mesh says now.
//!
//! What hosts say of their VMs becomes an event when the node makes it durable: by then it is verified and newer
//! than what was known, whether it came by gossip, by comparison, or from this host itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use mln_protocol::node::{Message, Outcome, Output, Ownership, Tenure, Write};
use mln_protocol::record::{
    Claim, ClaimBasis, Commit, Link, LinkKind, Record, VerifiedRecord, VmState, VmStatus,
};
use mln_protocol::trust::{Grant, Verified};
use mln_protocol::wire::Refusal;

use super::{Event, EventKind};
use crate::platform::{BootProgress, VmEvent, VmEventKind};

/// How many strangers are told of in [`STRANGERS_WINDOW_MS`], each once. A key costs nothing: whoever knocks with a new
/// one each time must not drive out what else has happened.
const STRANGERS_MAX: usize = 64;
/// After which time strangers are told of again, in milliseconds.
const STRANGERS_WINDOW_MS: u64 = 3_600_000;

/// What an event is about, as far as whoever derives it knows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'a> {
    /// A project.
    Project(ProjectId),
    /// A VM of one.
    Vm(&'a VmId),
}

impl About<'_> {
    /// Returns the project; `of` knows those of VMs.
    pub(crate) fn project(self, of: impl FnOnce(&VmId) -> Option<ProjectId>) -> Option<ProjectId> {
        match self {
            Self::Project(project) => Some(project),
            Self::Vm(vm) => of(vm),
        }
    }
}

/// After how long it is said again that the disk of a VM does not come, in milliseconds.
const NOT_MOVED_PAUSE_MS: u64 = 60_000;

/// How many decisions of VMs are remembered, so that each is told once.
const DECISIONS_MAX: usize = 256;

/// Of how many revisions that VMs want it is remembered which VM that is.
const WANTED_MAX: usize = 256;

/// What must be known to tell an event from news that is none.
#[derive(Debug)]
pub(crate) struct Deriver {
    key: PublicKey,
    name: Name,
    /// As many as the node has records.
    members: BTreeMap<PublicKey, Name>,
    versions: BTreeMap<PublicKey, String>,
    vms: BTreeMap<(VmId, PublicKey), (VmState, u64)>,
    strangers: BTreeSet<PublicKey>,
    strangers_since_unix_ms: u64,
    /// Of which VM it was said last that its disk does not come, and when.
    not_moved: Option<(VmId, u64)>,
    /// The newest decisions of VMs, which several hosts may publish.
    decisions: VecDeque<Digest>,
    /// The newest revisions that VMs want and this host was asked about, with who wants them.
    wanted: VecDeque<(Digest, Asker)>,
}

/// A VM that asks for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Its project.
    pub(crate) project: Label,
    /// Its name.
    pub(crate) vm: Name,
}

impl Asker {
    /// Says of an event that it is about what this VM has asked for.
    pub(crate) fn names(&self, event: Event) -> Event {
        Event { project: Some(self.project.clone()), vm: Some(self.vm.clone()), ..event }
    }
}

impl Deriver {
    /// Begins with what was known already: none of that is an event.
    pub(crate) fn new(key: PublicKey, name: Name, stored: &[VerifiedRecord]) -> Self {
        let (members, versions, vms) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let strangers = BTreeSet::new();
        let mut deriver = Self {
            key,
            name,
            members,
            versions,
            vms,
            strangers,
            strangers_since_unix_ms: 0,
            not_moved: None,
            decisions: VecDeque::new(),
            wanted: VecDeque::new(),
        };
        // Members first: whose word counts for a VM is told by the names.
        for is_member in [true, false] {
            for record in stored {
                if matches!(&***record, Record::Member(_)) == is_member {
                    deriver.record(record, 0, &|_| None);
                }
            }
        }
        deriver
    }

    /// Remembers who wants what this host is asked about: the answer doesn't say. `owner` knows who owns a VM, and its project.
    ///
    /// A message says of itself who asked. That is believed only where the VM's owner sends it, with its word on the key that
    /// the request is signed by; else its refusal names no VM.
    pub(crate) fn asked(
        &mut self,
        from: PublicKey,
        message: &Message,
        owner: impl FnOnce(&VmId) -> Option<(Ownership, Label)>,
    ) {
        let Message::Ask { ask, .. } = message else { return };
        let Some(guest) = &ask.guest else { return };
        let (attestation, request) = (&guest.attestation, &guest.request);
        let Some((ownership, project)) = owner(&request.vm) else { return };
        let is_owners = [from, ask.author(), attestation.author()].iter().all(|key| *key == ownership.owner)
            && attestation.epoch == ownership.epoch
            && ownership.tenure == Tenure::Held;
        if !is_owners || attestation.vm != request.vm || attestation.key != request.author() {
            return;
        }
        let asker = Asker { project, vm: request.vm.name.clone() };
        self.wanted.truncate(WANTED_MAX - 1);
        self.wanted.push_front((ask.digest, asker));
    }

    /// Returns what an output of the node tells.
    pub(crate) fn output(
        &mut self,
        output: &Output,
        now_unix_ms: u64,
        label: &dyn Fn(About<'_>) -> Option<Label>,
    ) -> Vec<Event> {
        match output {
            Output::Persist { writes, .. } => {
                let records = writes.iter().filter_map(|write| match write {
                    Write::Record(_, record) => Some(record),
                    Write::Heard(..)
                    | Write::Join(_)
                    | Write::Fragment(..)
                    | Write::DropFragment(_)
                    | Write::Holding(..)
                    | Write::DropHolding(_)
                    | Write::Decision(_)
                    | Write::DropDecision(_)
                    | Write::Reservation(_)
                    | Write::DropReservation(_) => None,
                });
                records.filter_map(|record| self.record(record, now_unix_ms, label)).collect()
            }
            Output::Done { outcome: Outcome::Refused(refusals), .. } => refusals
                .iter()
                .map(|refused| Event {
                    host: Name::parse(&refused.host).unwrap_or_else(|_| self.name.clone()),
                    rule: Some(refused.refusal.rule.code()),
                    ..self.event(now_unix_ms, EventKind::Refusal, refused.refusal.detail.clone())
                })
                .collect(),
            Output::Forked(pair) => {
                let Record::Link(link) = &**pair[0] else { return Vec::new() };
                let kind = match link.kind() {
                    LinkKind::Claim => "claims",
                    LinkKind::Decline => "declines",
                    LinkKind::Release => "releases",
                };
                let text = format!(
                    "{} has signed two different {kind} of {} in epoch {}, {} and {}: it is cut off",
                    self.called(pair[0].author()),
                    link.vm(),
                    link.epoch(),
                    pair[0].digest().short(),
                    pair[1].digest().short()
                );
                let event = self.event(now_unix_ms, EventKind::Refusal, text);
                vec![Event { rule: Some("two-in-one-slot"), ..event }]
            }
            Output::Send { to, message: Message::Answer { revision, verdict: Err(refusal) } }
                if *to != self.key =>
            {
                let text = format!("to {}: {}", self.called(*to), refusal.detail);
                let event = self.event(now_unix_ms, EventKind::Refusal, text);
                let event = Event { rule: Some(refusal.rule.code()), ..event };
                let asker = self.wanted.iter().find(|(wanted, _)| wanted == revision);
                vec![match asker {
                    Some((_, asker)) => asker.names(event),
                    None => event,
                }]
            }
            Output::Send { .. }
            | Output::Broadcast(_)
            | Output::Check { .. }
            | Output::Step { .. }
            | Output::Hook { .. }
            | Output::Pull { .. }
            | Output::Seal { .. }
            | Output::ReadCopy { .. }
            | Output::Shelve { .. }
            | Output::DropCopy { .. }
            | Output::Switches(_)
            | Output::Progress { .. }
            | Output::Revoked(_)
            | Output::Done { outcome: Outcome::Done | Outcome::Failed(_), .. } => Vec::new(),
        }
    }

    /// Returns what a VM of this host tells that is in no record.
    pub(crate) fn vm_event(&self, event: &VmEvent, now_unix_ms: u64, label: Option<Label>) -> Option<Event> {
        let (kind, text) = match &event.kind {
            VmEventKind::Panicked { text } => (EventKind::Panic, text.clone()),
            VmEventKind::Progress(BootProgress::SeedFailed { text }) => {
                (EventKind::Setup, format!("runs, but could not be configured: {text}"))
            }
            VmEventKind::Progress(BootProgress::StartupFailed { end, log_tail }) => {
                let last = log_tail.trim_end().lines().next_back().unwrap_or("they printed nothing");
                (EventKind::Setup, format!("runs, but its startup lines failed ({end}): {last}"))
            }
            VmEventKind::Progress(BootProgress::Booting | BootProgress::Ready)
            | VmEventKind::Booting { .. }
            | VmEventKind::GuestAgent { .. }
            | VmEventKind::InterfaceUp { .. }
            | VmEventKind::InterfaceDown { .. }
            | VmEventKind::Nat(_)
            | VmEventKind::Asks { .. }
            | VmEventKind::Exited(_)
            | VmEventKind::Lost => return None,
        };
        let vm = Some(event.vm.name.clone());
        Some(Event { project: label, vm, ..self.event(now_unix_ms, kind, text) })
    }

    /// Returns that this agent began to run.
    pub(crate) fn started(&self, now_unix_ms: u64, version: &str) -> Event {
        self.event(now_unix_ms, EventKind::Agent, format!("mlnd {version} has started"))
    }

    /// Returns that the disk of a VM does not come to this host, and why; of one VM once in a while, since it is tried again
    /// and again.
    pub(crate) fn not_moved(
        &mut self,
        vm: &VmId,
        label: Label,
        why: &str,
        now_unix_ms: u64,
    ) -> Option<Event> {
        let told = self.not_moved.as_ref().is_some_and(|(told, since_unix_ms)| {
            told == vm && now_unix_ms.abs_diff(*since_unix_ms) < NOT_MOVED_PAUSE_MS
        });
        if told {
            return None;
        }
        self.not_moved = Some((vm.clone(), now_unix_ms));
        let text = format!("its disk does not come, and it stays where it is until it does: {why}");
        let event = self.event(now_unix_ms, EventKind::Failed, text);
        Some(Event { project: Some(label), vm: Some(vm.name.clone()), ..event })
    }

    /// Returns what is the matter with this host's disk.
    pub(crate) fn store(&self, text: String, now_unix_ms: u64) -> Event {
        self.event(now_unix_ms, EventKind::Store, text)
    }

    /// Returns that a member is connected.
    pub(crate) fn connected(&self, peer: PublicKey, now_unix_ms: u64) -> Event {
        self.event(now_unix_ms, EventKind::Seen, format!("{} is connected", self.called(peer)))
    }

    /// Returns that a member is connected no more.
    pub(crate) fn disconnected(&self, peer: PublicKey, now_unix_ms: u64) -> Event {
        self.event(now_unix_ms, EventKind::Lost, format!("{} is no longer connected", self.called(peer)))
    }

    /// Returns that this host let somebody into the mesh.
    pub(crate) fn admitted(&self, name: &Name, now_unix_ms: u64) -> Event {
        self.event(now_unix_ms, EventKind::Join, format!("{name} is let in with a token of this host"))
    }

    /// Returns that the mesh and a peer don't belong together; once per peer, and of so many peers in an hour.
    pub(crate) fn stranger(&mut self, peer: PublicKey, reason: Refusal, now_unix_ms: u64) -> Option<Event> {
        // Members as well: they called each other at the same time, or are many.
        if matches!(reason, Refusal::Duplicate | Refusal::Busy) {
            return None;
        }
        // Also where the clock was set back.
        if now_unix_ms.abs_diff(self.strangers_since_unix_ms) >= STRANGERS_WINDOW_MS {
            self.strangers.clear();
            self.strangers_since_unix_ms = now_unix_ms;
        }
        if self.strangers.len() == STRANGERS_MAX {
            return None;
        }
        let text = format!("{}: {reason}", self.called(peer));
        let event = Event { rule: Some("member"), ..self.event(now_unix_ms, EventKind::Refusal, text) };
        self.strangers.insert(peer).then_some(event)
    }

    fn record(
        &mut self,
        record: &VerifiedRecord,
        now_unix_ms: u64,
        label: &dyn Fn(About<'_>) -> Option<Label>,
    ) -> Option<Event> {
        let author = record.author();
        let record: &Verified<Record> = record;
        match &**record {
            Record::Member(member) => {
                let known = self.members.insert(author, member.name.clone());
                let text = format!("{} is a member of the mesh", member.name);
                (known.is_none() && author != self.key).then(|| Event {
                    host: member.name.clone(),
                    ..self.event(now_unix_ms, EventKind::Join, text)
                })
            }
            Record::Host(status) => {
                let before = self.versions.insert(author, status.agent_version.clone())?;
                let host = self.members.get(&author)?.clone();
                let text = format!("mlnd {}, before: {before}", status.agent_version);
                (before != status.agent_version)
                    .then(|| Event { host, ..self.event(now_unix_ms, EventKind::Version, text) })
            }
            Record::Link(Link::Claim(claim)) => self.claimed(author, claim, now_unix_ms, label),
            Record::Commit(commit) => self.decided(author, commit, now_unix_ms),
            Record::Link(Link::Release(_) | Link::Decline(_))
            | Record::Grant(_)
            | Record::Gauges(_)
            | Record::Later(_) => None,
            Record::Revocation(revocation) => {
                let grant = revocation.chain.last().and_then(|link| Grant::from_bytes(&link.payload).ok())?;
                let whom = grant.name.map_or_else(|| grant.subject.short(), |name| name.to_string());
                let why = if revocation.reason.is_empty() { "" } else { ": " };
                let text = format!(
                    "the grant of {whom} is revoked by {}{why}{}",
                    self.called(author),
                    revocation.reason
                );
                let event = self.event(now_unix_ms, EventKind::Revoked, text);
                Some(Event { rule: Some("grant"), ..event })
            }
            Record::Vm(status) => {
                // Everybody may sign something about a VM; only its host's word counts.
                if self.members.get(&author) != Some(&status.host) {
                    return None;
                }
                let slot = (status.vm.clone(), author);
                let now = (status.state.clone(), status.since_unix_ms);
                let before = self.vms.insert(slot, now.clone());
                let is_new_there = matches!(before, None | Some((VmState::Building, _)));
                if before.as_ref() == Some(&now) || is_new_there && self.has_moved(status, author) {
                    return None;
                }
                let (kind, text) = change(before.as_ref().map(|(state, _)| state), status)?;
                Some(Event {
                    unix_ms: status.since_unix_ms,
                    host: status.host.clone(),
                    kind,
                    project: label(About::Project(status.project)),
                    vm: Some(status.vm.name.clone()),
                    rule: None,
                    status: status.exit.filter(|_| kind == EventKind::Exit),
                    text,
                })
            }
        }
    }

    /// Returns that a VM has changed its own project; once, whoever else publishes it.
    fn decided(&mut self, author: PublicKey, commit: &Commit, now_unix_ms: u64) -> Option<Event> {
        let decision = commit.revision.decision.as_ref()?;
        if self.decisions.contains(&commit.digest) {
            return None;
        }
        self.decisions.truncate(DECISIONS_MAX - 1);
        self.decisions.push_front(commit.digest);
        let policies: BTreeSet<&str> = decision.uses.iter().map(|one| one.policy.as_str()).collect();
        let policies = policies.into_iter().collect::<Vec<_>>().join(", ");
        let text = format!("changes its project, as policy {policies} allows: {}", commit.revision.reason);
        Some(Event {
            host: self.members.get(&author).cloned().unwrap_or_else(|| self.name.clone()),
            project: Some(commit.revision.label.clone()),
            vm: Some(decision.vm.name.clone()),
            ..self.event(now_unix_ms, EventKind::Decision, text)
        })
    }

    /// Whether a VM that is down was at another host before: it is not built where it has come to.
    fn has_moved(&self, status: &VmStatus, author: PublicKey) -> bool {
        let first = (status.vm.clone(), PublicKey([0; 32]));
        let known = self.vms.range(first..).take_while(|((vm, _), _)| *vm == status.vm);
        let elsewhere = |((_, by), (state, _)): (&(VmId, PublicKey), &(VmState, u64))| {
            *by != author && !matches!(state, VmState::Building | VmState::Failed { .. } | VmState::Removed)
        };
        status.state == VmState::Down && known.into_iter().any(elsewhere)
    }

    /// Returns that a VM has another owner.
    fn claimed(
        &self,
        author: PublicKey,
        claim: &Claim,
        now_unix_ms: u64,
        label: &dyn Fn(About<'_>) -> Option<Label>,
    ) -> Option<Event> {
        let epoch = claim.epoch;
        let (kind, text) = match &claim.basis {
            ClaimBasis::Birth => return None,
            ClaimBasis::Release(release) => {
                (EventKind::Move, format!("has come from {} (epoch {epoch})", self.called(release.author())))
            }
            ClaimBasis::Declined(decline) => {
                let by = self.called(decline.author());
                (EventKind::Move, format!("stays: {by} declined it, {} (epoch {epoch})", decline.reason))
            }
            ClaimBasis::Takeover(takeover) => {
                let seen = takeover.seen.map_or_else(String::new, |seen| format!(" from epoch {seen}"));
                (
                    EventKind::TakeOver,
                    format!("is taken over{seen} (epoch {epoch}), asked by {}", takeover.author),
                )
            }
        };
        let host = self.members.get(&author).cloned().unwrap_or_else(|| self.name.clone());
        let (project, vm) = (label(About::Vm(&claim.vm)), Some(claim.vm.name.clone()));
        Some(Event { host, project, vm, ..self.event(now_unix_ms, kind, text) })
    }

    fn event(&self, unix_ms: u64, kind: EventKind, text: String) -> Event {
        let host = self.name.clone();
        Event { unix_ms, host, kind, project: None, vm: None, rule: None, status: None, text }
    }

    fn called(&self, peer: PublicKey) -> String {
        self.members.get(&peer).map_or_else(|| peer.short(), Name::to_string)
    }
}

/// Returns what it means that a VM is in this state now, and was in that one before, as far as was heard.
fn change(before: Option<&VmState>, status: &VmStatus) -> Option<(EventKind, String)> {
    let ran = matches!(before, Some(VmState::Booting | VmState::Up | VmState::Stopping));
    match &status.state {
        VmState::Building | VmState::Stopping => None,
        VmState::Booting => Some((EventKind::Start, "starts".to_owned())),
        VmState::Up => Some((EventKind::Ready, "is ready".to_owned())),
        VmState::Down if ran => Some(match status.exit {
            Some(exit) => (EventKind::Exit, format!("has ended: {exit}")),
            None => (EventKind::Exit, "has ended; nobody saw how".to_owned()),
        }),
        VmState::Down => {
            if before == Some(&VmState::Kept) {
                return Some((EventKind::Build, "comes back with its disk".to_owned()));
            }
            matches!(before, None | Some(VmState::Building | VmState::Removed | VmState::Failed { .. }))
                .then(|| (EventKind::Build, "is built".to_owned()))
        }
        VmState::Removed => {
            before.filter(|state| **state != VmState::Removed)?;
            Some((EventKind::Remove, "is removed".to_owned()))
        }
        VmState::Kept => {
            before.filter(|state| **state != VmState::Kept)?;
            Some((EventKind::Remove, "is left out; its disk is kept for a while".to_owned()))
        }
        VmState::Failed { reason } => {
            // What its console said last is in `status`; here is one line.
            let first = reason.lines().next().unwrap_or_default();
            Some((EventKind::Failed, first.to_owned()))
        }
    }
}

#[cfg(test)]
#[path = "derive_test.rs"]
mod tests;
