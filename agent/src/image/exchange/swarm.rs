//! Which chunk of an image is asked of whom: several sources at once, each also while it fetches the image itself.
//!
//! Every chunk is asked of one source at a time. A source with all of it gives each of those that fetch another share:
//! whose share a chunk is follows from their keys alone, so they need not talk about it, and what all want leaves that
//! source once. The rest comes from each other, what few have first. Once so many have all of it that none of them has to be
//! spared, all of them are asked. What a nearer source has is not asked of one that is far, as long as the nearer one is
//! prompt: what it takes for a chunk is measured, and a chunk that doesn't come makes it slow. Only who has nothing else to
//! wait for asks for the share of another.
//!
//! Nothing here knows of streams or files; chunks are counted as in an [`Inventory`](mln_protocol::wire::Inventory).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mln_protocol::id::PublicKey;

/// Below this round trip, sources are equally near.
const NEAR: Duration = Duration::from_millis(5);

/// A source is much nearer than another if this many of its round trips are one of the other's.
const MUCH_NEARER: u32 = 4;

/// A source that takes longer for a chunk keeps nobody from asking those that are farther: it is what limits the fetch.
const PROMPT: Duration = Duration::from_millis(100);

/// How much of what a source takes for a chunk is what it took for the last one: one part of so many.
const LAST_TOOK: u32 = 4;

/// After how long without a new chunk somebody who fetches is no longer counted on for its share.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// A chunk may be asked of a second source, when there is nothing else to ask for, once the first has had it for so many
/// times as long as it usually takes.
const SLOW_TIMES: u32 = 3;

/// But not before that.
const SLOW_AFTER_MIN: Duration = Duration::from_millis(300);

/// And at the latest then, also where it isn't known how long the first takes.
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
    /// How long it takes from when a chunk is asked for until it is here, if that is known.
    takes: Option<Duration>,
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

    /// Takes in how long a chunk took.
    fn took(&mut self, time: Duration) {
        self.takes = Some(match self.takes {
            Some(takes) => takes - takes / LAST_TOOK + time / LAST_TOOK,
            None => time,
        });
    }

    /// Takes in that a chunk has come from elsewhere before it came from here.
    fn was_outrun(&mut self, after: Duration) {
        self.takes = Some(self.takes.map_or(after, |takes| takes.max(after)));
    }

    /// Returns after how long a chunk that it was asked for is late.
    fn patience(&self) -> Duration {
        self.takes.map_or(SLOW_AFTER, |takes| (takes * SLOW_TIMES).clamp(SLOW_AFTER_MIN, SLOW_AFTER))
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

    /// Returns how many sources there are.
    pub(super) fn sources(&self) -> usize {
        self.sources.len()
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
        let source = Source { weight: weight(peer), held, round_trip, takes: None, gained: now };
        self.sources.insert(peer, source);
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

    /// A chunk is here, by what a source gave.
    pub(super) fn got(&mut self, peer: PublicKey, position: u32, now: Instant) {
        for (of, since) in self.asked.remove(&position).unwrap_or_default() {
            let time = now.duration_since(since);
            match self.sources.get_mut(&of) {
                Some(source) if of == peer => source.took(time),
                Some(source) => source.was_outrun(time),
                None => {}
            }
        }
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
        let others: Vec<&Source> =
            self.sources.iter().filter(|(other, _)| **other != peer).map(|(_, other)| other).collect();
        let waited = self.waited(now);
        let is_prompt = |key: &PublicKey, source: &Source| {
            let waited = waited.get(key).copied().unwrap_or_default();
            source.takes.unwrap_or_default().max(waited) <= PROMPT
        };
        let nearer: Vec<&Source> = self
            .sources
            .iter()
            .filter(|(key, other)| other.is_much_nearer(source) && is_prompt(key, other))
            .map(|(_, other)| other)
            .collect();
        let fetching: Vec<&Source> = others.iter().copied().filter(|other| !other.is_whole()).collect();
        // Those that have all of it are spared while they are fewer than those that fetch.
        let is_spared = source.is_whole() && others.len() - fetching.len() < fetching.len();
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
                let urge = if !is_spared {
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

    /// Returns for how long each source has been waited for, by the oldest chunk that it was asked for.
    fn waited(&self, now: Instant) -> BTreeMap<PublicKey, Duration> {
        let mut waited: BTreeMap<PublicKey, Duration> = BTreeMap::new();
        for (of, since) in self.asked.values().flatten() {
            let longest = waited.entry(*of).or_default();
            *longest = now.duration_since(*since).max(*longest);
        }
        waited
    }

    /// Returns the chunk that has been asked of another source for the longest time, if it is late, and this one has it.
    fn slow(&self, peer: PublicKey, now: Instant) -> Option<usize> {
        let source = self.sources.get(&peer)?;
        let is_late = |(of, since): &(PublicKey, Instant)| {
            self.sources.get(of).is_none_or(|of| now.duration_since(*since) >= of.patience())
        };
        let late = |asked: &[(PublicKey, Instant)]| {
            let since = asked.iter().map(|(_, since)| *since).max()?;
            (asked.len() < ASKED_TWICE_MAX && asked.iter().all(is_late)).then_some(since)
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
