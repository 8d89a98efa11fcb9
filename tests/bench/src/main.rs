//! What MLN costs, each figure against the alternative, measured in the same run by turns.
//!
//! It runs the release programs that lie beside it: real agents with signatures and fsync, real guests. Only
//! ratios mean anything on a machine that does other things as well; absolute numbers hold for the machine that
//! is named above the table.

mod bare;
mod boot;
mod build;
mod density;
mod figure;
mod idle;
mod language;
mod link;
mod moving;
mod policies;
mod process;
mod report;
mod simulation;
mod spread;
mod statistics;
mod switch;
mod twice;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use figure::Figure;

/// How long anything may take that has no time of its own.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures what MLN costs, beside what the alternatives cost.
///
/// Run as root (loop mounts, taps, network namespaces), on a machine that does nothing else. A missed goal is no
/// error; a benchmark that can't be run is.
#[derive(Debug, Parser)]
#[command(after_help = "Example: mln-bench --quick build switch")]
struct Arguments {
    /// What to measure; all where none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Fewer rounds, in less than four minutes
    #[arg(long)]
    quick: bool,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Only say what there is to measure
    #[arg(long)]
    list: bool,
    /// Where the template is kept from one run to the next
    #[arg(long, env = "MLN_TEST_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Rounds of what takes a second.
    rounds: usize,
    /// Rounds of boots.
    boots: usize,
    /// VMs that are copied and mounted in a round.
    copies: usize,
    /// How long a flood takes.
    flood_seconds: u64,
    /// Round trips of which the median is taken.
    pings: u32,
    /// How long idle programs are watched.
    idle: Duration,
    /// How long programs may take until they are idle.
    settle: Duration,
    /// How long guests are watched that decide every five seconds.
    decide: Duration,
    /// How many of 100 blocks change before a VM moves.
    changed: &'static [u64],
    /// To how many hosts a template is spread.
    spread: &'static [usize],
}

const FULL: Scale = Scale {
    rounds: 7,
    boots: 11,
    copies: 10,
    flood_seconds: 4,
    pings: 2000,
    idle: Duration::from_secs(60),
    settle: Duration::from_secs(15),
    decide: Duration::from_secs(40),
    changed: &[1, 10, 50],
    spread: &[8, 16],
};

const QUICK: Scale = Scale {
    rounds: 3,
    boots: 5,
    copies: 4,
    flood_seconds: 2,
    pings: 500,
    idle: Duration::from_secs(20),
    settle: Duration::from_secs(5),
    decide: Duration::from_secs(20),
    changed: &[1],
    spread: &[8],
};

/// What is measured: its name, its description, and what does it.
type Bench = (&'static str, &'static str, fn(Scale) -> Vec<Figure>);

/// What there is to measure.
const BENCHES: [Bench; 11] = [
    ("build", "50 VMs as one project, against copying and mounting an image for each", build::bench),
    ("boot", "start to first exec, against a bare linux.uml", boot::bench),
    ("density", "50 guests of 64 MB: time, memory, processor, disk", density::bench),
    ("idle", "agents that have nothing to do", idle::bench),
    ("twice", "two servers more, decided by a machine, against two bare linux.uml at once", twice::bench),
    ("policies", "50 guests that each decide something every five seconds", policies::bench),
    ("switch", "TCP between guests, against uml_switch and a bridge", switch::bench),
    ("moving", "a VM that moves, against copying its disk in three ways", moving::bench),
    ("spread", "a template to many hosts, against one source and BitTorrent", spread::bench),
    ("language", "understanding and comparing projects, each figure against its limit", language::bench),
    ("simulation", "500 simulated hosts", simulation::bench),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        let lines = BENCHES.map(|(name, what, _)| format!("{name:12}{what}\n"));
        return say(&lines.concat());
    }
    if let Some(unknown) =
        arguments.names.iter().find(|name| !BENCHES.iter().any(|(known, ..)| known == name))
    {
        complain(&format!("there is nothing called {unknown:?}; try: mln-bench --list"));
        return ExitCode::from(64);
    }
    let cache = arguments.cache.unwrap_or_else(|| folder().join("bench-cache"));
    mln_e2e::run_programs_of(folder(), cache);
    let machine = process::machine();
    let scale = if arguments.quick { QUICK } else { FULL };
    let wanted =
        |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|wanted| wanted == name);
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for (name, _, bench) in BENCHES.iter().filter(|(name, ..)| wanted(name)) {
        let began = Instant::now();
        complain(&format!("{name} …"));
        // What one can't measure keeps nobody from the others; its panic has been printed.
        match std::panic::catch_unwind(|| bench(scale)) {
            Ok(found) => figures.extend(found),
            Err(_) => failed.push(*name),
        }
        complain(&format!("{name}: {:.0} s", seconds_since(began)));
    }
    let code = say(&if arguments.json {
        format!("{:#}\n", report::document(&machine, &figures))
    } else {
        report::table(&machine, &figures)
    });
    if failed.is_empty() {
        return code;
    }
    complain(&format!("not measured: {}", failed.join(", ")));
    ExitCode::FAILURE
}

/// Returns the folder of this program.
fn folder() -> PathBuf {
    let this = std::env::current_exe().expect("a program knows its own path");
    this.parent().expect("a program is in a folder").to_owned()
}

/// Returns the path of a program that lies beside this one.
fn program(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(path.is_file(), "{} is not there: `make bench` builds it", path.display());
    path
}

/// Starts a project, and waits until all of its VMs are up.
fn start(host: &mln_e2e::Host, project: &str) {
    host.ctl(&["start", "-p", project]).done();
    let waited = host.ctl(&["status", "-p", project, "--wait", "up", "--timeout", "110"]);
    // Which of them is not, is what one wants to know then.
    assert!(waited.code == Some(0), "{waited}\n{}", host.ctl(&["status", "-p", project]).out);
}

fn seconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

/// Lets time pass, because the time itself is what is measured.
fn wait(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) {
    // Where nobody reads it, nobody misses it.
    let _ = writeln!(std::io::stderr(), "{text}");
}
