use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::id::{Label, ProjectId};
use crate::lang::{NoIncludes, parse};
use crate::model::Project;
use crate::node::{
    BuildOrder, ExistingProject, Holding, Input, NodeConfig, OnFailure, OpId, Operation, Outcome, Output,
    ReviseContent, ReviseOrder, RunOrder, RunningVms, StoredState, Write, limits,
};
use crate::plan::StopLimit;
use crate::record::{Consent, ExitStatus, RecordKey, VerifiedRecord};
use crate::resolve::{self, Options};
use crate::sample::{self, name};

/// One host alone, whose disk is kept, and whose steps end when a test says so.
struct Host {
    node: Node,
    now_ms: u64,
    steps: Vec<(String, Step)>,
    outcomes: Vec<Outcome>,
    records: BTreeMap<RecordKey, VerifiedRecord>,
    fragments: BTreeMap<Digest, Arc<Fragment>>,
    holdings: BTreeMap<VmId, Holding>,
    projects: Vec<ProjectId>,
}

const LAB: &str = "global { project lab }\nhost one { memory 64M }\nhost two { memory 64M }";

fn project(text: &str) -> Project {
    let (tree, _) = parse("p.mln", text.to_owned(), &NoIncludes);
    let resolved = resolve::resolve(&tree, &Options::default());
    assert_eq!(resolved.diagnostics, []);
    resolved.project
}

fn config() -> NodeConfig {
    sample::member(sample::keys(1), "oslo", 1024)
}

impl Host {
    /// A host on which both machines of the lab are ready.
    fn with_lab() -> Self {
        let node = Node::new(config(), StoredState::default());
        let mut host = Self {
            node,
            now_ms: 0,
            steps: Vec::new(),
            outcomes: Vec::new(),
            records: BTreeMap::new(),
            fragments: BTreeMap::new(),
            holdings: BTreeMap::new(),
            projects: Vec::new(),
        };
        host.input(Input::Start { found: Vec::new() });
        let order = BuildOrder {
            label: Label { owner: name("root"), project: name("lab") },
            project: project(LAB),
            blobs: Vec::new(),
            author: String::new(),
            existing: ExistingProject::Refuse,
            on_failure: OnFailure::Undo,
        };
        host.operate(1, Operation::Build(Box::new(order)));
        for vm in ["one", "two"] {
            host.ends(vm, Step::Build, Ok(Observed::Down { exit: None }));
        }
        let vms = ["one", "two"].map(|vm| host.id(vm)).to_vec();
        host.operate(2, Operation::Run { vms, order: RunOrder::Up, pause_ms: 0 });
        for vm in ["one", "two"] {
            host.ends(vm, Step::Start, Ok(Observed::Running(RunPhase::Booting)));
            host.is_seen(vm, Observed::Running(RunPhase::Ready));
        }
        assert_eq!(host.outcomes, [Outcome::Done, Outcome::Done]);
        assert_eq!(host.steps, [], "what was started has its definition");
        host.outcomes.clear();
        host
    }

    fn input(&mut self, input: Input) {
        let me = self.node.key();
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            self.node.handle(Now { mono_ms: self.now_ms, unix_ms: self.now_ms }, input);
            while let Some(output) = self.node.poll_output() {
                match output {
                    Output::Persist { id, writes } => {
                        writes.into_iter().for_each(|write| self.keep(write));
                        queue.push_back(Input::Persisted(id));
                    }
                    Output::Send { to, message } if to == me => {
                        queue.push_back(Input::Message { from: me, message });
                    }
                    Output::Check { revision, .. } => {
                        queue.push_back(Input::Checked { revision, verdict: Ok(()) });
                    }
                    Output::Step { vm, step, .. } => self.steps.push((vm.name.to_string(), step)),
                    Output::Done { outcome, .. } => self.outcomes.push(outcome),
                    _ => {}
                }
            }
        }
    }

    fn keep(&mut self, write: Write) {
        match write {
            Write::Record(key, record) | Write::Heard(key, record) => {
                self.records.insert(key, record);
            }
            Write::Fragment(digest, fragment) => {
                self.fragments.insert(digest, fragment);
            }
            Write::DropFragment(digest) => {
                self.fragments.remove(&digest);
            }
            Write::Holding(vm, holding) => {
                self.holdings.insert(vm, holding);
            }
            Write::DropHolding(vm) => {
                self.holdings.remove(&vm);
            }
            Write::Join(project) => self.projects.push(project),
            // Nothing is being decided while it is down.
            Write::Decision(_)
            | Write::DropDecision(_)
            | Write::Reservation(_)
            | Write::DropReservation(_) => {}
        }
    }

    /// The agent is killed and started again; its guests run on.
    fn restart(&mut self, found: Vec<(VmId, Observed)>) {
        let state = StoredState {
            records: self.records.values().cloned().collect(),
            fragments: self.fragments.iter().map(|(digest, part)| (*digest, part.clone())).collect(),
            decisions: Vec::new(),
            reservations: Vec::new(),
            holdings: self.holdings.iter().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
            joined: self.projects.iter().copied().collect(),
        };
        self.steps.clear();
        self.node = Node::new(config(), state);
        self.input(Input::Start { found });
        // Whom it could ask about itself is not there.
        self.now_ms += limits::CONFIRM_MS;
        self.input(Input::Timeout);
    }

    fn operate(&mut self, op: u64, operation: Operation) {
        self.input(Input::Operate { op: OpId(op), operation });
    }

    fn revise(&mut self, op: u64, text: &str) {
        let order = ReviseOrder {
            project: self.node.projects()[0].id,
            content: ReviseContent::Definition { project: project(text), blobs: Vec::new() },
            author: String::new(),
            reason: String::new(),
            consent: Consent::Majority,
            running: RunningVms::Refuse,
            from_head: None,
            keep_removed_ms: 0,
        };
        self.operate(op, Operation::Revise(Box::new(order)));
    }

    fn id(&self, vm: &str) -> VmId {
        let found = self.node.owned_vms().find(|(id, ..)| id.name.as_str() == vm);
        found.expect("it is there").0.clone()
    }

    fn ends(&mut self, vm: &str, step: Step, result: Result<Observed, String>) {
        let at = self.steps.iter().position(|begun| *begun == (vm.to_owned(), step));
        self.steps.remove(at.unwrap_or_else(|| panic!("{step:?} of {vm} has not begun: {:?}", self.steps)));
        self.input(Input::StepDone { vm: self.id(vm), step, result });
    }

    fn is_seen(&mut self, vm: &str, observed: Observed) {
        self.input(Input::Observed { vm: self.id(vm), observed });
    }

    fn status(&self, vm: &str) -> VmStatus {
        let found = self.node.owned_vms().find(|(id, ..)| id.name.as_str() == vm);
        found.expect("it is there").3.clone()
    }
}

const READY: Observed = Observed::Running(RunPhase::Ready);

fn step(vm: &str, step: Step) -> (String, Step) {
    (vm.to_owned(), step)
}

fn stop() -> Step {
    Step::Stop(StopLimit::After(60_000))
}

#[test]
fn a_vm_that_runs_is_given_its_definition_and_the_change_ends_then() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 48M }"));
    assert_eq!(host.steps, [step("one", Step::Apply)], "the other one is as it was");
    assert_eq!(host.outcomes, []);
    host.ends("one", Step::Apply, Ok(READY));
    assert_eq!(host.outcomes, [Outcome::Done]);
    assert_eq!(host.steps, []);
    assert_eq!((host.status("one").state, host.status("one").run_counter), (VmState::Up, 1));
    // Back to what it was born with: nobody has to be told which part that is.
    assert!(host.status("one").part.is_some());
    host.revise(4, LAB);
    host.ends("one", Step::Apply, Ok(READY));
    assert_eq!(host.status("one").part, None);
    assert_eq!(host.outcomes, [Outcome::Done, Outcome::Done]);
}

#[test]
fn what_only_the_host_has_to_know_is_nothing_for_the_guest() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 64M; boot_order 5 }"));
    assert_eq!((host.steps.len(), &host.outcomes[..]), (0, &[Outcome::Done][..]));
}

#[test]
fn a_vm_that_is_down_has_it_from_its_next_start_on() {
    let mut host = Host::with_lab();
    let vms = vec![host.id("one")];
    let order = RunOrder::Down(StopLimit::After(1));
    host.operate(3, Operation::Run { vms: vms.clone(), order, pause_ms: 0 });
    host.ends("one", Step::Stop(StopLimit::After(1)), Ok(Observed::Down { exit: None }));
    host.revise(4, &LAB.replace("host one { memory 64M }", "host one { memory 96M }"));
    assert_eq!(host.steps, []);
    assert_eq!(host.outcomes.last(), Some(&Outcome::Done));
}

#[test]
fn what_can_not_be_had_as_it_runs_costs_one_start_of_that_vm() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 96M }"));
    host.steps.clear();
    host.input(Input::NotLive { vm: host.id("one") });
    assert_eq!(host.steps, [step("one", stop())]);
    assert_eq!(host.status("one").state, VmState::Stopping);
    host.is_seen("one", Observed::Down { exit: Some(ExitStatus::Code(0)) });
    host.ends("one", stop(), Ok(Observed::Down { exit: Some(ExitStatus::Code(0)) }));
    assert_eq!(host.status("one").run, RunState::Up, "nobody wants it down");
    host.ends("one", Step::Start, Ok(Observed::Running(RunPhase::Booting)));
    assert_eq!(host.outcomes, [], "whoever asked waits until it is up again");
    host.is_seen("one", READY);
    assert_eq!((host.steps.len(), &host.outcomes[..]), (0, &[Outcome::Done][..]));
    assert_eq!((host.status("one").state, host.status("one").run_counter), (VmState::Up, 1));
}

#[test]
fn one_that_is_not_up_again_in_time_is_told_of() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 96M }"));
    host.steps.clear();
    host.input(Input::NotLive { vm: host.id("one") });
    host.ends("one", stop(), Ok(Observed::Down { exit: None }));
    host.ends("one", Step::Start, Ok(Observed::Running(RunPhase::Booting)));
    host.now_ms += limits::WATCH_MS_MAX;
    host.input(Input::Timeout);
    let [Outcome::Failed(failures)] = &host.outcomes[..] else { panic!("{:?}", host.outcomes) };
    assert_eq!((failures.len(), failures[0].vm.as_str()), (1, "one"));
    assert!(failures[0].reason.contains("is not up yet"), "{failures:?}");
}

#[test]
fn one_that_lacks_the_same_after_a_start_is_not_started_again_and_again() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 96M }"));
    host.steps.clear();
    host.input(Input::NotLive { vm: host.id("one") });
    host.ends("one", stop(), Ok(Observed::Down { exit: None }));
    // What was started is not known, because a start that failed may have done so.
    host.ends("one", Step::Start, Err("no".to_owned()));
    host.now_ms += limits::RETRY_MS_MIN;
    host.input(Input::Timeout);
    host.ends("one", Step::Start, Ok(READY));
    assert_eq!(host.steps, [step("one", Step::Apply)]);
    host.steps.clear();
    host.input(Input::NotLive { vm: host.id("one") });
    assert_eq!(host.steps, []);
    assert!(matches!(host.status("one").state, VmState::Failed { .. }));
}

#[test]
fn the_end_of_a_run_that_is_heard_when_the_next_one_begins_ends_only_the_first() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 96M }"));
    host.steps.clear();
    host.input(Input::NotLive { vm: host.id("one") });
    let down = Observed::Down { exit: Some(ExitStatus::Code(0)) };
    host.ends("one", stop(), Ok(down.clone()));
    host.is_seen("one", down);
    host.ends("one", Step::Start, Ok(Observed::Running(RunPhase::Booting)));
    host.is_seen("one", READY);
    assert_eq!((host.status("one").state, host.status("one").run), (VmState::Up, RunState::Up));
}

#[test]
fn a_definition_that_changes_meanwhile_is_given_after_the_one_before() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 48M }"));
    host.revise(4, &LAB.replace("host one { memory 64M }", "host one { memory 56M }"));
    assert_eq!(host.steps, [step("one", Step::Apply)], "one after the other");
    host.ends("one", Step::Apply, Ok(READY));
    assert_eq!(host.steps, [step("one", Step::Apply)]);
    host.ends("one", Step::Apply, Ok(READY));
    assert_eq!(host.steps, []);
}

#[test]
fn one_that_fails_is_told_of_and_tried_again_after_a_pause() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 48M }"));
    host.ends("one", Step::Apply, Err("no".to_owned()));
    assert!(matches!(&host.outcomes[..], [Outcome::Failed(failures)] if failures[0].reason == "no"));
    assert_eq!(host.steps, []);
    host.now_ms += limits::RETRY_MS_MIN;
    host.input(Input::Timeout);
    assert_eq!(host.steps, [step("one", Step::Apply)]);
    host.ends("one", Step::Apply, Ok(READY));
    assert_eq!(host.status("one").state, VmState::Up);
}

#[test]
fn a_guest_that_ends_while_it_is_given_something_stays_down() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 48M }"));
    host.is_seen("one", Observed::Down { exit: Some(ExitStatus::Code(7)) });
    host.ends("one", Step::Apply, Ok(READY));
    assert_eq!(host.steps, []);
    let status = host.status("one");
    assert_eq!((status.run, status.exit), (RunState::Down, Some(ExitStatus::Code(7))));
}

#[test]
fn after_a_restart_every_vm_that_runs_is_asked_about() {
    let mut host = Host::with_lab();
    host.revise(3, &LAB.replace("host one { memory 64M }", "host one { memory 48M }"));
    let found = ["one", "two"].map(|vm| (host.id(vm), READY)).to_vec();
    host.restart(found);
    host.steps.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(host.steps, [step("one", Step::Apply), step("two", Step::Apply)]);
}
