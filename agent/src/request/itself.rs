//! What VMs of this host ask for themselves: `mlnctl me`, from inside.
//!
//! The guest signs what it wants; this host says whose the guest's key is, makes the child of the project's text, and lets
//! the node ask the hosts that it concerns, each of which makes the child again and judges by itself. What comes from a
//! guest is nothing but bytes: who it is, is the line that it came over.
//!
//! ```text
//!   Key ──► attested        Me, Status, Log ──► answered at once, about the guest's own project
//!   Plan ──► the same as a Request, but the hosts are only asked what they would say
//!   Request ──► verified ──► (a task) parent's definition, child ──► the node ──► head is the child: done
//!                                                                      └────────► refused, failed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mln_link::Reply;
use mln_link::message::Refusal;
use mln_protocol::id::{Digest, Label, ProjectId, PublicKey, VmId};
use mln_protocol::model::Policy;
use mln_protocol::node::{Input, Message, Operation, RevisionView, Rule, WriteId};
use mln_protocol::record::Commit;
use mln_protocol::trust::{Attestation, GuestRequest, GuestRight, Signed, Verified, Wanted, child_of};
use mln_protocol::wire;
use mln_protocol::wire::me::{
    ME_BYTES_MAX, ME_ROWS_MAX, MeAnswer, MeAsk, MeMachine, MePolicy, MeRefusal, MeRevision, MeSelf, MeVm,
    decode_me_ask, encode_me_answer, me_number,
};
use tracing::{debug, info, warn};

use super::sight::{Look, Sights};
use super::strange::{Mistyped, mistyped};
use super::{log, status};
use crate::causes::chain;
use crate::control::ReplySender;
use crate::definition;
use crate::event_loop::{EventLoop, Work};
use crate::events::Asker;
use crate::operations::remedy;
use crate::store::failpoint::reach;

/// How many requests of VMs are prepared at a time: each holds a project's definition.
const PREPARING_MAX: usize = 16;
/// How many requests of one VM are prepared at once. The node counts by itself; here it is about the work of making a text.
const PREPARED_AT_ONCE_MAX: u64 = 6;
/// How often one more is prepared, in milliseconds.
const PREPARED_EVERY_MS: u64 = 10_000;
/// How many that are only thought of are prepared at once; they are counted by themselves, so that who plans first may ask then.
const PLANNED_AT_ONCE_MAX: u64 = 12;
/// How often one more of those is, in milliseconds.
const PLANNED_EVERY_MS: u64 = 5_000;
/// Among how many of a project's newest revisions what a VM has asked for is looked for.
const FOLLOWING_MAX: usize = 16;
/// How often it is logged that VMs ask too often, in milliseconds.
const LOG_PAUSE_MS: u64 = 60_000;

/// The VMs of this host that have asked something.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    attested: BTreeMap<VmId, Verified<Attestation>>,
    /// One for each VM at most.
    open: BTreeMap<VmId, Open>,
    /// The VMs of which a request is only thought of just now, one of each.
    planning: BTreeSet<VmId>,
    /// The newest number of a boot that was given out.
    boot: u64,
    /// When those have used up what they may ask that have asked lately, by the monotonic clock, in milliseconds.
    used_until_ms: BTreeMap<(VmId, Purpose), u64>,
    /// How many requests were over the rate since that was logged, and when it was.
    over_rate: u64,
    logged_ms: Option<u64>,
    pub(super) sights: Sights,
}

/// A request that is not answered yet, or whose change is under way.
#[derive(Debug)]
struct Open {
    number: u64,
    request: Digest,
    project: ProjectId,
    stage: Stage,
    /// The last write of the moment in which it was seen to be decided.
    decided_by: Option<WriteId>,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The child is being made.
    Preparing,
    /// The hosts are asked.
    Asked,
    /// It is decided, and the guest has been told.
    Told,
}

/// Whether what a guest wants is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// It is.
    Change,
    /// It is only thought of.
    Plan,
}

impl Purpose {
    /// Returns how many are prepared at once, and how often one more is, in milliseconds.
    fn rate(self) -> (u64, u64) {
        match self {
            Self::Change => (PREPARED_AT_ONCE_MAX, PREPARED_EVERY_MS),
            Self::Plan => (PLANNED_AT_ONCE_MAX, PLANNED_EVERY_MS),
        }
    }

    /// Refuses one that is over that rate, in words.
    fn over_rate(self, vm: &VmId, wait_ms: u64) -> String {
        let (at_once, every_ms) = self.rate();
        let (verb, what) = match self {
            Self::Change => ("asks", "requests"),
            Self::Plan => ("plans", "plans"),
        };
        format!(
            "`{}` {verb} too often: {at_once} {what} are looked at at once, and one more every {} s; ask again in {} s",
            vm.name,
            every_ms / 1000,
            wait_ms.div_ceil(1000)
        )
    }
}

/// Who asks for what.
#[derive(Debug)]
struct GuestAsked {
    vm: VmId,
    number: u64,
    purpose: Purpose,
    /// Of which project.
    label: Label,
}

/// A request whose child is made, or not.
#[derive(Debug)]
pub(crate) struct GuestPrepared {
    asked: GuestAsked,
    request: Digest,
    result: Result<GuestMade, MeAnswer>,
}

/// What a guest wants, and what the project would be submitted as by it.
#[derive(Debug)]
pub(super) struct GuestMade {
    pub(super) right: Box<GuestRight>,
    pub(super) child: Digest,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct GuestOver {
    vm: VmId,
    request: Digest,
    replies: Vec<Reply>,
}

impl Guests {
    /// Forgets a VM that doesn't run any more: its key is gone with it.
    pub(crate) fn ended(&mut self, vm: &VmId) {
        self.attested.remove(vm);
    }

    /// Takes note that what was only thought of is answered.
    pub(super) fn plan_over(&mut self, vm: &VmId) {
        self.planning.remove(vm);
    }

    /// Counts one more request of a VM that is prepared now; where it isn't, the error is in how many milliseconds it would be.
    fn take(&mut self, vm: &VmId, purpose: Purpose, now_ms: u64) -> Result<(), u64> {
        self.used_until_ms.retain(|_, until| *until > now_ms);
        let (at_once, every_ms) = purpose.rate();
        let key = (vm.clone(), purpose);
        let until = self.used_until_ms.get(&key).copied().unwrap_or(now_ms).saturating_add(every_ms);
        let wait_ms = until.saturating_sub(now_ms.saturating_add(at_once * every_ms));
        if wait_ms > 0 {
            return Err(wait_ms);
        }
        self.used_until_ms.insert(key, until);
        Ok(())
    }

    /// Counts a request that is over the rate; returns how many those were, where it is time to say so.
    fn count_over_rate(&mut self, now_ms: u64) -> Option<u64> {
        self.over_rate += 1;
        let is_time = self.logged_ms.is_none_or(|then| now_ms.saturating_sub(then) >= LOG_PAUSE_MS);
        is_time.then(|| {
            self.logged_ms = Some(now_ms);
            std::mem::take(&mut self.over_rate)
        })
    }

    /// Returns a number for a boot that is larger than all before, also than those before this agent was started where the
    /// clock wasn't set back.
    fn next_boot(&mut self, now_unix_ms: u64) -> u64 {
        self.boot = now_unix_ms.max(self.boot.saturating_add(1));
        self.boot
    }
}

impl EventLoop {
    /// Answers what a guest asks, or begins what it wants.
    pub(crate) async fn guest_asks(&mut self, vm: &VmId, bytes: &[u8]) {
        let ask = match decode_me_ask(bytes) {
            Ok(ask) => ask,
            Err(error) => {
                debug!(%vm, %error, "what a VM asks is not understood");
                return me_number(bytes).map_or((), |number| self.tell_guest(vm, number, MeAnswer::Unknown));
            }
        };
        let answer = match ask.ask {
            MeAsk::Key(key) => self.attest(vm, PublicKey(key)),
            MeAsk::Me => self.itself(vm),
            MeAsk::Status => self.machines(vm),
            MeAsk::Log => self.revisions(vm),
            MeAsk::Sight => self.look(vm, ask.number, Look::Sight),
            MeAsk::Look(values) => {
                self.hear_gauges(vm, values).await;
                self.look(vm, ask.number, Look::View)
            }
            MeAsk::Request(bytes) => self.guest_wants(vm, ask.number, &bytes, Purpose::Change).err(),
            MeAsk::Plan(bytes) => self.guest_wants(vm, ask.number, &bytes, Purpose::Plan).err(),
        };
        if let Some(answer) = answer {
            self.tell_guest(vm, ask.number, answer);
        }
    }

    pub(super) fn tell_guest(&self, vm: &VmId, number: u64, answer: MeAnswer) {
        let mut bytes = encode_me_answer(number, answer);
        if bytes.len() > ME_BYTES_MAX {
            let text = "the answer is too long for a machine; from outside, mlnctl has all of it".to_owned();
            bytes = encode_me_answer(number, MeAnswer::Failed { text });
        }
        if !self.platform.tell(vm, bytes) {
            debug!(%vm, "an answer doesn't reach it");
        }
    }

    /// Says whose a key is, unless that is said already.
    fn attest(&mut self, vm: &VmId, key: PublicKey) -> Option<MeAnswer> {
        let Some(known) = self.vm_itself(vm) else { return Some(not_owned(vm)) };
        let epoch = self.node.ownership(vm).map(|ownership| ownership.epoch);
        let is_said = |said: &Verified<Attestation>| said.key == key && Some(said.epoch) == epoch;
        if !self.guests.attested.get(vm).is_some_and(is_said) {
            let now = self.clock.now();
            let boot = self.guests.next_boot(now.unix_ms);
            match self.node.attest(now, vm, boot, key) {
                Some(attestation) => drop(self.guests.attested.insert(vm.clone(), attestation)),
                None => return Some(not_owned(vm)),
            }
        }
        Some(MeAnswer::Attested(Box::new(known)))
    }

    /// Takes a request; an answer where it comes to nothing at once.
    fn guest_wants(
        &mut self,
        vm: &VmId,
        number: u64,
        bytes: &[u8],
        purpose: Purpose,
    ) -> Result<(), MeAnswer> {
        let here = self.identity.name.to_string();
        let refuse = |rule: Rule, text: String| Err(refused(vm, &here, rule, text));
        // First of all, so that what is refused is also counted.
        let preparing = self.guests.open.values().filter(|open| open.stage == Stage::Preparing).count();
        let now_ms = self.clock.now().mono_ms;
        if let Err(wait_ms) = self.guests.take(vm, purpose, now_ms) {
            if let Some(count) = self.guests.count_over_rate(now_ms) {
                warn!(%vm, count, rule = Rule::GuestRate.code(), "machines ask too often: not looked at");
            }
            return Err(refusal(&here, Rule::GuestRate, purpose.over_rate(vm, wait_ms)));
        }
        if preparing + self.guests.planning.len() >= PREPARING_MAX {
            let text = format!(
                "this host looks at {PREPARING_MAX} requests of machines already: ask again in a moment"
            );
            return Err(refusal(&here, Rule::GuestRate, text));
        }
        let request = match Signed::from_bytes(bytes)
            .map_err(|_| "it can't be read".to_owned())
            .and_then(|signed| wire::verify_guest_request(signed).map_err(|error| chain(&error)))
        {
            Ok(request) => request,
            Err(why) => return refuse(Rule::GuestKey, format!("the request of `{}`: {why}", vm.name)),
        };
        let attestation = match self.guests.attested.get(vm) {
            Some(attestation) if request.vm == *vm && attestation.key == request.author() => {
                attestation.clone()
            }
            _ => {
                let text = format!(
                    "the request isn't signed by the key that this host has attested to `{}`",
                    vm.name
                );
                return refuse(Rule::GuestKey, text);
            }
        };
        if let Wanted::Move { to } = &request.wanted
            && let Some((_, _, definition)) = self.node.owned(vm)
            && let Some(Mistyped { text, meant }) =
                mistyped(to, &definition.setup.policies, &self.node.hosts())
        {
            warn!(%vm, why = text, "what it asked for is refused");
            let verb = if purpose == Purpose::Plan { "plan" } else { "me" };
            return Err(MeAnswer::Refused(vec![MeRefusal {
                host: here,
                rule: Rule::UnknownHost.code().to_owned(),
                text,
                who_can_change: format!("you: mlnctl {verb} move --to {meant}"),
            }]));
        }
        let is_open = self.guests.open.get(vm).is_some_and(|open| open.stage != Stage::Told);
        if purpose == Purpose::Plan && self.guests.planning.contains(vm) {
            let text = format!("`{}` plans something else just now: ask again after it", vm.name);
            return refuse(Rule::GuestRate, text);
        }
        if purpose == Purpose::Change && is_open {
            let text = format!(
                "`{}` has asked for something else that isn't decided yet: ask again after it",
                vm.name
            );
            return refuse(Rule::GuestRate, text);
        }
        let project = self.node.vm_project(vm);
        // Of another project it is told nothing.
        let own = |commit: &&Commit| Some(commit.project()) == project;
        let commit = self.node.revision(request.parent).filter(own);
        let (Some(project), Some(commit)) = (project, commit) else {
            let text = format!("revision {} is none of its project", request.parent.short());
            return refuse(Rule::Parent, text);
        };
        let (label, definition) = (commit.revision.label.clone(), commit.revision.definition);
        match purpose {
            Purpose::Change => {
                info!(%vm, %label, wanted = %request.wanted, reason = request.reason, "asks for itself");
                let open = Open {
                    number,
                    request: request.digest(),
                    project,
                    stage: Stage::Preparing,
                    decided_by: None,
                };
                self.guests.open.insert(vm.clone(), open);
            }
            Purpose::Plan => drop(self.guests.planning.insert(vm.clone())),
        }
        self.preparing += 1;
        let asked = GuestAsked { vm: vm.clone(), number, purpose, label };
        self.prepare(asked, attestation, request, definition, project);
        Ok(())
    }

    /// Has the child made that a request is about, by a task of its own.
    fn prepare(
        &self,
        asked: GuestAsked,
        attestation: Verified<Attestation>,
        request: Verified<GuestRequest>,
        definition: Digest,
        project: ProjectId,
    ) {
        let (blobs, mesh, results) = (self.blobs.clone(), self.mesh.clone(), self.results.clone());
        let (hosts, here) = (self.holders(project), self.identity.name.to_string());
        tokio::spawn(async move {
            let digest = request.digest();
            let failed = |text: String| MeAnswer::Failed { text };
            let made = async {
                let found = definition::find(&blobs, &mesh, &[definition], &hosts).await;
                let (_, parent) = found.ok_or_else(|| failed(NOT_KEPT.to_owned()))?;
                let bytes = blobs.get(definition).map_err(|error| failed(chain(&error)))?;
                let (wanted, of, name) = (request.wanted.clone(), asked.label.clone(), asked.vm.name.clone());
                let making = tokio::task::spawn_blocking(move || child_of(&parent, &of, &name, &wanted));
                let child = making.await.map_err(|_| failed("making the new text was cut off".to_owned()))?;
                // What lies behind it stands in it already.
                let child =
                    child.map_err(|error| refused(&asked.vm, &here, error.rule(), error.to_string()))?;
                // The hosts that are asked fetch it from here, and the files too.
                let made = blobs.put(&child.bytes).map_err(|error| failed(chain(&error)))?;
                for file in &child.definition.files {
                    for host in std::iter::once(None).chain(hosts.iter().copied().map(Some)) {
                        if blobs.fetch(&mesh, host, file.digest).await.is_ok() {
                            break;
                        }
                    }
                }
                let right = GuestRight { attestation, request, definition: Arc::from(bytes) };
                Ok(GuestMade { right: Box::new(right), child: made })
            };
            let result = made.await;
            let prepared = GuestPrepared { asked, request: digest, result };
            // The loop has ended if nobody listens.
            let _ = results.send(Work::GuestPrepared(Box::new(prepared))).await;
        });
    }

    /// Goes on with a request whose child is made.
    pub(crate) async fn guest_prepared(&mut self, prepared: GuestPrepared) {
        let GuestPrepared { asked, request, result } = prepared;
        let GuestAsked { vm, number, purpose, label } = asked;
        if purpose == Purpose::Plan {
            return match result {
                Ok(made) => self.guest_plan(vm, number, label, made),
                Err(answer) => {
                    self.guests.plan_over(&vm);
                    self.tell_guest(&vm, number, answer);
                    self.work_over()
                }
            };
        }
        let Some(open) = self.guests.open.get_mut(&vm).filter(|open| open.request == request) else {
            return self.work_over();
        };
        let right = match result {
            Ok(made) => made.right,
            Err(answer) => {
                self.guests.open.remove(&vm);
                self.tell_guest(&vm, number, answer);
                return self.work_over();
            }
        };
        open.stage = Stage::Asked;
        let project = open.project;
        let (reply, mut replies) = ReplySender::channel();
        let results = self.results.clone();
        let of = vm.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(reply) = replies.recv().await {
                match reply {
                    Reply::Done => break,
                    Reply::Refused(_) | Reply::Failed(_) | Reply::Silent(_) => kept.push(reply),
                    // Who has asked is told of the decision, and sees the rest itself.
                    _ => {}
                }
            }
            let over = GuestOver { vm: of, request, replies: kept };
            // The loop has ended if nobody listens.
            let _ = results.send(Work::GuestOver(Box::new(over))).await;
        });
        let asker = Asker { project: label, vm: vm.name };
        let op = self.operations.begin_wish(reply, asker, project);
        self.preparing -= 1;
        self.handle(Input::Operate { op, operation: Operation::Guest(right) }).await;
    }

    /// Tells those VMs what they wanted is decided whose project stands at the revision that says so, as soon as this host
    /// can't forget that any more. A VM that moves itself is told before it stops.
    pub(crate) fn tell_guests(&mut self) {
        if self.guests.open.values().all(|open| open.stage != Stage::Asked) {
            return;
        }
        let decided: Vec<(VmId, u64, MeRevision)> = self
            .guests
            .open
            .iter()
            .filter(|(_, open)| open.stage == Stage::Asked)
            .filter_map(|(vm, open)| Some((vm.clone(), open.number, self.decided(open)?)))
            .collect();
        for (vm, number, revision) in decided {
            let Some(open) = self.guests.open.get_mut(&vm) else { continue };
            let write = *open.decided_by.get_or_insert_with(|| self.node.last_write());
            if !self.node.has_written(write) {
                continue;
            }
            reach("guest-decided");
            info!(%vm, number = revision.number, reason = revision.reason, "has changed its project");
            self.tell_guest(&vm, number, MeAnswer::Done(Box::new(revision)));
            if let Some(open) = self.guests.open.get_mut(&vm) {
                open.stage = Stage::Told;
            }
        }
    }

    /// Returns the revision that is what was asked for; others may have followed it.
    fn decided(&self, open: &Open) -> Option<MeRevision> {
        let is_it = |view: &RevisionView<'_>| {
            view.commit.revision.decision.as_ref().is_some_and(|decision| decision.request == open.request)
        };
        self.node.newest(open.project).take(FOLLOWING_MAX).find(is_it).map(|view| revision(&view))
    }

    /// Takes note that a request is over.
    pub(crate) fn guest_over(&mut self, over: GuestOver) {
        let GuestOver { vm, request, replies } = over;
        self.tell_guests();
        let Some(open) = self.guests.open.get(&vm).filter(|open| open.request == request) else { return };
        let (number, stage) = (open.number, open.stage);
        self.guests.open.remove(&vm);
        let mut refusals = Vec::new();
        let mut failures = Vec::new();
        for reply in replies {
            match reply {
                Reply::Refused(refusal) => {
                    let host = refusal.host.as_ref().map(ToString::to_string).unwrap_or_default();
                    warn!(%vm, host, rule = refusal.rule, why = refusal.text, "what it asked for is refused");
                    refusals.push(refusal_of(refusal));
                }
                Reply::Failed(failure) => failures.push(format!("{}: {}", failure.what, failure.why)),
                Reply::Silent(silence) => failures.push(format!("{}: {}", silence.host, silence.text)),
                _ => {}
            }
        }
        if !failures.is_empty() {
            warn!(%vm, why = failures.join("; "), "what it asked for did not work");
        }
        let answer = match (refusals.is_empty(), failures.is_empty()) {
            _ if stage == Stage::Told => return,
            (false, _) => MeAnswer::Refused(refusals),
            (true, false) => MeAnswer::Failed { text: failures.join("; ") },
            (true, true) => {
                MeAnswer::Failed { text: "something else was decided meanwhile: mlnctl log".to_owned() }
            }
        };
        self.tell_guest(&vm, number, answer);
    }

    /// Returns a VM that this host owns, as it is told of itself.
    fn vm_itself(&self, vm: &VmId) -> Option<MeVm> {
        let (label, ..) = self.node.owned(vm)?;
        let epoch = self.node.ownership(vm)?.epoch;
        let project = self.node.vm_project(vm)?;
        Some(MeVm {
            birth: vm.birth.0,
            name: vm.name.to_string(),
            owner: label.owner.to_string(),
            project: label.project.to_string(),
            service_host: self.identity.name.to_string(),
            term: epoch.term,
            n: epoch.n,
            head: self.node.heads(project)?.head().0,
        })
    }

    fn itself(&self, vm: &VmId) -> Option<MeAnswer> {
        let known = || {
            let itself = self.vm_itself(vm)?;
            let revision = self.revision_of(self.node.vm_project(vm)?, Digest(itself.head))?;
            let (_, _, definition) = self.node.owned(vm)?;
            let policies = definition.setup.policies.iter().map(policy).collect();
            Some(MeAnswer::Me(Box::new(MeSelf { vm: itself, revision, policies })))
        };
        known().or_else(|| Some(not_owned(vm)))
    }

    fn machines(&self, vm: &VmId) -> Option<MeAnswer> {
        let Some(project) = self.own_project(vm) else { return Some(not_owned(vm)) };
        let hosts = self.node.hosts();
        let all = self.node.vms(project);
        let more = status::count(all.len().saturating_sub(ME_ROWS_MAX));
        let rows = all.into_iter().take(ME_ROWS_MAX).map(|machine| MeMachine {
            name: machine.status.vm.name.to_string(),
            service_host: machine.status.host.to_string(),
            state: status::state_of(&hosts, &machine).word().to_owned(),
        });
        Some(MeAnswer::Status { rows: rows.collect(), more })
    }

    fn revisions(&self, vm: &VmId) -> Option<MeAnswer> {
        let Some(project) = self.own_project(vm) else { return Some(not_owned(vm)) };
        let mut newest = self.node.newest(project);
        let rows: Vec<MeRevision> = newest.by_ref().take(ME_ROWS_MAX).map(|view| revision(&view)).collect();
        // Each is one more than the one before it.
        let more = newest.next().map_or(0, |view| status::count(view.number));
        Some(MeAnswer::Log { rows, more })
    }

    /// Returns the project of a VM that this host owns.
    fn own_project(&self, vm: &VmId) -> Option<ProjectId> {
        self.node.owned(vm)?;
        self.node.vm_project(vm)
    }

    fn revision_of(&self, project: ProjectId, digest: Digest) -> Option<MeRevision> {
        self.node.newest(project).find(|view| view.commit.digest == digest).map(|view| revision(&view))
    }
}

/// Tests end the agent when all hosts have judged what a guest wants, and it is about to be promised.
pub(crate) fn reach_guest_message(message: &Message) {
    if let Message::Propose(propose) = message
        && propose.candidate.revision.decision.is_some()
    {
        reach("guest-judged");
    }
}

/// Returns a host's refusal as a guest is told of it.
pub(super) fn refusal_of(refusal: Refusal) -> MeRefusal {
    MeRefusal {
        host: refusal.host.map(|host| host.to_string()).unwrap_or_default(),
        rule: refusal.rule,
        text: refusal.text,
        who_can_change: refusal.who_can_change.unwrap_or_default(),
    }
}

const NOT_KEPT: &str = "the text that the project came from is not kept: a password stands in it in plain, or no host that has \
                        it is there";

fn revision(view: &RevisionView<'_>) -> MeRevision {
    let made = &view.commit.revision;
    MeRevision {
        number: status::count(view.number),
        digest: view.commit.digest.0,
        standing: log::standing(view.standing).word().to_owned(),
        author: made.author.clone(),
        made_unix_ms: made.made_unix_ms,
        reason: made.reason.clone(),
    }
}

fn policy(policy: &Policy) -> MePolicy {
    MePolicy {
        name: policy.name.to_string(),
        may: policy.may.iter().map(ToString::to_string).collect(),
        grace_ms: policy.grace_ms,
    }
}

fn refused(vm: &VmId, host: &str, rule: Rule, text: String) -> MeAnswer {
    warn!(%vm, rule = rule.code(), why = text, "what it asked for is refused");
    refusal(host, rule, text)
}

fn refusal(host: &str, rule: Rule, text: String) -> MeAnswer {
    let who_can_change = remedy(rule, host).unwrap_or_default();
    MeAnswer::Refused(vec![MeRefusal {
        host: host.to_owned(),
        rule: rule.code().to_owned(),
        text,
        who_can_change,
    }])
}

pub(super) fn not_owned(vm: &VmId) -> MeAnswer {
    MeAnswer::Refused(vec![MeRefusal {
        host: String::new(),
        rule: Rule::Ownership.code().to_owned(),
        text: format!(
            "this host doesn't own `{}`, or has just started and asks others first: ask again",
            vm.name
        ),
        who_can_change: String::new(),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_asks_all_the_time_is_looked_at_at_its_rate_and_logged_once_a_minute() {
        let vm =
            VmId { birth: Digest::of(b"shop"), name: mln_protocol::id::Name::parse("web").expect("a name") };
        let mut guests = Guests::default();
        let (mut heard, mut logged) = (0, Vec::new());
        // Four times a second, for two minutes.
        for now_ms in (0..120_000).step_by(250) {
            match guests.take(&vm, Purpose::Change, now_ms) {
                Ok(()) => heard += 1,
                Err(_) => logged.extend(guests.count_over_rate(now_ms)),
            }
        }
        assert_eq!(heard, 6 + 11);
        assert_eq!((logged.len(), logged[0]), (2, 1), "{logged:?}");
        assert_eq!(guests.take(&vm, Purpose::Change, 10_000_000), Ok(()));
        assert_eq!(guests.used_until_ms.len(), 1);
    }

    /// Plans used up what the VM may ask, and nobody said when it may ask again.
    #[test]
    fn plans_leave_what_a_vm_may_ask_and_a_refusal_says_when_to_ask_again() {
        let vm =
            VmId { birth: Digest::of(b"shop"), name: mln_protocol::id::Name::parse("web").expect("a name") };
        let mut guests = Guests::default();
        for _ in 0..PLANNED_AT_ONCE_MAX {
            assert_eq!(guests.take(&vm, Purpose::Plan, 1_000), Ok(()));
        }
        assert_eq!(guests.take(&vm, Purpose::Plan, 1_000), Err(5_000));
        assert_eq!(guests.take(&vm, Purpose::Plan, 4_500), Err(1_500));
        assert_eq!(
            Purpose::Plan.over_rate(&vm, 1_500),
            "`web` plans too often: 12 plans are looked at at once, and one more every 5 s; ask again in 2 s"
        );
        for _ in 0..PREPARED_AT_ONCE_MAX {
            assert_eq!(guests.take(&vm, Purpose::Change, 4_500), Ok(()));
        }
        assert_eq!(guests.take(&vm, Purpose::Change, 4_500), Err(10_000));
        // Who waits as long as that is told to, is looked at then.
        assert_eq!(guests.take(&vm, Purpose::Plan, 6_000), Ok(()));
        assert_eq!(guests.take(&vm, Purpose::Change, 14_500), Ok(()));
    }

    #[test]
    fn the_numbers_of_boots_rise_also_where_the_clock_is_set_back() {
        let mut guests = Guests::default();
        let boots =
            [guests.next_boot(100), guests.next_boot(100), guests.next_boot(50), guests.next_boot(200)];
        assert_eq!(boots, [100, 101, 102, 200]);
    }
}
