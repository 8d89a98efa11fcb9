//! A seed that comes while the guest runs: it is applied as at a boot, and what the one before it said and it doesn't is
//! taken back first.
//!
//! This is a process of its own, which the host runs as a command; the guest agent isn't concerned. Accounts, groups and
//! files are never taken back: somebody may use them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mln_protocol::wire::seed::{SeedAddressWire, SeedInterfaceWire};
use tracing::warn;

use super::apply::{self, ApplyError};
use super::{Devices, seed};

/// Where the newest seed of a boot is, beside the drive that it was booted with.
const FOLDER: &str = "/var/lib/mln";
/// How the name of that begins; the kernel's name of the boot follows.
const PREFIX: &str = "seed-live-";
/// The largest seed that is taken, in bytes.
const SEED_BYTES_MAX: u64 = 256 << 20;
/// What the kernel is told to let go of what it can read again.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// Why a seed could not be applied as the guest runs. Some of it may be.
#[derive(Debug, thiserror::Error)]
pub(super) enum LiveError {
    #[error("taking the seed")]
    Take(#[source] io::Error),
    #[error("the seed is longer than {SEED_BYTES_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("reading how much memory is free")]
    Memory(#[source] io::Error),
}

/// Applies a seed.
pub(super) fn run(mut from: impl Read) -> Result<(), LiveError> {
    let here = newest();
    let fresh = here.with_extension("new");
    fs::create_dir_all(FOLDER).map_err(LiveError::Take)?;
    let mut options = File::options();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(LiveError::Take)?;
    let bytes = io::copy(&mut from.by_ref().take(SEED_BYTES_MAX + 1), &mut file).map_err(LiveError::Take)?;
    if bytes > SEED_BYTES_MAX {
        return Err(LiveError::TooLong);
    }
    drop(file);
    take_back(&here, &fresh);
    apply::apply(&fresh)?;
    forget_others(&here);
    fs::rename(&fresh, &here).map_err(LiveError::Take)
}

/// Returns the memory that is free once the kernel has let go of what it can read again, in KiB.
pub(super) fn free_memory_kib() -> Result<u64, LiveError> {
    rustix::fs::sync();
    fs::write(DROP_CACHES, "3").map_err(LiveError::Memory)?;
    memory_kib("MemFree:")
}

/// Returns the memory that the kernel thinks it could give, in KiB; nothing is changed for that.
pub(super) fn available_memory_kib() -> Result<u64, LiveError> {
    memory_kib("MemAvailable:")
}

fn memory_kib(key: &str) -> Result<u64, LiveError> {
    let text = fs::read_to_string("/proc/meminfo").map_err(LiveError::Memory)?;
    memory_of(&text, key).ok_or_else(|| LiveError::Memory(io::ErrorKind::InvalidData.into()))
}

fn memory_of(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns where the seed is that was applied last in this boot.
fn newest() -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Path::new(FOLDER).join(format!("{PREFIX}{}", boot.trim()))
}

/// Removes the seeds of earlier boots.
fn forget_others(here: &Path) {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_other = path != here && path.with_extension("") != here;
        if is_other && name.to_string_lossy().starts_with(PREFIX) {
            // What stays is only in the way of nothing.
            let _ = fs::remove_file(path);
        }
    }
}

/// Takes back what the seed before said of interfaces, and this one doesn't.
fn take_back(here: &Path, fresh: &Path) {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let booted = Devices::from_kernel_command_line(&command_line).seed;
    let before = if here.exists() { Some(here.to_owned()) } else { booted };
    // One that can't be read is told of when it is applied.
    let (Some(Ok(before)), Ok(after)) = (before.map(|drive| seed::read(&drive)), seed::read(fresh)) else {
        return;
    };
    for old in &before.interfaces {
        for command in undo(old, after.interfaces.iter().find(|new| new.mac == old.mac)) {
            if let Undo::Dhcp = command {
                end_dhcp(&old.name);
                continue;
            }
            let words = command.words(&old.name);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // Somebody in the guest may have been faster.
            if let Err(error) = apply::run("ip", &words) {
                warn!(error = &error as &dyn std::error::Error, "what was so is no longer");
            }
        }
    }
}

/// What is taken back of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Undo {
    /// Who asks for its address.
    Dhcp,
    /// All addresses.
    Addresses,
    /// One address, with its prefix.
    Address(String),
    /// Its route to everywhere, with the router.
    Route(std::net::IpAddr),
    /// That it is up.
    Up,
}

impl Undo {
    fn words(&self, name: &str) -> Vec<String> {
        let words: Vec<&str> = match self {
            Self::Dhcp => vec![],
            Self::Addresses => vec!["addr", "flush", "dev", name],
            Self::Address(address) => vec!["addr", "del", address, "dev", name],
            Self::Route(router) => {
                let family = if router.is_ipv4() { "-4" } else { "-6" };
                return [family, "route", "del", "default", "via", &router.to_string(), "dev", name]
                    .map(str::to_owned)
                    .to_vec();
            }
            Self::Up => vec!["link", "set", name, "down"],
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Returns what is taken back where an interface becomes another one, or goes.
fn undo(old: &SeedInterfaceWire, new: Option<&SeedInterfaceWire>) -> Vec<Undo> {
    let mut all = Vec::new();
    let same = new.is_some_and(|new| new.address == old.address && new.broadcast == old.broadcast);
    if old.address == SeedAddressWire::Dhcp && !same {
        all.extend([Undo::Dhcp, Undo::Addresses]);
    }
    if let Some(router) = old.gateway.filter(|router| new.is_none_or(|new| new.gateway != Some(*router))) {
        all.push(Undo::Route(router));
    }
    if let SeedAddressWire::Static { address, prefix_bits } = old.address
        && !same
    {
        all.push(Undo::Address(format!("{address}/{prefix_bits}")));
    }
    if new.is_none() {
        // Only one that is down can be unplugged.
        all.push(Undo::Up);
    }
    all
}

fn end_dhcp(interface: &str) {
    if let Some(pid) = apply::dhcp_client(interface) {
        // It may end meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn interface(address: SeedAddressWire, gateway: Option<u8>) -> SeedInterfaceWire {
        SeedInterfaceWire {
            mac: [2, 0, 0, 0, 0, 1],
            name: "eth0".into(),
            address,
            gateway: gateway.map(|last| IpAddr::from([10, 0, 0, last])),
            broadcast: None,
        }
    }

    fn fixed(last: u8) -> SeedAddressWire {
        SeedAddressWire::Static { address: IpAddr::from([10, 0, 0, last]), prefix_bits: 24 }
    }

    #[test]
    fn only_what_is_no_longer_said_is_taken_back() {
        let old = interface(fixed(1), Some(254));
        assert_eq!(undo(&old, Some(&old)), []);
        let address = || Undo::Address("10.0.0.1/24".to_owned());
        assert_eq!(undo(&old, Some(&interface(fixed(2), Some(254)))), [address()]);
        let router = || Undo::Route(IpAddr::from([10, 0, 0, 254]));
        assert_eq!(undo(&old, Some(&interface(fixed(1), None))), [router()]);
        assert_eq!(undo(&old, None), [router(), address(), Undo::Up]);
        let dhcp = interface(SeedAddressWire::Dhcp, None);
        assert_eq!(undo(&dhcp, Some(&dhcp)), []);
        assert_eq!(undo(&dhcp, Some(&old)), [Undo::Dhcp, Undo::Addresses]);
        assert_eq!(router().words("eth0").join(" "), "-4 route del default via 10.0.0.254 dev eth0");
        assert_eq!(address().words("eth0").join(" "), "addr del 10.0.0.1/24 dev eth0");
    }

    #[test]
    fn free_memory_is_what_the_kernel_says() {
        let text = "MemTotal:  49152 kB\nMemFree:   31000 kB\nMemAvailable:   40000 kB\n";
        assert_eq!(memory_of(text, "MemFree:"), Some(31_000));
        assert_eq!(memory_of(text, "MemAvailable:"), Some(40_000));
        assert_eq!(memory_of("MemTotal: 1 kB\n", "MemFree:"), None);
    }
}
