//! How long the simulator takes for a large mesh, all of whose hosts run the agent's own decisions.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::figure::{Figure, Goal, Unit};
use crate::statistics::Sample;
use crate::{Scale, seconds_since};

/// The wall time of a run with 500 hosts.
pub(crate) fn bench(_: Scale) -> Vec<Figure> {
    let began = Instant::now();
    let mut command = Command::new(crate::program("netsim"));
    command.args(["run", "--nodes", "500", "--seed", "1"]).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("netsim: {error}; try: make bench"));
    assert!(output.status.success(), "netsim: {}", String::from_utf8_lossy(&output.stderr));
    let took = Sample::single(seconds_since(began));
    vec![Figure::alone(
        "simulation",
        "500 hosts until they agree, simulated",
        Unit::Seconds,
        took,
        Goal::Known,
    )]
}
