//! Taps on bridges of the host: made by root before a guest starts, and removed after it has ended.

use std::path::Path;
use std::process::{Command, Stdio};

use mln_protocol::id::{ProjectId, VmId};
use mln_protocol::wire::holder::{OutsideWire, PlugWire};
use tracing::warn;

use super::files;

/// Where `ip` is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why something of the host's network can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The program isn't there.
    #[error("ip is not installed; try: apt-get install iproute2")]
    NoProgram,
    /// It refused. What it was asked to do is not done.
    #[error("`ip {command}`: {text}")]
    Refused {
        /// What it was asked.
        command: String,
        /// What it said.
        text: String,
    },
}

/// Returns the name of the tap of an interface: of all on the host its own, and no longer than the kernel allows.
pub fn name(vm: &VmId, interface: &str) -> String {
    let digest = blake3::hash(format!("mln tap 1\0{}\0{}\0{interface}", vm.birth, vm.name).as_bytes());
    format!("mln{}", &digest.to_hex()[..12])
}

/// Makes the taps that a VM needs, each on its bridge. One that is there already is made anew; where one can't be
/// made, there are none.
pub fn make(outside: &OutsideWire) -> Result<(), TapError> {
    remove(outside);
    let made = addressed(outside).try_for_each(|(tap, address)| {
        ip(&["address", "replace", &address, "dev", tap])?;
        ip(&["link", "set", "dev", tap, "up"])?;
        Ok(())
    });
    let made = made.and_then(|()| make_taps(outside));
    if made.is_err() {
        remove(outside);
    }
    made
}

fn make_taps(outside: &OutsideWire) -> Result<(), TapError> {
    made_by_us(outside).try_for_each(|(tap, bridge)| {
        ip(&["tuntap", "add", "dev", tap, "mode", "tap"])?;
        ip(&["link", "set", "dev", tap, "address", &address_of(tap)])?;
        ip(&["link", "set", "dev", tap, "master", bridge, "up"])?;
        Ok(())
    })
}

/// Removes the taps that were made for a VM, those that are there, and the addresses that were put on others.
pub fn remove(outside: &OutsideWire) {
    for (tap, _) in made_by_us(outside) {
        if exists(tap)
            && let Err(error) = ip(&["link", "delete", "dev", tap])
        {
            warn!(%error, "a tap stays; remove it by hand");
        }
    }
    for (tap, address) in addressed(outside) {
        if has_address(tap, &address)
            && let Err(error) = ip(&["address", "delete", &address, "dev", tap])
        {
            warn!(%error, "an address stays on a tap; remove it by hand");
        }
    }
}

/// Removes the taps that were made for the VM of a folder.
pub fn remove_for(folder: &Path) {
    // A VM from before there was this file has none.
    if let Ok(outside) = files::read::<OutsideWire>(folder, files::OUTSIDE) {
        remove(&outside);
    }
}

fn made_by_us(outside: &OutsideWire) -> impl Iterator<Item = (&str, &str)> {
    outside.interfaces.iter().filter_map(|plug| match plug {
        PlugWire::Tap { tap, bridge: Some(bridge) } => Some((tap.as_str(), bridge.as_str())),
        PlugWire::Tap { bridge: None, .. }
        | PlugWire::Socket
        | PlugWire::Nat(_)
        | PlugWire::ImpairedNat { .. }
        | PlugWire::AddressedTap { .. } => None,
    })
}

/// Returns the taps that get an address, with it.
fn addressed(outside: &OutsideWire) -> impl Iterator<Item = (&str, String)> {
    outside.interfaces.iter().filter_map(|plug| match plug {
        PlugWire::AddressedTap { tap, address, prefix_bits } => {
            Some((tap.as_str(), format!("{address}/{prefix_bits}")))
        }
        PlugWire::Tap { .. } | PlugWire::Socket | PlugWire::Nat(_) | PlugWire::ImpairedNat { .. } => None,
    })
}

fn has_address(tap: &str, address: &str) -> bool {
    ip(&["-o", "address", "show", "dev", tap])
        .is_ok_and(|text| text.split_whitespace().any(|word| word == address))
}

/// Returns the hardware address of a tap that is made here: always the same for one name, and a high one. A bridge has
/// the lowest address of its ports, and whoever spoke with it would seek it in vain for a while if that changed.
fn address_of(tap: &str) -> String {
    let digest = blake3::hash(format!("mln tap address 1\0{tap}").as_bytes());
    let [a, b, c, d, e] = *digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
    format!("fe:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}

/// Brings up a tap that this program has opened, and puts it on a bridge where one is given.
pub fn bring_up(tap: &str, origin: TapOrigin, bridge: Option<&str>) -> Result<(), TapError> {
    if origin == TapOrigin::Made {
        ip(&["link", "set", "dev", tap, "address", &address_of(tap)])?;
    }
    if let Some(bridge) = bridge {
        ip(&["link", "set", "dev", tap, "master", bridge])?;
    }
    ip(&["link", "set", "dev", tap, "up"]).map(drop)
}

/// Whose a tap is that this program has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapOrigin {
    /// It was made by opening it.
    Made,
    /// It was there before.
    Found,
}

/// Returns the name of the tap by which a switch is joined to its host's network, where the project gives none.
pub fn uplink_name(project: &ProjectId, switch: &str) -> String {
    let digest = blake3::hash(format!("mln uplink 1\0{}\0{switch}", project.0).as_bytes());
    format!("mln{}", &digest.to_hex()[..12])
}

/// Whether the network that this program is in has a bridge of that name.
pub fn is_bridge(name: &str) -> bool {
    ip(&["-o", "link", "show", "dev", name, "type", "bridge"]).is_ok_and(|text| !text.trim().is_empty())
}

/// Whether an interface is a port of a bridge.
pub fn is_on(interface: &str, bridge: &str) -> bool {
    ip(&["-o", "link", "show", "dev", interface, "master", bridge]).is_ok_and(|text| !text.trim().is_empty())
}

/// Whether the network that this program is in has a tap of that name.
pub fn is_tap(name: &str) -> bool {
    ip(&["-o", "-d", "link", "show", "dev", name]).is_ok_and(|text| text.contains("tun type tap"))
}

/// Whether the network that this program is in has an interface of that name.
pub fn exists(name: &str) -> bool {
    ip(&["-o", "link", "show", "dev", name]).is_ok()
}

fn ip(words: &[&str]) -> Result<String, TapError> {
    let output = Command::new("ip").args(words).env("PATH", PATH).stdin(Stdio::null()).output();
    let output = output.map_err(|_| TapError::NoProgram)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(TapError::Refused { command: words.join(" "), text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::{Digest, Name};

    #[test]
    fn the_name_of_a_tap_is_short_and_its_own() {
        let vm = |name| VmId { birth: Digest::of(b"a revision"), name: Name::parse(name).expect("a name") };
        let first = name(&vm("a"), "eth0");
        assert_eq!(first.len(), 15);
        assert_eq!(first, name(&vm("a"), "eth0"));
        assert_ne!(first, name(&vm("a"), "eth1"));
        assert_ne!(first, name(&vm("b"), "eth0"));
        assert_eq!(address_of(&first), address_of(&first));
        assert_ne!(address_of(&first), address_of("tap0"));
    }
}
