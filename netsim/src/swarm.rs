//! Many worlds, on all cores: which of them break a rule, and how often each kind of fault happened.

use std::io::Write;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use crate::fault::{Fault, FaultCount};
use crate::guest::GuestCount;
use crate::minimise::minimise;
use crate::options::Options;
use crate::replay::{Cuts, Kind, command_line};
use crate::rival::RivalCount;
use crate::world::{Ending, HandOverCount, World};

/// After how many worlds a line is printed.
const LINE_WORLDS: u64 = 100;

/// Of one world in this many the trace is compared with that of a second run.
const TWICE: u64 = 50;

/// How many failing worlds are made smaller and shown.
const SHOWN_MAX: usize = 5;

/// Runs every world of `seeds` on all cores, and hands over each ending as it comes.
///
/// `world` returns none where a world need not be run.
pub(crate) fn each_world<T: Send>(
    seeds: std::ops::RangeInclusive<u64>,
    world: impl Fn(u64) -> Option<T> + Sync,
    mut ended: impl FnMut(u64, T) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (next, last) = (AtomicU64::new(*seeds.start()), *seeds.end());
    std::thread::scope(|scope| {
        let (sender, endings) = mpsc::sync_channel(threads * 4);
        for _ in 0..threads {
            let (sender, next, world) = (sender.clone(), &next, &world);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        break;
                    }
                    // Nobody listens any more: the rest need not be run.
                    if let Some(ending) = world(seed)
                        && sender.send((seed, ending)).is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(sender);
        endings.into_iter().try_for_each(|(seed, ending)| ended(seed, ending))
    })
}

struct Outcome {
    ending: Ending,
    /// Whether a second run had the same trace; none where there was none.
    same: Option<bool>,
}

/// Runs all these worlds and says what came of them; true where no rule was broken.
pub(crate) fn run(
    out: &mut impl Write,
    kind: Kind,
    seeds: std::ops::RangeInclusive<u64>,
    cuts: &Cuts,
    draw: impl Fn(u64) -> Options + Sync,
) -> std::io::Result<bool> {
    let make = |seed| {
        let mut options = draw(seed);
        cuts.apply(&mut options);
        options
    };
    let world = |seed: u64| {
        let ending = World::new(make(seed)).run();
        let same = seed.is_multiple_of(TWICE).then(|| World::new(make(seed)).run().trace == ending.trace);
        Some(Outcome { ending, same })
    };
    let mut sum = Sum::default();
    let mut failing: Vec<(u64, Ending)> = Vec::new();
    each_world(seeds, world, |seed, outcome| {
        sum.add(seed, &outcome);
        let twice_differs = outcome.same == Some(false);
        if twice_differs {
            writeln!(out, "violation: D1: two runs of seed {seed} have different traces")?;
        }
        if !outcome.ending.violations.is_empty() {
            sum.broken += 1;
            writeln!(out, "seed {seed}: {}", outcome.ending.violations[0])?;
            if failing.len() < SHOWN_MAX {
                failing.push((seed, outcome.ending));
            }
        }
        if sum.worlds.is_multiple_of(LINE_WORLDS) {
            writeln!(out, "{} worlds, {} violations, {} events", sum.worlds, sum.violations(), sum.events)?;
            out.flush()?;
        }
        Ok(())
    })?;
    for (seed, ending) in failing {
        let whole = make(seed);
        let (options, ending) = if cuts.as_is { (whole, ending) } else { minimise(whole, ending) };
        writeln!(out, "violation: {}", ending.violations[0])?;
        writeln!(out, "    again with: {}", command_line(kind, &options))?;
    }
    sum.show(out)?;
    Ok(sum.violations() == 0)
}

#[derive(Default)]
struct Sum {
    worlds: u64,
    broken: u64,
    differing: u64,
    compared: u64,
    events: u64,
    simulated_ms: u64,
    built: u64,
    changed: u64,
    alone: u64,
    garbage: u64,
    hand_overs: HandOverCount,
    guests: GuestCount,
    rivals: RivalCount,
    /// How many VMs were handed over in worlds in which a kind of fault happened.
    claimed_with: std::collections::BTreeMap<&'static str, u64>,
    faults: FaultCount,
    /// Each world's trace, by its seed: they come in any order.
    traces: std::collections::BTreeMap<u64, blake3::Hash>,
    /// In how many worlds a kind of fault happened.
    worlds_with: std::collections::BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.traces.insert(seed, outcome.ending.trace);
        let tally = &outcome.ending.tally;
        self.worlds += 1;
        self.compared += u64::from(outcome.same.is_some());
        self.differing += u64::from(outcome.same == Some(false));
        self.events += tally.events;
        self.simulated_ms += outcome.ending.simulated_ms;
        self.built += tally.built;
        self.changed += tally.started + tally.stopped + tally.removed + tally.changed;
        self.alone += tally.alone;
        self.garbage += tally.garbage;
        self.hand_overs.merge(&tally.hand_overs);
        self.guests.merge(&tally.guests);
        self.rivals.merge(&tally.rivals);
        self.faults.merge(&tally.faults);
        for (name, fault) in Fault::ALL {
            let happened = u64::from(tally.faults.of(fault) > 0);
            *self.worlds_with.entry(name).or_default() += happened;
            *self.claimed_with.entry(name).or_default() += happened * tally.hand_overs.claimed;
        }
    }

    fn violations(&self) -> u64 {
        self.broken + self.differing
    }

    fn show(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{:12} {:>10} {:>8} {:>14}", "fault", "happened", "worlds", "handed over")?;
        for (name, fault) in Fault::ALL {
            writeln!(
                out,
                "{name:12} {:>10} {:>8} {:>14}",
                self.faults.of(fault),
                self.worlds_with.get(name).unwrap_or(&0),
                self.claimed_with.get(name).unwrap_or(&0)
            )?;
        }
        writeln!(
            out,
            "{} built, {} started, stopped or removed, {} done alone, {} lies unreadable, {} run twice",
            self.built, self.changed, self.alone, self.garbage, self.compared
        )?;
        let moves = &self.hand_overs;
        writeln!(
            out,
            "{} hand-overs begun, {} times ready, {} released, {} claimed, {} declined, {} given up before a release",
            moves.begun,
            moves.ready,
            moves.released,
            moves.claimed,
            moves.declined,
            moves.begun.saturating_sub(moves.claimed + moves.declined)
        )?;
        writeln!(out, "{}", self.guests.line())?;
        writeln!(out, "{}", self.rivals.lines())?;
        let mut trace = blake3::Hasher::new();
        for world in self.traces.values() {
            trace.update(world.as_bytes());
        }
        writeln!(out, "trace {}", trace.finalize().to_hex())?;
        writeln!(
            out,
            "{} worlds, {} violations, {} events, {:.1} simulated hours",
            self.worlds,
            self.violations(),
            self.events,
            self.simulated_ms as f64 / 3_600_000.0
        )
    }
}
