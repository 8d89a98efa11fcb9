//! What it costs to understand and to compare projects, against named limits.
//!
//! `cargo bench -p mln-protocol` prints a table and fails if a limit is missed; with `-- --json` a line of JSON for each
//! figure. `mlnctl validate` is measured where the environment variable `MLNCTL` names the program.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the core reads no clock and prints nothing, but who measures it does"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use mln_protocol::id::{Digest, Label, Name, PublicKey};
use mln_protocol::lang::{self, NoIncludes};
use mln_protocol::model::{Definition, HostAddress, Project};
use mln_protocol::plan::{self, PlacedHost, fragments};
use mln_protocol::resolve::{self, Options};
use mln_protocol::trust::{
    Asked, Constitution, Destination, Ground, Step, Surroundings, Wanted, child_of, judge_envelope,
};
use mln_protocol::wire;

/// One figure and what it may be at most.
struct Figure {
    name: &'static str,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    limit: f64,
    samples: Vec<f64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, hosts] = arguments.as_slice()
        && word == "peak"
    {
        return print_peak(hosts);
    }
    let figures = figures();
    let is_json = arguments.iter().any(|argument| argument == "--json");
    for figure in &figures {
        println!("{}", if is_json { figure.json() } else { figure.row() });
    }
    if figures.iter().all(Figure::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Figure {
    fn of(name: &'static str, unit: &'static str, limit: f64, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
        let (median, min, max) = (at(samples.len() / 2), at(0), at(samples.len().saturating_sub(1)));
        Self { name, unit, median, min, max, limit, samples }
    }

    fn holds(&self) -> bool {
        self.median < self.limit
    }

    fn verdict(&self) -> &'static str {
        if self.holds() { "PASS" } else { "MISS" }
    }

    fn row(&self) -> String {
        let Self { name, unit, median, min, max, limit, samples: _ } = self;
        let verdict = self.verdict();
        format!("{name:<46} {median:>9.2} {unit:<4} ({min:.2} to {max:.2})  < {limit} {unit}  {verdict}")
    }

    fn json(&self) -> String {
        let Self { name, unit, median, min, max, limit, samples } = self;
        serde_json::json!({
            "name": name, "unit": unit, "median": median, "min": min, "max": max, "limit": limit,
            "verdict": self.verdict(), "samples": samples,
        })
        .to_string()
    }
}

/// How much more a host may cost in a larger project: sorted maps and colder caches cost something, and were anything
/// quadratic it would be 100 times.
const GROWTH_MAX: f64 = 3.0;

fn figures() -> Vec<Figure> {
    let farm = farm(254);
    let (small, middle, large) = (written_out(1_000, 96), written_out(10_000, 96), written_out(100_000, 96));
    let mut figures = vec![
        Figure::of("farm of 254 hosts, parsed and resolved", "ms", 2.0, samples(101, || understood(&farm))),
        Figure::of("10,000 hosts, parsed and resolved", "ms", 80.0, samples(15, || understood(&middle))),
        Figure::of("10,000 hosts, most memory of the process", "MB", 100.0, vec![peak_mb(10_000)]),
    ];
    // Interleaved, so that what else the machine does falls on all of them alike.
    let mut growth = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let per_host = |text: &str, hosts: f64| samples(1, || understood(text))[0] / hosts;
        let least = per_host(&small, 1_000.0).min(per_host(&small, 1_000.0));
        growth.0.push(per_host(&middle, 10_000.0) / least);
        growth.1.push(per_host(&large, 100_000.0) / least);
    }
    figures.push(Figure::of("a host of 10,000 against one of 1,000", "×", GROWTH_MAX, growth.0));
    figures.push(Figure::of("a host of 100,000 against one of 1,000", "×", GROWTH_MAX, growth.1));
    let (before, after) = (understood(&middle), understood(&written_out(10_000, 64)));
    let nobody = BTreeSet::new();
    figures.push(Figure::of(
        "difference of two projects of 10,000 hosts",
        "ms",
        50.0,
        samples(15, || plan::rows(&plan::plan(&before, &after, &nobody))),
    ));
    // What a host does at most for one request of a guest that it is asked about, beside the parts.
    let parent = Definition {
        source: Some(of_itself(2_000)),
        variables: Vec::new(),
        files: Vec::new(),
        templates: Vec::new(),
    };
    let owner = Name::parse("root").expect("letters are a name");
    let name = |text: &str| Name::parse(text).expect("letters are a name");
    let (label, wanted) =
        (Label { owner, project: name("farm") }, Wanted::Scale { class: name("nodes"), to: 2_040 });
    figures.push(Figure::of(
        "a guest's request, in a project of 2,000 hosts",
        "ms",
        100.0,
        samples(15, || child_of(&parent, &label, &name("web"), &wanted).expect("it can be made")),
    ));
    figures.extend(judgements());
    match std::env::var_os("MLNCTL") {
        None => eprintln!("mlnctl validate is not measured: MLNCTL does not name the program"),
        Some(program) => {
            let ring = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/ring/ring.mln");
            let run = || {
                let status = Command::new(&program).args(["validate", ring]).stdout(Stdio::null()).status();
                assert!(status.expect("the program runs").success(), "the ring is right");
            };
            figures.push(Figure::of(
                "mlnctl validate of the ring, as a process",
                "ms",
                10.0,
                samples(50, run),
            ));
        }
    }
    figures
}

/// What one request of a guest costs each host that judges it, for the largest projects that may have such guests: the texts,
/// the envelope, the parts and their digests.
fn judgements() -> Vec<Figure> {
    let many = of_itself(2_000);
    let (long, full) = (written_out_for_guests(1_750, ""), written_out_for_guests(1_000, "full"));
    let scale = |to| Wanted::Scale { class: name("nodes"), to };
    let moves = Wanted::Move { to: HostAddress("bergen".to_owned()) };
    let set = Wanted::Text(of_itself(2_040));
    let judged = |text: &str, wanted: &Wanted| {
        let parent = Definition {
            source: Some(text.to_owned()),
            variables: Vec::new(),
            files: Vec::new(),
            templates: Vec::new(),
        };
        let bytes = wire::encode_definition(&parent);
        samples(11, || judge_request(&bytes, wanted))
    };
    vec![
        Figure::of(
            "a guest's request judged, 2,000 of an enumeration",
            "ms",
            200.0,
            judged(&many, &scale(2_040)),
        ),
        Figure::of("a guest's request judged, the same as a text", "ms", 200.0, judged(&many, &set)),
        Figure::of("a guest's request judged, 256 KiB of text", "ms", 200.0, judged(&long, &moves)),
        Figure::of("a guest's request judged, 16 MiB of values", "ms", 300.0, judged(&full, &moves)),
    ]
}

/// Judges what a guest wants as a host does that is asked for it.
fn judge_request(definition: &[u8], wanted: &Wanted) -> usize {
    let definition = wire::decode_definition(definition).expect("it was encoded");
    let label = Label { owner: name("root"), project: name("farm") };
    let vm = name("web");
    let ground = Ground::of(&definition, &label).expect("it is right");
    let child = ground.child(&vm, wanted).expect("it can be made");
    let (from, to) = (ground.project().constitution(), child.constitution());
    let remade =
        |steps: &[Step]| -> Option<Constitution> { Some(ground.remade(&vm, steps, &child)?.constitution()) };
    let hosts = ["oslo", "bergen"].map(|host| (name(host), Destination::default())).into();
    let spent = BTreeMap::new();
    let around = Surroundings { hosts: &hosts, spent: &spent, remade: &remade };
    let asked = Asked { vm: &vm, parent: &from, child: &to, cloud_hours: 0 };
    let uses = judge_envelope(asked, &around).expect("it may");
    assert!(!uses.is_empty());
    let place = |host: &str| PlacedHost { name: name(host), key: PublicKey([host.len() as u8; 32]) };
    let chosen = child.project.vms.iter().map(|vm| (vm.name.clone(), place("oslo"))).collect();
    let find = |address: &HostAddress| Some(place(&address.0));
    let parts = fragments(&child.project, &child.definition.files, |_| place("oslo"), &chosen, find);
    let parts = parts.expect("all hosts are known");
    parts.values().map(|part| Digest::of(&wire::encode_fragment(part)).0.len()).sum()
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("letters are a name")
}

/// A project with many hosts of its own and one that may go elsewhere; full of values, or only long.
fn written_out_for_guests(hosts: usize, values: &str) -> String {
    let mut text = String::from(
        "global { project farm }\nswitch lan { }\nsuperclass node { memory 96M; users { root x }; startup {\n",
    );
    if !values.is_empty() {
        for line in 0..100 {
            writeln!(text, "echo {line} {}", "v".repeat(80)).expect("a String takes all text");
        }
    }
    text.push_str("} }\n");
    for n in 0..hosts {
        writeln!(
            text,
            "host n{n} {{ superclass node; service_host oslo; network eth0 {{ switch lan; address 10.1.{}.{}/16 }}; startup {{ echo {n} }} }}",
            n / 250,
            n % 250 + 1
        )
        .expect("a String takes all text");
    }
    text.push_str("host web { superclass node; service_host oslo; policy walk { may move oslo bergen } }\n");
    text
}

/// Returns how long something takes, in milliseconds, so many times; what it returns is let go outside of that.
fn samples<T>(rounds: usize, mut run: impl FnMut() -> T) -> Vec<f64> {
    let mut once = || {
        let begun = Instant::now();
        let made = black_box(run());
        let taken = begun.elapsed().as_secs_f64() * 1e3;
        drop(made);
        taken
    };
    once();
    (0..rounds).map(|_| once()).collect()
}

fn understood(text: &str) -> Project {
    let (tree, diagnostics) = lang::parse("p.mln", text.to_owned(), &NoIncludes);
    let resolved = resolve::resolve(&tree, &Options::default());
    assert!(diagnostics.is_empty() && resolved.diagnostics.is_empty(), "{:?}", resolved.diagnostics);
    resolved.project
}

fn farm(hosts: usize) -> String {
    format!(
        "global {{ project farm\n autoenum {{ numhosts {hosts}; superclass node; network 10.0.0.0/16; \
         addresses_begin 10; service_hosts {{ oslo 100; bergen all }} }} }}\n\
         switch lan {{ }}\n\
         superclass node {{ memory 96M; template mini; users {{ root x; alice y }}; \
         network eth0 {{ switch lan; gateway 10.0.255.254 }}\n\
         startup {{ echo $[hostname] >/etc/motd }} }}\n"
    )
}

/// A project with a host that may change how many there are.
fn of_itself(hosts: usize) -> String {
    format!(
        "global {{ project farm\n autoenum nodes {{ numhosts {hosts}; superclass node; network 10.0.0.0/16; \
         addresses_begin 10; service_hosts {{ oslo 100; bergen all }} }} }}\n\
         switch lan {{ }}\n\
         superclass node {{ memory 96M; users {{ root x; alice y }}; network eth0 {{ switch lan }} }}\n\
         host web {{ policy grow {{ may scale nodes 1..2040 }} }}\n"
    )
}

fn written_out(hosts: usize, memory: u32) -> String {
    let mut text = format!(
        "global {{ project large; $domain = example }}\nswitch lan {{ }}\n\
         superclass node {{ memory {memory}M; template mini; users {{ root x }} }}\n"
    );
    for n in 0..hosts {
        let (second, third, fourth) = (n / 62_500 + 1, n / 250 % 250, n % 250 + 1);
        write!(
            text,
            "host n{n} {{\n    superclass node\n    service_host h{}\n    network eth0 {{\n        switch lan\n        \
             address 10.{second}.{third}.{fourth}/8\n    }}\n    startup {{ echo $hostname.$[domain] }}\n}}\n",
            n % 50
        )
        .expect("a String takes all text");
    }
    text
}

/// Returns the most memory that a process of its own had, which only understands a project, in megabytes.
fn peak_mb(hosts: usize) -> f64 {
    let this = std::env::current_exe().expect("this program has a path");
    let output =
        Command::new(this).args(["peak", &hosts.to_string()]).output().expect("this program runs again");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse::<f64>().expect("it prints a number of kB") * 1024.0 / 1e6
}

/// Understands a project and prints the most memory that this process had, in kB.
fn print_peak(hosts: &str) -> ExitCode {
    let hosts = hosts.parse().expect("a number of hosts");
    let project = understood(&written_out(hosts, 96));
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about processes");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    println!("{}", peak.expect("Linux tells the most memory"));
    drop(project);
    ExitCode::SUCCESS
}
