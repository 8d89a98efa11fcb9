//! What a VM may do of its own, and that it may do nothing else; over real texts, edited as people edit them.

use std::collections::BTreeMap;

use super::*;
use crate::id::{Digest, Name};
use crate::lang::{self, Edit, NoIncludes, Setting, Severity};
use crate::model::{DiskBytes, HostAddress, Mount, MountSource};
use crate::resolve;
use crate::sample::name;

const PARENT: &str = "\
global {
    project web
    autoenum servers { numhosts 2; superclass webserver; service_hosts { oslo; gjovik } }
    autoenum others { numhosts 1; hostprefix other; superclass webserver }
    autoenum unused { numhosts 0; hostprefix unused; superclass spare }
    afterProjectStart { true }
}
switch lan { }
superclass webserver { memory 64M; network eth0 { switch lan } }
superclass spare { memory 96M }
host balancer {
    service_host oslo
    network eth0 { switch lan }
    users { alice $6$a$b }
    policy grow {
        grace 15s
        may scale servers 1..4
        may move gjovik @us
    }
    policy store {
        grace 0s
        may volume 2 1G
        may cloud 6h/day
        may move rented
    }
}
host plain { memory 96M; network eth0 { switch lan } }
";

fn understood(text: &str) -> Option<Constitution> {
    let (tree, mut diagnostics) = lang::parse("p.mln", text.to_owned(), &NoIncludes);
    let resolved = resolve::resolve(&tree, &resolve::Options::default());
    diagnostics.extend(resolved.diagnostics);
    let is_right = diagnostics.iter().all(|one| one.severity() == Severity::Warning);
    let definition = Digest::of(text.as_bytes());
    is_right.then_some(Constitution { project: resolved.project, mandates: resolved.mandates, definition })
}

fn edited(text: &str, edit: &Edit) -> Option<String> {
    let (tree, _) = lang::parse("p.mln", text.to_owned(), &NoIncludes);
    let fixes = lang::edit(&tree, edit).ok()?;
    let rewritten = lang::rewrite(tree.sources(), fixes).into_iter().next();
    Some(rewritten.map_or(text.to_owned(), |file| file.text))
}

fn made(text: &str, vm: &str, steps: &[Step]) -> Option<String> {
    steps.iter().try_fold(text.to_owned(), |text, step| match step {
        Step::Scale { class, to } => edited(&text, &Edit::Scale { class: class.to_string(), count: *to }),
        Step::Place { to } => edited(&text, &Edit::Place { host: vm.to_owned(), service_host: to.0.clone() }),
        Step::Volumes { mounts } => {
            let lines: String = mounts
                .iter()
                .map(|mount| match &mount.source {
                    MountSource::Disk(size) => {
                        format!("{}kB {} {}\n", size.0 / 1000, mount.at, mount.file_system)
                    }
                    MountSource::Image(path) | MountSource::Folder(path) => {
                        format!("{path} {} {}\n", mount.at, mount.file_system)
                    }
                })
                .collect();
            Some(format!("{text}amend {vm} {{ mount {{\n{lines}}} }}\n"))
        }
    })
}

fn hosts() -> BTreeMap<Name, Destination> {
    let host = |named: &str, groups: &[&str], cost| {
        (name(named), Destination { groups: groups.iter().map(|group| name(group)).collect(), cost })
    };
    [
        host("oslo", &["no"], Cost::None),
        host("gjovik", &["no"], Cost::None),
        host("berkeley", &["us", "west"], Cost::None),
        host("rented", &[], Cost::Hourly),
        host("cheap", &["us"], Cost::Hourly),
        host("evil", &[], Cost::None),
    ]
    .into()
}

/// Asks for a text in the name of a VM.
fn ask(
    vm: &str,
    child: &str,
    cloud_hours: u32,
    spent: &BTreeMap<Name, Spent>,
) -> Result<Vec<Use>, EnvelopeError> {
    let parent = understood(PARENT).expect("the parent is a project");
    let child = understood(child).unwrap_or_else(|| panic!("the child is none:\n{child}"));
    let remade = |steps: &[Step]| understood(&made(PARENT, vm, steps)?);
    let around = Surroundings { hosts: &hosts(), spent, remade: &remade };
    judge_envelope(Asked { vm: &name(vm), parent: &parent, child: &child, cloud_hours }, &around)
}

fn scale(class: &str, to: u32) -> Step {
    Step::Scale { class: name(class), to }
}

fn place(to: &str) -> Step {
    Step::Place { to: HostAddress(to.to_owned()) }
}

fn volumes(megabytes: &[u64]) -> Step {
    let mount = |(at, megabytes): (usize, &u64)| Mount {
        source: MountSource::Disk(DiskBytes(megabytes * 1_000_000)),
        at: format!("/srv/{at}"),
        file_system: "ext4".to_owned(),
        options: None,
    };
    Step::Volumes { mounts: megabytes.iter().enumerate().map(mount).collect() }
}

fn of_steps(steps: &[Step], hours: u32, spent: &BTreeMap<Name, Spent>) -> Result<Vec<Use>, EnvelopeError> {
    ask("balancer", &made(PARENT, "balancer", steps).expect("the steps can be made"), hours, spent)
}

fn used(policy: &str, kind: UseKind) -> Use {
    Use { origin: name("balancer"), policy: name(policy), kind }
}

#[track_caller]
fn check(steps: &[Step], hours: u32, expect: Result<&[Use], &str>) {
    let found = of_steps(steps, hours, &BTreeMap::new());
    match (&found, expect) {
        (Ok(uses), Ok(expect)) => assert_eq!(uses, expect),
        (Err(error), Err(expect)) => assert_eq!(error.to_string(), expect),
        (found, expect) => panic!("{found:?}, expected {expect:?}"),
    }
}

#[test]
fn a_class_grows_and_shrinks_between_its_bounds() {
    for to in [1, 3, 4] {
        let kind = UseKind::Scale { class: name("servers"), to };
        check(&[scale("servers", to)], 0, Ok(&[used("grow", kind)]));
    }
    for to in [0, 5] {
        let expect = format!(
            "{to} of `servers` are outside of `may scale servers 1..4`: the project's owner can widen it"
        );
        check(&[scale("servers", to)], 0, Err(&expect));
    }
    check(&[scale("servers", 2)], 0, Err("nothing would change"));
    let other = "`other2` would change, and no `policy` of `balancer` is about that: the project's owner can change it";
    check(&[scale("others", 2)], 0, Err(other));
}

#[test]
fn a_vm_moves_to_hosts_and_groups_that_are_named() {
    for to in ["gjovik", "@us", "berkeley"] {
        let kind = UseKind::Move { to: HostAddress(to.to_owned()) };
        check(&[place(to)], 0, Ok(&[used("grow", kind)]));
    }
    for to in ["evil", "@no", "@west", "nowhere", "192.0.2.1"] {
        let expect = format!("no `may move` of `balancer` names `{to}`: the project's owner can add it");
        check(&[place(to)], 0, Err(&expect));
    }
}

#[test]
fn volumes_are_counted_and_measured() {
    check(&[volumes(&[1000])], 0, Ok(&[used("store", UseKind::Volumes { count: 1 })]));
    check(&[volumes(&[1000, 1000])], 0, Ok(&[used("store", UseKind::Volumes { count: 2 })]));
    let many =
        "3 volumes are more than the 2 of `may volume` of `balancer`: the project's owner can widen it";
    check(&[volumes(&[100, 100, 100])], 0, Err(many));
    let spent = [(name("store"), Spent { volumes: 2, ..Spent::default() })].into();
    assert_eq!(
        of_steps(&[volumes(&[100])], 0, &spent).map_err(|error| error.to_string()),
        Err(many.to_owned())
    );
    let large = of_steps(&[volumes(&[1100])], 0, &BTreeMap::new());
    assert!(matches!(large, Err(EnvelopeError::VolumeLarge { .. })), "{large:?}");
    // A folder of the service host is no volume.
    let folder = format!("{PARENT}amend balancer {{ mount {{ /etc /mnt hostfs }} }}\n");
    let found = ask("balancer", &folder, 0, &BTreeMap::new());
    assert!(matches!(found, Err(EnvelopeError::Else { what: Touched::Vm(_), .. })), "{found:?}");
}

#[test]
fn hours_in_a_cloud_are_asked_for_and_counted() {
    let to = UseKind::Move { to: HostAddress("rented".to_owned()) };
    check(&[place("rented")], 6, Ok(&[used("store", to), used("store", UseKind::Cloud { hours: 6 })]));
    let spent = "7 hours in clouds today are more than the 6 of `may cloud` of `balancer`: the project's owner can widen it";
    check(&[place("rented")], 7, Err(spent));
    let both = EnvelopeError::CloudHours.to_string();
    check(&[place("rented")], 0, Err(&both));
    check(&[place("gjovik")], 1, Err(&both));
    // In a group that it may move to, and paid for all the same.
    check(&[place("cheap")], 0, Err(&both));
    for (before, hours, is_granted) in [(4, 2, true), (5, 2, false), (6, 1, false), (u32::MAX, 1, false)] {
        let spent = [(name("store"), Spent { cloud_hours: before, ..Spent::default() })].into();
        assert_eq!(of_steps(&[place("rented")], hours, &spent).is_ok(), is_granted, "{before} and {hours}");
    }
}

#[test]
fn a_policy_is_used_once_in_its_grace() {
    for (ago, is_granted) in [(0, false), (14_999, false), (15_000, true)] {
        let spent = [(name("grow"), Spent { last_ms_ago: Some(ago), ..Spent::default() })].into();
        assert_eq!(of_steps(&[scale("servers", 3)], 0, &spent).is_ok(), is_granted, "{ago}");
        // Another policy's grace is its own.
        assert!(of_steps(&[volumes(&[100])], 0, &spent).is_ok());
    }
}

#[test]
fn several_things_at_once_are_each_judged() {
    let all = [scale("servers", 4), place("rented"), volumes(&[10])];
    let uses = of_steps(&all, 1, &BTreeMap::new()).expect("each of them is granted");
    assert_eq!(uses.len(), 4);
    for (steps, hours) in [
        ([scale("servers", 5), place("rented"), volumes(&[10])], 1),
        ([scale("servers", 4), place("evil"), volumes(&[10])], 0),
        ([scale("servers", 4), place("rented"), volumes(&[2000])], 1),
        ([scale("servers", 4), place("rented"), volumes(&[10])], 0),
    ] {
        assert!(of_steps(&steps, hours, &BTreeMap::new()).is_err(), "{steps:?}");
    }
}

#[test]
fn who_has_no_policy_decides_nothing() {
    let child = made(PARENT, "plain", &[place("gjovik")]).expect("it can be made");
    for vm in ["plain", "nobody", "node1"] {
        let found = ask(vm, &child, 0, &BTreeMap::new());
        assert_eq!(found, Err(EnvelopeError::NoPolicy { vm: name(vm) }));
    }
}

#[test]
fn the_policies_of_the_parent_count_and_none_may_be_touched() {
    // Wider, and used in the same breath.
    let wider = PARENT.replace("may move gjovik @us", "may move gjovik @us evil");
    let child = made(&wider, "balancer", &[place("evil")]).expect("it can be made");
    for child in [
        child,
        PARENT.replace("servers 1..4", "servers 1..5"),
        PARENT.replace("servers 1..4", "servers 1..3"),
        PARENT.replace("grace 15s", "grace 1s"),
        PARENT.replace("host plain {", "host plain { policy own { may move evil };"),
        PARENT.replace("superclass webserver {", "superclass webserver { policy own { may move evil };"),
    ] {
        let found = ask("balancer", &child, 0, &BTreeMap::new());
        assert!(matches!(found, Err(EnvelopeError::PolicyTouched { .. })), "{found:?}:\n{child}");
    }
}

#[test]
fn a_growth_that_changes_others_is_none() {
    // With ten there are two digits, and every name is another one.
    let text = PARENT.replace("numhosts 2", "numhosts 9").replace("servers 1..4", "servers 1..20");
    let parent = understood(&text).expect("it is a project");
    let grown = made(&text, "balancer", &[scale("servers", 10)]).and_then(|text| understood(&text));
    let remade = |steps: &[Step]| understood(&made(&text, "balancer", steps)?);
    let (hosts, spent) = (hosts(), BTreeMap::new());
    let around = Surroundings { hosts: &hosts, spent: &spent, remade: &remade };
    let vm = name("balancer");
    let asked = Asked { vm: &vm, parent: &parent, child: &grown.expect("it is a project"), cloud_hours: 0 };
    let expect = EnvelopeError::ScaleElse { class: name("servers"), to: 10 };
    assert_eq!(judge_envelope(asked, &around), Err(expect));
}

#[test]
fn what_no_host_shows_may_not_be_touched_either() {
    for child in [
        // It would come with the next growth.
        PARENT.replace("service_hosts { oslo; gjovik }", "service_hosts { oslo; gjovik; evil }"),
        PARENT
            .replace("superclass spare { memory 96M }", "superclass spare { memory 96M; startup { evil } }"),
        PARENT.replace("hostprefix unused", "hostprefix other_"),
        format!("{PARENT}\n# evil\n"),
        format!("{PARENT}superclass more {{ }}\n"),
    ] {
        for (steps, hours) in [(vec![], 0), (vec![scale("servers", 1)], 0), (vec![place("rented")], 1)] {
            let child = made(&child, "balancer", &steps).expect("it can be made");
            let found = ask("balancer", &child, hours, &BTreeMap::new());
            assert!(matches!(found, Err(EnvelopeError::Else { .. })), "{found:?}:\n{child}");
        }
    }
}

/// Edits that no policy is about; each leaves a project.
fn edits() -> Vec<Edit> {
    let set =
        |path: &str, value: &str| Edit::Set(Setting { path: path.to_owned(), value: Some(value.to_owned()) });
    let unset = |path: &str| Edit::Unset { path: path.to_owned() };
    vec![
        set("/host/balancer/memory", "1G"),
        set("/host/balancer/vcpus", "4"),
        set("/host/balancer/template", "other"),
        set("/host/balancer/size", "20G"),
        set("/host/balancer/root_password", "x"),
        set("/host/balancer/boot_order", "1"),
        set("/host/balancer/network/eth0/address", "10.0.0.1/24"),
        set("/host/balancer/superclass", "webserver"),
        set("/host/balancer/policy/grow/every", "1s"),
        set("/host/balancer/policy/store/run", "/bin/evil"),
        set("/host/plain/memory", "128M"),
        set("/host/plain/service_host", "gjovik"),
        set("/host/plain/superclass", "spare"),
        set("/superclass/webserver/memory", "128M"),
        set("/superclass/spare/memory", "128M"),
        set("/global/project", "other"),
        set("/global/$x", "y"),
        unset("/host/plain"),
        unset("/host/balancer/users"),
        unset("/host/balancer/policy/store"),
        unset("/host/plain/memory"),
        Edit::AddHost { name: "evil".to_owned(), settings: Vec::new() },
        Edit::AddHost {
            name: "evil".to_owned(),
            settings: vec![Setting { path: "superclass".to_owned(), value: Some("webserver".to_owned()) }],
        },
        Edit::Scale { class: "others".to_owned(), count: 3 },
        Edit::Scale { class: "unused".to_owned(), count: 1 },
        Edit::Place { host: "plain".to_owned(), service_host: "gjovik".to_owned() },
        Edit::Place { host: "node1".to_owned(), service_host: "gjovik".to_owned() },
    ]
}

#[test]
fn whatever_else_is_edited_is_refused_with_and_without_what_may_be() {
    let granted: [(&[Step], u32); 5] = [
        (&[], 0),
        (&[scale("servers", 3)], 0),
        (&[place("gjovik")], 0),
        (&[volumes(&[10])], 0),
        (&[scale("servers", 1), place("rented"), volumes(&[10, 10])], 2),
    ];
    let edits = edits();
    // One, and each with the next.
    for (at, edit) in edits.iter().enumerate() {
        for also in [None, edits.get(at + 1)] {
            for (steps, hours) in &granted {
                let child = made(PARENT, "balancer", steps).expect("it can be made");
                let child = edited(&child, edit).unwrap_or_else(|| panic!("{edit:?} can't be made"));
                let child = match also.and_then(|also| edited(&child, also)) {
                    Some(both) if understood(&both).is_some() => both,
                    Some(_) | None => child,
                };
                let found = ask("balancer", &child, *hours, &BTreeMap::new());
                assert!(found.is_err(), "{edit:?} and {also:?} with {steps:?}: {found:?}\n{child}");
                assert_ne!(found, Err(EnvelopeError::Nothing), "{edit:?} and {also:?}");
            }
        }
    }
}
