//! What VMs ask for themselves, at the host that owns them: whose key is whose, how often, and the revision that comes of
//! it. Every host that it changes judges it again: see [`super::guest_right`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::draft::{Draft, hosts_of, leaves_out};
use super::guest_right::{Granted, author_of, judge_guest_sizes};
use super::io::{HostRefusal, OpId, Outcome};
use super::message::{Ask, Refusal, Rule, RunningVms};
use super::ownership::Right;
use super::propose::{Goal, Phase};
use super::{Node, limits};
use crate::id::{Digest, Name, PublicKey, VmId};
use crate::plan::PlacedHost;
use crate::record::{Commit, Consent, Revision};
use crate::time::Now;
use crate::trust::{Attestation, Decision, GuestRight, Verified};
use crate::wire;

/// The guests of the VMs that this host owns, as far as they have asked for something or have a key.
#[derive(Clone, Debug, Default)]
pub(super) struct Guests {
    by_vm: BTreeMap<VmId, Voice>,
    /// What others have asked about theirs.
    questions: Questions,
}

/// What other hosts have asked about what their guests want.
#[derive(Clone, Debug, Default)]
struct Questions {
    by_coordinator: BTreeMap<PublicKey, Allowance>,
    /// Whose questions were refused, with what they say; the oldest first.
    refused: VecDeque<(PublicKey, Digest, Refusal)>,
}

/// What is known of one guest.
#[derive(Clone, Debug)]
struct Voice {
    /// The newest word on its key.
    attestation: Verified<Attestation>,
    /// The number of its last request under that key.
    last: Option<u64>,
    allowance: Allowance,
}

/// How often something is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// How many at once.
    most: u32,
    /// After how long one more, in milliseconds.
    every_ms: u64,
}

/// How often a guest's requests are, at its owner.
const REQUESTS: Rate = Rate { most: limits::GUEST_REQUESTS_MAX, every_ms: limits::GUEST_REQUEST_MS };
/// How often a coordinator's questions about its guests' are, at those that it asks.
const QUESTIONS: Rate = Rate { most: limits::GUEST_QUESTIONS_MAX, every_ms: limits::GUEST_QUESTION_MS };

/// How much more may be asked for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Allowance {
    rate: Rate,
    requests: u32,
    /// Since when the next one is saved up, by the monotonic clock.
    since_ms: u64,
}

impl Allowance {
    fn whole(rate: Rate, now: Now) -> Self {
        Self { rate, requests: rate.most, since_ms: now.mono_ms }
    }

    /// Takes one, if there is one.
    fn take(&mut self, now: Now) -> bool {
        let Rate { most, every_ms } = self.rate;
        let saved = now.mono_ms.saturating_sub(self.since_ms) / every_ms;
        let requests = u64::from(self.requests).saturating_add(saved);
        if requests >= u64::from(most) {
            *self = Self::whole(self.rate, now);
        } else {
            self.requests = u32::try_from(requests).unwrap_or(most);
            self.since_ms += saved * every_ms;
        }
        let is_there = self.requests > 0;
        self.requests = self.requests.saturating_sub(1);
        is_there
    }
}

impl Questions {
    /// Returns what a question was refused with.
    fn refusal(&self, author: PublicKey, question: Digest) -> Option<&Refusal> {
        let is_it = |(by, of, _): &&(PublicKey, Digest, Refusal)| *by == author && *of == question;
        self.refused.iter().find(is_it).map(|(.., refusal)| refusal)
    }

    fn note(&mut self, author: PublicKey, question: Digest, refusal: Refusal) {
        if self.refused.len() >= limits::GUEST_REFUSALS_KEPT {
            self.refused.pop_front();
        }
        self.refused.push_back((author, question, refusal));
    }

    /// Takes one of what a coordinator may ask, if there is one.
    fn take(&mut self, author: PublicKey, now: Now) -> bool {
        if self.by_coordinator.len() >= limits::GUEST_COORDINATORS_MAX
            && !self.by_coordinator.contains_key(&author)
        {
            let quietest = self.by_coordinator.iter().min_by_key(|(_, allowance)| allowance.since_ms);
            let quietest = quietest.map(|(author, _)| *author);
            quietest.map(|author| self.by_coordinator.remove(&author));
        }
        let allowance = self.by_coordinator.entry(author);
        allowance.or_insert_with(|| Allowance::whole(QUESTIONS, now)).take(now)
    }
}

impl Node {
    /// Judges a question by the grants on which it comes or, where it is about what a VM wants, by that VM's right: what is
    /// cheap first, what was judged before not again, and no more of them than are looked at.
    pub(super) fn judge_asked(&mut self, now: Now, ask: &Verified<Ask>) -> Result<(), Refusal> {
        let (Some(right), Some(decision)) = (&ask.guest, &ask.revision.decision) else {
            return self.judge_ask(now, ask);
        };
        self.judge_guest_question(now, ask, right, decision)?;
        let (author, question) = (ask.author(), ask.digest());
        if let Some(refusal) = self.guests.questions.refusal(author, question) {
            return Err(refusal.clone());
        }
        if author != self.me && !self.guests.questions.take(author, now) {
            let detail = format!(
                "{} asks too often for its guests: {} questions are judged at once, and one more every {} s; ask again after it",
                self.host_name(author),
                limits::GUEST_QUESTIONS_MAX,
                limits::GUEST_QUESTION_MS / 1000
            );
            return Err(Refusal { rule: Rule::GuestRate, detail });
        }
        let judged = self.judge_ask(now, ask);
        if let Err(refusal) = &judged {
            self.guests.questions.note(author, question, refusal.clone());
        }
        judged
    }

    /// Attests the key of the guest in a VM of this host; none where this host doesn't own it, or has attested a later
    /// boot, or another key in this one. What was attested before ends here at once.
    ///
    /// It is in memory only: after its own restart an agent attests anew.
    pub fn attest(
        &mut self,
        now: Now,
        vm: &VmId,
        boot: u64,
        key: PublicKey,
    ) -> Option<Verified<Attestation>> {
        let Right::Own(epoch) = self.right(vm) else { return None };
        let before = self.guests.by_vm.get(vm);
        if let Some(voice) = before.filter(|voice| voice.attestation.epoch == epoch) {
            let known = &voice.attestation;
            if known.boot == boot && known.key == key {
                return Some(known.clone());
            }
            if known.boot >= boot {
                return None;
            }
        }
        let allowance = before.map_or_else(|| Allowance::whole(REQUESTS, now), |voice| voice.allowance);
        let made_unix_ms = now.unix_ms;
        let attestation = Attestation { vm: vm.clone(), epoch, boot, key, made_unix_ms };
        let attestation = wire::sign_attestation(&self.config.keys, attestation);
        let voice = Voice { attestation: attestation.clone(), last: None, allowance };
        let is_gone = |vm: &&VmId| !matches!(self.right(vm), Right::Own(_));
        let gone: Vec<VmId> = self.guests.by_vm.keys().filter(is_gone).cloned().collect();
        for vm in gone {
            self.guests.by_vm.remove(&vm);
        }
        self.guests.by_vm.insert(vm.clone(), voice);
        Some(attestation)
    }

    /// Begins a change that a VM of this host wants; tells why not, where it may not.
    pub(super) fn propose_guest(&mut self, now: Now, op: OpId, right: GuestRight) {
        // Nobody's grants stand behind it, whoever brought it here.
        self.principals.remove(&op);
        let vm = right.request.vm.clone();
        let heard = self.hear_guest(now, &right).map_err(|refusal| vec![self.refused_by_me(refusal)]);
        match heard.and_then(|()| self.draft_guest(now, Arc::new(right))) {
            Ok(draft) => self.propose(now, op, Goal::Guest(vm), draft),
            Err(refusals) => self.done(op, Outcome::Refused(refusals)),
        }
    }

    fn refused_by_me(&self, refusal: Refusal) -> HostRefusal {
        HostRefusal { host: self.config.name.to_string(), refusal }
    }

    /// Takes note of a request; refuses one with a key that is not the guest's, one that was made before, and more of
    /// them than are looked at.
    fn hear_guest(&mut self, now: Now, right: &GuestRight) -> Result<(), Refusal> {
        self.judge_newest_key(right)?;
        self.judge_request_key(right)?;
        let (vm, number) = (&right.request.vm, right.request.number);
        let open = |goal: &Goal, phase| matches!(goal, Goal::Guest(of) if of == vm) && is_open(phase);
        if self.proposals.by_op.values().any(|proposal| open(&proposal.goal, proposal.phase)) {
            let detail =
                format!("what {} asked for before is not decided yet: ask again when it is", vm.name);
            return Err(Refusal { rule: Rule::GuestRate, detail });
        }
        let Some(voice) = self.guests.by_vm.get_mut(vm) else { return Ok(()) };
        if voice.last.is_some_and(|last| number <= last) {
            let detail =
                format!("{} has made request {number} before; a new one has a higher number", vm.name);
            return Err(Refusal { rule: Rule::GuestKey, detail });
        }
        if !voice.allowance.take(now) {
            let detail = format!(
                "{} asks too often: {} requests are looked at at once, and one more every {} s",
                vm.name,
                limits::GUEST_REQUESTS_MAX,
                limits::GUEST_REQUEST_MS / 1000
            );
            return Err(Refusal { rule: Rule::GuestRate, detail });
        }
        voice.last = Some(number);
        Ok(())
    }

    /// Refuses a key that is not the one that this host has attested last, in the epoch in which it owns the VM.
    fn judge_newest_key(&self, right: &GuestRight) -> Result<(), Refusal> {
        if self.mutated_guest_key_kept_over_an_epoch() {
            return Ok(());
        }
        let vm = &right.attestation.vm;
        let refuse = |detail: String| Err(Refusal { rule: Rule::GuestKey, detail });
        let Right::Own(epoch) = self.right(vm) else {
            return refuse(format!("this host doesn't own {}, and speaks for no guest in it", vm.name));
        };
        let newest = self.guests.by_vm.get(vm).map(|voice| &voice.attestation);
        if newest.is_none_or(|newest| newest.digest() != right.attestation.digest())
            || epoch != right.attestation.epoch
        {
            return refuse(format!(
                "the key of {} is not the one that it has now: it has a new one with each boot, resume and claim",
                vm.name
            ));
        }
        Ok(())
    }

    /// Drafts what a VM only thinks of: with its own key, too.
    pub(super) fn draft_guest_asked(&self, now: Now, right: &GuestRight) -> Result<Draft, Vec<HostRefusal>> {
        let judged = self.judge_newest_key(right).and_then(|()| self.judge_request_key(right));
        judged.map_err(|refusal| vec![self.refused_by_me(refusal)])?;
        self.draft_guest(now, Arc::new(right.clone()))
    }

    /// Drafts what a VM wants, from the parent's text.
    pub(super) fn draft_guest(&self, now: Now, right: Arc<GuestRight>) -> Result<Draft, Vec<HostRefusal>> {
        let mine = |refusal| vec![self.refused_by_me(refusal)];
        judge_guest_sizes(&right).map_err(mine)?;
        let parent = self.judge_guest_parent(&right).map_err(mine)?;
        let made_unix_ms = self.time_after(now, parent);
        let granted = self.judge_wanted(parent, &right, made_unix_ms).map_err(mine)?;
        let placed = self.place_granted(now, parent, &right, &granted)?;
        let birth = |name: &Name, host| self.identity(parent, name, host);
        let parts = self.lay_out(&granted.child, &placed).map_err(mine)?;
        let hosts = hosts_of(&parts, |name| birth(name, placed.get(name)?.key));
        let mut revision = Revision {
            project: Some(parent.project()),
            parent: Some(parent.digest),
            label: parent.revision.label.clone(),
            hosts,
            definition: granted.child.digest(),
            consent: Consent::Majority,
            made_unix_ms,
            author: author_of(&right.request.vm.name, &parent.revision.label),
            reason: right.request.reason_given(),
            charge: self.charge_after(parent, parts.values()),
            keep_removed_ms: 0,
            decision: Some(Decision {
                vm: right.request.vm.clone(),
                request: right.request.digest(),
                uses: granted.uses,
            }),
        };
        if leaves_out(parent, &revision) {
            revision.keep_removed_ms = limits::GUEST_KEEP_REMOVED_MS;
        }
        self.judge_size(&revision, &parts)?;
        let fragments = parts.into_iter().map(|(host, part)| (host.key, Arc::new(part))).collect();
        let draft = self.draft_child(parent, revision, fragments, RunningVms::Stop)?;
        Ok(Draft { guest: Some(right), ..draft })
    }

    /// Chooses where VMs are: those that stay, where they are; the one that asks, and new ones, where the text says.
    fn place_granted(
        &self,
        now: Now,
        parent: &Commit,
        right: &GuestRight,
        granted: &Granted,
    ) -> Result<BTreeMap<Name, PlacedHost>, Vec<HostRefusal>> {
        let project = &granted.child.project;
        let at: BTreeMap<Name, PlacedHost> = parent
            .placed()
            .map(|(vm, host)| (vm.name, PlacedHost { name: host.name.clone(), key: host.key }))
            .collect();
        let current = at.iter().map(|(vm, host)| (vm.clone(), host.name.clone())).collect();
        let chosen = self.choose_hosts(now, project, None, &current)?;
        let here = PlacedHost { name: self.config.name.clone(), key: self.me };
        let mut placed = BTreeMap::new();
        for vm in &project.vms {
            let moves = granted.moves && vm.name == right.request.vm.name;
            let stays = at.get(&vm.name).filter(|_| !moves);
            let host = match (stays, &vm.service_host) {
                (Some(host), _) => host.clone(),
                (None, None) => self.keeper(parent.project(), &vm.name).unwrap_or_else(|| here.clone()),
                (None, Some(address)) => {
                    let named = || self.placed_host(address);
                    chosen.get(&vm.name).cloned().or_else(named).ok_or_else(|| {
                        self.refused_here(
                            Rule::UnknownHost,
                            format!("{}: there is no service host {address}", vm.name),
                        )
                    })?
                }
            };
            placed.insert(vm.name.clone(), host);
        }
        Ok(placed)
    }
}

/// Whether a change may still come to nothing.
fn is_open(phase: Phase) -> bool {
    match phase {
        Phase::Asking | Phase::Promising => true,
        Phase::Watching(..) => false,
    }
}
