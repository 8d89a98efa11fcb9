use super::*;
use crate::id::PublicKey;
use crate::lang::{self, NoIncludes};
use crate::resolve::{self, Options};

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn project(hosts: &str) -> Project {
    let text = format!("global {{ project p }}\n{hosts}");
    let (tree, diagnostics) = lang::parse("p.mln", text, &NoIncludes);
    let resolved = resolve::resolve(&tree, &Options::default());
    assert!(diagnostics.is_empty() && resolved.diagnostics.is_empty(), "{:?}", resolved.diagnostics);
    resolved.project
}

/// A live host of the group `lab`.
fn lab(host: &str, free: u32) -> Candidate {
    let mut key = [0; 32];
    key[..host.len()].copy_from_slice(host.as_bytes());
    Candidate {
        host: PlacedHost { name: name(host), key: PublicKey(key) },
        groups: vec![name("lab")],
        platforms: vec![Platform::Uml],
        free: MemoryMib(free),
        presence: Presence::Live,
    }
}

fn places(
    project: &Project,
    candidates: &[Candidate],
    current: &[(&str, &str)],
) -> Result<String, Vec<String>> {
    let current = current.iter().map(|(vm, host)| (name(vm), name(host))).collect();
    let chosen = choose(project, &name("asked"), candidates, &current)
        .map_err(|unplaced| unplaced.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let in_order =
        project.vms.iter().filter_map(|vm| Some(format!("{}:{}", vm.name, chosen.get(&vm.name)?.name)));
    Ok(in_order.collect::<Vec<_>>().join(" "))
}

#[track_caller]
fn check(hosts: &str, candidates: &[Candidate], expect: &str) {
    assert_eq!(places(&project(hosts), candidates, &[]).as_deref(), Ok(expect));
}

#[track_caller]
fn check_refused(hosts: &str, candidates: &[Candidate], expect: &[&str]) {
    let refused = places(&project(hosts), candidates, &[]).expect_err("there is no host for it");
    assert_eq!(refused, expect);
}

#[test]
fn the_host_with_the_most_memory_left_is_chosen_and_of_equal_ones_the_first_by_name() {
    let vm = "host a { memory 64M; service_host @lab }";
    check(vm, &[lab("oslo", 100), lab("bergen", 200), lab("gjovik", 150)], "a:bergen");
    check(vm, &[lab("oslo", 100), lab("gjovik", 100), lab("bergen", 100)], "a:bergen");
}

#[test]
fn each_choice_counts_before_the_next() {
    let vms = "global { autoenum { numhosts 5; superclass n; service_hosts { @lab all } } }\n\
               superclass n { memory 64M }";
    let hosts = [lab("oslo", 256), lab("bergen", 192)];
    check(vms, &hosts, "node1:oslo node2:bergen node3:oslo node4:bergen node5:oslo");
}

#[test]
fn what_names_a_host_counts_before_what_names_a_group() {
    let vms = "host a { memory 64M; service_host @lab }\nhost b { memory 96M; service_host oslo }\n\
               host c { memory 96M }";
    check(vms, &[lab("bergen", 100), lab("oslo", 190)], "a:bergen");
    check(vms, &[lab("asked", 190), lab("bergen", 100)], "a:bergen");
}

#[test]
fn only_live_hosts_of_the_group_with_the_platform_and_the_room_are_asked() {
    let off = Candidate { presence: Presence::Off(40), ..lab("a-off", 900) };
    let other = Candidate { groups: vec![name("prod")], ..lab("b-other", 900) };
    let bare = Candidate { platforms: Vec::new(), ..lab("c-bare", 900) };
    let small = lab("d-small", 63);
    let vm = "host a { memory 64M; service_host @lab }";
    let all = [off, other, bare, small, lab("e-fits", 64)];
    check(vm, &all, "a:e-fits");
    check_refused(
        vm,
        &all[..4],
        &["a: no host of @lab has room for a, which wants 64 MiB: a-off is off, last heard 40 s ago, \
           c-bare can't run uml, d-small has 63 MiB left"],
    );
}

#[test]
fn each_group_is_refused_once_with_what_its_first_vm_lacks() {
    let vms = "global { autoenum { numhosts 4; superclass n; service_hosts { @lab all } } }\n\
               superclass n { memory 64M }\nhost last { service_host @nobody }";
    check_refused(
        vms,
        &[lab("oslo", 70)],
        &[
            "node2 and 2 more: no host of @lab has room for node2, which wants 64 MiB: oslo has 6 MiB left",
            "last: no host counts itself to the group @nobody (there are @lab)",
        ],
    );
    check_refused(
        "host a { service_host @lab }",
        &[],
        &["a: no host counts itself to the group @lab, nor to any other"],
    );
}

#[test]
fn a_refusal_of_a_large_group_stays_short() {
    let many: Vec<Candidate> = (10..60).map(|number| lab(&format!("h{number}"), 1)).collect();
    let refused = places(&project("host a { service_host @lab }"), &many, &[]).expect_err("none has room");
    assert!(refused[0].ends_with("h21 has 1 MiB left and 38 more"), "{refused:?}");
}

#[test]
fn two_vms_that_want_one_port_get_two_hosts() {
    let vms = "superclass c { memory 16M; service_host @lab; network nat0 { forward 8080:80 } }\n\
               host a { superclass c }\nhost b { superclass c }";
    check(vms, &[lab("bergen", 64), lab("oslo", 900)], "a:oslo b:bergen");
    check_refused(
        vms,
        &[lab("oslo", 900)],
        &[
            "b: no host of @lab has room for b, which wants 16 MiB: oslo has port 8080 (tcp) taken by this project",
        ],
    );
}

#[test]
fn a_vm_that_is_in_its_group_stays_where_it_is() {
    let vms = project("host a { memory 64M; service_host @lab }\nhost b { memory 64M; service_host @lab }");
    let hosts = [lab("bergen", 64), lab("oslo", 0)];
    assert_eq!(places(&vms, &hosts, &[("a", "oslo")]).as_deref(), Ok("a:oslo b:bergen"));
    assert_eq!(
        places(&vms, &[lab("bergen", 128), lab("oslo", 0)], &[("a", "gjovik")]).as_deref(),
        Ok("a:bergen b:bergen")
    );
}

#[test]
fn a_choice_does_not_depend_on_the_order_in_which_hosts_are_known() {
    let vms = project(
        "global { autoenum { numhosts 30; superclass n; service_hosts { @lab all } } }\nsuperclass n { memory 48M }",
    );
    let mut hosts: Vec<Candidate> =
        (0..7_u32).map(|at| lab(&format!("h{at}"), 300 + 37 * (at % 3))).collect();
    let first = places(&vms, &hosts, &[]);
    for _ in 0..hosts.len() {
        hosts.rotate_left(1);
        assert_eq!(places(&vms, &hosts, &[]), first);
    }
    hosts.reverse();
    assert_eq!(places(&vms, &hosts, &[]), first);
}
