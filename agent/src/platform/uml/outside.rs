//! Where a VM's interfaces lead: what the host must have for them, and what the VM's folder says of them.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use mln_protocol::model::{
    AddressPlan, Attachment, Forward, InterfaceAddress, NatPlan, Network, Transport, Vm,
};
use mln_protocol::wire::holder::{HOLDER_VERSION, NatWire, OutsideWire, PlugWire};

use super::folder::VmFolders;
use crate::holder::{files, tap};
use crate::platform::{BuildRequest, Refusal};

/// The numbers of protocols, as IP has them.
fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

/// Returns the interfaces of a VM, each with its addresses where it has address translation.
fn planned(vm: &Vm) -> impl Iterator<Item = (&Network, Option<NatPlan>)> {
    let mut index = 0;
    vm.networks.iter().map(move |network| {
        let plan = (network.attachment == Attachment::UserNat).then(|| {
            let plan = NatPlan::nth(index, network.address, network.gateway);
            index = index.saturating_add(1);
            plan
        });
        (network, plan)
    })
}

/// Returns the addresses that each interface is configured with, and its router: the file's, or those of address
/// translation. The first interface with that has the default route, unless the file gives a router somewhere.
pub(super) fn addresses(vm: &Vm) -> Vec<(AddressPlan, Option<std::net::IpAddr>)> {
    let mut has_route = vm.networks.iter().any(|network| network.gateway.is_some());
    planned(vm)
        .map(|(network, plan)| match plan {
            None => (network.address, network.gateway),
            Some(plan) => {
                let gateway = if has_route { network.gateway } else { plan.gateway };
                has_route = true;
                (AddressPlan::Static(plan.address), gateway)
            }
        })
        .collect()
}

/// Returns the text of the guest's `/etc/resolv.conf`; none where nobody says whom to ask.
pub(super) fn resolv_conf(vm: &Vm) -> Option<String> {
    let mut servers = vm.nameservers.clone();
    if servers.is_empty() {
        servers.extend(planned(vm).find_map(|(_, plan)| plan).and_then(|plan| plan.nameserver));
    }
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    (!lines.is_empty()).then_some(lines)
}

/// Returns what the VM's folder says of its interfaces.
pub(super) fn outside(request: &BuildRequest) -> OutsideWire {
    let interfaces = planned(&request.vm).map(|(network, plan)| match (&network.attachment, plan) {
        (Attachment::UserNat, Some(plan)) => nat_plug(network, plan),
        (Attachment::Bridge(bridge), _) => PlugWire::Tap {
            tap: tap::name(&request.id, network.name.as_str()),
            bridge: Some(bridge.as_str().to_owned()),
        },
        (Attachment::Tap(tap), _) => {
            let tap = tap.as_str().to_owned();
            match network.tap_address {
                None => PlugWire::Tap { tap, bridge: None },
                Some(InterfaceAddress { address, prefix_bits }) => {
                    PlugWire::AddressedTap { tap, address, prefix_bits }
                }
            }
        }
        (Attachment::Switch(_) | Attachment::UserNat, _) => PlugWire::Socket,
    });
    OutsideWire { version: HOLDER_VERSION, interfaces: interfaces.collect() }
}

/// Returns the address translation of an interface, and what is done to its frames.
fn nat_plug(network: &Network, plan: NatPlan) -> PlugWire {
    let nat = NatWire {
        address: plan.address.address,
        prefix_bits: plan.address.prefix_bits,
        gateway: plan.gateway,
        nameserver: plan.nameserver,
        announced: plan.announced.address,
        forwards: network
            .forwards
            .iter()
            .map(|forward| (forward.host_port, forward.guest_port, protocol(forward.transport)))
            .collect(),
    };
    if network.impairment.is_none() {
        PlugWire::Nat(nat)
    } else {
        PlugWire::ImpairedNat { nat, impairment: network.impairment.into() }
    }
}

/// Says whether this host has what a VM's interfaces lead to.
pub(super) fn check(folders: &VmFolders, vm: &Vm) -> Result<(), Refusal> {
    for network in &vm.networks {
        let interface = || network.name.clone();
        match &network.attachment {
            Attachment::Switch(_) | Attachment::UserNat => {}
            Attachment::Bridge(bridge) => {
                if !rustix::process::geteuid().is_root() {
                    return Err(Refusal::BridgeNeedsRoot { interface: interface(), bridge: bridge.clone() });
                }
                if !tap::is_bridge(bridge.as_str()) {
                    return Err(Refusal::NoBridge { interface: interface(), bridge: bridge.clone() });
                }
            }
            Attachment::Tap(tap) => {
                if !tap::is_tap(tap.as_str()) {
                    return Err(Refusal::NoTap { interface: interface(), tap: tap.clone() });
                }
                if let Some(address) = network.tap_address.filter(|_| !rustix::process::geteuid().is_root()) {
                    return Err(Refusal::TapAddressNeedsRoot {
                        interface: interface(),
                        tap: tap.clone(),
                        address,
                    });
                }
            }
        }
    }
    let mut forwards = vm.networks.iter().flat_map(|network| &network.forwards).peekable();
    if forwards.peek().is_none() {
        return Ok(());
    }
    let ours = forwards_here(folders);
    // Which of our VMs has a port is judged where all projects are known: this may be about to replace it.
    forwards
        .filter(|forward| !ours.contains(&(forward.host_port, protocol(forward.transport))))
        .try_for_each(free)
}

/// Returns the ports that lead to VMs that are built here.
fn forwards_here(folders: &VmFolders) -> Vec<(u16, u8)> {
    let there = std::fs::read_dir(&folders.folder).into_iter().flatten().flatten();
    let outsides = there.filter_map(|entry| files::read::<OutsideWire>(&entry.path(), files::OUTSIDE).ok());
    let plugs = outsides.flat_map(|outside| outside.interfaces);
    plugs
        .flat_map(|plug| match plug {
            PlugWire::Nat(nat) | PlugWire::ImpairedNat { nat, .. } => nat.forwards,
            PlugWire::Socket | PlugWire::Tap { .. } | PlugWire::AddressedTap { .. } => Vec::new(),
        })
        .map(|(host, _, protocol)| (host, protocol))
        .collect()
}

/// Refuses a port that a program of this host has, or that isn't for everybody.
fn free(forward: &Forward) -> Result<(), Refusal> {
    let everywhere = (Ipv4Addr::UNSPECIFIED, forward.host_port);
    let bound = match forward.transport {
        Transport::Tcp => TcpListener::bind(everywhere).map(drop),
        Transport::Udp => UdpSocket::bind(everywhere).map(drop),
    };
    match bound.map_err(|error| error.kind()) {
        Err(std::io::ErrorKind::AddrInUse) => Err(Refusal::PortTaken { forward: *forward }),
        Err(std::io::ErrorKind::PermissionDenied) => Err(Refusal::PortPrivileged { forward: *forward }),
        // Whatever else there is, passt will say it.
        Ok(()) | Err(_) => Ok(()),
    }
}
