//! Decisions about a project's next revision, between real nodes whose messages a test may lose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::id::{Label, ProjectId, VmId};
use crate::model::{MemoryMib, Project, Vm};
use crate::plan::{Existence, Observed, Step};
use crate::record::{Ballot, Consent, VmState};
use crate::sample::{self, name};
use crate::trust::KeyPair;

const NAMES: [&str; 3] = ["bergen", "gjovik", "oslo"];

fn keys(index: usize) -> KeyPair {
    KeyPair::from_secret([u8::try_from(index).expect("few nodes") + 1; 32])
}

fn config(index: usize) -> NodeConfig {
    sample::member(keys(index), NAMES[index], 512)
}

/// Three hosts with disks. Messages between two of them arrive at once, unless the test has cut them.
struct Mesh {
    nodes: Vec<Node>,
    now_ms: u64,
    /// How far all wall clocks are ahead.
    ahead_ms: u64,
    records: Vec<BTreeMap<Vec<u8>, VerifiedRecord>>,
    fragments: Vec<BTreeMap<Digest, Arc<Fragment>>>,
    decisions: Vec<BTreeMap<Digest, DecisionNote>>,
    holdings: Vec<BTreeMap<VmId, Holding>>,
    joined: Vec<BTreeSet<ProjectId>>,
    reservations: Vec<BTreeMap<Digest, ReservationNote>>,
    found: Vec<BTreeMap<VmId, Observed>>,
    removed: Vec<VmId>,
    away: BTreeSet<usize>,
    /// Messages of these kinds get lost.
    lost: fn(&Message) -> bool,
    /// Whether the platforms take their time, and what they are looking at meanwhile.
    holds_checks: bool,
    being_checked: Vec<(usize, Digest)>,
    outcomes: BTreeMap<OpId, Outcome>,
}

impl Mesh {
    fn new() -> Self {
        let count = NAMES.len();
        let mut mesh = Self {
            nodes: (0..count).map(|index| Node::new(config(index), StoredState::default())).collect(),
            now_ms: 0,
            ahead_ms: 0,
            records: vec![BTreeMap::new(); count],
            fragments: vec![BTreeMap::new(); count],
            decisions: vec![BTreeMap::new(); count],
            holdings: vec![BTreeMap::new(); count],
            joined: vec![BTreeSet::new(); count],
            reservations: vec![BTreeMap::new(); count],
            found: vec![BTreeMap::new(); count],
            removed: Vec::new(),
            away: BTreeSet::new(),
            lost: |_| false,
            holds_checks: false,
            being_checked: Vec::new(),
            outcomes: BTreeMap::new(),
        };
        for index in 0..count {
            mesh.input(index, Input::Start { found: Vec::new() });
        }
        for index in 0..count {
            mesh.connect(index);
        }
        mesh
    }

    fn connect(&mut self, index: usize) {
        for other in (0..NAMES.len()).filter(|&other| other != index) {
            self.input(index, Input::Connected(keys(other).public()));
            self.input(other, Input::Connected(keys(index).public()));
        }
    }

    fn input(&mut self, index: usize, input: Input) {
        let mut queue = VecDeque::from([(index, input)]);
        while let Some((index, input)) = queue.pop_front() {
            let now = self.now();
            self.nodes[index].handle(now, input);
            while let Some(output) = self.nodes[index].poll_output() {
                self.output(index, output, &mut queue);
            }
        }
    }

    fn output(&mut self, from: usize, output: Output, queue: &mut VecDeque<(usize, Input)>) {
        let others = (0..NAMES.len()).filter(|&other| other != from);
        match output {
            Output::Send { to, message } => {
                let to = (0..NAMES.len()).find(|&index| keys(index).public() == to).expect("a node");
                if to != from && (self.away.contains(&to) || self.away.contains(&from)) {
                    queue.push_back((from, Input::Unreachable(keys(to).public())));
                } else if to == from || !(self.lost)(&message) {
                    // Through the codec, as it would be.
                    let root = KeyPair::from_secret([99; 32]).public();
                    let message =
                        wire::decode_message(&wire::encode_message(&message), root).expect("our own");
                    queue.push_back((to, Input::Message { from: keys(from).public(), message }));
                }
            }
            Output::Broadcast(record) => {
                let lost = (self.lost)(&Message::Records(vec![record.clone()]));
                let there =
                    others.filter(|other| !lost && !self.away.contains(other) && !self.away.contains(&from));
                queue.extend(there.map(|other| (other, Input::Record(record.clone()))));
            }
            Output::Persist { id, writes } => {
                for write in writes {
                    match write {
                        Write::Join(project) => {
                            self.joined[from].insert(project);
                        }
                        Write::Record(key, record) | Write::Heard(key, record) => {
                            self.records[from].insert(wire::encode_record_key(&key), record);
                        }
                        Write::Fragment(digest, fragment) => {
                            self.fragments[from].insert(digest, fragment);
                        }
                        Write::DropFragment(digest) => {
                            self.fragments[from].remove(&digest);
                        }
                        Write::Decision(note) => {
                            let bytes = wire::encode_decision_note(&note);
                            assert_eq!(wire::decode_decision_note(&bytes).as_ref(), Ok(&*note));
                            self.decisions[from].insert(note.parent, *note);
                        }
                        Write::DropDecision(parent) => {
                            self.decisions[from].remove(&parent);
                        }
                        Write::Holding(vm, holding) => {
                            self.holdings[from].insert(vm, holding);
                        }
                        Write::DropHolding(vm) => {
                            self.holdings[from].remove(&vm);
                        }
                        Write::Reservation(note) => {
                            self.reservations[from].insert(note.revision, *note);
                        }
                        Write::DropReservation(revision) => {
                            self.reservations[from].remove(&revision);
                        }
                    }
                }
                queue.push_back((from, Input::Persisted(id)));
            }
            Output::Check { revision, .. } if self.holds_checks => self.being_checked.push((from, revision)),
            Output::Check { revision, .. } => {
                queue.push_back((from, Input::Checked { revision, verdict: Ok(()) }));
            }
            Output::Step { vm, step, .. } => {
                let observed = match step {
                    Step::Build | Step::Stop(_) => Observed::Down { exit: None },
                    Step::Start => Observed::Running(crate::plan::RunPhase::Ready),
                    Step::Remove => Observed::Absent,
                    Step::Apply => Observed::Running(crate::plan::RunPhase::Ready),
                };
                if step == Step::Remove {
                    self.removed.push(vm.clone());
                    self.found[from].remove(&vm);
                } else {
                    self.found[from].insert(vm.clone(), observed.clone());
                }
                queue.push_back((from, Input::StepDone { vm, step, result: Ok(observed) }));
            }
            Output::Pull { vm, .. } => {
                let result = Err("no disk moves here".to_owned());
                queue.push_back((from, Input::Pulled { vm, result }));
            }
            // No host has hooks in these tests.
            Output::Hook { .. }
            | Output::Seal { .. }
            | Output::ReadCopy { .. }
            | Output::Shelve { .. }
            | Output::DropCopy { .. }
            | Output::Switches(_)
            | Output::Revoked(_)
            | Output::Forked(_)
            | Output::Progress { .. } => {}
            Output::Done { op, outcome } => {
                self.outcomes.insert(op, outcome);
            }
        }
    }

    /// Ends an agent and starts it again with what was durable.
    fn restart(&mut self, index: usize) {
        let stored = StoredState {
            records: self.records[index].values().cloned().collect(),
            fragments: self.fragments[index].iter().map(|(digest, part)| (*digest, part.clone())).collect(),
            decisions: self.decisions[index].values().cloned().collect(),
            joined: self.joined[index].clone(),
            reservations: self.reservations[index].values().cloned().collect(),
            holdings: self.holdings[index].iter().map(|(vm, noted)| (vm.clone(), noted.clone())).collect(),
        };
        self.nodes[index] = Node::new(config(index), stored);
        let found = self.found[index].iter().map(|(vm, observed)| (vm.clone(), observed.clone())).collect();
        self.input(index, Input::Start { found });
        self.connect(index);
    }

    /// Returns the time of all hosts.
    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, unix_ms: self.now_ms + self.ahead_ms }
    }

    /// Lets time pass, in small steps.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.now_ms += 250;
            for index in 0..NAMES.len() {
                self.input(index, Input::Timeout);
            }
        }
    }

    fn operate(&mut self, index: usize, op: u64, operation: Operation) {
        self.input(index, Input::Operate { op: OpId(op), operation });
    }

    /// Builds a lab with one VM on each of these hosts.
    fn build(&mut self, hosts: &[usize]) -> ProjectId {
        let order = BuildOrder {
            label: Label { owner: name("root"), project: name("lab") },
            project: lab(hosts, &[]),
            blobs: Vec::new(),
            author: "anna".to_owned(),
            existing: ExistingProject::Refuse,
            on_failure: OnFailure::Keep,
        };
        self.operate(0, 1, Operation::Build(Box::new(order)));
        assert_eq!(self.outcomes.get(&OpId(1)), Some(&Outcome::Done));
        self.nodes[0].projects()[0].id
    }

    fn revise(&mut self, index: usize, op: u64, project: ProjectId, lab: Project, consent: Consent) {
        self.revise_keeping(index, op, project, lab, consent, 0);
    }

    /// The same; the disks of VMs that are left out are kept for some time.
    fn revise_keeping(
        &mut self,
        index: usize,
        op: u64,
        project: ProjectId,
        lab: Project,
        consent: Consent,
        keep_removed_ms: u64,
    ) {
        let order = ReviseOrder {
            project,
            content: ReviseContent::Definition { project: lab, blobs: Vec::new() },
            author: NAMES[index].to_owned(),
            reason: "upgrade".to_owned(),
            consent,
            running: RunningVms::Refuse,
            from_head: None,
            keep_removed_ms,
        };
        self.operate(index, op, Operation::Revise(Box::new(order)));
    }

    #[track_caller]
    fn refused(&self, op: u64) -> BTreeSet<Rule> {
        match self.outcomes.get(&OpId(op)) {
            Some(Outcome::Refused(refusals)) => refusals.iter().map(|refused| refused.refusal.rule).collect(),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Checks that all hosts see the same heads; returns the head.
    #[track_caller]
    fn head(&self, project: ProjectId) -> Digest {
        let heads: Vec<_> = self.nodes.iter().map(|node| node.heads(project).cloned()).collect();
        assert!(heads.iter().all(|head| *head == heads[0]), "{heads:?}");
        heads[0].as_ref().expect("it is known").head()
    }

    /// Returns the VMs with a disk, on all hosts, by name.
    fn disks(&self) -> Vec<String> {
        let all = self.found.iter().flat_map(BTreeMap::keys);
        all.map(|vm| vm.name.to_string()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// A lab with a VM `vmN` on each of these hosts, of which some say something at boot.
fn lab(hosts: &[usize], startup: &[(usize, &str)]) -> Project {
    let vm = |&host: &usize| Vm {
        startup: startup.iter().filter(|(at, _)| *at == host).map(|(_, line)| (*line).to_owned()).collect(),
        ..sample::vm(&format!("vm{host}"), NAMES[host])
    };
    let vms = hosts.iter().map(vm).collect();
    Project { name: name("lab"), vms, switches: Vec::new(), hooks: Default::default() }
}

fn is_commit(message: &Message) -> bool {
    let commit = |record: &VerifiedRecord| matches!(&***record, Record::Commit(commit) if commit.revision.parent.is_some());
    matches!(message, Message::Records(records) if records.iter().any(commit))
}

#[test]
fn a_project_grows_and_shrinks_and_goes_back() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1]);
    mesh.revise(2, 2, project, lab(&[0, 1, 2], &[]), Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(2)), Some(&Outcome::Done));
    assert_eq!(mesh.disks(), ["vm0", "vm1", "vm2"]);
    mesh.revise(1, 3, project, lab(&[0, 2], &[]), Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    assert_eq!(mesh.disks(), ["vm0", "vm2"]);
    let rollback = ReviseOrder {
        project,
        content: ReviseContent::Revision(project.0),
        author: "anna".to_owned(),
        reason: "rollback".to_owned(),
        consent: Consent::Majority,
        running: RunningVms::Refuse,
        from_head: None,
        keep_removed_ms: 0,
    };
    mesh.operate(0, 4, Operation::Revise(Box::new(rollback)));
    assert_eq!(mesh.outcomes.get(&OpId(4)), Some(&Outcome::Done));
    assert_eq!(mesh.disks(), ["vm0", "vm1"]);
    let head = mesh.head(project);
    let births: Vec<Digest> = mesh.nodes[0].vms(project).iter().map(|vm| vm.status.vm.birth).collect();
    assert!(
        births.contains(&project.0) && births.contains(&head),
        "what was removed came back as another VM"
    );
    assert_eq!(mesh.nodes[0].revisions(project).len(), 4);
}

#[test]
fn unchanged_hosts_are_not_asked_and_may_be_away() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.away.insert(2);
    mesh.revise(0, 2, project, lab(&[0, 1, 2], &[(1, "date")]), Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(2)), Some(&Outcome::Done));
    mesh.revise(0, 3, project, lab(&[0, 1, 2], &[(2, "date")]), Consent::Majority);
    assert_eq!(mesh.refused(3), [Rule::HostOff].into());
    mesh.revise(0, 4, project, lab(&[0, 1, 2], &[(1, "date")]), Consent::Majority);
    assert_eq!(mesh.refused(4), [Rule::Unchanged].into());
}

#[test]
fn without_a_majority_nothing_is_decided() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.away.extend([1, 2]);
    mesh.revise(0, 2, project, lab(&[0, 1, 2], &[(0, "date")]), Consent::Majority);
    assert_eq!(mesh.refused(2), [Rule::Majority].into());
    assert_eq!(mesh.head(project), project.0);
}

#[test]
fn a_promise_outlives_its_coordinator_and_a_restart_and_binds_whoever_comes_next() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    // Everybody promises bergen's change, and nobody hears of the commit: bergen is gone before.
    mesh.lost = |message| is_commit(message) || matches!(message, Message::Promised(_));
    mesh.revise(0, 2, project, lab(&[0, 1, 2], &[(0, "date")]), Consent::Majority);
    mesh.away.insert(0);
    assert!(mesh.decisions[1].values().any(|note| note.promised.is_some()));
    mesh.restart(1);
    mesh.lost = |_| false;
    mesh.revise(1, 3, project, lab(&[0, 1, 2], &[(1, "uptime")]), Consent::Majority);
    mesh.pass(10);
    assert_eq!(mesh.refused(3), [Rule::Overtaken].into(), "it is told who won");
    mesh.away.clear();
    mesh.connect(0);
    mesh.pass(30);
    let head = mesh.head(project);
    assert_eq!(mesh.nodes[2].revision(head).expect("it is the head").revision.author, "bergen");
    assert!(mesh.decisions.iter().all(BTreeMap::is_empty), "what is decided needs no notes");
}

#[test]
fn who_promised_sees_to_it_that_it_is_decided() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.lost = |message| is_commit(message) || matches!(message, Message::Promised(_));
    mesh.revise(0, 2, project, lab(&[0, 1, 2], &[(0, "date")]), Consent::Majority);
    mesh.restart(0);
    mesh.lost = |_| false;
    // Longer than any room is kept for it: promises don't lapse.
    mesh.pass(limits::RESERVATION_MS / 1000);
    assert_ne!(mesh.head(project), project.0);
}

#[test]
fn a_lower_ballot_is_outbid_and_tried_again_above() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    let ballot = Ballot { number: 7, coordinator: keys(2).public() };
    let message = Message::Ballot { parent: project.0, ballot };
    for index in [0, 1] {
        let from = keys(2).public();
        mesh.input(index, Input::Message { from, message: message.clone() });
    }
    mesh.revise(1, 2, project, lab(&[0, 1, 2], &[(0, "date")]), Consent::Majority);
    mesh.pass(10);
    assert_eq!(mesh.outcomes.get(&OpId(2)), Some(&Outcome::Done));
}

#[test]
fn of_two_that_change_one_revision_one_is_told_who_won() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.lost = |message| matches!(message, Message::Propose(_));
    mesh.revise(0, 2, project, lab(&[0, 1, 2], &[(0, "date")]), Consent::Majority);
    mesh.revise(2, 3, project, lab(&[0, 1, 2], &[(2, "uptime")]), Consent::Majority);
    mesh.lost = |_| false;
    mesh.pass(40);
    let done = [2, 3].into_iter().filter(|op| mesh.outcomes.get(&OpId(*op)) == Some(&Outcome::Done)).count();
    assert_eq!(done, 1, "{:?}", mesh.outcomes);
    assert_eq!(mesh.nodes[0].revisions(project).len(), 2);
    mesh.head(project);
}

#[test]
fn a_partial_change_goes_without_the_majority_and_loses_against_it() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.away.insert(2);
    mesh.revise(2, 2, project, lab(&[0, 1], &[(0, "date")]), Consent::Majority);
    assert!(mesh.refused(2).contains(&Rule::HostOff));
    // oslo alone gets another VM, and what it says of the others is left as it was.
    let mut wish = lab(&[0, 1, 2], &[(0, "date")]);
    let mut more = lab(&[2], &[]).vms.remove(0);
    more.name = name("more");
    wish.vms.push(more);
    mesh.revise(2, 3, project, wish, Consent::Partial);
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    assert_eq!(mesh.nodes[2].heads(project).map(|heads| heads.partial.len()), Some(1));
    // Meanwhile the majority decides otherwise.
    mesh.revise(0, 4, project, lab(&[0, 1, 2], &[(1, "uptime")]), Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(4)), Some(&Outcome::Done));
    mesh.away.clear();
    mesh.connect(2);
    mesh.pass(30);
    let head = mesh.head(project);
    assert_eq!(mesh.nodes[2].revision(head).map(|commit| commit.revision.consent), Some(Consent::Majority));
    let stranded: Vec<String> =
        mesh.nodes[1].stranded(project).iter().map(|vm| vm.status.vm.name.to_string()).collect();
    assert_eq!(stranded, ["more"], "it is listed");
    mesh.restart(2);
    mesh.pass(30);
    assert_eq!((mesh.disks().len(), mesh.removed.len()), (4, 0), "and never deleted");
    let kept = mesh.nodes[2].owned_vms().find(|(vm, ..)| vm.name == name("more"));
    assert_eq!(
        kept.map(|(_, existence, _, status)| (existence, status.state.clone())),
        Some((Existence::Wanted, VmState::Down))
    );
}

#[test]
fn partial_changes_that_contradict_each_other_wait_until_one_is_chosen() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    for (host, others) in [(1, [0, 2]), (2, [0, 1])] {
        mesh.away.extend(others);
        mesh.revise(host, host as u64 + 1, project, lab(&[0, 1, 2], &[(host, "date")]), Consent::Partial);
        assert_eq!(mesh.outcomes.get(&OpId(host as u64 + 1)), Some(&Outcome::Done));
        mesh.away.clear();
        mesh.away.insert(host);
    }
    mesh.away.clear();
    for index in 0..3 {
        mesh.connect(index);
    }
    mesh.pass(30);
    assert_eq!(mesh.head(project), project.0, "nothing goes on from either");
    let contested = mesh.nodes[0].heads(project).expect("it is known").contested.clone();
    assert_eq!(contested.len(), 2);
    mesh.revise(0, 7, project, lab(&[0, 1, 2], &[(0, "date")]), Consent::Majority);
    assert_eq!(mesh.refused(7), [Rule::Contested].into());
    let chosen = *contested.first().expect("there are two");
    let resolve = ReviseOrder {
        project,
        content: ReviseContent::Revision(chosen),
        author: "anna".to_owned(),
        reason: "resolve".to_owned(),
        consent: Consent::Majority,
        running: RunningVms::Refuse,
        from_head: Some(chosen),
        keep_removed_ms: 0,
    };
    mesh.operate(1, 8, Operation::Revise(Box::new(resolve)));
    mesh.pass(5);
    assert_eq!(mesh.outcomes.get(&OpId(8)), Some(&Outcome::Done));
    let head = mesh.head(project);
    let parts = |revision| mesh.nodes[0].revision(revision).map(|commit| commit.revision.definition);
    assert_eq!(parts(head), parts(chosen));
}

#[test]
fn a_hundred_strangers_signatures_do_not_take_the_place_of_a_proof() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.revise(0, 2, project, lab(&[0, 1, 2], &[(0, "date")]), Consent::Majority);
    let head = mesh.head(project);
    let real = mesh.nodes[0].revision(head).expect("it is the head").clone();
    let strangers = (100..150).map(|seed| wire::sign_reservation(&KeyPair::from_secret([seed; 32]), head));
    let padded = crate::record::Commit { reservations: strangers.collect(), promises: Vec::new(), ..real };
    let record = wire::sign_record(&keys(1), Record::Commit(padded));
    mesh.input(2, Input::Record(record));
    mesh.restart(2);
    assert_eq!(mesh.head(project), head);
}

#[path = "consider_test.rs"]
mod considering;

#[path = "kept_test.rs"]
mod kept;

/// Any member may call a ballot; but no number, and nobody who has no vote, keeps others from ever being heard again.
#[test]
fn a_ballot_near_the_end_of_all_numbers_is_not_answered_and_only_voters_outbid() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1]);
    let from = keys(2).public();
    let ballot = Ballot { number: u64::MAX, coordinator: from };
    for index in [0, 1] {
        let message = Message::Ballot { parent: project.0, ballot };
        mesh.input(index, Input::Message { from, message });
        assert!(mesh.decisions[index].get(&project.0).is_none_or(|note| note.answered != Some(ballot)));
    }
    // While its own ballot is under way, the coordinator is told lies by who has no vote.
    mesh.lost = |message| matches!(message, Message::Ballot { .. });
    mesh.revise(0, 2, project, lab(&[0, 1], &[(0, "echo")]), Consent::Majority);
    let own = Ballot { number: 1, coordinator: keys(0).public() };
    for number in [7, u64::MAX] {
        let message = Message::Outbid { parent: project.0, ballot: own, number };
        mesh.input(0, Input::Message { from, message });
    }
    mesh.lost = |_| false;
    mesh.pass(60);
    assert_eq!(mesh.outcomes.get(&OpId(2)), Some(&Outcome::Done));
    let coordinated = mesh.decisions[0].get(&project.0).map_or(0, |note| note.coordinated);
    assert!(coordinated < 7, "{coordinated}");
}

#[path = "reservations_test.rs"]
mod reservations;

#[path = "forgotten_test.rs"]
mod forgotten;
