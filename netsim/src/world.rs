//! The simulated world: nodes, disks, a network that loses, delays and repeats, and time.
//!
//! One event at a time, in the order of their times; whatever is drawn by lot comes from the seed. So the same
//! seed gives the same trace, byte for byte, and the trace hash says whether it did.
//!
//! For the first minute things go wrong (the safety phase); from then on nothing does any more, and all must come
//! right (the liveness phase). The oracle looks at every event of both.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::{Digest, ProjectId, PublicKey, VmId};
use mln_protocol::model::{HookPoint, MemoryMib, Platform, Vm};
use mln_protocol::node::{
    HandOver, Holding, Input, Message, Mutation, Node, NodeConfig, OpId, Outcome, Output, Write, WriteId,
};
use mln_protocol::plan::{Observed, RunPhase, Step};
use mln_protocol::record::{Epoch, ExitStatus, Member, Record, RecordKey, VerifiedRecord};
use mln_protocol::wire;

use crate::ambush::{Ambush, Blow};
use crate::check::Oracle;
use crate::check_standing::OwnKey;
use crate::codec::{Codec, Proof};
use crate::copying::CopyWork;
use crate::fault::{Fault, FaultCount};
use crate::gossip::{Gossip, HEARTBEAT_MS};
use crate::guest::{GuestCount, Guests};
use crate::host::{Age, Grants, Honesty, Host, Presence, root_key};
use crate::hostile::Liar;
use crate::lot::Lot;
use crate::mishap::{self, Mishap, Planned};
use crate::network::Network;
use crate::options::{FAULTS_MS, Options, Setting};
use crate::overlay::{self, Overlay};
use crate::queue::Queue;
use crate::rival::{RivalCount, Rivals};
use crate::scene::{Scene, Script};
use crate::taker::Asked;
use crate::traffic::Traffic;
use crate::transport::Packet;
use crate::workload::{Customer, Wish, Workload};

/// By when everything must have settled, in milliseconds.
const SETTLED_MS: u64 = 900_000;

/// The memory that each host lends, in MiB: little, so that some builds don't fit.
pub(crate) const MEMORY_MIB: u32 = 512;

/// How long after the last fault, and how often from then on, somebody tells hosts that sign nothing to go on, in
/// milliseconds: by then there are no copies of them any more.
pub(crate) const OPERATOR_MS: u64 = 10_000;

/// How long after the last fault everything must at least have been right, in milliseconds.
const LOOK_MS: u64 = 5_000;

/// Of a thousand worlds with guests that are drawn by lot, in how many a host may not change the projects of others.
const WITHOUT_UPGRADE: u64 = 400;

/// What happens in the world.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: usize,
        to: usize,
        packet: Packet,
    },
    /// Something for an agent that couldn't take it when it happened.
    Input {
        node: usize,
        life: u32,
        input: Box<Input>,
    },
    Persisted {
        node: usize,
        life: u32,
        id: WriteId,
    },
    Timeout {
        node: usize,
        life: u32,
        due_ms: u64,
    },
    /// Something about the copy of a disk has ended.
    Copied {
        node: usize,
        life: u32,
        vm: VmId,
        work: CopyWork,
    },
    Heartbeat {
        node: usize,
        life: u32,
    },
    Checked {
        node: usize,
        life: u32,
        revision: Digest,
    },
    StepEnds {
        node: usize,
        life: u32,
        vm: VmId,
        step: Step,
        definition: Option<Box<Vm>>,
    },
    HookEnds {
        node: usize,
        life: u32,
        project: ProjectId,
        point: HookPoint,
    },
    GuestReady {
        node: usize,
        vm: VmId,
        start: u64,
    },
    GuestEnds {
        node: usize,
        vm: VmId,
        start: u64,
    },
    Mishap {
        index: usize,
    },
    Lie {
        liar: usize,
    },
    /// The host is alone: it must still do what it can do alone.
    Alone {
        node: usize,
    },
    Restart {
        node: usize,
        life: u32,
    },
    Customer {
        customer: Customer,
    },
    /// A blow falls that has waited for its moment.
    Struck {
        node: usize,
        blow: Blow,
    },
    /// By now a host that is alone has done what it was asked for.
    AloneDue {
        node: usize,
    },
    /// Somebody looks at the script.
    Script,
    /// Somebody looks after hosts that sign nothing any more.
    Operator,
    /// One of the guests that run asks for something.
    Guest,
}

/// How far hand-overs have come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HandOverCount {
    /// New hosts that have noted that a VM is on its way there.
    pub(crate) begun: u64,
    /// How often a new host has said that a disk is complete there.
    pub(crate) ready: u64,
    pub(crate) released: u64,
    /// Claims of VMs that were released to whoever claims them.
    pub(crate) claimed: u64,
    pub(crate) declined: u64,
}

impl HandOverCount {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.begun += other.begun;
        self.ready += other.ready;
        self.released += other.released;
        self.claimed += other.claimed;
        self.declined += other.declined;
    }
}

/// What happened, to be shown: a run without faults proves nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) delivered: u64,
    pub(crate) faults: FaultCount,
    pub(crate) refused: u64,
    pub(crate) built: u64,
    pub(crate) started: u64,
    pub(crate) stopped: u64,
    pub(crate) removed: u64,
    pub(crate) changed: u64,
    /// Requests of hosts that were alone, which they could carry out.
    pub(crate) alone: u64,
    pub(crate) taken_over: u64,
    pub(crate) hand_overs: HandOverCount,
    /// Bytes of hostile senders that nobody could read.
    pub(crate) garbage: u64,
    pub(crate) guests: GuestCount,
    pub(crate) rivals: RivalCount,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) tally: Tally,
    pub(crate) simulated_ms: u64,
    pub(crate) records: usize,
    pub(crate) trace: blake3::Hash,
    pub(crate) violations: Vec<String>,
    /// How many single faults were planned.
    pub(crate) planned: usize,
    /// What happened, if anybody wanted to know.
    pub(crate) told: Vec<String>,
}

pub(crate) struct World {
    pub(crate) options: Options,
    /// For what hosts do: how long steps take, who asks whom.
    pub(crate) lot: Lot,
    /// For what is on disks, and what becomes of it on its way.
    pub(crate) bytes: Lot,
    pub(crate) now_ms: u64,
    pub(crate) queue: Queue,
    pub(crate) hosts: Vec<Host>,
    pub(crate) index: BTreeMap<PublicKey, usize>,
    /// Which host is a second one with whose key.
    pub(crate) clones: BTreeMap<usize, usize>,
    pub(crate) overlay: Overlay,
    pub(crate) network: Network,
    pub(crate) codec: Codec,
    pub(crate) workload: Workload,
    pub(crate) oracle: Oracle,
    pub(crate) liars: Vec<Liar>,
    pub(crate) guests: Guests,
    pub(crate) rivals: Rivals,
    pub(crate) planned: Vec<Planned>,
    pub(crate) trace: blake3::Hasher,
    pub(crate) tally: Tally,
    /// The hand-overs that new hosts have begun, each counted once.
    pub(crate) begun: BTreeSet<(usize, VmId, Epoch)>,
    pub(crate) traffic: Traffic,
    /// What hosts that were alone have been asked for.
    pub(crate) alone: BTreeMap<OpId, usize>,
    /// Blows that wait for their moment.
    pub(crate) ambushes: Vec<Ambush>,
    /// Until when hosts lose packets that hold links.
    pub(crate) deaf: BTreeMap<usize, u64>,
    pub(crate) takeovers: BTreeMap<OpId, Asked>,
    pub(crate) script: Option<Script>,
    /// Answers to the script that came while it was being played.
    pub(crate) answers: Vec<(usize, OpId, Outcome)>,
    /// When the script has ordered what.
    pub(crate) ordered: BTreeMap<OpId, u64>,
    pub(crate) last_order: u64,
    /// What happened, if anybody wants to know.
    pub(crate) told: Vec<String>,
    /// What was asked for where a mesh is measured, and what came of it.
    pub(crate) orders: BTreeMap<OpId, Option<Outcome>>,
    /// What a host that has been off for long still has, where a mesh is measured.
    pub(crate) outdated: Vec<Write>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let seed = options.seed;
        let mut lot = Lot::of(seed, "world");
        let root = root_key();
        let clones = if options.has(Fault::CloneKey) { options.rate(Fault::CloneKey) as usize } else { 0 };
        let grants = if options.scene == Some(Scene::ShortGrants) { Grants::Short } else { Grants::Endless };
        let mut hosts: Vec<Host> = (0..options.nodes).map(|index| Host::new(index, &root, grants)).collect();
        let index = hosts.iter().enumerate().map(|(index, host)| (host.keys.public(), index)).collect();
        let names = hosts.iter().map(|host| host.name.clone()).collect();
        // Whose key a clone has is only known once its original is drawn.
        hosts.extend((0..clones).map(|_| Host { presence: Presence::Gone, ..Host::new(0, &root, grants) }));
        let planned = mishap::plan(&options, hosts.len());
        let overlay = match options.setting {
            Setting::Trouble => Overlay::by_lot(hosts.len(), &mut lot),
            Setting::Measured => {
                let all: Vec<usize> = (0..hosts.len()).collect();
                Overlay::formed(hosts.len(), &all, overlay::DIALLED, &mut lot)
            }
        };
        let workload = Workload::new(&options, names, &mut Lot::of(seed, "workload"));
        let mut world = Self {
            lot,
            bytes: Lot::of(seed, "bytes"),
            now_ms: 0,
            queue: Queue::default(),
            hosts,
            index,
            clones: BTreeMap::new(),
            overlay,
            network: Network::new(seed),
            codec: Codec::new(root.public(), Proof::with(options.mutation)),
            workload,
            oracle: Oracle::new(root.public()),
            liars: Vec::new(),
            guests: Guests::new(seed),
            rivals: Rivals::default(),
            planned,
            trace: blake3::Hasher::new(),
            tally: Tally::default(),
            begun: BTreeSet::new(),
            traffic: Traffic::default(),
            alone: BTreeMap::new(),
            ambushes: Vec::new(),
            deaf: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            script: None,
            answers: Vec::new(),
            ordered: BTreeMap::new(),
            last_order: 0,
            told: Vec::new(),
            orders: BTreeMap::new(),
            outdated: Vec::new(),
            options,
        };
        match world.options.setting {
            Setting::Trouble => world.prepare(),
            Setting::Measured => world.prepare_measured(),
        }
        world
    }

    /// Lets every host know the members, as in a mesh that has been running for a while, and plans the faults.
    fn prepare(&mut self) {
        self.set_stage();
        let mut lot = Lot::of(self.options.seed, "who may not upgrade");
        if self.has_guests() && self.options.scene.is_none() && lot.chance(WITHOUT_UPGRADE) {
            let host = lot.index(self.options.nodes);
            self.hosts[host].chain = self.hosts[host].chain_without_upgrade(&root_key());
        }
        let members: Vec<VerifiedRecord> = self.hosts[..self.options.nodes]
            .iter()
            .map(|host| {
                let member = Member { counter: 1, name: host.name.clone(), chain: host.chain.clone() };
                wire::sign_record(&host.keys, Record::Member(member))
            })
            .collect();
        let (skew, old) = (self.options.rate(Fault::ClockSkew), self.options.rate(Fault::OldAgent));
        let mut nature = Lot::of(self.options.seed, "nature of hosts");
        for node in 0..self.options.nodes {
            let writes = members.iter().map(|r| Write::Record(r.key(r.author()), r.clone())).collect();
            let host = &mut self.hosts[node];
            host.disk.apply(writes);
            let (is_skewed, ahead_ms) = (nature.chance(skew), nature.between(0, 1_200_000) as i64 - 600_000);
            if is_skewed {
                host.clock.ahead_ms = ahead_ms;
                self.tally.faults.add(Fault::ClockSkew);
            }
            if nature.chance(old) {
                host.age = Age::Old;
                self.tally.faults.add(Fault::OldAgent);
            }
            let at = self.lot.between(0, 2_000);
            self.at(at, Event::Restart { node, life: 0 });
        }
        for (index, at_ms) in self.planned.iter().map(|p| p.at_ms).enumerate().collect::<Vec<_>>() {
            if !self.options.skipped.contains(&index) {
                self.at(at_ms, Event::Mishap { index });
            }
        }
        let liars = (self.options.rate(Fault::Hostile) as usize).min((self.options.nodes - 1) / 2);
        for liar in 0..liars {
            let node = self.options.nodes - 1 - liar;
            self.hosts[node].honesty = Honesty::Hostile;
            self.oracle.exempt_hostile(self.hosts[node].keys.public());
            self.liars.push(Liar::new(node, self.options.seed));
            self.at(5_000, Event::Lie { liar });
        }
        for customer in self.workload.customers() {
            // Half of them come in crowds, so that builds meet on one host.
            let crowd = self.lot.chance(500);
            let at = if crowd { 5_000 * self.lot.between(1, 6) } else { self.lot.between(3_000, FAULTS_MS) };
            self.at(at, Event::Customer { customer });
        }
        self.first_guest();
    }

    /// Runs until all has settled, the time is up, or a rule is broken.
    pub(crate) fn run(mut self) -> Ending {
        let mut next_look = FAULTS_MS;
        let mut healed = false;
        while let Some((at_ms, event)) = self.queue.pop() {
            self.now_ms = at_ms;
            if self.now_ms >= next_look {
                if !healed {
                    healed = true;
                    self.heal();
                }
                next_look = self.now_ms + LOOK_MS;
                self.give_up_undecidable();
                if (self.nobody_waits() && self.unsettled().is_empty()) || self.now_ms > SETTLED_MS {
                    break;
                }
            }
            self.tally.events += 1;
            self.happen(event);
            if self.oracle.is_broken() {
                break;
            }
        }
        let mut violations = self.oracle.take_violations();
        if violations.is_empty() {
            violations = self.unsettled();
            if let Some(node) = self.alone.values().next() {
                violations.push(format!("L2: {}, alone, never answered", self.hosts[*node].name));
            }
            if let Some(act) = self.script.as_ref().and_then(Script::act) {
                violations.push(format!("L1: the script is not over: {act:?}"));
            }
            if !self.workload.is_over() {
                violations.push(format!("L1: customers still wait: {}", self.workload.waiting().join("; ")));
            }
        }
        violations.truncate(8);
        self.count_rivals();
        let records = self.hosts.iter().filter_map(|host| host.node.as_ref()).map(|node| node.record_sum().0);
        Ending {
            records: records.max().unwrap_or(0),
            tally: self.tally,
            simulated_ms: self.now_ms,
            trace: self.trace.finalize(),
            violations,
            planned: self.planned.len(),
            told: self.told,
        }
    }

    fn nobody_waits(&self) -> bool {
        self.workload.is_over() && self.script.as_ref().is_none_or(Script::is_over)
    }

    /// Ends the safety phase: old agents are replaced, clones are gone, nobody lies any more.
    fn heal(&mut self) {
        for node in 0..self.hosts.len() {
            self.hosts[node].full_until_ms = 0;
            if self.hosts[node].age == Age::Old {
                self.hosts[node].age = Age::Current;
                self.stop(node, 1_000);
            }
        }
        self.at(self.now_ms + OPERATOR_MS, Event::Operator);
    }

    /// Sends those home who want something that can't be decided any more: "a vote rebuilt from peers alone is
    /// read-only", so nothing that changes such a host's part is.
    fn give_up_undecidable(&mut self) {
        let mut labels = BTreeSet::new();
        for node in self.hosts.iter().filter_map(|host| host.node.as_ref()) {
            if self.oracle.has_lost_state(node.key()) {
                labels.extend(node.forgotten().filter_map(|project| node.label(project)));
            }
        }
        self.workload.give_up(&labels);
    }

    /// L1: says in what the world is not yet as it should be.
    fn unsettled(&self) -> Vec<String> {
        let mut problems = self.untold_rivals();
        let mut first = None;
        for host in self.hosts.iter().filter(|host| host.presence == Presence::Here) {
            let Some(node) = &host.node else {
                problems.push(format!("L1: {} is down", host.name));
                continue;
            };
            let sum = node.record_sum();
            let expected = first.get_or_insert((sum, &host.name));
            if expected.0 != sum {
                problems.push(format!("L1: {} and {} hold different records", expected.1, host.name));
            }
            let noted = |to: PublicKey, vm: &VmId, epoch| {
                let to = self.index.get(&to).and_then(|&to| self.hosts[to].disk.holding(vm));
                matches!(to, Some(Holding::Arriving { epoch: of, .. } | Holding::Arrived { epoch: of, .. }) if *of == epoch)
            };
            problems.extend(self.oracle.unsettled(host.name.as_str(), node, &host.disk, self.now_ms, noted));
            if problems.len() > 8 {
                break;
            }
        }
        problems
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, packet } => self.deliver(from, to, packet),
            Event::Input { node, life, input } => {
                if self.hosts[node].life == life {
                    self.input(node, *input);
                }
            }
            Event::Persisted { node, life, id } => {
                if self.hosts[node].life == life {
                    self.persisted(node, id);
                }
            }
            Event::Timeout { node, life, due_ms } => {
                if self.hosts[node].life == life && self.hosts[node].timeout_ms == Some(due_ms) {
                    self.hosts[node].timeout_ms = None;
                    self.input(node, Input::Timeout);
                }
            }
            Event::Copied { node, life, vm, work } => self.copied(node, life, vm, work),
            Event::Heartbeat { node, life } => self.heartbeat(node, life),
            Event::Checked { node, life, revision } => {
                if self.hosts[node].life == life {
                    self.input(node, Input::Checked { revision, verdict: Ok(()) });
                }
            }
            Event::HookEnds { node, life, project, point } => {
                if self.hosts[node].life == life {
                    self.input(node, Input::HookDone { project, point, result: Ok(()) });
                }
            }
            Event::StepEnds { node, life, vm, step, definition } => {
                self.step_ends(node, life, vm, step, definition);
            }
            Event::GuestReady { node, vm, start } => {
                self.guest(node, vm, start, Observed::Running(RunPhase::Ready));
            }
            Event::GuestEnds { node, vm, start } => {
                self.tally.faults.add(Fault::GuestEnds);
                self.guest(node, vm, start, Observed::Down { exit: Some(ExitStatus::Code(0)) });
            }
            Event::Mishap { index } => {
                let mishap: Mishap = self.planned[index].mishap.clone();
                self.tell_event(&mishap);
                self.mishap(mishap);
            }
            Event::Lie { liar } => self.lie(liar),
            Event::Alone { node } => self.ask_alone(node),
            Event::Restart { node, life } => {
                if self.hosts[node].life == life {
                    self.restart(node);
                }
            }
            Event::Customer { customer } => self.customer(customer),
            Event::Struck { node, blow } => self.strike(node, blow),
            Event::AloneDue { node } => self.alone_due(node),
            Event::Script => self.play(),
            Event::Operator => self.clear_up(),
            Event::Guest => self.guest_turn(),
        }
    }

    /// Starts the agent of a host on what its disk has.
    pub(crate) fn restart(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if host.presence == Presence::Gone || host.node.is_some() {
            return;
        }
        if host.full_until_ms > self.now_ms || host.asleep_until_ms > self.now_ms {
            let (life, at) = (host.life, host.full_until_ms.max(host.asleep_until_ms));
            return self.at(at, Event::Restart { node, life });
        }
        host.clock.began_ms = self.lot.between(0, 1_000_000);
        // The agent of a liar passes on what guests want, whether they may or not.
        let lie = (host.honesty == Honesty::Hostile).then(|| {
            let lies = [
                Mutation::EnvelopeIgnored,
                Mutation::GuestSignatureIgnored,
                Mutation::GuestKeyKeptOverAnEpoch,
                Mutation::GuestGrantRevokedPasses,
            ];
            lies[(self.options.seed as usize + node) % lies.len()]
        });
        let config = NodeConfig {
            platforms: vec![Platform::Uml],
            memory_limit: MemoryMib(MEMORY_MIB),
            agent_version: "netsim".to_owned(),
            seed: self.options.seed ^ (node as u64) << 20 ^ u64::from(host.life),
            mutation: self.options.mutation.or(lie),
            ..NodeConfig::new(host.keys.clone(), host.name.clone(), host.chain.clone())
        };
        host.life += 1;
        host.gossip = Gossip::default();
        host.timeout_ms = None;
        host.durable_ms = self.now_ms;
        host.still_until_ms = 0;
        let known = host.disk.record(&RecordKey::Host(host.keys.public()));
        host.own_key = OwnKey::begin(self.now_ms, known);
        let stored = host.disk.load();
        self.oracle.note_stored(&stored.records);
        host.node = Some(Node::new(config, stored));
        let (life, found) = (host.life, host.disk.found());
        let at = self.now_ms + self.lot.between(1, HEARTBEAT_MS);
        self.at(at, Event::Heartbeat { node, life });
        self.input(node, Input::Start { found });
        self.redial(node);
    }

    fn customer(&mut self, customer: Customer) {
        let now = self.hosts[0].clock.now(self.now_ms);
        let now = mln_protocol::time::Now { mono_ms: self.now_ms, ..now };
        let alive = |node: usize| self.hosts[node].answering(self.now_ms);
        let (order, again_ms) = self.workload.turn(customer, now, alive);
        if let Some(again_ms) = again_ms {
            let at = self.now_ms + again_ms;
            self.at(at, Event::Customer { customer });
        }
        if let Some(Wish { node, op, operation, holder }) = order {
            self.operate(node, op, operation, holder);
        }
    }

    /// Gives an agent an input, now or as soon as it can take one, and does what it wants done.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let host = &self.hosts[node];
        let awake_ms = host.still_until_ms.max(host.asleep_until_ms);
        if host.node.is_some() && awake_ms > self.now_ms {
            let life = host.life;
            return self.at(awake_ms, Event::Input { node, life, input: Box::new(input) });
        }
        let now = host.clock.now(self.now_ms);
        if self.hosts[node].node.is_some() {
            self.tell_input(node, &input);
            self.note_own_heard(node, &input);
            self.note_request(node, &input);
        }
        let Some(machine) = self.hosts[node].node.as_mut() else { return };
        machine.handle(now, input);
        self.note_rivals(node);
        let mut outputs = 0;
        while let Some(output) = self.hosts[node].node.as_mut().and_then(Node::poll_output) {
            outputs += 1;
            self.output(node, output);
        }
        self.oracle.check_outputs(&self.hosts[node], outputs, self.options.nodes);
        self.oracle.take_ownership();
        self.arm(node);
    }

    /// Sets the agent's next timeout.
    pub(crate) fn arm(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        let Some(due_mono_ms) = host.node.as_ref().and_then(Node::poll_timeout) else { return };
        let due_ms = host.clock.world_ms(due_mono_ms).max(self.now_ms + 1);
        if host.timeout_ms.is_none_or(|set| set > due_ms) {
            host.timeout_ms = Some(due_ms);
            let life = host.life;
            self.at(due_ms, Event::Timeout { node, life, due_ms });
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let life = self.hosts[node].life;
        self.ambush(node, &output);
        self.tell_output(node, &output);
        match output {
            Output::Send { to, message } => {
                self.oracle.note_message(self.hosts[node].keys.public(), &message);
                self.check_answer(node, &message);
                if let Message::HandOver(HandOver::Ready(ready)) = &message {
                    self.tally.hand_overs.ready += 1;
                    let host = &self.hosts[node];
                    self.oracle.ownership.check_ready(&host.name, host.keys.public(), ready, &host.disk);
                }
                self.check_handed(node, to, &message);
                self.send(node, to, message);
            }
            Output::Broadcast(record) => {
                self.note_link(&record);
                self.oracle.note_record(self.hosts[node].keys.public(), &record);
                self.check_room(node, &record);
                match self.codec.record(record.signed()) {
                    Ok(record) => {
                        self.traffic.published(node, &record, self.now_ms);
                        self.publish(node, &record);
                    }
                    Err(error) => {
                        self.oracle
                            .broken(format!("S4: a record that proves nothing was published: {error}"));
                    }
                }
            }
            Output::Persist { id, writes } => {
                self.check_writes(node, &writes);
                // A disk takes writes in their order, and now and then its time.
                let slow = self.now_ms < FAULTS_MS && self.lot.chance(self.options.rate(Fault::SlowDisk));
                let ms = if slow { self.lot.between(100, 1_500) } else { self.lot.between(1, 30) };
                if slow {
                    self.tally.faults.add(Fault::SlowDisk);
                }
                let host = &mut self.hosts[node];
                let at = host.durable_ms.max(self.now_ms + ms);
                host.durable_ms = at;
                host.unsynced.push_back((id, writes));
                self.at(at, Event::Persisted { node, life, id });
            }
            Output::Check { revision, .. } => {
                let at = self.now_ms + self.lot.between(1, 200);
                self.at(at, Event::Checked { node, life, revision });
            }
            Output::Step { vm, step, fragment, .. } => self.begin_step(node, vm, step, &fragment),
            Output::Hook { project, point, .. } => {
                let at = self.now_ms + self.lot.between(10, 500);
                self.at(at, Event::HookEnds { node, life, project, point });
            }
            Output::Pull { vm, from, round } => self.copy(node, vm, CopyWork::Pull { from, round }),
            Output::Seal { vm } => self.copy(node, vm, CopyWork::Seal),
            Output::ReadCopy { vm } => self.copy(node, vm, CopyWork::Read),
            Output::Shelve { vm } => self.shelve(node, &vm),
            Output::DropCopy { vm } => self.drop_copy(node, &vm),
            Output::Forked(pair) => self.oracle.check_cut_off(&self.hosts[node], pair[0].author()),
            Output::Switches(_) | Output::Progress { .. } | Output::Revoked(_) => {}
            Output::Done { op, outcome } => self.done(node, op, outcome),
        }
    }

    /// Takes in what became of something that somebody has asked a host for.
    fn done(&mut self, node: usize, op: OpId, outcome: Outcome) {
        self.rival_told(node, op, &outcome);
        match self.alone.remove(&op) {
            Some(alone) => {
                let can_fail = self.options.has(Fault::StepFails) || self.options.has(Fault::GuestEnds);
                self.oracle.check_alone(&self.hosts[alone], &outcome, can_fail);
                self.tally.alone += 1;
            }
            None if self.orders.contains_key(&op) => {
                self.orders.insert(op, Some(outcome));
            }
            None if self.guest_done(op, &outcome) => {}
            None if self.script_done(node, op, &outcome) => {}
            None => self.workload.done(node, op, &outcome, &mut self.tally),
        }
    }

    /// What was written is on the disk, unless there is no room: then the agent goes no further.
    fn persisted(&mut self, node: usize, id: WriteId) {
        let host = &mut self.hosts[node];
        if host.full_until_ms > self.now_ms {
            self.tally.faults.add(Fault::DiskFull);
            host.unsynced.clear();
            return self.stop(node, 1_000);
        }
        while host.unsynced.front().is_some_and(|(first, _)| *first <= id)
            && let Some((first, writes)) = host.unsynced.pop_front()
        {
            let key = host.keys.public();
            self.oracle.ownership.note_writes(key, &writes);
            host.disk.apply(writes);
            self.oracle.check_words(host);
            self.trace.update(&first.0.to_le_bytes());
        }
        self.input(node, Input::Persisted(id));
    }

    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.queue.push(at_ms, event);
    }
}
