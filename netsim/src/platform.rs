//! The simulated platform: steps take their time, fail now and then, and their effect outlives the agent.

use mln_protocol::id::{Digest, Name, VmId};
use mln_protocol::model::{Fragment, Vm};
use mln_protocol::node::{Input, Node};
use mln_protocol::plan::{Observed, RunPhase, Step, StopLimit};
use mln_protocol::record::{ExitStatus, Later, Nat, Record, VmState};
use mln_protocol::wire;

use crate::blocks::{BLOCKS, Blocks};
use crate::disk::SimulatedVm;
use crate::fault::Fault;
use crate::host::Age;
use crate::options::FAULTS_MS;
use crate::world::{Event, MEMORY_MIB, World};

/// Of a thousand definitions, how many a guest that runs can't be given without a start.
const TAKES_A_START: u64 = 250;
/// A kind of record that no program knows.
const KIND_TO_COME: u32 = 1_000;

impl World {
    pub(crate) fn begin_step(&mut self, node: usize, vm: VmId, step: Step, fragment: &Fragment) {
        let life = self.hosts[node].life;
        let (name, key) = (self.hosts[node].name.clone(), self.hosts[node].keys.public());
        self.note_step(node, &vm, step);
        self.oracle.check_step(&name, key, &vm, step, fragment, self.now_ms);
        let definition = fragment.vms.iter().find(|d| d.name == vm.name).cloned().map(Box::new);
        let ms = match step {
            Step::Build => self.lot.between(50, 500),
            Step::Start | Step::Remove | Step::Apply => self.lot.between(20, 100),
            Step::Stop(StopLimit::After(_)) => self.lot.between(100, 2_000),
            Step::Stop(StopLimit::Now) => self.lot.between(10, 50),
        };
        let at = self.now_ms + ms;
        self.at(at, Event::StepEnds { node, life, vm, step, definition });
    }

    /// A step's effect on the disk stays even if the agent that began it is gone.
    pub(crate) fn step_ends(
        &mut self,
        node: usize,
        life: u32,
        vm: VmId,
        step: Step,
        definition: Option<Box<Vm>>,
    ) {
        let asleep_ms = self.hosts[node].asleep_until_ms;
        if asleep_ms > self.now_ms {
            return self.at(asleep_ms, Event::StepEnds { node, life, vm, step, definition });
        }
        let alive = self.hosts[node].life == life && self.hosts[node].node.is_some();
        if !alive && step == Step::Build {
            // It was being made in the agent's own process.
            self.tally.faults.add(Fault::CutBuild);
            return;
        }
        let fails = self.now_ms < FAULTS_MS
            && matches!(step, Step::Build | Step::Start | Step::Apply)
            && self.lot.chance(self.options.rate(Fault::StepFails));
        if fails {
            self.tally.faults.add(Fault::StepFails);
            if alive {
                let result = Err("no space left on device".to_owned());
                self.input(node, Input::StepDone { vm, step, result });
            }
            return;
        }
        if step == Step::Apply && self.lot.chance(TAKES_A_START) {
            if alive {
                self.input(node, Input::NotLive { vm });
            }
            return;
        }
        let observed = self.take_effect(node, &vm, step, definition);
        if alive {
            self.input(node, Input::StepDone { vm, step, result: Ok(observed) });
        }
    }

    fn take_effect(&mut self, node: usize, vm: &VmId, step: Step, definition: Option<Box<Vm>>) -> Observed {
        let memory_mib = definition.as_ref().map_or(0, |definition| definition.memory.0);
        let disk = &mut self.hosts[node].disk;
        // Who is told to stop has no disk to take up: its own may have gone away meanwhile.
        if matches!(step, Step::Start | Step::Remove) {
            disk.take_up(vm, memory_mib);
        }
        if step == Step::Start {
            self.check_memory(node);
        }
        let disk = &mut self.hosts[node].disk;
        if step == Step::Remove {
            disk.vms.remove(vm);
            return Observed::Absent;
        }
        if step == Step::Build && !disk.vms.contains_key(vm) {
            let built = SimulatedVm {
                observed: Observed::Down { exit: None },
                memory_mib,
                starts: 0,
                content: Blocks::made(self.lot.between(1, u64::MAX / 2)),
                guest: None,
            };
            self.hosts[node].disk.vms.insert(vm.clone(), built);
            self.check_memory(node);
        }
        let Some(found) = self.hosts[node].disk.vms.get_mut(vm) else { return Observed::Absent };
        match step {
            Step::Build | Step::Remove => {}
            Step::Apply => {
                if matches!(found.observed, Observed::Running(_)) {
                    found.guest = definition;
                }
            }
            Step::Start => {
                if !matches!(found.observed, Observed::Running(_)) {
                    found.guest = definition;
                    found.observed = Observed::Running(RunPhase::Booting);
                    found.starts += 1;
                    let start = found.starts;
                    let ready = self.now_ms + self.lot.between(500, 3_000);
                    self.at(ready, Event::GuestReady { node, vm: vm.clone(), start });
                    if self.now_ms < FAULTS_MS && self.lot.chance(self.options.rate(Fault::GuestEnds)) {
                        let ends = ready + self.lot.between(1, 30_000);
                        self.at(ends, Event::GuestEnds { node, vm: vm.clone(), start });
                    }
                }
            }
            Step::Stop(_) => {
                if matches!(found.observed, Observed::Running(_)) {
                    found.content.write(self.bytes.index(BLOCKS));
                    found.observed = Observed::Down { exit: Some(ExitStatus::Code(0)) };
                }
            }
        }
        self.hosts[node].disk.vms.get(vm).map_or(Observed::Absent, |found| found.observed.clone())
    }

    /// S5: what a host has of VMs fits into what it lends. Only its agent knows which of them are kept disks, so it is looked
    /// at while that runs.
    fn check_memory(&mut self, node: usize) {
        if self.hosts[node].node.is_none() {
            return;
        }
        let used = self.hosts[node].disk.memory_mib() - self.kept_mib(node);
        let host = &self.hosts[node];
        let each = |(vm, found): (&VmId, &SimulatedVm)| {
            format!("{}@{} {}", vm.name, vm.birth.short(), found.memory_mib)
        };
        let all: Vec<String> = host.disk.vms.iter().map(each).collect();
        let name = format!(
            "{} ({}; it counts {:?})",
            host.name,
            all.join(", "),
            host.node.as_ref().map(Node::memory)
        );
        self.oracle.check_memory(&name, host.keys.public(), used, MEMORY_MIB);
    }

    /// Returns the memory of the VMs whose disks a host only keeps: none of them can be started as it is.
    fn kept_mib(&self, node: usize) -> u32 {
        let host = &self.hosts[node];
        let vms = host.node.iter().flat_map(Node::owned_vms);
        let kept = vms.filter(|(.., status)| status.state == VmState::Kept).map(|(id, ..)| id);
        kept.filter_map(|id| host.disk.vms.get(id)).map(|vm| vm.memory_mib).sum()
    }

    pub(crate) fn guest(&mut self, node: usize, vm: VmId, start: u64, observed: Observed) {
        let ready = observed == Observed::Running(RunPhase::Ready);
        let speaks_of_nat = self.options.has(Fault::OldAgent) && self.hosts[node].age == Age::Current;
        let Some(found) = self.hosts[node].disk.vms.get_mut(&vm) else { return };
        if found.starts == start && matches!(found.observed, Observed::Running(_)) {
            found.observed = observed.clone();
            self.input(node, Input::Observed { vm: vm.clone(), observed });
            if ready && speaks_of_nat {
                // What makes the status a record of the newest kind.
                self.input(node, Input::Nat { vm: vm.clone(), nat: Nat::NoRoute });
                // And a record of a kind that comes after those: nobody can read it, and all must have it in the end.
                // The same of one that only has the head of a kind that all know, under a slot that this has not.
                let slot = Digest::of(vm.to_string().as_bytes()).0;
                for kind in [KIND_TO_COME, wire::GAUGES_KIND] {
                    let later = Later { kind, slot, counter: start, rest: Vec::new() };
                    let record = wire::sign_record(&self.hosts[node].keys, Record::Later(later));
                    self.input(node, Input::Record(record));
                }
            }
            if ready {
                let values = vec![(Name::parse("starts").expect("letters are a name"), start as f64)];
                self.input(node, Input::Gauges { vm, values });
            }
        }
    }
}
