use super::*;
use crate::node::Signing;

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
