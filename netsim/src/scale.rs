//! How far and how fast: a revision's way to every host over wide-area links, and what an idle mesh costs.
//!
//! Beside what the nodes themselves do stand two models on the same links: plain flooding, and rumours that ride on
//! SWIM's pings only.

use std::collections::BinaryHeap;
use std::io::Write;
use std::time::Instant;

use crate::gossip::Overlay;
use crate::lot::Lot;
use crate::options::{Delay, Options};
use crate::world::World;

/// How many packets in a thousand are lost.
const LOSS_PER_MILLE: u64 = 10;

/// SWIM's protocol period, in milliseconds, and how often a rumour is passed on, as a multiple of log2 of the number of
/// hosts (Das, Gupta, Motivala, 2002).
const SWIM_PERIOD_MS: u64 = 1_000;
const SWIM_SPREAD: u32 = 3;

/// Says what was measured for this many hosts.
pub(crate) fn run(out: &mut impl Write, nodes: usize, seed: u64) -> std::io::Result<bool> {
    let began = Instant::now();
    let measured = World::new(Options::scale(seed, nodes)).measure();
    writeln!(out, "{nodes} hosts in ten regions, {LOSS_PER_MILLE} of 1000 packets lost, seed {seed}")?;
    writeln!(out, "{:22} {:>12} {:>12} {:>14}", "", "99 % after", "all after", "copies a host")?;
    line(out, "this mesh", &measured.reached_ms, nodes, measured.copies as f64 / nodes as f64)?;
    let mut lot = Lot::of(seed, "models");
    let overlay = Overlay::new(nodes, &mut lot);
    let (reached, copies) = flood(&overlay, nodes, &mut lot);
    line(out, "flooding", &reached, nodes, copies as f64 / nodes as f64)?;
    let (reached, copies) = swim(nodes, &mut lot);
    line(out, "SWIM's pings alone", &reached, nodes, copies as f64 / nodes as f64)?;
    writeln!(
        out,
        "idle: {:.0} bytes and {:.2} packets per host and second over {:.0} s",
        measured.idle_bytes, measured.idle_packets, measured.idle_s
    )?;
    writeln!(out, "change: {:.0} bytes per host in the 10 s after it", measured.change_bytes)?;
    let rate = measured.events as f64 / began.elapsed().as_secs_f64();
    writeln!(out, "{} events, {rate:.0} a second; {}", measured.events, memory(nodes))?;
    Ok(measured.reached_ms.len() == nodes)
}

/// What a run measures.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// When each host knew of the revision, in milliseconds after it was made, soonest first.
    pub(crate) reached_ms: Vec<u64>,
    /// How often the revision arrived anywhere.
    pub(crate) copies: u64,
    pub(crate) idle_bytes: f64,
    pub(crate) idle_packets: f64,
    pub(crate) idle_s: f64,
    pub(crate) change_bytes: f64,
    pub(crate) events: u64,
}

fn line(out: &mut impl Write, name: &str, reached: &[u64], nodes: usize, copies: f64) -> std::io::Result<()> {
    let most = (nodes * 99).div_ceil(100);
    let seconds = |count: usize| match reached.get(count - 1) {
        Some(ms) => format!("{:.2} s", *ms as f64 / 1000.0),
        None => "never".to_owned(),
    };
    writeln!(out, "{name:22} {:>12} {:>12} {copies:>14.1}", seconds(most), seconds(nodes))
}

/// Everybody passes what is new to all neighbours but the one that it came from.
fn flood(overlay: &Overlay, nodes: usize, lot: &mut Lot) -> (Vec<u64>, u64) {
    let mut seen = vec![None; nodes];
    let mut copies = 0;
    let mut queue = BinaryHeap::from([std::cmp::Reverse((0, 0, 0))]);
    while let Some(std::cmp::Reverse((at, node, from))) = queue.pop() {
        copies += 1;
        if seen[node].is_some() {
            continue;
        }
        seen[node] = Some(at);
        for peer in overlay.peers(node) {
            if peer != from && !lot.chance(LOSS_PER_MILLE) {
                let delay = Delay::Regions.draw((node, peer), lot);
                queue.push(std::cmp::Reverse((at + delay, peer, node)));
            }
        }
    }
    (sorted(seen), copies)
}

/// Whoever knows it tells one host by lot in each period, until it has told it often enough.
fn swim(nodes: usize, lot: &mut Lot) -> (Vec<u64>, u64) {
    let times = SWIM_SPREAD * (usize::BITS - nodes.leading_zeros());
    let mut seen = vec![None; nodes];
    let mut copies = 0;
    let mut queue = BinaryHeap::from([std::cmp::Reverse((0, 0, 0))]);
    while let Some(std::cmp::Reverse((at, node, told))) = queue.pop() {
        if told == 0 {
            copies += 1;
            if seen[node].is_some() {
                continue;
            }
            seen[node] = Some(at);
        }
        let phase = lot.between(0, SWIM_PERIOD_MS);
        let next = if told == 0 { at + phase } else { at + SWIM_PERIOD_MS };
        if told < times {
            let peer = lot.index(nodes);
            if !lot.chance(LOSS_PER_MILLE) {
                queue.push(std::cmp::Reverse((next + Delay::Regions.draw((node, peer), lot), peer, 0)));
            }
            queue.push(std::cmp::Reverse((next, node, told + 1)));
        }
    }
    (sorted(seen), copies)
}

fn sorted(seen: Vec<Option<u64>>) -> Vec<u64> {
    let mut reached: Vec<u64> = seen.into_iter().flatten().collect();
    reached.sort_unstable();
    reached
}

/// Returns the process's largest size so far, as the kernel tells it.
fn memory(nodes: usize) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    match kib {
        Some(kib) => {
            format!("{} MiB in all, {:.2} MiB a host", kib / 1024, kib as f64 / 1024.0 / nodes as f64)
        }
        None => "its memory is not known on this system".to_owned(),
    }
}
