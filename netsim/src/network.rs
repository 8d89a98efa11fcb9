//! The simulated network: who reaches whom, how long it takes, and what gets lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::{Fault, FaultCount};
use crate::lot::Lot;
use crate::mishap::Shape;
use crate::options::Options;

/// After how long a link that carries nothing is given up, in milliseconds.
const LINK_LOST_MS: u64 = 10_000;

/// The state of all links.
pub(crate) struct Network {
    lot: Lot,
    partitions: Vec<Partition>,
    clogged: BTreeMap<(usize, usize), u64>,
    /// Which pairs of neighbours are connected, the smaller number first, and since when.
    connected: BTreeMap<(usize, usize), u64>,
    /// Since when a connection carries nothing.
    dead_since: BTreeMap<(usize, usize), u64>,
}

struct Partition {
    cut: BTreeSet<(usize, usize)>,
    shape: Shape,
    until_ms: u64,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives after this many milliseconds.
    Arrives(u64),
    /// It arrives twice.
    Twice(u64, u64),
    /// It is lost, and nobody is told.
    Lost,
    /// Its sender learns, after this time, that nobody is there.
    Unreachable(u64),
}

/// What happens to the connection of two neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkChange {
    Opens,
    Breaks,
    Stays,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            lot: Lot::of(seed, "network"),
            partitions: Vec::new(),
            clogged: BTreeMap::new(),
            connected: BTreeMap::new(),
            dead_since: BTreeMap::new(),
        }
    }

    pub(crate) fn cut(&mut self, cut: BTreeSet<(usize, usize)>, shape: Shape, until_ms: u64) {
        self.partitions.push(Partition { cut, shape, until_ms });
    }

    pub(crate) fn clog(&mut self, from: usize, to: usize, until_ms: u64) {
        self.clogged.insert((from, to), until_ms);
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize, now_ms: u64) -> bool {
        self.partitions.iter().any(|partition| {
            partition.until_ms > now_ms
                && (partition.shape != Shape::Flapping || (now_ms / 1000).is_multiple_of(2))
                && partition.cut.contains(&(from, to))
        })
    }

    /// Whether a host reaches nobody and is reached by nobody.
    pub(crate) fn is_alone(&self, node: usize, hosts: usize, now_ms: u64) -> bool {
        let others = (0..hosts).filter(|&other| other != node);
        others.into_iter().all(|other| self.is_cut(node, other, now_ms) && self.is_cut(other, node, now_ms))
    }

    /// Draws what becomes of a packet that is sent now.
    pub(crate) fn send(
        &mut self,
        options: &Options,
        (from, to): (usize, usize),
        now_ms: u64,
        counts: &mut FaultCount,
    ) -> Fate {
        let delay = options.delay.draw((from, to), &mut self.lot);
        if now_ms >= options.faults_ms() {
            return Fate::Arrives(delay);
        }
        if self.is_cut(from, to, now_ms) {
            let told = self.lot.chance(500);
            return if told { Fate::Unreachable(self.lot.between(1_000, 10_000)) } else { Fate::Lost };
        }
        if self.lot.chance(options.rate(Fault::Loss)) {
            counts.add(Fault::Loss);
            return Fate::Lost;
        }
        let mut arrives = delay;
        if self.lot.chance(options.rate(Fault::Late)) {
            counts.add(Fault::Late);
            arrives += self.lot.between(100, 3_000);
        }
        let held = self.clogged.get(&(from, to)).map_or(0, |until_ms| until_ms.saturating_sub(now_ms));
        arrives = arrives.max(held);
        if self.lot.chance(options.rate(Fault::Repeat)) {
            counts.add(Fault::Repeat);
            // A second one doesn't get round what is clogged either.
            return Fate::Twice(arrives, self.lot.between(5, 8_000).max(held));
        }
        Fate::Arrives(arrives)
    }

    /// Looks after the connection of two neighbours, of which both may be up or not.
    pub(crate) fn look_after(&mut self, a: usize, b: usize, up: Up, now_ms: u64) -> LinkChange {
        let pair = (a.min(b), a.max(b));
        let works = up == Up::Both && !self.is_cut(a, b, now_ms) && !self.is_cut(b, a, now_ms);
        if works {
            self.dead_since.remove(&pair);
            if self.connected.contains_key(&pair) {
                return LinkChange::Stays;
            }
            self.connected.insert(pair, now_ms);
            return LinkChange::Opens;
        }
        if !self.connected.contains_key(&pair) {
            return LinkChange::Stays;
        }
        let since = *self.dead_since.entry(pair).or_insert(now_ms);
        if now_ms - since < LINK_LOST_MS {
            return LinkChange::Stays;
        }
        self.hang_up(a, b);
        LinkChange::Breaks
    }

    /// Returns since when two neighbours are connected.
    pub(crate) fn connected_since(&self, a: usize, b: usize) -> Option<u64> {
        self.connected.get(&(a.min(b), a.max(b))).copied()
    }

    /// Ends the connection of two neighbours; false where there was none.
    pub(crate) fn hang_up(&mut self, a: usize, b: usize) -> bool {
        let pair = (a.min(b), a.max(b));
        self.dead_since.remove(&pair);
        self.connected.remove(&pair).is_some()
    }
}

/// Which ends of a link are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Up {
    Both,
    NotBoth,
}
