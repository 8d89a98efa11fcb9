//! Web servers behind a balancer that adds and removes them by `scale`.
//!
//! A server is one process without fork: it reads and sorts a page of 4,096 bytes, and lets itself do no more than 30 a
//! second. What it hasn't got to waits in its backlog; where all backlogs are full a connection is lost, and so it is
//! if it takes longer than its client waits. The work is done all the same.

use std::collections::VecDeque;
use std::io::Write;

use mln_protocol::policy::{Bounds, Builtin, Decision, Memory, Sample, Scale, ScaleRule, Sight};

use super::profile::{
    Arrivals, BURST_ANYWHERE_S, BURST_LASTS_S, BURST_NEAR_S, CONNECTIONS, RUN_S, SURGE_UNTIL_S,
};
use super::{SERVED_MIN, name};
use crate::lot::Lot;
use crate::plot::{Axis, Chart, Series};

/// How long a page takes, in microseconds: 30 a second.
const PAGE_US: u64 = 33_333;
/// How many connections wait at a server at most, the one that it works at included: what Linux let a process have then.
const BACKLOG: usize = 128;
/// How long a client waits, in microseconds.
const TIMEOUT_US: u64 = 5_000_000;
/// By how many thousandths a start takes longer or shorter.
const BOOT_OFF: u64 = 100;
/// How long the parts are of which a chart is made, in seconds.
const PART_S: u64 = 5;
const US: u64 = 1_000_000;

/// A rule, and how long servers take until they serve.
struct Contender {
    name: &'static str,
    rule: ScaleRule,
    /// From the decision until a server serves, one and several at once, in milliseconds.
    boot_ms: [u64; 2],
}

/// What is there for comparison, and last what VMs have.
fn contenders() -> [Contender; 3] {
    [
        Contender { name: "published, as then", rule: ScaleRule::Mean, boot_ms: [53_500, 61_000] },
        Contender { name: "published rule", rule: ScaleRule::Mean, boot_ms: [5_000, 5_750] },
        Contender { name: "ours", rule: ScaleRule::Ahead(Default::default()), boot_ms: [5_000, 5_750] },
    ]
}

/// What came of it for whoever judges and draws it.
pub(super) struct Web {
    /// What part of the connections was served in the worst run, by our rule.
    pub(super) least_served: f64,
    pub(super) charts: Vec<(&'static str, Chart)>,
}

/// One run.
#[derive(Default)]
struct Run {
    served: usize,
    /// How many came and how many were lost, in the first surge and in the burst.
    surge: (usize, usize),
    burst: (usize, usize),
    servers_most: usize,
    decisions: usize,
    server_s: u64,
    /// For each part: how many came, how many were served, and how many servers there were.
    parts: Vec<[u64; 3]>,
}

/// A server.
struct Server {
    /// From when it serves, in microseconds.
    from_us: u64,
    /// When it will have done each of what waits, in microseconds.
    done_us: VecDeque<u64>,
}

/// Runs each rule with each seed, and prints what came of it.
pub(super) fn run(out: &mut impl Write, seeds: u64) -> std::io::Result<Web> {
    writeln!(out, "scale: {CONNECTIONS} connections in 18 minutes, {seeds} seeds")?;
    writeln!(
        out,
        "{:22} {:>8} {:>8} {:>12} {:>10} {:>8} {:>10} {:>15}",
        "", "served", "least", "first surge", "burst", "servers", "decisions", "server minutes"
    )?;
    let arrivals: Vec<Arrivals> = (1..=seeds).map(|seed| Arrivals::draw(seed, BURST_NEAR_S)).collect();
    let (mut least_served, mut drawn) = (0.0, Vec::new());
    for contender in contenders() {
        let runs: Vec<Run> =
            arrivals.iter().zip(1..).map(|(arrivals, seed)| contender.serve(arrivals, seed)).collect();
        least_served = report(out, contender.name, &runs)?;
        drawn.extend(runs.into_iter().next().map(|run| (contender.name, run.parts)));
    }
    anywhere(out, seeds * 10)?;
    Ok(Web { least_served, charts: charts(&drawn) })
}

/// Says how it is when the burst comes at any time, also right after servers were given back.
fn anywhere(out: &mut impl Write, seeds: u64) -> std::io::Result<()> {
    let [.., ours] = contenders();
    let runs = (1..=seeds).map(|seed| ours.serve(&Arrivals::draw(seed, BURST_ANYWHERE_S), seed).share());
    let mut shares: Vec<f64> = runs.collect();
    shares.sort_unstable_by(f64::total_cmp);
    let met = shares.iter().filter(|share| **share >= SERVED_MIN).count();
    let least = shares.first().copied().unwrap_or(0.0) * 100.0;
    let (from, until) = (BURST_ANYWHERE_S.start / 60, BURST_ANYWHERE_S.end / 60);
    writeln!(
        out,
        "ours, with the burst anywhere from minute {from} to {until}: 99 % in {met} of {seeds} runs, least {least:.2} %"
    )
}

/// Prints a row, and returns what part was served in the worst run.
fn report(out: &mut impl Write, named: &str, runs: &[Run]) -> std::io::Result<f64> {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mean = |value: &dyn Fn(&Run) -> f64| runs.iter().map(value).sum::<f64>() / runs.len().max(1) as f64;
    let share = Run::share;
    let lost = |(came, lost): (usize, usize)| lost as f64 / came.max(1) as f64;
    let least = runs.iter().map(share).fold(1.0, f64::min);
    writeln!(
        out,
        "{named:22} {:>8} {:>8} {:>12} {:>10} {:>8} {:>10.1} {:>15.1}",
        percent(mean(&share)),
        percent(least),
        format!("-{}", percent(mean(&|run| lost(run.surge)))),
        format!("-{}", percent(mean(&|run| lost(run.burst)))),
        runs.iter().map(|run| run.servers_most).max().unwrap_or(0),
        mean(&|run| run.decisions as f64),
        mean(&|run| run.server_s as f64 / 60.0)
    )?;
    Ok(least)
}

impl Contender {
    fn serve(&self, arrivals: &Arrivals, seed: u64) -> Run {
        let mut lot = Lot::of(seed, "web");
        let class = name("webserver");
        let settings = Scale::new(class.clone(), Bounds { least: 1, most: 7 }, name("connections"));
        let policy = Builtin::Scale(Scale { rule: self.rule, ..settings });
        let every_us = policy.every_ms() * 1000;
        let mut run = Run { parts: vec![[0; 3]; (RUN_S / PART_S) as usize], ..Run::default() };
        let mut servers = vec![Server { from_us: 0, done_us: VecDeque::new() }];
        let (mut memory, mut came) = (Memory::default(), 0);
        let mut tick_us = lot.between(1, every_us);
        let mut count_us = 0;
        for &at_us in &arrivals.at_us {
            while tick_us <= at_us {
                count_servers(&mut run, &servers, &mut count_us, tick_us);
                let value = f64::from(came) / (every_us / US) as f64;
                came = 0;
                let seen = sight(tick_us / 1000, servers.len() as u32, value);
                let (verdict, next) = policy.decide(&seen, memory);
                memory = next;
                if let Decision::Scale { to, .. } = verdict.decision {
                    run.decisions += 1;
                    self.carry_out(&mut servers, to as usize, tick_us, &mut lot);
                }
                tick_us += every_us;
            }
            came += 1;
            let is_served = accept(&mut servers, at_us);
            run.count(at_us, arrivals.burst_s, is_served);
        }
        count_servers(&mut run, &servers, &mut count_us, RUN_S * US);
        run
    }

    /// Starts servers, or takes away those that came last: these do what waits for them, and get nothing more.
    fn carry_out(&self, servers: &mut Vec<Server>, to: usize, at_us: u64, lot: &mut Lot) {
        servers.truncate(to);
        let boot_ms = self.boot_ms[usize::from(to > servers.len() + 1)];
        while servers.len() < to {
            let off = lot.between(1000 - BOOT_OFF, 1000 + BOOT_OFF + 1);
            servers.push(Server { from_us: at_us + boot_ms * off, done_us: VecDeque::new() });
        }
    }
}

/// Gives a connection to the server with the shortest backlog; whether it is answered while its client waits.
fn accept(servers: &mut [Server], at_us: u64) -> bool {
    for server in servers.iter_mut() {
        while server.done_us.front().is_some_and(|done_us| *done_us <= at_us) {
            server.done_us.pop_front();
        }
    }
    let serving = servers.iter_mut().filter(|server| server.from_us <= at_us);
    let free = serving.min_by_key(|server| server.done_us.len());
    let Some(server) = free.filter(|server| server.done_us.len() < BACKLOG) else { return false };
    let done_us = server.done_us.back().copied().unwrap_or(at_us) + PAGE_US;
    server.done_us.push_back(done_us);
    done_us - at_us <= TIMEOUT_US
}

/// Adds up the servers that there are in each second.
fn count_servers(run: &mut Run, servers: &[Server], from_us: &mut u64, until_us: u64) {
    while *from_us < until_us {
        let serving = servers.iter().filter(|server| server.from_us <= *from_us).count();
        run.servers_most = run.servers_most.max(serving);
        // What boots is paid for, too.
        run.server_s += servers.len() as u64;
        let part = &mut run.parts[(*from_us / (PART_S * US)) as usize];
        part[2] = part[2].max(serving as u64);
        *from_us += US;
    }
}

impl Run {
    /// Returns what part of the connections was served.
    fn share(&self) -> f64 {
        self.served as f64 / CONNECTIONS as f64
    }

    fn count(&mut self, at_us: u64, burst_s: u64, is_served: bool) {
        let at_s = at_us / US;
        let is_lost = usize::from(!is_served);
        self.served += usize::from(is_served);
        let part = &mut self.parts[(at_s / PART_S) as usize];
        part[0] += 1;
        part[1] += u64::from(is_served);
        if at_s < SURGE_UNTIL_S {
            self.surge = (self.surge.0 + 1, self.surge.1 + is_lost);
        }
        if (burst_s..burst_s + BURST_LASTS_S).contains(&at_s) {
            self.burst = (self.burst.0 + 1, self.burst.1 + is_lost);
        }
    }
}

fn sight(now_ms: u64, servers: u32, connections: f64) -> Sight {
    Sight {
        now_ms,
        vm: name("balancer"),
        host: name("oslo"),
        classes: [(name("webserver"), servers)].into(),
        volumes: 0,
        hosts: Vec::new(),
        cloud_spent_ms: 0,
        gauges: [(name("connections"), vec![Sample { at_ms: now_ms, value: connections }])].into(),
        machines: Default::default(),
        decided: Vec::new(),
    }
}

/// One run by all rules: what servers could do, and what they did.
fn charts(drawn: &[(&str, Vec<[u64; 3]>)]) -> Vec<(&'static str, Chart)> {
    let line = |parts: &[[u64; 3]], value: &dyn Fn(&[u64; 3]) -> f64| {
        let minute = |at: usize| (at as u64 * PART_S) as f64 / 60.0;
        parts.iter().enumerate().map(|(at, part)| (minute(at), value(part))).collect::<Vec<_>>()
    };
    let chart = |title: &str, of_each: &dyn Fn(&str) -> String, value: &dyn Fn(&[u64; 3]) -> f64| {
        let load = drawn.first().map(|(_, parts)| Series {
            name: "connections that come".to_owned(),
            points: line(parts, &|part| part[0] as f64 / PART_S as f64),
        });
        let each =
            drawn.iter().map(|(named, parts)| Series { name: of_each(named), points: line(parts, value) });
        Chart {
            title: title.to_owned(),
            x: Axis { name: "minutes".to_owned(), is_logarithmic: false },
            y: Axis { name: "per second".to_owned(), is_logarithmic: false },
            series: load.into_iter().chain(each).collect(),
        }
    };
    let could = chart("What the servers can do", &|named| format!("30 × servers, {named}"), &|part| {
        part[2] as f64 * US as f64 / PAGE_US as f64
    });
    let did =
        chart("What is served", &|named| format!("served, {named}"), &|part| part[1] as f64 / PART_S as f64);
    vec![("policy-scale-servers.svg", could), ("policy-scale-served.svg", did)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_serves_99_percent_where_the_published_rule_does_not() {
        let arrivals = Arrivals::draw(1, BURST_NEAR_S);
        let served =
            contenders().map(|contender| contender.serve(&arrivals, 1).served as f64 / CONNECTIONS as f64);
        assert!(served[0] < 0.91 && served[2] >= 0.99, "{served:?}");
    }

    #[test]
    fn a_server_does_30_a_second_and_what_waits_too_long_is_lost() {
        let mut servers = vec![Server { from_us: 0, done_us: VecDeque::new() }];
        // A hundred a second for ten seconds: what it does in that time, and what waits then.
        let served = (0..1000).filter(|at| accept(&mut servers, at * 10_000)).count();
        assert_eq!(served, 300 + BACKLOG - 1);
    }
}
