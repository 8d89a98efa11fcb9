//! The model of gossipsub by itself: how long a message takes, in a small mesh whose links are all alike, and how often
//! it arrives. The story `gossip` measures the same with libp2p.

use std::io::Write;

use mln_protocol::model::{MemoryMib, Platform};
use mln_protocol::record::{HostStatus, Record};
use mln_protocol::wire;

use crate::lot::Lot;
use crate::options::Options;
use crate::overlay::Overlay;
use crate::traffic::Change;
use crate::world::World;

/// By when all hosts have started, and how long a message is followed, in milliseconds.
const STARTED_MS: u64 = 5_000;
const FOLLOWED_MS: u64 = 10_000;

/// Follows some messages, each in a mesh of its own; prints figures as words and numbers.
pub(crate) fn run(
    out: &mut impl Write,
    (nodes, dialled): (usize, usize),
    delay_ms: u64,
    messages: usize,
    seed: u64,
) -> std::io::Result<bool> {
    let (mut delays, mut copies, mut degree) = (Vec::new(), 0, 0.0);
    for message in 0..messages {
        let seed = seed + message as u64;
        let mut lot = Lot::of(seed, "even");
        let mut world = World::new(Options::even(seed, nodes, delay_ms));
        let all: Vec<usize> = (0..nodes).collect();
        world.overlay = Overlay::formed(nodes, &all, dialled, &mut lot);
        degree += world.overlay.mesh_degree();
        world.run_until(STARTED_MS + lot.between(0, 1_000));
        let change = world.follow(lot.index(nodes));
        copies += change.copies;
        // Whoever publishes it has known it all the time.
        let mut reached: Vec<u64> = change.known.into_values().collect();
        reached.sort_unstable();
        delays.extend(reached.into_iter().skip(1));
    }
    delays.sort_unstable();
    let share =
        |per_cent: usize| delays.get((delays.len() * per_cent / 100).min(delays.len().saturating_sub(1)));
    let mean = delays.iter().sum::<u64>() as f64 / delays.len().max(1) as f64;
    writeln!(out, "pushed over {:.2} links", degree / messages as f64)?;
    writeln!(out, "arrived {} of {}", delays.len(), messages * (nodes - 1))?;
    writeln!(out, "mean_ms {mean:.1}")?;
    writeln!(out, "median_ms {}", share(50).copied().unwrap_or(0))?;
    writeln!(out, "ninety_ms {}", share(90).copied().unwrap_or(0))?;
    writeln!(out, "copies {:.3}", copies as f64 / (messages * (nodes - 1)) as f64)?;
    Ok(delays.len() == messages * (nodes - 1))
}

impl World {
    /// Publishes a record at a host, and follows it.
    fn follow(&mut self, node: usize) -> Change {
        let status = HostStatus {
            counter: 1_000,
            groups: Vec::new(),
            platforms: vec![Platform::Uml],
            projects: 0,
            vms: 0,
            memory_used: MemoryMib(0),
            memory_limit: MemoryMib(1),
            agent_version: "netsim".to_owned(),
            measured_unix_ms: 0,
        };
        let record = wire::sign_record(&self.hosts[node].keys, Record::Host(status));
        self.traffic.change = Some(Change { digest: Some(record.digest()), ..Change::default() });
        self.traffic.published(node, &record, self.now_ms);
        self.publish(node, &record);
        self.run_until(self.now_ms + FOLLOWED_MS);
        self.traffic.change.take().unwrap_or_default()
    }
}
