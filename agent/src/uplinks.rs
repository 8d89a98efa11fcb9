//! The ways from this host's switches to its own network: each kept open by a task, as long as it is wanted.
//!
//! ```text
//! open the tap ──▶ put it on its bridge ──▶ hand it to the switch ──▶ wait until it is gone ──▶ again
//!                          ▲                                                 │
//!                          └────────────── the bridge was made anew ─────────┘
//! ```
//! A tap that this program makes goes when it ends, however that comes about; so none is ever left behind.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mln_protocol::id::{Name, ProjectId};
use mln_protocol::model::{Fragment, Uplink};
use mln_protocol::node::{Refusal, Rule, UplinkWanted};
use tracing::{info, warn};

use crate::causes::chain;
use crate::holder::tap::{self, TapError, TapOrigin};
use crate::vnet::{Fabric, FabricError, SwitchKey, tap_device};

/// How long after one that failed the next attempt is made: a bridge may come later.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether a tap is still on its bridge: one that is made anew has no ports.
const LOOK: Duration = Duration::from_secs(5);

/// Why a switch is not joined to this host's network. Nothing is left of the attempt; it is repeated.
#[derive(Debug, thiserror::Error)]
enum UplinkError {
    /// The tap can't be had.
    #[error("opening the tap {tap}")]
    Tap {
        /// Its name.
        tap: String,
        /// What the system said: "busy" where something else has it, "not permitted" where it isn't this user's.
        source: io::Error,
    },
    /// It can't be brought up, or put on its bridge.
    #[error(transparent)]
    Network(#[from] TapError),
    /// The program is ending.
    #[error("the attempt was cut off")]
    CutOff,
    /// The switch doesn't take it.
    #[error(transparent)]
    Switch(#[from] FabricError),
}

/// The uplinks that are wanted, each with its task.
#[derive(Debug, Default)]
pub(crate) struct Uplinks {
    running: BTreeMap<SwitchKey, Running>,
}

#[derive(Debug)]
struct Running {
    wanted: UplinkWanted,
    task: tokio::task::JoinHandle<()>,
}

impl Uplinks {
    /// Has exactly these uplinks.
    pub(crate) async fn want(&mut self, fabric: &Fabric, wanted: BTreeMap<SwitchKey, UplinkWanted>) {
        let other: Vec<SwitchKey> = self
            .running
            .iter()
            .filter(|(key, running)| wanted.get(key) != Some(&running.wanted))
            .map(|(key, _)| key.clone())
            .collect();
        for key in other {
            if let Some(running) = self.running.remove(&key) {
                running.task.abort();
                // It holds the tap no longer, or has just handed it over.
                let _ = running.task.await;
                fabric.remove_uplink(&key).await;
                info!(switch = %key.name, "is no longer joined to this host's network");
            }
        }
        for (key, wanted) in wanted {
            self.running.entry(key.clone()).or_insert_with(|| {
                let task = tokio::spawn(keep(fabric.clone(), key, wanted.clone()));
                Running { wanted, task }
            });
        }
    }
}

/// Keeps an uplink open until it is aborted.
async fn keep(fabric: Fabric, key: SwitchKey, wanted: UplinkWanted) {
    let mut told = String::new();
    loop {
        match join(&fabric, &key, &wanted).await {
            Ok(end) => {
                info!(switch = %key.name, "is joined to this host's network");
                told.clear();
                // Which of both is over first: the wait keeps its state, the other never ends by itself.
                tokio::select! {
                    () = end.wait() => {}
                    () = stay(&key, &wanted) => {}
                }
                warn!(switch = %key.name, "is cut off from this host's network");
            }
            Err(error) => {
                let text = chain(&error);
                // Once is enough, until it is another reason.
                if text != told {
                    warn!(switch = %key.name, error = text, "can't be joined to this host's network");
                    told = text;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Keeps the tap of an uplink on its bridge, as far as that is possible. Never ends.
async fn stay(key: &SwitchKey, wanted: &UplinkWanted) {
    let Uplink { tap, bridge } = &wanted.uplink;
    let Some(bridge) = bridge.as_ref().filter(|_| rustix::process::geteuid().is_root()) else {
        return std::future::pending().await;
    };
    let (tap, bridge) = (tap_name(&key.project, &key.name, tap.as_ref()), bridge.to_string());
    let mut told = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let (tap, bridge) = (tap.clone(), bridge.clone());
        // It asks `ip`. What it is cut off by is the end of the program.
        match tokio::task::spawn_blocking(move || put_back(&tap, &bridge)).await {
            Ok(Ok(true)) => {
                info!(switch = %key.name, "is joined again to its bridge, which was made anew");
                told = false;
            }
            // Once is enough.
            Ok(Err(error)) if !told => {
                warn!(switch = %key.name, error = chain(&error), "is cut off from its bridge");
                told = true;
            }
            Ok(Ok(false) | Err(_)) | Err(_) => {}
        }
    }
}

/// Puts a tap on its bridge where it isn't; true where that was so. A bridge that isn't there is waited for.
fn put_back(tap: &str, bridge: &str) -> Result<bool, TapError> {
    if tap::is_on(tap, bridge) || !tap::is_bridge(bridge) || !tap::exists(tap) {
        return Ok(false);
    }
    tap::bring_up(tap, TapOrigin::Found, Some(bridge)).map(|()| true)
}

async fn join(
    fabric: &Fabric,
    key: &SwitchKey,
    wanted: &UplinkWanted,
) -> Result<crate::vnet::LinkEnd, UplinkError> {
    let Uplink { tap, bridge } = wanted.uplink.clone();
    let name = tap_name(&key.project, &key.name, tap.as_ref());
    // It asks `ip`, which takes some milliseconds.
    let opened = tokio::task::spawn_blocking(move || open(&name, bridge.as_ref().map(Name::as_str))).await;
    let fd = opened.map_err(|_| UplinkError::CutOff)??;
    Ok(fabric.add_uplink(key, fd, wanted.vlan).await?)
}

/// Opens a tap; root makes it where there is none, and brings it up.
fn open(name: &str, bridge: Option<&str>) -> Result<OwnedFd, UplinkError> {
    let origin = if tap::exists(name) { TapOrigin::Found } else { TapOrigin::Made };
    let fd = tap_device::open(name).map_err(|source| UplinkError::Tap { tap: name.to_owned(), source })?;
    if rustix::process::geteuid().is_root() {
        tap::bring_up(name, origin, bridge)?;
    }
    Ok(fd)
}

fn tap_name(project: &ProjectId, switch: &Name, given: Option<&Name>) -> String {
    given.map_or_else(|| tap::uplink_name(project, switch.as_str()), |tap| tap.as_str().to_owned())
}

/// What of the host an uplink depends on.
trait HostNetwork {
    fn is_root(&self) -> bool;
    fn is_bridge(&self, name: &str) -> bool;
    fn is_tap(&self, name: &str) -> bool;
    fn exists(&self, name: &str) -> bool;
}

struct ThisHost;

impl HostNetwork for ThisHost {
    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn is_bridge(&self, name: &str) -> bool {
        tap::is_bridge(name)
    }

    fn is_tap(&self, name: &str) -> bool {
        tap::is_tap(name)
    }

    fn exists(&self, name: &str) -> bool {
        tap::exists(name)
    }
}

/// Says whether this host has what the uplinks of its part of a project lead to. It asks `ip`, and may so take some
/// milliseconds.
pub(crate) fn check(fragment: &Fragment) -> Result<(), Refusal> {
    let uplinks = fragment.switches.iter().filter(|switch| fragment.uplinks.contains(&switch.name));
    for switch in uplinks {
        let Some(uplink) = &switch.settings.uplink else { continue };
        if let Some(obstacle) = obstacle(&ThisHost, uplink) {
            let detail = format!("switch {}: {obstacle}", switch.name);
            return Err(Refusal { rule: Rule::Platform, detail });
        }
    }
    Ok(())
}

/// Returns why this host can't have an uplink, and who can change that.
fn obstacle(host: &impl HostNetwork, uplink: &Uplink) -> Option<String> {
    let Uplink { tap, bridge } = uplink;
    if !host.is_root() {
        if let Some(bridge) = bridge {
            return Some(format!(
                "only an agent that is run by root can join it to the bridge {bridge}; let root make a tap on the bridge \
                 for the agent's user (ip tuntap add dev NAME mode tap user USER; ip link set NAME master {bridge} up) \
                 and say `tap NAME` instead"
            ));
        }
        let Some(tap) = tap else {
            return Some(
                "only an agent that is run by root can make its tap; let root make one for the agent's user (ip tuntap \
                 add dev NAME mode tap user USER; ip link set NAME up) and say `tap NAME`"
                    .to_owned(),
            );
        };
        if !host.is_tap(tap.as_str()) {
            return Some(format!(
                "this host has no tap {tap}; whoever runs it can make it: ip tuntap add dev {tap} mode tap user USER; \
                 ip link set {tap} up"
            ));
        }
    }
    if let Some(bridge) = bridge.as_ref().filter(|bridge| !host.is_bridge(bridge.as_str())) {
        return Some(format!(
            "this host has no bridge {bridge}; whoever runs it can make it: ip link add {bridge} type bridge"
        ));
    }
    let other = tap.as_ref().filter(|tap| host.exists(tap.as_str()) && !host.is_tap(tap.as_str()));
    other.map(|tap| format!("{tap} of this host is an interface, but no tap; choose another name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with a bridge `br0`, a tap `tap0`, and something else, `eth0`.
    struct Made {
        is_root: bool,
    }

    impl HostNetwork for Made {
        fn is_root(&self) -> bool {
            self.is_root
        }

        fn is_bridge(&self, name: &str) -> bool {
            name == "br0"
        }

        fn is_tap(&self, name: &str) -> bool {
            name == "tap0"
        }

        fn exists(&self, name: &str) -> bool {
            ["br0", "tap0", "eth0"].contains(&name)
        }
    }

    fn check(is_root: bool, tap: Option<&str>, bridge: Option<&str>) -> Option<String> {
        let name = |text: &str| Name::parse(text).expect("a name");
        obstacle(&Made { is_root }, &Uplink { tap: tap.map(name), bridge: bridge.map(name) })
    }

    #[test]
    fn root_makes_taps_and_others_use_theirs() {
        for (tap, bridge) in
            [(None, None), (None, Some("br0")), (Some("new"), None), (Some("tap0"), Some("br0"))]
        {
            assert_eq!(check(true, tap, bridge), None, "{tap:?} {bridge:?}");
        }
        assert_eq!(check(false, Some("tap0"), None), None);
        for (tap, bridge) in
            [(None, None), (None, Some("br0")), (Some("new"), None), (Some("tap0"), Some("br0"))]
        {
            let text = check(false, tap, bridge).unwrap_or_default();
            assert!(text.contains("ip tuntap add"), "{tap:?} {bridge:?}: {text}");
        }
    }

    #[test]
    fn what_is_not_there_or_something_else_is_named() {
        let text = check(true, None, Some("br1")).unwrap_or_default();
        assert!(text.contains("no bridge br1"), "{text}");
        let text = check(true, Some("eth0"), None).unwrap_or_default();
        assert!(text.contains("eth0") && text.contains("no tap"), "{text}");
    }
}
