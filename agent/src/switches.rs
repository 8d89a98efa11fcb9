//! This host's side of the projects' switches: which are open, and which guest is plugged into which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use mln_protocol::id::{Name, PublicKey, VmId};
use mln_protocol::model::{AddressPlan, Attachment, Mac, Network, SwitchKind};
use mln_protocol::node::{ImpairedPort, Node, SwitchWanted};
use tracing::{debug, warn};

use crate::mesh::{MeshHandle, MeshStream};
use crate::uplinks::Uplinks;
use crate::vnet::{Fabric, LinkName, SwitchKey, Trunks};

/// The switches of this host.
#[derive(Debug)]
pub(crate) struct Switches {
    fabric: Fabric,
    trunks: Trunks,
    wanted: BTreeMap<SwitchKey, BTreeSet<PublicKey>>,
    /// What switches do with frames, as far as that is not the usual.
    configured: BTreeMap<SwitchKey, Configuration>,
    uplinks: Uplinks,
    /// The switch that each guest's interface is plugged into; none is one that was unplugged to be plugged in elsewhere.
    plugged: BTreeMap<(VmId, Name), Option<SwitchKey>>,
}

/// What a switch does with frames, and what is done to those of some interfaces.
#[derive(Debug, Default, PartialEq, Eq)]
struct Configuration {
    kind: SwitchKind,
    impaired: Vec<ImpairedPort>,
}

impl Switches {
    /// Starts with no switch. Must be called within a tokio runtime.
    pub(crate) fn start(own: PublicKey, mesh: MeshHandle) -> Self {
        let fabric = Fabric::new();
        let trunks = Trunks::start(own, mesh, fabric.clone());
        Self {
            fabric,
            trunks,
            wanted: BTreeMap::new(),
            configured: BTreeMap::new(),
            uplinks: Uplinks::default(),
            plugged: BTreeMap::new(),
        }
    }

    /// Has exactly these switches open.
    pub(crate) async fn want(&mut self, wanted: Vec<SwitchWanted>) {
        let key = |switch: &SwitchWanted| SwitchKey { project: switch.project, name: switch.name.clone() };
        let configured: BTreeMap<SwitchKey, Configuration> = wanted
            .iter()
            .map(|switch| {
                let impaired = switch.impaired.clone();
                (key(switch), Configuration { kind: switch.kind, impaired })
            })
            .filter(|(_, configuration)| *configuration != Configuration::default())
            .collect();
        let uplinks =
            wanted.iter().filter_map(|switch| Some((key(switch), switch.uplink.clone()?))).collect();
        let wanted: BTreeMap<SwitchKey, BTreeSet<PublicKey>> = wanted
            .into_iter()
            .map(|switch| {
                let key = SwitchKey { project: switch.project, name: switch.name };
                (key, switch.peers.into_iter().collect())
            })
            .collect();
        let old = std::mem::replace(&mut self.wanted, wanted);
        for key in old.keys().filter(|key| !self.wanted.contains_key(key)) {
            self.set_trunks(key, BTreeSet::new()).await;
            self.fabric.remove_switch(key);
        }
        // What a switch does is said before anything is plugged into it; its uplink comes last.
        self.configure(configured).await;
        self.uplinks.want(&self.fabric, uplinks).await;
        for (key, peers) in self.wanted.iter().filter(|(key, peers)| old.get(key) != Some(peers)) {
            self.set_trunks(key, peers.clone()).await;
        }
    }

    /// Has switches do what is said, and those that are not named the usual.
    async fn configure(&mut self, configured: BTreeMap<SwitchKey, Configuration>) {
        let old = std::mem::replace(&mut self.configured, configured);
        let usual = Configuration::default();
        let again =
            old.keys().filter(|key| self.wanted.contains_key(key) && !self.configured.contains_key(key));
        let changed = self.configured.iter().filter(|(key, now)| old.get(key) != Some(now));
        for (key, Configuration { kind, impaired }) in changed.chain(again.map(|key| (key, &usual))) {
            let impaired = impaired.iter().map(|port| {
                let (vm, interface) = (port.vm.clone(), port.interface.clone());
                (LinkName::Port { vm, interface }, port.impairment)
            });
            if let Err(error) = self.fabric.configure(key, *kind, impaired.collect()).await {
                warn!(switch = %key.name, %error, "a switch does not what its project wants");
            }
        }
    }

    async fn set_trunks(&self, key: &SwitchKey, peers: BTreeSet<PublicKey>) {
        if let Err(error) = self.trunks.set_wanted(key.clone(), peers).await {
            warn!(switch = %key.name, %error, "a switch is not joined with other hosts");
        }
    }

    /// Says that a host is there, so that its trunks come up at once.
    pub(crate) async fn connected(&self, peer: PublicKey) {
        if let Err(error) = self.trunks.connected(peer).await {
            warn!(%error, "trunks are not opened");
        }
    }

    /// Takes a trunk that another host has opened; false where its header can't be read.
    pub(crate) async fn accept(&self, from: PublicKey, header: &[u8], stream: MeshStream) -> bool {
        self.trunks.incoming(from, header, Box::new(stream)).await.unwrap_or(true)
    }

    /// Plugs a guest's interface into the switch that its project has it on.
    pub(crate) async fn interface_up(&mut self, node: &Node, vm: &VmId, interface: &Name, socket: OwnedFd) {
        let Some((switch, mac, addresses)) = place(node, vm, interface) else {
            debug!(%vm, %interface, "comes up, and is on no switch");
            return;
        };
        match self.fabric.add_port(&switch, vm.clone(), interface.clone(), mac, socket).await {
            Ok(_) => {
                debug!(%vm, %interface, switch = %switch.name, "is plugged in");
                self.plugged.insert((vm.clone(), interface.clone()), Some(switch.clone()));
            }
            Err(error) => {
                return warn!(%vm, %interface, switch = %switch.name, %error, "can't be plugged in");
            }
        }
        // It may have been on another host before.
        let (vm, interface) = (vm.clone(), interface.clone());
        if let Err(error) = self.fabric.announce(&switch, vm, interface, mac, &addresses).await {
            warn!(switch = %switch.name, %error, "is not announced");
        }
    }

    /// Unplugs a guest's interface.
    pub(crate) async fn interface_down(&mut self, node: &Node, vm: &VmId, interface: &Name) {
        let was = self.plugged.remove(&(vm.clone(), interface.clone())).flatten();
        let is = place(node, vm, interface).map(|(switch, ..)| switch);
        if let Some(switch) = was.or(is) {
            self.fabric.remove_port(&switch, vm.clone(), interface.clone()).await;
        }
    }

    /// Unplugs the interfaces of a VM that are to be on another switch than they are; returns their names, also those of
    /// ones that were unplugged earlier and have not come up since.
    pub(crate) async fn unplug_moved(&mut self, node: &Node, vm: &VmId) -> Vec<Name> {
        let mut moved = Vec::new();
        for ((of, interface), plugged) in self.plugged.iter_mut().filter(|((of, _), _)| of == vm) {
            let Some((wanted, ..)) = place(node, of, interface) else { continue };
            if plugged.as_ref() == Some(&wanted) {
                continue;
            }
            if let Some(switch) = plugged.take() {
                self.fabric.remove_port(&switch, of.clone(), interface.clone()).await;
            }
            moved.push(interface.clone());
        }
        moved
    }

    /// Takes note that a VM has ended: nothing of it is plugged in any more.
    pub(crate) fn ended(&mut self, vm: &VmId) {
        self.plugged.retain(|(of, _), _| of != vm);
    }
}

/// Returns the switch that an interface is on, its hardware address, and those of its addresses that are known.
fn place(node: &Node, vm: &VmId, interface: &Name) -> Option<(SwitchKey, Mac, Vec<IpAddr>)> {
    let (label, _, definition) = node.owned(vm)?;
    let network: &Network = definition.networks.iter().find(|network| network.name == *interface)?;
    let Attachment::Switch(name) = &network.attachment else { return None };
    let project = node.vm_project(vm)?;
    let mac = network.mac.unwrap_or_else(|| Mac::derive(&label.owner, &label.project, &vm.name, interface));
    let addresses = match &network.address {
        AddressPlan::Static(address) => vec![address.address],
        AddressPlan::Dhcp | AddressPlan::LinkLocal => Vec::new(),
    };
    Some((SwitchKey { project, name: name.clone() }, mac, addresses))
}
