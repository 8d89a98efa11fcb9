//! VMs that are left out and whose disks are kept, between real nodes.

use super::*;
use crate::model::HostAddress;

const KEEP_MS: u64 = 60_000;

impl Mesh {
    /// Leaves `vm1` out of a lab of two, and keeps its disk for a minute; returns the project.
    fn with_one_left_out(&mut self) -> ProjectId {
        let project = self.build(&[0, 1]);
        self.revise_keeping(0, 2, project, lab(&[0], &[]), Consent::Majority, KEEP_MS);
        assert_eq!(self.outcomes.get(&OpId(2)), Some(&Outcome::Done));
        project
    }

    #[track_caller]
    fn births(&self, project: ProjectId) -> BTreeMap<String, Digest> {
        let vms = self.nodes[0].vms(project).into_iter();
        vms.map(|view| (view.status.vm.name.to_string(), view.status.vm.birth)).collect()
    }
}

#[test]
fn a_disk_that_is_left_out_is_kept_for_its_time_and_listed_by_every_peer() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    assert_eq!(mesh.disks(), ["vm0", "vm1"]);
    for node in &mesh.nodes {
        let kept = node.kept(project);
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].vm.status.vm.name.as_str(), kept[0].until_unix_ms), ("vm1", KEEP_MS));
        assert_eq!(node.vms(project).len(), 1, "it is none of the project's machines");
    }
    mesh.pass(59);
    assert_eq!(mesh.removed, []);
    mesh.pass(2);
    assert_eq!(mesh.disks(), ["vm0"]);
    assert!(mesh.nodes.iter().all(|node| node.kept(project).is_empty()));
}

#[test]
fn a_restart_neither_forgets_that_a_disk_is_kept_nor_keeps_it_longer() {
    let mut mesh = Mesh::new();
    mesh.with_one_left_out();
    mesh.pass(30);
    mesh.restart(1);
    mesh.pass(29);
    assert_eq!(mesh.removed, []);
    mesh.restart(1);
    mesh.pass(5);
    assert_eq!(mesh.disks(), ["vm0"]);
}

#[test]
fn a_clock_that_jumps_forward_deletes_nothing_before_its_time() {
    const WEEK_MS: u64 = 7 * 86_400_000;
    for off in [false, true] {
        let mut mesh = Mesh::new();
        let project = mesh.with_one_left_out();
        mesh.pass(20);
        mesh.ahead_ms = WEEK_MS;
        if off {
            mesh.restart(1);
        }
        // Of the time between the last note and a restart an eighth counts at most.
        mesh.pass(30);
        assert_eq!(mesh.removed, [], "off: {off}");
        let kept = mesh.nodes[0].kept(project);
        let left_ms = kept[0].until_unix_ms - mesh.now().unix_ms;
        assert!((1_000..=10_000).contains(&left_ms), "off: {off}, {left_ms} ms are left");
        mesh.pass(11);
        assert_eq!(mesh.disks(), ["vm0"], "off: {off}");
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_no_disk_for_longer() {
    let mut mesh = Mesh::new();
    mesh.ahead_ms = 86_400_000;
    mesh.with_one_left_out();
    mesh.pass(20);
    mesh.ahead_ms = 0;
    mesh.pass(20);
    mesh.restart(1);
    mesh.pass(19);
    assert_eq!(mesh.removed, []);
    mesh.pass(2);
    assert_eq!(mesh.disks(), ["vm0"]);
}

#[test]
fn naming_a_kept_vm_again_brings_it_back_with_its_disk_and_its_identity() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    mesh.revise(2, 3, project, lab(&[0, 1], &[(1, "date")]), Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    assert_eq!(mesh.births(project)["vm1"], project.0);
    assert!(mesh.nodes[0].kept(project).is_empty());
    mesh.pass(120);
    assert_eq!((mesh.disks(), mesh.removed.clone()), (vec!["vm0".to_owned(), "vm1".to_owned()], Vec::new()));
}

#[test]
fn a_rollback_brings_a_kept_vm_back_and_after_its_time_another_one() {
    for (wait, same) in [(10, true), (70, false)] {
        let mut mesh = Mesh::new();
        let project = mesh.with_one_left_out();
        mesh.pass(wait);
        let rollback = ReviseOrder {
            project,
            content: ReviseContent::Revision(project.0),
            author: "anna".to_owned(),
            reason: "rollback".to_owned(),
            consent: Consent::Majority,
            running: RunningVms::Refuse,
            from_head: None,
            keep_removed_ms: KEEP_MS,
        };
        mesh.operate(0, 3, Operation::Revise(Box::new(rollback)));
        assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
        assert_eq!(mesh.births(project)["vm1"] == project.0, same, "after {wait} s");
        assert_eq!(mesh.disks(), ["vm0", "vm1"]);
    }
}

#[test]
fn a_kept_vm_that_is_named_on_another_host_is_another_one() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    let mut wanted = lab(&[0, 1], &[]);
    wanted.vms[1].service_host = Some(HostAddress(NAMES[2].to_owned()));
    mesh.revise(0, 3, project, wanted, Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    assert_ne!(mesh.births(project)["vm1"], project.0);
    assert_eq!(mesh.nodes[0].kept(project).len(), 1);
}

#[test]
fn one_that_names_no_host_comes_back_where_its_disk_is() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    let mut wanted = lab(&[0, 1], &[]);
    wanted.vms[1].service_host = None;
    mesh.revise(0, 3, project, wanted, Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    assert_eq!(mesh.births(project)["vm1"], project.0);
}

#[test]
fn removing_the_project_removes_what_was_kept() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    mesh.operate(0, 3, Operation::Remove { project, running: RunningVms::Refuse });
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    mesh.pass(1);
    assert_eq!(mesh.disks(), Vec::<String>::new());
}

#[test]
fn a_kept_disk_takes_no_memory() {
    let mut mesh = Mesh::new();
    mesh.with_one_left_out();
    assert_eq!(mesh.nodes[1].memory().0, MemoryMib(0));
}

#[test]
fn a_disk_whose_time_ends_while_its_return_is_undecided_waits_for_that() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    mesh.pass(55);
    // The owner has reserved; nobody hears its promise, nor the others'.
    mesh.lost = |message| matches!(message, Message::Promised(_)) || is_commit(message);
    mesh.revise(0, 3, project, lab(&[0, 1], &[]), Consent::Majority);
    mesh.pass(20);
    assert_eq!(mesh.removed, [], "its host has given its word that it is there");
    mesh.lost = |_| false;
    mesh.pass(120);
    assert_eq!(mesh.births(project)["vm1"], project.0);
    assert_eq!(mesh.disks(), ["vm0", "vm1"]);
}

/// A coordinator that was outbid once it had put its child forward used to withdraw it when nobody answered any more: its host
/// let go of the disk, and a voter that had promised the child saw to it that it was decided all the same.
#[test]
fn a_return_that_was_put_forward_is_not_withdrawn_where_it_may_still_be_decided() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    mesh.pass(55);
    mesh.lost = |message| matches!(message, Message::Promised(_)) || is_commit(message);
    mesh.revise(2, 3, project, lab(&[0, 1], &[]), Consent::Majority);
    let note =
        mesh.decisions[0].values().find(|note| note.promised.is_some()).expect("its only voter has promised");
    let (parent, ballot) = (note.parent, Ballot { number: 7, coordinator: keys(1).public() });
    mesh.lost =
        |message| matches!(message, Message::Promised(_) | Message::Answered { .. }) || is_commit(message);
    mesh.input(0, Input::Message { from: keys(1).public(), message: Message::Ballot { parent, ballot } });
    mesh.pass(60);
    let Some(Outcome::Refused(refusals)) = mesh.outcomes.get(&OpId(3)) else { panic!("it is given up") };
    assert_eq!(refusals[0].refusal.rule, Rule::Undecided);
    assert_eq!(mesh.removed, [], "it may be decided to have it back");
    mesh.lost = |_| false;
    mesh.restart(2);
    mesh.pass(120);
    assert_eq!(mesh.births(project)["vm1"], project.0);
    assert_eq!(mesh.disks(), ["vm0", "vm1"]);
}

#[test]
fn a_plan_says_which_vm_comes_back_and_whose_disk_is_kept() {
    let mut mesh = Mesh::new();
    let project = mesh.with_one_left_out();
    let rows = |mesh: &mut Mesh, at: usize, hosts: &[usize]| {
        let order = ReviseOrder {
            project,
            content: ReviseContent::Definition { project: lab(hosts, &[]), blobs: Vec::new() },
            author: "anna".to_owned(),
            reason: "upgrade".to_owned(),
            consent: Consent::Majority,
            running: RunningVms::Refuse,
            from_head: None,
            keep_removed_ms: KEEP_MS,
        };
        let now = Now { mono_ms: mesh.now_ms, unix_ms: mesh.now_ms };
        let asked = mesh.nodes[0].inquiries(now, &Intention::Revise(Box::new(order)), None).expect("a draft");
        let of_host = asked.into_iter().find(|one| one.host == keys(at).public()).expect("it is asked");
        let Message::Ask { ask, fragment } = of_host.message else { panic!("no question") };
        let rows = mesh.nodes[at].consider(now, &ask, fragment).rows;
        rows.iter()
            .map(|row| format!("{} {} {}", row.sign.character(), row.act.word(), row.why))
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&mut mesh, 1, &[0, 1]), ["+ return it comes back with its disk"]);
    assert_eq!(
        rows(&mut mesh, 0, &[2]),
        ["- remove the project no longer has it; its disk is kept for a while, see mlnctl gc"]
    );
}

/// One word too many used to make a host forget the oldest that it kept no room for: also one for the return of a disk, which
/// was then deleted in its time, though that return could still be decided.
#[test]
fn the_word_that_holds_a_disk_is_not_forgotten_for_another_one() {
    const LONG_MS: u64 = 2 * limits::RESERVATION_MS;
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1]);
    mesh.revise_keeping(0, 2, project, lab(&[0], &[]), Consent::Majority, LONG_MS);
    assert_eq!(mesh.outcomes.get(&OpId(2)), Some(&Outcome::Done));
    mesh.lost = |message| matches!(message, Message::Answer { .. } | Message::Withdraw { .. });
    mesh.revise(0, 10, project, lab(&[0, 1], &[]), Consent::Majority);
    let words = |mesh: &Mesh| -> Vec<Digest> {
        let reserved = mesh.decisions[1].values().flat_map(|note| &note.reserved);
        reserved.map(|(child, _)| *child).collect()
    };
    let [back] = words(&mesh)[..] else { panic!("one word") };
    let beside = |op: u64| {
        let mut lab = lab(&[0, 2], &[(2, &format!("echo {op}"))]);
        lab.vms[1].service_host = Some(HostAddress(NAMES[1].to_owned()));
        lab
    };
    let most = limits::RESERVED_PARTS_MAX;
    for op in 11..10 + most as u64 {
        mesh.revise(0, op, project, beside(op), Consent::Majority);
    }
    mesh.pass(limits::RESERVATION_MS / 1000 + 1);
    let before = words(&mesh);
    assert!(before.len() == most && before[0] == back, "it is the oldest");
    mesh.revise(2, 30, project, beside(30), Consent::Majority);
    let after = words(&mesh);
    assert!(after.len() == most && after[0] == back && !after.contains(&before[1]), "the next one goes");
    mesh.pass(LONG_MS / 1000);
    assert_eq!(mesh.removed, [], "its return may still be decided");
}
