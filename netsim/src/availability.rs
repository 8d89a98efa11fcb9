//! How much still works when most hosts are off: operations in simulated worlds, by the share of hosts that are up.
//!
//! Every operation is one that the hosts that are up could do among themselves: a VM whose host is up is started and
//! stopped, projects are built on hosts that are up, and definitions change for a VM whose host is up. Beside it stands
//! the most that a system could do whose every change needs a majority of all hosts: all of it while more than half of
//! them are up, and nothing else.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use mln_protocol::id::{Name, ProjectId};
use mln_protocol::model::Project;
use mln_protocol::node::{Node, OpId, Operation, Outcome, RunOrder};
use mln_protocol::plan::StopLimit;
use mln_protocol::record::Consent;

use crate::lot::Lot;
use crate::options::Options;
use crate::overlay::{DIALLED, Overlay};
use crate::plot::{Axis, Chart, Series};
use crate::world::World;

/// How many hosts a world has, and how many of a hundred are up.
const HOSTS: usize = 100;
const UP: [usize; 14] = [100, 90, 80, 70, 60, 52, 50, 48, 40, 30, 20, 10, 5, 2];

/// How many projects there are before hosts are switched off, each with a VM on each of three hosts.
const PROJECTS: usize = 150;
const PROJECT_HOSTS: usize = 3;

/// How many new projects are built afterwards.
const BUILDS: usize = 20;

/// When what happens, in milliseconds; of two orders one comes this much after the other.
const BUILT_MS: u64 = 60_000;
const SETTLED_MS: u64 = 90_000;
const STOP_MS: u64 = 140_000;
const OVER_MS: u64 = 220_000;
const PACE_MS: u64 = 100;

/// What people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    StartStop,
    Build,
    Upgrade,
    Partial,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::StartStop, "start and stop"),
        (Self::Build, "build"),
        (Self::Upgrade, "upgrade"),
        (Self::Partial, "upgrade --partial"),
    ];
}

/// How often each kind was tried, and succeeded.
#[derive(Clone, Copy, Debug, Default)]
struct Tried([(u32, u32); Kind::ALL.len()]);

impl Tried {
    fn add(&mut self, kind: Kind, succeeded: bool) {
        let (tried, done) = &mut self.0[kind as usize];
        *tried += 1;
        *done += u32::from(succeeded);
    }

    fn share(&self, kind: Kind) -> Option<f64> {
        let (tried, done) = self.0[kind as usize];
        (tried > 0).then(|| f64::from(done) / f64::from(tried))
    }
}

/// A project that was built while all hosts were up.
struct Lab {
    id: ProjectId,
    project: Project,
    /// The host of each of its VMs.
    places: Vec<usize>,
}

/// Something that was asked for.
enum Asked {
    /// Done when this order is.
    Order(Kind, OpId),
    /// Done when the asked host knows a revision of this project with this reason.
    Revision(Kind, usize, ProjectId, String),
}

/// Says how much succeeded, by the share of hosts that are up; false where a rule was broken.
pub(crate) fn run(
    out: &mut impl Write,
    worlds: u64,
    seed: u64,
    plots: Option<&Path>,
) -> std::io::Result<bool> {
    let names: Vec<String> = Kind::ALL.iter().map(|(_, name)| format!("{name:>20}")).collect();
    writeln!(out, "share that succeeds, {HOSTS} hosts, {worlds} worlds for each row, seed {seed}")?;
    writeln!(out, "{:>8}{}{:>20}", "up", names.concat(), "majority of all")?;
    let (mut rows, mut held) = (Vec::new(), true);
    for up in UP {
        let mut sum = Tried::default();
        for world in 0..worlds {
            let world = World::new(Options::scale(seed + world, HOSTS));
            let (tried, violations) = try_everything(world, up);
            for ((tried, done), (more, succeeded)) in sum.0.iter_mut().zip(tried.0) {
                *tried += more;
                *done += succeeded;
            }
            for violation in violations {
                held = false;
                writeln!(out, "violation: {violation}")?;
            }
        }
        if up == HOSTS && sum.0.iter().any(|(tried, done)| done < tried) {
            held = false;
            writeln!(out, "violation: L1: something fails though every host is up")?;
        }
        let cells: Vec<String> =
            sum.0.iter().map(|(tried, done)| format!("{:>20}", format!("{done} of {tried}"))).collect();
        writeln!(
            out,
            "{:>8}{}{:>20}",
            format!("{up} %"),
            cells.concat(),
            if by_majority(up) { "all" } else { "none" }
        )?;
        out.flush()?;
        rows.push((up, sum));
    }
    if let Some(folder) = plots {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("availability.svg"), chart(&rows).to_svg())?;
    }
    Ok(held)
}

/// Whether a system could do anything that needs a majority of all hosts.
fn by_majority(up: usize) -> bool {
    2 * up > HOSTS
}

/// Builds projects, switches all but some hosts off, and lets people work with what is left.
fn try_everything(mut world: World, up: usize) -> (Tried, Vec<String>) {
    let mut lot = Lot::of(world.options.seed, "availability");
    world.run_until(5_000);
    let labs = build(&mut world, &mut lot);
    world.run_until(BUILT_MS);
    let labs = found(&world, labs);
    let up: BTreeSet<usize> = world.draw_places(up, &mut lot).into_iter().collect();
    leave(&mut world, &up, &mut lot);
    world.run_until(SETTLED_MS);

    let mut asked = Vec::new();
    let mut started = Vec::new();
    for (index, lab) in labs.iter().enumerate() {
        let here: Vec<usize> = (0..lab.places.len()).filter(|vm| up.contains(&lab.places[*vm])).collect();
        if here.is_empty() {
            continue;
        }
        let vm = here[lot.index(here.len())];
        let node = world.draw_up(&mut lot);
        let line = format!("line {index}");
        match index % 3 {
            0 => {
                asked.extend(start_or_stop(&mut world, node, lab, vm, RunOrder::Up));
                started.push((lab, vm));
            }
            1 => {
                world.order_revision(node, lab.id, (vm, lab.project.clone()), &line, Consent::Majority);
                asked.push(Asked::Revision(Kind::Upgrade, node, lab.id, line));
            }
            _ => {
                world.order_revision(node, lab.id, (vm, lab.project.clone()), &line, Consent::Partial);
                asked.push(Asked::Revision(Kind::Partial, node, lab.id, line));
            }
        }
        world.run_until(world.now_ms + PACE_MS);
    }
    for index in 0..BUILDS {
        let Ok(name) = Name::parse(&format!("new{index}")) else { continue };
        let places = world.draw_places(PROJECT_HOSTS, &mut lot);
        let project = world.lab_on(&name, &places, &mut lot);
        let node = world.draw_up(&mut lot);
        asked.push(Asked::Order(Kind::Build, world.order_build(node, &name, project)));
        world.run_until(world.now_ms + PACE_MS);
    }
    world.run_until(STOP_MS);
    for (lab, vm) in started {
        let node = world.draw_up(&mut lot);
        let order = RunOrder::Down(StopLimit::After(5_000));
        asked.extend(start_or_stop(&mut world, node, lab, vm, order));
        world.run_until(world.now_ms + PACE_MS);
    }
    world.run_until(OVER_MS);
    let mut tried = Tried::default();
    for asked in asked {
        match asked {
            Asked::Order(kind, op) => tried.add(kind, world.outcome(op) == Some(&Outcome::Done)),
            Asked::Revision(kind, node, id, reason) => {
                let known =
                    world.hosts[node].node.as_ref().map(|node| node.revisions(id)).unwrap_or_default();
                tried.add(kind, known.iter().any(|(_, commit)| commit.revision.reason == reason));
            }
        }
    }
    (tried, world.oracle.take_violations())
}

fn build(world: &mut World, lot: &mut Lot) -> Vec<(Name, Project, Vec<usize>)> {
    let mut labs = Vec::new();
    for index in 0..PROJECTS {
        let Ok(name) = Name::parse(&format!("lab{index}")) else { continue };
        let places = world.draw_places(PROJECT_HOSTS, lot);
        let project = world.lab_on(&name, &places, lot);
        let node = world.draw_up(lot);
        world.order_build(node, &name, project.clone());
        labs.push((name, project, places));
        world.run_until(world.now_ms + PACE_MS);
    }
    labs
}

fn found(world: &World, labs: Vec<(Name, Project, Vec<usize>)>) -> Vec<Lab> {
    let any = world.hosts.iter().find_map(|host| host.node.as_ref());
    let known = any.map(Node::projects).unwrap_or_default();
    labs.into_iter()
        .filter_map(|(name, project, places)| {
            let id = known.iter().find(|known| known.label.project == name)?.id;
            Some(Lab { id, project, places })
        })
        .collect()
}

/// Switches all other hosts off. Those that are left dial each other anew, as agents do that miss their peers.
fn leave(world: &mut World, up: &BTreeSet<usize>, lot: &mut Lot) {
    for node in (0..world.options.nodes).filter(|node| !up.contains(node)) {
        let host = &mut world.hosts[node];
        host.node = None;
        host.unsynced.clear();
        host.life += 1;
        world.hang_up(node);
    }
    for &node in up {
        world.hang_up(node);
    }
    let left: Vec<usize> = up.iter().copied().collect();
    world.overlay = Overlay::formed(world.options.nodes, &left, DIALLED, lot);
    for &node in up {
        world.redial(node);
    }
}

fn start_or_stop(world: &mut World, node: usize, lab: &Lab, vm: usize, order: RunOrder) -> Option<Asked> {
    let name = &lab.project.vms.get(vm)?.name;
    let vms = world.hosts[node].node.as_ref()?.vms(lab.id);
    let vm = vms.into_iter().find(|known| known.status.vm.name == *name)?.status.vm;
    let op = world.order(node, Operation::Run { vms: vec![vm], order, pause_ms: 0 });
    Some(Asked::Order(Kind::StartStop, op))
}

fn chart(rows: &[(usize, Tried)]) -> Chart {
    let mut series: Vec<Series> = Kind::ALL
        .iter()
        .map(|(kind, name)| Series {
            name: (*name).to_owned(),
            points: rows
                .iter()
                .filter_map(|(up, tried)| Some((*up as f64, 100.0 * tried.share(*kind)?)))
                .collect(),
        })
        .collect();
    let most = |up: usize| (up as f64, if by_majority(up) { 100.0 } else { 0.0 });
    series.push(Series {
        name: "most with a majority of all hosts (computed)".to_owned(),
        points: (1..=HOSTS).rev().map(most).collect(),
    });
    Chart {
        title: "Operations that succeed when hosts are off".to_owned(),
        x: Axis { name: "hosts that are up, in %".to_owned(), is_logarithmic: false },
        y: Axis { name: "operations that succeed, in %".to_owned(), is_logarithmic: false },
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_succeeds_where_all_hosts_are_up() {
        let hosts = 12;
        let (tried, violations) = try_everything(World::new(Options::scale(1, hosts)), hosts);
        assert_eq!(violations, [""; 0]);
        for (kind, name) in Kind::ALL {
            let (count, done) = tried.0[kind as usize];
            assert!(count > 0, "{name}");
            assert_eq!(done, count, "{name}");
        }
    }
}
