//! Plans and revisions as they are shown: nothing of it changes anything.

use super::*;
use crate::model::Blob;
use crate::plan::{Act, Effect, Sign};
use crate::record::Commit;

/// Asks all whom a change of the lab concerns, from one host; returns who says what to it.
/// A host, what would be done there, and the rule by which it refuses.
type Opinion = (String, Vec<(Sign, Act)>, Option<Rule>);

fn ask(mesh: &mut Mesh, from: usize, order: ReviseOrder) -> Vec<Opinion> {
    let now = Now { mono_ms: mesh.now_ms, unix_ms: mesh.now_ms };
    let asked = mesh.nodes[from].inquiries(now, &Intention::Revise(Box::new(order)), None).expect("a draft");
    let told = asked.into_iter().map(|inquiry| {
        let index = (0..NAMES.len()).find(|index| keys(*index).public() == inquiry.host).expect("a node");
        let Message::Ask { ask, fragment } = inquiry.message else { panic!("not a question") };
        let considered = mesh.nodes[index].consider(now, &ask, fragment);
        let rows = considered.rows.iter().map(|row| (row.sign, row.act)).collect();
        (inquiry.name.to_string(), rows, considered.verdict.err().map(|refusal| refusal.rule))
    });
    told.collect()
}

fn order(project: ProjectId, lab: Project) -> ReviseOrder {
    ReviseOrder {
        project,
        content: ReviseContent::Definition { project: lab, blobs: Vec::new() },
        author: "anna".to_owned(),
        reason: "upgrade".to_owned(),
        consent: Consent::Majority,
        running: RunningVms::Refuse,
        from_head: None,
        keep_removed_ms: 0,
    }
}

#[test]
fn each_host_says_what_its_part_of_a_change_would_cost_and_nothing_is_noted() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    let before = mesh.head(project);
    let vms = mesh.nodes[1].vms(project).into_iter().map(|vm| vm.status.vm);
    let on_gjovik: Vec<VmId> = vms.filter(|vm| mesh.nodes[1].owned(vm).is_some()).collect();
    mesh.operate(1, 7, Operation::Run { vms: on_gjovik, order: RunOrder::Up, pause_ms: 0 });
    mesh.pass(1);
    let memory = mesh.nodes.iter().map(Node::memory).collect::<Vec<_>>();

    // More memory costs a start where the VM runs, another startup line nothing.
    let mut wish = lab(&[0, 1, 2], &[(0, "date")]);
    wish.vms[1].memory.0 += 1;
    let told = ask(&mut mesh, 2, order(project, wish));
    let (live, reboot) = (Act::Change(Effect::Live), Act::Change(Effect::Reboot));
    // In the order of their keys.
    let expect = [
        ("gjovik".to_owned(), vec![(Sign::Changed, reboot)], None),
        ("bergen".to_owned(), vec![(Sign::Added, live)], None),
    ];
    assert_eq!(told, expect);

    // Leaving out what runs is refused by who has it.
    let told = ask(&mut mesh, 0, order(project, lab(&[0, 2], &[])));
    assert_eq!(told, [("gjovik".to_owned(), vec![(Sign::Removed, Act::Remove)], Some(Rule::Running))]);
    let mut large = lab(&[0, 1, 2], &[]);
    large.vms[2].memory = MemoryMib(9999);
    let told = ask(&mut mesh, 0, order(project, large));
    assert_eq!(told, [("oslo".to_owned(), vec![(Sign::Changed, live)], Some(Rule::Memory))]);
    assert_eq!(ask(&mut mesh, 0, order(project, lab(&[0, 1, 2], &[]))), [], "nothing would change");

    mesh.pass(5);
    assert_eq!(mesh.head(project), before);
    assert_eq!(mesh.nodes.iter().map(Node::memory).collect::<Vec<_>>(), memory);
    assert!(mesh.decisions.iter().all(BTreeMap::is_empty), "nobody has given a word");
}

#[test]
fn revisions_are_listed_with_how_they_stand_and_what_they_changed() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.away.insert(2);
    let mut wish = lab(&[0, 1, 2], &[]);
    let mut more = lab(&[2], &[]).vms.remove(0);
    more.name = name("more");
    wish.vms.push(more);
    mesh.revise(2, 2, project, wish, Consent::Partial);
    let listed = |mesh: &Mesh, index: usize| -> Vec<(usize, Standing, usize, usize, usize)> {
        let history = mesh.nodes[index].history(project);
        let row = |view: &RevisionView<'_>| {
            let changes = view.changes;
            (view.number, view.standing, changes.added, changes.removed, changes.hosts)
        };
        history.iter().map(row).collect()
    };
    assert_eq!(listed(&mesh, 2), [(1, Standing::Decided, 3, 0, 3), (2, Standing::Partial, 1, 0, 1)]);
    mesh.revise(0, 3, project, lab(&[0, 1, 2], &[(1, "uptime")]), Consent::Majority);
    mesh.away.clear();
    mesh.connect(2);
    mesh.pass(30);
    let expect =
        [(1, Standing::Decided, 3, 0, 3), (2, Standing::Decided, 0, 0, 1), (2, Standing::Beaten, 1, 0, 1)];
    assert_eq!(listed(&mesh, 0), expect);
    assert_eq!(listed(&mesh, 2), listed(&mesh, 0), "all know the same");
}

#[test]
fn a_vm_of_a_partial_revision_has_not_to_come_from_anywhere_when_that_is_chosen() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    mesh.away.insert(2);
    let mut wish = lab(&[0, 1, 2], &[]);
    let mut more = lab(&[2], &[]).vms.remove(0);
    more.name = name("more");
    wish.vms.push(more);
    mesh.revise(2, 2, project, wish, Consent::Partial);
    let partial = mesh.nodes[2].heads(project).expect("it is known").head();
    mesh.away.clear();
    mesh.connect(2);
    mesh.pass(30);
    let settle = ReviseOrder {
        content: ReviseContent::Revision(partial),
        from_head: Some(partial),
        keep_removed_ms: 0,
        ..order(project, lab(&[], &[]))
    };
    let now = Now { mono_ms: mesh.now_ms, unix_ms: mesh.now_ms };
    let asked = mesh.nodes[0].inquiries(now, &Intention::Revise(Box::new(settle)), None).expect("a draft");
    let [inquiry] = &asked[..] else { panic!("{asked:?}") };
    let Message::Ask { ask, fragment } = &inquiry.message else { panic!("not a question") };
    let considered = mesh.nodes[2].consider(now, ask, fragment.clone());
    assert_eq!((considered.verdict, considered.arriving), (Ok(()), Vec::new()));
}

#[test]
fn what_people_asked_for_stays_the_definition_where_only_some_could_take_part() {
    let mut mesh = Mesh::new();
    let project = mesh.build(&[0, 1, 2]);
    let submitted = Digest([5; 32]);
    let blob = Blob { from: Blob::DEFINITION.to_owned(), digest: submitted, bytes: 1, mode: 0o600 };
    let wish = order(project, lab(&[0, 1, 2], &[(1, "date"), (2, "date")]));
    let ReviseContent::Definition { project: wanted, .. } = wish.content else { panic!("it is one") };
    let content = ReviseContent::Definition { project: wanted, blobs: vec![blob] };
    mesh.away.extend([0, 1]);
    let before = mesh.nodes[2].submitted(project);
    mesh.operate(
        2,
        2,
        Operation::Revise(Box::new(ReviseOrder { content, consent: Consent::Partial, ..wish })),
    );
    mesh.pass(60);
    assert_eq!(mesh.outcomes.get(&OpId(2)), Some(&Outcome::Done));
    let head = mesh.nodes[2].heads(project).expect("it is known").head();
    let head = mesh.nodes[2].revision(head).expect("it is the head");
    assert_eq!(head.revision.consent, Consent::Partial);
    let changed = |index: usize| {
        let part = |commit: &Commit| commit.host(keys(index).public()).map(|host| host.fragment);
        part(head) != part(mesh.nodes[2].revision(project.0).expect("it was built"))
    };
    assert_eq!([changed(0), changed(1), changed(2)], [false, false, true]);
    assert_eq!(mesh.nodes[2].submitted(project), [&[submitted][..], &before].concat());
    assert!(mesh.nodes[2].used_blobs().contains(&submitted), "its text is kept");
}
