//! A world as a command line, and back: what `netsim` prints is what brings the same world about again.

use std::collections::BTreeSet;

use clap::Args;
use mln_protocol::node::Mutation;

use crate::fault::Fault;
use crate::options::Options;
use crate::scene::Scene;

/// How a world is drawn from its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A little of what happens every day
    Everyday,
    /// Each kind of fault there or not, by lot
    Swarm,
    /// What people and faults do is written down
    Scene(Scene),
}

/// What is taken out of a world, and which rule is switched off in it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Cuts {
    /// A rule of the core to switch off; `netsim mutate` lists them
    #[arg(long, value_parser = mutation)]
    pub(crate) mutation: Option<Mutation>,
    /// Kinds of faults to leave out
    #[arg(long, value_delimiter = ',', value_parser = Fault::parse)]
    pub(crate) without: Vec<Fault>,
    /// Single planned faults to leave out, by number
    #[arg(long, value_delimiter = ',')]
    pub(crate) skip: Vec<usize>,
    /// Let only these customers come, by number
    #[arg(long, value_delimiter = ',')]
    pub(crate) customers: Option<Vec<usize>>,
    /// Don't make failing worlds smaller
    #[arg(long)]
    pub(crate) as_is: bool,
}

impl Cuts {
    /// Whether nothing is taken out: then a failing world has yet to be made smaller.
    pub(crate) fn is_whole(&self) -> bool {
        !self.as_is && self.without.is_empty() && self.skip.is_empty() && self.customers.is_none()
    }

    /// Takes these out of a world.
    pub(crate) fn apply(&self, options: &mut Options) {
        options.mutation = self.mutation;
        for fault in &self.without {
            options.rates.remove(fault);
        }
        options.skipped.extend(&self.skip);
        if let Some(customers) = &self.customers {
            options.customers = Some(customers.iter().copied().collect());
        }
    }
}

pub(crate) fn mutation(text: &str) -> Result<Mutation, String> {
    let known = Mutation::ALL.iter().find(|(name, _)| *name == text);
    let names = || Mutation::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    known.map(|(_, mutation)| *mutation).ok_or_else(|| format!("there are {}", names()))
}

/// Returns the command line for a world.
pub(crate) fn command_line(kind: Kind, options: &Options) -> String {
    let mut words = vec!["netsim run".to_owned()];
    let drawn = match kind {
        Kind::Scene(scene) => {
            words.push(format!("--scene {}", scene.name()));
            Options::scene(options.seed, scene)
        }
        Kind::Everyday => {
            words.push(format!("--nodes {} --projects {}", options.nodes, options.projects));
            Options::everyday(options.seed, options.nodes, options.projects)
        }
        Kind::Swarm => {
            words.push("--swarm".to_owned());
            Options::swarm(options.seed)
        }
    };
    words.push(format!("--seed {}", options.seed));
    if let Some((name, _)) = Mutation::ALL.iter().find(|(_, mutation)| Some(*mutation) == options.mutation) {
        words.push(format!("--mutation {name}"));
    }
    let without: Vec<&str> =
        drawn.rates.keys().filter(|fault| !options.has(**fault)).map(|fault| fault.name()).collect();
    if !without.is_empty() {
        words.push(format!("--without {}", without.join(",")));
    }
    if !options.skipped.is_empty() {
        words.push(format!("--skip {}", numbers(&options.skipped)));
    }
    if let Some(customers) = &options.customers {
        words.push(format!("--customers {}", numbers(customers)));
    }
    words.join(" ")
}

fn numbers(some: &BTreeSet<usize>) -> String {
    some.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
