use super::*;
use crate::node::Signing;
use crate::record::RecordKey;

impl Cluster {
    fn stored(&self, host: usize) -> StoredState {
        let node = &self.nodes[host];
        StoredState {
            records: node.records.range(..).cloned().collect(),
            fragments: node.fragments.iter().map(|(digest, part)| (*digest, part.clone())).collect(),
            holdings: node.holdings().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
            joined: node.joined.clone(),
            ..StoredState::default()
        }
    }

    /// Starts a host on this, with the VMs that lie on its disk, and connects nobody.
    fn start_on(&mut self, host: usize, stored: StoredState, found: Vec<(VmId, Observed)>) {
        self.nodes[host] = Node::new(config(host, 512), stored);
        self.steps.retain(|(at, ..)| *at != host);
        for other in (0..NAMES.len()).filter(|&other| other != host) {
            self.input(other, Input::Disconnected(keys(host).public()));
        }
        self.input(host, Input::Start { found });
    }

    fn join_up(&mut self, host: usize, other: usize) {
        self.input(host, Input::Connected(keys(other).public()));
        self.input(other, Input::Connected(keys(host).public()));
    }
}

#[test]
fn a_host_that_was_put_back_signs_and_starts_nothing_until_it_is_told_to() {
    let mut cluster = Cluster::new(512);
    cluster.build_ring();
    let backup = cluster.stored(1);
    // Long enough for every host to repeat its status.
    cluster.pass(2 * limits::STATUS_MS);
    cluster.start_on(1, backup, Vec::new());
    let before = cluster.nodes[1].record_sum();
    cluster.join_up(1, 0);
    assert_eq!(cluster.nodes[1].signing(), Signing::Doubled);
    assert_ne!(cluster.nodes[1].record_sum(), before, "what others have heard is kept");
    cluster.begin(1, 20, Operation::Build(Box::new(ring(64, OnFailure::Undo))));
    assert_eq!(rules(cluster.outcome(20)), [("bergen".to_owned(), Rule::Forgotten)]);
    // Nor does it reserve for others.
    cluster.join_up(1, 2);
    let project = cluster.nodes[0].projects()[0].id;
    cluster.begin(0, 21, Operation::Remove { project, running: RunningVms::Stop });
    assert_eq!(rules(cluster.outcome(21)), [("bergen".to_owned(), Rule::Forgotten)]);
    assert_eq!(cluster.steps, []);
    cluster.begin(1, 22, Operation::GoOn);
    assert_eq!(cluster.outcome(22), &Outcome::Done);
    assert_eq!(cluster.nodes[1].signing(), Signing::Confirmed);
    cluster.pass(limits::SYNC_MS);
    assert_eq!(cluster.nodes[1].record_sum(), cluster.nodes[0].record_sum());
}

/// Any member can say that: it was believed, and silenced a host until a human came.
#[test]
fn a_word_that_another_run_is_alive_silences_nobody() {
    let mut cluster = Cluster::new(512);
    cluster.build_ring();
    cluster.pass(2 * limits::OTHER_RUN_MS);
    let counter =
        |cluster: &Cluster| cluster.nodes[0].records.host(keys(1).public()).map(|host| host.counter);
    let before = counter(&cluster).expect("it was heard");
    let instance = cluster.nodes[1].own_runs.instance;
    for other in 0..100 {
        let message = Message::OwnTold { instance, other: Some(instance ^ (other + 1)), records: Vec::new() };
        cluster.input(1, Input::Message { from: keys(0).public(), message });
    }
    assert_eq!(cluster.nodes[1].signing(), Signing::Confirmed);
    assert_eq!(counter(&cluster), Some(before + 1), "it says something new, but not at every word");
    cluster.begin(1, 40, Operation::Run { vms: Vec::new(), order: RunOrder::Up, pause_ms: 0 });
    assert_eq!(cluster.outcome(40), &Outcome::Done);
}

/// Neither has anything to say by itself: a peer that hears both by turns brings it out.
#[test]
fn a_copy_of_a_host_is_noticed_by_what_the_other_one_signs() {
    let mut cluster = Cluster::new(512);
    cluster.build_ring();
    let mut copy = Node::new(NodeConfig { seed: 99, ..config(1, 512) }, cluster.stored(1));
    let now = Now { mono_ms: cluster.now_ms, unix_ms: cluster.now_ms };
    copy.handle(now, Input::Start { found: Vec::new() });
    let original = cluster.nodes[1].own_runs.instance;
    for instance in [original, copy.own_runs.instance, original] {
        let message = Message::OwnWanted { instance, asks: false };
        cluster.input(0, Input::Message { from: keys(1).public(), message });
    }
    let newest = cluster.nodes[0].records.get(&RecordKey::Host(keys(1).public()));
    copy.handle(now, Input::Record(newest.expect("it is known").clone()));
    assert_eq!(copy.signing(), Signing::Doubled);
}

#[test]
fn a_host_that_reaches_nobody_goes_on_unconfirmed_and_is_confirmed_later() {
    let mut cluster = Cluster::new(512);
    cluster.build_ring();
    let stored = cluster.stored(1);
    cluster.start_on(1, stored, Vec::new());
    assert_eq!(cluster.nodes[1].signing(), Signing::Asking);
    cluster.begin(1, 30, Operation::Run { vms: Vec::new(), order: RunOrder::Up, pause_ms: 0 });
    assert!(!cluster.outcomes.contains_key(&OpId(30)), "it waits until the host may sign");
    cluster.pass(limits::CONFIRM_MS);
    assert_eq!(cluster.nodes[1].signing(), Signing::Unconfirmed);
    assert_eq!(cluster.outcome(30), &Outcome::Done);
}

#[test]
fn a_vm_whose_disk_is_gone_is_not_held_still_for_its_new_host() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = VmId { birth: project.0, name: name("router0") };
    cluster.disks.insert((0, vm.clone()), 1);
    let stored = cluster.stored(0);
    cluster.start_on(0, stored, Vec::new());
    for other in [1, 2] {
        cluster.join_up(0, other);
    }
    assert!(matches!(cluster.state(1, &vm), VmState::Failed { .. }));
    cluster.place(&vm, 1, &[0, 1, 2]);
    cluster.pass(limits::RETRY_MS_MIN);
    assert!(!cluster.nodes[0].hand_overs.holds_still(&vm));
    let reason = cluster.nodes[0].why_not_to(keys(1).public(), &vm, crate::record::Epoch::FIRST);
    assert!(reason.is_some_and(|reason| reason.contains("gone")), "the new host is told");
    assert_eq!(cluster.owner_told(2, &vm), "oslo 1.1");
}

/// A host that goes away with an answer to its question still out, and comes back as another run.
#[test]
fn room_that_was_held_for_a_coordinator_is_free_soon_after_it_was_started_anew() {
    let mut cluster = Cluster::new(512);
    let held = |order: BuildOrder, project: &str| {
        let label = Label { owner: name("root"), project: name(project) };
        BuildOrder { label, ..order }
    };
    // All know each other, and so which run bergen is in.
    for other in [0, 2] {
        for (at, peer) in [(1, other), (other, 1)] {
            cluster.input(at, Input::Disconnected(keys(peer).public()));
        }
        cluster.join_up(1, other);
    }
    // Bergen never hears that the others have reserved, and forgets that it has asked.
    cluster.loses = |output| matches!(output, Output::Send { message: Message::Answer { .. }, .. });
    cluster.begin(1, 1, Operation::Build(Box::new(held(ring(400, OnFailure::Undo), "first"))));
    cluster.loses = |_| false;
    let stored = cluster.stored(1);
    cluster.start_on(1, stored, Vec::new());
    cluster.nodes[1] = Node::new(NodeConfig { seed: 77, ..config(1, 512) }, cluster.stored(1));
    cluster.input(1, Input::Start { found: Vec::new() });
    let second = || Operation::Build(Box::new(held(ring(400, OnFailure::Undo), "second")));
    let short = |cluster: &Cluster, op| {
        let refused = rules(cluster.outcome(op));
        refused
            .into_iter()
            .filter(|(_, rule)| *rule == Rule::Memory)
            .map(|(host, _)| host)
            .collect::<Vec<_>>()
    };
    cluster.away.insert(1);
    cluster.begin(0, 2, second());
    assert_eq!(short(&cluster, 2), ["oslo", "gjovik"], "room is held");
    cluster.away.clear();

    // It is heard again; what it had decided on before would come now.
    for other in [0, 2] {
        cluster.join_up(1, other);
    }
    cluster.pass(limits::RESERVATION_ORPHANED_MS - 1);
    cluster.begin(0, 3, second());
    assert_eq!(short(&cluster, 3), ["oslo", "gjovik"]);
    cluster.pass(1);
    cluster.begin(0, 4, second());
    cluster.end_steps();
    assert_eq!(cluster.outcome(4), &Outcome::Done);
}

/// What the newest agents say is kept by those between them that can't read it.
#[test]
fn what_a_host_cannot_read_it_keeps_and_passes_on() {
    use crate::record::Later;
    let mut cluster = Cluster::new(512);
    cluster.away.insert(2);
    let later = |author: usize, slot: u8, counter| {
        let later = Later { kind: 1_000, slot: [slot; 32], counter, rest: b"who knows".to_vec() };
        wire::sign_record(&keys(author), Record::Later(later))
    };
    let (old, new) = (later(0, 1, 1), later(0, 1, 2));
    for record in [&new, &old, &new] {
        cluster.input(0, Input::Record(record.clone()));
    }
    assert_eq!(cluster.nodes[0].signing(), Signing::Confirmed, "said by itself, when it could read it");
    let connect = |cluster: &mut Cluster, a: usize, b: usize| {
        for (at, other) in [(a, b), (b, a)] {
            cluster.input(at, Input::Disconnected(keys(other).public()));
            cluster.input(at, Input::Connected(keys(other).public()));
        }
    };
    connect(&mut cluster, 0, 1);
    cluster.away = BTreeSet::from([0]);
    connect(&mut cluster, 1, 2);
    let slot = RecordKey::Later(keys(0).public(), 1_000, [1; 32]);
    let got = cluster.nodes[2].records.get(&slot).expect("it was passed on");
    assert_eq!(got.signed().to_bytes(), new.signed().to_bytes());

    // Its own disk brings it back; and nobody fills another's memory with what nobody can read.
    let stored = cluster.stored(2);
    let again = Node::new(config(2, 512), stored);
    assert!(again.records.get(&slot).is_some());
    for number in 0..limits::LATER_RECORDS_MAX + 10 {
        let mut slot = [9; 32];
        slot[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let later = Later { kind: 1_000, slot, counter: 1, rest: Vec::new() };
        cluster.input(2, Input::Record(wire::sign_record(&keys(1), Record::Later(later))));
    }
    let kept = cluster.nodes[2].records.range(..).filter(|record| matches!(&****record, Record::Later(_)));
    assert_eq!(kept.count(), limits::LATER_RECORDS_MAX + 1);
    cluster.input(2, Input::Record(later(0, 2, 1)));
    let slot = RecordKey::Later(keys(0).public(), 1_000, [2; 32]);
    assert!(cluster.nodes[2].records.get(&slot).is_some(), "another author has room of its own");
}
