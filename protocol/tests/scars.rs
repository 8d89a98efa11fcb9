//! How others failed, as tests of the core: each name says the lesson. `docs/testing.md` lists where the others are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mln_protocol::id::{Label, Name, PublicKey, VmId};
use mln_protocol::lang::{NoIncludes, parse};
use mln_protocol::model::{MemoryMib, Platform};
use mln_protocol::node::{
    BuildOrder, ExistingProject, Input, Message, Node, NodeConfig, OnFailure, OpId, Operation, Output,
    RunOrder, StoredState, Write, limits,
};
use mln_protocol::plan::{Observed, RunPhase, Step};
use mln_protocol::record::{Record, VerifiedRecord};
use mln_protocol::resolve::{Options, resolve};
use mln_protocol::time::Now;
use mln_protocol::trust::{Domain, Grant, KeyPair, Verb, mesh_of};
use mln_protocol::wire;

const HOSTS: usize = 4;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

fn root() -> KeyPair {
    KeyPair::from_secret([99; 32])
}

fn keys(host: usize) -> KeyPair {
    KeyPair::from_secret([u8::try_from(host).expect("few hosts") + 1; 32])
}

fn config(host: usize) -> NodeConfig {
    let grant = Grant {
        mesh: mesh_of(root().public()),
        subject: keys(host).public(),
        name: Some(name(&format!("host{host}"))),
        verbs: Verb::ALL.into_iter().collect(),
        passes: 1,
        not_after_unix_ms: None,
        scope: Default::default(),
    };
    let chain = vec![root().sign(Domain::Grant, grant.to_bytes())];
    NodeConfig {
        platforms: vec![Platform::Uml],
        memory_limit: MemoryMib(512),
        ..NodeConfig::new(keys(host), name(&format!("host{host}")), chain)
    }
}

/// Hosts whose messages arrive at once where there is no wall between them.
struct Mesh {
    nodes: Vec<Node>,
    now_ms: u64,
    /// What is durable, oldest first.
    disks: Vec<Vec<Write>>,
    found: Vec<BTreeMap<VmId, Observed>>,
    steps: Vec<(usize, Step)>,
    /// Hosts of different sides don't hear each other.
    side: [u8; HOSTS],
    /// Hosts whose disks don't take anything.
    broken: BTreeSet<usize>,
    done: BTreeSet<OpId>,
}

impl Mesh {
    fn new() -> Self {
        let mut mesh = Self {
            nodes: (0..HOSTS).map(|host| Node::new(config(host), StoredState::default())).collect(),
            now_ms: 0,
            disks: vec![Vec::new(); HOSTS],
            found: vec![BTreeMap::new(); HOSTS],
            steps: Vec::new(),
            side: [0; HOSTS],
            broken: BTreeSet::new(),
            done: BTreeSet::new(),
        };
        for host in 0..HOSTS {
            mesh.input(host, Input::Start { found: Vec::new() });
        }
        mesh.connect();
        mesh
    }

    fn connect(&mut self) {
        for host in 0..HOSTS {
            for peer in (0..HOSTS).filter(|&peer| peer != host) {
                let key = keys(peer).public();
                let reached = self.side[host] == self.side[peer];
                self.input(host, if reached { Input::Connected(key) } else { Input::Disconnected(key) });
            }
        }
    }

    fn wall(&mut self, side: [u8; HOSTS]) {
        self.side = side;
        self.connect();
    }

    fn input(&mut self, host: usize, input: Input) {
        let mut queue = VecDeque::from([(host, input)]);
        while let Some((host, input)) = queue.pop_front() {
            self.nodes[host].handle(Now { mono_ms: self.now_ms, unix_ms: self.now_ms }, input);
            while let Some(output) = self.nodes[host].poll_output() {
                self.output(host, output, &mut queue);
            }
        }
    }

    fn output(&mut self, from: usize, output: Output, queue: &mut VecDeque<(usize, Input)>) {
        let me = keys(from).public();
        match output {
            Output::Send { to, message } => {
                let to = (0..HOSTS).find(|&host| keys(host).public() == to).expect("a host");
                queue.push_back(match self.side[to] == self.side[from] {
                    true => (to, Input::Message { from: me, message }),
                    false => (from, Input::Unreachable(keys(to).public())),
                });
            }
            Output::Broadcast(record) => {
                let hears = |&to: &usize| to != from && self.side[to] == self.side[from];
                queue.extend((0..HOSTS).filter(hears).map(|to| (to, Input::Record(record.clone()))));
            }
            Output::Persist { id, writes } if !self.broken.contains(&from) => {
                self.disks[from].extend(writes);
                queue.push_back((from, Input::Persisted(id)));
            }
            Output::Check { revision, .. } => {
                queue.push_back((from, Input::Checked { revision, verdict: Ok(()) }));
            }
            Output::Step { vm, step, .. } => {
                self.steps.push((from, step));
                let observed = match step {
                    Step::Build | Step::Stop(_) => Observed::Down { exit: None },
                    Step::Start => Observed::Running(RunPhase::Ready),
                    Step::Remove => Observed::Absent,
                    Step::Apply => Observed::Running(RunPhase::Ready),
                };
                self.found[from].insert(vm.clone(), observed.clone());
                queue.push_back((from, Input::StepDone { vm, step, result: Ok(observed) }));
            }
            Output::Done { op, .. } => {
                self.done.insert(op);
            }
            _ => {}
        }
    }

    /// Ends an agent and starts it again with what was durable; its VMs have run on.
    fn restart(&mut self, host: usize) {
        let mut stored = StoredState::default();
        for write in &self.disks[host] {
            if let Write::Holding(vm, _) = write {
                stored.holdings.retain(|(held, _)| held != vm);
            }
            stored.take(write.clone());
        }
        self.nodes[host] = Node::new(config(host), stored);
        let found = self.found[host].clone().into_iter().collect();
        self.input(host, Input::Start { found });
        self.connect();
    }

    /// Lets all that is due until then happen, in its order.
    fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        let due =
            |mesh: &Self| (0..HOSTS).filter_map(|host| Some((mesh.nodes[host].poll_timeout()?, host))).min();
        while let Some((at, host)) = due(self).filter(|(at, _)| *at <= until) {
            self.now_ms = at.max(self.now_ms);
            self.input(host, Input::Timeout);
        }
        self.now_ms = until;
    }

    /// Builds a VM on each host and starts them all.
    fn with_running_vms() -> Self {
        let mut mesh = Self::new();
        let vms: String =
            (0..HOSTS).map(|host| format!("host vm{host} {{ service_host host{host} }}\n")).collect();
        let (tree, _) = parse("p.mln", format!("global {{ project lab }}\n{vms}"), &NoIncludes);
        let project = resolve(&tree, &Options::default()).project;
        let order = BuildOrder {
            label: Label { owner: name("people"), project: project.name.clone() },
            project,
            blobs: Vec::new(),
            author: "people".to_owned(),
            existing: ExistingProject::Refuse,
            on_failure: OnFailure::Keep,
        };
        mesh.input(0, Input::Operate { op: OpId(1), operation: Operation::Build(Box::new(order)) });
        let id = mesh.nodes[0].projects()[0].id;
        let vms = mesh.nodes[0].vms(id).into_iter().map(|view| view.status.vm).collect();
        let start = Operation::Run { vms, order: RunOrder::Up, pause_ms: 0 };
        mesh.input(0, Input::Operate { op: OpId(2), operation: start });
        mesh.pass(1_000);
        let running =
            |found: &BTreeMap<VmId, Observed>| found.values().any(|vm| matches!(vm, Observed::Running(_)));
        assert!(mesh.found.iter().all(running), "{:?}", mesh.found);
        mesh
    }

    fn sums(&self) -> Vec<(usize, mln_protocol::id::Digest)> {
        self.nodes.iter().map(Node::record_sum).collect()
    }

    fn stop_one(&mut self, at: usize, which: usize, op: u64) {
        let id = self.nodes[at].projects()[0].id;
        let vm = self.nodes[at].vm(id, &name(&format!("vm{which}"))).expect("it was built").status.vm;
        let order = RunOrder::Down(mln_protocol::plan::StopLimit::Now);
        self.input(
            at,
            Input::Operate { op: OpId(op), operation: Operation::Run { vms: vec![vm], order, pause_ms: 0 } },
        );
    }
}

#[test]
fn a_partition_of_ten_failure_timeouts_heals_though_both_sides_were_restarted_meanwhile() {
    let mut mesh = Mesh::with_running_vms();
    mesh.wall([0, 0, 1, 1]);
    mesh.stop_one(0, 1, 3);
    mesh.stop_one(2, 3, 4);
    mesh.pass(5 * limits::FAILURE_MS);
    for host in 0..HOSTS {
        mesh.restart(host);
    }
    mesh.pass(5 * limits::FAILURE_MS);
    assert_ne!(mesh.sums()[0], mesh.sums()[2]);
    mesh.wall([0; HOSTS]);
    mesh.pass(4 * limits::SYNC_MS);
    assert_eq!(BTreeSet::from_iter(mesh.sums()).len(), 1);
}

#[test]
fn no_host_does_anything_to_its_own_vms_because_others_are_silent() {
    let mut mesh = Mesh::with_running_vms();
    mesh.steps.clear();
    mesh.wall([0, 1, 2, 3]);
    mesh.pass(24 * 3_600_000);
    assert_eq!(mesh.steps, []);
    mesh.wall([0; HOSTS]);
    mesh.pass(60_000);
    assert_eq!(mesh.steps, []);
}

#[test]
fn what_a_failing_store_has_dropped_is_not_taken_for_seen_and_comes_again() {
    let mut mesh = Mesh::with_running_vms();
    mesh.broken.insert(2);
    mesh.stop_one(0, 1, 3);
    let heard = mesh.sums();
    mesh.broken.clear();
    // The agent ends over its disk. What it has heard in the meantime is known to nobody there.
    mesh.wall([0, 0, 1, 0]);
    mesh.restart(2);
    assert_ne!(mesh.sums()[2], heard[0]);
    mesh.wall([0; HOSTS]);
    mesh.pass(2 * limits::SYNC_MS);
    assert_eq!(BTreeSet::from_iter(mesh.sums()).len(), 1);
}

#[test]
fn a_poisoned_record_costs_one_slot_and_holds_up_nobody() {
    let mut mesh = Mesh::with_running_vms();
    // The highest counter there is: in its author's own slot, and in one of another host's VM.
    let own = |host: usize| {
        let status = mesh.nodes[host].hosts().into_iter().find(|view| view.key == keys(host).public());
        status.and_then(|view| view.status).expect("every host says how it is")
    };
    let poisoned = Record::Host(mln_protocol::record::HostStatus { counter: u64::MAX, ..own(3) });
    let id = mesh.nodes[0].projects()[0].id;
    let vm = mesh.nodes[0].vm(id, &name("vm0")).expect("it was built").status;
    let foreign = Record::Vm(mln_protocol::record::VmStatus { counter: u64::MAX, ..vm });
    for record in [poisoned, foreign] {
        let record: VerifiedRecord = wire::sign_record(&keys(3), record);
        let liar: PublicKey = keys(3).public();
        for host in 0..3 {
            mesh.input(host, Input::Message { from: liar, message: Message::Records(vec![record.clone()]) });
        }
    }
    mesh.stop_one(1, 0, 3);
    mesh.pass(1_000);
    let stopped = |host: usize| mesh.found[host].values().all(|vm| matches!(vm, Observed::Down { .. }));
    assert!(stopped(0), "the owner does as it was asked");
    for host in 0..3 {
        let seen = mesh.nodes[host].vm(id, &name("vm0")).expect("it is there").status;
        assert_ne!(seen.counter, u64::MAX, "only the owner's word counts");
    }
}
