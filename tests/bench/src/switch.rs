//! TCP between two guests: over our switch, over a trunk between two hosts, over `uml_switch`, over a bridge.
//!
//! All guests are alike: the same disk, seed, addresses and program for traffic; only what is between them
//! differs. They all run at the same time, and are measured one pair after the other, in rounds.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use mln_e2e::{Host, Site, until};

use crate::bare::{BareDisk, BareGuest};
use crate::figure::{Figure, Goal, Unit};
use crate::process::processor_seconds;
use crate::statistics::Sample;
use crate::{LIMIT, Scale, start};

/// The port of the receiver in each guest.
const PORT: u16 = 5001;

/// Two guests on one switch, ONE beside the first agent and TWO where the second word says.
const PROJECT: &str = "global { project NAME }
superclass end {
    memory 64M
    files { TRAFFIC /usr/local/bin/mln-traffic 755 }
    startup { /usr/local/bin/mln-traffic serve PORT >/dev/null 2>&1 & }
}
switch lan { }
host ONE { superclass end; service_host oslo; network eth0 { switch lan; address 10.9.0.1/24 } }
host TWO { superclass end; service_host PLACE; network eth0 { switch lan; address 10.9.0.2/24 } }
";

/// Two guests that nobody but this program holds, and what is between them.
struct BarePair {
    left: BareGuest,
    right: BareGuest,
    between: Option<Daemon>,
}

impl BarePair {
    /// Returns the processes that move the frames: both kernels, and what is between them.
    fn processes(&self) -> Vec<u32> {
        let between = self.between.as_ref().map(|daemon| daemon.0.id());
        [self.left.process(), self.right.process()].into_iter().chain(between).collect()
    }
}

/// A program that ends with its value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was measured over one kind of network.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    trips: Vec<f64>,
    /// Seconds of processor time for a gigabyte, of both guests and what is between them.
    costs: Vec<f64>,
}

/// How fast guests speak to each other.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let mut site = Site::mesh_with(&["oslo", "bergen"], "memory_mib = 1024\n");
    let folder = site.folder().to_owned();
    let near = project(&site, "near", ["left", "right"], "oslo");
    let far = project(&site, "far", ["west", "east"], "bergen");
    site.host("oslo").ctl(&["build", "-f", &near]).done();
    let disks = |site: &mut Site, kind: &str| {
        let copy = |vm| BareDisk::copy(&site.host("oslo").vm_folder(vm), folder.join(format!("{kind}-{vm}")));
        ["left", "right"].map(copy)
    };
    let (for_switch, for_bridge) = (disks(&mut site, "switch"), disks(&mut site, "bridge"));
    site.host("oslo").ctl(&["build", "-f", &far]).done();
    start(site.host("oslo"), "near");
    start(site.host("oslo"), "far");

    let [left, right, west] = ["left", "right", "west"].map(|vm| site.host("oslo").kernel(vm));
    let east = site.host("bergen").kernel("east");
    let [oslo, bergen] = ["oslo", "bergen"].map(|name| site.host(name).agent_process());
    let words = [left.1, right.1];
    let mut switched = over_uml_switch(&folder, &for_switch, &words);
    let mut bridged = over_a_bridge(&folder, &for_bridge, &words);
    let by_ours = [left.0, right.0, oslo];
    let by_trunk = [west.0, east.0, oslo, bergen];
    let (by_theirs, by_bridge) = (switched.processes(), bridged.processes());

    let host = site.host("oslo");
    let [mut ours, mut trunk, mut theirs, mut bridge] = [(); 4].map(|()| Measured::default());
    for _ in 0..scale.rounds {
        ours.measure(scale, &by_ours, |argv| exec(host, "near/left", argv));
        theirs.measure(scale, &by_theirs, |argv| switched.left.exec(argv));
        trunk.measure(scale, &by_trunk, |argv| exec(host, "far/west", argv));
        bridge.measure(scale, &by_bridge, |argv| bridged.left.exec(argv));
    }
    figures(&ours, &trunk, &theirs, &bridge)
}

/// Writes a project of two VMs, and returns its path.
fn project(site: &Site, name: &str, vms: [&str; 2], place: &str) -> String {
    let text = PROJECT.replace("NAME", name).replace("PORT", &PORT.to_string()).replace("PLACE", place);
    let text = text.replace("ONE", vms[0]).replace("TWO", vms[1]);
    site.project(name, &text.replace("TRAFFIC", &crate::program("mln-traffic").display().to_string()))
}

fn figures(ours: &Measured, trunk: &Measured, theirs: &Measured, bridge: &Measured) -> Vec<Figure> {
    let sample = |values: &[f64]| Sample::of(values.iter().copied()).expect("there is a round");
    let rate = |what: &str, of: &Measured, goal, name: &str, against: &Measured| {
        Figure::alone("switch", what, Unit::MegabitsPerSecond, sample(&of.rates), goal)
            .against(name, sample(&against.rates))
    };
    let trip = |what: &str, of: &Measured, goal, name: &str, against: &Measured| {
        Figure::alone("switch", what, Unit::Seconds, sample(&of.trips), goal)
            .against(name, sample(&against.trips))
    };
    let cost = |what: &str, of: &Measured, name: &str, against: &Measured| {
        Figure::alone("switch", what, Unit::Seconds, sample(&of.costs), Goal::Known)
            .against(name, sample(&against.costs))
    };
    let (one, two) = ("one host", "two hosts, a trunk");
    vec![
        rate(&format!("TCP, {one}"), ours, Goal::TimesMore(2.0), "uml_switch", theirs),
        rate(&format!("TCP, {one}, wished"), ours, Goal::TimesMore(3.0), "uml_switch", theirs),
        trip(&format!("round trip, {one}"), ours, Goal::TimesLess(1.0), "uml_switch", theirs),
        cost(&format!("processor for 1 GB, {one}"), ours, "uml_switch", theirs),
        rate(&format!("TCP, {two}"), trunk, Goal::TimesMore(0.5), "one host", ours),
        trip(&format!("round trip, {two}"), trunk, Goal::Known, "one host", ours),
        rate(&format!("TCP, {one}"), ours, Goal::Known, "bridge and taps", bridge),
        trip(&format!("round trip, {one}"), ours, Goal::Known, "bridge and taps", bridge),
    ]
}

impl Measured {
    /// Sends for a while and pings for a while, by something that runs a command in the left guest; `movers` are
    /// the processes that move the frames.
    fn measure(&mut self, scale: Scale, movers: &[u32], mut exec: impl FnMut(&[&str]) -> String) {
        let to = format!("10.9.0.2:{PORT}");
        let tool = "/usr/local/bin/mln-traffic";
        let used = || movers.iter().filter_map(|pid| processor_seconds(*pid)).sum::<f64>();
        let before = used();
        let flood = exec(&[tool, "flood", &to, &scale.flood_seconds.to_string()]);
        let (bytes, seconds) =
            counted(&flood).unwrap_or_else(|| panic!("no answer of a receiver: {flood:?}"));
        self.costs.push((used() - before) * 1e9 / bytes);
        self.rates.push(bytes * 8.0 / 1e6 / seconds);
        let ping = exec(&[tool, "ping", &to, &scale.pings.to_string()]);
        let trip: f64 = ping.trim().parse().unwrap_or_else(|_| panic!("no answer of a ping: {ping:?}"));
        self.trips.push(trip / 1e9);
    }
}

/// Reads `BYTES NANOSECONDS`; the time in seconds.
fn counted(text: &str) -> Option<(f64, f64)> {
    let (bytes, nanoseconds) = text.trim().split_once(' ')?;
    let (bytes, nanoseconds): (f64, f64) = (bytes.parse().ok()?, nanoseconds.parse().ok()?);
    (bytes > 0.0 && nanoseconds > 0.0).then_some((bytes, nanoseconds / 1e9))
}

fn exec(host: &Host, vm: &str, argv: &[&str]) -> String {
    host.ctl(&[&["exec", vm, "--"], argv].concat()).done()
}

fn over_uml_switch(folder: &Path, disks: &[BareDisk; 2], words: &[Vec<String>; 2]) -> BarePair {
    let socket = folder.join("switch.ctl");
    let mut command = Command::new("uml_switch");
    // Its data socket is beside the other; it ends when its standard input does.
    command.args(["-unix"]).arg(&socket).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let daemon = Daemon(
        command.spawn().unwrap_or_else(|error| panic!("uml_switch: {error}; try: scripts/deps.sh bench")),
    );
    until("uml_switch listens", LIMIT, || if socket.exists() { Ok(()) } else { Err(String::new()) });
    let device = |mac: &str, _: usize| format!("eth0=daemon,{mac},unix,{}", socket.display());
    pair(disks, words, None, Some(daemon), device)
}

fn over_a_bridge(folder: &Path, disks: &[BareDisk; 2], words: &[Vec<String>; 2]) -> BarePair {
    // The site removes namespaces that are called after it.
    let site = folder.file_name().and_then(|name| name.to_str()).expect("a site's folder has a plain name");
    let space = format!("{site}-taps");
    ip(&["netns", "add", &space]);
    ip(&["-n", &space, "link", "add", "lan", "type", "bridge"]);
    ip(&["-n", &space, "link", "set", "lan", "up"]);
    for tap in ["tap0", "tap1"] {
        ip(&["-n", &space, "tuntap", "add", "dev", tap, "mode", "tap"]);
        ip(&["-n", &space, "link", "set", tap, "master", "lan", "up"]);
    }
    let device =
        |mac: &str, index: usize| format!("vec0:transport=tap,ifname=tap{index},mac={mac},depth=128,gro=1");
    pair(disks, words, Some(&space), None, device)
}

/// Starts two guests whose interface is another one than ours have.
fn pair(
    disks: &[BareDisk; 2],
    words: &[Vec<String>; 2],
    namespace: Option<&str>,
    between: Option<Daemon>,
    device: impl Fn(&str, usize) -> String,
) -> BarePair {
    let mut guests = [0, 1].map(|index| {
        let words = with_device(&words[index], |mac| device(mac, index));
        disks[index].boot(&words, namespace).0
    });
    for guest in &mut guests {
        guest.wait_for_report();
    }
    let [left, right] = guests;
    BarePair { left, right, between }
}

/// Puts another device in the place of the interface, with the same hardware address.
fn with_device(words: &[String], device: impl Fn(&str) -> String) -> Vec<String> {
    let change = |word: &String| {
        let Some(options) = word.strip_prefix("vec0:") else { return word.clone() };
        let mac = options.split(',').find_map(|option| option.strip_prefix("mac="));
        device(mac.expect("our interfaces have an address"))
    };
    words.iter().map(change).collect()
}

fn ip(words: &[&str]) {
    let mut command = Command::new("ip");
    command.args(words).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    let output = command.output().expect("the package iproute2 is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_counts_bytes_and_nanoseconds() {
        assert_eq!(counted("125000000 2000000000\n"), Some((125e6, 2.0)));
        assert_eq!(counted("125000000 0\n"), None);
        assert_eq!(counted("connection refused"), None);
    }

    #[test]
    fn only_the_interface_is_another() {
        let words =
            ["linux.uml", "mem=64M", "vec0:transport=bess,dst=port-0.sock,mac=02:00:00:00:00:01,gro=1"];
        let changed = with_device(&words.map(str::to_owned), |mac| format!("eth0=daemon,{mac},unix,/s"));
        assert_eq!(changed, ["linux.uml", "mem=64M", "eth0=daemon,02:00:00:00:00:01,unix,/s"]);
    }
}
