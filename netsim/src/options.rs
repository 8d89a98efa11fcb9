//! A world's options: how many hosts, which faults and how often, all of it drawn from one seed.
//!
//! Swarm testing (Groce and others, 2012): a world that has some kinds of faults often and others not at all finds
//! more than one that has a little of everything.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::node::Mutation;

use crate::fault::Fault;
use crate::lot::Lot;
use crate::regions;
use crate::scene::{LIARS, SCENE_HOSTS, Scene};

/// How long things go wrong, in milliseconds; then they must come right.
pub(crate) const FAULTS_MS: u64 = 60_000;

/// How many packets in a thousand are lost where a mesh is measured.
pub(crate) const LOSS_PER_MILLE: u64 = 10;

/// Up to this many hosts every message is encoded and decoded; of larger worlds' messages one in a hundred is.
pub(crate) const CODED_NODES_MAX: usize = 500;

/// A world, before anything happens in it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What everything is drawn from.
    pub(crate) seed: u64,
    /// How many hosts there are.
    pub(crate) nodes: usize,
    /// How many customers there are, each with a project.
    pub(crate) projects: usize,
    /// How long a packet takes.
    pub(crate) delay: Delay,
    /// How often each kind of fault happens: of packets, steps and hosts in thousandths, of partitions and the like the
    /// number in the world.
    pub(crate) rates: BTreeMap<Fault, u64>,
    /// Single faults that are left out, by their place in the world's plan: a replay that was made smaller.
    pub(crate) skipped: BTreeSet<usize>,
    /// The customers that come at all, where not all do.
    pub(crate) customers: Option<BTreeSet<usize>>,
    /// The rule that is switched off.
    pub(crate) mutation: Option<Mutation>,
    /// What people and faults do in it, where that is written down.
    pub(crate) scene: Option<Scene>,
    /// Whether what happens is written down.
    pub(crate) tells: bool,
    /// What the world is for.
    pub(crate) setting: Setting,
}

/// What a world is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Things go wrong for a minute, then all must come right. Links are by lot, and few.
    Trouble,
    /// A mesh that has been running for long is looked at: all know each other's status, gossip's links are formed as
    /// agents form them, and what is lost is lost to the end.
    Measured,
}

/// How long packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// One local network: 5 to 50 ms.
    Near,
    /// Continents: 20 to 400 ms.
    Far,
    /// Mostly short, with a long tail (Pareto, from 5 ms, cut at 5 s).
    Tailed,
    /// As measured between ten regions of the world, and up to a tenth more.
    Regions,
    /// The same between any two.
    Fixed(u64),
}

impl Delay {
    /// Draws how long a packet takes between these two hosts.
    pub(crate) fn draw(self, (from, to): (usize, usize), lot: &mut Lot) -> u64 {
        match self {
            Self::Near => lot.between(5, 50),
            Self::Far => lot.between(20, 400),
            Self::Tailed => {
                let share = lot.between(1, 1_000);
                (5_000 / share).max(5)
            }
            Self::Regions => {
                let ms = regions::one_way_ms(from, to);
                ms + lot.between(0, ms / 10 + 1)
            }
            Self::Fixed(ms) => ms,
        }
    }
}

impl Options {
    /// The world of `netsim run`: a little of what happens every day.
    pub(crate) fn everyday(seed: u64, nodes: usize, projects: usize) -> Self {
        let rates = BTreeMap::from([
            (Fault::Loss, 30),
            (Fault::Repeat, 20),
            (Fault::Late, 20),
            (Fault::Crash, 300),
            (Fault::SlowDisk, 30),
            (Fault::StepFails, 20),
            (Fault::GuestEnds, 10),
        ]);
        Self {
            seed,
            nodes,
            projects,
            delay: Delay::Near,
            rates,
            skipped: BTreeSet::new(),
            customers: None,
            mutation: None,
            scene: None,
            tells: false,
            setting: Setting::Trouble,
        }
    }

    /// A small world in which each kind of fault is there or not, by lot.
    pub(crate) fn swarm(seed: u64) -> Self {
        let mut lot = Lot::of(seed, "options");
        let nodes = lot.between(3, 13) as usize;
        let projects = lot.between(4, 21) as usize;
        let delay = [Delay::Near, Delay::Near, Delay::Far, Delay::Tailed][lot.index(4)];
        let mut options = Self::everyday(seed, nodes, projects);
        options.delay = delay;
        options.rates =
            Fault::ALL.iter().filter_map(|(_, fault)| Some((*fault, rate(*fault, &mut lot)?))).collect();
        options
    }

    /// A world in which people and faults do what is written down, with a little of what happens every day.
    pub(crate) fn scene(seed: u64, scene: Scene) -> Self {
        let mut lot = Lot::of(seed, "scene");
        let delay = [Delay::Near, Delay::Far][lot.index(2)];
        let rates = [(Fault::Loss, 20), (Fault::Repeat, 40), (Fault::SlowDisk, 30), (Fault::TornWrite, 300)];
        let mut rates: BTreeMap<Fault, u64> = rates.into_iter().filter(|_| lot.chance(500)).collect();
        if scene == Scene::Liars {
            rates.insert(Fault::Hostile, LIARS as u64);
        }
        if scene == Scene::Moves {
            // What the swarm has, half as often: else hardly anything moves.
            for (_, fault) in Fault::ALL {
                let (rate, wanted) = (rate(fault, &mut lot), lot.chance(500));
                if let Some(rate) = rate.filter(|_| wanted && fault != Fault::CloneKey) {
                    rates.insert(fault, rate.div_ceil(2));
                }
            }
        }
        Self { delay, rates, scene: Some(scene), ..Self::everyday(seed, SCENE_HOSTS, 0) }
    }

    /// A quiet mesh over wide-area links.
    pub(crate) fn scale(seed: u64, nodes: usize) -> Self {
        let rates = BTreeMap::from([(Fault::Loss, LOSS_PER_MILLE)]);
        Self { delay: Delay::Regions, rates, setting: Setting::Measured, ..Self::everyday(seed, nodes, 0) }
    }

    /// A quiet mesh in which nothing is lost, and any two hosts are as far from each other.
    pub(crate) fn even(seed: u64, nodes: usize, delay_ms: u64) -> Self {
        let (delay, rates) = (Delay::Fixed(delay_ms), BTreeMap::new());
        Self { delay, rates, setting: Setting::Measured, ..Self::everyday(seed, nodes, 0) }
    }

    /// Until when things go wrong, in milliseconds.
    pub(crate) fn faults_ms(&self) -> u64 {
        match self.setting {
            Setting::Trouble => FAULTS_MS,
            Setting::Measured => u64::MAX,
        }
    }

    pub(crate) fn rate(&self, fault: Fault) -> u64 {
        self.rates.get(&fault).copied().unwrap_or(0)
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.rate(fault) > 0
    }

    /// Whether every message goes through the codec.
    pub(crate) fn is_coded(&self) -> bool {
        self.nodes <= CODED_NODES_MAX
    }
}

/// Draws whether a world has a kind of fault, and how often it happens then.
fn rate(fault: Fault, lot: &mut Lot) -> Option<u64> {
    let (chance, from, until) = match fault {
        Fault::Loss => (600, 5, 200),
        Fault::Repeat => (500, 5, 150),
        Fault::Late => (500, 5, 150),
        Fault::Clog => (400, 1, 6),
        Fault::Partition => (500, 1, 5),
        Fault::Crash => (600, 100, 1_000),
        Fault::TornWrite => (500, 200, 1_000),
        Fault::DiskFull => (250, 50, 400),
        Fault::SlowDisk => (400, 10, 300),
        Fault::ClockSkew => (400, 100, 1_000),
        Fault::ClockJump => (300, 50, 500),
        Fault::Pause => (400, 100, 600),
        Fault::Suspend => (300, 50, 400),
        Fault::Backup => (200, 50, 250),
        Fault::CloneKey => (120, 1, 2),
        Fault::OldAgent => (250, 100, 500),
        Fault::Hostile => (250, 1, 3),
        Fault::StepFails => (500, 5, 150),
        Fault::GuestEnds => (500, 5, 150),
        // It comes with crashes.
        Fault::CutBuild => (0, 1, 2),
        Fault::Takeover => (300, 1, 8),
        Fault::Ambush => (400, 1, 8),
        Fault::PowerCut => (300, 100, 700),
        Fault::LostDisk => (200, 100, 600),
        Fault::Revoked => (500, 1, 4),
    };
    // Both are drawn in any case, so that one kind's lot doesn't move the next one's.
    let (there, rate) = (lot.chance(chance), lot.between(from, until));
    there.then_some(rate)
}
