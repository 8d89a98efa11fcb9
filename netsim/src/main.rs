//! `netsim`: the mesh's state machine, by the hundred, over a simulated network with faults.

mod check;
mod disk;
mod gossip;
mod lot;
mod workload;
mod world;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use mln_protocol::node::Mutation;

use world::{Ending, Plan, World};

#[derive(Parser)]
#[command(version, about = "The mesh's state machine, by the hundred, over a simulated network with faults")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one world: build, start, stop and remove projects under faults, then see whether all comes right
    Run(RunArguments),
    /// Switch off each rule of the core in turn: every one must be noticed
    Mutate(MutateArguments),
}

#[derive(Args)]
struct RunArguments {
    /// How many hosts
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many projects; by default one for ten hosts, but at least ten
    #[arg(long)]
    projects: Option<usize>,
    /// A rule of the core to switch off; `netsim mutate` lists them
    #[arg(long, value_parser = mutation)]
    mutation: Option<Mutation>,
}

#[derive(Args)]
struct MutateArguments {
    /// How many hosts
    #[arg(long, default_value_t = 12)]
    nodes: usize,
    /// How many seeds to try for each rule
    #[arg(long, default_value_t = 80)]
    seeds: u64,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Mutate(arguments) => mutate(&arguments),
    };
    match done {
        Ok(code) => code,
        // Whoever read our output has gone: there is nobody left to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

fn mutation(text: &str) -> Result<Mutation, String> {
    let known = Mutation::ALL.iter().find(|(name, _)| *name == text);
    let names = || Mutation::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    known.map(|(_, mutation)| *mutation).ok_or_else(|| format!("there are {}", names()))
}

fn run(arguments: &RunArguments) -> std::io::Result<ExitCode> {
    let plan = Plan {
        nodes: arguments.nodes.max(2),
        seed: arguments.seed,
        projects: arguments.projects.unwrap_or_else(|| (arguments.nodes / 10).max(10)),
        mutation: arguments.mutation,
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "seed {}, {} nodes, {} projects", plan.seed, plan.nodes, plan.projects)?;
    let began = Instant::now();
    let ending = World::new(plan).run();
    report(&mut out, &ending)?;
    writeln!(out, "took {:.1} s", began.elapsed().as_secs_f64())?;
    for violation in &ending.violations {
        writeln!(out, "violation: {violation}")?;
    }
    if ending.violations.is_empty() {
        writeln!(out, "converged after {:.1} simulated s", ending.simulated_ms as f64 / 1000.0)?;
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

fn report(out: &mut impl Write, ending: &Ending) -> std::io::Result<()> {
    let tally = &ending.tally;
    writeln!(
        out,
        "projects: {} built, {} started, {} stopped, {} removed, {} refusals",
        tally.built, tally.started, tally.stopped, tally.removed, tally.refused
    )?;
    writeln!(
        out,
        "faults: {} packets lost, {} repeated, {} crashes, {} steps failed, {} builds cut off",
        tally.lost, tally.repeated, tally.crashes, tally.failed_steps, tally.unsynced
    )?;
    writeln!(
        out,
        "{} events, {} packets delivered, {} records on each node",
        tally.events, tally.delivered, ending.records
    )?;
    writeln!(out, "trace {}", ending.trace.to_hex())
}

fn mutate(arguments: &MutateArguments) -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let world = |seed, mutation| {
        World::new(Plan { nodes: arguments.nodes.max(2), seed, projects: arguments.nodes.max(10), mutation })
            .run()
    };
    let sound = (1..=arguments.seeds).find(|&seed| !world(seed, None).violations.is_empty());
    if let Some(seed) = sound {
        writeln!(out, "seed {seed} fails with every rule in force: look at that first")?;
        return Ok(ExitCode::FAILURE);
    }
    let mut killed = 0;
    for (name, mutation) in Mutation::ALL {
        let noticed = (1..=arguments.seeds).find_map(|seed| {
            let violation = world(seed, Some(mutation)).violations.into_iter().next()?;
            Some((seed, violation))
        });
        match noticed {
            Some((seed, violation)) => {
                killed += 1;
                writeln!(out, "{name:28} killed by seed {seed:2}: {violation}")?;
            }
            None => writeln!(out, "{name:28} SURVIVED {} seeds", arguments.seeds)?,
        }
    }
    writeln!(out, "{killed} of {} killed", Mutation::ALL.len())?;
    Ok(if killed == Mutation::ALL.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
