//! Grants at the hosts that reserve and act, and revocation.

use super::*;
use crate::record::Consent;
use crate::trust::{HostPattern, Limits, ProjectPattern, Scope, Standing, admit};

const DAY_MS: u64 = 24 * 3_600_000;

fn root() -> KeyPair {
    KeyPair::from_secret([99; 32])
}

fn anna() -> KeyPair {
    KeyPair::from_secret([50; 32])
}

/// What anna holds, by a grant of oslo behind its own.
fn standing(verbs: &[Verb], scope: Scope, not_after_unix_ms: Option<u64>) -> Standing {
    let grant = Grant {
        mesh: mesh_of(root().public()),
        subject: anna().public(),
        name: Some(name("anna")),
        verbs: verbs.iter().copied().chain([Verb::View]).collect(),
        passes: 0,
        not_after_unix_ms,
        scope,
    };
    let mut chain = config(0, 0).chain;
    chain.push(keys(0).sign(Domain::Grant, grant.to_bytes()));
    admit(root().public(), &chain, anna().public(), Now { mono_ms: 0, unix_ms: 0 }).expect("it holds")
}

fn scope(projects: &[&str], hosts: &[&str], limits: Limits) -> Scope {
    Scope {
        projects: projects.iter().filter_map(|text| ProjectPattern::parse(text).ok()).collect(),
        hosts: hosts.iter().filter_map(|text| HostPattern::parse(text).ok()).collect(),
        limits,
    }
}

impl Cluster {
    fn begin_for(&mut self, index: usize, op: u64, standing: &Standing, operation: Operation) {
        let standing = Box::new(standing.clone());
        self.input(index, Input::OperateFor { op: OpId(op), operation, standing });
    }

    /// Returns who would refuse what somebody only thinks of at bergen, by which rule.
    fn planned_for(&mut self, standing: &Standing, intention: &Intention) -> Vec<(String, Rule)> {
        let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
        let asked = self.nodes[1].inquiries(now, intention, Some(standing)).expect("a draft");
        let told = asked.into_iter().filter_map(|inquiry| {
            let index = (0..NAMES.len()).find(|index| keys(*index).public() == inquiry.host)?;
            let Message::Ask { ask, fragment } = inquiry.message else { panic!("not a question") };
            let refusal = self.nodes[index].consider(now, &ask, fragment).verdict.err()?;
            Some((inquiry.name.to_string(), refusal.rule))
        });
        told.collect()
    }

    /// Has anna build at bergen, and returns who refuses it by which rule: the same that had said so of a plan.
    #[track_caller]
    fn build_for(&mut self, op: u64, standing: &Standing, order: BuildOrder) -> Vec<(String, Rule)> {
        let planned = self.planned_for(standing, &Intention::Build(Box::new(order.clone())));
        let refused = self.built_for(op, standing, order);
        same(planned, refused.clone());
        refused
    }

    fn built_for(&mut self, op: u64, standing: &Standing, order: BuildOrder) -> Vec<(String, Rule)> {
        self.begin_for(1, op, standing, Operation::Build(Box::new(order)));
        self.end_steps();
        match self.outcome(op) {
            Outcome::Done => Vec::new(),
            refused => rules(refused),
        }
    }
}

fn of(owner: &str, project: &str, memory: u32) -> BuildOrder {
    let mut order = ring(memory, OnFailure::Undo);
    order.label = Label { owner: name(owner), project: name(project) };
    order.project.name = name(project);
    order
}

fn everywhere(rule: Rule) -> Vec<(String, Rule)> {
    let mut all: Vec<(String, Rule)> = NAMES.iter().map(|host| ((*host).to_owned(), rule)).collect();
    all.sort_by_key(|(host, _)| NAMES.iter().position(|name| name == host));
    all
}

#[track_caller]
fn same(mut found: Vec<(String, Rule)>, mut expect: Vec<(String, Rule)>) {
    found.sort();
    expect.sort();
    assert_eq!(found, expect);
}

#[test]
fn every_host_that_reserves_judges_the_grants_by_itself() {
    let whole = Scope::default();
    let limited = scope(&["anna/*"], &[], Limits::default());
    let few = scope(&[], &["oslo", "@inland"], Limits::default());
    let none = scope(&[], &["@sea"], Limits::default());
    let inland = || vec![("bergen".to_owned(), Rule::Grant), ("gjovik".to_owned(), Rule::Grant)];
    let late = Some(1);
    for (verbs, scope, end, order, expect) in [
        (&[Verb::Build][..], &whole, None, of("anna", "a", 8), vec![]),
        (&[Verb::Start], &whole, None, of("anna", "a", 8), everywhere(Rule::Grant)),
        (&[Verb::Build], &limited, None, of("anna", "a", 8), vec![]),
        (&[Verb::Build], &limited, None, of("bob", "a", 8), everywhere(Rule::Grant)),
        (&[Verb::Build], &few, None, of("anna", "a", 8), vec![]),
        (&[Verb::Build], &none, None, of("anna", "a", 8), inland()),
        (&[Verb::Build], &whole, late, of("anna", "a", 8), everywhere(Rule::Grant)),
    ] {
        let mut cluster = Cluster::new(512);
        cluster.pass(DAY_MS);
        let found = cluster.build_for(1, &standing(verbs, scope.clone(), end), order);
        same(found, expect);
    }
}

#[test]
fn what_a_grant_allows_is_counted_over_all_that_is_made_on_it() {
    let limits = Limits { memory_mib: Some(500), vms: Some(6), disk_bytes: None };
    let anna = standing(&[Verb::Build, Verb::Remove], scope(&[], &[], limits), None);
    let mut cluster = Cluster::new(2048);
    same(cluster.build_for(1, &anna, of("anna", "a", 64)), vec![]);
    // 192 MiB are taken: three times 128 are more than what is left, though each host alone has room.
    same(cluster.build_for(2, &anna, of("anna", "b", 128)), everywhere(Rule::GrantLimit));
    same(cluster.build_for(3, &anna, of("anna", "b", 100)), vec![]);
    same(cluster.build_for(4, &anna, of("anna", "c", 1)), everywhere(Rule::GrantLimit));
    let projects = cluster.nodes[2].projects();
    let charge = cluster.nodes[2].revision(projects[0].id.0).and_then(|c| c.revision.charge.clone());
    let charge = charge.expect("it says on whose grants it was made");
    assert_eq!((charge.principal, charge.amount.memory_mib, charge.amount.vms), (anna.subject, 192, 3));
    // Somebody else's are not counted, nor is what is removed.
    cluster.begin(0, 5, Operation::Build(Box::new(of("root", "d", 64))));
    cluster.end_steps();
    assert_eq!(cluster.outcome(5), &Outcome::Done);
    let operation = Operation::Remove { project: projects[0].id, running: RunningVms::Refuse };
    cluster.begin_for(2, 6, &anna, operation);
    cluster.end_steps();
    assert_eq!(cluster.outcome(6), &Outcome::Done);
    same(cluster.build_for(7, &anna, of("anna", "c", 10)), vec![]);
}

#[test]
fn what_is_reserved_at_the_same_time_counts_too() {
    let limits = Limits { vms: Some(4), ..Limits::default() };
    let anna = standing(&[Verb::Build], scope(&[], &[], limits), None);
    let mut cluster = Cluster::new(2048);
    // Bergen never hears that the first one is reserved for elsewhere, and so doesn't commit it.
    cluster.loses = |output| matches!(output, Output::Send { message: Message::Answer { .. }, .. });
    cluster.begin_for(1, 1, &anna, Operation::Build(Box::new(of("anna", "a", 8))));
    cluster.loses = |_| false;
    let refused = cluster.build_for(2, &anna, of("anna", "b", 8));
    assert!(refused.iter().all(|(_, rule)| *rule == Rule::GrantLimit) && !refused.is_empty(), "{refused:?}");
}

#[test]
fn a_start_is_judged_by_the_host_that_owns_the_vm() {
    let mut cluster = Cluster::new(512);
    let project = cluster.build_ring();
    let vms = cluster.vms(project);
    let run = |vms: Vec<VmId>| Operation::Run { vms, order: RunOrder::Up, pause_ms: 0 };
    let viewer = standing(&[], Scope::default(), None);
    let other = standing(&[Verb::Start], scope(&["anna/*"], &[], Limits::default()), None);
    for (op, standing) in [(2, &viewer), (3, &other)] {
        cluster.begin_for(1, op, standing, run(vms.clone()));
        let Outcome::Failed(failures) = cluster.outcome(op) else { panic!("{:?}", cluster.outcome(op)) };
        assert!(failures.iter().all(|one| one.reason.contains("rule grant")), "{failures:?}");
        assert_eq!(cluster.steps, [], "nothing was started");
    }
    let starter = standing(&[Verb::Start], scope(&["root/*"], &[], Limits::default()), None);
    cluster.begin_for(1, 4, &starter, run(vms[..1].to_vec()));
    assert_eq!(cluster.steps.len(), 1);
}

#[test]
fn a_grant_that_was_taken_back_is_good_for_nothing_and_costs_no_record() {
    let anna = standing(&[Verb::Build, Verb::Start], Scope::default(), None);
    let mut cluster = Cluster::new(512);
    same(cluster.build_for(1, &anna, of("anna", "a", 8)), vec![]);
    let vms = cluster.vms(cluster.nodes[0].projects()[0].id);
    // Gjovik signed none of the chain: what it says about it reaches nobody. Oslo did.
    let revoke = |chain| Input::Revoke { chain, reason: "lost her laptop".to_owned() };
    cluster.input(0, revoke(anna.chain()));
    for node in &cluster.nodes {
        assert!(node.judge_revoked(&anna).is_err(), "everybody has heard");
        assert_eq!(node.projects().len(), 1, "what she built stays");
    }
    same(cluster.build_for(2, &anna, of("anna", "b", 8)), everywhere(Rule::Grant));
    cluster.begin_for(2, 3, &anna, Operation::Run { vms, order: RunOrder::Up, pause_ms: 0 });
    assert!(matches!(cluster.outcome(3), Outcome::Failed(_)));
    assert_eq!(cluster.steps, []);

    // Who was away hears of it with the next comparison, the records of the revoked among them.
    let mut late = Node::new(config(2, 512), StoredState::default());
    let now = Now { mono_ms: 1, unix_ms: 1 };
    let mut told = Vec::new();
    let records: Vec<_> = cluster.nodes[0].records.range(..).cloned().collect();
    for record in records {
        late.handle(now, Input::Record(record));
        while let Some(output) = late.poll_output() {
            match output {
                Output::Persist { id, .. } => late.handle(now, Input::Persisted(id)),
                Output::Revoked(grant) => told.push(grant),
                _ => {}
            }
        }
    }
    assert_eq!((late.projects().len(), told.len()), (1, 1), "the edge is told, and nothing is left out");
}

#[test]
fn a_host_whose_grant_was_taken_back_is_asked_nothing_for() {
    let mut cluster = Cluster::new(512);
    let chain = config(1, 0).chain;
    let revocation = crate::trust::Revocation { chain, made_unix_ms: 1, reason: String::new() };
    let record = wire::sign_record(&root(), Record::Revocation(revocation));
    let bytes = record.signed().to_bytes();
    let signed = crate::trust::Signed::from_bytes(&bytes).expect("just encoded");
    let record = wire::verify_record(signed, root().public()).expect("the root key signed the grant");
    cluster.input(0, Input::RevokedBy(record));
    cluster.begin(1, 1, Operation::Build(Box::new(ring(8, OnFailure::Undo))));
    let refused = rules(cluster.outcome(1));
    assert!(refused.contains(&("oslo".to_owned(), Rule::Grant)), "{refused:?}");
    assert!(cluster.nodes.iter().all(|node| node.projects().is_empty()));
}

#[test]
fn an_operator_s_grants_are_known_everywhere_once_they_were_seen() {
    let anna = standing(&[Verb::Build], Scope::default(), Some(DAY_MS));
    let mut cluster = Cluster::new(512);
    for _ in 0..2 {
        cluster.input(1, Input::GrantSeen(anna.chain()));
    }
    for node in &cluster.nodes {
        let known: Vec<_> = node.grants().into_iter().map(|one| (one.subject, one.name)).collect();
        assert_eq!(known, [(anna.subject, Some(name("anna")))]);
    }
}

#[test]
fn a_plan_of_a_change_is_refused_where_the_change_would_be() {
    let mut cluster = Cluster::new(512);
    let builder = standing(&[Verb::Build], Scope::default(), None);
    same(cluster.build_for(1, &builder, of("anna", "a", 8)), vec![]);
    let project = cluster.nodes[0].projects()[0].id;
    let order = |memory| ReviseOrder {
        project,
        content: ReviseContent::Definition { project: of("anna", "a", memory).project, blobs: Vec::new() },
        author: "anna".to_owned(),
        reason: "upgrade".to_owned(),
        consent: Consent::Majority,
        running: RunningVms::Refuse,
        from_head: None,
        keep_removed_ms: 0,
    };
    let few = Limits { memory_mib: Some(40), ..Limits::default() };
    let upgrader = standing(&[Verb::Upgrade], scope(&[], &[], few), None);
    for (op, who, memory, expect) in [
        (2, &builder, 10, everywhere(Rule::Grant)),
        (3, &upgrader, 20, everywhere(Rule::GrantLimit)),
        (4, &upgrader, 10, vec![]),
    ] {
        let planned = cluster.planned_for(who, &Intention::Revise(Box::new(order(memory))));
        cluster.begin_for(1, op, who, Operation::Revise(Box::new(order(memory))));
        cluster.end_steps();
        let refused = match cluster.outcome(op) {
            Outcome::Done => Vec::new(),
            refused => rules(refused),
        };
        same(planned, refused.clone());
        same(refused, expect);
    }
}
