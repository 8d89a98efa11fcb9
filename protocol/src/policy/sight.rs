//! What a policy sees: the project in short, the hosts, gauges, and what was decided last.

use std::collections::BTreeMap;

use super::Decision;
use crate::id::Name;

/// What a policy sees at one moment. All times are of one clock, in milliseconds, that doesn't go back.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// The time.
    pub now_ms: u64,
    /// The VM that decides.
    pub vm: Name,
    /// The service host that it runs on.
    pub host: Name,
    /// How many of each class the project's head has.
    pub classes: BTreeMap<Name, u32>,
    /// The VM's further disks.
    pub volumes: u32,
    /// The hosts that it may be on, its own among them.
    pub hosts: Vec<HostSeen>,
    /// How long it has been in a cloud today, in milliseconds, as hosts count it.
    pub cloud_spent_ms: u64,
    /// Named numbers, each with its short history, the newest last.
    pub gauges: BTreeMap<Name, Vec<Sample>>,
    /// What the other machines of the project measure, by machine, as far as the service host has heard.
    pub machines: Machines,
    /// What this policy decided last, the newest last.
    pub decided: Vec<Decided>,
}

/// Gauges by machine and name, each with a short history, the newest value last.
pub type Machines = BTreeMap<Name, BTreeMap<Name, Vec<Sample>>>;

/// A service host, as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSeen {
    /// Its name.
    pub name: Name,
    /// Where it is: hosts of one site are equally near to the site's clients.
    pub site: Name,
    /// Whose it is.
    pub tenure: Tenure,
    /// How long a message takes there and back, in milliseconds; none where it can't be reached now.
    pub round_trip_ms: Option<u32>,
}

/// Whether being on a host is paid for by the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// It is one of the mesh's own.
    Owned,
    /// It is rented.
    Cloud,
}

/// One value of a gauge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was measured, in milliseconds.
    pub at_ms: u64,
    /// What was measured; what is not finite is left out.
    pub value: f64,
}

/// Something that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What.
    pub decision: Decision,
}

impl Sight {
    /// Returns the host that the VM is on, as it is seen.
    pub(super) fn own_host(&self) -> Option<&HostSeen> {
        self.hosts.iter().find(|host| host.name == self.host)
    }

    /// Returns the nearest other host that can be reached and is one of those that are meant; ties by name.
    pub(super) fn nearest(&self, is_meant: impl Fn(&HostSeen) -> bool) -> Option<&HostSeen> {
        let others = self.hosts.iter().filter(|host| host.name != self.host && is_meant(host));
        let reached = others.filter_map(|host| Some((host.round_trip_ms?, &host.name, host)));
        reached.min_by_key(|(round_trip_ms, name, _)| (*round_trip_ms, *name)).map(|(_, _, host)| host)
    }
}
