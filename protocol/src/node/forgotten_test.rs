//! A host that has lost its journal of a project: what it may still say, and how the others go on.

use super::*;
use crate::plan::{RunPhase, StopLimit};
use crate::record::RunState;

impl Mesh {
    /// Restarts a host without what it has signed for its projects; what others have told it, and what runs, is there.
    fn lose_journals(&mut self, index: usize) {
        self.joined[index].clear();
        self.decisions[index].clear();
        self.holdings[index].clear();
        self.restart(index);
    }

    fn start(&mut self, op: u64, project: ProjectId) -> Vec<VmId> {
        let vms: Vec<VmId> = self.nodes[0].vms(project).into_iter().map(|view| view.status.vm).collect();
        self.operate(0, op, Operation::Run { vms: vms.clone(), order: RunOrder::Up, pause_ms: 0 });
        assert_eq!(self.outcomes.get(&OpId(op)), Some(&Outcome::Done));
        vms
    }
}

#[test]
fn the_others_go_on_without_a_host_that_has_lost_its_journal() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.lose_journals(1);
    // What would take its word for more is refused.
    mesh.revise(0, 2, project, lab(&[0, 1, 2], &[(1, "date")]), Consent::Majority);
    assert_eq!(mesh.refused(2), [Rule::Forgotten].into());
    assert_eq!(mesh.nodes[1].forgotten().collect::<Vec<_>>(), [project]);
    mesh.revise(0, 3, project, lab(&[0, 2], &[]), Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    mesh.revise(2, 4, project, lab(&[0, 2], &[(0, "date")]), Consent::Majority);
    assert_eq!(mesh.outcomes.get(&OpId(4)), Some(&Outcome::Done));
    assert_eq!(mesh.disks(), ["vm0", "vm1", "vm2"], "it deletes nothing, since it may not own it any more");
    assert_eq!(mesh.nodes[1].forgotten().count(), 0);
    assert!(!mesh.joined[1].contains(&project), "it has promised nothing since");
    // Nor does it come back with what it doesn't remember.
    mesh.revise(0, 5, project, lab(&[0, 1, 2], &[]), Consent::Majority);
    assert_eq!(mesh.refused(5), [Rule::Forgotten].into());
}

#[test]
fn a_project_is_removed_though_one_of_its_hosts_has_lost_its_journal() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.lose_journals(2);
    mesh.operate(0, 2, Operation::Remove { project, running: RunningVms::Refuse });
    assert_eq!(mesh.outcomes.get(&OpId(2)), Some(&Outcome::Done));
    assert_eq!(mesh.disks(), ["vm2"]);
    assert_eq!(mesh.nodes[0].projects().len(), 0);
}

#[test]
fn a_partial_revision_without_it_leaves_somebody_to_decide() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1]);
    // The first of two counts twice: without its promises there is no majority.
    mesh.lose_journals(0);
    mesh.revise(1, 2, project, lab(&[1], &[]), Consent::Majority);
    mesh.pass(40);
    assert_eq!(mesh.refused(2), [Rule::Majority].into());
    mesh.revise(1, 3, project, lab(&[1], &[]), Consent::Partial);
    assert!(mesh.refused(3).contains(&Rule::Forgotten), "nobody could decide on what follows");
    mesh.revise(1, 4, project, lab(&[1], &[(1, "date")]), Consent::Partial);
    assert_eq!(mesh.outcomes.get(&OpId(4)), Some(&Outcome::Done));
    mesh.revise(1, 5, project, lab(&[1], &[(1, "time")]), Consent::Partial);
    assert_eq!(mesh.outcomes.get(&OpId(5)), Some(&Outcome::Done));
    assert_eq!(mesh.disks(), ["vm0", "vm1"]);
}

#[test]
fn what_runs_where_the_journal_is_lost_can_be_stopped_and_not_started() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    let vms = mesh.start(2, project);
    mesh.lose_journals(1);
    let vm = vms.iter().find(|vm| vm.name.as_str() == "vm1").expect("it was built").clone();
    assert_eq!(mesh.found[1][&vm], Observed::Running(RunPhase::Ready), "a guest outlives its agent");
    let order = RunOrder::Down(StopLimit::Now);
    mesh.operate(0, 3, Operation::Run { vms: vec![vm.clone()], order, pause_ms: 0 });
    assert_eq!(mesh.outcomes.get(&OpId(3)), Some(&Outcome::Done));
    assert_eq!(mesh.found[1][&vm], Observed::Down { exit: None });
    mesh.operate(0, 4, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    match mesh.outcomes.get(&OpId(4)) {
        Some(Outcome::Failed(failures)) => {
            assert!(failures[0].reason.contains("mlnctl takeover"), "{failures:?}")
        }
        other => panic!("{other:?}"),
    }
    // Whoever runs that host says that its disk is the right one.
    let author = "anna".to_owned();
    mesh.operate(1, 5, Operation::TakeOver { vm: vm.clone(), owner: OwnerHeard::Refuse, author });
    mesh.input(1, Input::CopyRead { vm: vm.clone(), result: Ok(Digest([7; 32])) });
    assert_eq!(mesh.outcomes.get(&OpId(5)), Some(&Outcome::Done));
    mesh.operate(0, 6, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    assert_eq!(mesh.outcomes.get(&OpId(6)), Some(&Outcome::Done));
    let status =
        mesh.nodes[2].vms(project).into_iter().find(|view| view.status.vm == vm).expect("it is known");
    assert_eq!((status.status.run, status.status.epoch.to_string()), (RunState::Up, "2.1".to_owned()));
}
