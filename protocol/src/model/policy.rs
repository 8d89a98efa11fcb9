//! What a VM may decide for itself, as its project says.

use std::collections::BTreeSet;

use super::project::HostAddress;
use super::size::DiskBytes;
use crate::id::Name;

/// What a VM counts among, and what it may decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mandate {
    /// The superclasses that it inherits from, however far, and the enumeration that makes it.
    pub classes: BTreeSet<Name>,
    /// Its policies, its own and those that it inherits, in the order of the file.
    pub policies: Vec<Policy>,
}

/// What a VM may decide for itself: a block `policy NAME { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Name,
    /// The superclass or host whose block has it first: all VMs that have it from there share what it allows.
    pub origin: Name,
    /// What decides; none where that is up to what runs in the guest anyway.
    pub decider: Option<Decider>,
    /// What a built-in policy reads, and how, where the file says it.
    pub tuning: Tuning,
    /// How often it is asked, in milliseconds.
    pub every_ms: u64,
    /// How long after a decision nothing is decided, in milliseconds.
    pub grace_ms: u64,
    /// How far it goes; each for itself.
    pub may: Vec<May>,
}

/// What a built-in policy reads, and how; none of each is what that has of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// The gauge.
    pub gauge: Option<Name>,
    /// How much of it one of a class is to have, in thousandths.
    pub quota_milli: Option<u64>,
    /// How much of the past counts, in milliseconds.
    pub window_ms: Option<u64>,
}

/// What decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// A program in the guest: its absolute path, and its arguments.
    Run(Vec<String>),
    /// A policy that comes with the program.
    Builtin(BuiltinName),
}

/// A policy that comes with the program; what it does is in [`crate::policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuiltinName {
    /// As many of a class as its load needs.
    Scale,
    /// To where most of the clients are.
    Proximity,
    /// To the cloud while many jobs wait.
    Queue,
}

/// One thing that a VM may do by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    /// Move itself to these service hosts and groups.
    Move(Vec<HostAddress>),
    /// Have more or fewer of a class.
    Scale {
        /// The superclass or enumeration.
        class: Name,
        /// How many there are at least.
        least: u32,
        /// How many there are at most; not fewer than that.
        most: u32,
    },
    /// Be in a cloud for so many hours a day.
    Cloud {
        /// How many, 1 to 24.
        hours_per_day: u32,
    },
    /// Have further disks.
    Volume {
        /// How many.
        count: u32,
        /// How large each may be.
        size: DiskBytes,
    },
}

impl BuiltinName {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Scale, Self::Proximity, Self::Queue];

    /// Returns its word in the project language.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Proximity => "proximity",
            Self::Queue => "queue",
        }
    }
}

impl std::fmt::Display for May {
    /// Writes it as a project has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Move(hosts) => {
                f.write_str("may move")?;
                hosts.iter().try_for_each(|host| write!(f, " {host}"))
            }
            Self::Scale { class, least, most } => write!(f, "may scale {class} {least}..{most}"),
            Self::Cloud { hours_per_day } => write!(f, "may cloud {hours_per_day}h/day"),
            Self::Volume { count, size } => write!(f, "may volume {count} {size}"),
        }
    }
}
