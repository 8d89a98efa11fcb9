//! `netsim`: the mesh's state machine, by the hundred, over a simulated network with faults.

mod ambush;
mod availability;
mod blocks;
mod check;
mod check_bounds;
mod check_decision;
mod check_grants;
mod check_guest;
mod check_guest_grants;
mod check_kept;
mod check_ownership;
mod check_signature;
mod check_standing;
mod codec;
mod command;
mod copying;
mod disk;
mod even;
mod expected;
mod explore;
mod fault;
mod forgery;
mod gossip;
mod guest;
mod guest_lies;
mod holder;
mod host;
mod hostile;
mod lot;
mod measure;
mod minimise;
mod mishap;
mod models;
mod mutate;
mod network;
mod options;
mod overlay;
mod platform;
mod plot;
mod policy;
mod queue;
mod regions;
mod replay;
mod rival;
mod scale;
mod scene;
mod sketch;
mod stage;
mod swarm;
mod taker;
mod tell;
mod traffic;
mod transport;
mod trouble;
mod workload;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Whoever read our output may have gone: there is nobody left to tell.
    command::run().unwrap_or(ExitCode::FAILURE)
}
