use std::collections::VecDeque;

use super::*;
use crate::id::Label;
use crate::lang::{NoIncludes, parse};
use crate::model::HookPoint;
use crate::node::{
    BuildOrder, ExistingProject, HookOwner, Input, NodeConfig, OnFailure, OpId, Operation, Outcome, RunOrder,
    StoredState,
};
use crate::record::VmState;
use crate::resolve::{self, Options};
use crate::sample::{self, name};

/// What one host did.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Hook(&'static str),
    Start(String),
    Stop(String),
}

/// One host alone, on which steps and hooks end when a test says so.
struct Host {
    node: Node,
    now_ms: u64,
    did: Vec<Did>,
    steps: Vec<(VmId, Step)>,
    hook: Option<HookPoint>,
    outcomes: Vec<Outcome>,
}

const PROJECT: &str = "global { project p
    beforeProjectStart { a\n}; beforeHostsStart { b\n}; afterHostsStart { c\n}; afterProjectStart { d\n}
    beforeProjectStop { e\n}; beforeHostsStop { f\n}; afterHostsStop { g\n}; afterProjectStop { h\n} }
host one { }
host two { }";

fn here(owner: &str) -> HookOwner {
    HookOwner { owner: name(owner), vouched: Vouched::Here }
}

fn order(text: &str) -> BuildOrder {
    let (tree, _) = parse("p.mln", text.to_owned(), &NoIncludes);
    let resolved = resolve::resolve(&tree, &Options::default());
    assert_eq!(resolved.diagnostics, []);
    BuildOrder {
        label: Label { owner: name("root"), project: resolved.project.name.clone() },
        project: resolved.project,
        blobs: Vec::new(),
        author: String::new(),
        existing: ExistingProject::Refuse,
        on_failure: OnFailure::Undo,
    }
}

impl Host {
    /// A host that runs hooks of these owners.
    fn new(owners: &[&str]) -> Self {
        let config = NodeConfig {
            hook_owners: owners.iter().map(|owner| here(owner)).collect(),
            ..sample::member(sample::keys(1), "oslo", 1024)
        };
        let node = Node::new(config, StoredState::default());
        let (did, steps, outcomes) = (Vec::new(), Vec::new(), Vec::new());
        let mut host = Self { node, now_ms: 0, did, steps, hook: None, outcomes };
        host.input(Input::Start { found: Vec::new() });
        host
    }

    /// The same with a project that is built.
    fn with(text: &str) -> Self {
        let mut host = Self::new(&["root"]);
        host.operate(1, Operation::Build(Box::new(order(text))));
        host.end_steps();
        assert_eq!(host.outcomes, [Outcome::Done]);
        host.did.clear();
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
                    Output::Persist { id, .. } => queue.push_back(Input::Persisted(id)),
                    Output::Send { to, message } if to == me => {
                        queue.push_back(Input::Message { from: me, message });
                    }
                    Output::Check { revision, .. } => {
                        queue.push_back(Input::Checked { revision, verdict: Ok(()) });
                    }
                    Output::Step { vm, step, .. } => {
                        match step {
                            Step::Start => self.did.push(Did::Start(vm.name.to_string())),
                            Step::Stop(_) => self.did.push(Did::Stop(vm.name.to_string())),
                            Step::Build | Step::Remove | Step::Apply => {}
                        }
                        self.steps.push((vm, step));
                    }
                    Output::Hook { point, .. } => {
                        assert_eq!(self.hook, None, "one after the other");
                        self.did.push(Did::Hook(point.keyword()));
                        self.hook = Some(point);
                    }
                    Output::Done { outcome, .. } => self.outcomes.push(outcome),
                    Output::Send { .. }
                    | Output::Broadcast(_)
                    | Output::Switches(_)
                    | Output::Progress { .. }
                    | Output::Pull { .. }
                    | Output::Seal { .. }
                    | Output::ReadCopy { .. }
                    | Output::Shelve { .. }
                    | Output::DropCopy { .. }
                    | Output::Revoked(_)
                    | Output::Forked(_) => {}
                }
            }
        }
    }

    fn operate(&mut self, op: u64, operation: Operation) {
        self.input(Input::Operate { op: OpId(op), operation });
    }

    fn project(&self) -> ProjectId {
        self.node.projects()[0].id
    }

    fn order(&mut self, op: u64, vms: &[&str], order: RunOrder) {
        let birth = self.project().0;
        let vms = vms.iter().map(|vm| VmId { birth, name: name(vm) }).collect();
        self.operate(op, Operation::Run { vms, order, pause_ms: 0 });
        // Orders that come together are waited for.
        self.now_ms += limits::HOOKS_GATHER_MS;
        self.input(Input::Timeout);
    }

    fn end_hook(&mut self, result: Result<(), &str>) {
        let (project, point) = (self.project(), self.hook.take().expect("a hook is run"));
        self.input(Input::HookDone { project, point, result: result.map_err(str::to_owned) });
    }

    /// Ends steps and hooks until there are none.
    fn end_all(&mut self) {
        while self.hook.is_some() || !self.steps.is_empty() {
            self.end_steps();
            if self.hook.is_some() {
                self.end_hook(Ok(()));
            }
        }
    }

    fn end_steps(&mut self) {
        for (vm, step) in std::mem::take(&mut self.steps) {
            let observed = match step {
                Step::Build | Step::Stop(_) => Observed::Down { exit: None },
                Step::Start => Observed::Running(RunPhase::Booting),
                Step::Remove => Observed::Absent,
                Step::Apply => Observed::Running(RunPhase::Ready),
            };
            self.input(Input::StepDone { vm: vm.clone(), step, result: Ok(observed) });
            if step == Step::Start {
                self.input(Input::Observed { vm, observed: Observed::Running(RunPhase::Ready) });
            }
        }
    }

    fn state(&self, vm: &str) -> VmState {
        self.node.vm(self.project(), &name(vm)).expect("it is known").status.state
    }
}

const CLEAN: RunOrder = RunOrder::Down(StopLimit::After(60_000));

fn hook(point: &'static str) -> Did {
    Did::Hook(point)
}

fn start(vm: &str) -> Did {
    Did::Start(vm.to_owned())
}

fn stop(vm: &str) -> Did {
    Did::Stop(vm.to_owned())
}

#[test]
fn hooks_stand_around_all_that_is_started_and_stopped_together() {
    let mut host = Host::with(PROJECT);
    host.order(2, &["one", "two"], RunOrder::Up);
    assert_eq!(host.did, [hook("beforeProjectStart")], "nothing else before it has ended");
    host.end_all();
    let started = [
        hook("beforeProjectStart"),
        hook("beforeHostsStart"),
        start("one"),
        start("two"),
        hook("afterHostsStart"),
        hook("afterProjectStart"),
    ];
    assert_eq!(std::mem::take(&mut host.did), started);

    host.order(3, &["one", "two"], CLEAN);
    host.end_all();
    let mut stopped = std::mem::take(&mut host.did);
    stopped[2..4].sort_by_key(|did| format!("{did:?}"));
    let expected = [
        hook("beforeProjectStop"),
        hook("beforeHostsStop"),
        stop("one"),
        stop("two"),
        hook("afterHostsStop"),
        hook("afterProjectStop"),
    ];
    assert_eq!(stopped, expected);
    assert_eq!(host.outcomes, [Outcome::Done, Outcome::Done]);

    // Once more, from the beginning.
    host.order(4, &["one", "two"], RunOrder::Up);
    host.end_all();
    assert_eq!(host.did, started);
}

#[test]
fn one_vm_of_two_is_not_the_project() {
    let mut host = Host::with(PROJECT);
    host.order(2, &["one"], RunOrder::Up);
    host.end_all();
    assert_eq!(
        std::mem::take(&mut host.did),
        [hook("beforeProjectStart"), hook("beforeHostsStart"), start("one"), hook("afterHostsStart")]
    );
    host.order(3, &["two"], RunOrder::Up);
    host.end_all();
    assert_eq!(
        std::mem::take(&mut host.did),
        [hook("beforeHostsStart"), start("two"), hook("afterHostsStart"), hook("afterProjectStart")]
    );
    host.order(4, &["two"], CLEAN);
    host.end_all();
    assert_eq!(std::mem::take(&mut host.did), [hook("beforeHostsStop"), stop("two"), hook("afterHostsStop")]);
    host.order(5, &["one"], CLEAN);
    host.end_all();
    assert_eq!(
        host.did,
        [
            hook("beforeProjectStop"),
            hook("beforeHostsStop"),
            stop("one"),
            hook("afterHostsStop"),
            hook("afterProjectStop")
        ]
    );
}

#[test]
fn a_hook_that_fails_keeps_the_rest_from_happening() {
    let mut host = Host::with(PROJECT);
    host.order(2, &["one", "two"], RunOrder::Up);
    host.end_hook(Err("no bridge"));
    assert!(matches!(&host.outcomes[..], [Outcome::Failed(failures)]
        if failures.len() == 2 && failures.iter().all(|f| f.reason.contains("beforeProjectStart failed: no bridge"))));
    assert_eq!(host.did, [hook("beforeProjectStart")]);
    host.now_ms += limits::RETRY_MS_MAX;
    host.input(Input::Timeout);
    assert_eq!(host.did.len(), 1, "it is not tried again: {:?}", host.did);

    // Whoever asks again begins again.
    host.order(3, &["one", "two"], RunOrder::Up);
    host.end_all();
    assert_eq!(host.did[1], hook("beforeProjectStart"));
    host.order(4, &["one", "two"], CLEAN);
    host.end_hook(Ok(()));
    host.end_hook(Err("busy"));
    assert!(matches!(&host.outcomes[2], Outcome::Failed(failures)
        if failures.len() == 2 && failures[0].reason.contains("beforeHostsStop failed: busy")));
    assert!(!host.did.iter().any(|did| matches!(did, Did::Stop(_))), "{:?}", host.did);
    assert!(matches!(host.state("one"), VmState::Failed { .. }));
    host.now_ms += limits::RETRY_MS_MIN;
    host.input(Input::Timeout);
    assert_eq!(host.state("one"), VmState::Up, "it runs, and nobody waits any more to hear why");
}

#[test]
fn what_is_stopped_at_once_or_removed_waits_for_no_hook() {
    let mut host = Host::with(PROJECT);
    host.order(2, &["one", "two"], RunOrder::Up);
    host.end_all();
    host.did.clear();
    host.order(3, &["one"], RunOrder::Down(StopLimit::Now));
    assert_eq!(std::mem::take(&mut host.did), [stop("one")]);
    host.end_all();
    let remove = Operation::Remove { project: host.project(), running: crate::node::RunningVms::Stop };
    host.operate(4, remove);
    assert_eq!(host.did, [stop("two")]);
    host.end_all();
    host.end_all();
    assert_eq!(host.did, [stop("two")]);
    assert!(host.node.hooks.by_project.is_empty(), "nothing is remembered of it");
}

#[test]
fn a_start_during_a_hook_waits_for_the_same_one() {
    let mut host = Host::with(PROJECT);
    host.order(2, &["one"], RunOrder::Up);
    host.order(3, &["two"], RunOrder::Up);
    assert_eq!(host.did, [hook("beforeProjectStart")]);
    host.end_all();
    assert_eq!(
        host.did,
        [
            hook("beforeProjectStart"),
            hook("beforeHostsStart"),
            start("one"),
            start("two"),
            hook("afterHostsStart"),
            hook("afterProjectStart")
        ]
    );
}

#[test]
fn a_project_with_hooks_is_refused_where_its_owner_may_run_none() {
    for owners in [&[][..], &["anna"]] {
        let mut host = Host::new(owners);
        host.operate(1, Operation::Build(Box::new(order(PROJECT))));
        let Outcome::Refused(refusals) = &host.outcomes[0] else { panic!("{:?}", host.outcomes) };
        assert_eq!(refusals[0].refusal.rule, Rule::Hooks);
        assert!(refusals[0].refusal.detail.contains("[hooks] owners = [\"root\"]"), "{refusals:?}");
        let without = "global { project p }\nhost one { }";
        host.operate(2, Operation::Build(Box::new(order(without))));
        host.end_steps();
        assert_eq!(host.outcomes[1], Outcome::Done);
    }
}

#[test]
fn whose_user_an_owner_is_matters_as_much_as_the_name() {
    let (me, other) = (sample::keys(1).public(), sample::keys(2).public());
    let order = order(PROJECT);
    let fragment = Fragment { hooks: order.project.hooks.clone(), ..Fragment::default() };
    let judge = |vouched: Vouched, author| {
        let mut host = Host::new(&[]);
        host.node.config.hook_owners = vec![HookOwner { owner: name("root"), vouched }];
        host.node.judge_hooks(author, &order.label, &fragment, None).map_err(|refusal| refusal.rule)
    };
    assert_eq!(judge(Vouched::Here, me), Ok(()));
    assert_eq!(judge(Vouched::Here, other), Err(Rule::Hooks), "another host has a root, too");
    assert_eq!(judge(Vouched::By(name("oslo")), me), Ok(()));
    assert_eq!(judge(Vouched::By(name("oslo")), other), Err(Rule::Hooks));
    assert_eq!(judge(Vouched::ByAnybody, other), Ok(()));
}

#[test]
fn hooks_that_the_host_has_taken_on_stay_whoever_changes_the_rest() {
    let other = sample::keys(2).public();
    let order = order(PROJECT);
    let fragment = Fragment { hooks: order.project.hooks.clone(), ..Fragment::default() };
    let changed = Fragment { hooks: crate::model::Hooks::default(), ..Fragment::default() };
    let judge = |owners: &[&str], before: &Fragment| {
        let host = Host::new(owners);
        let judged = host.node.judge_hooks(other, &order.label, &fragment, Some(before));
        judged.map_err(|refusal| refusal.rule)
    };
    assert_eq!(judge(&["root"], &fragment), Ok(()), "its own word was judged when they came");
    assert_eq!(
        judge(&["root"], &changed),
        Err(Rule::Hooks),
        "others are new, and nobody here vouches for them"
    );
    assert_eq!(judge(&["anna"], &fragment), Err(Rule::Hooks), "the host has changed its mind");
}
