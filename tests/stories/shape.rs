//! A project that is in use gets another shape by one change, and has its old one again by another; what the change is not
//! about runs on.

use std::collections::BTreeMap;

use mln_e2e::{Host, Site, until};

use crate::LIMIT;
use crate::live::{FREE, ROOT, number};

const HOSTS: [&str; 3] = ["oslo", "bergen", "gjovik"];

/// A lab in the middle of the semester.
const BEFORE: &str = "
global { project course }
superclass end { memory 64M }
switch lan { }
host still { superclass end; service_host oslo; network eth0 { switch lan; address 10.9.0.1/24 } }
host web { superclass end; service_host oslo; memory_max 128M; network eth0 { switch lan; address 10.9.0.2/24 } }
host db { superclass end; service_host bergen; network eth0 { switch lan; address 10.9.0.3/24 } }
host mover { superclass end; service_host bergen; network eth0 { switch lan; address 10.9.0.4/24 } }
host gone { superclass end; service_host gjovik; network eth0 { switch lan; address 10.9.0.5/24 } }
";

/// How the machine begins that moves: its memory, its disk and its address are others as well.
const MOVED: &str = "host mover { superclass end; service_host gjovik; memory 80M; size 200M";

/// What it becomes: two more, one fewer, one with more memory, one with a larger disk and an account more, one elsewhere.
fn after() -> String {
    let gone = BEFORE.find("host gone").expect("it has such a machine");
    let more = "
host new1 { superclass end; service_host oslo; network eth0 { switch lan; address 10.9.0.6/24 } }
host new2 { superclass end; service_host gjovik; network eth0 { switch lan; address 10.9.0.7/24 } }
";
    let text = format!("{}{more}", &BEFORE[..gone])
        .replace("memory_max 128M;", "memory_max 128M; memory 112M;")
        .replace(
            "host db { superclass end;",
            "host db { superclass end; size 300M; users { anna * /home/anna };",
        )
        .replace("host mover { superclass end; service_host bergen", MOVED)
        .replace("10.9.0.4/24", "10.9.0.44/24");
    for word in ["memory 112M", "size 300M", "anna", MOVED, "10.9.0.44"] {
        assert!(text.contains(word), "{word} is in it");
    }
    text
}

/// Returns where a host sees each machine of the project, and how it is.
fn shape(host: &Host) -> BTreeMap<String, String> {
    let rows = host.ctl(&["status", "-p", "course", "--json"]).json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| (text(row, "name"), format!("{} {}", text(row, "service_host"), text(row, "state"))))
        .collect()
}

#[track_caller]
fn has_shape(site: &mut Site, expect: &[(&str, &str)]) {
    let expect: BTreeMap<String, String> =
        expect.iter().map(|(vm, place)| ((*vm).to_owned(), (*place).to_owned())).collect();
    for name in HOSTS {
        until(&format!("{name} sees the shape of the project"), LIMIT, || {
            let found = shape(site.host(name));
            if found == expect { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}

#[test]
fn one_upgrade_gives_a_lab_in_use_another_shape_and_a_rollback_its_old_one() {
    let mut site = Site::mesh(&HOSTS);
    let (before, after) = (site.project("course", BEFORE), site.project("after", &after()));
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &before]).done();
    oslo.ctl(&["start", "-p", "course"]).done();
    oslo.ctl(&["status", "-p", "course", "--wait", "up", "--timeout", "120"]).ended(0);
    let was = [
        ("db", "bergen up"),
        ("gone", "gjovik up"),
        ("mover", "bergen up"),
        ("still", "oslo up"),
        ("web", "oslo up"),
    ];
    has_shape(&mut site, &was);
    let oslo = site.host("oslo");
    let runs_on = ["course/still", "course/web", "course/db"];
    let boots = runs_on.map(|vm| oslo.boot_id(vm));
    let (free, root) = (number(oslo, "course/web", FREE), number(oslo, "course/db", ROOT));
    for vm in ["course/mover", "course/gone"] {
        oslo.shell(vm, &format!("echo {vm} >/root/mine; sync")).done();
    }

    // One change. It says of each machine what it costs, and only costs that.
    let plan = oslo.ctl(&["plan", "-f", &after]).ended(3);
    plan.says("rule running")
        .says("+ host new1")
        .says("- host gone")
        .says("> host mover")
        .says("memory: 64 MiB → 112 MiB");
    let change = ["upgrade", "-f", &after, "--yes", "--force", "-S", "-l", "still:db"];
    oslo.ctl(&change).ended(0).says("course at revision 2");
    has_shape(
        &mut site,
        &[
            ("db", "bergen up"),
            ("mover", "gjovik up"),
            ("new1", "oslo up"),
            ("new2", "gjovik up"),
            ("still", "oslo up"),
            ("web", "oslo up"),
        ],
    );
    let oslo = site.host("oslo");
    for (vm, boot) in runs_on.into_iter().zip(&boots) {
        assert_eq!(oslo.boot_id(vm), *boot, "{vm} ran on");
    }
    let more_free = number(oslo, "course/web", FREE);
    assert!(more_free > free + (30 << 10), "{free} KiB before, {more_free} after");
    let larger = number(oslo, "course/db", ROOT);
    assert!(larger > root + (150 << 10), "{root} KiB before, {larger} after");
    oslo.shell("course/db", "id anna").done();
    assert_eq!(oslo.shell("course/mover", "cat /root/mine").done(), "course/mover\n");
    let total = number(oslo, "course/mover", "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo");
    assert!(total > 64 << 10, "it has other memory where it is now: {total} KiB");
    assert!(number(oslo, "course/mover", ROOT) > root + (100 << 10), "and a larger disk");
    let reaches = ["10.9.0.2", "10.9.0.3", "10.9.0.44", "10.9.0.6", "10.9.0.7"];
    let line = reaches.map(|address| format!("ping -c 1 -W 5 {address}")).join(" && ");
    oslo.shell("course/still", &line).done();

    // And back: the machine that was left out is the same again, with its disk.
    let back = ["rollback", "-p", "course", "--yes", "--force", "-S", "-l", "still:db"];
    site.host("gjovik").ctl(&back).ended(0).says("course at revision 3");
    has_shape(&mut site, &was);
    let oslo = site.host("oslo");
    for (vm, boot) in runs_on.into_iter().zip(&boots) {
        assert_eq!(oslo.boot_id(vm), *boot, "{vm} ran on");
    }
    let less_free = number(oslo, "course/web", FREE);
    assert!(less_free + (30 << 10) < more_free, "{more_free} KiB before, {less_free} after");
    for vm in ["course/mover", "course/gone"] {
        assert_eq!(oslo.shell(vm, "cat /root/mine").done(), format!("{vm}\n"));
    }
    oslo.shell("course/still", "ping -c 1 -W 5 10.9.0.4 && ping -c 1 -W 5 10.9.0.5").done();
    oslo.ctl(&["plan", "-f", &before]).ended(0).says("no changes");
}
