//! What can happen to hosts, and what comes of it: computed once for each state of a host and each thing that happens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mln_protocol::id::{Digest, ProjectId, VmId};
use mln_protocol::node::{Holding, Input, Message, OpId, Operation, SetTimer, Tenure};
use mln_protocol::record::{Consent, Record};
use mln_protocol::wire;

use super::local::{Advanced, Hosts, Job, LATE_MS, Local, is_running};
use crate::check_decision::Decisions;

/// Something that happens to a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// This message arrives.
    Deliver(u32),
    /// This timer fires.
    Fire(SetTimer),
    /// A minute passes in which nothing reaches it.
    Late,
    /// Its agent ends and comes back.
    Crash,
    /// The platform is done with this job; what was copied has this content.
    Done(String, Option<u64>),
    /// The platform fails at this job.
    Fails(String),
    /// An operator asks for this.
    Operate(usize),
}

/// A message that was sent: it may arrive at any time, any number of times, or never.
pub(super) struct Sent {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) message: Message,
    /// The children by majority of the revision in question whose proof it carries.
    committed: BTreeSet<Digest>,
}

/// What the explorer wants to know of a host's state.
pub(super) struct Facts {
    pub(super) timers: Vec<u32>,
    /// The act of each job, and the one of its failure; for those that copy from elsewhere, from where.
    pub(super) jobs: Vec<(String, Option<usize>)>,
    committed: BTreeSet<Digest>,
    /// Whether it holds the VM's newest epoch, for all that it knows.
    pub(super) owns: bool,
    pub(super) runs: bool,
    pub(super) content: Option<u64>,
    pub(super) head: Option<Digest>,
}

/// What came of something that happened to a host in some state.
pub(super) struct Effect {
    pub(super) local: u32,
    pub(super) sent: Vec<u32>,
    pub(super) writes: u8,
    /// It would go beyond what is explored.
    pub(super) beyond: bool,
    /// A rule that it breaks by itself.
    pub(super) broken: Option<String>,
}

/// What is explored.
pub(super) struct Scope {
    pub(super) hosts: Hosts,
    /// What operators ask for, each once, at this host.
    pub(super) operations: Vec<(usize, Operation)>,
    /// Which of these is asked for only where nobody wants anything any more.
    pub(super) spare: Option<usize>,
    /// Which of these is a takeover.
    pub(super) takeover: Option<usize>,
    /// The revision whose child is decided.
    pub(super) parent: Digest,
    pub(super) project: ProjectId,
    pub(super) vm: Option<VmId>,
    pub(super) ballots_max: u64,
    /// How often the VM may be stopped: each time there is something new on its disk.
    pub(super) content_max: u64,
}

/// All that is known of single hosts.
pub(super) struct Machine {
    pub(super) scope: Scope,
    locals: Vec<Local>,
    facts: Vec<Facts>,
    by_sum: HashMap<Digest, u32>,
    sent: Vec<Sent>,
    by_bytes: HashMap<(usize, usize, Vec<u8>), u32>,
    acts: Vec<Act>,
    by_act: BTreeMap<Act, u32>,
    effects: HashMap<(u32, u32, u8, bool), Arc<Effect>>,
    /// Sets of messages, and their numbers.
    sets: Vec<Arc<[u32]>>,
    by_set: HashMap<Arc<[u32]>, u32>,
    oracle: Decisions,
}

/// No crash.
pub(super) const WHOLE: u8 = u8::MAX;

impl Machine {
    pub(super) fn new(scope: Scope, oracle: Decisions) -> Self {
        Self {
            scope,
            locals: Vec::new(),
            facts: Vec::new(),
            by_sum: HashMap::new(),
            sent: Vec::new(),
            by_bytes: HashMap::new(),
            acts: Vec::new(),
            by_act: BTreeMap::new(),
            effects: HashMap::new(),
            sets: Vec::new(),
            by_set: HashMap::new(),
            oracle,
        }
    }

    pub(super) fn facts(&self, local: u32) -> &Facts {
        &self.facts[local as usize]
    }

    pub(super) fn sent(&self, id: u32) -> &Sent {
        &self.sent[id as usize]
    }

    pub(super) fn act(&self, id: u32) -> &Act {
        &self.acts[id as usize]
    }

    /// How many states of single hosts there are, how many messages, and how many effects were computed.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.locals.len(), self.sent.len(), self.effects.len())
    }

    /// Returns the messages of a set.
    pub(super) fn set(&self, number: u32) -> &[u32] {
        &self.sets[number as usize]
    }

    pub(super) fn set_number(&mut self, mut messages: Vec<u32>) -> u32 {
        messages.sort_unstable();
        messages.dedup();
        if let Some(known) = self.by_set.get(&messages[..]) {
            return *known;
        }
        let number = u32::try_from(self.sets.len()).expect("memory ends before that");
        let messages: Arc<[u32]> = messages.into();
        self.sets.push(messages.clone());
        self.by_set.insert(messages, number);
        number
    }

    /// Returns the set with these messages more, without those that tell their receivers only what is on their disks
    /// already: they can't change anything any more.
    pub(super) fn sent_with(&mut self, locals: &[u32], before: u32, more: &[u32]) -> u32 {
        let all = self.set(before).iter().chain(more).copied();
        let counts = |id: &u32| {
            let sent = self.sent(*id);
            let disk = &self.locals[locals[sent.to] as usize].disk;
            let known = |record: &mln_protocol::record::VerifiedRecord| {
                disk.record(&record.key(record.author())).is_some_and(|held| held.digest() == record.digest())
            };
            !matches!(&sent.message, Message::Records(records) if records.iter().all(known))
        };
        let messages: Vec<u32> = all.filter(counts).collect();
        self.set_number(messages)
    }

    pub(super) fn act_id(&mut self, act: Act) -> u32 {
        if let Some(known) = self.by_act.get(&act) {
            return *known;
        }
        let id = u32::try_from(self.acts.len()).expect("there are few acts");
        self.acts.push(act.clone());
        self.by_act.insert(act, id);
        id
    }

    pub(super) fn local_id(&mut self, local: Local) -> u32 {
        let sum = local.sum();
        if let Some(known) = self.by_sum.get(&sum) {
            return *known;
        }
        let id = u32::try_from(self.locals.len()).expect("memory ends before that");
        let facts = self.look_at(&local);
        self.locals.push(local);
        self.facts.push(facts);
        self.by_sum.insert(sum, id);
        id
    }

    fn look_at(&mut self, local: &Local) -> Facts {
        let explored: Vec<SetTimer> = local.node.timers().filter(|timer| !timer.is_upkeep()).collect();
        let from = |job: &Job| match job {
            Job::Pull(_, from, _) => self.scope.hosts.index(*from),
            Job::Step(..) | Job::Seal(_) | Job::ReadCopy(_) => None,
        };
        let jobs = local.jobs.iter().map(|(name, job)| (name.clone(), from(job))).collect();
        let path = local.node.revisions(self.scope.project);
        let committed = path.iter().map(|(_, commit)| *commit).filter(|commit| {
            commit.revision.parent == Some(self.scope.parent) && commit.revision.consent == Consent::Majority
        });
        let committed = committed.map(|commit| commit.digest).collect();
        let head = path.last().map(|(_, commit)| commit.digest);
        let vm = self.scope.vm.as_ref();
        let me = local.node.key();
        let claimed = |vm: &VmId| {
            local
                .node
                .holdings()
                .any(|(held, holding)| held == vm && matches!(holding, Holding::Claimed { .. }))
        };
        let owns = vm.is_some_and(|vm| {
            let current = local.node.ownership(vm);
            claimed(vm) && current.is_some_and(|now| now.owner == me && now.tenure == Tenure::Held)
        });
        let runs = vm.and_then(|vm| local.disk.vms.get(vm)).is_some_and(|vm| is_running(&vm.observed));
        let content = vm.and_then(|vm| local.disk.number(vm));
        let timers = explored.into_iter().map(|timer| self.act_id(Act::Fire(timer))).collect();
        Facts { timers, jobs, committed, owns, runs, content, head }
    }

    /// Gives a message its number; says what is broken by its being sent.
    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) -> (u32, Option<String>) {
        let bytes = wire::encode_message(&message);
        if let Some(known) = self.by_bytes.get(&(from, to, bytes.clone())) {
            return (*known, None);
        }
        let mut broken = None;
        let mut committed = BTreeSet::new();
        if let Message::Records(records) = &message {
            for record in records {
                let Record::Commit(commit) = &***record else { continue };
                if commit.revision.parent != Some(self.scope.parent)
                    || commit.revision.consent != Consent::Majority
                {
                    continue;
                }
                committed.insert(commit.digest);
                // Whether there are two of them in one world is for the search to see.
                let mut oracle = self.oracle.clone();
                broken = broken.or(oracle.note(commit, &BTreeSet::new()).into_iter().next());
            }
        }
        let id = u32::try_from(self.sent.len()).expect("memory ends before that");
        self.by_bytes.insert((from, to, bytes), id);
        self.sent.push(Sent { from, to, message, committed });
        (id, broken)
    }

    /// Returns what comes of an act on a host; with `cut` less than [`WHOLE`] it crashes before that write.
    pub(super) fn effect(&mut self, host: usize, local: u32, act: u32, cut: u8) -> Arc<Effect> {
        self.bounded(host, local, act, cut, true)
    }

    /// The same without a crash, and without a bound: for what comes after the faults.
    pub(super) fn effect_unbounded(&mut self, host: usize, local: u32, act: u32) -> Arc<Effect> {
        let effect = self.bounded(host, local, act, WHOLE, true);
        if effect.beyond { self.bounded(host, local, act, WHOLE, false) } else { effect }
    }

    fn bounded(&mut self, host: usize, local: u32, act: u32, cut: u8, bounded: bool) -> Arc<Effect> {
        let key = (local, act, cut, bounded);
        if let Some(known) = self.effects.get(&key) {
            return known.clone();
        }
        let before = self.locals[local as usize].clone();
        let Advanced { local: after, sent, writes } = self.perform(host, before, act, cut);
        let mut beyond =
            bounded && after.disk.vms.values().any(|vm| vm.content.number() > self.scope.content_max);
        let mut broken = None;
        let mut ids = Vec::new();
        for (to, message) in sent {
            beyond |= bounded && ballot_of(&message).is_some_and(|number| number > self.scope.ballots_max);
            let Some(to) = self.scope.hosts.index(to) else { continue };
            let (id, breaks) = self.send(host, to, message);
            broken = broken.or(breaks);
            ids.push(id);
        }
        let local = if beyond { local } else { self.local_id(after) };
        let effect = Arc::new(Effect { local, sent: ids, writes, beyond, broken });
        self.effects.insert(key, effect.clone());
        effect
    }

    fn perform(&mut self, host: usize, mut local: Local, act: u32, cut: u8) -> Advanced {
        let hosts = &self.scope.hosts;
        let cut = (cut != WHOLE).then_some(cut);
        let inputs = match &self.acts[act as usize] {
            Act::Deliver(id) => {
                let sent = &self.sent[*id as usize];
                vec![Input::Message { from: hosts.key(sent.from), message: sent.message.clone() }]
            }
            Act::Fire(timer) => {
                local.fire(timer);
                Vec::new()
            }
            Act::Late => {
                local.clock_ms += LATE_MS;
                Vec::new()
            }
            Act::Crash => return hosts.started(host, local.disk, local.clock_ms),
            Act::Done(name, content) => finish(&mut local, name, *content, true),
            Act::Fails(name) => finish(&mut local, name, None, false),
            Act::Operate(which) => {
                let (_, operation) = &self.scope.operations[*which];
                vec![Input::Operate { op: OpId(*which as u64), operation: operation.clone() }]
            }
        };
        hosts.advance(host, local, inputs, cut)
    }

    /// The children of the revision in question that are committed in a world.
    pub(super) fn committed(&self, locals: &[u32], sent: &[u32]) -> BTreeSet<Digest> {
        let known = locals.iter().flat_map(|local| &self.facts(*local).committed);
        known.chain(sent.iter().flat_map(|id| &self.sent(*id).committed)).copied().collect()
    }

    /// The decisions and links that a host has and another may lack.
    pub(super) fn knows(&self, local: u32) -> Message {
        let records = self.locals[local as usize].disk.load().records;
        Message::Records(records.into_iter().filter(super::local::decides).collect())
    }

    /// Says in words how a host is.
    pub(super) fn describe_host(&self, host: usize, local: u32) -> String {
        let facts = self.facts(local);
        let noted: Vec<String> =
            self.locals[local as usize].node.holdings().map(|(_, holding)| short(holding)).collect();
        let timers: Vec<&Act> = facts.timers.iter().map(|act| self.act(*act)).collect();
        format!(
            "host{host} {} the VM, {} it, has noted {noted:?}, waits for {:?} and {timers:?}",
            if facts.owns { "owns" } else { "does not own" },
            if facts.runs { "runs" } else { "does not run" },
            facts.jobs,
        )
    }

    /// Says in words what happens.
    pub(super) fn describe(&self, host: usize, act: u32, cut: u8) -> String {
        let what = match self.act(act) {
            Act::Deliver(id) => {
                let sent = self.sent(*id);
                let text: String = format!("{:?}", sent.message).chars().take(200).collect();
                format!("hears host{}: {text}", sent.from)
            }
            Act::Fire(timer) => format!("its timer fires: {timer:?}"),
            Act::Late => "a minute passes for it".to_owned(),
            Act::Crash => "its agent ends and comes back".to_owned(),
            Act::Done(name, _) => format!("its platform has done: {name}"),
            Act::Fails(name) => format!("its platform fails to: {name}"),
            Act::Operate(which) => format!("is asked for change {which}"),
        };
        let crash = if cut == WHOLE { String::new() } else { format!(" and crashes before its write {cut}") };
        format!("host{host} {what}{crash}")
    }
}

fn short(holding: &Holding) -> String {
    format!("{holding:?}").chars().take(60).collect()
}

fn finish(local: &mut Local, name: &str, content: Option<u64>, goes_well: bool) -> Vec<Input> {
    let index = local.jobs.iter().position(|(known, _)| known == name);
    index.map(|index| local.finish(index, content, goes_well)).into_iter().collect()
}

fn ballot_of(message: &Message) -> Option<u64> {
    match message {
        Message::Ballot { ballot, .. } => Some(ballot.number),
        Message::Propose(propose) => Some(propose.ballot.number),
        _ => None,
    }
}
