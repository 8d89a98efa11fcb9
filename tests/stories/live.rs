//! Machines that run are given what their definition says by now, as they run; what can't be had so costs one start of that
//! one machine.

use std::fs;

use mln_e2e::{Host, Site, until};

use crate::LIMIT;

/// Two machines on one switch and one beside, which is nobody's concern.
const BEFORE: &str = "
global { project shop }
superclass end { memory 64M }
switch lan { }
host web {
    superclass end
    service_host oslo
    memory_max 128M
    network eth0 { switch lan; address 10.9.0.1/24 }
}
host db {
    superclass end
    service_host bergen
    network eth0 { switch lan; address 10.9.0.2/24 }
}
host aside { superclass end; service_host oslo; size 100M }
";

/// What the machines become as they run.
fn after() -> String {
    let more = "
    memory 112M
    size 300M
    users {
        anna * /home/anna
    }
    groups {
        staff { anna }
    }
    files {
        greeting.txt /etc/greeting
    }
    nameserver 10.9.0.53
    network eth1 { switch side; address 10.8.0.1/24 }
";
    let text = BEFORE
        .replace("    memory_max 128M\n", &format!("    memory_max 128M\n{more}"))
        .replace("switch lan { }\n", "switch lan { }\nswitch side { }\n")
        .replace(
            "address 10.9.0.2/24 }\n",
            "address 10.9.0.7/24 }\n    network eth1 { switch side; address 10.8.0.2/24 }\n",
        );
    assert_ne!(text, BEFORE);
    text
}

/// Returns a number that a machine says.
#[track_caller]
pub(crate) fn number(host: &Host, vm: &str, line: &str) -> u64 {
    let said = host.shell(vm, line).done();
    said.trim().parse().unwrap_or_else(|_| panic!("{vm}: {line}: {said:?}"))
}

/// The memory that a machine has free, in KiB.
pub(crate) const FREE: &str =
    "sync; echo 3 >/proc/sys/vm/drop_caches; sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo";
/// The size of its root file system, in KiB.
pub(crate) const ROOT: &str = "df -k / | tail -n 1 | sed 's/  */ /g' | cut -d ' ' -f 2";

fn start(site: &mut Site, file: &str, project: &str) {
    site.host("oslo").ctl(&["build", "-f", file]).done();
    site.host("oslo").ctl(&["start", "-p", project]).done();
    site.host("oslo").ctl(&["status", "-p", project, "--wait", "up", "--timeout", "90"]).ended(0);
}

#[test]
fn one_upgrade_gives_machines_what_they_lack_as_they_run_and_a_rollback_takes_it_back() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let before = site.project("shop", BEFORE);
    std::fs::write(site.folder().join("greeting.txt"), "good day\n").expect("the folder is the site's");
    let more = site.project("more", &after());
    start(&mut site, &before, "shop");
    let vms = ["shop/web", "shop/db", "shop/aside"];
    let boots = vms.map(|vm| site.host("oslo").boot_id(vm));
    let oslo = site.host("oslo");
    let (free, root) = (number(oslo, "shop/web", FREE), number(oslo, "shop/web", ROOT));
    oslo.shell("shop/web", "echo mine >/root/kept").done();

    // Whose machines must not be stopped has nothing to say: nothing is.
    let told = oslo.ctl(&["upgrade", "-f", &more, "--yes", "-l", "web:db:aside"]).ended(0);
    told.says("memory: 64 MiB → 112 MiB").says("shop at revision 2");
    // All of it is there when the upgrade has ended.
    for (vm, boot) in vms.into_iter().zip(&boots) {
        assert_eq!(oslo.boot_id(vm), *boot, "{vm} ran on");
    }
    let more_free = number(oslo, "shop/web", FREE);
    assert!(more_free > free + (30 << 10), "{free} KiB before, {more_free} after");
    let larger = number(oslo, "shop/web", ROOT);
    assert!(larger > root + (150 << 10), "{root} KiB before, {larger} after");
    oslo.shell("shop/web", "id anna && id -nG anna | grep -w staff").done();
    let files =
        oslo.shell("shop/web", "cat /etc/greeting /root/kept; grep -c 10.9.0.53 /etc/resolv.conf").done();
    assert_eq!(files, "good day\nmine\n1\n");
    oslo.shell("shop/web", "grep -w db /etc/hosts | grep -w 10.9.0.7").done();
    oslo.shell("shop/web", "ping -c 1 -W 5 10.8.0.2 && ping -c 1 -W 5 10.9.0.7").done();
    oslo.shell("shop/db", "ip addr show dev eth0 | grep -w 10.9.0.2").ended(1);
    oslo.ctl(&["plan", "-f", &more]).ended(0).says("no changes");

    // A new agent asks, and finds that all is so.
    site.host("oslo").kill();
    site.host("oslo").run();
    site.host("oslo").sees("shop", "web", "up");
    until("web reaches db again, once both hosts have found each other", LIMIT, || {
        let found = site.host("oslo").shell("shop/web", "ping -c 1 -W 2 10.8.0.2");
        if found.code == Some(0) { Ok(()) } else { Err(found.to_string()) }
    });

    // Less memory can't be promised: only taking it tells whether the guest has it free.
    let bergen = site.host("bergen");
    bergen.ctl(&["rollback", "-p", "shop", "--yes", "-l", "web:db"]).ended(3).says("web may be stopped");
    let told = bergen.ctl(&["rollback", "-p", "shop", "--yes", "-l", "db:aside"]).ended(0);
    told.says("live-or-reboot").says("disk: 300 MiB").says("shop at revision 3");
    let oslo = site.host("oslo");
    for (vm, boot) in vms.into_iter().zip(&boots) {
        assert_eq!(oslo.boot_id(vm), *boot, "{vm} ran on");
    }
    let less_free = number(oslo, "shop/web", FREE);
    assert!(less_free + (30 << 10) < more_free, "{more_free} KiB before, {less_free} after");
    oslo.shell("shop/web", "! ip link show dev eth1").done();
    oslo.shell("shop/db", "ip addr show dev eth0 | grep -w 10.9.0.2").done();
    oslo.shell("shop/web", "ping -c 1 -W 5 10.9.0.2").done();
    assert_eq!(number(oslo, "shop/web", ROOT), larger, "a disk keeps what it has");
    site.host("oslo").ctl(&["plan", "-f", &before]).ended(0).says("no changes");
}

#[test]
fn what_takes_a_start_costs_one_of_that_machine_and_none_where_it_must_not_be_stopped() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let before = site.project("shop", BEFORE);
    start(&mut site, &before, "shop");
    let vms = ["shop/web", "shop/db", "shop/aside"];
    let boots = vms.map(|vm| site.host("oslo").boot_id(vm));
    let oslo = site.host("oslo");
    oslo.shell("shop/db", "echo mine >/root/kept; sync").done();

    // It was started without room for more.
    let wider = BEFORE.replace("10.9.0.2/24 }", "10.9.0.2/24 }\n    memory 80M");
    let wider = site.project("wider", &wider);
    let oslo = site.host("oslo");
    let refused = oslo.ctl(&["upgrade", "-f", &wider, "--yes", "-l", "db"]).ended(3);
    refused.says("db");
    assert_eq!(oslo.boot_id("shop/db"), boots[1]);
    let told = oslo.ctl(&["upgrade", "-f", &wider, "--yes", "-l", "web:aside"]).ended(0);
    told.says("reboot").says("shop at revision 2");
    // It has waited until it was up again.
    oslo.ctl(&["status", "-p", "shop"]).ended(0);
    assert_ne!(oslo.boot_id("shop/db"), boots[1], "it was started once more");
    assert_eq!(oslo.shell("shop/db", "cat /root/kept").done(), "mine\n");
    let total = "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo";
    assert!(number(oslo, "shop/db", total) > 64 << 10);
    for index in [0, 2] {
        assert_eq!(oslo.boot_id(vms[index]), boots[index], "{} ran on", vms[index]);
    }

    // Room that it is given as it runs is not room that it was started with.
    let text = fs::read_to_string(&wider).expect("the story's");
    let room = site.project("room", &text.replace("memory_max 128M", "memory_max 192M"));
    site.host("oslo").ctl(&["upgrade", "-f", &room, "--yes", "-l", "web:db:aside"]).ended(0);
    let text = text.replace("memory_max 128M", "memory 160M; memory_max 192M");
    let grown = site.project("grown", &text);
    let oslo = site.host("oslo");
    oslo.ctl(&["plan", "-f", &grown]).ended(2).says("reboot").says("it was started with room for less");
    oslo.ctl(&["upgrade", "-f", &grown, "--yes", "-l", "web"]).ended(3).says("web");
    assert_eq!(oslo.boot_id("shop/web"), boots[0], "web ran on");
    let grown = site.project("grown", &text.replace("memory 160M", "memory 120M"));
    let plan = site.host("oslo").ctl(&["plan", "-f", &grown]).ended(2);
    plan.says("live");
}

#[test]
fn disks_that_have_no_room_as_a_machine_runs_grow_and_come_with_one_start_of_it() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let before = site.project("shop", BEFORE);
    start(&mut site, &before, "shop");
    let vms = ["shop/web", "shop/db", "shop/aside"];
    let boots = vms.map(|vm| site.host("oslo").boot_id(vm));
    let oslo = site.host("oslo");
    for vm in ["shop/db", "shop/aside"] {
        oslo.shell(vm, "echo mine >/root/kept; sync").done();
    }

    // The file under its disk has 4 GiB.
    let more = "10.9.0.2/24 }\n    mount {\n        24M /data ext4\n    }";
    let larger = BEFORE.replace("size 100M", "size 5G").replace("10.9.0.2/24 }", more);
    let larger = site.project("larger", &larger);
    let oslo = site.host("oslo");
    let plan = oslo.ctl(&["plan", "-f", &larger]).ended(2);
    plan.says("a longer file is put there when it is stopped").says("mount");
    for vm in ["aside", "db"] {
        oslo.ctl(&["upgrade", "-f", &larger, "--yes", "-l", vm]).ended(3).says(vm);
    }
    oslo.ctl(&["upgrade", "-f", &larger, "--yes", "-l", "web"]).ended(0).says("shop at revision 2");
    oslo.ctl(&["status", "-p", "shop", "--wait", "up", "--timeout", "90"]).ended(0);
    assert_eq!(oslo.boot_id("shop/web"), boots[0], "web ran on");
    for (vm, boot) in vms.into_iter().zip(&boots).skip(1) {
        assert_ne!(oslo.boot_id(vm), *boot, "{vm} was started once more");
        assert_eq!(oslo.shell(vm, "cat /root/kept").done(), "mine\n");
    }
    assert!(number(oslo, "shop/aside", ROOT) > 4 << 20, "it has more than the 4 GiB that it could have");
    oslo.shell("shop/db", "grep -w /data /proc/mounts && echo ours >/data/ours && sync").done();

    // Another disk before it: each is still mounted where it was.
    let two =
        "10.9.0.2/24 }\n    swap 16M\n    mount {\n        16M /more ext4\n        24M /data ext4\n    }";
    let two = BEFORE.replace("size 100M", "size 5G").replace("10.9.0.2/24 }", two);
    let two = site.project("two", &two);
    site.host("oslo").ctl(&["upgrade", "-f", &two, "--yes", "-l", "web:aside"]).ended(0);
    let oslo = site.host("oslo");
    oslo.ctl(&["status", "-p", "shop", "--wait", "up", "--timeout", "90"]).ended(0);
    let look = "grep -w /more /proc/mounts >/dev/null && grep ubdf /proc/swaps >/dev/null && cat /data/ours";
    assert_eq!(oslo.shell("shop/db", look).done(), "ours\n");
    // Without a word for it, none is lost.
    let refused = oslo.ctl(&["upgrade", "-f", &larger, "--yes"]).ended(3);
    refused.says("rule disk-loss");
}

#[test]
fn an_interface_goes_from_one_switch_to_another_as_its_machine_runs() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let text = "
global { project lab }
switch one { }
switch two { }
host a { service_host oslo; network eth0 { switch one; address 10.7.0.1/24 } }
host b { service_host oslo; network eth0 { switch one; address 10.7.0.2/24 } }
host c { service_host bergen; network eth0 { switch two; address 10.7.0.3/24 } }
";
    let before = site.project("lab", text);
    start(&mut site, &before, "lab");
    let boots = ["lab/a", "lab/b", "lab/c"].map(|vm| site.host("oslo").boot_id(vm));
    let oslo = site.host("oslo");
    oslo.shell("lab/a", "ping -c 1 -W 5 10.7.0.2 && ! ping -c 1 -W 1 10.7.0.3").done();
    let other = text.replacen("eth0 { switch one", "eth0 { switch two", 1);
    let other = site.project("other", &other);
    site.host("oslo").ctl(&["upgrade", "-f", &other, "--yes", "-l", "a:b:c"]).ended(0);
    until("a reaches c by the other switch", LIMIT, || {
        let found = site.host("oslo").shell("lab/a", "ping -c 1 -W 2 10.7.0.3 && ! ping -c 1 -W 1 10.7.0.2");
        if found.code == Some(0) { Ok(()) } else { Err(found.to_string()) }
    });
    for (vm, boot) in ["lab/a", "lab/b", "lab/c"].into_iter().zip(&boots) {
        assert_eq!(site.host("oslo").boot_id(vm), *boot, "{vm} ran on");
    }
}

#[test]
fn a_machine_whose_startup_lines_failed_is_marked_on_every_host_until_they_work() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let text = "global { project p }\nhost vm { service_host oslo; startup { nosuchcommand } }\n";
    let bad = site.project("bad", text);
    let good = site.project("good", &text.replace("nosuchcommand", "true"));
    site.host("oslo").ctl(&["build", "-f", &bad]).done();
    site.host("oslo").ctl(&["start", "-p", "p"]).done();
    for name in ["oslo", "bergen"] {
        let waited = site.host(name).ctl(&["status", "-p", "p", "--wait", "up", "--timeout", "90"]).ended(1);
        waited.says("it is up, and its startup lines failed");
    }
    let mark = |site: &mut Site, name: &str, expect: &str| {
        until(&format!("{name} says {expect}"), LIMIT, || {
            let row = site.host(name).sees("p", "vm", "up");
            if row["startup"] == expect { Ok(()) } else { Err(row.to_string()) }
        });
    };
    for name in ["oslo", "bergen"] {
        mark(&mut site, name, "failed");
        site.host(name).ctl(&["status", "-p", "p"]).ended(0).says("its startup lines failed");
    }
    site.host("oslo").kill();
    site.host("oslo").run();
    site.host("oslo").is_connected_to(1);
    mark(&mut site, "bergen", "failed");
    site.host("bergen").ctl(&["upgrade", "-f", &good, "--yes"]).ended(0);
    site.host("bergen").ctl(&["stop", "-p", "p"]).done();
    site.host("bergen").ctl(&["start", "-p", "p"]).done();
    for name in ["oslo", "bergen"] {
        mark(&mut site, name, "fine");
    }
}
