//! Switches off each rule of the core in turn: a checker must notice, and one whose rule is broken by it (`expected.rs`). A world that fails with every rule in force
//! proves nothing: it is named and left out, and the whole doesn't count as passed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use mln_protocol::node::Mutation;

use crate::expected;
use crate::minimise::rule;
use crate::options::Options;
use crate::scene::Scene;
use crate::swarm::each_world;
use crate::world::World;

/// What became of one mutation.
#[derive(Default)]
struct Fate {
    worlds: u64,
    /// By which of the rules that it must break it was noticed, how often, and first at which seed with which words.
    kills: BTreeMap<String, usize>,
    first: Option<(u64, String)>,
    /// By which others worlds have failed: that proves nothing of its own.
    others: BTreeMap<String, usize>,
}

/// Runs the same worlds with every rule in force, and with each switched off; true where each was noticed.
pub(crate) fn run(
    out: &mut impl Write,
    only: &[Mutation],
    seeds: u64,
    kills: usize,
    draw: impl Fn(u64) -> Options + Sync,
) -> std::io::Result<bool> {
    let mut unsound = BTreeSet::new();
    let sound = |seed| World::new(draw(seed)).run().violations.into_iter().next();
    each_world(1..=seeds, sound, |seed, violation| {
        unsound.insert(seed);
        writeln!(out, "seed {seed} fails with every rule in force, and proves nothing: {violation}")
    })?;
    let clean = seeds - unsound.len() as u64;
    writeln!(out, "{clean} of {seeds} worlds are clean with every rule in force")?;
    writeln!(
        out,
        "{:28} {:>6} {:>6} {:8} {:8} {:9} first",
        "mutation", "killed", "worlds", "must be", "by", "besides"
    )?;
    let chosen: Vec<_> =
        Mutation::ALL.iter().filter(|(_, mutation)| only.is_empty() || only.contains(mutation)).collect();
    let mut killed = 0;
    for (name, mutation) in &chosen {
        let fate = judge(*mutation, seeds, kills, &unsound, &draw)?;
        let killed_in: usize = fate.kills.values().sum();
        let must = expected::rules(*mutation).join(" ");
        let names = |some: &BTreeMap<String, usize>| some.keys().cloned().collect::<Vec<_>>().join(" ");
        let (by, besides) = (names(&fate.kills), names(&fate.others));
        write!(out, "{name:28} {killed_in:>6} {:>6} {must:8} {by:8} {besides:9} ", fate.worlds)?;
        match &fate.first {
            Some((seed, violation)) => {
                killed += 1;
                let scene = draw(*seed).scene.map_or("by lot", Scene::name);
                writeln!(out, "seed {seed}, {scene}: {violation}")?;
            }
            None => writeln!(out, "SURVIVED")?,
        }
        out.flush()?;
    }
    writeln!(out, "{killed} of {} killed", chosen.len())?;
    Ok(killed == chosen.len() && unsound.is_empty())
}

fn judge(
    mutation: Mutation,
    seeds: u64,
    kills: usize,
    unsound: &BTreeSet<u64>,
    draw: &(impl Fn(u64) -> Options + Sync),
) -> std::io::Result<Fate> {
    let mut fate = Fate::default();
    let enough = AtomicUsize::new(0);
    let world = |seed| {
        if unsound.contains(&seed) || enough.load(Ordering::Relaxed) >= kills {
            return None;
        }
        let violations = World::new(Options { mutation: Some(mutation), ..draw(seed) }).run().violations;
        // One event may break several rules at once.
        let counts = |violation: &String| expected::rules(mutation).contains(&rule(violation));
        let violation = violations.iter().find(|violation| counts(violation)).or(violations.first()).cloned();
        if violation.as_ref().is_some_and(counts) {
            enough.fetch_add(1, Ordering::Relaxed);
        }
        Some(violation)
    };
    each_world(1..=seeds, world, |seed, violation| {
        fate.worlds += 1;
        if let Some(violation) = violation {
            let broken = rule(&violation);
            if !expected::rules(mutation).contains(&broken) {
                *fate.others.entry(broken.to_owned()).or_default() += 1;
                return Ok(());
            }
            *fate.kills.entry(broken.to_owned()).or_default() += 1;
            if fate.first.as_ref().is_none_or(|(first, _)| seed < *first) {
                fate.first = Some((seed, violation));
            }
        }
        Ok(())
    })?;
    Ok(fate)
}
