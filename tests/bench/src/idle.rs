//! What an agent takes that has nothing to do, in a mesh of three.

use std::time::Instant;

use mln_e2e::Site;

use crate::figure::{Figure, Goal, Unit};
use crate::process::{processor_seconds, resident_bytes};
use crate::statistics::Sample;
use crate::{Scale, seconds_since, start, wait};

/// The hosts.
const HOSTS: [&str; 3] = ["oslo", "bergen", "gjovik"];

/// What an agent may have of memory, in bytes.
const MEMORY_BYTES: f64 = (30 << 20) as f64;

/// What the program in a guest may have on its drive, and of the guest's memory, in bytes.
const GUEST_FILE_BYTES: f64 = (6 << 20) as f64;
const GUEST_MEMORY_BYTES: f64 = (8 << 20) as f64;

/// What an agent may use, of one processor.
const PROCESSOR: f64 = 0.002;

/// A guest on each host, all on one switch.
const PROJECT: &str = "global { project trio }
superclass node { memory 64M }
switch lan { }
host one { superclass node; service_host oslo; network eth0 { switch lan; address 10.9.0.1/24 } }
host two { superclass node; service_host bergen; network eth0 { switch lan; address 10.9.0.2/24 } }
host three { superclass node; service_host gjovik; network eth0 { switch lan; address 10.9.0.3/24 } }
";

/// What idle agents cost, without guests and with one each.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&HOSTS, "memory_mib = 1024\n");
    let mut figures = measure(&mut site, scale, "without guests");
    let file = site.project("trio", PROJECT);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    start(site.host("oslo"), "trio");
    figures.extend(measure(&mut site, scale, "with a guest each, on one switch"));
    figures.extend(inside(&mut site));
    figures
}

/// What the agent in a guest takes, after somebody there has asked it something.
fn inside(site: &mut Site) -> Vec<Figure> {
    let host = site.host("oslo");
    let number = |line: &str| {
        let text = host.shell("trio/one", line).done();
        text.trim().parse::<f64>().unwrap_or_else(|_| panic!("{text:?} is no number"))
    };
    host.shell("trio/one", "mlnctl me").done();
    let bytes = number("stat -c %s /run/mln/agent/mlnd");
    let resident = number("awk '/^VmRSS/ { print $2 }' /proc/$(pidof mlnd)/status") * 1024.0;
    let version = host.shell("trio/one", "mlnctl --version").done();
    let alone = |what: String, value, most| {
        Figure::alone("idle", &what, Unit::Bytes, Sample::single(value), Goal::AtMost(most))
    };
    vec![
        alone(format!("the agent in a guest ({}), its file", version.trim()), bytes, GUEST_FILE_BYTES),
        alone("memory of the agent in a guest, resident".to_owned(), resident, GUEST_MEMORY_BYTES),
    ]
}

fn measure(site: &mut Site, scale: Scale, how: &str) -> Vec<Figure> {
    wait(scale.settle);
    let agents = HOSTS.map(|name| site.host(name).agent_process());
    let used = || agents.map(|pid| processor_seconds(pid).expect("the agent runs"));
    let (began, from) = (Instant::now(), used());
    wait(scale.idle);
    let (to, window) = (used(), seconds_since(began));
    let processor = from.iter().zip(to).map(|(from, to)| (to - from) / window);
    let memory = agents.map(|pid| resident_bytes(pid).expect("the agent runs") as f64);
    let sample = |values: Vec<f64>| Sample::of(values).expect("there are three agents");
    vec![
        Figure::alone(
            "idle",
            &format!("memory of an agent {how}, resident"),
            Unit::Bytes,
            sample(memory.to_vec()),
            Goal::AtMost(MEMORY_BYTES),
        ),
        Figure::alone(
            "idle",
            &format!("processor of an agent {how}"),
            Unit::Core,
            sample(processor.collect()),
            Goal::AtMost(PROCESSOR),
        ),
    ]
}
