//! Plans: what leads from one project to another, in which order, and what it costs.

use std::collections::BTreeSet;

use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::lang::{NoIncludes, Severity};
use mln_protocol::model::{Fragment, HostAddress, Project};
use mln_protocol::plan::{self, Counts, Permission, PlacedHost, PlacementError, PlannedChange, Row};

use crate::golden::cases;
use crate::mutation::{Numbers, damaged};
use crate::{Folder, crate_folder, options, understand};

fn project(text: &str) -> Project {
    let (_, resolved, diagnostics) = understand("p.mln", text, &NoIncludes, &options(&[]));
    let errors: Vec<_> = diagnostics.iter().filter(|one| one.severity() == Severity::Error).collect();
    assert!(errors.is_empty(), "{text}: {errors:#?}");
    resolved.project
}

fn planned(from: &str, to: &str, rebuild: &[&str]) -> Vec<PlannedChange> {
    let rebuild = rebuild.iter().map(|name| Name::parse(name).expect("a name")).collect();
    plan::plan(&project(from), &project(to), &rebuild)
}

/// Draws a row: `~ host a memory 64 MiB → 96 MiB reboot`.
pub(crate) fn drawn(row: &Row) -> String {
    let mut words = vec![row.sign.character().to_string(), row.subject.kind().to_owned()];
    words.extend(row.subject.name().map(Name::to_string));
    words.extend(row.key.clone());
    words.extend(row.from.clone());
    words.extend(row.to.as_ref().map(|to| format!("→ {to}")));
    words.push(row.act.word().to_owned());
    words.extend((row.permission != Permission::Granted).then(|| "refused".to_owned()));
    words.join(" ")
}

#[track_caller]
fn check(from: &str, to: &str, expect: &[&str]) {
    let header = "global { project p }\nswitch lan { }\n";
    let planned = planned(&format!("{header}{from}"), &format!("{header}{to}"), &[]);
    let found: Vec<String> = plan::rows(&planned).iter().map(drawn).collect();
    assert_eq!(found, expect);
}

#[track_caller]
fn check_host(from: &str, to: &str, expect: &[&str]) {
    let expect: Vec<String> = expect.iter().map(|line| line.replacen(' ', " host a ", 1)).collect();
    let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
    check(&format!("host a {{ {from} }}"), &format!("host a {{ {to} }}"), &expect);
}

#[test]
fn each_change_of_a_host_takes_the_mildest_way_that_user_mode_linux_allows() {
    check_host("memory 64M", "memory 96M", &["~ memory 64 MiB → 96 MiB reboot"]);
    check_host("memory 96M", "memory 64M", &["~ memory 96 MiB → 64 MiB live-or-reboot"]);
    check_host("", "size 1G", &["+ disk → 1 GiB live"]);
    check_host("size 1G", "size 2G", &["~ disk 1 GiB → 2 GiB live"]);
    check_host("boot_order 1", "boot_order 2", &["~ boot_order 1 → 2 live"]);
    check_host("service_host oslo", "service_host bergen", &["> service_host oslo → bergen move"]);
    check_host("", "service_host bergen", &["> service_host → bergen move"]);
    check_host("template mini@1", "template mini", &["~ template mini@1 → mini live"]);
    check_host("", "vcpus 2", &["~ vcpus 1 → 2 live"]);
    let network = |inside: &str| format!("network eth0 {{ {inside} }}");
    check_host("", &network(""), &["+ network eth0 live"]);
    check_host(&network(""), "", &["- network eth0 live"]);
    check_host(
        &network("switch lan"),
        &network("bridge br0"),
        &["~ network eth0 switch lan → bridge br0 reboot"],
    );
    check_host(&network(""), &network("address dhcp"), &["+ network eth0 address → dhcp live"]);
    check_host(
        &network("address 10.0.0.1; gateway 10.0.0.9"),
        &network("address 10.0.0.2; mac 02:00:00:00:00:01"),
        &[
            "~ network eth0 address 10.0.0.1/24 → 10.0.0.2/24 live",
            "- network eth0 gateway 10.0.0.9 live",
            "+ network eth0 mac → 02:00:00:00:00:01 reboot",
        ],
    );
}

#[test]
fn links_change_as_hosts_run_unless_the_change_is_of_what_was_started() {
    let network = |inside: &str| format!("network eth0 {{ {inside} }}");
    check_host(
        &network("switch lan; delay 50ms; loss 1%"),
        &network("switch lan; delay 1s; rate 8kbit"),
        &[
            "~ network eth0 delay 50ms → 1s live",
            "- network eth0 loss 1% live",
            "+ network eth0 rate → 8kbit live",
        ],
    );
    check_host(&network(""), &network("delay 50ms"), &["+ network eth0 delay → 50ms reboot"]);
    check_host(
        &network("tun_iface t"),
        &network("tun_iface t; tun_address 10.0.0.1/30"),
        &["+ network eth0 tun_address → 10.0.0.1/30 reboot"],
    );
    check(
        "switch s { bridge br0; service_host x }",
        "switch s { hub; tap t; bridge br0; vlan 7 }",
        &[
            "~ switch s type switch → hub live",
            "~ switch s uplink bridge br0 → bridge br0, tap t live",
            "+ switch s vlan → 7 live",
            "- switch s service_host x live",
        ],
    );
    check("switch s { tap }", "switch s { }", &["- switch s uplink tap live"]);
}

#[test]
fn of_equal_further_disks_as_many_have_to_stay_as_there_are() {
    let refused = |from: &str, to: &str| {
        let host = |mounts: &str| format!("global {{ project p }}\nhost a {{ mount {{ {mounts} }} }}");
        let planned = planned(&host(from), &host(to), &[]);
        plan::rows(&planned).iter().any(|row| row.permission != Permission::Granted)
    };
    assert!(!refused("1G /a ext4", "1G /a ext4; 1G /b ext4"), "another one comes");
    assert!(refused("1G /a ext4; 1G /b ext4", "1G /a ext4"), "one of two goes");
    assert!(refused("1G /a ext4; 1G /b ext4", "1G /a ext4; 1G /b ext3"), "one of two is another one");
    assert!(refused("1G /a ext4", "2G /a ext4"), "it is another size");
}

#[test]
fn lists_are_told_by_what_came_and_what_went_and_passwords_are_not_shown() {
    check_host(
        "users { a x; b y; c z }",
        "users { b new; c z; d w }",
        &["- user a kept", "~ user b live", "+ user d live"],
    );
    check_host("users { a x; b y }", "users { b y; a x }", &["~ order of users live"]);
    check_host(
        "files { m /m; n /n }",
        "files { n /n; m /o 0644 }",
        &["- files m /m live", "+ files → m /o 0644 live"],
    );
    check_host("startup { a; b }", "startup { a; c }", &["- startup a; b live", "+ startup → a; c live"]);
}

#[test]
fn what_would_lose_a_disk_is_refused_unless_the_host_is_named() {
    let cases = [
        ("template a", "template b", "~ template a → b rebuild refused"),
        ("", "template b", "+ template → b rebuild refused"),
        ("template a", "template a@2", "~ template a → a@2 rebuild refused"),
    ];
    for (from, to, expect) in cases {
        check_host(from, to, &[expect]);
        let host = |inside: &str| format!("global {{ project p }}\nhost a {{ {inside} }}");
        let granted = planned(&host(from), &host(to), &["a"]);
        assert!(granted.iter().all(|one| one.permission == Permission::Granted), "{granted:?}");
        let other = planned(&host(from), &host(to), &["b"]);
        assert!(other.iter().any(|one| one.permission != Permission::Granted), "{other:?}");
    }
}

#[test]
fn a_disk_that_is_to_be_smaller_stays_as_it_is_and_nothing_is_lost() {
    check_host("size 2G", "size 1G", &["~ disk 2 GiB → 1 GiB kept"]);
    check_host("free_space 2G", "", &["- disk 2 GiB of free space kept"]);
    check_host("size 2G", "free_space 2G", &["~ disk 2 GiB → 2 GiB of free space live"]);
}

#[test]
fn what_a_guest_has_beside_its_disk_is_told_with_what_it_costs() {
    check_host(
        "groups { a { x } }",
        "groups { a { x y } }",
        &["- groups a { x } live", "+ groups → a { x y } live"],
    );
    check_host("", "swap 64M", &["+ swap → 64 MiB reboot"]);
    check_host("", "mount { 1G /m ext4 }", &["+ mount → 1 GiB /m ext4 reboot"]);
    check_host("mount { 1G /m ext4 }", "", &["- mount 1 GiB /m ext4 reboot refused"]);
    check_host(
        "mount { 1G /m ext4 }",
        "mount { 1G /m ext4 noatime }",
        &["- mount 1 GiB /m ext4 reboot", "+ mount → 1 GiB /m ext4 noatime reboot"],
    );
    check_host("", "memory_max 1G", &["+ memory_max → 1024 MiB live"]);
    check_host("", "shutdown { sync }", &["+ shutdown → sync live"]);
    check_host("nice 5; cpus 0", "cpus 0-1", &["- nice 5 live", "~ cpus 0 → 0,1 live"]);
    let project = |hooks: &str| format!("global {{ project p; {hooks} }}\nhost a {{ }}");
    let rows = plan::rows(&planned(&project(""), &project("afterHostsStop { echo bye }"), &[]));
    let found: Vec<String> = rows.iter().map(drawn).collect();
    assert_eq!(found, ["+ project afterHostsStop → echo bye live"]);
}

const BEFORE: &str = "global { project p }
switch old { }
host gone { boot_order 1; network eth0 { switch old } }
host early { boot_order 1; memory 64M }
host late { memory 64M }
host far { service_host oslo; memory 64M }
host same { }
";
const AFTER: &str = "global { project p }
switch new { }
host late { memory 96M }
host early { boot_order 1; memory 96M }
host far { service_host bergen; memory 96M }
host first { boot_order 0; network eth0 { switch new } }
host same { }
host last { network eth0 { switch new } }
";

#[test]
fn room_is_made_before_it_is_taken_and_hosts_come_in_their_boot_order() {
    let rows = plan::rows(&planned(BEFORE, AFTER, &[]));
    let found: Vec<String> = rows.iter().map(drawn).collect();
    assert_eq!(
        found,
        [
            "~ project order → late early far same live",
            "+ switch new live",
            "- host gone remove",
            "> host far service_host oslo → bergen move",
            "~ host early memory 64 MiB → 96 MiB reboot",
            "~ host late memory 64 MiB → 96 MiB reboot",
            "~ host far memory 64 MiB → 96 MiB reboot",
            "+ host first build",
            "+ host last build",
            "- switch old live",
        ]
    );
    let counts = plan::counts(&rows);
    assert_eq!(counts, Counts { added: 3, removed: 2, changed: 3, moved: 1, refused: 0 });
}

#[test]
fn what_is_not_carried_out_yet_is_told_all_the_same() {
    let kept = |text: &str| understand("p.mln", text, &NoIncludes, &options(&[])).1.kept;
    let from = "global { project p; project_password x }
        superclass c { policy near { every 5s; may move x } }
        host a { superclass c; no swap; ec2 { ami one } }
        host gone { ec2 { ami x } }";
    let to = "global { project p }
        superclass c { policy near { every 9s; may move x } }
        host a { superclass c; ec2 { ami two } }";
    // The keywords of this test may be carried out one day: only those that are not are looked for.
    let rows: Vec<String> = plan::kept_rows(&[], &kept(from), &kept(to)).iter().map(drawn).collect();
    for expected in ["~ host a ec2 ami one → ami two kept", "- host gone ec2 ami x kept"] {
        assert!(rows.iter().any(|row| row == expected), "{expected} is not in {rows:#?}");
    }
    assert_eq!(plan::kept_rows(&[], &kept(from), &kept(from)), []);
}

#[test]
fn another_name_is_another_project() {
    let planned = planned("global { project p }\nhost a { }", "global { project q }\nhost a { }", &[]);
    let found: Vec<String> = plan::rows(&planned).iter().map(drawn).collect();
    assert_eq!(found, ["~ project name p → q rebuild"]);
}

/// Checks the laws of differences and plans.
fn check_laws(a: &Project, b: &Project) {
    assert_eq!(plan::difference(a, a), []);
    let changes = plan::difference(a, b);
    assert_eq!(changes.is_empty(), a == b);
    assert_eq!(&plan::apply(a, &changes), b, "{changes:#?}");
    let planned = plan::plan(a, b, &BTreeSet::new());
    assert_eq!(planned.len(), changes.len());
    assert_eq!(&plan::apply(a, planned.iter().map(|one| &one.change)), b, "applied in the order of the plan");
    for one in &planned {
        let rows = plan::rows(std::slice::from_ref(one));
        assert!(!rows.is_empty() && !one.why.is_empty(), "{one:?} is not told");
    }
}

#[test]
fn applying_a_difference_to_one_project_gives_the_other() {
    let loader = Folder(crate_folder().join("tests/lang"));
    let options = options(&[("n", "2")]);
    let mut projects = vec![project(BEFORE), project(AFTER)];
    for case in cases("ok") {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        let name = case.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        projects.push(understand(&format!("ok/{name}"), &text, &loader, &options).1.project);
    }
    for a in &projects {
        for b in &projects {
            check_laws(a, b);
        }
    }
}

#[test]
fn applying_a_difference_holds_for_damaged_projects_too() {
    let options = options(&[("n", "2")]);
    let mut numbers = Numbers(4);
    let mut differing = 0;
    for case in cases("ok").into_iter().chain(cases("wrong")) {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        for _ in 0..60 {
            let resolved = |text: &str| understand("x.mln", text, &NoIncludes, &options).1.project;
            let (a, b) = (resolved(&text), resolved(&damaged(&text, &mut numbers)));
            check_laws(&a, &b);
            check_laws(&b, &a);
            differing += usize::from(a != b);
        }
    }
    assert!(differing > 200, "only {differing} pairs differ");
}

/// Splits a project over hosts that are called as its file calls them; returns which of them have which uplinks.
fn uplinks(text: &str) -> Result<Vec<(String, Vec<String>)>, Vec<PlacementError>> {
    let name = |text: &str| Name::parse(text).expect("a name");
    let host = |text: &str| PlacedHost { name: name(text), key: PublicKey(Digest::of(text.as_bytes()).0) };
    let known = ["oslo", "bergen", "gjovik"];
    let find = |address: &HostAddress| known.contains(&address.0.as_str()).then(|| host(&address.0));
    let text = format!("global {{ project p }}\n{text}");
    let parts = plan::fragments(&project(&text), &[], |_| host("oslo"), &Default::default(), find)?;
    let of = |(host, part): (PlacedHost, Fragment)| {
        (host.name.to_string(), part.uplinks.iter().map(Name::to_string).collect())
    };
    Ok(parts.into_iter().map(of).collect())
}

#[test]
fn exactly_one_host_has_the_uplink_of_a_switch() {
    let hosts = "host a { service_host oslo; network eth0 { switch lan } }
        host b { service_host bergen; network eth0 { switch lan } }
        host c { service_host gjovik }";
    let switch = |inside: &str| format!("switch lan {{ {inside} }}\n{hosts}");
    let found = |inside: &str| {
        let all = uplinks(&switch(inside)).expect("they are known");
        let with = all.into_iter().filter(|(_, switches)| !switches.is_empty());
        with.map(|(host, _)| host).collect::<Vec<_>>()
    };
    assert_eq!(found(""), Vec::<String>::new());
    assert_eq!(found("bridge br0"), ["bergen"], "the first by name");
    assert_eq!(found("tap; service_host oslo"), ["oslo"]);
    let name = |text: &str| Name::parse(text).expect("a name");
    let (lan, host) = (name("lan"), |text: &str| HostAddress(text.to_owned()));
    assert_eq!(
        uplinks(&switch("tap; service_host gjovik")),
        Err(vec![PlacementError::SwitchElsewhere {
            switch: lan.clone(),
            host: host("gjovik"),
            carriers: vec![name("bergen"), name("oslo")],
        }])
    );
    assert_eq!(
        uplinks(&switch("tap; service_host nowhere")),
        Err(vec![PlacementError::Switch { switch: lan, host: host("nowhere") }])
    );
}
