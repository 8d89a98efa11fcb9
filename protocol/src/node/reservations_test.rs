//! What a host remembers of what it has said yes to.

use super::*;

/// A build of one VM on each of these hosts, as large as this.
fn large(project: &str, hosts: &[usize], memory_mib: u32) -> Operation {
    let mut lab = lab(hosts, &[]);
    lab.name = name(project);
    for vm in &mut lab.vms {
        vm.memory = MemoryMib(memory_mib);
    }
    Operation::Build(Box::new(BuildOrder {
        label: Label { owner: name("anna"), project: name(project) },
        project: lab,
        blobs: Vec::new(),
        author: "anna".to_owned(),
        existing: ExistingProject::Refuse,
        on_failure: OnFailure::Keep,
    }))
}

fn is_any_commit(message: &Message) -> bool {
    let commit = |record: &VerifiedRecord| matches!(&***record, Record::Commit(_));
    matches!(message, Message::Records(records) if records.iter().any(commit))
}

#[test]
fn room_that_was_promised_is_kept_over_a_restart() {
    let mut mesh = Mesh::new();
    mesh.lost = |message| matches!(message, Message::Answer { .. });
    mesh.operate(0, 1, large("one", &[1], 400));
    assert_eq!(mesh.reservations[1].len(), 1, "it is noted before it is said");
    mesh.restart(1);
    mesh.lost = |_| false;
    mesh.operate(2, 2, large("other", &[1], 400));
    assert_eq!(mesh.refused(2), [Rule::Memory].into());
    mesh.operate(2, 3, large("one", &[1], 50));
    assert_eq!(mesh.refused(3), [Rule::LabelInUse].into(), "its name is as taken as its room");
}

#[test]
fn what_is_refused_elsewhere_leaves_nothing_behind() {
    let mut mesh = Mesh::new();
    mesh.operate(2, 1, large("filler", &[2], 400));
    assert_eq!(mesh.outcomes.get(&OpId(1)), Some(&Outcome::Done));
    mesh.operate(0, 2, large("lab", &[1, 2], 200));
    assert_eq!(mesh.refused(2), [Rule::Memory].into());
    assert!(mesh.joined[1].is_empty(), "there is no journal of a project that never came to be");
    assert!(mesh.reservations[1].is_empty() && mesh.fragments[1].is_empty());
    assert!(mesh.reservations[2].is_empty(), "of what came to be neither");
}

#[test]
fn a_commit_that_comes_after_its_room_has_lapsed_still_counts() {
    let mut mesh = Mesh::new();
    mesh.lost = is_any_commit;
    mesh.operate(0, 1, large("lab", &[1], 400));
    mesh.pass(limits::RESERVATION_MS / 1000 + 1);
    let rooms: Vec<ReservedRoom> = mesh.reservations[1].values().map(|note| note.room).collect();
    assert_eq!(rooms, [ReservedRoom::Lapsed]);
    assert!(mesh.joined[1].is_empty());
    mesh.restart(1);
    mesh.lost = |_| false;
    mesh.pass(2 * limits::SYNC_MS / 1000);
    assert_eq!(mesh.disks(), ["vm1"]);
    assert!(mesh.reservations[1].is_empty() && mesh.joined[1].len() == 1, "now there is a journal");
}

#[test]
fn words_of_which_nobody_tells_the_end_are_few() {
    let mut mesh = Mesh::new();
    mesh.lost = |message| matches!(message, Message::Answer { .. } | Message::Withdraw { .. });
    for op in 0..10 {
        mesh.operate(0, op, large(&format!("lab{op}"), &[1], 16));
    }
    mesh.pass(limits::RESERVATION_MS / 1000 + 1);
    assert_eq!(mesh.reservations[1].len(), 10);
    let notes: Vec<ReservationNote> = mesh.reservations[1].values().cloned().collect();
    // As if there had been many more.
    for number in 0..limits::LAPSED_MAX as u64 {
        let revision = Digest::of(&number.to_le_bytes());
        let note = ReservationNote { revision, number: 100 + number, ..notes[0].clone() };
        mesh.reservations[1].insert(revision, note);
    }
    mesh.restart(1);
    mesh.operate(0, 20, large("last", &[1], 16));
    mesh.pass(limits::RESERVATION_MS / 1000 + 1);
    assert!(mesh.reservations[1].len() <= limits::LAPSED_MAX, "{}", mesh.reservations[1].len());
    assert!(mesh.reservations[1].values().all(|note| note.number >= 100), "the oldest are forgotten first");
}

#[test]
fn a_host_that_keeps_room_for_many_changes_of_one_project_says_no_to_one_more_and_forgets_none_of_them() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[1]);
    let noted = |mesh: &Mesh| mesh.decisions[1].values().map(|note| note.reserved.len()).max();
    mesh.lost = |message| matches!(message, Message::Answer { .. } | Message::Withdraw { .. });
    let asked = limits::RESERVED_PARTS_MAX as u64;
    for op in 0..asked {
        mesh.revise(0, 10 + op, project, lab(&[1], &[(1, &format!("echo {op}"))]), Consent::Majority);
    }
    assert_eq!(noted(&mesh), Some(limits::RESERVED_PARTS_MAX));
    mesh.lost = |_| false;
    mesh.revise(2, 30, project, lab(&[1], &[(1, "date")]), Consent::Majority);
    assert_eq!(mesh.refused(30), [Rule::Parent].into());
    assert_eq!(noted(&mesh), Some(limits::RESERVED_PARTS_MAX));
    // What it keeps no room for any more makes place.
    mesh.lost = |message| matches!(message, Message::Answer { .. } | Message::Withdraw { .. });
    mesh.pass(limits::RESERVATION_MS / 1000 + 1);
    mesh.revise(2, 31, project, lab(&[1], &[(1, "date")]), Consent::Majority);
    assert_eq!(noted(&mesh), Some(limits::RESERVED_PARTS_MAX));
    assert_eq!(mesh.outcomes.get(&OpId(31)), None, "it is not refused: its answer is lost");
}

#[test]
fn of_changes_that_are_looked_at_at_the_same_time_no_more_get_a_yes_than_are_remembered() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[1]);
    let most = limits::RESERVED_PARTS_MAX;
    mesh.lost = |message| matches!(message, Message::Withdraw { .. } | Message::Ballot { .. });
    mesh.holds_checks = true;
    for op in 0..3 * most as u64 {
        mesh.revise(0, 10 + op, project, lab(&[1], &[(1, &format!("echo {op}"))]), Consent::Majority);
    }
    assert!(mesh.being_checked.len() > most, "{}", mesh.being_checked.len());
    mesh.lost =
        |message| matches!(message, Message::Answer { verdict: Ok(_), .. } | Message::Withdraw { .. });
    for (node, revision) in std::mem::take(&mut mesh.being_checked) {
        mesh.input(node, Input::Checked { revision, verdict: Ok(()) });
    }
    assert_eq!(mesh.decisions[1].values().map(|note| note.reserved.len()).max(), Some(most));
    assert_eq!(mesh.reservations[1].len(), most, "no room is kept for what got a no");
    let refused = (10..10 + 3 * most as u64).filter(|op| mesh.outcomes.contains_key(&OpId(*op)));
    for op in refused.collect::<Vec<u64>>() {
        assert_eq!(mesh.refused(op), [Rule::Parent].into());
    }
}
