//! What people type, and what they read.

use std::io::Write;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use mln_protocol::node::Mutation;

use crate::fault::Fault;
use crate::minimise::minimise;
use crate::options::Options;
use crate::replay::{Cuts, Kind, command_line};
use crate::scene::Scene;
use crate::world::{Ending, World};
use crate::{availability, even, mutate, scale, swarm};

#[derive(Parser)]
#[command(version, about = "The mesh's state machine, by the hundred, over a simulated network with faults")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run worlds: build, start, stop and remove projects under faults, then see whether all comes right
    Run(RunArguments),
    /// Switch off each rule of the core in turn: every one must be noticed
    Mutate(MutateArguments),
    /// Go through every world of a small scope: what can be decided, and who can own a VM, in any order of events
    Explore(crate::explore::ExploreArguments),
    /// Measure a large quiet mesh over wide-area links
    Scale(ScaleArguments),
    /// Measure how much still works when hosts are off
    Availability(AvailabilityArguments),
    /// Follow messages through the model of gossip alone, over links that are all alike
    Gossip(GossipArguments),
    /// See what the built-in policies make of the published loads
    Policy(PolicyArguments),
}

#[derive(Args)]
struct AvailabilityArguments {
    /// How many worlds for each share of hosts that are up
    #[arg(long, default_value_t = 10)]
    worlds: u64,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draws what was measured into this folder, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Args)]
struct PolicyArguments {
    /// How many runs, each with a seed of its own, from 1 on
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Draws the first run into this folder, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Args)]
struct GossipArguments {
    /// How many hosts
    #[arg(long, default_value_t = 30)]
    nodes: usize,
    /// How many others each of them dials
    #[arg(long, default_value_t = 4)]
    dialled: usize,
    /// How long a link takes, in milliseconds
    #[arg(long, default_value_t = 200)]
    delay_ms: u64,
    /// How many messages
    #[arg(long, default_value_t = 100)]
    messages: usize,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct ScaleArguments {
    /// How many hosts; several numbers are measured one after the other: 100,1000,10000
    #[arg(long, default_value = "100", value_delimiter = ',')]
    nodes: Vec<usize>,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draws what was measured into this folder, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Args)]
struct RunArguments {
    /// How many hosts
    #[arg(long, default_value_t = 50, conflicts_with = "swarm")]
    nodes: usize,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Many worlds, from one seed to another: 1..2000
    #[arg(long, value_parser = seed_range, conflicts_with = "seed")]
    seeds: Option<SeedRange>,
    /// How many projects; by default one for ten hosts, but at least ten
    #[arg(long, conflicts_with = "swarm")]
    projects: Option<usize>,
    /// Small worlds, each with some kinds of faults often and others not at all
    #[arg(long)]
    swarm: bool,
    /// A small world in which people and faults do what is written down, made for one rule
    #[arg(long, value_parser = Scene::parse, conflicts_with_all = ["swarm", "nodes", "projects"])]
    scene: Option<Scene>,
    /// Say all that happens, line by line
    #[arg(long, conflicts_with = "seeds")]
    tell: bool,
    #[command(flatten)]
    cuts: Cuts,
}

#[derive(Clone, Copy, Debug)]
struct SeedRange(u64, u64);

#[derive(Args)]
struct MutateArguments {
    /// How many seeds to try for each rule
    #[arg(long, default_value_t = 250)]
    seeds: u64,
    /// In how many worlds a rule must have been missed for no more to be tried
    #[arg(long, default_value = "3")]
    kills: NonZero<usize>,
    /// Only these rules
    #[arg(long, value_delimiter = ',', value_parser = crate::replay::mutation)]
    only: Vec<Mutation>,
}

/// Does what the command line says; the exit code says whether all rules held.
pub(crate) fn run() -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let held = match Arguments::parse().command {
        Command::Run(arguments) => match arguments.seeds {
            Some(seeds) => run_many(&mut out, &arguments, seeds)?,
            None => run_one(&mut out, &arguments)?,
        },
        Command::Mutate(arguments) => {
            mutate::run(&mut out, &arguments.only, arguments.seeds, arguments.kills.get(), mutants_world)?
        }
        Command::Availability(arguments) => {
            availability::run(&mut out, arguments.worlds, arguments.seed, arguments.plot.as_deref())?
        }
        Command::Gossip(arguments) => {
            let size = (arguments.nodes.max(2), arguments.dialled.max(1));
            even::run(&mut out, size, arguments.delay_ms.max(1), arguments.messages.max(1), arguments.seed)?
        }
        Command::Scale(arguments) => {
            let sizes: Vec<usize> = arguments.nodes.iter().map(|nodes| *nodes.max(&10)).collect();
            scale::run(&mut out, &sizes, arguments.seed, arguments.plot.as_deref())?
        }
        Command::Policy(arguments) => {
            crate::policy::run(&mut out, arguments.seeds.max(1), arguments.plot.as_deref())?
        }
        Command::Explore(arguments) => crate::explore::run(&mut out, &arguments)?,
    };
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Of the worlds in which mutants live, some have everyday's faults and crowded hosts, some have what the swarm draws,
/// and the others play each scene in turn; the one that draws on whose grants it stands has some turns more.
fn mutants_world(seed: u64) -> Options {
    let turn = seed as usize % (Scene::ALL.len() + DRAWN_WORLDS + GRANTED_WORLDS);
    match Scene::ALL.get(turn) {
        Some((_, scene)) => Options::scene(seed, *scene),
        None if turn >= Scene::ALL.len() + DRAWN_WORLDS => Options::scene(seed, Scene::Granted),
        None if turn.is_multiple_of(2) => Options::swarm(seed),
        None => Options::everyday(seed, 12, 12),
    }
}

/// How many worlds are drawn by lot for each turn of the scenes.
const DRAWN_WORLDS: usize = 5;

/// How many more play the scene of guests whose projects stand on grants.
const GRANTED_WORLDS: usize = 3;

fn seed_range(text: &str) -> Result<SeedRange, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match parsed {
        Some((from, to)) if from <= to => Ok(SeedRange(from, to)),
        Some(_) | None => Err("two numbers with two dots between, the smaller one first: 1..2000".to_owned()),
    }
}

impl RunArguments {
    fn kind(&self) -> Kind {
        match self.scene {
            Some(scene) => Kind::Scene(scene),
            None if self.swarm => Kind::Swarm,
            None => Kind::Everyday,
        }
    }

    fn draw(&self, seed: u64) -> Options {
        match self.kind() {
            Kind::Scene(scene) => Options::scene(seed, scene),
            Kind::Swarm => Options::swarm(seed),
            Kind::Everyday => {
                let projects = self.projects.unwrap_or_else(|| (self.nodes / 10).max(10));
                Options::everyday(seed, self.nodes.max(2), projects)
            }
        }
    }
}

fn run_many(out: &mut impl Write, arguments: &RunArguments, seeds: SeedRange) -> std::io::Result<bool> {
    let began = Instant::now();
    let held =
        swarm::run(out, arguments.kind(), seeds.0..=seeds.1, &arguments.cuts, |seed| arguments.draw(seed))?;
    // On standard error, so that the last line is what came of it.
    eprintln_took(began);
    Ok(held)
}

#[expect(
    clippy::print_stderr,
    reason = "it is a program of its own, and the time is not part of what it found"
)]
fn eprintln_took(began: Instant) {
    eprintln!("took {:.1} s", began.elapsed().as_secs_f64());
}

fn run_one(out: &mut impl Write, arguments: &RunArguments) -> std::io::Result<bool> {
    let mut options = arguments.draw(arguments.seed);
    arguments.cuts.apply(&mut options);
    options.tells = arguments.tell;
    writeln!(out, "seed {}, {} nodes, {} projects", options.seed, options.nodes, options.projects)?;
    let began = Instant::now();
    let ending = World::new(options.clone()).run();
    for line in &ending.told {
        writeln!(out, "{line}")?;
    }
    report(out, &ending)?;
    writeln!(out, "took {:.1} s", began.elapsed().as_secs_f64())?;
    for violation in &ending.violations {
        writeln!(out, "violation: {violation}")?;
    }
    if ending.violations.is_empty() {
        writeln!(out, "converged after {:.1} simulated s", ending.simulated_ms as f64 / 1000.0)?;
        return Ok(true);
    }
    if !arguments.tell && arguments.cuts.is_whole() && options.nodes <= crate::options::CODED_NODES_MAX {
        let (options, ending) = minimise(options, ending);
        writeln!(out, "made smaller: {}", ending.violations[0])?;
        writeln!(out, "    again with: {}", command_line(arguments.kind(), &options))?;
    }
    Ok(false)
}

fn report(out: &mut impl Write, ending: &Ending) -> std::io::Result<()> {
    let tally = &ending.tally;
    writeln!(
        out,
        "projects: {} built, {} started, {} stopped, {} removed, {} changed, {} refusals",
        tally.built, tally.started, tally.stopped, tally.removed, tally.changed, tally.refused
    )?;
    let faults: Vec<String> =
        Fault::ALL.iter().map(|(name, fault)| format!("{} {name}", tally.faults.of(*fault))).collect();
    writeln!(out, "faults: {}", faults.join(", "))?;
    writeln!(
        out,
        "{} events, {} packets delivered, {} records on each node, {} hand-overs",
        tally.events, tally.delivered, ending.records, tally.hand_overs.claimed
    )?;
    writeln!(out, "{}", tally.guests.line())?;
    writeln!(out, "{}", tally.rivals.lines())?;
    writeln!(out, "trace {}", ending.trace.to_hex())
}
