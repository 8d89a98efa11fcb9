//! What a mesh is compared with, as models on the same links: plain flooding, and rumours that ride on SWIM's pings only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use mln_protocol::node::limits::STATUS_MS;

use crate::lot::Lot;
use crate::options::{Delay, LOSS_PER_MILLE};
use crate::overlay::{DIALLED, Overlay};

/// SWIM's protocol period, in milliseconds, and how often a rumour is passed on, as a multiple of log2 of the number of
/// hosts (Das, Gupta, Motivala, 2002).
const SWIM_PERIOD_MS: u64 = 1_000;
const SWIM_SPREAD: u32 = 3;

/// How large a ping or its answer is, in bytes.
const PING_BYTES: f64 = 60.0;

/// How a rumour spreads, and what it would cost to repeat every host's status in this way.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) name: &'static str,
    /// When each host knew of it, in milliseconds, soonest first.
    pub(crate) reached_ms: Vec<u64>,
    /// How often it arrived anywhere.
    pub(crate) copies: u64,
    /// What a host sends in a second if each repeats its status every half minute, computed.
    pub(crate) idle_bytes: f64,
}

/// Runs all models.
pub(crate) fn spreads(nodes: usize, seed: u64, status_bytes: u64) -> Vec<Spread> {
    let mut lot = Lot::of(seed, "models");
    let all: Vec<usize> = (0..nodes).collect();
    let overlay = Overlay::formed(nodes, &all, DIALLED, &mut lot);
    let repeated = |copies: u64| {
        let per_second = nodes as f64 / (STATUS_MS as f64 / 1000.0);
        per_second * copies as f64 / nodes as f64 * status_bytes as f64
    };
    let (reached_ms, copies) = flood(&overlay, nodes, &mut lot);
    let flooding = Spread { name: "flooding", reached_ms, copies, idle_bytes: repeated(copies) };
    let (reached_ms, copies) = swim(nodes, &mut lot);
    let pings = 2.0 * PING_BYTES * 1000.0 / SWIM_PERIOD_MS as f64;
    let swim =
        Spread { name: "SWIM's pings alone", reached_ms, copies, idle_bytes: repeated(copies) + pings };
    vec![flooding, swim]
}

/// Everybody passes what is new to all neighbours but the one that it came from.
fn flood(overlay: &Overlay, nodes: usize, lot: &mut Lot) -> (Vec<u64>, u64) {
    let mut seen = vec![None; nodes];
    let mut copies = 0;
    let mut queue = BinaryHeap::from([Reverse((0, 0, 0))]);
    while let Some(Reverse((at, node, from))) = queue.pop() {
        copies += 1;
        if seen[node].is_some() {
            continue;
        }
        seen[node] = Some(at);
        for &peer in overlay.peers(node) {
            if peer != from && !lot.chance(LOSS_PER_MILLE) {
                let delay = Delay::Regions.draw((node, peer), lot);
                queue.push(Reverse((at + delay, peer, node)));
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
    let mut queue = BinaryHeap::from([Reverse((0, 0, 0))]);
    while let Some(Reverse((at, node, told))) = queue.pop() {
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
                queue.push(Reverse((next + Delay::Regions.draw((node, peer), lot), peer, 0)));
            }
            queue.push(Reverse((next, node, told + 1)));
        }
    }
    (sorted(seen), copies)
}

fn sorted(seen: Vec<Option<u64>>) -> Vec<u64> {
    let mut reached: Vec<u64> = seen.into_iter().flatten().collect();
    reached.sort_unstable();
    reached
}
