//! A host alone whose agent ends at any moment.

use super::*;

/// Runs one node alone, remembering what it makes durable.
struct Alone {
    node: Node,
    records: BTreeMap<Vec<u8>, VerifiedRecord>,
    fragments: BTreeMap<Digest, Arc<Fragment>>,
    holdings: BTreeMap<VmId, Holding>,
    decisions: BTreeMap<Digest, DecisionNote>,
    joined: BTreeSet<ProjectId>,
    reservations: BTreeMap<Digest, ReservationNote>,
    steps: Vec<Step>,
}

impl Alone {
    fn input(&mut self, input: Input) {
        let mut queue = std::collections::VecDeque::from([input]);
        let me = self.node.key();
        while let Some(input) = queue.pop_front() {
            self.node.handle(Now { mono_ms: 0, unix_ms: 0 }, input);
            while let Some(output) = self.node.poll_output() {
                match output {
                    Output::Persist { id, writes } => {
                        for write in writes {
                            match write {
                                Write::Join(project) => {
                                    self.joined.insert(project);
                                }
                                Write::Record(key, record) | Write::Heard(key, record) => {
                                    self.records.insert(wire::encode_record_key(&key), record);
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
                                Write::Decision(note) => {
                                    self.decisions.insert(note.parent, *note);
                                }
                                Write::DropDecision(parent) => {
                                    self.decisions.remove(&parent);
                                }
                                Write::Reservation(note) => {
                                    self.reservations.insert(note.revision, *note);
                                }
                                Write::DropReservation(revision) => {
                                    self.reservations.remove(&revision);
                                }
                            }
                        }
                        queue.push_back(Input::Persisted(id));
                    }
                    Output::Send { to, message } if to == me => {
                        queue.push_back(Input::Message { from: me, message });
                    }
                    Output::Check { revision, .. } => {
                        queue.push_back(Input::Checked { revision, verdict: Ok(()) });
                    }
                    Output::Step { step, .. } => self.steps.push(step),
                    Output::Send { .. }
                    | Output::Broadcast(_)
                    | Output::Hook { .. }
                    | Output::Pull { .. }
                    | Output::Seal { .. }
                    | Output::ReadCopy { .. }
                    | Output::Shelve { .. }
                    | Output::DropCopy { .. }
                    | Output::Switches(_)
                    | Output::Progress { .. }
                    | Output::Revoked(_)
                    | Output::Forked(_)
                    | Output::Done { .. } => {}
                }
            }
        }
    }

    fn killed(self) -> Self {
        let stored = StoredState {
            records: self.records.values().cloned().collect(),
            fragments: self.fragments.iter().map(|(digest, fragment)| (*digest, fragment.clone())).collect(),
            decisions: self.decisions.values().cloned().collect(),
            holdings: self.holdings.iter().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
            joined: self.joined.clone(),
            reservations: self.reservations.values().cloned().collect(),
        };
        Self { node: Node::new(config(0, 512), stored), steps: Vec::new(), ..self }
    }
}

/// Returns a host alone that builds a machine of its own.
fn building() -> (Alone, VmId) {
    let node = Node::new(config(0, 512), StoredState::default());
    let mut alone = Alone {
        node,
        records: BTreeMap::new(),
        fragments: BTreeMap::new(),
        holdings: BTreeMap::new(),
        decisions: BTreeMap::new(),
        joined: BTreeSet::new(),
        reservations: BTreeMap::new(),
        steps: Vec::new(),
    };
    alone.input(Input::Start { found: Vec::new() });
    let mut order = ring(64, OnFailure::Undo);
    order.project.vms.truncate(1);
    alone.input(Input::Operate { op: OpId(1), operation: Operation::Build(Box::new(order)) });
    let project = alone.node.projects()[0].id;
    (alone, VmId { birth: project.0, name: name("router0") })
}

/// A disk tears what was written last: the note of a claim may be there and its record not. It kept still for ever, since others told
/// it of a claim that it didn't know, once the note was of its release.
#[test]
fn what_only_a_note_remembers_to_have_signed_is_a_record_again_before_anything_else_is_said() {
    let (mut alone, vm) = building();
    let of_claims = |alone: &Alone| -> Vec<Vec<u8>> {
        let is_claim = |record: &VerifiedRecord| matches!(&***record, Record::Link(_));
        alone.records.iter().filter(|(_, record)| is_claim(record)).map(|(key, _)| key.clone()).collect()
    };
    let claims = of_claims(&alone);
    assert_eq!((claims.len(), alone.holdings.contains_key(&vm)), (1, true));
    alone.records.remove(&claims[0]);
    alone = alone.killed();
    alone.input(Input::Start { found: Vec::new() });
    assert_eq!(of_claims(&alone), claims);
}

#[test]
fn a_removal_goes_on_however_often_its_host_is_killed() {
    let (mut alone, vm) = building();
    let (project, down) = (ProjectId(vm.birth), Observed::Down { exit: None });
    alone.input(Input::StepDone { vm: vm.clone(), step: Step::Build, result: Ok(down) });
    alone.input(Input::Observed { vm: vm.clone(), observed: Observed::Running(RunPhase::Ready) });
    let remove = Operation::Remove { project, running: RunningVms::Stop };
    alone.input(Input::Operate { op: OpId(2), operation: remove });
    for _ in 0..3 {
        assert!(matches!(alone.steps.last(), Some(Step::Stop(_))), "{:?}", alone.steps);
        alone = alone.killed();
        alone.input(Input::Start { found: vec![(vm.clone(), Observed::Running(RunPhase::Ready))] });
    }
    let step = alone.steps[0];
    alone.input(Input::StepDone { vm: vm.clone(), step, result: Ok(Observed::Down { exit: None }) });
    alone.input(Input::StepDone { vm, step: Step::Remove, result: Ok(Observed::Absent) });
    assert!(alone.fragments.is_empty(), "nothing is left of it");
}

#[test]
fn a_host_that_lost_its_memory_leaves_its_guests_running_and_is_heard_again() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vms = cluster.vms(project);
    cluster.begin(0, 2, Operation::Run { vms: vms.clone(), order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    cluster.end_steps();
    let vm = vms.into_iter().find(|vm| vm.name.as_str() == "router1").expect("it is on bergen");
    cluster.nodes[1] = Node::new(config(1, 512), StoredState::default());
    let found = vec![(vm.clone(), Observed::Running(RunPhase::Ready))];
    cluster.input(1, Input::Start { found });
    for other in [0, 2] {
        cluster.input(other, Input::Disconnected(keys(1).public()));
        cluster.input(1, Input::Connected(keys(other).public()));
        cluster.input(other, Input::Connected(keys(1).public()));
    }
    for _ in 0..5 {
        cluster.pass(10_000);
    }
    assert_eq!(cluster.steps, [], "nothing is shut down");
    assert_eq!(cluster.state(0, &vm), VmState::Up);
    assert_eq!(cluster.nodes[0].record_sum(), cluster.nodes[1].record_sum());
}
