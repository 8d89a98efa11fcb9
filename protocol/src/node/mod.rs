//! The mesh's state machine: everything that is decided, and nothing that is done.
//!
//! A driver feeds [`Node::handle`] with inputs and the time, takes what is to be done from
//! [`Node::poll_output`], and calls again at [`Node::poll_timeout`]. `mlnd` drives one over libp2p, sled and
//! the platforms; `netsim` drives hundreds over a simulated network.
//!
//! ```text
//!   operator ─► propose ─ Ask ─► reserve (every host concerned) ─ Check ─► edge
//!                  ▲                 │ Reserved, or Refused with the rule
//!                  └───── Answer ◄───┘
//!                  │ all reserved
//!                  ▼
//!               commit ─ gossip ─► records ─► projects ─► vms ─ Step ─► platform
//!                                    ▲                     │
//!   operator ◄─ watch ◄── VmStatus ──┴──────── publish ◄───┘
//! ```
//!
//! Each module below handles one part over borrowed parts of the state; the node itself only routes.

mod choose;
mod consider;
mod draft;
mod durable;
mod gauges;
mod grants;
mod guest_right;
mod guests;
mod handover;
mod history;
mod hooks;
#[cfg(feature = "mutants")]
mod inspect;
mod io;
mod ledger;
pub mod limits;
mod message;
mod moves;
mod mutated;
#[cfg(feature = "mutants")]
mod mutation;
mod outbox;
mod ownership;
mod projects;
mod promise;
mod propose;
mod records;
mod recover;
mod reservations;
mod reserve;
mod run;
mod runs;
mod standing;
mod status;
mod sync;
mod takeover;
mod timers;
mod view;
mod vms;
mod vote;
mod watch;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use consider::{Consideration, Inquiry, Intention};
pub use durable::Home;
pub use history::{RevisionChanges, RevisionView, Standing};
#[cfg(feature = "mutants")]
pub use inspect::{Proposed, ProposedStage, SetTimer};
pub use io::{
    BuildOrder, DecisionNote, ExistingProject, FailureCause, Holding, HookOwner, HostRefusal, ImpairedPort,
    Input, NodeConfig, OnFailure, OpId, Operation, Outcome, Output, OwnerHeard, PullRound, ReviseContent,
    ReviseOrder, Room, StoredState, SwitchWanted, UplinkWanted, VmFailure, Vouched, Write, WriteId,
};
pub use ledger::{Ownership, Tenure};
pub use message::{
    Ask, HandOver, Message, Propose, Refusal, Rule, RunOrder, RunRequest, RunVerdict, RunningVms,
};
pub use moves::{CopyHere, Evacuated};
#[cfg(feature = "mutants")]
pub use mutation::Mutation;
pub use projects::ProjectHeads;
pub use reservations::{ReservationNote, ReservedRoom};
pub use standing::Signing;
pub use sync::{SyncContent, SyncRange};
pub use view::{HostView, ProjectView, Reach, VmView};
pub use vms::KeptVm;

use crate::id::{Digest, ProjectId, PublicKey};
use crate::model::Fragment;
use crate::record::{Record, RecordKey, VerifiedRecord};
use crate::time::Now;
use crate::trust::{self, Grant};
use crate::wire;
use gauges::GaugeBoard;
use guests::Guests;
use handover::HandOvers;
use hooks::HookRounds;
use ledger::Ledger;
use outbox::{Outbox, WriteOrder};
use ownership::Holdings;
use projects::{ChainRule, Projects};
use promise::Decisions;
use propose::Proposals;
use records::{Merge, Records};
use recover::Recoveries;
use reservations::Reservations;
use run::RunOperations;
use standing::OwnRuns;
use status::StatusClock;
use takeover::Takeovers;
use timers::{Timer, Timers};
use vms::Vms;

/// One member of the mesh.
#[derive(Clone, Debug)]
pub struct Node {
    config: NodeConfig,
    me: PublicKey,
    records: Records,
    projects: Projects,
    fragments: BTreeMap<Digest, Arc<Fragment>>,
    reservations: Reservations,
    decisions: Decisions,
    recoveries: Recoveries,
    vms: Vms,
    hooks: HookRounds,
    ledger: Ledger,
    holdings: Holdings,
    hand_overs: HandOvers,
    guests: Guests,
    gauges: GaugeBoard,
    takeovers: Takeovers,
    proposals: Proposals,
    runs: RunOperations,
    own_runs: OwnRuns,
    status: StatusClock,
    connected: BTreeSet<PublicKey>,
    /// With whom records are compared while much is lacking, and until when.
    catching_up: Option<(PublicKey, u64)>,
    /// On whose grants operations are carried out; none for those that a user of this host asked for.
    principals: BTreeMap<OpId, trust::Standing>,
    /// The projects that this host has given its word to, and remembers it.
    joined: BTreeSet<ProjectId>,
    room: Room,
    timers: Timers,
    outbox: Outbox,
    lot: u64,
    /// What was heard or said since the start, for a mutation.
    #[cfg(feature = "mutants")]
    seen: Records,
}

impl Node {
    /// Makes a node from what it found on its disk. It does nothing before [`Input::Start`].
    pub fn new(config: NodeConfig, stored: StoredState) -> Self {
        let fragments: BTreeMap<Digest, Arc<Fragment>> = stored.fragments.into_iter().collect();
        let reservations = Reservations::load(stored.reservations, &fragments);
        let mut node = Self {
            me: config.keys.public(),
            lot: config.seed,
            config,
            records: Records::default(),
            projects: Projects::default(),
            fragments,
            reservations,
            decisions: Decisions::load(stored.decisions),
            recoveries: Recoveries::default(),
            vms: Vms::default(),
            hooks: HookRounds::default(),
            ledger: Ledger::default(),
            holdings: Holdings::load(stored.holdings),
            hand_overs: HandOvers::default(),
            guests: Guests::default(),
            gauges: GaugeBoard::default(),
            takeovers: Takeovers::default(),
            proposals: Proposals::default(),
            runs: RunOperations::default(),
            own_runs: OwnRuns::default(),
            status: StatusClock::default(),
            connected: BTreeSet::new(),
            catching_up: None,
            principals: BTreeMap::new(),
            joined: stored.joined,
            room: Room::Ample,
            timers: Timers::default(),
            outbox: Outbox::default(),
            #[cfg(feature = "mutants")]
            seen: Records::default(),
        };
        node.own_runs = OwnRuns::new(node.draw());
        node.projects.rule = node.chain_rule();
        let rules = node.rules();
        let restore = |node: &mut Self, record: VerifiedRecord| {
            let is_taken = node.records.merge(record.clone(), Records::newer) == Merge::Taken;
            if is_taken {
                node.projects.insert(&record);
                node.ledger.insert(&record, rules);
                if let Record::Commit(commit) = &**record {
                    node.ledger.born(commit, rules);
                }
            }
            is_taken
        };
        for record in stored.records {
            restore(&mut node, record);
        }
        // What was signed here counts even where the record was lost, and is one again: the note will be of something else one
        // day, and others have heard it.
        let signed: Vec<VerifiedRecord> = node.holdings.links().cloned().collect();
        for record in signed {
            if restore(&mut node, record.clone()) {
                node.outbox.write(Write::Record(record.key(record.author()), record));
            }
        }
        node
    }

    fn chain_rule(&self) -> ChainRule {
        if self.mutated_majority_over_live() {
            ChainRule::AnyPromises
        } else if self.mutated_changed_hosts_from_commit() {
            ChainRule::ChangedHostsFromCommit
        } else if self.mutated_partial_beats_majority() {
            ChainRule::PartialFirst
        } else if self.mutated_stranded_deleted() {
            ChainRule::StrandedRemoved
        } else if self.mutated_kept_deleted() {
            ChainRule::KeptRemoved
        } else if self.mutated_promise_before_all_reserved() {
            ChainRule::ReservationsIgnored
        } else if self.mutated_times_go_back() {
            ChainRule::TimesIgnored
        } else if self.mutated_half_suffices() {
            ChainRule::HalfSuffices
        } else {
            ChainRule::InForce
        }
    }

    /// Takes in one input. What follows from it is to be had from [`Self::poll_output`].
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Start { found } => self.start(now, found),
            Input::Connected(peer) => self.connect(now, peer),
            Input::Disconnected(peer) => {
                self.connected.remove(&peer);
                self.takeovers.hear(now.mono_ms, peer);
            }
            Input::Unreachable(peer) => self.unreachable(now, peer),
            Input::Message { from, message } => self.message(now, from, message),
            Input::Record(record) => self.take(now, record),
            Input::Persisted(id) => self.outbox.persisted(id),
            Input::Operate { op, operation } => self.operate(now, op, operation),
            Input::OperateFor { op, operation, standing } => {
                self.principals.insert(op, *standing);
                self.operate(now, op, operation);
            }
            Input::GrantSeen(chain) => self.grant_seen(now, chain),
            Input::Revoke { chain, reason } => self.revoke(now, chain, reason),
            Input::RevokedBy(record) => self.revoked_by(now, record),
            Input::Abandon(op) => self.abandon(op),
            Input::Checked { revision, verdict } => self.checked(now, revision, verdict),
            Input::StepDone { vm, step, result } => self.step_done(now, &vm, step, result),
            Input::NotLive { vm } => self.not_live(now, &vm),
            Input::Observed { vm, observed } => self.observed(now, &vm, observed),
            Input::Nat { vm, nat } => self.nat_seen(now, &vm, nat),
            Input::StartupFailed { vm } => self.startup_failed(now, &vm),
            Input::Gauges { vm, values } => self.measured(now, &vm, values),
            Input::HookDone { project, point, result } => self.hook_done(now, project, point, result),
            Input::Pulled { vm, result } => self.pulled(now, &vm, result),
            Input::Sealed { vm, result } => self.sealed(now, &vm, result),
            Input::CopyRead { vm, result } => self.copy_read(now, &vm, result),
            Input::SpaceShort => self.space_short(),
            Input::Room(room) => self.room = room,
            Input::Timeout => {
                while let Some(timer) = self.timers.pop(now.mono_ms) {
                    self.timeout(now, timer);
                }
            }
        }
        self.outbox.close(self.write_order());
    }

    /// Returns the next thing to be done, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    /// Returns the number of the last write: all that is known now is durable with it.
    pub fn last_write(&self) -> WriteId {
        self.outbox.last_write()
    }

    /// Whether a write and all before it are durable.
    pub fn has_written(&self, id: WriteId) -> bool {
        self.outbox.has_written(id)
    }

    /// Returns when [`Input::Timeout`] is due, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.next_due()
    }

    /// Returns the host's own key.
    pub fn key(&self) -> PublicKey {
        self.me
    }

    fn start(&mut self, now: Now, found: Vec<(crate::id::VmId, crate::plan::Observed)>) {
        self.confirm(now);
        self.resume_reservations(now);
        self.adopt_all(now, found);
        self.forget_decided();
        let promised: Vec<Digest> = self.decisions.promised().collect();
        for parent in promised {
            self.await_decision(now, parent);
        }
        self.drop_unused_fragments();
        self.tell_revoked();
        if self.may_sign() {
            self.publish_member(now);
            self.resume_host(now);
        }
        self.timers.set(Timer::Sync, now.mono_ms + limits::SYNC_MS);
    }

    fn connect(&mut self, now: Now, peer: PublicKey) {
        self.takeovers.hear(now.mono_ms, peer);
        if !self.connected.insert(peer) {
            return;
        }
        // Who we are comes first: what else we say counts only with those who know that.
        let keys = [RecordKey::Member(self.me), RecordKey::Host(self.me)];
        let own = keys.iter().filter_map(|key| self.records.get(key).cloned()).collect();
        self.send(peer, Message::Records(own));
        if self.me < peer {
            self.send(peer, sync::opening(self.compared()));
        }
        self.introduce_run(peer);
    }

    fn message(&mut self, now: Now, from: PublicKey, message: Message) {
        match message {
            Message::Ask { ask, fragment } => self.asked(now, from, &ask, fragment),
            Message::Answer { revision, verdict } => self.answered(now, from, revision, verdict),
            Message::Withdraw { revision } => self.withdrawn(from, revision),
            Message::Run(request) => self.run_requested(now, from, &request),
            Message::RunAnswer { request, verdict } => self.run_answered(now, from, request, verdict),
            Message::Sync(ranges) => {
                if !self.mutated_no_anti_entropy() && !self.catches_up_with_another(now, from) {
                    for reply in sync::answers(self.compared(), &ranges) {
                        self.send(from, reply);
                    }
                }
            }
            Message::Want(keys) => {
                for reply in sync::wanted(&self.records, &keys) {
                    self.send(from, reply);
                }
            }
            Message::Records(mut records) => {
                // Newer links first: what an older one would have us do may be over by a newer one of the same message.
                records.sort_by_key(|record| match &***record {
                    Record::Link(link) => Some(std::cmp::Reverse(link.epoch())),
                    Record::Member(_)
                    | Record::Host(_)
                    | Record::Commit(_)
                    | Record::Vm(_)
                    | Record::Grant(_)
                    | Record::Revocation(_)
                    | Record::Gauges(_)
                    | Record::Later(_) => None,
                });
                let full = records.len() >= limits::SYNC_RECORDS_MAX;
                let before = self.records.fingerprint();
                for record in records {
                    self.take(now, record);
                }
                // There was more than fits into one message; what was nothing new, others lack.
                if full && self.records.fingerprint() != before && !self.catches_up_with_another(now, from) {
                    let until_ms = now.mono_ms + limits::CATCH_UP_MS;
                    self.catching_up = Some((from, until_ms));
                    // If that gets stuck, with somebody else.
                    self.timers.set(Timer::Sync, until_ms);
                    self.send(from, sync::opening(self.compared()));
                }
            }
            Message::FragmentWanted(digest) => {
                let part = self.fragments.get(&digest).cloned();
                if let Some(part) = part.filter(|_| self.concerns(now, digest, from)) {
                    self.send(from, Message::FragmentFound(part));
                }
            }
            Message::FragmentFound(fragment) => self.fragment_found(now, fragment),
            Message::HandOver(message) => self.hand_over(now, from, message),
            Message::OwnWanted { instance, asks } => self.own_wanted(now, from, instance, asks),
            Message::OwnTold { instance, other, records } => {
                self.own_told(now, from, instance, other, records);
            }
            Message::Ballot { parent, ballot } => self.ballot_called(from, parent, ballot),
            Message::Answered { answer, candidate } => {
                self.ballot_answered(now, *answer, candidate.map(|candidate| *candidate));
            }
            Message::Propose(propose) => self.promise_wanted(now, from, *propose),
            Message::Promised(promise) => self.promise_heard(now, &promise),
            Message::Outbid { parent, ballot, number } => self.outbid(from, parent, ballot, number),
        }
    }

    /// Whether this host lacks so much that it gets it from one peer at a time, and this is not the one.
    fn catches_up_with_another(&self, now: Now, peer: PublicKey) -> bool {
        self.catching_up.is_some_and(|(one, until_ms)| one != peer && now.mono_ms < until_ms)
    }

    /// Merges a record from elsewhere; what is new is kept, acted upon and, by gossip, passed on.
    fn take(&mut self, now: Now, record: VerifiedRecord) {
        // Whoever takes a grant back need not be a member: the record says by itself what gives them the right.
        let speaks_for_itself = matches!(**record, Record::Member(_) | Record::Revocation(_));
        let heard = speaks_for_itself || self.mutated_strangers_kept();
        if !heard && self.records.member(record.author()).is_none() {
            // Whoever fills slots must be known; a member's grants come first, and the rest again with the next
            // comparison.
            return;
        }
        self.note_fork(&record);
        self.notice_own(&record);
        if self.mutated_commit_judged_again() && self.is_refused_by_grants(now, &record) {
            return;
        }
        if self.mutated_merge_refuses_expired() && self.has_expired(now, record.author()) {
            return;
        }
        if self.merge(&record, Origin::Others) != Merge::Taken {
            return;
        }
        if record.author() == self.me && self.may_sign() {
            self.outbid_record(now, &record);
        }
        self.act_on(now, &record);
    }

    /// Says again what is so, above a record under our own key that we no longer knew: after a lost disk, others
    /// have heard more of us than we remember.
    fn outbid_record(&mut self, now: Now, record: &VerifiedRecord) {
        match &***record {
            Record::Member(_) => self.publish_member(now),
            Record::Host(_) => self.publish_host(now),
            Record::Vm(status) => self.outbid_vm(now, &status.vm, status.counter),
            Record::Commit(_)
            | Record::Link(_)
            | Record::Grant(_)
            | Record::Revocation(_)
            | Record::Gauges(_)
            | Record::Later(_) => {}
        }
    }

    /// Signs, keeps and gossips a record of our own, unless this host may sign nothing.
    fn publish(&mut self, now: Now, record: Record) {
        if !self.may_sign() {
            return;
        }
        let record = wire::sign_record(&self.config.keys, record);
        if self.merge(&record, Origin::Ourselves) == Merge::Taken {
            self.outbox.push(Output::Broadcast(record.clone()));
            self.act_on(now, &record);
        }
    }

    fn merge(&mut self, record: &VerifiedRecord, origin: Origin) -> Merge {
        let newer = if self.mutated_merge_keeps_first() {
            |_: &VerifiedRecord, _: &VerifiedRecord| false
        } else if self.mutated_replay_accepted() {
            |new: &VerifiedRecord, held: &VerifiedRecord| new.digest() != held.digest()
        } else {
            Records::newer
        };
        let merge = match self.proof_order(record) {
            Some(Ordering::Less) => Merge::Old,
            Some(Ordering::Greater) => self.records.merge(record.clone(), |_, _| true),
            Some(Ordering::Equal) | None => self.records.merge(record.clone(), newer),
        };
        if merge == Merge::Taken {
            #[cfg(feature = "mutants")]
            self.seen.merge(record.clone(), |_, _| true);
            let (key, record) = (record.key(record.author()), record.clone());
            // What we have forgotten and are told again doesn't make us remember it.
            let write = match origin {
                Origin::Others if record.author() == self.me => Write::Heard(key, record),
                Origin::Others | Origin::Ourselves => Write::Record(key, record),
            };
            self.outbox.write(write);
        }
        merge
    }

    /// Remembers that this host has given its word to a project, before anybody hears it.
    fn join(&mut self, project: ProjectId) {
        if !self.joined.insert(project) {
            return;
        }
        self.outbox.write(Write::Join(project));
        // What was heard of it before goes with it, into its journal.
        for record in self.projects.records_of(project) {
            self.outbox.write(Write::Record(record.key(record.author()), record.clone()));
        }
    }

    /// Whether this host has given no word to a project, or has lost what it said: where others know that it has, it
    /// looks on. It can't tell what it promised.
    fn forgot(&self, project: ProjectId) -> bool {
        !self.joined.contains(&project) && !self.mutated_journal_not_needed()
    }

    /// Compares a commit with the one that holds its slot by whether they prove what they say, for all that is known
    /// of the parent: a hundred strangers' signatures don't take the place of a proof.
    fn proof_order(&self, record: &VerifiedRecord) -> Option<Ordering> {
        let Record::Commit(new) = &***record else { return None };
        let held = self.projects.commit(new.digest)?;
        Some(self.projects.proves(new).cmp(&self.projects.proves(held)))
    }

    /// Whether the clock and the grants of a commit's hosts speak against it: only a mutation asks.
    fn is_refused_by_grants(&self, now: Now, record: &VerifiedRecord) -> bool {
        let Record::Commit(commit) = &***record else { return false };
        commit.reserving().into_iter().any(|host| self.has_expired(now, host))
    }

    /// Whether a member's grant is over by this host's clock: only mutations ask.
    fn has_expired(&self, now: Now, host: PublicKey) -> bool {
        let chain = self.records.member(host).map(|member| &member.chain);
        let links = chain.into_iter().flatten().filter_map(|link| Grant::from_bytes(&link.payload).ok());
        links.filter_map(|grant| grant.not_after_unix_ms).any(|until| until < now.unix_ms)
    }

    fn act_on(&mut self, now: Now, record: &VerifiedRecord) {
        match &***record {
            Record::Commit(commit) => {
                let rules = self.rules();
                for vm in self.ledger.born(commit, rules) {
                    self.link_heard(now, &vm);
                }
                if let Some(project) = self.projects.insert(record) {
                    self.heads_moved(now, project);
                }
            }
            Record::Vm(status) => {
                self.watch_build(now, status.project);
                self.watch_run(now, &status.vm);
            }
            Record::Link(_) => {
                let rules = self.rules();
                if let Some(vm) = self.ledger.insert(record, rules) {
                    self.link_heard(now, &vm);
                }
            }
            Record::Revocation(revocation) => {
                let grant = revocation.grant();
                if self.revocation(grant).is_some() {
                    self.outbox.push(Output::Revoked(grant));
                }
            }
            Record::Member(_) | Record::Host(_) | Record::Grant(_) | Record::Gauges(_) | Record::Later(_) => {
            }
        }
    }

    /// Does what follows from a project's standing elsewhere, for what is decided and for what is carried out.
    fn heads_moved(&mut self, now: Now, project: ProjectId) {
        let asked: BTreeSet<Digest> = self.proposals.parents().chain(self.recoveries.parents()).collect();
        for parent in asked {
            if self.projects.decided_child(parent).is_some() {
                self.parent_decided(now, parent);
            }
        }
        self.head_changed(now, project);
        self.forget_decided();
        self.watch_build(now, project);
    }

    fn timeout(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Status | Timer::StatusChange => self.publish_host(now),
            Timer::Sync => {
                self.sync_with_somebody();
                self.timers.set(Timer::Sync, now.mono_ms + limits::SYNC_MS);
            }
            Timer::Operation(op) => self.operation_due(now, op),
            Timer::Reservation(revision) => self.reservation_lapsed(revision),
            Timer::Retry(vm) => self.retry(now, &vm),
            Timer::Fragment(digest) => self.want_fragment(now, digest),
            Timer::Hooks(project) => self.hooks_gathered(now, project),
            Timer::Confirm => self.confirm_due(now),
            Timer::Doubtful => self.doubtful_due(now),
            Timer::Arrival(vm) => self.arrival_due(now, &vm),
            Timer::Leaving(vm) => self.stay(now, &vm),
            Timer::Release(vm) => self.release_due(now, &vm),
            Timer::Undecided(parent) => self.undecided(now, parent),
            Timer::Kept(vm) => self.retry(now, &vm),
            Timer::Gauges => self.publish_gauges(now),
        }
    }

    fn operate(&mut self, now: Now, op: OpId, operation: Operation) {
        if let Operation::GoOn = operation {
            return self.go_on(now, op);
        }
        let Some((op, operation)) = self.unless_standing_forbids(op, operation) else { return };
        if self.proposals.len() + self.runs.len() + self.takeovers.len() >= limits::OPERATIONS_MAX {
            let refusal = Refusal {
                rule: Rule::NoAnswer,
                detail: format!(
                    "this agent already works on {} requests; wait for some",
                    limits::OPERATIONS_MAX
                ),
            };
            let host = self.config.name.to_string();
            self.done(op, Outcome::Refused(vec![HostRefusal { host, refusal }]));
            return;
        }
        match operation {
            Operation::Build(order) => self.propose_build(now, op, *order),
            Operation::Remove { project, running } => self.propose_removal(now, op, project, running),
            Operation::Revise(order) => self.propose_revision(now, op, &order),
            Operation::Run { vms, order, pause_ms } => self.run(now, op, vms, order, pause_ms),
            Operation::TakeOver { vm, owner, author } => self.take_over(now, op, vm, owner, author),
            Operation::Guest(right) => self.propose_guest(now, op, *right),
            Operation::GoOn => self.go_on(now, op),
        }
    }

    fn abandon(&mut self, op: OpId) {
        self.runs.unwatch(op);
        if !self.proposals.by_op.contains_key(&op) {
            self.principals.remove(&op);
        }
    }

    fn operation_due(&mut self, now: Now, op: OpId) {
        self.proposal_due(now, op);
        self.run_due(now, op);
        self.takeover_due(now, op);
    }

    fn unreachable(&mut self, now: Now, peer: PublicKey) {
        self.proposal_unreachable(now, peer);
        self.run_unreachable(now, peer);
    }

    /// Returns the records that are compared with those of peers: all that the store has.
    fn compared(&self) -> &Records {
        #[cfg(feature = "mutants")]
        if self.config.mutation == Some(Mutation::SyncFromSeenCache) {
            return &self.seen;
        }
        &self.records
    }

    fn sync_with_somebody(&mut self) {
        if self.connected.is_empty() || self.mutated_no_anti_entropy() {
            return;
        }
        let turn = self.draw() as usize % self.connected.len();
        if let Some(peer) = self.connected.iter().nth(turn).copied() {
            self.send(peer, sync::opening(self.compared()));
            self.introduce_run(peer);
        }
    }

    /// Draws the next number by lot: splitmix64 (Steele, Lea, Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.lot = self.lot.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.lot;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn send(&mut self, to: PublicKey, message: Message) {
        self.outbox.push(Output::Send { to, message });
    }

    fn done(&mut self, op: OpId, outcome: Outcome) {
        self.timers.cancel(&Timer::Operation(op));
        self.principals.remove(&op);
        self.outbox.push(Output::Done { op, outcome });
    }

    /// Returns what people call a host.
    fn host_name(&self, key: PublicKey) -> String {
        self.records.member(key).map_or_else(|| key.short(), |member| member.name.to_string())
    }
}

/// Who a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// This host has just signed it.
    Ourselves,
    /// It was sent here.
    Others,
}

impl Node {
    fn write_order(&self) -> WriteOrder {
        if self.mutated_output_before_persisted() {
            WriteOrder::AfterOutputs
        } else {
            WriteOrder::BeforeOutputs
        }
    }
}

#[cfg(test)]
#[path = "node_test.rs"]
mod tests;

#[cfg(test)]
#[path = "decide_test.rs"]
mod decision_tests;
