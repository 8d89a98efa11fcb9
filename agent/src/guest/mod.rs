//! The role of the agent inside a virtual machine: applies the seed at each boot, answers over the line.
//!
//! It has no network of its own and needs none. One thread polls the line and the processes that it runs; a
//! second one applies the seed. It knows nothing of projects, hosts or platforms: what it should be is on its
//! seed drive, what it should do comes over the line.
//!
//! The platform passes the devices on the kernel's command line: `MLN_LINE=/dev/ttyS0 MLN_SEED=/dev/ubdb`.

mod accounts;
mod agent;
mod apply;
mod boot_record;
mod grow;
mod live;
pub(crate) mod me;
mod mounts;
mod process;
mod pty;
mod scrollback;
mod seed;
mod session;
mod shutdown;
mod signals;
mod ssh;
mod terminal;
pub mod verb;

use std::path::PathBuf;

use tracing::{info, warn};

pub use agent::AgentError;

/// Where the guest agent finds what it needs.
#[derive(Debug, Clone)]
pub struct Devices {
    /// The terminal to the host.
    pub line: PathBuf,
    /// The drive with the seed; none is a machine without one.
    pub seed: Option<PathBuf>,
}

impl Devices {
    /// Reads them from a kernel's command line.
    pub fn from_kernel_command_line(text: &str) -> Self {
        let value =
            |key: &str| text.split_whitespace().find_map(|word| word.strip_prefix(key)).map(PathBuf::from);
        Self {
            line: value("MLN_LINE=").unwrap_or_else(|| PathBuf::from("/dev/ttyS0")),
            seed: value("MLN_SEED="),
        }
    }
}

/// Runs the guest agent until the line breaks; a guest's init starts it again.
pub fn run() -> Result<(), AgentError> {
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let devices = Devices::from_kernel_command_line(&command_line);
    info!(line = %devices.line.display(), seed = ?devices.seed, version = crate::version::VERSION, "guest agent");
    if let Err(error) = signals::obey_keys() {
        warn!(%error, "keys of a terminal interrupt nothing");
    }
    agent::run(&devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_from_the_kernel_command_line() {
        let devices =
            Devices::from_kernel_command_line("root=/dev/ubda rw MLN_SEED=/dev/ubdb MLN_LINE=/dev/ttyS1\n");
        assert_eq!(devices.line, PathBuf::from("/dev/ttyS1"));
        assert_eq!(devices.seed, Some(PathBuf::from("/dev/ubdb")));
        assert_eq!(Devices::from_kernel_command_line("quiet").seed, None);
    }
}
