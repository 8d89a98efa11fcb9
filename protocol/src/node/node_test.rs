use std::collections::BTreeMap;

use super::*;
use crate::id::{Label, ProjectId, VmId};
use crate::model::{
    AddressPlan, Attachment, BootOrder, HostAddress, Impairment, MemoryMib, Network, Project, Switch,
    SwitchMember, SwitchSettings, Vm,
};
use crate::plan::{Observed, RunPhase, Step, StopLimit};
use crate::record::{ExitStatus, RunState, VmState};
use crate::sample::{self, name};
use crate::trust::{Domain, Grant, KeyPair, Verb, Verified, mesh_of};

/// A few nodes whose messages, records and writes arrive at once; steps end when a test says so.
struct Cluster {
    nodes: Vec<Node>,
    now_ms: u64,
    steps: Vec<(usize, VmId, Step)>,
    /// What stands on each host's disk of each VM, as far as VMs move.
    disks: BTreeMap<(usize, VmId), u64>,
    /// Loses what it says yes to.
    loses: fn(&Output) -> bool,
    progress: Vec<VmState>,
    outcomes: BTreeMap<OpId, Outcome>,
    switches: BTreeMap<usize, Vec<SwitchWanted>>,
    away: BTreeSet<usize>,
    /// What the hosts' platforms say to a build.
    verdict: Result<(), Refusal>,
    /// How many parts were kept where the last operation ended, at that moment.
    kept_at_end: usize,
}

const NAMES: [&str; 3] = ["oslo", "bergen", "gjovik"];

fn keys(index: usize) -> KeyPair {
    KeyPair::from_secret([u8::try_from(index).expect("few nodes") + 1; 32])
}

fn config(index: usize, memory: u32) -> NodeConfig {
    NodeConfig {
        groups: vec![name("everywhere"), name(if index == 0 { "sea" } else { "inland" })],
        ..sample::member(keys(index), NAMES[index], memory)
    }
}

impl Cluster {
    fn new(memory: u32) -> Self {
        let nodes =
            (0..NAMES.len()).map(|index| Node::new(config(index, memory), StoredState::default())).collect();
        let mut cluster = Self {
            nodes,
            now_ms: 0,
            steps: Vec::new(),
            disks: BTreeMap::new(),
            loses: |_| false,
            progress: Vec::new(),
            outcomes: BTreeMap::new(),
            switches: BTreeMap::new(),
            away: BTreeSet::new(),
            verdict: Ok(()),
            kept_at_end: 0,
        };
        for index in 0..NAMES.len() {
            cluster.input(index, Input::Start { found: Vec::new() });
        }
        for a in 0..NAMES.len() {
            for b in (0..NAMES.len()).filter(|&b| b != a) {
                cluster.input(a, Input::Connected(keys(b).public()));
            }
        }
        cluster
    }

    fn input(&mut self, index: usize, input: Input) {
        let mut queue = std::collections::VecDeque::from([(index, input)]);
        while let Some((index, input)) = queue.pop_front() {
            let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
            self.nodes[index].handle(now, input);
            while let Some(output) = self.nodes[index].poll_output() {
                self.output(index, output, &mut queue);
            }
        }
    }

    fn output(
        &mut self,
        from: usize,
        output: Output,
        queue: &mut std::collections::VecDeque<(usize, Input)>,
    ) {
        if (self.loses)(&output) {
            return;
        }
        let away = self.away.clone();
        let others = (0..NAMES.len()).filter(|other| *other != from && !away.contains(other));
        match output {
            Output::Send { to, message } => {
                let to = (0..NAMES.len()).find(|&index| keys(index).public() == to).expect("a node");
                if self.away.contains(&to) {
                    queue.push_back((from, Input::Unreachable(keys(to).public())));
                } else {
                    queue.push_back((to, Input::Message { from: keys(from).public(), message }));
                }
            }
            Output::Broadcast(record) => {
                queue.extend(others.map(|other| (other, Input::Record(record.clone()))))
            }
            Output::Persist { id, .. } => queue.push_back((from, Input::Persisted(id))),
            Output::Check { revision, .. } => {
                queue.push_back((from, Input::Checked { revision, verdict: self.verdict.clone() }));
            }
            Output::Step { vm, step, .. } => self.steps.push((from, vm, step)),
            Output::Switches(wanted) => {
                self.switches.insert(from, wanted);
            }
            Output::Hook { project, point, .. } => {
                queue.push_back((from, Input::HookDone { project, point, result: Ok(()) }));
            }
            Output::Pull { .. }
            | Output::Seal { .. }
            | Output::ReadCopy { .. }
            | Output::Shelve { .. }
            | Output::DropCopy { .. } => queue.extend(self.copied(from, &output).map(|input| (from, input))),
            Output::Revoked(_) | Output::Forked(_) => {}
            Output::Progress { state, .. } => self.progress.push(state),
            Output::Done { op, outcome } => {
                self.kept_at_end = self.nodes[from].fragments.len();
                self.outcomes.insert(op, outcome);
            }
        }
    }

    /// Ends every step that was begun, as a platform on which nothing fails.
    fn end_steps(&mut self) {
        for (index, vm, step) in std::mem::take(&mut self.steps) {
            let observed = match step {
                Step::Build => Observed::Down { exit: None },
                Step::Start => Observed::Running(RunPhase::Booting),
                Step::Stop(_) => Observed::Down { exit: Some(ExitStatus::Code(0)) },
                Step::Remove => Observed::Absent,
                Step::Apply => Observed::Running(RunPhase::Ready),
            };
            self.input(index, Input::StepDone { vm, step, result: Ok(observed) });
        }
    }

    fn begin(&mut self, index: usize, op: u64, operation: Operation) {
        self.input(index, Input::Operate { op: OpId(op), operation });
    }

    #[track_caller]
    fn outcome(&self, op: u64) -> &Outcome {
        self.outcomes.get(&OpId(op)).expect("the operation has ended")
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for index in 0..NAMES.len() {
            self.input(index, Input::Timeout);
        }
    }

    /// Builds the ring on oslo, bergen and gjovik.
    fn build_ring(&mut self) -> ProjectId {
        self.begin(0, 1, Operation::Build(Box::new(ring(64, OnFailure::Undo))));
        self.end_steps();
        assert_eq!(self.outcome(1), &Outcome::Done);
        self.nodes[1].projects()[0].id
    }

    fn vms(&self, project: ProjectId) -> Vec<VmId> {
        self.nodes[0].vms(project).into_iter().map(|view| view.status.vm).collect()
    }

    fn state(&self, index: usize, vm: &VmId) -> VmState {
        let view = self.nodes[index].vm(ProjectId(vm.birth), &vm.name).expect("it is known");
        view.status.state
    }
}

fn ring(memory: u32, on_failure: OnFailure) -> BuildOrder {
    let vm = |index: usize| Vm {
        memory: MemoryMib(memory),
        boot_order: BootOrder(if index == 2 { 10 } else { 99 }),
        networks: vec![Network {
            name: name("eth0"),
            address: AddressPlan::LinkLocal,
            gateway: None,
            broadcast: None,
            attachment: Attachment::Switch(name("A")),
            mac: None,
            forwards: Vec::new(),
            impairment: Impairment::default(),
            tap_address: None,
        }],
        ..sample::vm(&format!("router{index}"), NAMES[index])
    };
    let vms: Vec<Vm> = (0..3).map(vm).collect();
    let members =
        vms.iter().map(|vm| SwitchMember { vm: vm.name.clone(), interface: name("eth0") }).collect();
    BuildOrder {
        label: Label { owner: name("root"), project: name("ring") },
        project: Project {
            name: name("ring"),
            vms,
            switches: vec![Switch { name: name("A"), members, settings: SwitchSettings::default() }],
            hooks: Default::default(),
        },
        blobs: Vec::new(),
        author: "root at oslo".to_owned(),
        existing: ExistingProject::Refuse,
        on_failure,
    }
}

fn rules(outcome: &Outcome) -> Vec<(String, Rule)> {
    match outcome {
        Outcome::Refused(refusals) => refusals.iter().map(|r| (r.host.clone(), r.refusal.rule)).collect(),
        Outcome::Done | Outcome::Failed(_) => panic!("not refused: {outcome:?}"),
    }
}

#[test]
fn a_project_is_built_started_stopped_and_removed_from_anywhere() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vms = cluster.vms(project);
    cluster.begin(2, 2, Operation::Run { vms: vms.clone(), order: RunOrder::Up, pause_ms: 0 });
    assert_eq!(cluster.steps.len(), 1, "the lowest boot order goes first: {:?}", cluster.steps);
    cluster.end_steps();
    assert_eq!(cluster.steps.len(), 2);
    cluster.end_steps();
    assert_eq!(cluster.outcome(2), &Outcome::Done);
    assert_eq!(cluster.switches[&0][0].peers.len(), 2, "the switch spans the other two hosts");
    let order = RunOrder::Down(StopLimit::Now);
    cluster.begin(1, 3, Operation::Run { vms: vms.clone(), order, pause_ms: 0 });
    cluster.end_steps();
    cluster.end_steps();
    assert_eq!(cluster.outcome(3), &Outcome::Done);
    assert_eq!(cluster.switches[&0], []);
    cluster.begin(1, 4, Operation::Remove { project, running: RunningVms::Refuse });
    cluster.end_steps();
    assert_eq!(cluster.outcome(4), &Outcome::Done);
    assert!(cluster.nodes.iter().all(|node| node.projects().is_empty() && node.owned_vms().count() == 0));
}

#[test]
fn a_host_without_room_refuses_and_nothing_is_built_anywhere() {
    let mut cluster = Cluster::new(512);
    cluster.begin(0, 1, Operation::Build(Box::new(ring(600, OnFailure::Undo))));
    let refused: Vec<(String, Rule)> = NAMES.map(|host| (host.to_owned(), Rule::Memory)).to_vec();
    let mut found = rules(cluster.outcome(1));
    found.sort();
    let mut expected = refused;
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(cluster.steps, []);
}

#[test]
fn nothing_is_kept_any_more_where_a_refusal_is_told() {
    let mut cluster = Cluster::new(512);
    let mut order = ring(64, OnFailure::Undo);
    order.project.vms[1].memory = MemoryMib(600);
    cluster.begin(0, 1, Operation::Build(Box::new(order)));
    assert_eq!(rules(cluster.outcome(1)), [(NAMES[1].to_owned(), Rule::Memory)]);
    assert_eq!(cluster.kept_at_end, 0);
}

#[test]
fn one_refusal_undoes_the_reservations_of_the_others() {
    let mut cluster = Cluster::new(64);
    cluster.verdict = Err(Refusal { rule: Rule::Template, detail: "none".to_owned() });
    cluster.begin(0, 1, Operation::Build(Box::new(ring(64, OnFailure::Undo))));
    assert_eq!(rules(cluster.outcome(1)).len(), 3);
    cluster.verdict = Ok(());
    cluster.begin(0, 2, Operation::Build(Box::new(ring(64, OnFailure::Undo))));
    cluster.end_steps();
    assert_eq!(cluster.outcome(2), &Outcome::Done, "the memory was free again");
}

#[test]
fn an_unknown_host_and_one_that_is_off_are_named() {
    let mut cluster = Cluster::new(512);
    let mut order = ring(64, OnFailure::Undo);
    order.project.vms[1].service_host = Some(HostAddress("bergem".to_owned()));
    cluster.begin(0, 1, Operation::Build(Box::new(order)));
    assert_eq!(rules(cluster.outcome(1)), [("oslo".to_owned(), Rule::UnknownHost)]);
    cluster.away.insert(2);
    cluster.begin(0, 2, Operation::Build(Box::new(ring(64, OnFailure::Undo))));
    assert_eq!(rules(cluster.outcome(2)), [("gjovik".to_owned(), Rule::HostOff)]);
}

#[test]
fn who_makes_the_revision_chooses_among_the_hosts_of_a_group_and_refuses_where_none_fits() {
    let mut cluster = Cluster::new(128);
    let mut order = ring(64, OnFailure::Undo);
    for (vm, group) in order.project.vms.iter_mut().zip(["@everywhere", "@everywhere", "@inland"]) {
        vm.service_host = Some(HostAddress(group.to_owned()));
    }
    cluster.begin(2, 1, Operation::Build(Box::new(order.clone())));
    cluster.end_steps();
    assert_eq!(cluster.outcome(1), &Outcome::Done);
    // Of equal ones the first by name; then what is chosen counts: bergen has 64 MiB left, the others 128.
    let project = cluster.nodes[1].projects().remove(0);
    let hosts: Vec<String> =
        cluster.nodes[1].vms(project.id).iter().map(|view| view.status.host.to_string()).collect();
    assert_eq!(hosts, ["bergen", "gjovik", "bergen"]);

    // What was built this moment counts, though hosts say what they have left only now and then.
    let mut again =
        BuildOrder { label: Label { owner: name("anna"), ..order.label.clone() }, ..order.clone() };
    again.project.vms.reverse();
    cluster.begin(0, 2, Operation::Build(Box::new(again)));
    cluster.end_steps();
    assert_eq!(cluster.outcome(2), &Outcome::Done, "there was room for one on gjovik and two on oslo");
    let other = BuildOrder { label: Label { owner: name("berit"), ..order.label.clone() }, ..order.clone() };
    cluster.begin(0, 3, Operation::Build(Box::new(other)));
    assert_eq!(
        rules(cluster.outcome(3)),
        [("oslo".to_owned(), Rule::Group), ("oslo".to_owned(), Rule::Group)]
    );

    // What is replaced makes room for what replaces it.
    let existing = ExistingProject::Replace(RunningVms::Refuse);
    cluster.begin(0, 4, Operation::Build(Box::new(BuildOrder { existing, ..order })));
    for _ in 0..3 {
        cluster.end_steps();
    }
    assert_eq!(cluster.outcome(4), &Outcome::Done);
}

#[test]
fn a_label_in_use_is_refused_unless_it_is_replaced() {
    let mut cluster = Cluster::new(128);
    let first = cluster.build_ring();
    cluster.now_ms = 1;
    cluster.begin(1, 2, Operation::Build(Box::new(ring(64, OnFailure::Undo))));
    assert!(rules(cluster.outcome(2)).iter().all(|(_, rule)| *rule == Rule::LabelInUse));
    let replace =
        BuildOrder { existing: ExistingProject::Replace(RunningVms::Refuse), ..ring(128, OnFailure::Undo) };
    cluster.now_ms = 5;
    cluster.begin(1, 3, Operation::Build(Box::new(replace)));
    for _ in 0..3 {
        cluster.end_steps();
    }
    assert_eq!(cluster.outcome(3), &Outcome::Done, "the old one's memory counts as free");
    let projects = cluster.nodes[2].projects();
    assert_eq!(projects.len(), 1);
    assert_ne!(projects[0].id, first);
}

#[test]
fn a_failed_build_is_taken_back_on_every_host() {
    let mut cluster = Cluster::new(512);
    cluster.begin(0, 1, Operation::Build(Box::new(ring(64, OnFailure::Undo))));
    let steps = std::mem::take(&mut cluster.steps);
    for (index, vm, step) in steps {
        let result = if index == 1 { Err("disk full".to_owned()) } else { Ok(Observed::Down { exit: None }) };
        cluster.input(index, Input::StepDone { vm, step, result });
    }
    for _ in 0..3 {
        cluster.end_steps();
    }
    let Outcome::Failed(failures) = cluster.outcome(1) else { panic!("{:?}", cluster.outcome(1)) };
    assert_eq!((failures.len(), failures[0].reason.as_str()), (1, "disk full"));
    assert!(cluster.nodes.iter().all(|node| node.owned_vms().count() == 0 && node.projects().is_empty()));
}

#[test]
fn a_project_whose_start_failed_runs_nothing_and_can_be_removed() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vms = cluster.vms(project);
    cluster.begin(0, 2, Operation::Run { vms: vms[..1].to_vec(), order: RunOrder::Up, pause_ms: 0 });
    cluster.begin(0, 3, Operation::Remove { project, running: RunningVms::Refuse });
    assert_eq!(rules(cluster.outcome(3)), [("oslo".to_owned(), Rule::Running)], "it is being started");
    let (index, vm, step) = cluster.steps.remove(0);
    cluster.input(index, Input::StepDone { vm, step, result: Err("no room in /dev/shm".to_owned()) });
    cluster.begin(0, 4, Operation::Remove { project, running: RunningVms::Refuse });
    for _ in 0..2 {
        cluster.end_steps();
    }
    assert_eq!(cluster.outcome(4), &Outcome::Done);
}

#[test]
fn a_failed_step_is_tried_again_after_a_pause() {
    let mut cluster = Cluster::new(512);
    cluster.begin(0, 1, Operation::Build(Box::new(ring(64, OnFailure::Keep))));
    let (index, vm, step) = cluster.steps.remove(0);
    cluster.input(index, Input::StepDone { vm: vm.clone(), step, result: Err("busy".to_owned()) });
    cluster.end_steps();
    assert_eq!(cluster.state(2, &vm), VmState::Failed { reason: "busy".to_owned() });
    cluster.pass(limits::RETRY_MS_MIN - 1);
    assert_eq!(cluster.steps, []);
    cluster.pass(1);
    assert_eq!(cluster.steps, [(index, vm.clone(), Step::Build)]);
    cluster.end_steps();
    assert_eq!(cluster.state(2, &vm), VmState::Down);
}

#[test]
fn a_stale_request_is_refused_and_a_repeated_one_is_applied_once() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[0].clone();
    let request = RunRequest {
        owner: keys(0).public(),
        vm: vm.clone(),
        epoch: crate::record::Epoch::FIRST,
        seen_counter: 0,
        order: RunOrder::Up,
        made_unix_ms: 0,
        chain: Vec::new(),
    };
    let payload = wire::encode_run_request(&request);
    let request = Arc::new(Verified::own(&keys(1), Domain::Request, request, payload));
    for _ in 0..2 {
        let message = Message::Run(request.clone());
        cluster.input(0, Input::Message { from: keys(1).public(), message });
    }
    let status = cluster.nodes[2].vm(project, &vm.name).expect("it is known").status;
    assert_eq!((status.run, status.run_counter, status.run_by), (RunState::Up, 1, keys(1).public()));
    assert_eq!(cluster.steps, [(0, vm, Step::Start)]);
}

#[test]
fn a_guest_that_ends_by_itself_stays_down_and_says_how() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[0].clone();
    cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    let exit = ExitStatus::Code(7);
    cluster.input(0, Input::Observed { vm: vm.clone(), observed: Observed::Down { exit: Some(exit) } });
    let status = cluster.nodes[2].vm(project, &vm.name).expect("it is known").status;
    assert_eq!((status.run, status.state, status.exit), (RunState::Down, VmState::Down, Some(exit)));
    assert_eq!(cluster.steps, []);
}

#[test]
fn halting_overtakes_a_stop_that_waits() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[0].clone();
    cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    let limit = StopLimit::After(60_000);
    cluster.begin(0, 3, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Down(limit), pause_ms: 0 });
    cluster.begin(
        1,
        4,
        Operation::Run { vms: vec![vm.clone()], order: RunOrder::Down(StopLimit::Now), pause_ms: 0 },
    );
    let expected = [(0, vm.clone(), Step::Stop(limit)), (0, vm.clone(), Step::Stop(StopLimit::Now))];
    assert_eq!(cluster.steps, expected);
    cluster.end_steps();
    assert_eq!(cluster.state(1, &vm), VmState::Down);
    assert_eq!(cluster.outcome(4), &Outcome::Done);
}

#[test]
fn the_pause_between_starts_is_kept() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vms = cluster.vms(project);
    cluster.begin(0, 2, Operation::Run { vms, order: RunOrder::Up, pause_ms: 3_000 });
    cluster.end_steps();
    assert_eq!(cluster.steps, [], "the second waits for its turn");
    cluster.pass(2_999);
    assert_eq!(cluster.steps.len(), 0);
    cluster.pass(1);
    assert_eq!(cluster.steps.len(), 1);
}

#[test]
fn after_a_restart_what_should_run_is_started_and_what_runs_is_asked_about() {
    let ready = Observed::Running(RunPhase::Ready);
    for (found, steps) in [(Observed::Lost, vec![Step::Start]), (ready, vec![Step::Apply])] {
        let mut cluster = Cluster::new(512);
        let project = cluster.build_ring();
        let vm = cluster.vms(project)[0].clone();
        cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
        cluster.end_steps();
        let old = &cluster.nodes[0];
        let stored = StoredState {
            records: old.records.range(..).cloned().collect(),
            fragments: old.fragments.iter().map(|(digest, fragment)| (*digest, fragment.clone())).collect(),
            holdings: old.holdings().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
            joined: old.joined.clone(),
            ..StoredState::default()
        };
        cluster.nodes[0] = Node::new(config(0, 512), stored);
        cluster.input(0, Input::Start { found: vec![(vm.clone(), found)] });
        assert_eq!(cluster.steps, [], "others may know better whose they are by now");
        cluster.pass(limits::CONFIRM_MS);
        let begun: Vec<Step> = cluster.steps.iter().map(|(_, _, step)| *step).collect();
        assert_eq!(begun, steps);
    }
}

#[test]
fn a_disk_that_is_gone_is_not_made_anew() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[0].clone();
    let old = &cluster.nodes[0];
    let stored = StoredState {
        records: old.records.range(..).cloned().collect(),
        fragments: old.fragments.iter().map(|(digest, fragment)| (*digest, fragment.clone())).collect(),
        holdings: old.holdings().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
        joined: old.joined.clone(),
        ..StoredState::default()
    };
    cluster.nodes[0] = Node::new(config(0, 512), stored);
    cluster.input(0, Input::Start { found: Vec::new() });
    cluster.pass(limits::CONFIRM_MS);
    assert_eq!(cluster.steps, []);
    assert!(matches!(cluster.state(1, &vm), VmState::Failed { .. }));
}

#[test]
fn a_host_that_was_away_learns_everything_from_one_peer() {
    let mut cluster = Cluster::new(512);
    cluster.away.insert(2);
    let mut order = ring(64, OnFailure::Undo);
    order.project.vms.truncate(2);
    cluster.begin(0, 1, Operation::Build(Box::new(order)));
    cluster.end_steps();
    cluster.away.clear();
    cluster.input(2, Input::Disconnected(keys(0).public()));
    cluster.input(0, Input::Disconnected(keys(2).public()));
    cluster.input(2, Input::Connected(keys(0).public()));
    cluster.input(0, Input::Connected(keys(2).public()));
    assert_eq!(cluster.nodes[2].record_sum(), cluster.nodes[0].record_sum());
    assert_eq!(cluster.nodes[2].projects().len(), 1);
}

#[test]
fn a_request_of_somebody_without_a_grant_changes_nothing() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[0].clone();
    let owner = keys(0).public();
    let stranger = KeyPair::from_secret([77; 32]);
    let request = RunRequest {
        owner,
        vm: vm.clone(),
        epoch: crate::record::Epoch::FIRST,
        seen_counter: 0,
        order: RunOrder::Up,
        made_unix_ms: 0,
        chain: Vec::new(),
    };
    let payload = wire::encode_run_request(&request);
    let request = Arc::new(Verified::own(&stranger, Domain::Request, request, payload));
    cluster.input(0, Input::Message { from: keys(1).public(), message: Message::Run(request) });
    assert_eq!(cluster.steps, []);
    assert_eq!(cluster.state(1, &vm), VmState::Down);
}

#[test]
fn a_project_over_too_many_bytes_is_refused_before_anybody_is_asked() {
    let mut cluster = Cluster::new(512);
    let mut order = ring(64, OnFailure::Undo);
    order.project.vms[1].startup = vec!["x".repeat(1000); limits::FRAGMENT_BYTES_MAX / 1000];
    cluster.begin(0, 1, Operation::Build(Box::new(order)));
    assert_eq!(rules(cluster.outcome(1)), [("bergen".to_owned(), Rule::Size)]);
}

#[test]
fn replacing_a_project_does_not_take_running_guests_away_unasked() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[1].clone();
    cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    cluster.now_ms = 5;
    let replace =
        |running| BuildOrder { existing: ExistingProject::Replace(running), ..ring(64, OnFailure::Undo) };
    cluster.begin(0, 3, Operation::Build(Box::new(replace(RunningVms::Refuse))));
    assert_eq!(rules(cluster.outcome(3)), [("bergen".to_owned(), Rule::Running)]);
    assert_eq!(cluster.state(0, &vm), VmState::Booting);
    cluster.begin(0, 4, Operation::Build(Box::new(replace(RunningVms::Stop))));
    for _ in 0..4 {
        cluster.end_steps();
    }
    assert_eq!(cluster.outcome(4), &Outcome::Done);
}

#[test]
fn what_a_host_that_is_away_last_said_is_not_taken_for_done() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[1].clone();
    cluster.away.insert(1);
    cluster.input(0, Input::Disconnected(keys(1).public()));
    let order = RunOrder::Down(StopLimit::Now);
    cluster.begin(0, 2, Operation::Run { vms: vec![vm], order, pause_ms: 0 });
    let Outcome::Failed(failures) = cluster.outcome(2) else { panic!("{:?}", cluster.outcome(2)) };
    assert_eq!(failures[0].cause, FailureCause::Silent);
}

#[test]
fn a_host_that_goes_off_after_it_has_agreed_is_not_waited_for() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[1].clone();
    cluster.begin(0, 2, Operation::Run { vms: vec![vm], order: RunOrder::Up, pause_ms: 0 });
    cluster.pass(limits::PROBE_MS);
    assert!(!cluster.outcomes.contains_key(&OpId(2)), "as long as it is there, there is time");
    cluster.away.insert(1);
    cluster.pass(limits::RESEND_MS);
    let Outcome::Failed(failures) = cluster.outcome(2) else { panic!("{:?}", cluster.outcome(2)) };
    assert_eq!(failures[0].cause, FailureCause::Silent);
}

#[test]
fn a_guest_that_is_faster_than_the_step_that_starts_it_is_seen() {
    let exit = ExitStatus::Signal(6);
    let cases = [
        (Observed::Running(RunPhase::Ready), VmState::Up, RunState::Up),
        (Observed::Down { exit: Some(exit) }, VmState::Down, RunState::Down),
    ];
    for (seen, state, run) in cases {
        let mut cluster = Cluster::new(512);
        let project = cluster.build_ring();
        let vm = cluster.vms(project)[0].clone();
        cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
        let booting = Observed::Running(RunPhase::Booting);
        cluster.input(0, Input::Observed { vm: vm.clone(), observed: booting });
        cluster.input(0, Input::Observed { vm: vm.clone(), observed: seen });
        cluster.end_steps();
        let status = cluster.nodes[0].vm(project, &vm.name).expect("it is known").status;
        assert_eq!((status.state, status.run), (state, run));
    }
}

#[test]
fn a_sooner_stop_overtakes_one_that_waits() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = cluster.vms(project)[0].clone();
    cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    let (late, soon) = (StopLimit::After(60_000), StopLimit::After(2_000));
    for (op, limit) in [(3, late), (4, soon)] {
        let order = RunOrder::Down(limit);
        cluster.begin(0, op, Operation::Run { vms: vec![vm.clone()], order, pause_ms: 0 });
    }
    assert_eq!(cluster.steps, [(0, vm.clone(), Step::Stop(late)), (0, vm, Step::Stop(soon))]);
}

#[test]
fn a_build_is_not_reserved_for_without_its_part() {
    let mut cluster = Cluster::new(512);
    let key = keys(1).public();
    let host =
        crate::record::RevisionHost { name: name("bergen"), key, fragment: Digest([7; 32]), vms: Vec::new() };
    let revision = crate::record::Revision {
        project: None,
        parent: None,
        label: Label { owner: name("root"), project: name("evil") },
        hosts: vec![host],
        definition: Digest([0; 32]),
        consent: crate::record::Consent::Majority,
        made_unix_ms: 0,
        author: String::new(),
        reason: String::new(),
        charge: None,
        keep_removed_ms: 0,
        decision: None,
    };
    let digest = Digest::of(&wire::encode_revision(&revision));
    let ask = Ask {
        host: key,
        revision,
        digest,
        running: RunningVms::Stop,
        replaces: None,
        chain: Vec::new(),
        guest: None,
    };
    let payload = wire::encode_ask(&ask);
    let ask = Arc::new(Verified::own(&keys(0), Domain::Request, ask, payload));
    let now = Now { mono_ms: 0, unix_ms: 0 };
    let message = Message::Ask { ask, fragment: None };
    cluster.nodes[1].handle(now, Input::Message { from: keys(0).public(), message });
    let mut answers = Vec::new();
    while let Some(output) = cluster.nodes[1].poll_output() {
        if let Output::Send { message: Message::Answer { verdict, .. }, .. } = output {
            answers.push(verdict.map(|_| ()).map_err(|refusal| refusal.rule));
        }
    }
    assert_eq!(answers, [Err(Rule::Malformed)]);
}

#[path = "handover_test.rs"]
mod handover;

#[path = "grants_test.rs"]
mod grants;

#[path = "standing_test.rs"]
mod standing;

#[path = "killed_test.rs"]
mod killed;

#[path = "guest_test.rs"]
mod guests;

#[path = "gauges_test.rs"]
mod measured;
