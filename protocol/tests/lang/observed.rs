//! Plans from what hosts observe: what is there already is no change, and what the plan says leads to what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::Name;
use mln_protocol::lang::NoIncludes;
use mln_protocol::model::{HostAddress, Project, Vm};
use mln_protocol::plan::{self, Act, Condition, Effect, Places, PlannedChange, Sighting};

use crate::golden::cases;
use crate::mutation::{Numbers, damaged};
use crate::plan::drawn;
use crate::{options, understand};

const HOSTS: [&str; 3] = ["oslo", "bergen", "gjovik"];

/// Three hosts, the first two of which are the group `lab`; whoever is asked is oslo.
struct Mesh;

impl Places for Mesh {
    fn fits(&self, host: &Name, wanted: &HostAddress) -> bool {
        match wanted.group() {
            Some(group) => group.as_str() == "lab" && host.as_str() != "gjovik",
            None => wanted.0 == host.as_str(),
        }
    }

    fn host_for(&self, vm: &Vm) -> Option<Name> {
        match &vm.service_host {
            None => Some(name("oslo")),
            Some(host) if host.group().is_some() => Some(name("bergen")),
            // Who is asked has the last word on what is nobody's name.
            Some(host) => Name::parse(&host.0).ok().or_else(|| Some(name("oslo"))),
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn project(text: &str) -> Project {
    understand("p.mln", &format!("global {{ project p }}\n{text}"), &NoIncludes, &options(&[])).1.project
}

type Seen = BTreeMap<Name, Sighting>;

fn seen(all: &[(&str, &str, Condition)]) -> Seen {
    let one = |(vm, host, condition): &(&str, &str, Condition)| {
        (name(vm), Sighting { host: name(host), condition: *condition })
    };
    all.iter().map(one).collect()
}

#[track_caller]
fn check(head: Option<&str>, observed: &[(&str, &str, Condition)], wanted: &str, expect: &[&str]) {
    let head = head.map(project);
    let planned =
        plan::plan_observed(head.as_ref(), &seen(observed), &project(wanted), &Mesh, &BTreeSet::new());
    let found: Vec<String> = plan::rows(&planned).iter().map(drawn).collect();
    assert_eq!(found, expect);
}

use Condition::{Absent, Down, Running};

#[test]
fn a_project_that_does_not_exist_is_built() {
    let wanted = "switch lan { }\nhost a { }\nhost b { network eth0 { switch lan } }";
    check(None, &[], wanted, &["+ switch lan live", "+ host a build", "+ host b build"]);
}

#[test]
fn what_is_there_as_it_is_wanted_is_no_change_however_its_host_is_named() {
    let seen_there = [("a", "bergen", Running)];
    for wanted in ["host a { service_host bergen }", "host a { service_host @lab }", "host a { }"] {
        for head in ["host a { service_host bergen }", "host a { service_host @lab }", "host a { }"] {
            check(Some(head), &seen_there, wanted, &[]);
        }
    }
}

#[test]
fn what_stands_elsewhere_moves_and_what_is_gone_is_built_again() {
    let head = "host a { service_host oslo }";
    let wanted = "host a { service_host gjovik }";
    check(Some(head), &[("a", "oslo", Running)], wanted, &["> host a service_host oslo → gjovik move"]);
    check(Some(head), &[("a", "gjovik", Running)], wanted, &[]);
    let group = "host a { service_host @lab }";
    check(Some(head), &[("a", "gjovik", Down)], group, &["> host a service_host gjovik → bergen move"]);
    check(Some(head), &[("a", "oslo", Absent)], head, &["+ host a build"]);
    check(Some(head), &[], head, &["+ host a build"]);
    check(Some(head), &[("a", "oslo", Running)], "", &["- host a remove"]);
}

#[test]
fn nothing_is_stopped_for_what_does_not_run() {
    let (head, wanted) = ("host a { memory 64M }", "host a { memory 96M }");
    check(Some(head), &[("a", "oslo", Running)], wanted, &["~ host a memory 64 MiB → 96 MiB reboot"]);
    check(Some(head), &[("a", "oslo", Down)], wanted, &["~ host a memory 64 MiB → 96 MiB live"]);
    // Losing a disk is another matter.
    let (head, wanted) = ("host a { template one }", "host a { template two }");
    check(Some(head), &[("a", "oslo", Down)], wanted, &["~ host a template one → two rebuild refused"]);
}

/// What steps do to what is there: VMs with their hosts, and the definitions that they were made from.
fn carried_out(there: &Project, planned: &[PlannedChange]) -> (Project, Seen) {
    let after = plan::apply(there, planned.iter().map(|one| &one.change));
    let host = |vm: &Vm| vm.service_host.as_ref().and_then(|host| Name::parse(&host.0).ok());
    let at = |vm: &Vm| Some((vm.name.clone(), Sighting { host: host(vm)?, condition: Down }));
    (after.clone(), after.vms.iter().filter_map(at).collect())
}

fn check_laws(head: Option<&Project>, observed: &Seen, wanted: &Project) -> usize {
    let nobody = BTreeSet::new();
    let planned = plan::plan_observed(head, observed, wanted, &Mesh, &nobody);
    let there = plan::found(head, observed, &wanted.name);
    let (after, seen_after) = carried_out(&there, &planned);
    assert_eq!(after, plan::settled(wanted, observed, &Mesh), "{planned:#?}");
    // What was wanted is there now: planned again from what is seen, nothing is left to do.
    assert_eq!(plan::plan_observed(Some(&after), &seen_after, wanted, &Mesh, &nobody), []);
    // What nobody sees is never changed, moved or removed, only built.
    for one in &planned {
        let touched = match &one.change {
            plan::Change::VmRemoved { vm } | plan::Change::VmChanged { vm, .. } => vm,
            _ => continue,
        };
        assert!(observed.get(touched).is_some_and(|seen| seen.condition != Absent), "{one:?}");
        let runs = observed.get(touched).is_some_and(|seen| seen.condition == Running);
        assert!(runs || one.act != Act::Change(Effect::Reboot), "{one:?}");
    }
    planned.len()
}

#[test]
fn carrying_out_a_plan_from_what_is_observed_gives_what_is_wanted() {
    let options = options(&[("n", "2")]);
    let mut numbers = Numbers(11);
    let (mut changes, mut rounds) = (0, 0);
    for case in cases("ok").into_iter().chain(cases("wrong")) {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        for _ in 0..20 {
            let resolved = |text: &str| understand("x.mln", text, &NoIncludes, &options).1.project;
            let (head, wanted) = (resolved(&text), resolved(&damaged(&text, &mut numbers)));
            let observed: Seen = head
                .vms
                .iter()
                .filter_map(|vm| {
                    let condition = [Absent, Down, Running, Running][numbers.below(4)];
                    let seen = Sighting { host: name(HOSTS[numbers.below(3)]), condition };
                    (numbers.below(8) > 0).then(|| (vm.name.clone(), seen))
                })
                .collect();
            changes += check_laws(Some(&head), &observed, &wanted);
            changes += check_laws(None, &Seen::new(), &wanted);
            rounds += 1;
        }
    }
    assert!(rounds > 500 && changes > rounds, "{changes} changes in {rounds} rounds");
}
