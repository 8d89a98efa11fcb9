use mln_link::message::DOCTOR_CHECKS;

use super::super::facts::{ControlGroup, PeerClock, Space, User};
use super::*;
use crate::store_health::StoreFacts;

const HEALTHY: Space = Space { free_mib: 4000, total_mib: 8000, exec: Exec::Allowed };

fn healthy() -> Facts {
    Facts {
        config_error: None,
        kernel: "/usr/bin/linux.uml".into(),
        kernel_run: Run::Version("6.1.176".to_owned()),
        ptrace: Ok(()),
        memory_folder: "/dev/shm".into(),
        memory: Ok(HEALTHY),
        data: "/var/lib/mln".into(),
        disk: Ok(HEALTHY),
        guest_agent: "/usr/lib/mln/mlnd-guest".into(),
        guest_agent_there: true,
        templates: vec!["mini".to_owned()],
        missing_tools: Vec::new(),
        passt_there: true,
        default_route: Ok(()),
        open_ports: vec!["/ip4/0.0.0.0/tcp/7117".to_owned()],
        taken_ports: Vec::new(),
        agent_runs: true,
        now_unix_ms: 10_000_000,
        peers: vec![PeerClock { name: "bergen".to_owned(), measured_unix_ms: 9_990_000 }],
        store: StoreFacts::default(),
        standing: Some(MeshStanding { doubled: None, members: 2, reached: 1 }),
        landlock: Landlock::There,
        user: User { uid: 1000, login: Some("anna".to_owned()), lingers: Some(true) },
        control_group: None,
    }
}

/// What a spoilt machine is told: exactly one line is not ok.
#[track_caller]
fn check(name: &str, verdict: Verdict, words: &str, spoil: impl FnOnce(&mut Facts)) {
    let mut facts = healthy();
    spoil(&mut facts);
    let wrong: Vec<DoctorRow> = all(&facts).into_iter().filter(|row| row.verdict != Verdict::Ok).collect();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    let row = &wrong[0];
    assert_eq!((row.name.as_str(), row.verdict), (name, verdict), "{row:?}");
    let fix = row.fix.as_deref().expect("what isn't ok has a fix");
    assert!(row.finding.contains(words) || fix.contains(words), "{row:?}");
}

#[test]
fn a_healthy_machine_is_told_so_and_every_line_is_in_the_list() {
    let rows = all(&healthy());
    assert!(rows.iter().all(|row| row.verdict == Verdict::Ok && row.fix.is_none()), "{rows:?}");
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let of_agent: Vec<&str> =
        DOCTOR_CHECKS.into_iter().filter(|name| !["agent", "version"].contains(name)).collect();
    assert_eq!(names, of_agent);
}

#[test]
fn a_store_that_fails_or_lost_something_is_told() {
    check("state", Verdict::Fail, "df /var/lib/mln", |f| f.store.failing = Some("no space".to_owned()));
    check("state", Verdict::Fail, "anna/ring", |f| f.store.stopped.push("anna/ring: damaged".to_owned()));
    check("state", Verdict::Warn, "nothing is lost", |f| f.store.set_aside.push("state.broken-1".to_owned()));
}

#[test]
fn a_kernel_that_is_not_there_or_does_not_run_is_a_failure() {
    check("kernel", Verdict::Fail, "apt-get install user-mode-linux", |f| f.kernel_run = Run::Missing);
    check("kernel", Verdict::Fail, "exec format", |f| f.kernel_run = Run::Broken("exec format".to_owned()));
}

#[test]
fn forbidden_tracing_is_a_failure() {
    let denied = Err("operation not permitted".to_owned());
    check("ptrace", Verdict::Fail, "ptrace_scope", |f| f.ptrace = denied);
}

#[test]
fn memory_that_is_small_is_a_warning_and_too_small_a_failure() {
    let space = |free_mib| Ok(Space { free_mib, total_mib: 64, exec: Exec::Allowed });
    check("memory-folder", Verdict::Fail, "remount,size=2G", |f| f.memory = space(60));
    check("memory-folder", Verdict::Warn, "remount,size=2G", |f| f.memory = space(500));
}

#[test]
fn memory_without_code_is_a_failure() {
    let noexec = Ok(Space { exec: Exec::Forbidden, ..HEALTHY });
    check("memory-exec", Verdict::Fail, "remount,exec", |f| f.memory = noexec);
}

#[test]
fn a_full_disk_is_a_failure_and_a_nearly_full_one_a_warning() {
    let space = |free_mib| Ok(Space { free_mib, total_mib: 64, exec: Exec::Allowed });
    check("disk", Verdict::Fail, "nothing can be built", |f| f.disk = space(63));
    check("disk", Verdict::Warn, "1000 MiB", |f| f.disk = space(1000));
}

#[test]
fn what_is_not_installed_is_named_with_its_package() {
    check("passt", Verdict::Warn, "apt-get install passt", |f| f.passt_there = false);
    check("guest-agent", Verdict::Fail, "/usr/lib/mln", |f| f.guest_agent_there = false);
    check("tools", Verdict::Warn, "apt-get install mmdebstrap fakeroot", |f| {
        f.missing_tools = vec![("mmdebstrap", "mmdebstrap"), ("fakeroot", "fakeroot")];
    });
    check("tools", Verdict::Fail, "e2fsprogs", |f| f.missing_tools = vec![("mke2fs", "e2fsprogs")]);
    check("templates", Verdict::Warn, "template build mini", |f| f.templates.clear());
}

#[test]
fn clocks_are_compared_with_those_of_peers() {
    let says = |measured_unix_ms| vec![PeerClock { name: "bergen".to_owned(), measured_unix_ms }];
    check("clock", Verdict::Warn, "bergen is 20 s ahead", |f| f.peers = says(10_020_000));
    check("clock", Verdict::Warn, "bergen is up to 1000 s behind", |f| f.peers = says(9_000_000));
}

#[test]
fn ports_that_others_have_and_an_agent_that_listens_nowhere_are_told() {
    check("ports", Verdict::Fail, "in use", |f| {
        f.agent_runs = false;
        f.taken_ports = vec![("/ip4/0.0.0.0/tcp/7117".to_owned(), "in use".to_owned())];
    });
    check("ports", Verdict::Warn, "nowhere", |f| f.open_ports.clear());
}

#[test]
fn what_costs_comfort_or_safety_alone_is_a_warning() {
    check("landlock", Verdict::Warn, "breaks out", |f| f.landlock = Landlock::Missing);
    check("default-route", Verdict::Warn, "ip route", |f| f.default_route = Err("there is none".to_owned()));
    check("lingering", Verdict::Warn, "enable-linger anna", |f| f.user.lingers = Some(false));
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_failure() {
    check("configuration", Verdict::Fail, "config.toml", |f| f.config_error = Some("memroy_mib".to_owned()));
    check("control-group", Verdict::Fail, "groupadd --system lab", |f| {
        let gid = Err("there is no group \"lab\"".to_owned());
        f.control_group = Some(ControlGroup { name: "lab".to_owned(), gid });
    });
}

#[test]
fn a_host_whose_key_is_doubled_and_one_that_reaches_nobody_are_told_what_to_do() {
    let standing = |doubled: Option<&str>, reached| {
        Some(MeshStanding { doubled: doubled.map(str::to_owned), members: 2, reached })
    };
    check("key", Verdict::Fail, "mlnctl key confirm", |facts| {
        facts.standing = standing(Some("a copy of it runs"), 1);
    });
    check("peers", Verdict::Fail, "reaches 0 of 2 members", |facts| facts.standing = standing(None, 0));
    let mut alone = healthy();
    for standing in [None, Some(MeshStanding { doubled: None, members: 0, reached: 0 })] {
        alone.standing = standing;
        assert!(all(&alone).iter().all(|row| row.verdict == Verdict::Ok));
    }
}
