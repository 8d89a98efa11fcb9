//! Whatever happens to it, in whatever order: a node doesn't panic, and does a bounded amount.
//!
//! `make fuzz-node RUNS=100000` runs it. The bytes are a script: three nodes talk to each other, and each byte says
//! what happens next: which message arrives, is lost or comes again, which write becomes durable, who crashes, what an
//! operator asks for, what a liar with a valid key sends. So most scripts go deep instead of being refused.

#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mln_protocol::id::{Digest, Label, Name, PublicKey, VmId};
use mln_protocol::model::{Fragment, MemoryMib, Platform, Project};
use mln_protocol::node::{
    BuildOrder, ExistingProject, Input, Message, Node, NodeConfig, OnFailure, OpId, Operation, Output, RunOrder,
    RunVerdict, RunningVms, StoredState, SyncContent, SyncRange, Write,
};
use mln_protocol::plan::{Observed, RunPhase, StopLimit};
use mln_protocol::record::{RecordKey, VerifiedRecord};
use mln_protocol::time::Now;
use mln_protocol::trust::{Domain, Grant, KeyPair, Verb, mesh_of};
use mln_protocol::{lang, resolve, wire};

/// How many hosts there are; the last one also lies.
const HOSTS: usize = 3;

/// What may wait to happen; the oldest is lost.
const PENDING_MAX: usize = 256;

/// How many things one input may make a node do.
const OUTPUTS_MAX: usize = 2_000;

const PROJECTS: [&str; 3] = [
    "global { project a }\nhost one { service_host host0 }\nhost two { service_host host1 }\n",
    "global { project a }\nhost one { service_host host2\n memory 128M }\n",
    "global { project b }\nswitch s { hosts { x eth0\n y eth0 } }\nhost x { service_host host0\n network eth0 { address 10.0.0.1 } }\nhost y { service_host host2\n network eth0 { address 10.0.0.2 } }\n",
];

struct NoFiles;

impl lang::SourceLoader for NoFiles {
    fn load(&self, _: &str) -> Result<String, lang::LoadError> {
        Err(lang::LoadError::NotFound)
    }
}

fn project(text: &str) -> Project {
    let (tree, _) = lang::parse("p.mln", text.to_owned(), &NoFiles);
    resolve::resolve(&tree, &resolve::Options { variables: Default::default(), owner: None }).project
}

fn keys(index: usize) -> KeyPair {
    KeyPair::from_secret([index as u8 + 2; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("letters and digits are a name")
}

fn config(index: usize) -> NodeConfig {
    let root = KeyPair::from_secret([1; 32]);
    let grant = Grant {
        mesh: mesh_of(root.public()),
        subject: keys(index).public(),
        name: Some(name(&format!("host{index}"))),
        verbs: Verb::ALL.into_iter().collect(),
        passes: 1,
        not_after_unix_ms: None,
        scope: mln_protocol::trust::Scope::default(),
    };
    let chain = vec![root.sign(Domain::Grant, grant.to_bytes())];
    NodeConfig {
        platforms: vec![Platform::Uml],
        memory_limit: MemoryMib(256),
        ..NodeConfig::new(keys(index), name(&format!("host{index}")), chain)
    }
}

/// What survives a crash.
#[derive(Default)]
struct Disk(Vec<Write>);

impl Disk {
    /// Starts from the writes, oldest first, as a store would have them.
    fn load(&self) -> StoredState {
        let mut stored = StoredState::default();
        for write in &self.0 {
            match write.clone() {
                Write::Record(_, record) | Write::Heard(_, record) => stored.records.push(record),
                Write::Join(project) => _ = stored.joined.insert(project),
                Write::Fragment(digest, fragment) => stored.fragments.push((digest, fragment)),
                Write::DropFragment(digest) => stored.fragments.retain(|(other, _)| *other != digest),
                Write::Holding(vm, holding) => {
                    stored.holdings.retain(|(other, _)| *other != vm);
                    stored.holdings.push((vm, holding));
                }
                Write::DropHolding(vm) => stored.holdings.retain(|(other, _)| *other != vm),
                Write::Decision(note) => {
                    stored.decisions.retain(|other| other.parent != note.parent);
                    stored.decisions.push(*note);
                }
                Write::DropDecision(parent) => stored.decisions.retain(|other| other.parent != parent),
            }
        }
        stored
    }
}

struct Script<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    disks: Vec<Disk>,
    pending: VecDeque<(usize, Input)>,
    heard: Vec<VerifiedRecord>,
    digests: Vec<Digest>,
    vms: Vec<VmId>,
    now_ms: u64,
    op: u64,
}

impl Script<'_> {
    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first.into()
    }

    fn input(&mut self, index: usize, input: Input) {
        let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
        self.nodes[index].handle(now, input);
        let mut outputs = 0;
        while let Some(output) = self.nodes[index].poll_output() {
            outputs += 1;
            assert!(outputs < OUTPUTS_MAX, "one input made a node do {OUTPUTS_MAX} things");
            self.output(index, output);
        }
    }

    fn wait(&mut self, index: usize, input: Input) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((index, input));
    }

    fn output(&mut self, from: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                let own = keys(from).public();
                if let Some(to) = (0..HOSTS).find(|&index| keys(index).public() == to) {
                    self.wait(to, Input::Message { from: own, message });
                }
            }
            Output::Broadcast(record) => {
                self.heard.push(record.clone());
                self.digests.push(record.digest());
                for to in (0..HOSTS).filter(|&to| to != from) {
                    self.wait(to, Input::Record(record.clone()));
                }
            }
            Output::Persist { id, writes } => {
                self.disks[from].0.extend(writes);
                self.wait(from, Input::Persisted(id));
            }
            Output::Check { revision, .. } => {
                self.digests.push(revision);
                self.wait(from, Input::Checked { revision, verdict: Ok(()) });
            }
            Output::Step { vm, step, .. } => {
                self.vms.push(vm.clone());
                let observed = [Observed::Down { exit: None }, Observed::Running(RunPhase::Ready), Observed::Absent];
                let result = match self.next() % 4 {
                    3 => Err("it went wrong".to_owned()),
                    which => Ok(observed[which].clone()),
                };
                self.wait(from, Input::StepDone { vm, step, result });
            }
            _ => {}
        }
    }

    fn turn(&mut self) {
        let (what, whom) = (self.next(), self.next() % HOSTS);
        match what % 16 {
            // Half of all turns bring something about that waits: now, or twice.
            0..=6 => {
                if let Some((to, input)) = self.pending.pop_front() {
                    self.input(to, input);
                }
            }
            7 | 8 => {
                let which = self.next();
                if !self.pending.is_empty()
                    && let Some((to, input)) = self.pending.remove(which % self.pending.len())
                {
                    if what % 16 == 8 {
                        self.wait(to, input.clone());
                    }
                    self.input(to, input);
                }
            }
            9 => {
                self.pending.pop_front();
            }
            10 => {
                self.now_ms += [1, 100, 1_000, 10_000, 100_000, 1_000_000][self.next() % 6];
                self.input(whom, Input::Timeout);
            }
            11 => {
                self.nodes[whom] = Node::new(config(whom), self.disks[whom].load());
                self.pending.retain(|(to, input)| *to != whom || matches!(input, Input::Message { .. }));
                let count = self.next() % 4;
                let running = |vm: &VmId| (vm.clone(), Observed::Running(RunPhase::Ready));
                let found = self.vms.iter().take(count).map(running).collect();
                self.input(whom, Input::Start { found });
            }
            12 => self.operate(whom),
            13 => {
                let peer = keys(self.next() % HOSTS).public();
                let input = match self.next() % 3 {
                    0 => Input::Connected(peer),
                    1 => Input::Disconnected(peer),
                    _ => Input::Unreachable(peer),
                };
                self.input(whom, input);
            }
            14 => {
                let message = self.lie();
                self.input(whom % (HOSTS - 1), Input::Message { from: keys(HOSTS - 1).public(), message });
            }
            _ => {
                let which = self.next();
                if let Some(record) = self.heard.get(which % self.heard.len().max(1)).cloned() {
                    self.input(whom, Input::Record(record));
                }
            }
        }
    }

    fn operate(&mut self, whom: usize) {
        self.op += 1;
        let op = OpId(self.op);
        let running = [RunningVms::Stop, RunningVms::Refuse][self.next() % 2];
        let projects: Vec<_> = self.nodes[whom].projects().into_iter().map(|project| project.id).collect();
        let operation = match self.next() % 4 {
            0 | 1 => {
                let text = PROJECTS[self.next() % PROJECTS.len()];
                let project = project(text);
                Operation::Build(Box::new(BuildOrder {
                    label: Label { owner: name("people"), project: project.name.clone() },
                    project,
                    blobs: Vec::new(),
                    author: "people".to_owned(),
                    existing: [ExistingProject::Refuse, ExistingProject::Replace(running)][self.next() % 2],
                    on_failure: [OnFailure::Undo, OnFailure::Keep][self.next() % 2],
                }))
            }
            2 => match projects.first() {
                Some(&project) => Operation::Remove { project, running },
                None => return,
            },
            _ => {
                let order = [RunOrder::Up, RunOrder::Down(StopLimit::After(1_000)), RunOrder::Down(StopLimit::Now)];
                let order = order[self.next() % 3];
                let vms = projects.iter().flat_map(|id| self.nodes[whom].vms(*id)).map(|view| view.status.vm).collect();
                Operation::Run { vms, order, pause_ms: 0 }
            }
        };
        self.input(whom, Input::Operate { op, operation });
    }

    fn digest(&mut self) -> Digest {
        let which = self.next();
        self.digests.get(which % self.digests.len().max(1)).copied().unwrap_or(Digest([which as u8; 32]))
    }

    fn key(&mut self) -> PublicKey {
        keys(self.next() % HOSTS).public()
    }

    fn record_key(&mut self) -> RecordKey {
        match self.next() % 4 {
            0 => RecordKey::Member(self.key()),
            1 => RecordKey::Host(self.key()),
            2 => RecordKey::Commit(self.digest()),
            _ => {
                let vm = VmId { birth: self.digest(), name: name(["one", "two", "x"][self.next() % 3]) };
                RecordKey::Vm(vm, self.key())
            }
        }
    }

    /// What the last host says beside what its node says.
    fn lie(&mut self) -> Message {
        let liar = keys(HOSTS - 1);
        match self.next() % 9 {
            0 => Message::Answer {
                revision: self.digest(),
                verdict: Ok(wire::sign_reservation(&liar, self.digest())),
            },
            1 => Message::Withdraw { revision: self.digest() },
            2 => Message::RunAnswer { request: self.digest(), verdict: RunVerdict::Applied },
            3 => Message::RunAnswer {
                request: self.digest(),
                verdict: RunVerdict::Stale { counter: self.next() as u64, by: self.key() },
            },
            4 => Message::Want((0..self.next()).map(|_| self.record_key()).collect()),
            5 => {
                let ranges = (0..self.next() % 20).map(|_| {
                    let content = if self.next() % 2 == 0 {
                        SyncContent::Sum { records: self.next() as u64, fingerprint: self.digest() }
                    } else {
                        SyncContent::List((0..self.next() % 20).map(|_| (self.record_key(), self.digest())).collect())
                    };
                    let bound = |script: &mut Self| (script.next() % 2 == 0).then(|| script.record_key());
                    SyncRange { from: bound(self), until: bound(self), content }
                });
                Message::Sync(ranges.collect())
            }
            6 => Message::FragmentWanted(self.digest()),
            7 => Message::FragmentFound(Arc::new(Fragment::default())),
            _ => {
                let count = self.next() % 8;
                let some = self.heard.iter().rev().take(count).cloned().collect();
                Message::Records(some)
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let nodes = (0..HOSTS).map(|index| Node::new(config(index), StoredState::default())).collect();
    let mut script = Script {
        bytes: data,
        nodes,
        disks: (0..HOSTS).map(|_| Disk::default()).collect(),
        pending: VecDeque::new(),
        heard: Vec::new(),
        digests: Vec::new(),
        vms: Vec::new(),
        now_ms: 0,
        op: 0,
    };
    for index in 0..HOSTS {
        script.input(index, Input::Start { found: Vec::new() });
        for peer in (0..HOSTS).filter(|&peer| peer != index) {
            script.input(index, Input::Connected(keys(peer).public()));
        }
    }
    while let Some((to, input)) = script.pending.pop_front() {
        script.input(to, input);
    }
    while !script.bytes.is_empty() {
        script.turn();
    }
});
