//! Goldens of the tables.

use std::net::{IpAddr, Ipv4Addr};

use mln_protocol::id::Name;

use mln_link::message::{ForwardRow, GaugeValue, NatState, OutsideRow, PortProtocol};

use super::*;

const PIPE: Layout = Layout { columns: 80, status_spacing: Spacing::Single };
const TERMINAL: Layout = Layout { columns: 80, status_spacing: Spacing::Aligned };

fn named(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

fn vm(owner: &str, vm: &str, state: VmState, address: Option<[u8; 4]>) -> StatusRow {
    StatusRow {
        owner: named(owner),
        project: named("ring"),
        vm: named(vm),
        host: named("oslo"),
        state,
        address: address.map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        since_ms: Some(192_000),
        age_ms: 61_000,
    }
}

fn host(name: &str, projects: u32, vms: u32, memory: (u64, u64), groups: &[&str]) -> DaemonStatusRow {
    DaemonStatusRow {
        name: named(name),
        projects,
        vms,
        memory_used_mib: memory.0,
        memory_available_mib: memory.1,
        groups: groups.iter().map(|group| named(group)).collect(),
        age_ms: 2_000,
        liveness: HostLiveness::Alive,
    }
}

#[test]
fn status_is_a_line_per_host_as_ever() {
    let rows = [
        vm("anna", "router1", VmState::Up, Some([10, 0, 0, 1])),
        vm("anna", "r2", VmState::Down { exit_status: Some(7) }, None),
        vm("anna", "r3", VmState::Failed { why: "no \u{1b}[2J space".to_owned() }, None),
        vm("anna", "r4", VmState::Unknown, None),
    ];
    let rows: Vec<&StatusRow> = rows.iter().collect();
    assert_eq!(
        status(&rows, &Outside::default(), PIPE),
        "ring host router1 up 10.0.0.1 oslo 3m12s\n\
         ring host r2 down - oslo 3m12s ended with status 7\n\
         ring host r3 failed - oslo 3m12s no \\u{1b}[2J space\n\
         ring host r4 unknown - oslo 3m12s oslo last heard 1m01s ago\n"
    );
    assert_eq!(
        status(&rows, &Outside::default(), TERMINAL),
        "ring  host  router1  up       10.0.0.1  oslo  3m12s\n\
         ring  host  r2       down     -         oslo  3m12s  ended with status 7\n\
         ring  host  r3       failed   -         oslo  3m12s  no \\u{1b}[2J space\n\
         ring  host  r4       unknown  -         oslo  3m12s  oslo last heard 1m01s ago\n"
    );
    assert_eq!(status(&[], &Outside::default(), PIPE), "");
}

#[test]
fn owners_are_shown_where_there_are_several() {
    let rows = [vm("anna", "a", VmState::Up, None), vm("berit", "a", VmState::Building, None)];
    let rows: Vec<&StatusRow> = rows.iter().collect();
    assert_eq!(
        status(&rows, &Outside::default(), PIPE),
        "anna/ring host a up - oslo 3m12s\nberit/ring host a building - oslo 3m12s\n"
    );
}

#[test]
fn long_reasons_never_wrap() {
    let row = vm("anna", "router1", VmState::Failed { why: "because ".repeat(20) }, None);
    for layout in [PIPE, TERMINAL] {
        let shown = status(&[&row], &Outside::default(), layout);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.ends_with("…\n"), "{shown}");
    }
}

#[test]
fn daemon_status_is_the_table_of_the_paper() {
    let rows = [
        host("gateway1", 2, 2, (512, 768), &["gateways"]),
        host("backend1", 1, 1, (128, 896), &["backends", "ssd"]),
        host("backend2", 1, 1, (128, 896), &["backends"]),
        host("backend3", 2, 2, (256, 768), &["backends"]),
        host("backend4", 1, 1, (128, 896), &["backends"]),
    ];
    assert_eq!(
        daemon_status(&rows, Detail::Hosts, PIPE),
        "Server    #Projs  #vms  Mem.Used  Mem.Ava  Groups\n\
         gateway1       2     2       512      768  gateways\n\
         backend1       1     1       128      896  backends,ssd\n\
         backend2       1     1       128      896  backends\n\
         backend3       2     2       256      768  backends\n\
         backend4       1     1       128      896  backends\n\
         Total          7     7      1152     4224\n"
    );
    assert_eq!(
        daemon_status(&rows, Detail::TotalOnly, PIPE),
        "Server  #Projs  #vms  Mem.Used  Mem.Ava  Groups\n\
         Total        7     7      1152     4224\n"
    );
}

/// The old one divided by the number of VMs.
#[test]
fn daemon_status_is_a_table_also_where_there_is_nothing() {
    let title = "Server  #Projs  #vms  Mem.Used  Mem.Ava  Groups\n";
    let total = "Total        0     0         0";
    assert_eq!(daemon_status(&[], Detail::Hosts, PIPE), format!("{title}{total}        0\n"));
    let rows = [host("oslo", 0, 0, (0, 512), &[])];
    let expect = format!("{title}oslo         0     0         0      512\n{total}      512\n");
    assert_eq!(daemon_status(&rows, Detail::Hosts, PIPE), expect);
}

#[test]
fn a_host_that_is_off_says_for_how_long() {
    let mut row = host("oslo", 0, 0, (0, 512), &[]);
    row.liveness = HostLiveness::Gone;
    row.age_ms = 300_000;
    assert!(daemon_status(&[row.clone()], Detail::Hosts, PIPE).contains("off 5m00s\n"));
    row.liveness = HostLiveness::Suspect;
    assert!(daemon_status(&[row], Detail::Hosts, PIPE).contains("late 5m00s\n"));
}

#[test]
fn projects_peers_and_templates_are_tables() {
    let project = ProjectRow {
        owner: named("anna"),
        project: named("ring"),
        id: "0123456789abcdef".repeat(4),
        revisions: 1,
        hosts: 3,
        vms: 3,
        vms_up: 2,
    };
    assert_eq!(
        projects(&[project], PIPE),
        "Owner  Project  Hosts  #vms  Up  Revisions  Id\n\
         anna   ring         3     3   2          1  01234567\n"
    );
    let peer = |name: Option<&str>, link| PeerRow {
        name: name.map(named),
        key: "fedcba98".repeat(8),
        addresses: vec!["/ip4/10.0.0.1/tcp/4001".to_owned()],
        link,
        version: Some("0.1.0".to_owned()),
    };
    assert_eq!(
        peers(
            &[
                peer(Some("oslo"), PeerLink::Connected { round_trip_us: Some(1_250), since_ms: 60_000 }),
                peer(Some("bergen"), PeerLink::Lost { last_seen_ms: 5_000 }),
                peer(None, PeerLink::Never),
            ],
            PIPE
        ),
        "Peer      Link      RTT  Since  Version  Address\n\
         oslo      up     1.2 ms  1m00s  0.1.0    /ip4/10.0.0.1/tcp/4001\n\
         bergen    lost        -  5s     0.1.0    /ip4/10.0.0.1/tcp/4001\n\
         fedcba98  never       -  -      0.1.0    /ip4/10.0.0.1/tcp/4001\n"
    );
    let template = TemplateRow {
        name: named("mini"),
        version: "1".to_owned(),
        digest: "abcdef01".repeat(8),
        bytes: 64 << 20,
        bytes_on_disk: 20 << 20,
        created_unix_ms: 951_782_400_000,
    };
    assert_eq!(
        templates(&[template], PIPE),
        "Template  Version    Size  On disk  Made              Digest\n\
         mini      1        64 MiB   20 MiB  2000-02-29 00:00  abcdef01\n"
    );
}

#[test]
fn what_a_vm_has_of_the_outside_is_a_note() {
    let forward = |host_port, guest_port, protocol| ForwardRow { host_port, guest_port, protocol };
    let none = |name: &str, nat: Option<&str>, forwards| OutsideRow {
        owner: named("anna"),
        project: named("ring"),
        vm: named(name),
        nat: nat.map(|why| NatState::None { why: why.to_owned() }),
        forwards,
    };
    let outside = [
        none("web", Some("no route"), vec![forward(8080, 80, PortProtocol::Tcp)]),
        none("dns", None, vec![forward(5353, 53, PortProtocol::Udp)]),
    ];
    let rows = [
        vm("anna", "web", VmState::Up, None),
        vm("anna", "dns", VmState::Down { exit_status: Some(0) }, None),
        vm("anna", "db", VmState::Up, None),
    ];
    let rows: Vec<&StatusRow> = rows.iter().collect();
    assert_eq!(
        status(&rows, &Outside::of(&outside), PIPE),
        "ring host web up - oslo 3m12s nat: none (no route); forward 8080:80\n\
         ring host dns down - oslo 3m12s forward 5353:53/udp\n\
         ring host db up - oslo 3m12s\n"
    );
}

#[test]
fn gauges_are_lines_below_with_what_they_were_before() {
    let up = vm("anna", "router1", VmState::Up, None);
    let row = |of: &str, gauge: &str, values: &[(u64, &str)]| GaugeRow {
        owner: named("anna"),
        project: named("ring"),
        vm: named(of),
        gauge: named(gauge),
        values: values
            .iter()
            .map(|(ago_ms, value)| GaugeValue { ago_ms: *ago_ms, value: (*value).to_owned() })
            .collect(),
    };
    let rows = [
        row("router1", "cpu", &[(12_000, "3.14159"), (2_000, "12.3456")]),
        row("router1", "load", &[(1_000, "no\u{1b}number")]),
        row("router1", "none", &[]),
        row("router2", "cpu", &[(1_000, "1")]),
    ];
    assert_eq!(
        gauges(&[&up], &rows, PIPE),
        "ring gauge router1 cpu 12.3% 2s before: 3.142\nring gauge router1 load nonumber 1s\n"
    );
}

#[test]
fn a_machine_that_has_told_nothing_yet_is_named() {
    let [told, silent, empty] = ["router1", "router2", "router3"].map(|of| vm("anna", of, VmState::Up, None));
    let down = vm("anna", "router4", VmState::Down { exit_status: None }, None);
    let row = |of: &str, values: Vec<GaugeValue>| GaugeRow {
        owner: named("anna"),
        project: named("ring"),
        vm: named(of),
        gauge: named("cpu"),
        values,
    };
    let rows =
        [row("router1", vec![GaugeValue { ago_ms: 1, value: "1".to_owned() }]), row("router3", Vec::new())];
    let said = unmeasured(&[&told, &silent, &empty, &down], &rows).expect("two have told nothing");
    assert!(said.starts_with("no values of ring/router2, ring/router3: "), "{said}");
    assert_eq!(unmeasured(&[&told, &down], &rows), None);
    let names: Vec<String> = (1..=9).map(|number| format!("n{number}")).collect();
    assert!(some_of(&names).is_some_and(|text| text.ends_with("n8 and 1 more")));
}
