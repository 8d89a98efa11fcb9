//! What the built-in policies make of the published loads: the same functions that VMs ask, over simulated servers,
//! sites and jobs.
//!
//! No mesh is simulated here: a decision is carried out after the time that this takes, and never refused.

mod jobs;
mod near;
mod profile;
mod web;

use std::io::Write;
use std::path::Path;

use mln_protocol::id::Name;

/// How much of the connections must be served in each run.
const SERVED_MIN: f64 = 0.99;

/// Runs all three, prints what came of it, and says whether it is as good as it has to be.
pub(crate) fn run(out: &mut impl Write, seeds: u64, plots: Option<&Path>) -> std::io::Result<bool> {
    let web = web::run(out, seeds)?;
    writeln!(out)?;
    let near = near::run(out, seeds)?;
    writeln!(out)?;
    let jobs = jobs::run(out)?;
    if let Some(folder) = plots {
        std::fs::create_dir_all(folder)?;
        for (name, chart) in web.charts.iter().chain(&near.charts) {
            std::fs::write(folder.join(name), chart.to_svg())?;
        }
    }
    Ok(web.least_served >= SERVED_MIN && near.holds && jobs)
}

/// A name that is a literal.
fn name(text: &str) -> Name {
    Name::parse(text).expect("a literal that is a name")
}
