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

/// A VM whose service host nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementError {
    /// The VM.
    pub vm: Name,
    /// The host that its definition names.
    pub host: HostAddress,
}

/// Splits a project over its hosts. `find` says which host a definition means; `asked` says which
/// one takes a VM that names none.
pub fn fragments(
    project: &Project,
    blobs: &[Blob],
    asked: impl Fn(&Name) -> PlacedHost,
    find: impl Fn(&HostAddress) -> Option<PlacedHost>,
) -> Result<BTreeMap<PlacedHost, Fragment>, Vec<PlacementError>> {
    let mut hosts: Vec<PlacedHost> = Vec::with_capacity(project.vms.len());
    let mut unknown = Vec::new();
    for vm in &project.vms {
        match &vm.service_host {
            None => hosts.push(asked(&vm.name)),
            Some(address) => match find(address) {
                Some(host) => hosts.push(host),
                None => unknown.push(PlacementError { vm: vm.name.clone(), host: address.clone() }),
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
        fragment.guest_names.clone_from(&guest_names);
        let wanted: BTreeSet<&str> =
            fragment.vms.iter().flat_map(|vm| vm.files.iter().map(|file| file.from.as_str())).collect();
        fragment.blobs = blobs.iter().filter(|blob| wanted.contains(blob.from.as_str())).cloned().collect();
    }
    Ok(parts)
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
