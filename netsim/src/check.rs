//! The oracle: rules that hold after every event, written from what the mesh promises and not from its code.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use mln_protocol::model::{Fragment, Vm};
use mln_protocol::node::{HandOver, Holding, Message, Node};
use mln_protocol::plan::{Existence, Observed, Step};
use mln_protocol::record::{
    Claim, ClaimBasis, Commit, Consent, Epoch, Link, Record, RecordKey, RunState, VerifiedRecord, VmState,
    VmStatus,
};
use mln_protocol::wire;

use crate::check_decision::Decisions;
use crate::check_grants::Requests;
use crate::check_kept::KeptDisks;
use crate::check_ownership::{Ownerships, Standing};
use crate::check_signature::is_genuine;
use crate::disk::Disk;

/// What was said by whom, and which rules were broken.
#[derive(Debug)]
pub(crate) struct Oracle {
    violations: Vec<String>,
    /// The newest record that each host has said in each of its slots.
    said: BTreeMap<PublicKey, BTreeMap<RecordKey, (u64, Digest)>>,
    verified: BTreeSet<Digest>,
    decisions: Decisions,
    /// Distinct requests per VM and author.
    requests: BTreeMap<(VmId, PublicKey), BTreeSet<Digest>>,
    /// What epoch and counter each author of a request said that it saw.
    seen: BTreeSet<(VmId, PublicKey, Epoch, u64)>,
    /// The newest epoch in which each VM's counter was seen.
    counted_in: BTreeMap<VmId, Epoch>,
    /// Records that hosts have written down and that were looked at.
    written: BTreeSet<Digest>,
    /// The same of those that they have passed on.
    passed_on: BTreeSet<Digest>,
    /// How often each author's requests were applied, and the VM's counter after the last.
    applied: BTreeMap<VmId, (u64, BTreeMap<PublicKey, usize>)>,
    /// For how long disks of VMs are kept that are left out.
    kept: KeptDisks,
    root: PublicKey,
    exempt: Exempt,
    /// What was asked for, and whether whoever asked might.
    pub(crate) asked: Requests,
    pub(crate) ownership: Ownerships,
}

/// Who is exempt from which rules, by what happened to it: the cases that `mesh.md` names, and no others.
#[derive(Debug, Default)]
struct Exempt {
    /// "where an operator restored a host's old state while it is alone"
    restored: BTreeSet<PublicKey>,
    /// "a second instance alive"
    cloned: BTreeSet<PublicKey>,
    /// "a host of the project that signs two things in one slot"
    hostile: BTreeSet<PublicKey>,
    /// "Who lost both is a new host": what it has lost may be missing, but it may not vote any more.
    amnesiac: BTreeSet<PublicKey>,
    /// Those of the first two for which it is not over: until they have come back, have asked what others have heard of
    /// them, and have been told.
    untold: BTreeSet<PublicKey>,
    /// VMs whose disk something else than the protocol has deleted.
    lost_disks: BTreeSet<VmId>,
    /// VMs of which a liar was the owner: whoever owns them next goes on with the counters that the liar gave away.
    lied_about: BTreeSet<VmId>,
}

impl Exempt {
    /// Whether this host may be without what it had signed: it can't be brought back, also where it has been told.
    fn has_lost_state(&self, key: PublicKey) -> bool {
        self.restored.contains(&key) || self.cloned.contains(&key) || self.amnesiac.contains(&key)
    }

    /// Whether an older state of this host, or a second one with its key, may act right now without knowing better.
    fn is_untold(&self, key: PublicKey) -> bool {
        self.untold.contains(&key)
    }
}

/// How much longer than it should a disk may be kept, in milliseconds.
const KEPT_LATE_MS: u64 = 30_000;

impl Oracle {
    pub(crate) fn new(root: PublicKey) -> Self {
        Self {
            root,
            exempt: Exempt::default(),
            asked: Requests::default(),
            ownership: Ownerships::default(),
            violations: Vec::new(),
            said: BTreeMap::new(),
            verified: BTreeSet::new(),
            decisions: Decisions::default(),
            requests: BTreeMap::new(),
            seen: BTreeSet::new(),
            counted_in: BTreeMap::new(),
            written: BTreeSet::new(),
            passed_on: BTreeSet::new(),
            applied: BTreeMap::new(),
            kept: KeptDisks::default(),
        }
    }

    /// From now on this host may have forgotten what it said.
    pub(crate) fn exempt_restored(&mut self, key: PublicKey) {
        self.exempt.restored.insert(key);
        self.exempt.untold.insert(key);
    }

    /// From now on this host has forgotten what it said.
    pub(crate) fn exempt_amnesiac(&mut self, key: PublicKey) {
        self.exempt.amnesiac.insert(key);
    }

    /// From now on two hosts have this key.
    pub(crate) fn exempt_cloned(&mut self, key: PublicKey) {
        self.exempt.cloned.insert(key);
        self.exempt.untold.insert(key);
    }

    /// This host has come back, alone with its key, and has been told what others have heard of it: from now on it is like
    /// any other, but for what is gone for good.
    pub(crate) fn end_exemption(&mut self, key: PublicKey, disk: &Disk) {
        if self.exempt.untold.remove(&key)
            && let Some(said) = self.said.get_mut(&key)
        {
            said.retain(|slot, (counter, digest)| {
                disk.record(slot).is_some_and(|kept| (kept.counter(), kept.digest()) >= (*counter, *digest))
            });
        }
    }

    /// From now on this host says what isn't so.
    pub(crate) fn exempt_hostile(&mut self, key: PublicKey) {
        self.exempt.hostile.insert(key);
    }

    /// The disk of this VM was deleted by something else than the protocol.
    pub(crate) fn exempt_lost_disk(&mut self, vm: VmId) {
        self.exempt.lost_disks.insert(vm);
    }

    /// Whether this host may have lost what it had signed.
    pub(crate) fn has_lost_state(&self, key: PublicKey) -> bool {
        self.exempt.has_lost_state(key)
    }

    /// Whether this host lies, or may not remember what it has signed.
    pub(crate) fn may_have_signed_twice(&self, key: PublicKey) -> bool {
        self.exempt.has_lost_state(key) || self.exempt.hostile.contains(&key)
    }

    /// Takes over what the rules of ownership have found broken, but for hosts that act on an older state or have forged
    /// it. Who has lost its journals has no right left by which it could break one.
    pub(crate) fn take_ownership(&mut self) {
        for (hosts, rule) in self.ownership.take_broken() {
            let excused =
                |host: &PublicKey| self.exempt.is_untold(*host) || self.exempt.hostile.contains(host);
            if !hosts.iter().any(excused) {
                self.broken(rule);
            }
        }
        self.take_outdated();
    }

    /// The same for notes of what a host had released before: one that was put back to an older state has them again, and
    /// whether it acts on them is judged where it does.
    fn take_outdated(&mut self) {
        for (host, rule) in self.ownership.take_outdated() {
            if !self.exempt.has_lost_state(host) && !self.exempt.hostile.contains(&host) {
                self.broken(rule);
            }
        }
    }

    /// Takes note of what a host writes down of a VM of its own.
    pub(crate) fn note_own_vm(&mut self, by: PublicKey, status: &VmStatus, now_ms: u64) {
        self.kept.note(by, status, now_ms);
    }

    /// A host's wall clock was set.
    pub(crate) fn note_clock_set(&mut self, key: PublicKey) {
        self.kept.note_clock_set(key);
    }

    pub(crate) fn broken(&mut self, rule: String) {
        self.violations.push(rule);
    }

    pub(crate) fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }

    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
    }

    /// S4: whatever is published must prove itself to everybody who verifies it.
    pub(crate) fn note_record(&mut self, by: PublicKey, record: &VerifiedRecord) {
        if !self.verified.insert(record.digest()) {
            return;
        }
        if let Err(error) = wire::verify_record(record.signed().clone(), self.root) {
            self.broken(format!("S4: a record that proves nothing was published: {error}"));
        } else if !is_genuine(record, self.root) {
            self.broken(format!("S4: {} publishes what was not signed by whom it says", by.short()));
        }
        let said = (record.counter(), record.digest());
        self.said.entry(by).or_default().insert(record.key(record.author()), said);
        match &***record {
            Record::Commit(commit) => {
                self.note_commit(commit);
            }
            Record::Vm(status) => {
                self.check_applied(status, by);
            }
            Record::Link(link) => {
                self.ownership.note_link(by, link);
                self.check_birth(by, link);
            }
            Record::Member(_)
            | Record::Host(_)
            | Record::Grant(_)
            | Record::Revocation(_)
            | Record::Gauges(_)
            | Record::Later(_) => {}
        }
    }

    /// Returns the revisions of which this is a part, each with whether a host takes part in its project.
    pub(crate) fn with_part(&self, part: Digest, host: PublicKey) -> impl Iterator<Item = (&Commit, bool)> {
        self.decisions.with_part(part, host)
    }

    /// Returns a published revision.
    pub(crate) fn revision(&self, digest: Digest) -> Option<&Commit> {
        self.decisions.born(digest)
    }

    /// Returns the children of a revision that count.
    pub(crate) fn children(&self, parent: Digest) -> impl Iterator<Item = &Commit> {
        self.decisions.children(parent)
    }

    /// Returns the child of a revision that a majority has decided on.
    pub(crate) fn decided(&self, parent: Digest) -> Option<&Commit> {
        self.children(parent).find(|child| child.revision.consent == Consent::Majority)
    }

    /// Whether anybody in this world may have signed two things for one: then two children of one revision may count.
    pub(crate) fn is_doubtful(&self) -> bool {
        let exempt = &self.exempt;
        !exempt.hostile.is_empty()
            || !exempt.restored.is_empty()
            || !exempt.cloned.is_empty()
            || !exempt.amnesiac.is_empty()
    }

    /// S2: looks at a commit that an honest host has published or passed on.
    fn note_commit(&mut self, commit: &Commit) {
        let lied = self.exempt.hostile.iter().chain(&self.exempt.restored).chain(&self.exempt.cloned);
        let lied = lied.copied().collect();
        let broken = self.decisions.note(commit, &lied);
        self.violations.extend(broken);
    }

    /// Takes in what a host finds on its disk when it starts. It acts on it before it has come to tell anybody, where the
    /// power went between the two: a commit "proves itself; any node that holds the parts can publish it".
    pub(crate) fn note_stored(&mut self, records: &[VerifiedRecord]) {
        records.iter().for_each(|record| self.hear_commit(record));
    }

    fn hear_commit(&mut self, record: &VerifiedRecord) {
        if let Record::Commit(commit) = &***record
            && !self.exempt.hostile.contains(&record.author())
            && self.decisions.born(commit.digest).is_none()
        {
            self.note_commit(commit);
        }
    }

    pub(crate) fn note_message(&mut self, by: PublicKey, message: &Message) {
        match message {
            Message::HandOver(HandOver::Ready(ready)) => self.ownership.note_ready(by, ready),
            Message::Run(request) => {
                self.requests.entry((request.vm.clone(), by)).or_default().insert(request.digest());
                self.seen.insert((request.vm.clone(), by, request.epoch, request.seen_counter));
            }
            // What was durable when its author crashed is heard of in this way only.
            Message::Records(records) if !self.exempt.hostile.contains(&by) => {
                for record in records {
                    self.check_signature(by, record);
                    if let Record::Link(link) = &***record
                        && !self.exempt.hostile.contains(&record.author())
                    {
                        self.ownership.note_link(record.author(), link);
                    }
                    self.hear_commit(record);
                }
            }
            _ => {}
        }
    }

    /// S4: what an honest host writes down was signed by whom it says, and by somebody who may. Judged by the simulator's
    /// own verification alone: what the program says of its own records is heard once others get them, where the rules
    /// of ownership are looked at in the same moment.
    pub(crate) fn check_kept_signature(&mut self, by: PublicKey, record: &VerifiedRecord) {
        let known = self.verified.contains(&record.digest()) || !self.written.insert(record.digest());
        if !known && !is_genuine(record, self.root) {
            self.broken(format!("S4: {} keeps or passes on what nobody who may has signed", by.short()));
        }
    }

    /// S4: the same for what it passes on, which moreover proves itself to everybody who verifies it.
    fn check_signature(&mut self, by: PublicKey, record: &VerifiedRecord) {
        let known = self.verified.contains(&record.digest()) || !self.passed_on.insert(record.digest());
        if known {
            return;
        }
        self.check_kept_signature(by, record);
        if let Err(error) = wire::verify_record(record.signed().clone(), self.root) {
            self.broken(format!(
                "S4: {} keeps or passes on a record that proves nothing: {error}",
                by.short()
            ));
        }
    }

    /// "Epoch 1 may be claimed only by the host where the birth revision places the VM"
    fn check_birth(&mut self, by: PublicKey, link: &Link) {
        let Link::Claim(Claim { vm, basis: ClaimBasis::Birth, .. }) = link else { return };
        let elsewhere = self.decisions.birthplace(vm).is_some_and(|born| born != by);
        if elsewhere && !self.exempt.hostile.contains(&by) {
            self.broken(format!("S1: the first epoch of {vm} is claimed where it was not born"));
        }
    }

    /// "the owner applies it only if both still hold": the counter, and the epoch.
    fn check_seen(&mut self, status: &VmStatus, owner: PublicKey) {
        if self.exempt.lied_about.contains(&status.vm) {
            return;
        }
        let before = self.counted_in.insert(status.vm.clone(), status.epoch).unwrap_or(status.epoch);
        let known = self.applied.get(&status.vm).map_or(0, |(counter, _)| *counter);
        if status.run_counter <= known || status.run_by == owner || self.exempt.is_untold(owner) {
            return;
        }
        let mut epochs = self.seen.range(
            (status.vm.clone(), status.run_by, before.min(status.epoch), 0)
                ..=(status.vm.clone(), status.run_by, status.epoch, u64::MAX),
        );
        // Of several that were applied one after the other, the last one only is seen after a crash.
        if !epochs.any(|(.., seen)| seen + 1 == status.run_counter) {
            self.broken(format!(
                "S4: a request to run {} was applied in an epoch that its author did not see",
                status.vm
            ));
        }
    }

    /// S4: a request is applied once, however often it arrives.
    fn check_applied(&mut self, status: &VmStatus, owner: PublicKey) {
        if self.exempt.hostile.contains(&owner) {
            self.exempt.lied_about.insert(status.vm.clone());
        }
        self.check_seen(status, owner);
        let (counter, by_author) = self.applied.entry(status.vm.clone()).or_default();
        if status.run_counter <= *counter {
            return;
        }
        *counter = status.run_counter;
        if status.run_by == owner || self.exempt.is_untold(owner) {
            return;
        }
        let times = by_author.entry(status.run_by).or_default();
        *times += 1;
        let asked = self.requests.get(&(status.vm.clone(), status.run_by)).map_or(0, BTreeSet::len);
        // Who lies about its own VMs lies about nobody else's.
        let excused = self.exempt.lied_about.contains(&status.vm);
        if *times > asked && !excused {
            let rule = format!("S4: {asked} requests to run {} were applied {times} times", status.vm);
            self.broken(rule);
        }
    }

    /// S5: a host that has reserved has room, also where it has restarted since.
    pub(crate) fn check_promise(&mut self, host: &Name, key: PublicKey, vm: &VmId) {
        if !self.exempt.is_untold(key) && !self.may_be_late(key) {
            self.broken(format!("S5: {host} promised memory to {vm} that it did not have"));
        }
    }

    /// "A late commit still counts, and a host without room then shows the step as blocked."
    fn may_be_late(&self, host: PublicKey) -> bool {
        !self.decisions.has_only_first_revisions(host)
    }

    /// S1: only the host that a committed revision names may touch a VM, and only its part of it.
    pub(crate) fn check_step(
        &mut self,
        host: &Name,
        key: PublicKey,
        vm: &VmId,
        step: Step,
        fragment: &Fragment,
        now_ms: u64,
    ) {
        let digest = Digest::of(&wire::encode_fragment(fragment));
        if !self.decisions.is_part_of(host, digest, vm) {
            self.broken(format!("S1: {host} does {step:?} of {vm}, which is not its own"));
        }
        if step == Step::Remove && !self.decisions.may_go(vm) {
            self.broken(format!("S2: {host} deletes {vm}, which no majority has left out"));
        }
        if step == Step::Remove {
            let (keep_ms, _) = self.decisions.keep_removed_ms(vm);
            let kept_ms = self.kept.kept_ms(vm, key, now_ms);
            if kept_ms + self.kept.skew_ms(vm, key, keep_ms) < keep_ms
                && !self.exempt.has_lost_state(key)
                && !self.exempt.hostile.contains(&key)
            {
                self.broken(format!("S3: {host} deletes {vm} after {kept_ms} ms, to be kept for {keep_ms}"));
            }
            // "A removed VM returns under its own identity while its disk is kept": its owner has reserved for that.
            let excused = self.exempt.has_lost_state(key) || self.exempt.hostile.contains(&key);
            if self.decisions.is_brought_back(vm) && !excused {
                self.broken(format!("S3: {host} deletes {vm}, which a revision has brought back"));
            }
            self.decisions.note_deleted(vm);
        }
    }

    /// S5: a host never carries more than it lends.
    pub(crate) fn check_memory(&mut self, host: &str, key: PublicKey, used_mib: u32, limit_mib: u32) {
        // A backup brings disks back that are others' by now, and nobody may delete them.
        if used_mib > limit_mib && !self.exempt.has_lost_state(key) {
            self.broken(format!("S5: {host} carries {used_mib} MiB of {limit_mib}"));
        }
    }

    /// Nothing that was said may be forgotten: called when a host has crashed.
    pub(crate) fn check_remembered(&mut self, name: &Name, key: PublicKey, disk: &Disk) {
        if self.exempt.is_untold(key) || self.exempt.amnesiac.contains(&key) {
            return;
        }
        // What a backup doesn't have, nothing brings back.
        if !self.exempt.has_lost_state(key) {
            self.ownership.check_noted(name, key, disk);
            self.take_ownership();
        }
        let Some(said) = self.said.get(&key) else { return };
        let forgotten = said.iter().find(|(slot, (counter, digest))| {
            disk.record(slot).is_none_or(|kept| (kept.counter(), kept.digest()) < (*counter, *digest))
        });
        if let Some((slot, _)) = forgotten {
            let rule = format!("D: {name} has said and forgotten {slot:?}");
            self.broken(rule);
        }
    }

    /// L1: says what a host has not yet brought to an end; `noted` says whether a host has a note that a VM is handed over
    /// to it in this epoch of its owner.
    pub(crate) fn unsettled(
        &self,
        host: &str,
        node: &Node,
        disk: &Disk,
        now_ms: u64,
        noted: impl Fn(PublicKey, &VmId, Epoch) -> bool,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if self.exempt.hostile.contains(&node.key()) {
            // It has lied about its own VMs too, and believes that after a restart.
            return problems;
        }
        let mut owned = BTreeSet::new();
        for (id, existence, observed, status) in node.owned_vms() {
            owned.insert(id.clone());
            let running = matches!(observed, Observed::Running(_));
            // What a backup doesn't have can't be brought back: it is shown as failed, and that is all; "a VM rebuilt
            // from peers alone is read-only".
            let unclaimed = !matches!(disk.holding(id), Some(Holding::Claimed { .. }));
            let failed = matches!(status.state, VmState::Failed { .. });
            let lost = self.exempt.has_lost_state(node.key()) && (failed || unclaimed);
            // Nothing makes a disk anew that was there: its owner says that it is gone.
            let lost =
                lost || existence == Existence::Wanted && failed && self.exempt.lost_disks.contains(id);
            // Who is named in a release and has no note of the hand-over may have claimed it already, and signs nothing: the
            // VM waits for a takeover.
            let unanswered = disk.released_to(id).is_some_and(|(to, epoch)| {
                self.exempt.has_lost_state(to) && !running && !noted(to, id, epoch)
            });
            if lost || unanswered || (node.lacks_room(id) && self.may_be_late(node.key())) {
                continue;
            }
            let standing = self.ownership.standing(id, node.key());
            if standing != Standing::Rightful {
                if running && !self.exempt.is_untold(node.key()) {
                    problems.push(format!("S1: {host} runs {id} on, which is {standing:?}"));
                }
                continue;
            }
            let keep_ms = self.decisions.keep_removed_ms(id).1.saturating_add(KEPT_LATE_MS);
            // Who has given its word that a disk is there keeps it until it is known whether that counts.
            let is_kept = self.kept.kept_ms(id, node.key(), now_ms) < keep_ms || disk.awaits_decision();
            if status.state == VmState::Kept && !running && is_kept {
                continue;
            }
            let wanted = node.owned(id).map(|(_, _, definition)| definition);
            let guest = disk.vms.get(id).and_then(|found| found.guest.as_deref());
            let is_same = match (wanted, guest) {
                (Some(wanted), Some(guest)) => {
                    let placed = Vm { service_host: wanted.service_host.clone(), ..guest.clone() };
                    placed == *wanted
                }
                _ => true,
            };
            if existence == Existence::Wanted && running && !is_same {
                problems.push(format!("L1: {host}: {id} runs on with an older definition"));
            }
            if existence == Existence::Unwanted || running != (status.run == RunState::Up) {
                problems.push(format!("L1: {host}: {id} should be {:?} and is {observed:?}", status.run));
            }
        }
        let stray = disk.vms.keys().find(|id| !owned.contains(*id));
        if let Some(stray) = stray.filter(|_| !self.exempt.has_lost_state(node.key())) {
            problems.push(format!("L1: {host}: {stray} is on the disk and belongs to nobody"));
        }
        let unborn = disk.joined().find(|project| self.decisions.born(project.0).is_none());
        if let Some(unborn) = unborn {
            problems
                .push(format!("S6: {host} keeps a journal of {}, which never came to be", unborn.0.short()));
        }
        let mut labels: BTreeMap<&Label, ProjectId> = BTreeMap::new();
        for id in disk.vms.keys() {
            let Some(commit) = self.decisions.born(id.birth) else { continue };
            let project = commit.project();
            // A label is free again once its project is removed; what is stranded of that stays.
            if self.decisions.is_removed(project) {
                continue;
            }
            let other = *labels.entry(&commit.revision.label).or_insert(project) != project;
            // It refuses a label that it knows to be in use: one that was put back to an older state may not know.
            if other && !self.exempt.has_lost_state(node.key()) {
                let label = &commit.revision.label;
                problems.push(format!("S2: {host} carries two projects called {label}"));
            }
        }
        problems
    }
}
