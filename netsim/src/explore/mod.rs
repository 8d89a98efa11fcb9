//! `netsim explore`: every world of a small scope, over the very same nodes that agents run.
//!
//! ```text
//!   a host: node + disk + jobs ──(act)──► effect: the host after it, messages; computed once, known by number
//!   a world: three hosts, all that was ever sent, what may still go wrong
//!   an act:  a message arrives · a timer fires · a job ends, or fails · the agent ends, or before one of its writes
//!            is durable · a minute passes · an operator asks
//! ```
//!
//! Messages stay: that one arrives late, twice or never needs no act of its own. Clocks stand still but for that minute, and
//! timers fire at any time: so every relation between the speeds of hosts is among the worlds. What hosts say of themselves,
//! and their comparing of records, is left out: nothing is decided by it.

mod local;
mod machine;
mod scopes;
mod search;

use std::io::Write;

use clap::{Args, ValueEnum};
use mln_protocol::node::Mutation;

use machine::Machine;
use search::{Budget, Found, Search};

/// What people ask to have explored.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExploreArguments {
    /// Which scope; without it all of them
    #[arg(long)]
    scope: Option<ScopeName>,
    /// How often agents may end in one world, also with writes that are not durable
    #[arg(long)]
    crashes: Option<u8>,
    /// How often a host may be a minute late
    #[arg(long)]
    lates: Option<u8>,
    /// How often the platform may fail
    #[arg(long)]
    failures: Option<u8>,
    /// The highest number of a ballot
    #[arg(long)]
    ballots: Option<u64>,
    /// How many things happen at most
    #[arg(long)]
    depth: Option<usize>,
    /// With how many worlds it ends
    #[arg(long, default_value_t = 20_000_000)]
    states: usize,
    /// A rule of the core to switch off; `netsim mutate` lists them
    #[arg(long, value_parser = crate::replay::mutation)]
    mutation: Option<Mutation>,
}

/// The scopes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeName {
    /// Two coordinators put different children of one revision forward
    Decision,
    /// A VM moves from one host to another
    HandOver,
    /// The same from when the copy is complete: release and claim
    Claim,
    /// The same, and its place changes back meanwhile
    Decline,
    /// The same, and it is taken over meanwhile
    Takeover,
}

/// Explores; true where no rule was broken and nothing was left out.
pub(crate) fn run(out: &mut impl Write, arguments: &ExploreArguments) -> std::io::Result<bool> {
    let scopes = match arguments.scope {
        Some(one) => vec![one],
        None => ScopeName::value_variants().to_vec(),
    };
    let mut held = true;
    for name in scopes {
        let mut budget = name.budget();
        budget.crashes = arguments.crashes.unwrap_or(budget.crashes);
        budget.lates = arguments.lates.unwrap_or(budget.lates);
        budget.failures = arguments.failures.unwrap_or(budget.failures);
        let ballots = arguments.ballots.unwrap_or(2);
        let (scope, oracle, mut first) =
            scopes::prepare(name, arguments.mutation, ballots).map_err(std::io::Error::other)?;
        first.left = budget;
        let mut machine = Machine::new(scope, oracle);
        let first = first.numbered(&mut machine);
        let found =
            Search::new(&mut machine).run(first, arguments.depth.unwrap_or(name.depth()), arguments.states);
        held &= report(out, name, budget, ballots, &machine, &found)?;
    }
    Ok(held)
}

impl ScopeName {
    /// How many steps there are at most, where nothing else is said: so that it takes minutes.
    fn depth(self) -> usize {
        match self {
            Self::Decision | Self::HandOver | Self::Decline => 11,
            Self::Claim | Self::Takeover => 13,
        }
    }

    /// What goes wrong at most, where nothing else is said: so that it takes minutes.
    fn budget(self) -> Budget {
        match self {
            Self::Decision => Budget { crashes: 1, lates: 0, failures: 0 },
            Self::HandOver | Self::Claim | Self::Decline | Self::Takeover => {
                Budget { crashes: 1, lates: 0, failures: 1 }
            }
        }
    }
}

fn report(
    out: &mut impl Write,
    name: ScopeName,
    budget: Budget,
    ballots: u64,
    machine: &Machine,
    found: &Found,
) -> std::io::Result<bool> {
    let (locals, messages, effects) = machine.sizes();
    let Budget { crashes, lates, failures } = budget;
    writeln!(
        out,
        "{name:?}: 3 hosts, at most {crashes} crashes, {lates} lates, {failures} failures of the platform, ballots up to {ballots}"
    )?;
    writeln!(
        out,
        "  {} worlds{}, {} transitions, depth {}, {:.1} s, {} MB",
        found.states,
        match (found.ended, found.complete) {
            (true, _) => ", all there are",
            (false, true) => ", all within so many steps",
            (false, false) => ", not all",
        },
        found.transitions,
        found.depth,
        found.seconds,
        resident_mb()
    )?;
    writeln!(
        out,
        "  {locals} states of hosts, {messages} messages, {effects} effects; {} transitions go beyond the bounds",
        found.beyond
    )?;
    writeln!(
        out,
        "  all comes right from {} of {} sets of hosts, with every message lost that was on its way",
        found.come_right, found.sets
    )?;
    if let Some((rule, trace)) = &found.violation {
        writeln!(out, "violation: {rule}")?;
        for (number, step) in trace.iter().enumerate() {
            writeln!(out, "  {:3}. {step}", number + 1)?;
        }
    }
    Ok(found.violation.is_none() && found.complete)
}

/// How much memory this process has, in MB; 0 where that can't be known.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
