//! `proximity`: the VM goes to where most of its clients are, once they are many and become more.
//!
//! Two sites can't both have more than 60 % of the clients. So between going and coming back a fifth of all clients
//! have to change sides, and noise alone doesn't do that.

use std::collections::BTreeSet;

use super::{Decision, Memory, Sight, Verdict, Window};
use crate::id::Name;

/// How much of the window must be filled before anything is judged by it.
const FILLED: f64 = 0.9;

/// The settings of `proximity`.
#[derive(Clone, Debug, PartialEq)]
pub struct Proximity {
    /// The gauges that count clients are called this, a dot and the site's name: `clients.oslo`.
    pub gauge: Name,
    /// Which part of all clients a site must have more than.
    pub share: f64,
    /// Fewer clients than these in all decide nothing.
    pub clients_min: f64,
    /// How often to look, in milliseconds.
    pub every_ms: u64,
    /// Over how long the trend is read, in milliseconds.
    pub window_ms: u64,
    /// How long nothing is decided after a decision, in milliseconds.
    pub grace_ms: u64,
    /// Whether it gets a further disk where the site is trusted with one.
    pub backup: Option<Backup>,
}

/// When the VM wants a further disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The hosts that are trusted with one.
    pub hosts: BTreeSet<Name>,
    /// With how many it is content.
    pub volumes: u32,
}

/// How the clients of one site develop.
struct Site<'m> {
    name: &'m str,
    /// How many there are, by the line through the window where that is full.
    clients: f64,
    /// How many more there are after a minute; none while the window fills.
    per_minute: Option<f64>,
}

impl Default for Proximity {
    fn default() -> Self {
        Self {
            gauge: Name::parse("clients").expect("a literal of letters only"),
            share: 0.6,
            clients_min: 10.0,
            every_ms: 60_000,
            window_ms: 15 * 60_000,
            grace_ms: 15 * 60_000,
            backup: None,
        }
    }
}

impl Proximity {
    pub(super) fn judge(&self, sight: &Sight, memory: &Memory) -> Verdict {
        let Some(own) = sight.own_host() else {
            return Verdict::stay(format!("where {} is can't be seen", sight.host));
        };
        let moving = self.moving(sight, memory, &own.site);
        let wants = self
            .backup
            .as_ref()
            .filter(|backup| backup.hosts.contains(&sight.host) && sight.volumes < backup.volumes);
        match (moving, wants) {
            (verdict, None) => verdict,
            (verdict, Some(_)) if verdict.decision != Decision::Stay => verdict,
            (_, Some(backup)) => Verdict {
                decision: Decision::AddVolume,
                reason: format!(
                    "{} is trusted with a backup: {} of {} volumes are there",
                    sight.host, sight.volumes, backup.volumes
                ),
            },
        }
    }

    fn moving(&self, sight: &Sight, memory: &Memory, own_site: &Name) -> Verdict {
        let sites = self.sites(memory);
        let all: f64 = sites.iter().map(|site| site.clients).sum();
        let minutes = self.window_ms / 60_000;
        if all < self.clients_min {
            return Verdict::stay(format!(
                "there are {all:.0} clients, and fewer than {} decide nothing",
                self.clients_min
            ));
        }
        let Some(most) = sites.iter().max_by(|a, b| a.clients.total_cmp(&b.clients)) else {
            return Verdict::stay("no site has clients".to_owned());
        };
        // With a minimum of 0 clients it may be no number, which is not more than any share.
        let share = most.clients / all;
        let words = format!("{} has {:.0} % of {all:.0} clients", most.name, share * 100.0);
        let Some(per_minute) = most.per_minute else {
            return Verdict::stay(format!("{words}, and is not known for {minutes} minutes yet"));
        };
        let words = format!("{words}, {per_minute:+.2} a minute over {minutes} minutes");
        if most.name == own_site.as_str() {
            return Verdict::stay(format!("{words}, and the VM is there"));
        }
        let is_many = share > self.share;
        let is_rising = per_minute > 0.0;
        if !is_many || !is_rising {
            let percent = self.share * 100.0;
            return Verdict::stay(format!("{words}; to go it takes more than {percent:.0} % and a rise"));
        }
        match sight.nearest(|host| host.site.as_str() == most.name) {
            Some(host) => Verdict { decision: Decision::Move { to: host.name.clone() }, reason: words },
            None => Verdict::stay(format!("{words}, but no host there can be reached that it may move to")),
        }
    }

    /// Returns the sites that clients are counted for, by their names.
    fn sites<'m>(&self, memory: &'m Memory) -> Vec<Site<'m>> {
        let filled_ms = (self.window_ms as f64 * FILLED) as u64;
        let prefix = format!("{}.", self.gauge);
        let site = |(name, window): (&'m Name, &'m Window)| {
            let name = name.as_str().strip_prefix(prefix.as_str())?;
            let newest = window.newest()?.value;
            let line = window.line().filter(|_| window.span_ms() >= filled_ms);
            let clients = line.map_or(newest, |line| line.newest).max(0.0);
            Some(Site { name, clients, per_minute: line.map(|line| line.per_s * 60.0) })
        };
        memory.gauges().filter_map(site).collect()
    }
}
