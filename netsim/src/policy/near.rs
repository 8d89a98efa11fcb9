//! A VM whose clients are awake at different times in different cities, and that follows them by `proximity`.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::io::Write;

use mln_protocol::policy::{Builtin, Decision, HostSeen, Memory, Proximity, Sample, Sight, Tenure};

use super::name;
use crate::lot::Lot;
use crate::plot::{Axis, Chart, Series};

const SITES: [&str; 3] = ["oslo", "berkeley", "tokyo"];
/// How many clients a site has at noon; at midnight it has none.
const CLIENTS: f64 = 200.0;
/// By how much the number of clients is off in each minute.
const NOISE: f64 = 0.1;
const DAYS: u64 = 7;
const DAY_MIN: u64 = 24 * 60;
/// How long a message takes there and back, in milliseconds: to clients of the same site, and of another one.
const NEAR_MS: u32 = 10;
const FAR_MS: u32 = 150;
/// More moves a day than one for each site and one more, or a stay of less than two hours, is flapping.
const STAY_MIN: u64 = 120;

/// What came of it for whoever judges and draws it.
pub(super) struct Near {
    /// Whether it went where most are, and nowhere else.
    pub(super) holds: bool,
    pub(super) charts: Vec<(&'static str, Chart)>,
}

/// One week.
struct Week {
    moves: usize,
    /// The shortest stay between two moves, in minutes.
    shortest_min: u64,
    /// What clients wait on average, in milliseconds: with the policy, with none, and if it were always where most are.
    round_trip_ms: [f64; 3],
    /// The first two days.
    drawn: Vec<Minute>,
}

/// A minute for the chart.
struct Minute {
    /// How many clients each site has.
    clients: Vec<f64>,
    /// At which site the VM is.
    at: usize,
}

/// Runs a week with two and with three sites for each seed.
pub(super) fn run(out: &mut impl Write, seeds: u64) -> std::io::Result<Near> {
    writeln!(out, "proximity: {DAYS} days, clients by a sine of a day at each site, {seeds} seeds")?;
    writeln!(
        out,
        "{:8} {:>12} {:>15} {:>20} {:>18} {:>16}",
        "sites", "moves a day", "shortest stay", "round trip, follows", "never moves", "always nearest"
    )?;
    let mut near = Near { holds: true, charts: Vec::new() };
    for (sites, file) in [(2, "policy-proximity-2.svg"), (3, "policy-proximity-3.svg")] {
        let weeks: Vec<Week> = (1..=seeds).map(|seed| week(sites, seed)).collect();
        let mean =
            |value: &dyn Fn(&Week) -> f64| weeks.iter().map(value).sum::<f64>() / weeks.len().max(1) as f64;
        let moves = mean(&|week| week.moves as f64 / DAYS as f64);
        let shortest_min = weeks.iter().map(|week| week.shortest_min).min().unwrap_or(0);
        let round_trip = |of: usize| format!("{:.1} ms", mean(&|week| week.round_trip_ms[of]));
        writeln!(
            out,
            "{sites:<8} {moves:>12.2} {:>15} {:>20} {:>18} {:>16}",
            format!("{shortest_min} min"),
            round_trip(0),
            round_trip(1),
            round_trip(2)
        )?;
        near.holds &= weeks.iter().all(|week| week.holds(sites));
        near.charts.extend(weeks.first().map(|week| (file, chart(sites, week))));
    }
    Ok(near)
}

/// Plays one week.
fn week(sites: usize, seed: u64) -> Week {
    let mut lot = Lot::of(seed, "clients");
    let policy = Builtin::Proximity(Proximity::default());
    let (mut at, mut memory) = (0, Memory::default());
    let (mut moves, mut waited, mut all) = (Vec::new(), [0.0; 3], 0.0);
    let mut drawn = Vec::new();
    for minute in 0..DAYS * DAY_MIN {
        let clients: Vec<f64> = (0..sites).map(|site| clients(site, sites, minute, &mut lot)).collect();
        let sum: f64 = clients.iter().sum();
        let most = clients.iter().copied().fold(0.0, f64::max);
        for (waited, near) in waited.iter_mut().zip([clients[at], clients[0], most]) {
            *waited += near * f64::from(NEAR_MS) + (sum - near) * f64::from(FAR_MS);
        }
        all += sum;
        if minute < 2 * DAY_MIN {
            drawn.push(Minute { clients: clients.clone(), at });
        }
        let (verdict, next) = policy.decide(&sight(minute * 60_000, at, &clients), memory);
        memory = next;
        if let Decision::Move { to } = verdict.decision {
            at = SITES.iter().position(|site| *site == to.as_str()).unwrap_or(at);
            moves.push(minute);
            // It boots there: what it remembered is gone.
            memory = Memory::default();
        }
    }
    let stays = moves.windows(2).map(|pair| pair[1] - pair[0]);
    let shortest_min = stays.min().unwrap_or(DAYS * DAY_MIN);
    Week { moves: moves.len(), shortest_min, round_trip_ms: waited.map(|waited| waited / all), drawn }
}

/// Returns how many clients a site has in a minute: days begin one after the other around the world.
fn clients(site: usize, sites: usize, minute: u64, lot: &mut Lot) -> f64 {
    let day = minute as f64 / DAY_MIN as f64 - site as f64 / sites as f64;
    let mean = CLIENTS * (1.0 + (TAU * day).sin()) / 2.0;
    (mean * (1.0 + NOISE * (2.0 * lot.share() - 1.0))).round()
}

fn sight(now_ms: u64, at: usize, clients: &[f64]) -> Sight {
    let gauge = |(site, value): (&&str, &f64)| {
        (name(&format!("clients.{site}")), vec![Sample { at_ms: now_ms, value: *value }])
    };
    let host = |site: &&str| HostSeen {
        name: name(site),
        site: name(site),
        tenure: Tenure::Owned,
        round_trip_ms: Some(if *site == SITES[at] { NEAR_MS } else { FAR_MS }),
    };
    Sight {
        now_ms,
        vm: name("wanderer"),
        host: name(SITES[at]),
        classes: BTreeMap::new(),
        volumes: 0,
        hosts: SITES.iter().take(clients.len()).map(host).collect(),
        cloud_spent_ms: 0,
        gauges: SITES.iter().zip(clients).map(gauge).collect(),
        machines: Default::default(),
        decided: Vec::new(),
    }
}

impl Week {
    fn holds(&self, sites: usize) -> bool {
        let [followed, fixed, _] = self.round_trip_ms;
        self.moves as u64 <= (sites as u64 + 1) * DAYS
            && self.moves as u64 + 2 >= 2 * DAYS
            && self.shortest_min >= STAY_MIN
            && followed < fixed
    }
}

fn chart(sites: usize, week: &Week) -> Chart {
    let hour = |minute: usize| minute as f64 / 60.0;
    // A point for ten minutes is enough.
    let line = |value: &dyn Fn(&Minute) -> f64| {
        week.drawn
            .iter()
            .enumerate()
            .step_by(10)
            .map(|(minute, drawn)| (hour(minute), value(drawn)))
            .collect::<Vec<_>>()
    };
    let site = |of: usize| Series {
        name: format!("clients in {}", SITES[of]),
        points: line(&|drawn| drawn.clients[of]),
    };
    let with =
        Series { name: "clients where the VM is".to_owned(), points: line(&|drawn| drawn.clients[drawn.at]) };
    Chart {
        title: format!("Clients of {sites} sites, and where the VM is"),
        x: Axis { name: "hours".to_owned(), is_logarithmic: false },
        y: Axis { name: "clients".to_owned(), is_logarithmic: false },
        series: (0..sites).map(site).chain([with]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_as_often_as_days_begin_and_never_flaps() {
        for sites in [2, 3] {
            let week = week(sites, 1);
            assert!(week.holds(sites), "{sites} sites: {} moves, {} min", week.moves, week.shortest_min);
        }
    }
}
