//! The hosts' links: so many megabits in each direction, what went over them, and programs that use them as ours do.

use std::process::{Child, Command, Stdio};

use mln_e2e::{Host, Site};
use serde_json::Value;

/// What a link carries in each direction, in megabits per second.
pub(crate) const MEGABITS: u32 = 50;

/// How much may leave at once, in bytes: several of the kernel's largest segments.
const BURST_BYTES: u32 = 128 << 10;

/// How long a packet may wait for its turn, in milliseconds.
const WAIT_MS: u32 = 100;

/// Limits what each host sends and is sent. The hosts are those of the site, in the order in which they were added.
pub(crate) fn limit(site: &mut Site, hosts: &[String]) {
    let name = site.folder().file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let name = name.expect("a site's folder has a plain name");
    for (number, host) in hosts.iter().enumerate() {
        assert!(
            site.host(host).has_own_network(),
            "links can be limited only where root may make network namespaces"
        );
        limit_device(&format!("{name}-{host}"), "eth0");
        limit_device(&format!("{name}-hub"), &format!("port{}", number + 1));
    }
}

fn limit_device(namespace: &str, device: &str) {
    let mut command = Command::new("tc");
    command.args(["-n", namespace, "qdisc", "replace", "dev", device, "root", "tbf"]);
    command.args(["rate", &format!("{MEGABITS}mbit")]);
    command.args(["burst", &BURST_BYTES.to_string()]);
    command.args(["latency", &format!("{WAIT_MS}ms")]);
    run(&mut command);
}

/// Returns how many bytes a host has sent and been sent, frames' heads included.
pub(crate) fn bytes(host: &Host) -> u64 {
    counted(host, "tx") + counted(host, "rx")
}

/// Returns how many bytes a host has sent, frames' heads included.
pub(crate) fn sent(host: &Host) -> u64 {
    counted(host, "tx")
}

fn counted(host: &Host, way: &str) -> u64 {
    let rows = host.ip(&["-s", "-j", "link", "show", "dev", "eth0"]).json();
    rows[0]["stats64"][way]["bytes"].as_u64().expect("a link has counters")
}

/// Runs a program in a host's network to its end; panics where it fails.
pub(crate) fn run_in(host: &Host, program: &str, words: &[&str]) {
    host.inside(|| run(Command::new(program).args(words)));
}

/// Starts a program in a host's network, which ends with what is returned.
pub(crate) fn start_in(host: &Host, command: &mut Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let asked = format!("{command:?}");
    let child = host.inside(|| command.spawn());
    Running(child.unwrap_or_else(|error| panic!("{asked}: {error}; try: scripts/deps.sh bench")))
}

/// A program that ends with its value.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Returns its process.
    pub(crate) fn process(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end; panics where it fails.
pub(crate) fn run(command: &mut Command) -> String {
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").stdin(Stdio::null());
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; try: scripts/deps.sh bench"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the milliseconds since 1970 of the first event that fits, as a host tells it.
pub(crate) fn event_ms(host: &Host, fits: impl Fn(&Value) -> bool) -> Option<u64> {
    let lines = host.ctl(&["events", "-n", "1000", "--json"]).done();
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = events.filter(|event| fits(event)).last()?;
    let moment = humantime::parse_rfc3339(found["time"].as_str()?).ok()?;
    u64::try_from(moment.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
}
