//! The worlds in which an exploration begins: three hosts that know each other, and one project on all of them.

use std::collections::{BTreeSet, VecDeque};

use mln_protocol::id::{Label, Name, ProjectId};
use mln_protocol::model::{BootOrder, DiskSize, HostAddress, MemoryMib, Platform, Project, Vm};
use mln_protocol::node::{
    BuildOrder, ExistingProject, HandOver, Input, Message, Mutation, NodeConfig, OnFailure, OpId, Operation,
    OwnerHeard, ReviseContent, ReviseOrder, RunOrder, RunningVms,
};
use mln_protocol::record::{Consent, Record, VerifiedRecord};
use mln_protocol::trust::{Domain, Grant, KeyPair, Verb, mesh_of};

use super::ScopeName;
use super::local::{Advanced, Hosts, Job, Local, Platforms};
use super::machine::{Machine, Scope};
use super::search::{Budget, HOSTS, Whole};
use crate::check_decision::Decisions;

/// Where the VMs of the project are at first, in the order of the hosts.
const VMS: [&str; HOSTS] = ["one", "two", "three"];

/// How many things happen at most before an exploration begins.
const SETUP_MAX: usize = 10_000;

/// A world before its parts have numbers.
pub(super) struct First {
    locals: [Local; HOSTS],
    sent: Vec<(usize, usize, Message)>,
    pub(super) left: Budget,
}

impl First {
    pub(super) fn numbered(self, machine: &mut Machine) -> Whole {
        let locals = self.locals.map(|local| machine.local_id(local));
        let sent =
            self.sent.into_iter().map(|(from, to, message)| machine.send(from, to, message).0).collect();
        Whole { locals, sent: machine.set_number(sent), left: self.left, asked: 0 }
    }
}

/// Makes the first world of a scope. The error says what did not come about.
pub(super) fn prepare(
    name: ScopeName,
    mutation: Option<Mutation>,
    ballots_max: u64,
) -> Result<(Scope, Decisions, First), &'static str> {
    let configs = (0..HOSTS).map(|host| config(host, mutation)).collect();
    let mut setup = Setup::new(Hosts { configs, platforms: Platforms::AtAnyTime });
    setup.asks(0, build(project([0, 1, 2], [64; HOSTS])));
    let projects = setup.locals[0].node.projects();
    let project_id = projects.first().ok_or("the project was not built")?.id;
    let mut oracle = Decisions::default();
    for record in setup.locals[0].disk.load().records {
        if let Record::Commit(commit) = &**record {
            oracle.note(commit, &BTreeSet::new());
        }
    }
    let left = Budget { crashes: 0, lates: 0, failures: 0 };
    if name == ScopeName::Decision {
        setup.hosts.platforms = Platforms::Never;
        let parent = project_id.0;
        let change = |memory| revise(project_id, project([0, 1, 2], memory));
        let operations =
            vec![(0, change([128, 64, 64])), (1, change([64, 128, 64])), (2, change([64, 64, 128]))];
        let first = First { locals: setup.locals, sent: Vec::new(), left };
        let scope = Scope {
            hosts: setup.hosts,
            operations,
            spare: Some(2),
            takeover: None,
            parent,
            project: project_id,
            vm: None,
            ballots_max,
            content_max: u64::MAX,
        };
        return Ok((scope, oracle, first));
    }
    let views = setup.locals[0].node.vms(project_id);
    let vm = views.into_iter().find(|view| view.status.vm.name == name_of(VMS[0])).ok_or("there is no VM")?;
    let vm = vm.status.vm;
    setup.asks(0, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    setup.tell_all();
    // That it moves is decided; either nobody but the coordinator has heard of it, or the copy is complete, and its owner
    // has not heard of that.
    setup.withholds = Some(if name == ScopeName::HandOver { decides } else { is_ready });
    setup.asks(2, revise(project_id, project([1, 1, 2], [64; HOSTS])));
    let heads = setup.locals[2].node.heads(project_id).ok_or("the project is not known")?;
    let moved = heads.head();
    if setup.withheld.is_empty() {
        return Err("the move of the VM has not come so far");
    }
    if let Some(commit) = setup.locals[2].node.revision(moved) {
        oracle.note(commit, &BTreeSet::new());
    }
    let operations = match name {
        ScopeName::Decision | ScopeName::HandOver | ScopeName::Claim => Vec::new(),
        ScopeName::Decline => vec![(2, revise(project_id, project([0, 1, 2], [64; HOSTS])))],
        ScopeName::Takeover => vec![(
            1,
            Operation::TakeOver { vm: vm.clone(), owner: OwnerHeard::Force, author: "people".to_owned() },
        )],
    };
    let first = First { locals: setup.locals, sent: setup.withheld, left };
    let scope = Scope {
        hosts: setup.hosts,
        operations,
        spare: None,
        takeover: (name == ScopeName::Takeover).then_some(0),
        parent: moved,
        project: project_id,
        vm: Some(vm),
        ballots_max,
        content_max: 3,
    };
    Ok((scope, oracle, first))
}

/// Hosts before the exploration: all that is sent arrives, and all jobs are done.
struct Setup {
    hosts: Hosts,
    locals: [Local; HOSTS],
    due: VecDeque<(usize, usize, Message)>,
    /// Which messages don't arrive from now on.
    withholds: Option<fn(&Message) -> bool>,
    withheld: Vec<(usize, usize, Message)>,
    operations: u64,
}

impl Setup {
    fn new(hosts: Hosts) -> Self {
        let locals: [Local; HOSTS] = std::array::from_fn(|host| hosts.fresh(host).local);
        let (due, withheld) = (VecDeque::new(), Vec::new());
        let mut setup = Self { hosts, locals, due, withholds: None, withheld, operations: 100 };
        setup.tell_all();
        setup
    }

    /// Everybody hears all that anybody knows, also of how hosts and VMs are.
    fn tell_all(&mut self) {
        let known: Vec<VerifiedRecord> =
            self.locals.iter().flat_map(|local| local.disk.load().records).collect();
        for host in 0..HOSTS {
            self.gets(host, known.iter().cloned().map(Input::Record).collect());
        }
        self.settle();
    }

    fn asks(&mut self, host: usize, operation: Operation) {
        self.operations += 1;
        self.gets(host, vec![Input::Operate { op: OpId(self.operations), operation }]);
        self.settle();
    }

    fn gets(&mut self, host: usize, inputs: Vec<Input>) {
        let local = self.locals[host].clone();
        let Advanced { local, sent, .. } = self.hosts.advance(host, local, inputs, None);
        self.locals[host] = local;
        for (to, message) in sent {
            let Some(to) = self.hosts.index(to) else { continue };
            if self.withholds.is_some_and(|withheld| withheld(&message)) {
                self.withheld.push((host, to, message));
            } else {
                self.due.push_back((host, to, message));
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..SETUP_MAX {
            if let Some((from, to, message)) = self.due.pop_front() {
                let from = self.hosts.key(from);
                self.gets(to, vec![Input::Message { from, message }]);
            } else if let Some(host) = (0..HOSTS).find(|&host| !self.locals[host].jobs.is_empty()) {
                let mut local = self.locals[host].clone();
                let content = match &local.jobs[0].1 {
                    Job::Pull(vm, from, _) => {
                        self.hosts.index(*from).and_then(|from| self.locals[from].disk.number(vm))
                    }
                    Job::Step(..) | Job::Seal(_) | Job::ReadCopy(_) => None,
                };
                let input = local.finish(0, content, true);
                self.locals[host] = local;
                self.gets(host, vec![input]);
            } else {
                break;
            }
        }
    }
}

/// Whether a message brings a decision that follows another.
fn decides(message: &Message) -> bool {
    let Message::Records(records) = message else { return false };
    records
        .iter()
        .any(|record| matches!(&***record, Record::Commit(commit) if commit.revision.parent.is_some()))
}

/// Whether a message tells the owner of a VM that its copy is complete.
fn is_ready(message: &Message) -> bool {
    matches!(message, Message::HandOver(HandOver::Ready(_)))
}

fn keys(host: usize) -> KeyPair {
    KeyPair::from_secret([host as u8 + 2; 32])
}

fn name_of(text: &str) -> Name {
    Name::parse(text).expect("letters and digits are a name")
}

fn config(host: usize, mutation: Option<Mutation>) -> NodeConfig {
    let root = KeyPair::from_secret([1; 32]);
    let name = name_of(&format!("host{host}"));
    let grant = Grant {
        mesh: mesh_of(root.public()),
        subject: keys(host).public(),
        name: Some(name.clone()),
        verbs: Verb::ALL.into_iter().collect(),
        passes: 1,
        not_after_unix_ms: None,
        scope: Default::default(),
    };
    let chain = vec![root.sign(Domain::Grant, grant.to_bytes())];
    NodeConfig {
        platforms: vec![Platform::Uml],
        memory_limit: MemoryMib(512),
        mutation,
        ..NodeConfig::new(keys(host), name, chain)
    }
}

/// A VM on each of these hosts, with so much memory.
fn project(hosts: [usize; HOSTS], memory: [u32; HOSTS]) -> Project {
    let vm = |index: usize| Vm {
        name: name_of(VMS[index]),
        platform: Platform::Uml,
        service_host: Some(HostAddress(format!("host{}", hosts[index]))),
        template: None,
        memory: MemoryMib(memory[index]),
        vcpus: 1,
        disk: DiskSize::Template,
        boot_order: BootOrder(99),
        networks: Vec::new(),
        users: Vec::new(),
        files: Vec::new(),
        startup: Vec::new(),
        nameservers: Vec::new(),
        modules: Vec::new(),
        setup: Default::default(),
        scheduling: Default::default(),
    };
    let vms = (0..HOSTS).map(vm).collect();
    Project { name: name_of("lab"), vms, switches: Vec::new(), hooks: Default::default() }
}

fn build(project: Project) -> Operation {
    Operation::Build(Box::new(BuildOrder {
        label: Label { owner: name_of("people"), project: project.name.clone() },
        project,
        blobs: Vec::new(),
        author: "people".to_owned(),
        existing: ExistingProject::Refuse,
        on_failure: OnFailure::Keep,
    }))
}

fn revise(id: ProjectId, project: Project) -> Operation {
    Operation::Revise(Box::new(ReviseOrder {
        project: id,
        content: ReviseContent::Definition { project, blobs: Vec::new() },
        author: "people".to_owned(),
        reason: "it changes".to_owned(),
        consent: Consent::Majority,
        running: RunningVms::Stop,
        from_head: None,
        keep_removed_ms: 0,
    }))
}
