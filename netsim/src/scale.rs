//! How far and how fast: a revision's way to every host over wide-area links, and what an idle mesh costs.

use std::io::Write;
use std::path::Path;

use crate::measure::Measured;
use crate::models::{self, Spread};
use crate::options::{LOSS_PER_MILLE, Options};
use crate::plot::{Axis, Chart, Series};
use crate::world::World;

/// Within which a revision should be known to 99 % of the hosts and to all of them, in milliseconds.
const MOST_MS: u64 = 3_000;
const ALL_MS: u64 = 8_000;

/// What an idle host should send at most, in bytes per second.
const IDLE_BYTES: f64 = 2048.0;

/// What was measured for one number of hosts, and the models beside it.
struct Row {
    measured: Measured,
    models: Vec<Spread>,
}

/// Says what was measured for each of these numbers of hosts; false where one misses what it should reach.
pub(crate) fn run(
    out: &mut impl Write,
    sizes: &[usize],
    seed: u64,
    plots: Option<&Path>,
) -> std::io::Result<bool> {
    let mut rows = Vec::new();
    for &nodes in sizes {
        let measured = World::new(Options::scale(seed, nodes)).measure();
        let models = models::spreads(measured.nodes, seed, measured.status_bytes);
        report(out, &measured, &models, seed)?;
        rows.push(Row { measured, models });
    }
    if let Some(folder) = plots {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("revision.svg"), revision_chart(&rows).to_svg())?;
        std::fs::write(folder.join("idle.svg"), idle_chart(&rows).to_svg())?;
    }
    Ok(rows.iter().all(|row| holds(&row.measured)))
}

fn report(out: &mut impl Write, measured: &Measured, models: &[Spread], seed: u64) -> std::io::Result<()> {
    let nodes = measured.nodes;
    writeln!(
        out,
        "{nodes} hosts in ten regions, {LOSS_PER_MILLE} of 1000 packets lost, {:.1} links pushed over, seed {seed}",
        measured.mesh_degree
    )?;
    writeln!(out, "{:22} {:>12} {:>12} {:>14}", "", "99 % after", "all after", "copies a host")?;
    line(out, "this mesh", &measured.reached_ms, nodes, measured.copies)?;
    for model in models {
        line(out, model.name, &model.reached_ms, nodes, model.copies)?;
    }
    writeln!(
        out,
        "idle: {:.0} bytes and {:.2} packets per host and second over {:.0} s",
        measured.idle.bytes, measured.idle.packets, measured.idle_s
    )?;
    writeln!(
        out,
        "change: {:.0} bytes and {:.2} packets per host and second in the 10 s after it",
        measured.change.bytes, measured.change.packets
    )?;
    match measured.returned {
        Some((ms, sum)) => writeln!(
            out,
            "after a day off: {} records in {:.2} s, with {} KiB in {} packets",
            measured.records,
            ms as f64 / 1000.0,
            sum.bytes / 1024,
            sum.packets
        )?,
        None => writeln!(out, "after a day off: not all of {} records came back", measured.records)?,
    }
    let rate = measured.events as f64 / measured.took_s;
    writeln!(out, "{} events in {:.1} s, {rate:.0} a second", measured.events, measured.took_s)?;
    writeln!(out, "{}", memory(nodes))?;
    writeln!(out, "trace {}", measured.trace)?;
    for violation in &measured.violations {
        writeln!(out, "violation: {violation}")?;
    }
    out.flush()
}

fn holds(measured: &Measured) -> bool {
    let within =
        |count: usize, ms: u64| measured.reached_ms.get(count - 1).is_some_and(|reached| *reached < ms);
    within(most(measured.nodes), MOST_MS)
        && within(measured.nodes, ALL_MS)
        && measured.idle.bytes <= IDLE_BYTES
        && measured.returned.is_some()
        && measured.violations.is_empty()
}

fn most(nodes: usize) -> usize {
    (nodes * 99).div_ceil(100)
}

fn line(out: &mut impl Write, name: &str, reached: &[u64], nodes: usize, copies: u64) -> std::io::Result<()> {
    let seconds = |count: usize| match reached.get(count - 1) {
        Some(ms) => format!("{:.2} s", *ms as f64 / 1000.0),
        None => "never".to_owned(),
    };
    let copies = copies as f64 / nodes as f64;
    writeln!(out, "{name:22} {:>12} {:>12} {copies:>14.1}", seconds(most(nodes)), seconds(nodes))
}

fn revision_chart(rows: &[Row]) -> Chart {
    let at = |reached: &[u64], count: usize| reached.get(count - 1).map(|ms| *ms as f64 / 1000.0);
    let series = |name: &str, value: &dyn Fn(&Row) -> Option<f64>| Series {
        name: name.to_owned(),
        points: rows.iter().filter_map(|row| Some((row.measured.nodes as f64, value(row)?))).collect(),
    };
    let model = |index: usize| {
        move |row: &Row| {
            let model = row.models.get(index)?;
            at(&model.reached_ms, most(row.measured.nodes))
        }
    };
    Chart {
        title: "Until a revision is known, 1 % of packets lost".to_owned(),
        x: Axis { name: "hosts".to_owned(), is_logarithmic: true },
        y: Axis { name: "seconds".to_owned(), is_logarithmic: true },
        series: vec![
            series("MLN, 99 % of hosts", &|row| at(&row.measured.reached_ms, most(row.measured.nodes))),
            series("MLN, all hosts", &|row| at(&row.measured.reached_ms, row.measured.nodes)),
            series("flooding, 99 % (model)", &model(0)),
            series("SWIM's pings alone, 99 % (model)", &model(1)),
        ],
    }
}

fn idle_chart(rows: &[Row]) -> Chart {
    let series = |name: &str, value: &dyn Fn(&Row) -> Option<f64>| Series {
        name: name.to_owned(),
        points: rows.iter().filter_map(|row| Some((row.measured.nodes as f64, value(row)?))).collect(),
    };
    let model = |index: usize| move |row: &Row| row.models.get(index).map(|model| model.idle_bytes);
    Chart {
        title: "What an idle host sends".to_owned(),
        x: Axis { name: "hosts".to_owned(), is_logarithmic: true },
        y: Axis { name: "bytes per second".to_owned(), is_logarithmic: true },
        series: vec![
            series("MLN", &|row| Some(row.measured.idle.bytes)),
            series("MLN, in the 10 s after a change", &|row| Some(row.measured.change.bytes)),
            series("each status every 30 s by flooding (computed)", &model(0)),
            series("each status every 30 s on SWIM's pings (computed)", &model(1)),
        ],
    }
}

/// Returns the process's largest size so far, as the kernel tells it.
fn memory(nodes: usize) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    match kib {
        Some(kib) => {
            format!("{} MiB in all, {:.2} MiB a host", kib / 1024, kib as f64 / 1024.0 / nodes as f64)
        }
        None => "its memory is not known on this system".to_owned(),
    }
}
