//! One host as the explorer has it: its node, its disk and what its platform is about to do, as one value.
//!
//! What a host does depends on this value and on what happens to it, so each pair is computed once, however many worlds
//! it is part of.

use std::collections::VecDeque;

use mln_protocol::id::{Digest, PublicKey, VmId};
use mln_protocol::node::{Input, Message, Node, NodeConfig, Output, PullRound, SetTimer};
use mln_protocol::plan::{Observed, RunPhase, Step};
use mln_protocol::record::{Record, VerifiedRecord};
use mln_protocol::time::Now;

use crate::blocks::{Blocks, Copy};
use crate::disk::{Disk, SimulatedVm};

/// How far a host's clock jumps when it is late: farther than any coordinator waits.
pub(super) const LATE_MS: u64 = 60_000;

/// How many inputs of its own one thing that happens may bring a host.
const OWN_INPUTS_MAX: usize = 1_000;

/// Something that the platform is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Step(VmId, Step),
    Pull(VmId, PublicKey, PullRound),
    Seal(VmId),
    ReadCopy(VmId),
}

impl Job {
    fn name(&self) -> String {
        match self {
            Self::Step(vm, step) => format!("{step:?} {}", vm.name),
            Self::Pull(vm, _, round) => format!("pull {} ({round:?})", vm.name),
            Self::Seal(vm) => format!("seal {}", vm.name),
            Self::ReadCopy(vm) => format!("read the copy of {}", vm.name),
        }
    }
}

/// A host.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) node: Node,
    pub(super) disk: Disk,
    /// By name, so that the order in which they were wanted says nothing.
    pub(super) jobs: Vec<(String, Job)>,
    pub(super) clock_ms: u64,
}

/// What came of something that happened to a host.
pub(super) struct Advanced {
    pub(super) local: Local,
    pub(super) sent: Vec<(PublicKey, Message)>,
    /// How many writes it asked for: before each of them it may crash.
    pub(super) writes: u8,
}

/// Whether the platform does what it is told, at its own time, or nothing at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Platforms {
    /// Steps are jobs, each at any later time.
    AtAnyTime,
    /// Steps are never done.
    Never,
}

/// What every host of a scope is like.
pub(super) struct Hosts {
    pub(super) configs: Vec<NodeConfig>,
    pub(super) platforms: Platforms,
}

impl Hosts {
    pub(super) fn key(&self, host: usize) -> PublicKey {
        self.configs[host].keys.public()
    }

    pub(super) fn index(&self, key: PublicKey) -> Option<usize> {
        self.configs.iter().position(|config| config.keys.public() == key)
    }

    /// A host that has just been installed.
    pub(super) fn fresh(&self, host: usize) -> Advanced {
        self.started(host, Disk::default(), 0)
    }

    /// A host whose agent has come back: it knows what is on its disk. Its VMs have run on.
    pub(super) fn started(&self, host: usize, disk: Disk, clock_ms: u64) -> Advanced {
        let node = Node::new(self.configs[host].clone(), disk.load());
        let found = disk.found();
        let mut inputs = vec![Input::Start { found }];
        let peers = (0..self.configs.len()).filter(|&peer| peer != host);
        inputs.extend(peers.map(|peer| Input::Connected(self.key(peer))));
        let local = Local { node, disk, jobs: Vec::new(), clock_ms };
        self.advance(host, local, inputs, None)
    }

    /// Gives a host inputs, one after the other, and all that it says to itself. With `cut`, it crashes before this one
    /// of its writes is durable: what had left by then has left.
    pub(super) fn advance(
        &self,
        host: usize,
        mut local: Local,
        inputs: Vec<Input>,
        cut: Option<u8>,
    ) -> Advanced {
        let mut inputs = VecDeque::from(inputs);
        let (mut sent, mut writes) = (Vec::new(), 0);
        let now = Now { mono_ms: local.clock_ms, unix_ms: 0 };
        for _ in 0..OWN_INPUTS_MAX {
            let mut crashed = false;
            while let Some(output) = local.node.poll_output() {
                match output {
                    Output::Persist { id, writes: wanted } => {
                        crashed |= cut == Some(writes);
                        writes += 1;
                        if !crashed {
                            local.disk.apply(wanted);
                            inputs.push_back(Input::Persisted(id));
                        }
                    }
                    Output::Send { to, message } if to == self.key(host) => {
                        inputs.push_back(Input::Message { from: to, message });
                    }
                    Output::Send { to, message } => sent.extend(told(message).map(|message| (to, message))),
                    Output::Broadcast(record) => {
                        let all = (0..self.configs.len()).filter(|&peer| peer != host);
                        let message = told(Message::Records(vec![record]));
                        sent.extend(all.filter_map(|peer| Some((self.key(peer), message.clone()?))));
                    }
                    Output::Check { revision, .. } => {
                        inputs.push_back(Input::Checked { revision, verdict: Ok(()) });
                    }
                    other => self.platform(&mut local, other),
                }
            }
            if crashed {
                let mut again = self.started(host, local.disk, local.clock_ms);
                again.sent.extend(sent);
                again.writes = writes;
                return again;
            }
            match inputs.pop_front() {
                Some(input) => local.node.handle(now, input),
                None => break,
            }
        }
        Advanced { local, sent, writes }
    }

    fn platform(&self, local: &mut Local, output: Output) {
        let job = match output {
            Output::Step { vm, step, .. } => Job::Step(vm, step),
            Output::Pull { vm, from, round } => Job::Pull(vm, from, round),
            Output::Seal { vm } => Job::Seal(vm),
            Output::ReadCopy { vm } => Job::ReadCopy(vm),
            Output::Shelve { vm } => return local.disk.shelve(&vm),
            Output::DropCopy { vm } => {
                local.disk.copies.remove(&vm);
                return;
            }
            _ => return,
        };
        let name = job.name();
        if self.platforms == Platforms::AtAnyTime && !local.jobs.iter().any(|(known, _)| *known == name) {
            local.jobs.push((name, job));
            local.jobs.sort_by(|a, b| a.0.cmp(&b.0));
        }
    }
}

/// What is left of a message: what hosts say of themselves and compare with each other decides nothing.
fn told(message: Message) -> Option<Message> {
    match message {
        Message::Sync(_) | Message::Want(_) => None,
        Message::Records(records) => {
            let records: Vec<_> = records.into_iter().filter(decides).collect();
            (!records.is_empty()).then_some(Message::Records(records))
        }
        other => Some(other),
    }
}

/// Whether a record is a decision, or says who owns a VM.
pub(super) fn decides(record: &VerifiedRecord) -> bool {
    matches!(***record, Record::Commit(_) | Record::Link(_))
}

impl Local {
    pub(super) fn now(&self) -> Now {
        Now { mono_ms: self.clock_ms, unix_ms: 0 }
    }

    /// Lets a timer fire.
    pub(super) fn fire(&mut self, timer: &SetTimer) {
        let now = self.now();
        self.node.fire(now, timer);
    }

    /// Has a job done, and says what the node is told. `content` is what is on the disk that is copied from.
    pub(super) fn finish(&mut self, index: usize, content: Option<u64>, goes_well: bool) -> Input {
        let (_, job) = self.jobs.remove(index);
        let failed = || "it went wrong".to_owned();
        match job {
            Job::Step(vm, step) if goes_well => {
                let observed = self.take_effect(&vm, step);
                Input::StepDone { vm, step, result: Ok(observed) }
            }
            Job::Step(vm, step) => Input::StepDone { vm, step, result: Err(failed()) },
            Job::Pull(vm, _, _) => {
                let result = content.filter(|_| goes_well).ok_or_else(failed);
                if let (Ok(content), false) = (&result, self.disk.vms.contains_key(&vm)) {
                    self.disk.copies.insert(vm.clone(), Copy::shelved(Blocks::made(*content)));
                }
                Input::Pulled { vm, result: result.map(|_| 0) }
            }
            Job::Seal(vm) => {
                let root = self.disk.number(&vm).filter(|_| goes_well).map(root);
                Input::Sealed { vm, result: root.ok_or_else(failed) }
            }
            Job::ReadCopy(vm) => {
                let root = self.disk.number(&vm).filter(|_| goes_well).map(root);
                Input::CopyRead { vm, result: root.ok_or_else(failed) }
            }
        }
    }

    fn take_effect(&mut self, vm: &VmId, step: Step) -> Observed {
        let disk = &mut self.disk;
        let down = Observed::Down { exit: None };
        if step != Step::Build {
            disk.take_up(vm, 0);
        }
        match step {
            Step::Remove => {
                disk.vms.remove(vm);
                return Observed::Absent;
            }
            Step::Build if disk.vms.contains_key(vm) => {}
            Step::Build => {
                let built = SimulatedVm {
                    observed: down,
                    memory_mib: 0,
                    starts: 0,
                    content: Blocks::made(1),
                    guest: None,
                };
                disk.vms.insert(vm.clone(), built);
            }
            Step::Start => {
                if let Some(found) = disk.vms.get_mut(vm) {
                    found.observed = Observed::Running(RunPhase::Ready);
                }
            }
            Step::Apply => {}
            Step::Stop(_) => {
                if let Some(found) = disk.vms.get_mut(vm).filter(|found| is_running(&found.observed)) {
                    found.content = Blocks::made(found.content.number() + 1);
                    found.observed = down;
                }
            }
        }
        disk.vms.get(vm).map_or(Observed::Absent, |found| found.observed.clone())
    }

    /// A digest of all of it.
    pub(super) fn sum(&self) -> Digest {
        let jobs: Vec<&String> = self.jobs.iter().map(|(name, _)| name).collect();
        let rest = format!("{:?}{:?}{jobs:?}{}", self.node.state_sum().0, self.disk, self.clock_ms);
        Digest::of(rest.as_bytes())
    }
}

pub(super) fn is_running(observed: &Observed) -> bool {
    matches!(observed, Observed::Running(_))
}

fn root(content: u64) -> Digest {
    Digest([u8::try_from(content).unwrap_or(u8::MAX); 32])
}
