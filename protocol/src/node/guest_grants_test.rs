//! What stands behind what VMs get: the grants on which people have made their project.

use super::*;

/// Anna's grant, for so many VMs on these hosts.
fn grant(vms: u64, hosts: &[&str]) -> Standing {
    let root = KeyPair::from_secret([99; 32]);
    let grant = Grant {
        mesh: mesh_of(root.public()),
        subject: sample::keys(70).public(),
        name: Some(name("anna")),
        verbs: [Verb::View, Verb::Build].into(),
        passes: 0,
        not_after_unix_ms: None,
        scope: Scope {
            projects: Vec::new(),
            hosts: hosts.iter().filter_map(|text| HostPattern::parse(text).ok()).collect(),
            limits: Limits { vms: Some(vms), ..Limits::default() },
        },
    };
    let mut chain = config(0, 0).chain;
    chain.push(keys(0).sign(Domain::Grant, grant.to_bytes()));
    let now = Now { mono_ms: 0, unix_ms: 0 };
    admit(root.public(), &chain, sample::keys(70).public(), now).expect("it holds")
}

/// [`TEXT`] on oslo, with room for two servers there and for more on bergen.
fn text_on_oslo() -> String {
    TEXT.replace("service_hosts { bergen all }", "service_hosts { oslo 2; bergen }")
        .replace("plain { memory 32M; service_host gjovik", "plain { memory 32M; service_host oslo")
}

/// A project of [`text_on_oslo`] that somebody built on grants.
fn built_on(standing: Standing) -> Lab {
    let mut cluster = Cluster::new(512);
    for index in 0..3 {
        cluster.input(index, Input::GrantSeen(standing.chain()));
    }
    let operation = Operation::Build(Box::new(order(&text_on_oslo())));
    cluster.input(0, Input::OperateFor { op: OpId(1), operation, standing: Box::new(standing) });
    for _ in 0..3 {
        cluster.end_steps();
    }
    assert_eq!(cluster.outcome(1), &Outcome::Done);
    let project = cluster.nodes[0].projects()[0].id;
    Lab { cluster, project, number: 0 }
}

#[track_caller]
fn detail(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused(refusals) => refusals.first().expect("there is a reason").refusal.detail.clone(),
        Outcome::Done | Outcome::Failed(_) => panic!("not refused: {outcome:?}"),
    }
}

#[test]
fn a_vm_is_not_given_more_than_the_grants_on_which_its_project_was_made() {
    let text = text_on_oslo();
    for (standing, expect) in [
        (grant(6, &["*"]), None),
        (grant(5, &["*"]), Some(Rule::GrantLimit)),
        (grant(6, &["oslo"]), Some(Rule::Grant)),
    ] {
        let mut lab = built_on(standing);
        let outcome = lab.ask_as("balancer", 50, &text, scale(3));
        match expect {
            None => {
                assert_eq!(outcome, Outcome::Done);
                let charge = lab.head().revision.charge.clone().expect("it says on whose grants");
                assert_eq!((charge.principal, charge.amount.vms), (sample::keys(70).public(), 6));
            }
            Some(rule) => assert_eq!(refused(&outcome), rule),
        }
    }
}

#[test]
fn a_vm_gets_nothing_more_on_grants_that_were_revoked() {
    let standing = grant(60, &["*"]);
    let mut lab = built_on(standing.clone());
    lab.cluster.input(0, Input::Revoke { chain: standing.chain(), reason: "left".to_owned() });
    lab.cluster.pass(1_000);
    let text = text_on_oslo();
    let outcome = lab.ask_as("balancer", 50, &text, scale(3));
    assert_eq!(refused(&outcome), Rule::Grant);
    assert!(detail(&outcome).contains("revoked; somebody who may can upgrade it"), "{outcome:?}");
    // What takes nothing more is still its own.
    assert_eq!(lab.ask_as("balancer", 50, &text, scale(1)), Outcome::Done);
}

#[test]
fn where_nobodys_grants_stand_behind_a_project_its_coordinator_must_be_one_that_may_upgrade_it() {
    let root = KeyPair::from_secret([99; 32]);
    let grant = Grant {
        mesh: mesh_of(root.public()),
        subject: keys(0).public(),
        name: Some(name("oslo")),
        verbs: [Verb::Join, Verb::View].into(),
        passes: 1,
        not_after_unix_ms: None,
        scope: Scope::default(),
    };
    let narrow = NodeConfig { chain: vec![root.sign(Domain::Grant, grant.to_bytes())], ..config(0, 512) };
    let mut cluster = Cluster::new(512);
    cluster.nodes = (0..3)
        .map(|index| {
            Node::new(if index == 0 { narrow.clone() } else { config(index, 512) }, StoredState::default())
        })
        .collect();
    for index in 0..3 {
        cluster.input(index, Input::Start { found: Vec::new() });
    }
    for a in 0..3 {
        for b in (0..3).filter(|&b| b != a) {
            cluster.input(a, Input::Connected(keys(b).public()));
        }
    }
    let text = text_on_oslo();
    cluster.begin(0, 1, Operation::Build(Box::new(order(&text))));
    for _ in 0..3 {
        cluster.end_steps();
    }
    assert_eq!(cluster.outcome(1), &Outcome::Done, "on itself its user may all");
    let project = cluster.nodes[0].projects()[0].id;
    let mut lab = Lab { cluster, project, number: 0 };
    let outcome = lab.ask_as("balancer", 50, &text, scale(3));
    assert_eq!(refused(&outcome), Rule::Grant);
    assert!(detail(&outcome).contains("whoever gave that host its grant can widen it"), "{outcome:?}");
    // On oslo itself there is nobody else to ask.
    assert_eq!(lab.ask_as("balancer", 50, &text, scale(1)), Outcome::Done);
}
