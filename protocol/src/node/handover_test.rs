use super::*;
use crate::model::Blob;
use crate::record::{Ballot, Commit, Consent, Promise, Revision, RevisionHost, RevisionVm};

impl Cluster {
    /// Does what a platform does that keeps disks as numbers.
    pub(super) fn copied(&mut self, host: usize, output: &Output) -> Option<Input> {
        let digest = |content: u64| Digest::of(&content.to_le_bytes());
        match output {
            Output::Pull { vm, from, .. } => {
                let from = (0..NAMES.len()).find(|&index| keys(index).public() == *from).expect("a node");
                let content = *self.disks.get(&(from, vm.clone())).expect("the owner has a disk");
                self.disks.insert((host, vm.clone()), content);
                Some(Input::Pulled { vm: vm.clone(), result: Ok(0) })
            }
            Output::Seal { vm } => {
                let content = self.disks[&(host, vm.clone())];
                Some(Input::Sealed { vm: vm.clone(), result: Ok(digest(content)) })
            }
            Output::ReadCopy { vm } => {
                let read = self.disks.get(&(host, vm.clone())).map(|content| digest(*content));
                let result = read.ok_or_else(|| "there is none".to_owned());
                Some(Input::CopyRead { vm: vm.clone(), result })
            }
            Output::DropCopy { vm } => {
                self.disks.remove(&(host, vm.clone()));
                None
            }
            _ => None,
        }
    }

    /// Builds the ring, starts the VM on oslo, and returns it.
    fn ring_with_a_running_vm(&mut self) -> VmId {
        let project = self.build_ring();
        let vm = VmId { birth: project.0, name: name("router0") };
        self.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
        self.end_steps();
        self.disks.insert((0, vm.clone()), 1);
        assert_eq!(self.runs(0), std::slice::from_ref(&vm));
        vm
    }

    /// Returns the VMs that run on a host.
    fn runs(&self, host: usize) -> Vec<VmId> {
        let running =
            self.nodes[host].owned_vms().filter(|(_, _, seen, _)| matches!(seen, Observed::Running(_)));
        running.map(|(vm, ..)| vm.clone()).collect()
    }

    /// Decides a revision that places a VM elsewhere, with everybody's word, and tells these hosts.
    pub(super) fn place(&mut self, vm: &VmId, to: usize, told: &[usize]) {
        self.place_because(vm, to, told, "migrate");
    }

    fn place_because(&mut self, vm: &VmId, to: usize, told: &[usize], reason: &str) {
        let head = self.nodes[0].projects.head(ProjectId(vm.birth)).expect("it is built").clone();
        let definition = |host: &RevisionHost| {
            let holder = self.nodes.iter().find_map(|node| node.fragments.get(&host.fragment));
            (**holder.expect("somebody has it")).clone()
        };
        let mut parts: BTreeMap<PublicKey, (Fragment, Vec<RevisionVm>)> = BTreeMap::new();
        let mut moved = None;
        for host in &head.revision.hosts {
            let mut fragment = definition(host);
            let stay: Vec<VmId> = host.ids(head.digest).filter(|id| id != vm).collect();
            if let Some(at) = fragment.vms.iter().position(|found| found.name == vm.name)
                && stay.len() < host.vms.len()
            {
                moved = Some(fragment.vms.remove(at));
            }
            let ids = stay.into_iter().map(|id| RevisionVm { name: id.name, birth: Some(id.birth) });
            parts.insert(host.key, (fragment, ids.collect()));
        }
        let part = parts.entry(keys(to).public()).or_default();
        part.0.vms.push(moved.expect("it is placed somewhere"));
        part.1.push(RevisionVm { name: vm.name.clone(), birth: Some(vm.birth) });
        for (fragment, _) in parts.values_mut() {
            for placement in fragment.placement.iter_mut().filter(|placement| placement.vm == vm.name) {
                placement.host = name(NAMES[to]);
            }
        }
        let hosts = head.revision.hosts.iter().map(|host| {
            let (fragment, vms) = &parts[&host.key];
            RevisionHost {
                fragment: Digest::of(&wire::encode_fragment(fragment)),
                vms: vms.clone(),
                ..host.clone()
            }
        });
        let revision = Revision {
            project: Some(head.project()),
            parent: Some(head.digest),
            hosts: hosts.collect(),
            reason: reason.into(),
            ..head.revision.clone()
        };
        let digest = Digest::of(&wire::encode_revision(&revision));
        let ballot = Ballot { number: 1, coordinator: keys(0).public() };
        let promise = Promise { parent: head.digest, child: digest, ballot };
        let commit = Commit {
            revision,
            digest,
            reservations: (0..3).map(|host| wire::sign_reservation(&keys(host), digest)).collect(),
            promises: (0..3).map(|host| wire::sign_promise(&keys(host), promise)).collect(),
        };
        for (key, (fragment, _)) in parts {
            let node = self.nodes.iter_mut().find(|node| node.me == key).expect("a node");
            node.keep_fragment(Arc::new(fragment));
        }
        let record = wire::sign_record(&keys(0), Record::Commit(commit));
        for &host in told {
            self.input(host, Input::Record(record.clone()));
        }
    }

    fn kill(&mut self, host: usize, found: Vec<(VmId, Observed)>) {
        let old = &self.nodes[host];
        let stored = StoredState {
            records: old.records.range(..).cloned().collect(),
            fragments: old.fragments.iter().map(|(digest, part)| (*digest, part.clone())).collect(),
            holdings: old.holdings().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
            joined: old.joined.clone(),
            ..StoredState::default()
        };
        self.nodes[host] = Node::new(config(host, 512), stored);
        self.steps.retain(|(at, ..)| *at != host);
        self.input(host, Input::Start { found });
        for other in (0..NAMES.len()).filter(|&other| other != host) {
            self.input(other, Input::Disconnected(keys(host).public()));
            if !self.away.contains(&other) {
                self.input(host, Input::Connected(keys(other).public()));
                self.input(other, Input::Connected(keys(host).public()));
            }
        }
    }

    pub(super) fn owner_told(&self, at: usize, vm: &VmId) -> String {
        let current = self.nodes[at].ownership(vm).expect("somebody owns it");
        let tenure = match &current.tenure {
            Tenure::Held => "",
            Tenure::Released { .. } => " released",
            Tenure::Declined { .. } => " declined",
            Tenure::Contested { .. } => " contested",
        };
        let owner = (0..3).find(|&host| keys(host).public() == current.owner).expect("a host");
        format!("{} {}{tenure}", NAMES[owner], current.epoch)
    }

    fn holding(&self, host: usize, vm: &VmId) -> Option<&Holding> {
        self.nodes[host].holdings.get(vm)
    }
}

#[test]
fn a_running_vm_moves_and_runs_on_the_other_host() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    cluster.place(&vm, 1, &[0, 1, 2]);
    assert_eq!(cluster.owner_told(2, &vm), "oslo 1.1", "it runs until its disk is nearly there");
    assert!(matches!(cluster.steps[..], [(0, _, Step::Stop(_))]), "{:?}", cluster.steps);
    cluster.disks.insert((0, vm.clone()), 2);
    cluster.end_steps();
    assert_eq!(cluster.owner_told(2, &vm), "bergen 1.2");
    assert_eq!(cluster.disks[&(1, vm.clone())], 2, "what it wrote last has come along");
    assert!(matches!(cluster.holding(0, &vm), Some(Holding::Shadow { .. })));
    assert_eq!(cluster.steps, [(1, vm.clone(), Step::Start)]);
    cluster.end_steps();
    assert_eq!((cluster.runs(0).len(), cluster.runs(1)), (0, vec![vm.clone()]));
    let view = cluster.nodes[2].vm(ProjectId(vm.birth), &vm.name).expect("it is known");
    assert_eq!((view.owner, view.status.run_counter), (keys(1).public(), 1));
    cluster.input(0, Input::SpaceShort);
    assert_eq!(cluster.holding(0, &vm), None, "a shadow goes first");
}

#[test]
fn what_was_moved_away_is_known_by_the_revision_and_who_has_a_copy_by_the_claim() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    cluster.place_because(&vm, 1, &[0, 1, 2], "evacuate oslo: new disks");
    cluster.end_steps();
    cluster.end_steps();
    assert_eq!(cluster.owner_told(2, &vm), "bergen 1.2");
    let epoch = crate::record::Epoch::FIRST;
    let here = |cluster: &Cluster, host: usize| cluster.nodes[host].copy_here(&vm);
    assert_eq!(here(&cluster, 0), CopyHere::Complete(epoch));
    assert_eq!((here(&cluster, 1), here(&cluster, 2)), (CopyHere::Owned, CopyHere::None));
    assert_eq!(cluster.nodes[2].given_by(&vm), Some(keys(0).public()));
    let project = ProjectId(vm.birth);
    let first = cluster.nodes[0].revisions(project)[0].1.digest;
    let moved = |cluster: &Cluster| cluster.nodes[2].evacuated(&name("oslo"));
    let expect = Evacuated { project, vm: vm.name.clone(), at: name("bergen"), back_to: Some(first) };
    assert_eq!(moved(&cluster), [expect]);
    assert_eq!(cluster.nodes[2].evacuated(&name("bergen")), []);
    assert_eq!(cluster.nodes[2].placed_on(&name("oslo")), []);
    // What somebody has moved since stays there.
    cluster.place(&vm, 2, &[0, 1, 2]);
    assert_eq!(moved(&cluster), []);
}

#[test]
fn a_vm_that_was_never_built_moves_without_a_disk() {
    let mut cluster = Cluster::new(512);
    cluster.begin(0, 1, Operation::Build(Box::new(ring(64, OnFailure::Keep))));
    let vm =
        cluster.steps.iter().find(|(host, ..)| *host == 0).map(|(_, vm, _)| vm.clone()).expect("it builds");
    let result = Err("no space".to_owned());
    cluster.steps.retain(|(host, ..)| *host != 0);
    cluster.input(0, Input::StepDone { vm: vm.clone(), step: Step::Build, result });
    cluster.disks.insert((0, vm.clone()), 0);
    cluster.place(&vm, 1, &[0, 1, 2]);
    assert_eq!(cluster.owner_told(2, &vm), "bergen 1.2");
    assert_eq!(cluster.holding(0, &vm), None);
    assert!(cluster.steps.contains(&(1, vm, Step::Build)), "{:?}", cluster.steps);
}

#[test]
fn an_imported_disk_of_another_host_is_not_kept_with_the_revision_that_brought_it() {
    let mut cluster = Cluster::new(512);
    let mut order = ring(64, OnFailure::Keep);
    let disks = [0, 1].map(|host: u8| Blob {
        from: Blob::disk_of(&name(&format!("router{host}"))),
        digest: Digest([host + 7; 32]),
        bytes: 1 << 20,
        mode: 0o600,
    });
    order.blobs.extend(disks.clone());
    cluster.begin(0, 1, Operation::Build(Box::new(order)));
    assert!(
        disks.iter().all(|disk| cluster.nodes[0].used_blobs().contains(&disk.digest)),
        "it is asked about"
    );
    cluster.end_steps();
    assert_eq!(cluster.outcome(1), &Outcome::Done);
    let uses = |host: usize, disk: usize| cluster.nodes[host].used_blobs().contains(&disks[disk].digest);
    assert_eq!([uses(0, 0), uses(0, 1), uses(1, 0), uses(1, 1)], [true, false, false, true]);
}

#[test]
fn what_an_import_brought_is_built_where_it_came_whatever_the_project_becomes_meanwhile() {
    let mut cluster = Cluster::new(512);
    let mut order = ring(64, OnFailure::Keep);
    let disk =
        Blob { from: Blob::disk_of(&name("router0")), digest: Digest([7; 32]), bytes: 1 << 20, mode: 0o600 };
    order.blobs.push(disk.clone());
    cluster.begin(0, 1, Operation::Build(Box::new(order)));
    let vm =
        cluster.steps.iter().find(|(host, ..)| *host == 0).map(|(_, vm, _)| vm.clone()).expect("it builds");
    let fails = |cluster: &mut Cluster| {
        cluster.steps.retain(|(host, ..)| *host != 0);
        let result = Err("whoever has its disk is away".to_owned());
        cluster.input(0, Input::StepDone { vm: vm.clone(), step: Step::Build, result });
    };
    let tries = |cluster: &mut Cluster| {
        for _ in 0..100 {
            if cluster.steps.contains(&(0, vm.clone(), Step::Build)) {
                return;
            }
            cluster.pass(10_000);
        }
        panic!("it is tried again: {:?}", cluster.steps);
    };
    fails(&mut cluster);
    // More revisions than are kept, none of which says anything of the disk.
    let part = |cluster: &Cluster| {
        let head = cluster.nodes[0].projects.head(ProjectId(vm.birth)).expect("it is built").clone();
        cluster.nodes[0].fragments[&head.host(cluster.nodes[0].me).expect("it has a part").fragment].clone()
    };
    let label = Label { owner: name("root"), project: name("ring") };
    for op in 2..(3 + limits::REVISIONS_KEPT as u64) {
        let mut order = ring(64, OnFailure::Keep);
        order.project.vms[0].startup = vec![format!("echo {op}")];
        let order = ReviseOrder {
            project: ProjectId(vm.birth),
            content: ReviseContent::Definition { project: order.project, blobs: Vec::new() },
            author: String::new(),
            reason: "upgrade".to_owned(),
            consent: Consent::Majority,
            running: RunningVms::Refuse,
            from_head: None,
            keep_removed_ms: 0,
        };
        cluster.begin(0, op, Operation::Revise(Box::new(order)));
        cluster.steps.retain(|(host, ..)| *host != 0);
    }
    assert_eq!(part(&cluster).blobs, []);
    assert_eq!(cluster.nodes[0].imported_disk(&vm), Some((&label, &disk)));
    cluster.kill(0, Vec::new());
    assert_eq!(cluster.nodes[0].imported_disk(&vm), Some((&label, &disk)));
    assert!(cluster.nodes[0].used_blobs().contains(&disk.digest), "it is not thrown away");
    // It doesn't leave without its disk, and does with it.
    cluster.disks.insert((0, vm.clone()), 0);
    cluster.place(&vm, 1, &[0, 1, 2]);
    tries(&mut cluster);
    fails(&mut cluster);
    assert!(cluster.owner_told(2, &vm).starts_with("oslo"), "{}", cluster.owner_told(2, &vm));
    assert!(!cluster.steps.contains(&(1, vm.clone(), Step::Build)), "{:?}", cluster.steps);
    tries(&mut cluster);
    cluster.disks.insert((0, vm.clone()), 5);
    cluster.end_steps();
    for _ in 0..100 {
        cluster.pass(10_000);
        cluster.end_steps();
    }
    assert!(cluster.owner_told(2, &vm).starts_with("bergen"), "{}", cluster.owner_told(2, &vm));
    assert_eq!(cluster.disks.get(&(1, vm.clone())), Some(&5));
}

#[test]
fn a_hand_over_goes_on_whatever_is_lost_and_whoever_is_killed() {
    // What is lost the first time, and who is killed then.
    let lost: [fn(&Output) -> bool; 5] = [
        |output| matches!(output, Output::Send { message: Message::HandOver(HandOver::Halt { .. }), .. }),
        |output| matches!(output, Output::Send { message: Message::HandOver(HandOver::Halted { .. }), .. }),
        |output| matches!(output, Output::Send { message: Message::HandOver(HandOver::Ready(_)), .. }),
        |output| is_link(output, |link| matches!(link, crate::record::Link::Release(_))),
        |output| is_link(output, |link| matches!(link, crate::record::Link::Claim(_))),
    ];
    for (case, loses) in lost.into_iter().enumerate() {
        for killed in [0, 1] {
            let mut cluster = Cluster::new(512);
            let vm = cluster.ring_with_a_running_vm();
            cluster.loses = loses;
            cluster.place(&vm, 1, &[0, 1, 2]);
            cluster.end_steps();
            cluster.loses = |_| false;
            let down = Observed::Down { exit: Some(ExitStatus::Code(0)) };
            let found = if killed == 0 {
                let seen = if cluster.runs(0).is_empty() { down } else { Observed::Running(RunPhase::Ready) };
                vec![(vm.clone(), seen)]
            } else if cluster.nodes[1].right(&vm) == super::super::ownership::Right::None {
                vec![]
            } else {
                vec![(vm.clone(), Observed::Down { exit: None })]
            };
            cluster.kill(killed, found);
            for _ in 0..20 {
                cluster.pass(limits::RETRY_MS_MIN);
                cluster.end_steps();
            }
            let told = format!("case {case}, {} killed", NAMES[killed]);
            assert_eq!(cluster.owner_told(2, &vm), "bergen 1.2", "{told}");
            assert_eq!((cluster.runs(0).len(), cluster.runs(1)), (0, vec![vm.clone()]), "{told}");
        }
    }
}

fn is_link(output: &Output, fits: impl Fn(&crate::record::Link) -> bool) -> bool {
    let fits = |record: &VerifiedRecord| matches!(&***record, Record::Link(link) if fits(link));
    match output {
        Output::Broadcast(record) => fits(record),
        Output::Send { message: Message::Records(records), .. } => records.iter().any(fits),
        _ => false,
    }
}

#[test]
fn whoever_lost_the_copy_declines_and_the_old_owner_goes_on_in_a_later_epoch() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    cluster.loses = |output| is_link(output, |link| matches!(link, crate::record::Link::Release(_)));
    cluster.place(&vm, 1, &[0, 1, 2]);
    cluster.end_steps();
    assert_eq!(cluster.owner_told(0, &vm), "oslo 1.1 released");
    cluster.pass(600_000);
    assert_eq!(cluster.runs(0).len() + cluster.steps.len(), 0, "it never starts what it has released");
    cluster.disks.remove(&(1, vm.clone()));
    cluster.kill(1, vec![]);
    cluster.loses = |output| matches!(output, Output::Pull { .. });
    cluster.pass(limits::RELEASE_MS);
    assert_eq!(cluster.owner_told(2, &vm), "oslo 1.3");
    cluster.end_steps();
    assert_eq!(cluster.runs(0), std::slice::from_ref(&vm));
    cluster.loses = |_| false;
    for _ in 0..20 {
        cluster.pass(limits::RETRY_MS_MAX);
        cluster.end_steps();
    }
    assert_eq!(cluster.owner_told(2, &vm), "bergen 1.4", "it is tried again");
    assert_eq!((cluster.runs(0).len(), cluster.runs(1)), (0, vec![vm]));
}

#[test]
fn the_owner_goes_on_where_the_new_host_falls_silent() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    cluster.loses =
        |output| matches!(output, Output::Send { message: Message::HandOver(HandOver::Halted { .. }), .. });
    cluster.place(&vm, 1, &[0, 1, 2]);
    cluster.end_steps();
    assert_eq!(cluster.runs(0).len(), 0);
    cluster.away.insert(1);
    cluster.now_ms += limits::HALT_QUIET_MS;
    cluster.input(0, Input::Timeout);
    cluster.end_steps();
    assert_eq!(cluster.runs(0), [vm]);
}

#[test]
fn a_start_that_fails_while_the_new_host_asks_for_the_vm_does_not_hold_it_up() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = VmId { birth: project.0, name: name("router0") };
    cluster.disks.insert((0, vm.clone()), 1);
    cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    let (host, starting, step) = cluster.steps.remove(0);
    assert_eq!((host, &starting, step), (0, &vm, Step::Start));
    cluster.place(&vm, 1, &[0, 1, 2]);
    let result = Err("no space left on device".to_owned());
    cluster.input(0, Input::StepDone { vm: vm.clone(), step, result });
    // People are told that it failed, and say it again.
    cluster.begin(0, 3, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    for _ in 0..4 {
        cluster.pass(limits::RESEND_MS);
        cluster.end_steps();
    }
    assert_eq!(cluster.owner_told(2, &vm), "bergen 1.2");
    assert_eq!((cluster.runs(0).len(), cluster.runs(1)), (0, vec![vm]));
}

fn take_over(cluster: &mut Cluster, host: usize, op: u64, vm: &VmId, owner: OwnerHeard) {
    let operation = Operation::TakeOver { vm: vm.clone(), owner, author: "root at bergen".to_owned() };
    cluster.begin(host, op, operation);
}

/// Moves the VM to bergen, so that oslo has a shadow of it.
fn moved(cluster: &mut Cluster) -> VmId {
    let vm = cluster.ring_with_a_running_vm();
    cluster.place(&vm, 1, &[0, 1, 2]);
    for _ in 0..2 {
        cluster.end_steps();
    }
    assert_eq!(cluster.runs(1), std::slice::from_ref(&vm));
    vm
}

#[test]
fn a_takeover_is_refused_while_somebody_hears_the_owner_and_without_a_copy() {
    let mut cluster = Cluster::new(512);
    let vm = moved(&mut cluster);
    take_over(&mut cluster, 0, 5, &vm, OwnerHeard::Refuse);
    assert_eq!(rules(cluster.outcome(5)), [("oslo".to_owned(), Rule::Ownership)]);
    take_over(&mut cluster, 2, 6, &vm, OwnerHeard::Force);
    assert_eq!(rules(cluster.outcome(6)), [("gjovik".to_owned(), Rule::Ownership)]);
    // Oslo has lost it, and gjovik hears it still.
    cluster.input(0, Input::Disconnected(keys(1).public()));
    cluster.now_ms += limits::FAILURE_MS;
    take_over(&mut cluster, 0, 7, &vm, OwnerHeard::Refuse);
    assert_eq!(rules(cluster.outcome(7)), [("oslo".to_owned(), Rule::Ownership)]);
    assert_eq!(cluster.owner_told(2, &vm), "bergen 1.2");
}

#[test]
fn after_a_takeover_the_old_owner_holds_still_and_keeps_its_disk() {
    let mut cluster = Cluster::new(512);
    let vm = moved(&mut cluster);
    cluster.away.insert(1);
    for other in [0, 2] {
        cluster.input(other, Input::Disconnected(keys(1).public()));
        cluster.input(1, Input::Disconnected(keys(other).public()));
    }
    cluster.now_ms += limits::FAILURE_MS;
    take_over(&mut cluster, 0, 5, &vm, OwnerHeard::Refuse);
    assert_eq!(cluster.outcome(5), &Outcome::Done);
    assert_eq!(cluster.owner_told(2, &vm), "oslo 2.1");
    cluster.end_steps();
    assert_eq!((cluster.runs(0), cluster.runs(1)), (vec![vm.clone()], vec![vm.clone()]), "it hasn't heard");
    cluster.away.clear();
    for other in [0, 2] {
        cluster.input(1, Input::Connected(keys(other).public()));
        cluster.input(other, Input::Connected(keys(1).public()));
    }
    cluster.end_steps();
    assert_eq!((cluster.runs(0), cluster.runs(1).len()), (vec![vm.clone()], 0));
    assert!(cluster.disks.contains_key(&(1, vm.clone())), "it is kept");
    cluster.kill(1, vec![(vm.clone(), Observed::Down { exit: None })]);
    cluster.pass(limits::CONFIRM_MS);
    assert_eq!(cluster.steps, [], "nor after a restart");
    // Another takeover of a term beside this one, as a host that had not heard of it makes it.
    cluster.input(1, Input::SpaceShort);
    take_over(&mut cluster, 1, 6, &vm, OwnerHeard::Force);
    assert_eq!(cluster.owner_told(2, &vm), "bergen 3.1");
    cluster.end_steps();
    assert_eq!((cluster.runs(0).len(), cluster.runs(1)), (0, vec![vm]));
}

/// Its switches were where the project's text places it, which nobody could change while its old host was off.
#[test]
fn a_vm_that_was_taken_over_is_on_its_switches_at_once() {
    let mut cluster = Cluster::new(512);
    let vm = moved(&mut cluster);
    let other = VmId { name: name("router2"), ..vm.clone() };
    cluster.begin(2, 3, Operation::Run { vms: vec![other], order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    let peers = |cluster: &Cluster, host: usize| -> Vec<PublicKey> {
        cluster.switches[&host].iter().flat_map(|switch| switch.peers.clone()).collect()
    };
    let [oslo, bergen, gjovik] = [0, 1, 2].map(|host| keys(host).public());
    assert!(!peers(&cluster, 2).contains(&oslo) || peers(&cluster, 2).contains(&bergen));
    cluster.away.insert(1);
    for other in [0, 2] {
        cluster.input(other, Input::Disconnected(bergen));
        cluster.input(1, Input::Disconnected(keys(other).public()));
    }
    cluster.now_ms += limits::FAILURE_MS;
    take_over(&mut cluster, 0, 5, &vm, OwnerHeard::Refuse);
    cluster.end_steps();
    assert_eq!(cluster.runs(0), std::slice::from_ref(&vm));
    assert!(peers(&cluster, 0).contains(&gjovik), "{:?}", peers(&cluster, 0));
    assert!(peers(&cluster, 2).contains(&oslo), "{:?}", peers(&cluster, 2));
    let (project, switch) = (ProjectId(vm.birth), name("A"));
    assert!(cluster.nodes[2].shares_switch(oslo, project, &switch));
    assert!(cluster.nodes[0].shares_switch(gjovik, project, &switch));
}

/// A host that came back claimed what was released to it, and started it, for as long as it took to read the next record
/// of the same message.
#[test]
fn a_release_that_comes_together_with_a_later_takeover_is_not_claimed() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    cluster.loses = |output| is_link(output, |_| true);
    cluster.place(&vm, 1, &[0, 1, 2]);
    cluster.end_steps();
    assert_eq!(cluster.owner_told(0, &vm), "oslo 1.1 released");
    take_over(&mut cluster, 0, 5, &vm, OwnerHeard::Force);
    assert_eq!(cluster.owner_told(0, &vm), "oslo 2.1");
    let mut links: Vec<VerifiedRecord> = cluster.nodes[0].ledger.links(&vm).cloned().collect();
    links.reverse();
    cluster.input(1, Input::Message { from: keys(0).public(), message: Message::Records(links) });
    assert_eq!(cluster.owner_told(1, &vm), "oslo 2.1");
    assert!(!matches!(cluster.holding(1, &vm), Some(Holding::Claimed { .. })));
}

#[test]
fn a_request_that_saw_another_epoch_is_stale() {
    let mut cluster = Cluster::new(512);
    let vm = moved(&mut cluster);
    let request = RunRequest {
        owner: keys(1).public(),
        vm: vm.clone(),
        epoch: crate::record::Epoch::FIRST,
        seen_counter: 1,
        order: RunOrder::Down(StopLimit::Now),
        made_unix_ms: 0,
        chain: Vec::new(),
    };
    let payload = wire::encode_run_request(&request);
    let request = Arc::new(Verified::own(&keys(2), Domain::Request, request, payload));
    cluster.input(1, Input::Message { from: keys(2).public(), message: Message::Run(request) });
    assert_eq!(cluster.steps, []);
    cluster.begin(
        2,
        9,
        Operation::Run { vms: vec![vm.clone()], order: RunOrder::Down(StopLimit::Now), pause_ms: 0 },
    );
    cluster.end_steps();
    assert_eq!(cluster.outcome(9), &Outcome::Done);
    assert_eq!(cluster.runs(1).len(), 0);
}

#[test]
fn a_host_that_lost_its_notes_starts_nothing_until_it_is_taken_over() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = VmId { birth: project.0, name: name("router1") };
    cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    cluster.disks.insert((1, vm.clone()), 1);
    cluster.nodes[1] = Node::new(config(1, 512), StoredState::default());
    cluster.input(1, Input::Start { found: vec![(vm.clone(), Observed::Lost)] });
    for other in [0, 2] {
        cluster.input(other, Input::Disconnected(keys(1).public()));
        cluster.input(1, Input::Connected(keys(other).public()));
        cluster.input(other, Input::Connected(keys(1).public()));
    }
    for _ in 0..5 {
        cluster.pass(10_000);
    }
    assert_eq!(cluster.steps, []);
    take_over(&mut cluster, 1, 8, &vm, OwnerHeard::Refuse);
    assert_eq!(cluster.owner_told(2, &vm), "bergen 2.1");
    assert_eq!(cluster.steps, [(1, vm, Step::Start)]);
}

/// Puts oslo back to what it was before it gave the VM away, with the disk as it was then.
fn put_back(cluster: &mut Cluster, vm: &VmId, stored: StoredState) {
    cluster.nodes[0] = Node::new(config(0, 512), stored);
    cluster.input(0, Input::Start { found: vec![(vm.clone(), Observed::Down { exit: None })] });
    for other in [1, 2] {
        cluster.input(other, Input::Disconnected(keys(0).public()));
        cluster.input(0, Input::Connected(keys(other).public()));
        cluster.input(other, Input::Connected(keys(0).public()));
    }
    assert_eq!(cluster.nodes[0].signing(), crate::node::Signing::Doubled);
    cluster.begin(0, 50, Operation::GoOn);
    assert_eq!(cluster.outcome(50), &Outcome::Done);
}

fn stored(node: &Node) -> StoredState {
    StoredState {
        records: node.records.range(..).cloned().collect(),
        fragments: node.fragments.iter().map(|(digest, part)| (*digest, part.clone())).collect(),
        holdings: node.holdings().map(|(vm, holding)| (vm.clone(), holding.clone())).collect(),
        joined: node.joined.clone(),
        ..StoredState::default()
    }
}

fn state_on(cluster: &Cluster, host: usize, vm: &VmId) -> VmState {
    let mut owned = cluster.nodes[host].owned_vms().filter(|(id, ..)| *id == vm);
    owned.next().map(|(.., status)| status.state.clone()).expect("it is kept there")
}

/// It was shown as down, as if nothing were the matter, and its disk as one that was to be removed.
#[test]
fn a_host_that_was_put_back_keeps_what_it_had_given_away_since_and_says_why() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    let backup = stored(&cluster.nodes[0]);
    cluster.place(&vm, 1, &[0, 1, 2]);
    for _ in 0..2 {
        cluster.end_steps();
    }
    put_back(&mut cluster, &vm, backup);
    cluster.begin(1, 3, Operation::Remove { project: ProjectId(vm.birth), running: RunningVms::Stop });
    for _ in 0..3 {
        cluster.end_steps();
    }
    let state = state_on(&cluster, 0, &vm);
    let VmState::Failed { reason } = &state else { panic!("{state:?}") };
    assert!(reason.contains("bergen owns it by now"), "{reason}");
    assert_eq!(cluster.steps, []);
}

#[test]
fn a_host_that_was_put_back_asks_which_disk_counts_where_it_owns_the_vm_again() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    let backup = stored(&cluster.nodes[0]);
    for to in [1, 0] {
        cluster.place(&vm, to, &[0, 1, 2]);
        for _ in 0..5 {
            cluster.pass(limits::RETRY_MS_MIN);
            cluster.end_steps();
        }
    }
    assert_eq!(cluster.owner_told(2, &vm), "oslo 1.3");
    put_back(&mut cluster, &vm, backup);
    cluster.pass(limits::STATUS_MS);
    let state = cluster.state(2, &vm);
    let VmState::Failed { reason } = &state else { panic!("{state:?}") };
    assert!(reason.contains("1.3") && reason.contains("1.1"), "{reason}");
    assert_eq!(cluster.steps, []);
    take_over(&mut cluster, 0, 51, &vm, OwnerHeard::Refuse);
    assert_eq!(cluster.owner_told(2, &vm), "oslo 2.1");
    assert_eq!(cluster.steps, [(0, vm, Step::Start)]);
}

/// What was found out only when it was started was taken for never built, and built anew on the next host.
#[test]
fn a_disk_that_is_missed_at_a_start_is_gone_and_not_made_anew() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vm = VmId { birth: project.0, name: name("router0") };
    cluster.begin(0, 2, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    assert_eq!(std::mem::take(&mut cluster.steps), [(0, vm.clone(), Step::Start)]);
    let result = Ok(Observed::Absent);
    cluster.input(0, Input::StepDone { vm: vm.clone(), step: Step::Start, result });
    let state = cluster.state(1, &vm);
    assert!(matches!(&state, VmState::Failed { reason } if reason.contains("gone")), "{state:?}");
    assert!(matches!(cluster.outcome(2), Outcome::Failed(_)));
    cluster.disks.insert((0, vm.clone()), 1);
    cluster.place(&vm, 1, &[0, 1, 2]);
    cluster.pass(limits::RETRY_MS_MIN);
    assert_eq!(cluster.owner_told(2, &vm), "oslo 1.1", "it is not released as one that was never built");
    assert_eq!(cluster.steps, []);
}

/// The wait went on for ten minutes: whoever takes a VM over has not heard of what its owner agreed to do.
#[test]
fn who_waits_for_a_vm_hears_that_it_was_taken_over() {
    let mut cluster = Cluster::new(512);
    let vm = moved(&mut cluster);
    let order = RunOrder::Down(StopLimit::Now);
    cluster.begin(1, 9, Operation::Run { vms: vec![vm.clone()], order, pause_ms: 0 });
    assert!(!cluster.outcomes.contains_key(&OpId(9)), "its guest is going down");
    take_over(&mut cluster, 0, 10, &vm, OwnerHeard::Force);
    assert_eq!(cluster.outcome(10), &Outcome::Done);
    let outcome = cluster.outcome(9);
    let told =
        matches!(outcome, Outcome::Failed(failures) if failures[0].reason.contains("oslo took it over"));
    assert!(told, "{outcome:?}");
}

/// The host went down after it had noted that it released the VM, and before it had put the disk aside. That disk belonged
/// to nobody from then on.
#[test]
fn a_disk_that_was_not_put_aside_in_time_is_at_the_next_start() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.ring_with_a_running_vm();
    cluster.loses = |output| is_link(output, |link| matches!(link, crate::record::Link::Release(_)));
    cluster.place(&vm, 1, &[0, 1, 2]);
    cluster.end_steps();
    assert!(matches!(cluster.holding(0, &vm), Some(Holding::Released { made: true, .. })));
    let mut node = Node::new(config(0, 512), stored(&cluster.nodes[0]));
    let found = vec![(vm.clone(), Observed::Down { exit: Some(ExitStatus::Code(0)) })];
    node.handle(Now { mono_ms: 0, unix_ms: 0 }, Input::Start { found });
    let outputs = std::iter::from_fn(|| node.poll_output());
    let shelved = outputs.filter(|output| matches!(output, Output::Shelve { vm: shelved } if *shelved == vm));
    assert_eq!(shelved.count(), 1);
}
