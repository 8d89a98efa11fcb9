//! Machines move between hosts: with what they have written, under connections that stay, all of a host at once, and away from a
//! host that is gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mln_e2e::{Host, Site, until};
use serde_json::Value;

use crate::LIMIT;

/// How long a connection may take to go on: what was lost is sent again after pauses that double.
const PATIENCE: Duration = Duration::from_secs(90);

const HOSTS: [&str; 3] = ["oslo", "bergen", "gjovik"];

/// A machine that counts from its start on, once it has something to count with.
const TRIP: &str = "
global { project trip }
host mover {
    memory 64M
    service_host oslo
    startup {
        test -f /root/counter && setsid sh /root/counter >/dev/null 2>&1 </dev/null &
    }
}
";

/// Goes on where the file ends, ten times a second.
const COUNTER: &str = "n=$(tail -n 1 /root/count); n=${n:-0}
while :; do n=$((n + 1)); echo $n >>/root/count; sleep 0.1; done
";

/// Two machines that reach each other through a third one.
const ROUTED: &str = "
global { project routed }
superclass end { memory 64M }
switch a { }
switch b { }
host west {
    superclass end
    service_host oslo
    network eth0 { switch a; address 10.1.0.2/24; gateway 10.1.0.1 }
}
host east {
    superclass end
    service_host bergen
    network eth0 { switch b; address 10.2.0.2/24; gateway 10.2.0.1 }
}
host router {
    superclass end
    service_host oslo
    network eth0 { switch a; address 10.1.0.1/24 }
    network eth1 { switch b; address 10.2.0.1/24 }
    startup {
        echo 1 >/proc/sys/net/ipv4/ip_forward
    }
}
";

/// Returns the numbers that a guest has written to a file.
fn numbers(host: &Host, vm: &str, file: &str) -> Vec<u64> {
    let text = host.shell(vm, &format!("cat {file}")).done();
    text.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{line:?} is no number"))).collect()
}

#[track_caller]
fn are_all_there(numbers: &[u64]) {
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "of {} numbers", numbers.len());
    assert_eq!(numbers.first(), Some(&1));
}

/// Returns what a host knows of where a machine has been: hosts with the epochs.
fn journey(host: &Host, vm: &str) -> Vec<String> {
    let lines = host.ctl(&["events", "-n", "1000", "--json"]).ended(0).out;
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let moved =
        events.filter(|event| event["vm"] == vm && (event["kind"] == "move" || event["kind"] == "takeover"));
    moved
        .map(|event| {
            let text = event["text"].as_str().unwrap_or_default();
            let epoch = text.split_once("(epoch ").map_or("", |(_, rest)| rest.trim_end_matches(')'));
            let epoch = epoch.split(')').next().unwrap_or_default();
            format!("{} {epoch}", event["host"].as_str().unwrap_or_default())
        })
        .collect()
}

/// Has a machine moved while everybody is asked, again and again, where it is: there is one owner for each, and one kernel.
#[track_caller]
fn moves(site: &mut Site, asked: &str, arguments: &[&str]) {
    let file = site.folder().join("moving.out");
    let mut child = site.host(asked).ctl_into(arguments, &file);
    let mut looks = 0;
    let status = loop {
        let mut running = BTreeSet::new();
        for name in HOSTS {
            let host = site.host(name);
            let rows = host.ctl(&["status", "-p", "trip", "--json"]).json();
            let rows = rows.as_array().cloned().unwrap_or_default();
            // None, where it has heard of the new one and not yet from it.
            assert!(rows.len() <= 1, "{name} knows of one owner: {rows:?}");
            if host.guest_processes() > 0 {
                running.insert(name);
            }
        }
        assert!(running.len() <= 1, "it runs on {running:?}");
        looks += 1;
        if let Some(status) = child.try_wait().expect("it is ours") {
            break status;
        }
    };
    let told = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(status.success(), "{arguments:?} after {looks} looks: {status}\n{told}");
}

#[test]
fn a_machine_goes_round_with_all_that_it_has_written() {
    let mut site = Site::mesh(&HOSTS);
    let file = site.project("trip", TRIP);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "trip"]).done();
    site.host("oslo").sees("trip", "mover", "up");
    let counter = site.folder().join("counter");
    std::fs::write(&counter, COUNTER).expect("the folder is ours");
    let from = counter.display().to_string();
    site.host("oslo").ctl(&["cp", &from, "trip/mover:/root/counter"]).ended(0);
    site.host("oslo").shell("trip/mover", "setsid sh /root/counter >/dev/null 2>&1 </dev/null &").done();
    site.host("oslo").shell("trip/mover", "until test -s /root/count; do sleep 0.1; done").done();

    let there = site.project("there", &TRIP.replace("service_host oslo", "service_host bergen"));
    site.host("gjovik").ctl(&["plan", "-f", &there]).ended(2).says("> host mover").says("1 moved");
    let text = TRIP.replace("service_host oslo", "service_host bergen");
    let text = text.replace("memory 64M", "memory 96M\n    boot_order 3\n    network eth0 { switch lan }")
        + "switch lan { }\n";
    let larger = site.project("larger", &text);
    let plan = site.host("gjovik").ctl(&["plan", "-f", &larger]).ended(2);
    // No host has both what it was and what it is to be.
    let plan = plan.says("> host mover").says("64 MiB → 96 MiB").says("boot_order: 99 → 3");
    plan.says("network eth0").says("1 added, 1 moved; trip at revision 1");
    moves(&mut site, "oslo", &["upgrade", "-f", &there, "--yes"]);
    moves(&mut site, "oslo", &["migrate", "-p", "trip", "-h", "mover", "--to", "gjovik", "--yes"]);
    moves(&mut site, "bergen", &["migrate", "-p", "trip", "-h", "mover", "--to", "oslo", "--yes"]);
    let row = site.host("bergen").sees("trip", "mover", "up");
    assert_eq!(row["service_host"], "oslo", "{row}");
    for name in HOSTS {
        until(&format!("{name} has heard of all moves"), LIMIT, || {
            let found = journey(site.host(name), "mover");
            let expect = ["bergen 1.2", "gjovik 1.3", "oslo 1.4"];
            if found == expect { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    let host = site.host("gjovik");
    let before = numbers(host, "trip/mover", "/root/count").len();
    host.shell(
        "trip/mover",
        &format!("until test $(tail -n 1 /root/count) -gt {before}; do sleep 0.1; done"),
    )
    .done();
    are_all_there(&numbers(host, "trip/mover", "/root/count"));
    let log = host.shell("trip/mover", "dmesg").done();
    let complaint = log.lines().find(|line| {
        let line = line.to_lowercase();
        line.contains("ext4-fs")
            && ["error", "recover", "unchecked", "warning"].iter().any(|word| line.contains(word))
    });
    assert_eq!(complaint, None);
    host.ctl(&["show", "-p", "trip", "--source"]).ended(0).says("service_host oslo");
}

#[test]
fn a_connection_survives_that_the_router_between_its_ends_moves() {
    let mut site = Site::mesh(&HOSTS);
    let file = site.project("routed", ROUTED);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "routed"]).done();
    site.host("oslo").ctl(&["status", "-p", "routed", "--wait", "up", "--timeout", "90"]).ended(0);
    let host = site.host("oslo");
    // It ends with its input.
    let listen = "setsid sh -c 'sleep 9999 | nc -l -p 9000 >/root/got' >/dev/null 2>&1 </dev/null &";
    host.shell("routed/east", listen).done();
    host.shell("routed/east", "until grep -q :2328 /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done").done();
    let count = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.1; done";
    let line = format!("setsid sh -c '({count}) | nc 10.2.0.2 9000' >/dev/null 2>/root/end </dev/null &");
    host.shell("routed/west", &line).done();
    let arrives = |host: &Host, more_than: usize| {
        until("numbers arrive over the one connection", PATIENCE, || {
            let found = numbers(host, "routed/east", "/root/got").len();
            if found > more_than { Ok(()) } else { Err(format!("{found}, and not more than {more_than}")) }
        });
    };
    arrives(host, 0);
    for to in ["gjovik", "bergen"] {
        site.host("oslo").ctl(&["migrate", "-p", "routed", "-h", "router", "--to", to, "--yes"]).ended(0);
        let host = site.host(to);
        let before = numbers(host, "routed/east", "/root/got").len();
        arrives(host, before + 20);
    }
    are_all_there(&numbers(site.host("oslo"), "routed/east", "/root/got"));
}

#[test]
fn all_of_a_host_goes_to_others_and_comes_back() {
    let mut site = Site::mesh_each(&[
        ("oslo", "memory_mib = 1024\n"),
        ("bergen", "memory_mib = 200\n"),
        ("gjovik", "memory_mib = 160\n"),
    ]);
    let of = |project: &str, hosts: &str| format!("global {{ project {project} }}\n{hosts}");
    let one =
        site.project("one", &of("one", "host a { memory 96M }\nhost b { memory 64M; service_host oslo }\n"));
    let two = site.project(
        "two",
        &of("two", "host c { memory 64M; service_host oslo }\nhost d { memory 40M; service_host bergen }\n"),
    );
    for file in [&one, &two] {
        site.host("oslo").ctl(&["build", "-f", file]).done();
    }
    let places = |host: &Host| {
        let rows = host.ctl(&["status", "--json"]).json();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let mut places: Vec<String> =
            rows.iter().map(|row| format!("{} {}", text(row, "name"), text(row, "service_host"))).collect();
        places.sort();
        places
    };
    let is_at = |site: &mut Site, expect: [&str; 4]| {
        for name in HOSTS {
            until(&format!("{name} knows where all are"), LIMIT, || {
                let found = places(site.host(name));
                if found == expect { Ok(()) } else { Err(format!("{found:?}")) }
            });
        }
    };
    is_at(&mut site, ["a oslo", "b oslo", "c oslo", "d bergen"]);
    site.host("bergen")
        .ctl(&["evacuate", "trondheim", "--yes"])
        .ended(3)
        .says("there is no service host trondheim");
    site.host("bergen").ctl(&["evacuate", "oslo"]).ended(64).says("--yes");
    let told = site.host("bergen").ctl(&["evacuate", "oslo", "--yes", "--reason", "new disks"]).ended(0);
    told.says("> host a").says("> host c").says("one at revision 2").says("two at revision 2");
    is_at(&mut site, ["a bergen", "b gjovik", "c gjovik", "d bergen"]);
    site.host("oslo").ctl(&["log", "-p", "one", "--json"]).ended(0).says("evacuate oslo: new disks");
    site.host("oslo").ctl(&["evacuate", "oslo", "--yes"]).ended(0).says("nothing is on it");
    // One of them is changed meanwhile: its text stays, but for where it is.
    site.host("oslo").ctl(&["migrate", "-p", "two", "-h", "d", "--to", "oslo", "--yes"]).ended(0);
    site.host("gjovik").ctl(&["evacuate", "oslo", "--undo", "--yes"]).ended(0).says("one at revision 3");
    is_at(&mut site, ["a oslo", "b oslo", "c oslo", "d oslo"]);
    let text = site.host("oslo").ctl(&["show", "-p", "one", "--source"]).done();
    assert!(text.contains("host a { memory 96M }"), "as it was before: {text}");
    site.host("oslo").ctl(&["evacuate", "oslo", "--undo", "--yes"]).ended(0).says("nothing was moved away");
    // For the largest there is no room elsewhere, and it is said what each lacks.
    let large = site.project("large", &of("large", "host big { memory 256M }\n"));
    site.host("oslo").ctl(&["build", "-f", &large]).done();
    let refused = site.host("oslo").ctl(&["evacuate", "oslo", "--yes"]).ended(3);
    let refused = refused.says("no other host has room for big").says("bergen has").says("memory_mib");
    is_moved_but(&mut site, "big", &refused.to_string());
}

/// The others have gone all the same.
fn is_moved_but(site: &mut Site, stays: &str, told: &str) {
    until("all others have gone", LIMIT, || {
        let rows = site.host("oslo").ctl(&["status", "--json"]).json();
        let here = rows.as_array().into_iter().flatten().filter(|row| row["service_host"] == "oslo");
        let here: Vec<&str> = here.filter_map(|row| row["name"].as_str()).collect();
        if here == [stays] { Ok(()) } else { Err(format!("{here:?}, after it said:\n{told}")) }
    });
}

#[test]
fn a_host_is_emptied_again_as_soon_as_all_has_come_back() {
    let mut site = Site::mesh_each(&[
        ("oslo", "memory_mib = 1024\n"),
        ("bergen", "memory_mib = 100\n"),
        ("gjovik", "memory_mib = 32\n"),
    ]);
    let file = site.project("one", "global { project one }\nhost a { memory 96M }\n");
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    for _ in 0..3 {
        // What bergen has left is told to everybody a moment after it has changed. It is asked itself.
        site.host("gjovik").ctl(&["evacuate", "oslo", "--yes"]).ended(0).says("> host a");
        site.host("gjovik").ctl(&["evacuate", "oslo", "--undo", "--yes"]).ended(0).says("one at revision");
    }
}

#[test]
fn where_a_host_says_no_a_host_is_emptied_to_another_one() {
    let mut site = Site::mesh_each(&[
        ("oslo", "memory_mib = 1024\n"),
        ("bergen", "memory_mib = 512\n"),
        ("gjovik", "memory_mib = 128\n"),
    ]);
    let web = |project: &str, host: &str| {
        let vm = "memory 64M; network eth0 { forward 8080:80 }";
        format!("global {{ project {project} }}\nhost web {{ {vm}; service_host {host} }}\n")
    };
    let taken = site.project("taken", &web("taken", "bergen"));
    let leaves = site.project("leaves", &web("leaves", "oslo"));
    for file in [&taken, &leaves] {
        site.host("oslo").ctl(&["build", "-f", file]).done();
    }
    let told = site.host("oslo").ctl(&["evacuate", "oslo", "--yes"]).ended(0);
    told.says("bergen: web: forward 8080:80").says("another host is tried").says("leaves at revision 2");
    let row = site.host("gjovik").sees("leaves", "web", "down");
    assert_eq!(row["service_host"], "gjovik", "{row}");
}

#[test]
fn one_move_is_slower_where_that_was_asked_for() {
    let mut site = Site::mesh(&HOSTS);
    let file = site.project("trip", TRIP);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "trip"]).done();
    site.host("oslo").sees("trip", "mover", "up");
    let noise = "dd if=/dev/urandom of=/root/noise bs=1M count=6 2>/dev/null; sync; md5sum </root/noise";
    let sum = site.host("oslo").shell("trip/mover", noise).done();
    let to = ["migrate", "-p", "trip", "-h", "mover", "--to", "bergen", "--yes", "--bandwidth"];
    site.host("gjovik").ctl(&[&to[..], &["fast"]].concat()).ended(64).says("10Mbit");
    // Asked of a host that has nothing to do with it.
    let began = Instant::now();
    site.host("gjovik").ctl(&[&to[..], &["16Mbit"]].concat()).ended(0);
    let least = Duration::from_millis(6 * (8 << 20) / 16_000);
    assert!(began.elapsed() >= least, "{:?} is faster than {least:?}", began.elapsed());
    site.host("oslo").sees("trip", "mover", "up");
    assert_eq!(site.host("oslo").shell("trip/mover", "md5sum </root/noise").done(), sum);
}

/// What is written of a switch between two machines, one of which is to be taken over.
const SWITCHED: &str = "
global { project lan }
superclass end { memory 64M }
switch lan { }
host mover { superclass end; service_host oslo; network eth0 { switch lan; address 10.9.0.1/24 } }
host stays { superclass end; service_host gjovik; network eth0 { switch lan; address 10.9.0.2/24 } }
";

#[test]
fn a_machine_that_was_taken_over_is_on_its_switches_while_its_old_host_is_off() {
    let mut site = Site::mesh(&HOSTS);
    let file = site.project("lan", SWITCHED);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "lan"]).done();
    site.host("oslo").ctl(&["status", "-p", "lan", "--wait", "up", "--timeout", "90"]).ended(0);
    site.host("oslo").ctl(&["migrate", "-p", "lan", "-h", "mover", "--to", "bergen", "--yes"]).ended(0);
    site.host("bergen").cut_power();
    for name in ["oslo", "gjovik"] {
        site.host(name).is_connected_to(1);
    }
    site.host("gjovik").ctl(&["takeover", "lan/mover", "--force"]).ended(0);
    site.host("gjovik").sees("lan", "mover", "up");
    until("both reach each other again", LIMIT, || {
        let found = site.host("gjovik").shell("lan/mover", "ping -c 1 -W 2 10.9.0.2");
        if found.code == Some(0) { Ok(()) } else { Err(found.to_string()) }
    });
    site.host("gjovik").shell("lan/stays", "ping -c 1 -W 5 10.9.0.1").done();
}

#[test]
fn a_machine_whose_host_is_gone_goes_on_from_the_copy_that_a_move_has_left() {
    let mut site = Site::mesh(&HOSTS);
    let file = site.project("trip", TRIP);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "trip"]).done();
    site.host("oslo").sees("trip", "mover", "up");
    site.host("oslo").shell("trip/mover", "echo before >/root/said; sync").done();
    site.host("oslo").ctl(&["takeover", "trip/mover"]).ended(3).says("nobody to take it over from");
    site.host("oslo").ctl(&["migrate", "-p", "trip", "-h", "mover", "--to", "bergen", "--yes"]).ended(0);
    site.host("oslo").shell("trip/mover", "echo after >>/root/said; sync").done();
    let boot = site.host("oslo").boot_id("trip/mover");
    let refused = site.host("gjovik").ctl(&["takeover", "trip/mover"]).ended(3);
    refused.says("oslo has heard its owner bergen").says("--force");
    assert_eq!(site.host("oslo").boot_id("trip/mover"), boot);

    site.host("bergen").cut_power();
    for name in ["oslo", "gjovik"] {
        site.host(name).is_connected_to(1);
    }
    // Asked of a host without a copy, which passes it on.
    let told = site.host("gjovik").ctl(&["takeover", "trip/mover", "--force"]).ended(0);
    told.says("epoch 1.1").says("what was written since is lost");
    let row = site.host("gjovik").sees("trip", "mover", "up");
    assert_eq!(row["service_host"], "oslo", "{row}");
    assert_eq!(site.host("gjovik").shell("trip/mover", "cat /root/said").done(), "before\n");

    // The old host comes back, hears, runs nothing, and keeps what it has.
    site.host("bergen").run();
    site.host("bergen").is_connected_to(2);
    for name in HOSTS {
        until(&format!("{name} has heard of it"), LIMIT, || {
            let found = journey(site.host(name), "mover");
            if found.last().is_some_and(|last| last == "oslo 2.1") {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        });
    }
    assert_eq!(site.host("bergen").guest_processes(), 0);
    assert!(!site.host("bergen").traces_of_vms().is_empty(), "its disk is kept");
    assert_eq!(site.host("bergen").shell("trip/mover", "cat /root/said").done(), "before\n");
    let row = site.host("bergen").sees("trip", "mover", "up");
    assert_eq!(row["service_host"], "oslo", "{row}");

    // Its definition still says bergen. To place it where it is builds nothing, and copies nothing.
    let here = site.project("here", TRIP);
    let plan = site.host("oslo").ctl(&["plan", "-f", &here]).ended(2).to_string();
    assert!(plan.contains("> host mover") && plan.contains("live"), "{plan}");
    assert!(!plan.contains("+ host mover"), "{plan}");
    site.host("oslo").ctl(&["upgrade", "-f", &here, "--yes"]).ended(0).says("trip at revision 3");
    assert_eq!(site.host("oslo").shell("trip/mover", "cat /root/said").done(), "before\n");
}
