//! How a guest's process shares the host's processors with others.

use mln_protocol::wire::holder::DrivesWire;
use rustix::thread::CpuSet;
use tracing::warn;

/// Gives this thread, and what it starts, the niceness and the processors that the guest is to have.
///
/// What the host doesn't allow is left as it is, and the log says so: the host was asked before the VM was built.
pub(super) fn apply(drives: &DrivesWire) {
    if let Some(nice) = drives.nice
        && let Err(error) = rustix::process::setpriority_process(None, nice.into())
    {
        warn!(%error, nice, "the guest has the agent's niceness");
    }
    if !drives.cpus.is_empty() {
        let mut set = CpuSet::new();
        drives.cpus.iter().for_each(|&cpu| set.set(cpu.into()));
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            warn!(%error, cpus = ?drives.cpus, "the guest may use all processors");
        }
    }
}
