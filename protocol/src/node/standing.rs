//! Whether this host may sign and start anything: it asks first what others have heard under its key, and stops where
//! that is more than it remembers.
//!
//! ```text
//!   Asking ── a peer has told, or nobody was reached for a while (then unconfirmed) ──► signs and starts
//!     │                                                                                     │
//!     └───────────── shown what its key has signed and it never did ──► Doubled ◄───────────┘
//!                                                                              │ the operator: go on
//!                                                                              ▼
//!                                                      takes what others have heard as its own, and says more than that
//! ```
//!
//! What a host has signed is on its disk before anybody hears it. So whatever is heard under its own key and is not
//! on its disk was signed by a copy of it, or by itself before it was put back to an older state. Two of them must
//! not act; which of them is the right one only people can tell. Only such a signature silences a host: a peer that
//! merely says that a second run is alive makes it ask, and say something that the second one must notice.

use std::collections::BTreeMap;

use super::io::{HostRefusal, OpId, Operation, Outcome};
use super::message::{Message, Refusal, Rule};
use super::timers::Timer;
use super::{Node, limits};
use crate::id::{ProjectId, PublicKey, VmId};
use crate::record::{Record, RecordKey, VerifiedRecord};
use crate::time::Now;

/// Whether a host may sign and start anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// It has just started, and asks what others have heard under its key.
    Asking,
    /// It may: somebody has told that there is nothing that it doesn't know, or it knows of nobody to ask.
    #[default]
    Confirmed,
    /// It may: it reached nobody.
    Unconfirmed,
    /// It may not: its key has signed what it doesn't know of, or signs elsewhere.
    Doubled,
}

/// What this host knows of its own runs and those of others.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnRuns {
    signing: Signing,
    /// Names this run, by lot.
    pub(super) instance: u64,
    /// How often it has asked.
    tries: u32,
    /// Whether a peer has told what it has heard of this host.
    told: bool,
    /// Whether a peer has told who owns what this host has claimed.
    links_told: bool,
    /// Until when another word that a second run is alive changes nothing.
    looked_until_ms: u64,
    /// What the operator has asked for meanwhile.
    waiting: Vec<(OpId, Operation)>,
    /// The runs of each member that this host has heard of.
    others: BTreeMap<PublicKey, OtherRuns>,
}

#[derive(Clone, Debug, Default)]
struct OtherRuns {
    /// In the order in which they were first heard.
    heard: Vec<u64>,
    /// One that spoke although a later one had spoken.
    returned: Option<u64>,
}

impl OwnRuns {
    pub(super) fn new(instance: u64) -> Self {
        Self { instance, ..Self::default() }
    }

    /// Whether this host may sign.
    pub(super) fn signs(&self) -> bool {
        matches!(self.signing, Signing::Confirmed | Signing::Unconfirmed)
    }
}

impl OtherRuns {
    /// Whether a run that was heard of is over if this one speaks: it was never heard of.
    fn is_over_with(&self, instance: u64) -> bool {
        !self.heard.is_empty() && !self.heard.contains(&instance)
    }

    /// Takes in that a run has spoken; returns another one that is alive beside it.
    fn hear(&mut self, instance: u64) -> Option<u64> {
        let last = self.heard.last().copied();
        if last == Some(instance) {
            return self.returned;
        }
        if self.heard.contains(&instance) {
            self.returned = Some(instance);
            return last;
        }
        self.returned = None;
        self.heard.push(instance);
        let over = self.heard.len().saturating_sub(limits::RUNS_KEPT);
        self.heard.drain(..over);
        None
    }
}

impl Node {
    /// Returns whether this host may sign and start anything.
    pub fn signing(&self) -> Signing {
        self.own_runs.signing
    }

    /// Whether it may.
    pub(super) fn may_sign(&self) -> bool {
        self.own_runs.signs()
    }

    /// Asks, before anything is started or signed, what others have heard under this host's key.
    pub(super) fn confirm(&mut self, now: Now) {
        let alone = self.records.members().all(|(key, _)| key == self.me);
        if alone || self.mutated_own_key_not_asked() {
            return;
        }
        self.own_runs.signing = Signing::Asking;
        self.own_runs.links_told = self.claimed().is_empty();
        self.timers.set(Timer::Confirm, now.mono_ms + limits::CONFIRM_MS);
    }

    fn claimed(&self) -> Vec<VmId> {
        let claimed =
            self.holdings.iter().filter(|(_, holding)| matches!(holding, super::Holding::Claimed { .. }));
        claimed.map(|(vm, _)| vm.clone()).collect()
    }

    /// Tells a peer which run this is, and asks what it knows of earlier ones.
    pub(super) fn introduce_run(&mut self, peer: PublicKey) {
        let asks = self.own_runs.signing == Signing::Asking;
        if asks {
            for part in self.claimed().chunks(limits::LINKS_WANTED_MAX) {
                let wanted = super::HandOver::LinksWanted(part.to_vec());
                self.send(peer, Message::HandOver(wanted));
            }
        }
        self.send(peer, Message::OwnWanted { instance: self.own_runs.instance, asks });
    }

    /// Tells a peer what is known here under its key, and whether another run of it is alive.
    pub(super) fn own_wanted(&mut self, now: Now, from: PublicKey, instance: u64, asks: bool) {
        let known = self.records.member(from).is_some();
        if self.own_runs.others.get(&from).is_some_and(|runs| runs.is_over_with(instance)) {
            self.coordinator_restarted(now, from);
        }
        let other = known.then(|| self.own_runs.others.entry(from).or_default().hear(instance)).flatten();
        if other.is_none() && !asks {
            return;
        }
        let keys = [RecordKey::Member(from), RecordKey::Host(from)];
        let records = keys.iter().filter_map(|key| self.records.get(key).cloned()).filter(|_| asks).collect();
        self.send(from, Message::OwnTold { instance, other, records });
    }

    /// Takes in what a peer knows under this host's key.
    pub(super) fn own_told(
        &mut self,
        now: Now,
        from: PublicKey,
        instance: u64,
        other: Option<u64>,
        records: Vec<VerifiedRecord>,
    ) {
        // What this host has signed proves itself, whenever it was asked for.
        let me = self.me;
        for record in records.into_iter().filter(|record| record.author() == me) {
            self.take(now, record);
        }
        if instance != self.own_runs.instance {
            return;
        }
        if other.is_some_and(|other| other != instance) {
            self.look_for_other_run(now, from);
        }
        match self.own_runs.signing {
            Signing::Asking => {
                self.own_runs.told = true;
                self.confirmed_by_peer(now);
            }
            Signing::Unconfirmed => self.own_runs.signing = Signing::Confirmed,
            Signing::Confirmed | Signing::Doubled => {}
        }
    }

    /// A peer says that another run of this host's key is alive. Nobody has signed that, so it silences nobody: this
    /// host asks what was signed under its key, and signs something itself that a copy of it will hear and not know.
    fn look_for_other_run(&mut self, now: Now, from: PublicKey) {
        if self.mutated_own_told_unsigned_believed() {
            return self.doubled();
        }
        if !self.may_sign() || now.mono_ms < self.own_runs.looked_until_ms {
            return;
        }
        self.own_runs.looked_until_ms = now.mono_ms + limits::OTHER_RUN_MS;
        self.send(from, Message::OwnWanted { instance: self.own_runs.instance, asks: true });
        self.publish_host(now);
    }

    /// A peer has told who owns what this host has claimed.
    pub(super) fn own_links_told(&mut self, now: Now) {
        self.own_runs.links_told = true;
        self.confirmed_by_peer(now);
    }

    fn confirmed_by_peer(&mut self, now: Now) {
        if self.own_runs.signing == Signing::Asking && self.own_runs.told && self.own_runs.links_told {
            self.begin_to_sign(now, Signing::Confirmed);
        }
    }

    /// Asks again, or goes on where nobody tells.
    pub(super) fn confirm_due(&mut self, now: Now) {
        if self.own_runs.signing != Signing::Asking {
            return;
        }
        self.own_runs.tries += 1;
        if self.connected.is_empty() || self.own_runs.tries >= limits::CONFIRM_TRIES_MAX {
            if !self.mutated_confirmed_by_others_only() {
                self.begin_to_sign(now, Signing::Unconfirmed);
            }
            return;
        }
        let peers: Vec<PublicKey> = self.connected.iter().take(limits::CONFIRM_PEERS_MAX).copied().collect();
        for peer in peers {
            self.introduce_run(peer);
        }
        self.timers.set(Timer::Confirm, now.mono_ms + limits::CONFIRM_MS);
    }

    fn begin_to_sign(&mut self, now: Now, signing: Signing) {
        self.own_runs.signing = signing;
        self.timers.cancel(&Timer::Confirm);
        self.publish_member(now);
        self.resume_host(now);
        let projects: Vec<ProjectId> = self.projects.heads().map(|(project, _)| project).collect();
        for project in projects {
            self.head_changed(now, project);
        }
        let held: Vec<VmId> = self.holdings.iter().map(|(vm, _)| vm.clone()).collect();
        for vm in held {
            self.settle_release(now, &vm);
            self.settle_arrival(now, &vm);
            if self.vms.owns(&vm) {
                self.suspend_or_go_on(now, &vm);
            }
        }
        for (op, operation) in std::mem::take(&mut self.own_runs.waiting) {
            self.operate(now, op, operation);
        }
    }

    /// Looks at a record under this host's own key that somebody else sends: whether this host never signed it.
    pub(super) fn notice_own(&mut self, record: &VerifiedRecord) {
        if record.author() != self.me || self.own_runs.signing == Signing::Doubled {
            return;
        }
        let project = match &***record {
            Record::Member(_) | Record::Host(_) => None,
            // Said by a newer program on this host, which was replaced by this one: it can't remember.
            // Kept for as long as it happens to be.
            Record::Gauges(_) => return,
            Record::Later(_) => return,
            // Anybody may publish a commit, with the promises that it has; rights don't hang on a host's memory.
            Record::Commit(_) | Record::Grant(_) | Record::Revocation(_) => return,
            Record::Vm(status) => Some(status.project),
            Record::Link(link) => self.projects.project_of(link.vm()),
        };
        // What is missing with a journal is known to be missing: nothing is signed for that project.
        if matches!(&***record, Record::Vm(_) | Record::Link(_))
            && project.is_none_or(|project| !self.joined.contains(&project))
        {
            return;
        }
        let held = self.records.get(&record.key(self.me));
        let is_unknown =
            held.is_none_or(|held| record.counter() >= held.counter() && record.digest() != held.digest());
        if is_unknown {
            self.doubled();
        }
    }

    fn doubled(&mut self) {
        if self.mutated_second_run_ignored() {
            return;
        }
        self.own_runs.signing = Signing::Doubled;
        self.timers.cancel(&Timer::Confirm);
        for (op, _) in std::mem::take(&mut self.own_runs.waiting) {
            self.refuse_doubled(op);
        }
    }

    /// Holds an operation back, or refuses it, where this host may not sign; returns it where it may.
    pub(super) fn unless_standing_forbids(
        &mut self,
        op: OpId,
        operation: Operation,
    ) -> Option<(OpId, Operation)> {
        match self.own_runs.signing {
            Signing::Confirmed | Signing::Unconfirmed => return Some((op, operation)),
            Signing::Asking if self.own_runs.waiting.len() < limits::OPERATIONS_MAX => {
                self.own_runs.waiting.push((op, operation));
            }
            Signing::Asking | Signing::Doubled => self.refuse_doubled(op),
        }
        None
    }

    fn refuse_doubled(&mut self, op: OpId) {
        let host = self.config.name.to_string();
        self.done(op, Outcome::Refused(vec![HostRefusal { host, refusal: self.doubled_refusal() }]));
    }

    /// Returns why this host signs nothing.
    pub fn doubled_refusal(&self) -> Refusal {
        let detail = "others have heard under this host's key what it never signed: it was put back to an older state, or \
                      a copy of it runs; switch the copy off, then on the host that is to go on: mlnctl key confirm";
        Refusal { rule: Rule::Forgotten, detail: detail.to_owned() }
    }

    /// The operator says that this host is the right one: what others have heard counts as its own.
    pub(super) fn go_on(&mut self, now: Now, op: OpId) {
        if self.own_runs.signing == Signing::Doubled {
            // A run of its own from here on: peers don't take it for the one that was doubled.
            self.own_runs.instance = self.draw();
            self.own_runs.signing = Signing::Confirmed;
            let heard: Vec<(VmId, u64)> = self
                .vms
                .ids()
                .filter_map(|vm| Some((vm.clone(), self.records.vm(vm, self.me)?.counter)))
                .collect();
            for (vm, counter) in heard {
                self.outbid_vm(now, &vm, counter);
            }
            self.begin_to_sign(now, Signing::Confirmed);
            for peer in self.connected.clone() {
                self.introduce_run(peer);
            }
        }
        self.done(op, Outcome::Done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_run_that_speaks_after_a_later_one_is_alive_beside_it() {
        let mut runs = OtherRuns::default();
        assert_eq!(runs.hear(1), None);
        assert_eq!(runs.hear(1), None);
        assert_eq!(runs.hear(2), None, "it was restarted");
        assert_eq!(runs.hear(1), Some(2));
        assert_eq!(runs.hear(2), Some(1), "both hear of it");
        assert_eq!(runs.hear(3), None, "somebody has cleared that up");
        assert_eq!(runs.hear(3), None);
    }

    #[test]
    fn runs_that_are_remembered_are_few() {
        let mut runs = OtherRuns::default();
        for instance in 0..1_000 {
            assert_eq!(runs.hear(instance), None);
        }
        assert!(runs.heard.len() <= limits::RUNS_KEPT);
    }
}
