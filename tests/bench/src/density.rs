//! Fifty guests on one host: until all answer, what they take of memory, processor and disk.

use std::time::Instant;

use mln_e2e::Site;

use crate::build::{VMS, copied_bytes, farm};
use crate::figure::{Figure, Goal, Unit};
use crate::process::{allocated_bytes, memory_bytes, processor_seconds, resident_bytes, thread_seconds};
use crate::statistics::Sample;
use crate::{Scale, seconds_since, start, wait};

/// What fifty guests cost.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&["oslo"], "memory_mib = 16384\n");
    let folder = site.folder().to_owned();
    let file = site.project("farm", &farm("farm"));
    let host = site.host("oslo");
    let copied = copied_bytes(host, &folder);
    host.ctl(&["build", "-f", &file]).done();

    let memory = || ["Shmem", "MemAvailable"].map(|name| memory_bytes(name).unwrap_or(0) as f64);
    let before = memory();
    let began = Instant::now();
    start(host, "farm");
    for number in 1..=VMS {
        host.ctl(&["exec", &format!("farm/node{number:02}"), "--", "true"]).done();
    }
    let answered = seconds_since(began);
    wait(scale.settle);
    let after = memory();

    let agent = host.agent_process();
    let guests = host.vm_processes();
    let used = || {
        let agent = processor_seconds(agent).expect("the agent runs");
        [agent, guests.iter().map(|pid| thread_seconds(*pid)).sum()]
    };
    let (began, from) = (Instant::now(), used());
    wait(scale.idle);
    let (to, window) = (used(), seconds_since(began));
    let resident = resident_bytes(agent).expect("the agent runs") as f64;

    host.ctl(&["stop", "-p", "farm"]).done();
    let disk = allocated_bytes(&host.folder().join("vms")) as f64 / VMS as f64;

    let each = |sum: f64| Sample::single(sum / VMS as f64);
    let alone = |what: &str, unit, ours, goal| Figure::alone("density", what, unit, ours, goal);
    vec![
        alone(
            "50 guests of 64 MB until each has answered",
            Unit::Seconds,
            Sample::single(answered),
            Goal::Known,
        ),
        alone("memory per guest, as Shmem", Unit::Bytes, each(after[0] - before[0]), Goal::Known),
        alone("memory per guest, as MemAvailable", Unit::Bytes, each(before[1] - after[1]), Goal::Known),
        alone(
            "processor per idle guest, its holder included",
            Unit::Core,
            each((to[1] - from[1]) / window),
            Goal::Known,
        ),
        alone(
            "processor of the agent of 50 idle guests",
            Unit::Core,
            Sample::single((to[0] - from[0]) / window),
            Goal::Known,
        ),
        alone(
            "memory of the agent of 50 guests, resident",
            Unit::Bytes,
            Sample::single(resident),
            Goal::Known,
        ),
        alone(
            "disk per VM after a boot and a clean stop",
            Unit::Bytes,
            Sample::single(disk),
            Goal::TimesLess(20.0),
        )
        .against("copy and mount", Sample::single(copied)),
    ]
}
