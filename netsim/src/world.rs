//! The simulated world: nodes, disks, a network that loses, delays and repeats, and time.
//!
//! One event at a time, in the order of their times; whatever is drawn by lot comes from the seed. So the same
//! seed gives the same trace, byte for byte, and the trace hash says whether it did.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use mln_protocol::id::{Digest, Name, ProjectId, PublicKey, VmId};
use mln_protocol::model::{HookPoint, MemoryMib, Platform};
use mln_protocol::node::{Input, Message, Mutation, Node, NodeConfig, Output, Write, WriteId};
use mln_protocol::plan::{Observed, RunPhase, Step, StopLimit};
use mln_protocol::record::{ExitStatus, VerifiedRecord};
use mln_protocol::time::Now;
use mln_protocol::trust::{Domain, Grant, KeyPair, Signed, Verb, mesh_of};
use mln_protocol::wire;

use crate::check::Oracle;
use crate::disk::{Disk, SimulatedVm};
use crate::gossip::{Gossip, HEARTBEAT_MS, Overlay};
use crate::lot::Lot;
use crate::workload::{Customer, Workload};

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) projects: usize,
    pub(crate) mutation: Option<Mutation>,
}

/// How long things go wrong, in milliseconds; then they must come right.
const FAULTS_MS: u64 = 60_000;

/// By when everything must have settled, in milliseconds.
const SETTLED_MS: u64 = 900_000;

/// The memory that each host lends, in MiB: little, so that some builds don't fit.
const MEMORY_MIB: u32 = 512;

/// What happens in the world.
#[derive(Debug)]
enum Event {
    Deliver { from: usize, to: usize, packet: Packet },
    Persisted { node: usize, life: u32, id: WriteId, writes: Vec<Write> },
    Timeout { node: usize, life: u32 },
    Heartbeat { node: usize, life: u32 },
    Checked { node: usize, life: u32, revision: Digest },
    StepEnds { node: usize, life: u32, vm: VmId, step: Step, memory_mib: u32 },
    HookEnds { node: usize, life: u32, project: ProjectId, point: HookPoint },
    GuestReady { node: usize, vm: VmId, start: u64 },
    GuestEnds { node: usize, vm: VmId, start: u64 },
    Crash { node: usize },
    Restart { node: usize },
    Customer { customer: Customer },
}

/// An event and when it happens; of two at one time, the one that was scheduled first.
#[derive(Debug)]
struct Scheduled {
    at_ms: u64,
    sequence: u64,
    event: Event,
}

impl Scheduled {
    fn key(&self) -> Reverse<(u64, u64)> {
        Reverse((self.at_ms, self.sequence))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Scheduled {}

/// What travels over the simulated network.
#[derive(Clone, Debug)]
enum Packet {
    Direct(Message),
    Gossip(VerifiedRecord),
    Told(Vec<Digest>),
    Asked(Vec<Digest>),
}

struct Host {
    keys: KeyPair,
    chain: Vec<Signed>,
    name: Name,
    node: Option<Node>,
    gossip: Gossip,
    disk: Disk,
    /// Counts the agent's runs: events of an earlier one are void.
    life: u32,
    timeout_ms: Option<u64>,
    /// When the last write becomes durable.
    durable_ms: u64,
}

/// What happened, to be shown: a run without faults proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) crashes: u64,
    pub(crate) unsynced: u64,
    pub(crate) failed_steps: u64,
    pub(crate) refused: u64,
    pub(crate) built: u64,
    pub(crate) started: u64,
    pub(crate) stopped: u64,
    pub(crate) removed: u64,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) tally: Tally,
    pub(crate) simulated_ms: u64,
    pub(crate) records: usize,
    pub(crate) trace: blake3::Hash,
    pub(crate) violations: Vec<String>,
}

pub(crate) struct World {
    plan: Plan,
    lot: Lot,
    now_ms: u64,
    sequence: u64,
    queue: BinaryHeap<Scheduled>,
    hosts: Vec<Host>,
    index: BTreeMap<PublicKey, usize>,
    overlay: Overlay,
    root: PublicKey,
    workload: Workload,
    oracle: Oracle,
    trace: blake3::Hasher,
    tally: Tally,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut lot = Lot::new(plan.seed);
        let root = KeyPair::from_secret([1; 32]);
        let hosts: Vec<Host> = (0..plan.nodes).map(|index| host(index, &root)).collect();
        let index = hosts.iter().enumerate().map(|(index, host)| (host.keys.public(), index)).collect();
        let names = hosts.iter().map(|host| host.name.clone()).collect();
        let overlay = Overlay::new(plan.nodes, &mut lot);
        let workload = Workload::new(plan.projects, names, &mut lot);
        let mut world = Self {
            lot,
            now_ms: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            hosts,
            index,
            overlay,
            root: root.public(),
            workload,
            oracle: Oracle::new(),
            trace: blake3::Hasher::new(),
            tally: Tally::default(),
            plan,
        };
        world.prepare();
        world
    }

    /// Lets every host know the members, as in a mesh that has been running for a while, and plans the faults.
    fn prepare(&mut self) {
        let members: Vec<VerifiedRecord> = self
            .hosts
            .iter()
            .map(|host| {
                let member = mln_protocol::record::Member {
                    counter: 1,
                    name: host.name.clone(),
                    chain: host.chain.clone(),
                };
                wire::sign_record(&host.keys, mln_protocol::record::Record::Member(member))
            })
            .collect();
        for node in 0..self.hosts.len() {
            let writes = members
                .iter()
                .map(|record| Write::Record(record.key(record.author()), record.clone()))
                .collect();
            self.hosts[node].disk.apply(writes);
            let at = self.lot.between(0, 2_000);
            self.at(at, Event::Restart { node });
            if self.lot.chance(300) {
                let at = self.lot.between(3_000, FAULTS_MS);
                self.at(at, Event::Crash { node });
            }
        }
        for customer in self.workload.customers() {
            // Half of them come in crowds, so that builds meet on one host.
            let crowd = self.lot.chance(500);
            let at = if crowd { 5_000 * self.lot.between(1, 6) } else { self.lot.between(3_000, FAULTS_MS) };
            self.at(at, Event::Customer { customer });
        }
    }

    /// Runs until all has settled, the time is up, or a rule is broken.
    pub(crate) fn run(mut self) -> Ending {
        let mut next_look = FAULTS_MS;
        while let Some(Scheduled { at_ms, event, .. }) = self.queue.pop() {
            self.now_ms = at_ms;
            if self.now_ms >= next_look {
                next_look = self.now_ms + 5_000;
                if (self.workload.is_over() && self.unsettled().is_empty()) || self.now_ms > SETTLED_MS {
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
            if !self.workload.is_over() {
                violations.push(format!("L1: customers still wait: {}", self.workload.waiting().join("; ")));
            }
        }
        violations.truncate(8);
        Ending {
            records: self
                .hosts
                .iter()
                .filter_map(|h| h.node.as_ref())
                .map(|n| n.record_sum().0)
                .max()
                .unwrap_or(0),
            tally: self.tally,
            simulated_ms: self.now_ms,
            trace: self.trace.finalize(),
            violations,
        }
    }

    /// L1: says in what the world is not yet as it should be.
    fn unsettled(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut first = None;
        for host in &self.hosts {
            let Some(node) = &host.node else {
                problems.push(format!("L1: {} is down", host.name));
                continue;
            };
            let sum = node.record_sum();
            let expected = first.get_or_insert((sum, &host.name));
            if expected.0 != sum {
                problems.push(format!("L1: {} and {} hold different records", expected.1, host.name));
            }
            problems.extend(self.oracle.unsettled(host.name.as_str(), node, &host.disk));
            if problems.len() > 8 {
                break;
            }
        }
        problems
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, packet } => self.deliver(from, to, packet),
            Event::Persisted { node, life, id, writes } => {
                if self.hosts[node].life == life {
                    self.hosts[node].disk.apply(writes);
                    self.input(node, Input::Persisted(id));
                }
            }
            Event::Timeout { node, life } => {
                if self.hosts[node].life == life && self.hosts[node].timeout_ms == Some(self.now_ms) {
                    self.hosts[node].timeout_ms = None;
                    self.input(node, Input::Timeout);
                }
            }
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
            Event::StepEnds { node, life, vm, step, memory_mib } => {
                self.step_ends(node, life, vm, step, memory_mib)
            }
            Event::GuestReady { node, vm, start } => {
                self.guest(node, vm, start, Observed::Running(RunPhase::Ready));
            }
            Event::GuestEnds { node, vm, start } => {
                self.guest(node, vm, start, Observed::Down { exit: Some(ExitStatus::Code(0)) });
            }
            Event::Crash { node } => self.crash(node),
            Event::Restart { node } => self.restart(node),
            Event::Customer { customer } => self.customer(customer),
        }
    }

    fn restart(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        let config = NodeConfig {
            platforms: vec![Platform::Uml],
            memory_limit: MemoryMib(MEMORY_MIB),
            agent_version: "netsim".to_owned(),
            seed: self.plan.seed ^ (node as u64) << 20 ^ u64::from(host.life),
            mutation: self.plan.mutation,
            ..NodeConfig::new(host.keys.clone(), host.name.clone(), host.chain.clone())
        };
        host.life += 1;
        host.gossip = Gossip::default();
        host.timeout_ms = None;
        host.node = Some(Node::new(config, host.disk.load()));
        let (life, found) = (host.life, host.disk.found());
        let at = self.now_ms + self.lot.between(1, HEARTBEAT_MS);
        self.at(at, Event::Heartbeat { node, life });
        self.input(node, Input::Start { found });
        for peer in self.overlay.peers(node) {
            if self.hosts[peer].node.is_some() {
                let (own, theirs) = (self.hosts[node].keys.public(), self.hosts[peer].keys.public());
                self.input(node, Input::Connected(theirs));
                self.input(peer, Input::Connected(own));
            }
        }
    }

    fn crash(&mut self, node: usize) {
        self.tally.crashes += 1;
        self.hosts[node].node = None;
        self.hosts[node].life += 1;
        self.oracle.check_remembered(
            &self.hosts[node].name,
            self.hosts[node].keys.public(),
            &self.hosts[node].disk,
        );
        let own = self.hosts[node].keys.public();
        for peer in self.overlay.peers(node) {
            if self.hosts[peer].node.is_some() {
                self.input(peer, Input::Disconnected(own));
            }
        }
        self.workload.lost_coordinator(node);
        let at = self.now_ms + self.lot.between(500, 20_000);
        self.at(at, Event::Restart { node });
    }

    fn customer(&mut self, customer: Customer) {
        let now = self.now();
        let alive = |node: usize| self.hosts[node].node.as_ref();
        let (order, again_ms) = self.workload.turn(customer, now, alive, &mut self.lot);
        if let Some(again_ms) = again_ms {
            let at = self.now_ms + again_ms;
            self.at(at, Event::Customer { customer });
        }
        if let Some((node, op, operation)) = order {
            self.input(node, Input::Operate { op, operation });
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, unix_ms: 1_800_000_000_000 + self.now_ms }
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.now();
        let Some(machine) = self.hosts[node].node.as_mut() else { return };
        machine.handle(now, input);
        while let Some(output) = self.hosts[node].node.as_mut().and_then(Node::poll_output) {
            self.output(node, output);
        }
        let Some(machine) = self.hosts[node].node.as_ref() else { return };
        let due = machine.poll_timeout();
        let host = &mut self.hosts[node];
        if let Some(due_ms) = due
            && host.timeout_ms.is_none_or(|set| set > due_ms)
        {
            let due_ms = due_ms.max(self.now_ms + 1);
            host.timeout_ms = Some(due_ms);
            let life = host.life;
            self.at(due_ms, Event::Timeout { node, life });
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let life = self.hosts[node].life;
        match output {
            Output::Send { to, message } => {
                self.oracle.note_message(self.hosts[node].keys.public(), &message);
                match self.index.get(&to) {
                    Some(&to) => self.transmit(node, to, Packet::Direct(message)),
                    None => self.oracle.broken(format!("S4: {} sends to a stranger", self.hosts[node].name)),
                }
            }
            Output::Broadcast(record) => {
                let key = self.hosts[node].keys.public();
                self.oracle.note_record(self.root, key, &record);
                self.hosts[node].gossip.note(&record);
                self.spread(node, None, &record);
            }
            Output::Persist { id, writes } => {
                // A disk takes writes in their order, and now and then its time.
                let slow = self.lot.chance(30);
                let ms = if slow { self.lot.between(100, 1_500) } else { self.lot.between(1, 30) };
                let at = self.hosts[node].durable_ms.max(self.now_ms + ms);
                self.hosts[node].durable_ms = at;
                self.at(at, Event::Persisted { node, life, id, writes });
            }
            Output::Check { revision, .. } => {
                let at = self.now_ms + self.lot.between(1, 200);
                self.at(at, Event::Checked { node, life, revision });
            }
            Output::Step { vm, step, fragment, .. } => {
                let name = self.hosts[node].name.clone();
                self.oracle.check_step(&name, &vm, step, &fragment);
                let memory = fragment.vms.iter().find(|d| d.name == vm.name).map_or(0, |d| d.memory.0);
                let ms = match step {
                    Step::Build => self.lot.between(50, 500),
                    Step::Start | Step::Remove => self.lot.between(20, 100),
                    Step::Stop(StopLimit::After(_)) => self.lot.between(100, 2_000),
                    Step::Stop(StopLimit::Now) => self.lot.between(10, 50),
                };
                let at = self.now_ms + ms;
                self.at(at, Event::StepEnds { node, life, vm, step, memory_mib: memory });
            }
            Output::Hook { project, point, .. } => {
                let at = self.now_ms + self.lot.between(10, 500);
                self.at(at, Event::HookEnds { node, life, project, point });
            }
            Output::Switches(_) | Output::Progress { .. } => {}
            Output::Done { op, outcome } => self.workload.done(node, op, &outcome, &mut self.tally),
        }
    }

    /// Brings a packet to another host: late, twice, or not at all.
    fn transmit(&mut self, from: usize, to: usize, packet: Packet) {
        if from == to {
            let at = self.now_ms;
            return self.at(at, Event::Deliver { from, to, packet });
        }
        let faulty = self.now_ms < FAULTS_MS;
        let gossip = matches!(packet, Packet::Gossip(_) | Packet::Told(_));
        if faulty && self.lot.chance(if gossip { 50 } else { 20 }) {
            self.tally.lost += 1;
            return;
        }
        if faulty && self.lot.chance(20) {
            self.tally.repeated += 1;
            let at = self.now_ms + self.lot.between(5, 8_000);
            self.at(at, Event::Deliver { from, to, packet: packet.clone() });
        }
        let mut delay = self.lot.between(5, 50);
        if faulty && self.lot.chance(20) {
            delay += self.lot.between(100, 3_000);
        }
        let at = self.now_ms + delay;
        self.at(at, Event::Deliver { from, to, packet });
    }

    fn deliver(&mut self, from: usize, to: usize, packet: Packet) {
        if self.hosts[to].node.is_none() {
            if let Packet::Direct(_) = packet {
                let key = self.hosts[to].keys.public();
                self.input(from, Input::Unreachable(key));
            }
            return;
        }
        self.tally.delivered += 1;
        self.trace.update(&self.now_ms.to_le_bytes());
        self.trace.update(&(to as u64).to_le_bytes());
        match packet {
            Packet::Direct(message) => {
                self.trace.update(&wire::encode_message(&message));
                let from = self.hosts[from].keys.public();
                self.input(to, Input::Message { from, message });
            }
            Packet::Gossip(record) => {
                self.trace.update(&record.digest().0);
                if self.hosts[to].gossip.note(&record) {
                    self.spread(to, Some(from), &record);
                    self.input(to, Input::Record(record));
                }
            }
            Packet::Told(told) => {
                let lacking = self.hosts[to].gossip.lacking(&told);
                if !lacking.is_empty() {
                    self.transmit(to, from, Packet::Asked(lacking));
                }
            }
            Packet::Asked(wanted) => {
                for record in self.hosts[to].gossip.remembered(&wanted) {
                    self.transmit(to, from, Packet::Gossip(record));
                }
            }
        }
    }

    fn spread(&mut self, node: usize, except: Option<usize>, record: &VerifiedRecord) {
        let peers: Vec<usize> = self.overlay.mesh(node).filter(|&peer| Some(peer) != except).collect();
        for peer in peers {
            self.transmit(node, peer, Packet::Gossip(record.clone()));
        }
    }

    fn heartbeat(&mut self, node: usize, life: u32) {
        if self.hosts[node].life != life {
            return;
        }
        let told = self.hosts[node].gossip.heartbeat();
        if !told.is_empty() {
            let peers: Vec<usize> = self.overlay.lazy(node).collect();
            for peer in peers {
                self.transmit(node, peer, Packet::Told(told.clone()));
            }
        }
        let at = self.now_ms + HEARTBEAT_MS;
        self.at(at, Event::Heartbeat { node, life });
    }

    /// A step's effect on the disk stays even if the agent that began it is gone.
    fn step_ends(&mut self, node: usize, life: u32, vm: VmId, step: Step, memory_mib: u32) {
        let alive = self.hosts[node].life == life;
        if !alive && step == Step::Build {
            self.tally.unsynced += 1;
            return;
        }
        let fails =
            self.now_ms < FAULTS_MS && matches!(step, Step::Build | Step::Start) && self.lot.chance(20);
        if fails {
            self.tally.failed_steps += 1;
            if alive {
                let result = Err("no space left on device".to_owned());
                self.input(node, Input::StepDone { vm, step, result });
            }
            return;
        }
        let observed = self.take_effect(node, &vm, step, memory_mib);
        if alive {
            self.input(node, Input::StepDone { vm, step, result: Ok(observed) });
        }
    }

    fn take_effect(&mut self, node: usize, vm: &VmId, step: Step, memory_mib: u32) -> Observed {
        let disk = &mut self.hosts[node].disk;
        if step == Step::Remove {
            disk.vms.remove(vm);
            return Observed::Absent;
        }
        if step == Step::Build && !disk.vms.contains_key(vm) {
            let built = SimulatedVm { observed: Observed::Down { exit: None }, memory_mib, starts: 0 };
            disk.vms.insert(vm.clone(), built);
            let (name, used) = (self.hosts[node].name.clone(), self.hosts[node].disk.memory_mib());
            self.oracle.check_memory(&name, used, MEMORY_MIB);
        }
        let Some(found) = self.hosts[node].disk.vms.get_mut(vm) else { return Observed::Absent };
        match step {
            Step::Build | Step::Remove => {}
            Step::Start => {
                if !matches!(found.observed, Observed::Running(_)) {
                    found.observed = Observed::Running(RunPhase::Booting);
                    found.starts += 1;
                    let start = found.starts;
                    let ready = self.now_ms + self.lot.between(500, 3_000);
                    self.at(ready, Event::GuestReady { node, vm: vm.clone(), start });
                    if self.lot.chance(10) {
                        let ends = ready + self.lot.between(1, 30_000);
                        self.at(ends, Event::GuestEnds { node, vm: vm.clone(), start });
                    }
                }
            }
            Step::Stop(_) => {
                if matches!(found.observed, Observed::Running(_)) {
                    found.observed = Observed::Down { exit: Some(ExitStatus::Code(0)) };
                }
            }
        }
        self.hosts[node].disk.vms.get(vm).map_or(Observed::Absent, |found| found.observed.clone())
    }

    fn guest(&mut self, node: usize, vm: VmId, start: u64, observed: Observed) {
        let Some(found) = self.hosts[node].disk.vms.get_mut(&vm) else { return };
        if found.starts == start && matches!(found.observed, Observed::Running(_)) {
            found.observed = observed.clone();
            self.input(node, Input::Observed { vm, observed });
        }
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Scheduled { at_ms, sequence: self.sequence, event });
    }
}

fn host(index: usize, root: &KeyPair) -> Host {
    let mut secret = [2; 32];
    secret[..8].copy_from_slice(&(index as u64).to_le_bytes());
    let keys = KeyPair::from_secret(secret);
    let name = Name::parse(&format!("host{index}")).expect("letters and digits are a name");
    let grant = Grant {
        mesh: mesh_of(root.public()),
        subject: keys.public(),
        name: Some(name.clone()),
        verbs: Verb::ALL.into_iter().collect(),
        passes: 3,
        not_after_unix_ms: None,
    };
    let chain = vec![root.sign(Domain::Grant, grant.to_bytes())];
    Host {
        keys,
        chain,
        name,
        node: None,
        gossip: Gossip::default(),
        disk: Disk::default(),
        life: 0,
        timeout_ms: None,
        durable_ms: 0,
    }
}
