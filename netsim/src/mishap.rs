//! The single faults of a world, planned before it begins: so that a replay can leave some out.

use std::collections::BTreeSet;

use crate::ambush::Ambush;
use crate::fault::Fault;
use crate::lot::Lot;
use crate::options::{FAULTS_MS, Options};

/// A fault at a time.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at_ms: u64,
    pub(crate) mishap: Mishap,
}

/// A single fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The agent ends, and starts again later.
    Crash { node: usize, down_ms: u64 },
    /// The machine ends, guests and all, and starts again later.
    PowerCut { node: usize, down_ms: u64 },
    /// The agent stands still.
    Pause { node: usize, ms: u64 },
    /// The machine sleeps.
    Suspend { node: usize, ms: u64, clock: SleepingClock },
    /// Writes fail until then.
    DiskFull { node: usize, ms: u64 },
    /// The wall clock jumps.
    ClockJump { node: usize, by_ms: i64 },
    /// The disk is copied away, to come back later.
    BackupTaken { node: usize, extent: BackupExtent },
    /// The copy comes back.
    BackupRestored { node: usize, extent: BackupExtent, down_ms: u64 },
    /// A copy of the host begins to live.
    CloneBegins { original: usize, clone: usize },
    /// It is switched off for ever.
    CloneEnds { clone: usize },
    /// A link holds everything back.
    Clog { from: usize, to: usize, ms: u64 },
    /// Some hosts don't reach others.
    Partition { cut: BTreeSet<(usize, usize)>, shape: Shape, ms: u64 },
    /// An operator takes over one of the VMs of which a host has a copy; which one is drawn from the number.
    TakeOver { node: usize, pick: u64 },
    /// From now on a blow waits for its moment.
    Ambush(Ambush),
    /// The root key takes back one of the grants on which projects were made, at this host or another; which one is drawn from
    /// the number.
    Revoke { node: usize, pick: u64 },
}

/// What the monotonic clock does while a machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SleepingClock {
    /// It stands still: Linux's CLOCK_MONOTONIC.
    Stands,
    /// It goes on: CLOCK_BOOTTIME.
    Jumps,
}

/// How much of a host a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackupExtent {
    /// The agent's database.
    Database,
    /// All of it, the disks of its VMs as well.
    Machine,
}

/// Who doesn't reach whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Two halves.
    Split,
    /// One half is not heard by the other, but hears it.
    OneWay,
    /// Everybody reaches two neighbours only.
    Ring,
    /// One host reaches nobody.
    Isolated,
    /// Two halves, for a second at a time.
    Flapping,
}

impl Shape {
    const ALL: [Self; 5] = [Self::Split, Self::OneWay, Self::Ring, Self::Isolated, Self::Flapping];

    /// Draws which directed pairs are cut.
    fn draw(self, hosts: usize, lot: &mut Lot) -> BTreeSet<(usize, usize)> {
        let side: Vec<bool> = (0..hosts).map(|_| lot.chance(500)).collect();
        let lonely = lot.index(hosts);
        let pairs = (0..hosts).flat_map(|a| (0..hosts).map(move |b| (a, b))).filter(|(a, b)| a != b);
        let is_cut = |&(a, b): &(usize, usize)| match self {
            Self::Split | Self::Flapping => side[a] != side[b],
            Self::OneWay => side[a] && !side[b],
            Self::Ring => (a + 1) % hosts != b && (b + 1) % hosts != a,
            Self::Isolated => a == lonely || b == lonely,
        };
        pairs.filter(is_cut).collect()
    }
}

/// Plans everything that goes wrong at a time of its own; `hosts` counts clones, too.
pub(crate) fn plan(options: &Options, hosts: usize) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (_, fault) in Fault::ALL {
        let mut lot = Lot::of(options.seed, fault.name());
        if options.has(fault) {
            plan_kind(options, fault, hosts, &mut lot, &mut planned);
        }
    }
    planned.sort_by_key(|planned| planned.at_ms);
    planned
}

fn plan_kind(options: &Options, fault: Fault, hosts: usize, lot: &mut Lot, planned: &mut Vec<Planned>) {
    let rate = options.rate(fault);
    let mut add = |at_ms, mishap| planned.push(Planned { at_ms, mishap });
    let afflicted = |lot: &mut Lot| (0..options.nodes).filter(|_| lot.chance(rate)).collect::<Vec<_>>();
    match fault {
        Fault::Crash => {
            for node in afflicted(lot) {
                for _ in 0..lot.between(1, 4) {
                    let (at, down_ms) = (lot.between(3_000, FAULTS_MS), lot.between(500, 20_000));
                    add(at, Mishap::Crash { node, down_ms });
                }
            }
        }
        Fault::PowerCut => {
            for node in afflicted(lot) {
                let (at, down_ms) = (lot.between(3_000, FAULTS_MS), lot.between(2_000, 20_000));
                add(at, Mishap::PowerCut { node, down_ms });
            }
        }
        Fault::Pause => {
            for node in afflicted(lot) {
                let (at, ms) = (lot.between(3_000, FAULTS_MS - 20_000), lot.between(500, 20_000));
                add(at, Mishap::Pause { node, ms });
            }
        }
        Fault::Suspend => {
            for node in afflicted(lot) {
                let clock = [SleepingClock::Stands, SleepingClock::Jumps][lot.index(2)];
                let (at, ms) = (lot.between(3_000, FAULTS_MS - 30_000), lot.between(1_000, 30_000));
                add(at, Mishap::Suspend { node, ms, clock });
            }
        }
        Fault::DiskFull => {
            for node in afflicted(lot) {
                let (at, ms) = (lot.between(3_000, FAULTS_MS - 20_000), lot.between(1_000, 20_000));
                add(at, Mishap::DiskFull { node, ms });
            }
        }
        Fault::ClockJump => {
            for node in afflicted(lot) {
                let by_ms = lot.between(0, 2 * 86_400_000) as i64 - 86_400_000;
                add(lot.between(3_000, FAULTS_MS), Mishap::ClockJump { node, by_ms });
            }
        }
        Fault::Backup => {
            for node in afflicted(lot) {
                let extent = [BackupExtent::Database, BackupExtent::Machine][lot.index(2)];
                let taken = lot.between(2_000, FAULTS_MS / 2);
                let (restored, down_ms) = (lot.between(taken + 1, FAULTS_MS), lot.between(500, 10_000));
                add(taken, Mishap::BackupTaken { node, extent });
                add(restored, Mishap::BackupRestored { node, extent, down_ms });
            }
        }
        Fault::CloneKey => {
            for clone in options.nodes..hosts {
                let original = lot.index(options.nodes);
                let begins = lot.between(8_000, FAULTS_MS / 2);
                add(begins, Mishap::CloneBegins { original, clone });
                add(lot.between(begins + 1, FAULTS_MS), Mishap::CloneEnds { clone });
            }
        }
        Fault::Clog => {
            for _ in 0..rate {
                let (from, to) = (lot.index(hosts), lot.index(hosts));
                let (at, ms) = (lot.between(2_000, FAULTS_MS - 15_000), lot.between(1_000, 15_000));
                add(at, Mishap::Clog { from, to, ms });
            }
        }
        Fault::Partition => {
            for _ in 0..rate {
                let shape = Shape::ALL[lot.index(Shape::ALL.len())];
                let cut = shape.draw(hosts, lot);
                let (at, ms) = (lot.between(2_000, FAULTS_MS - 5_000), lot.between(1_000, 40_000));
                add(at, Mishap::Partition { cut, shape, ms: ms.min(FAULTS_MS - at) });
            }
        }
        Fault::Takeover => {
            for _ in 0..rate {
                let node = lot.index(options.nodes);
                add(lot.between(10_000, FAULTS_MS), Mishap::TakeOver { node, pick: lot.draw() });
            }
        }
        Fault::Ambush => {
            for _ in 0..rate {
                add(lot.between(3_000, FAULTS_MS - 10_000), Mishap::Ambush(Ambush::draw(lot)));
            }
        }
        Fault::Revoked => {
            for _ in 0..rate {
                let node = lot.index(options.nodes);
                add(lot.between(12_000, FAULTS_MS - 15_000), Mishap::Revoke { node, pick: lot.draw() });
            }
        }
        // These have no time of their own: they are drawn where a packet, a write or a step meets them.
        Fault::Loss
        | Fault::Repeat
        | Fault::Late
        | Fault::TornWrite
        | Fault::SlowDisk
        | Fault::ClockSkew
        | Fault::OldAgent
        | Fault::Hostile
        | Fault::StepFails
        | Fault::GuestEnds
        | Fault::CutBuild
        | Fault::LostDisk => {}
    }
}
