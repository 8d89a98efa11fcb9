//! Which chunk of an image is asked of whom: several sources at once, each also while it fetches the image itself.
//!
//! Every chunk is asked of one source at a time. A source with all of it gives each of those that fetch another share:
//! whose share a chunk is follows from their keys alone, so they need not talk about it, and what all want leaves that
//! source once. The rest comes from each other, what few have first. What a nearer source has is not asked of one that is
//! far. Only who has nothing else to wait for asks for the share of another.
//!
//! Nothing here knows of streams or files; chunks are counted as in an [`Inventory`](mln_protocol::wire::Inventory).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mln_protocol::id::PublicKey;

/// Below this round trip, sources are equally near.
const NEAR: Duration = Duration::from_millis(5);

/// A source is much nearer than another if this many of its round trips are one of the other's.
const MUCH_NEARER: u32 = 4;

/// After how long without a new chunk somebody who fetches is no longer counted on for its share.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// After how long a chunk may be asked of a second source, when there is nothing else to ask for.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Of how many sources one chunk is asked at a time.
const ASKED_TWICE_MAX: usize = 2;

/// Who can be asked for what, and what has been.
#[derive(Debug)]
pub(super) struct Swarm {
    me: u64,
    /// For each chunk whether it is here.
    here: Vec<bool>,
    missing: usize,
    sources: BTreeMap<PublicKey, Source>,
    /// The chunks that are asked for and not yet here.
    asked: BTreeMap<u32, Vec<(PublicKey, Instant)>>,
}

#[derive(Debug)]
struct Source {
    weight: u64,
    held: Held,
    round_trip: Duration,
    /// When it last told of a new chunk.
    gained: Instant,
}

#[derive(Debug)]
enum Held {
    /// All.
    Whole,
    /// These, so far.
    Part(Vec<bool>),
}

impl Source {
    fn has(&self, position: usize) -> bool {
        match &self.held {
            Held::Whole => true,
            Held::Part(held) => held.get(position).copied().unwrap_or(false),
        }
    }

    fn is_whole(&self) -> bool {
        match &self.held {
            Held::Whole => true,
            Held::Part(held) => held.iter().all(|held| *held),
        }
    }

    fn is_much_nearer(&self, than: &Self) -> bool {
        self.round_trip.max(NEAR) * MUCH_NEARER <= than.round_trip
    }
}

/// How much a chunk is wanted of a source: smaller is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urge {
    /// Nobody else is to get it there.
    Own,
    /// Somebody else is to get it there, and hasn't yet.
    OfAnother,
    /// It can be had of one that fetches.
    Elsewhere,
}

impl Swarm {
    /// Begins with what is here, for each chunk.
    pub(super) fn new(me: PublicKey, here: Vec<bool>) -> Self {
        let missing = here.iter().filter(|here| !**here).count();
        Self { me: weight(me), here, missing, sources: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// Whether everything is here.
    pub(super) fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// Returns whether one source is all that there is.
    pub(super) fn is_alone(&self) -> bool {
        self.sources.len() == 1
    }

    /// Takes in a source that has these chunks, or all where `held` is none.
    pub(super) fn add(
        &mut self,
        peer: PublicKey,
        held: Option<Vec<bool>>,
        round_trip: Duration,
        now: Instant,
    ) {
        let held = held.map_or(Held::Whole, Held::Part);
        self.sources.insert(peer, Source { weight: weight(peer), held, round_trip, gained: now });
    }

    /// Takes in that a source has more.
    pub(super) fn gained(&mut self, peer: PublicKey, positions: &[u32], now: Instant) {
        let Some(source) = self.sources.get_mut(&peer) else { return };
        source.gained = now;
        if let Held::Part(held) = &mut source.held {
            for position in positions {
                if let Some(held) = held.get_mut(*position as usize) {
                    *held = true;
                }
            }
        }
    }

    /// A source doesn't have what it said it had.
    pub(super) fn lacks(&mut self, peer: PublicKey, position: u32) {
        self.forget(peer, position);
        if let Some(Source { held: Held::Part(held), .. }) = self.sources.get_mut(&peer)
            && let Some(held) = held.get_mut(position as usize)
        {
            *held = false;
        }
    }

    /// Whether a source may lack what it is asked for: one that fetches.
    pub(super) fn may_lack(&self, peer: PublicKey) -> bool {
        self.sources.get(&peer).is_some_and(|source| matches!(source.held, Held::Part(_)))
    }

    /// A source is gone: what it was asked for can be asked of others.
    pub(super) fn remove(&mut self, peer: PublicKey) {
        self.sources.remove(&peer);
        self.asked.retain(|_, asked| {
            asked.retain(|(of, _)| *of != peer);
            !asked.is_empty()
        });
    }

    /// A chunk is here.
    pub(super) fn got(&mut self, position: u32) {
        self.asked.remove(&position);
        if let Some(here) = self.here.get_mut(position as usize).filter(|here| !**here) {
            *here = true;
            self.missing -= 1;
        }
    }

    fn forget(&mut self, peer: PublicKey, position: u32) {
        if let Some(asked) = self.asked.get_mut(&position) {
            asked.retain(|(of, _)| *of != peer);
            if asked.is_empty() {
                self.asked.remove(&position);
            }
        }
    }

    /// Returns the chunk that a source is to be asked for next; none where it has to wait.
    pub(super) fn pick(&mut self, peer: PublicKey, now: Instant) -> Option<u32> {
        let source = self.sources.get(&peer)?;
        let from_whole = source.is_whole();
        let others: Vec<&Source> =
            self.sources.iter().filter(|(other, _)| **other != peer).map(|(_, other)| other).collect();
        let nearer: Vec<&Source> =
            others.iter().copied().filter(|other| other.is_much_nearer(source)).collect();
        let fetching: Vec<&Source> = others.iter().copied().filter(|other| !other.is_whole()).collect();
        let rivals: Vec<u64> = fetching
            .iter()
            .filter(|other| now.duration_since(other.gained) < STALLED_AFTER)
            .map(|other| other.weight)
            .collect();
        let wanted = |position: &usize| {
            !self.here[*position]
                && source.has(*position)
                && !self.asked.contains_key(&(*position as u32))
                && !nearer.iter().any(|other| other.has(*position))
        };
        let best = (0..self.here.len())
            .filter(wanted)
            .map(|position| {
                let holders = fetching.iter().filter(|other| other.has(position)).count();
                let own = mix(self.me, position);
                let urge = if !from_whole {
                    Urge::Own
                } else if holders > 0 {
                    Urge::Elsewhere
                } else if rivals.iter().all(|rival| mix(*rival, position) <= own) {
                    Urge::Own
                } else {
                    Urge::OfAnother
                };
                (urge, holders, own, position)
            })
            .min();
        let found = match best {
            Some((Urge::Own, .., position)) => Some(position),
            Some((.., position)) if self.asked.is_empty() => Some(position),
            // Nothing is left but what others are slow with.
            None if self.asked.values().all(|asked| asked.iter().all(|(of, _)| *of != peer)) => {
                self.slow(peer, now)
            }
            Some(_) | None => None,
        }?;
        let position = u32::try_from(found).ok()?;
        self.asked.entry(position).or_default().push((peer, now));
        Some(position)
    }

    /// Returns the chunk that has been asked of another source for the longest time, if that is long, and this one has it.
    fn slow(&self, peer: PublicKey, now: Instant) -> Option<usize> {
        let source = self.sources.get(&peer)?;
        let late = |asked: &[(PublicKey, Instant)]| {
            let since = asked.iter().map(|(_, since)| *since).max()?;
            (asked.len() < ASKED_TWICE_MAX && now.duration_since(since) >= SLOW_AFTER).then_some(since)
        };
        let all = self.asked.iter().filter(|(position, _)| source.has(**position as usize));
        let oldest = all.filter_map(|(position, asked)| Some((late(asked)?, *position))).min()?;
        Some(oldest.1 as usize)
    }
}

/// Returns a number for a key: what of it decides about shares.
fn weight(key: PublicKey) -> u64 {
    key.0.iter().rev().fold(0, |sum: u64, byte| sum.rotate_left(8) ^ u64::from(*byte))
}

/// Mixes a key's weight with a place, so that every place puts keys in an order of its own (splitmix64).
fn mix(weight: u64, position: usize) -> u64 {
    let mut z = weight ^ (position as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "swarm_test.rs"]
mod tests;
