//! Whatever happens to it, in whatever order: a node doesn't panic, and does a bounded amount.
//!
//! `make fuzz-node RUNS=100000` runs it. The bytes are a script: three nodes talk to each other, and each byte says
//! what happens next: which message arrives, is lost or comes again, which write becomes durable, who crashes, what an
//! operator asks for, what a liar with a valid key sends. So most scripts go deep instead of being refused.
//!
//! Half of the scripts give nodes values that are verified: whatever a liar says is signed with its key. In the other half
//! all that goes from one host to another goes as bytes, which scripts spoil: whatever is accepted then was signed.

#![no_main]

mod guest;
mod liar;
mod script;

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mln_protocol::id::{Digest, Label, Name, PublicKey, VmId};
use mln_protocol::model::{Blob, Definition, Fragment, HostAddress, MemoryMib, Platform, Project};
use mln_protocol::node::{
    BuildOrder, ExistingProject, HandOver, Input, Intention, Message, Node, NodeConfig, OnFailure, OpId, Operation,
    Output, OwnerHeard, ReviseContent, ReviseOrder, Room, RunOrder, RunVerdict, RunningVms, StoredState,
    SyncContent, SyncRange, Write,
};
use mln_protocol::plan::{Observed, RunPhase, StopLimit};
use mln_protocol::record::{Answered, Ballot, Consent, Epoch, Nat, Promise, RecordKey, VerifiedRecord};
use mln_protocol::time::Now;
use mln_protocol::trust::{
    Attestation, Domain, Grant, GuestRequest, GuestRight, KeyPair, Signed, Verb, Verified, Wanted, mesh_of,
};
use mln_protocol::{lang, resolve, wire};

/// How many hosts there are; the last one also lies.
const HOSTS: usize = 3;

/// What may wait to happen; the oldest is lost.
const PENDING_MAX: usize = 256;

/// How many things one input may make a node do.
const OUTPUTS_MAX: usize = 2_000;

/// How many inputs each script gives to nodes at least, beside those with which they came to know each other.
const INPUTS_MIN: u64 = 10;

/// After how many scripts a line says what was done so far.
const REPORT: u64 = 1 << 16;

/// The first three are one project, whose VM moves, and may do so by itself.
const PROJECTS: [&str; 4] = [
    "global { project a }\nhost one { service_host host0 }\nhost two { service_host host1\n policy p { grace 1s\n may move host0 host1 } }\n",
    "global { project a }\nhost one { service_host host2\n memory 128M }\n",
    "global { project a }\nhost one { service_host host1 }\nhost two { service_host host0 }\n",
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

fn definition(text: &str) -> Arc<[u8]> {
    let source = Some(text.to_owned());
    let definition =
        Definition { source, variables: Vec::new(), files: Vec::new(), templates: Vec::new() };
    wire::encode_definition(&definition).into()
}

fn make_keys(index: usize) -> KeyPair {
    KeyPair::from_secret([index as u8 + 2; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("letters and digits are a name")
}

fn root() -> KeyPair {
    KeyPair::from_secret([1; 32])
}

fn config(index: usize) -> NodeConfig {
    let (root, keys) = (root(), make_keys(index));
    let grant = Grant {
        mesh: mesh_of(root.public()),
        subject: keys.public(),
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
        ..NodeConfig::new(keys, name(&format!("host{index}")), chain)
    }
}

/// What survives a crash.
#[derive(Clone, Default)]
struct Disk(Vec<Write>);

impl Disk {
    /// Starts from the writes, oldest first, as a store would have them.
    fn load(&self) -> StoredState {
        let mut stored = StoredState::default();
        for write in &self.0 {
            match write {
                Write::Holding(vm, _) => stored.holdings.retain(|(other, _)| other != vm),
                Write::Decision(note) => stored.decisions.retain(|other| other.parent != note.parent),
                _ => {}
            }
            stored.take(write.clone());
        }
        stored
    }
}

/// What every script begins with: made once, with all the signatures.
struct Prepared {
    root: PublicKey,
    configs: Vec<NodeConfig>,
    projects: Vec<Project>,
    /// What each of them was submitted as, encoded.
    definitions: Vec<Arc<[u8]>>,
    nodes: Vec<Node>,
    disks: Vec<Disk>,
    heard: Vec<VerifiedRecord>,
}

impl Prepared {
    /// Three hosts that have come to know each other.
    fn new() -> Self {
        let mut prepared = Self {
            root: root().public(),
            configs: (0..HOSTS).map(config).collect(),
            projects: PROJECTS.iter().map(|text| project(text)).collect(),
            definitions: PROJECTS.iter().map(|text| definition(text)).collect(),
            nodes: (0..HOSTS).map(|index| Node::new(config(index), StoredState::default())).collect(),
            disks: vec![Disk::default(); HOSTS],
            heard: Vec::new(),
        };
        let mut script = Script::new(&prepared, &[]);
        for index in 0..HOSTS {
            script.input(index, Input::Start { found: Vec::new() });
            for peer in (0..HOSTS).filter(|&peer| peer != index) {
                script.input(index, Input::Connected(script.key_of(peer)));
            }
        }
        while let Some(next) = script.pending.pop_front() {
            script.deliver(next);
        }
        let Script { nodes, disks, heard, .. } = script;
        (prepared.nodes, prepared.disks, prepared.heard) = (nodes, disks, heard);
        prepared
    }
}

/// What was done in all scripts of this process.
#[derive(Default)]
struct Totals {
    scripts: Cell<u64>,
    inputs: Cell<u64>,
    /// The fewest inputs of one script; and of how many scripts all went as bytes, how many of those were spoilt, and how
    /// many of the spoilt ones were still accepted, by themselves or as another message.
    fewest: Cell<u64>,
    as_bytes: Cell<u64>,
    spoilt: Cell<u64>,
    accepted: Cell<u64>,
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

thread_local! {
    static PREPARED: Prepared = Prepared::new();
    static TOTALS: Totals = Totals::default();
}

/// Something on its way.
#[derive(Clone)]
enum Due {
    Input(Input),
    /// A message as bytes, from this host.
    Bytes(PublicKey, Vec<u8>),
    /// A record as bytes, by gossip.
    Gossip(Signed),
}

struct Script<'a> {
    prepared: &'a Prepared,
    bytes: &'a [u8],
    /// Whether what goes from one host to another goes as bytes.
    as_bytes: bool,
    nodes: Vec<Node>,
    disks: Vec<Disk>,
    pending: VecDeque<(usize, Due)>,
    heard: Vec<VerifiedRecord>,
    /// Of all that was signed, in scripts that go as bytes.
    signed: BTreeSet<Digest>,
    digests: Vec<Digest>,
    vms: Vec<VmId>,
    now_ms: u64,
    op: u64,
    /// How many keys of guests were attested, and how many requests were signed with them.
    boots: u64,
    requests: u64,
    inputs: u64,
    spoilt: u64,
    accepted: u64,
}

impl Totals {
    fn count(&self, script: &Script<'_>) {
        add(&self.scripts, 1);
        add(&self.inputs, script.inputs);
        add(&self.as_bytes, script.as_bytes.into());
        add(&self.spoilt, script.spoilt);
        add(&self.accepted, script.accepted);
        let scripts = self.scripts.get();
        self.fewest.set(if scripts == 1 { script.inputs } else { self.fewest.get().min(script.inputs) });
        if scripts.is_multiple_of(REPORT) {
            eprintln!(
                "scripts: {scripts}, {} of them as bytes; inputs: {}, at least {} in each; {} spoilt, of which {} still \
                 said something",
                self.as_bytes.get(),
                self.inputs.get(),
                self.fewest.get(),
                self.spoilt.get(),
                self.accepted.get(),
            );
        }
    }
}

fuzz_target!(|data: &[u8]| {
    PREPARED.with(|prepared| {
        let mut script = Script::new(prepared, data);
        script.play();
        TOTALS.with(|totals| totals.count(&script));
    });
});
