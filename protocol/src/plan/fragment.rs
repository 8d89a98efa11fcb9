//! A project, split into what each of its hosts carries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::id::{Name, PublicKey};
use crate::model::{AddressPlan, Attachment, Blob, Fragment, HostAddress, Placement, Project, Switch, Vm};

/// A service host that a VM may be placed on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacedHost {
    /// Its name in the mesh.
    pub name: Name,
    /// Its key.
    pub key: PublicKey,
}

/// Why a project can't be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementError {
    /// Nobody knows the service host of a VM.
    Vm {
        /// The VM.
        vm: Name,
        /// The host that its definition names.
        host: HostAddress,
    },
    /// Nobody knows the service host of a switch.
    Switch {
        /// The switch.
        switch: Name,
        /// The host that its definition names.
        host: HostAddress,
    },
    /// The service host of a switch has no member of it.
    SwitchElsewhere {
        /// The switch.
        switch: Name,
        /// The host that its definition names.
        host: HostAddress,
        /// The names of the hosts that have members.
        carriers: Vec<Name>,
    },
}

/// Splits a project over its hosts. `find` says which host a definition means; `asked` says which one takes a VM that
/// names none, and `chosen` says where what names a group goes: see [`super::choose()`].
pub fn fragments(
    project: &Project,
    blobs: &[Blob],
    asked: impl Fn(&Name) -> PlacedHost,
    chosen: &BTreeMap<Name, PlacedHost>,
    find: impl Fn(&HostAddress) -> Option<PlacedHost>,
) -> Result<BTreeMap<PlacedHost, Fragment>, Vec<PlacementError>> {
    let mut hosts: Vec<PlacedHost> = Vec::with_capacity(project.vms.len());
    let mut unknown = Vec::new();
    for vm in &project.vms {
        match &vm.service_host {
            None => hosts.push(asked(&vm.name)),
            Some(address) => match chosen.get(&vm.name).cloned().or_else(|| find(address)) {
                Some(host) => hosts.push(host),
                None => unknown.push(PlacementError::Vm { vm: vm.name.clone(), host: address.clone() }),
            },
        }
    }
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let place: BTreeMap<&Name, &PlacedHost> = project.vms.iter().map(|vm| &vm.name).zip(&hosts).collect();
    let guest_names: Vec<(Name, IpAddr)> =
        project.vms.iter().filter_map(|vm| Some((vm.name.clone(), guest_address(vm)?))).collect();
    let mut parts: BTreeMap<PlacedHost, Fragment> = BTreeMap::new();
    for (vm, host) in project.vms.iter().zip(&hosts) {
        parts.entry(host.clone()).or_default().vms.push(vm.clone());
    }
    for fragment in parts.values_mut() {
        fragment.switches = carried_switches(&project.switches, &fragment.vms);
        let near: BTreeSet<&Name> =
            fragment.switches.iter().flat_map(|switch| switch.members.iter().map(|m| &m.vm)).collect();
        fragment.placement = near
            .into_iter()
            .filter_map(|vm| Some(Placement { vm: vm.clone(), host: place.get(vm)?.name.clone() }))
            .collect();
        fragment.hooks.clone_from(&project.hooks);
        fragment.guest_names.clone_from(&guest_names);
        let files = fragment.vms.iter().flat_map(|vm| vm.files.iter().map(|file| file.from.clone()));
        let disks = fragment.vms.iter().map(|vm| Blob::disk_of(&vm.name));
        let wanted: BTreeSet<String> = files.chain(disks).collect();
        fragment.blobs = blobs.iter().filter(|blob| wanted.contains(&blob.from)).cloned().collect();
    }
    let mut astray = Vec::new();
    for switch in project.switches.iter().filter(|switch| switch.settings.uplink.is_some()) {
        match uplink_host(switch, &parts, &find) {
            Ok(Some(host)) => {
                if let Some(fragment) = parts.get_mut(&host) {
                    fragment.uplinks.push(switch.name.clone());
                }
            }
            // It has no members.
            Ok(None) => {}
            Err(error) => astray.push(error),
        }
    }
    if astray.is_empty() { Ok(parts) } else { Err(astray) }
}

/// Returns the one host that joins a switch to its own network. With two there would be a loop: by the trunk between
/// them, and by what is outside.
fn uplink_host(
    switch: &Switch,
    parts: &BTreeMap<PlacedHost, Fragment>,
    find: impl Fn(&HostAddress) -> Option<PlacedHost>,
) -> Result<Option<PlacedHost>, PlacementError> {
    let carries = |fragment: &Fragment| fragment.switches.iter().any(|there| there.name == switch.name);
    let mut carriers = parts.iter().filter(|(_, fragment)| carries(fragment)).map(|(host, _)| host);
    let Some(address) = &switch.settings.service_host else { return Ok(carriers.next().cloned()) };
    let (name, host) = (switch.name.clone(), address.clone());
    let Some(wanted) = find(address) else { return Err(PlacementError::Switch { switch: name, host }) };
    if switch.members.is_empty() || carriers.clone().any(|carrier| *carrier == wanted) {
        return Ok(Some(wanted));
    }
    let carriers = carriers.by_ref().map(|carrier| carrier.name.clone()).collect();
    Err(PlacementError::SwitchElsewhere { switch: name, host, carriers })
}

/// Returns the address by which the other guests know this one: of its first interface that has one.
pub fn guest_address(vm: &Vm) -> Option<IpAddr> {
    vm.networks.iter().find_map(|network| match network.address {
        AddressPlan::Static(address) => Some(address.address),
        AddressPlan::Dhcp | AddressPlan::LinkLocal => None,
    })
}

fn carried_switches(switches: &[Switch], vms: &[Vm]) -> Vec<Switch> {
    let here: BTreeSet<&Name> = vms
        .iter()
        .flat_map(|vm| &vm.networks)
        .filter_map(|network| match &network.attachment {
            Attachment::Switch(name) => Some(name),
            Attachment::Bridge(_) | Attachment::UserNat | Attachment::Tap(_) => None,
        })
        .collect();
    switches.iter().filter(|switch| here.contains(&switch.name)).cloned().collect()
}
