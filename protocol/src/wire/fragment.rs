//! A host's part of a project, as bytes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::fragment_guest::GuestsWire;
use super::fragment_links::LinksWire;
use super::fragment_policies::{PolicyWire, decode_policies, encode_policies};
use super::record::{forward, platform, platform_byte, transport_byte};
use super::{DecodeError, MESSAGE_BYTES_MAX, decode, encode, name, text};
use crate::id::{Digest, Name};
use crate::model::{
    AddressPlan, Attachment, Blob, BootOrder, DiskBytes, DiskSize, Forward, Fragment, GuestFile, GuestSetup,
    HostAddress, Impairment, InterfaceAddress, Mac, MemoryMib, Network, Placement, Scheduling, Switch,
    SwitchMember, SwitchSettings, TemplateRef, User, Vm,
};

/// The version of the shapes below. What has nothing of [`VmMoreWire`] is encoded as before that, so that older
/// agents read it and its digest stays the same.
const VERSION: u16 = 1;
/// The version of those with a [`VmMoreWire`] for each VM behind them.
const VERSION_MORE: u16 = 2;
/// The version of those with a [`LinksWire`] and a [`GuestsWire`] behind that.
const VERSION_LATER: u16 = 3;

/// The version of those with the most memory of each VM behind that, in MiB.
const VERSION_MEMORY: u16 = 4;

/// The version of those with the disk of a VM among their contents. It has the same shape: an agent that would build such a
/// VM with an empty disk must not read it.
const VERSION_DISKS: u16 = 5;

/// The version of those with what each VM may decide by itself behind the most memory.
const VERSION_POLICIES: u16 = 6;

/// The longest path, shell line or password of a definition, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

#[derive(Serialize, Deserialize)]
struct FragmentWire {
    version: u16,
    vms: Vec<VmWire>,
    switches: Vec<SwitchWire>,
    placement: Vec<(String, String)>,
    guest_names: Vec<(String, IpAddr)>,
    blobs: Vec<BlobWire>,
}

/// What later versions know of a VM besides, by its place.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
struct VmMoreWire {
    nameservers: Vec<IpAddr>,
    modules: Vec<String>,
    /// Of each interface: host port, guest port, and 6 for TCP or 17 for UDP, as IP has them.
    forwards: Vec<Vec<(u16, u16, u8)>>,
}

#[derive(Serialize, Deserialize)]
struct VmWire {
    name: String,
    platform: u8,
    service_host: Option<String>,
    template: Option<TemplateWire>,
    memory_mib: u32,
    vcpus: u16,
    disk: DiskWire,
    boot_order: u8,
    networks: Vec<NetworkWire>,
    users: Vec<UserWire>,
    files: Vec<(String, String, Option<u32>)>,
    startup: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum TemplateWire {
    Newest(String),
    Version(String, String),
    Exact(String, [u8; 32]),
}

#[derive(Serialize, Deserialize)]
enum DiskWire {
    Template,
    Whole(u64),
    Free(u64),
}

#[derive(Serialize, Deserialize)]
struct NetworkWire {
    name: String,
    address: AddressWire,
    gateway: Option<IpAddr>,
    broadcast: Option<IpAddr>,
    attachment: AttachmentWire,
    mac: Option<[u8; 6]>,
}

#[derive(Serialize, Deserialize)]
enum AddressWire {
    LinkLocal,
    Dhcp,
    Static(IpAddr, u8),
}

#[derive(Serialize, Deserialize)]
enum AttachmentWire {
    UserNat,
    Switch(String),
    Bridge(String),
    Tap(String),
}

#[derive(Serialize, Deserialize)]
struct UserWire {
    name: String,
    password: Option<String>,
    home: Option<String>,
    uid: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct SwitchWire {
    name: String,
    members: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct BlobWire {
    from: String,
    digest: [u8; 32],
    bytes: u64,
    mode: u32,
}

/// Encodes a fragment; the digest of this stands in the revision.
pub fn encode_fragment(fragment: &Fragment) -> Vec<u8> {
    let text = Name::to_string;
    let more: Vec<VmMoreWire> = fragment.vms.iter().map(VmMoreWire::from).collect();
    let links = LinksWire::from(fragment);
    let guests = GuestsWire::from(fragment);
    let has_more = more.iter().any(|more| *more != VmMoreWire::default());
    let has_later = links != LinksWire::default() || guests != GuestsWire::default();
    let most: Vec<Option<u32>> =
        fragment.vms.iter().map(|vm| vm.setup.memory_max.map(|most| most.0)).collect();
    let policies = encode_policies(&fragment.vms);
    let version = match (has_more, has_later) {
        _ if !policies.is_empty() => VERSION_POLICIES,
        _ if fragment.blobs.iter().any(Blob::is_disk) => VERSION_DISKS,
        _ if most.iter().any(Option::is_some) => VERSION_MEMORY,
        (_, true) => VERSION_LATER,
        (true, false) => VERSION_MORE,
        (false, false) => VERSION,
    };
    let mut bytes = encode(&FragmentWire {
        version,
        vms: fragment.vms.iter().map(VmWire::from).collect(),
        switches: fragment.switches.iter().map(SwitchWire::from).collect(),
        placement: fragment.placement.iter().map(|p| (text(&p.vm), text(&p.host))).collect(),
        guest_names: fragment.guest_names.iter().map(|(guest, address)| (text(guest), *address)).collect(),
        blobs: fragment
            .blobs
            .iter()
            .map(|b| BlobWire { from: b.from.clone(), digest: b.digest.0, bytes: b.bytes, mode: b.mode })
            .collect(),
    });
    if version >= VERSION_MORE {
        bytes.extend(encode(&more));
    }
    if version >= VERSION_LATER {
        bytes.extend(encode(&links));
        bytes.extend(encode(&guests));
    }
    if version >= VERSION_MEMORY {
        bytes.extend(encode(&most));
    }
    if version >= VERSION_POLICIES {
        bytes.extend(encode(&policies));
    }
    bytes
}

/// Decodes a fragment.
pub fn decode_fragment(bytes: &[u8]) -> Result<Fragment, DecodeError> {
    let version = bytes.get(..2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    type Shapes = (FragmentWire, Vec<VmMoreWire>, LinksWire, GuestsWire, Vec<Option<u32>>);
    let (links, guests) = (LinksWire::default(), GuestsWire::default());
    let mut policies: Vec<Vec<PolicyWire>> = Vec::new();
    let (wire, more, links, guests, most): Shapes = match version {
        VERSION => (decode(bytes, MESSAGE_BYTES_MAX)?, Vec::new(), links, guests, Vec::new()),
        VERSION_MORE => {
            let (wire, more) = decode(bytes, MESSAGE_BYTES_MAX)?;
            (wire, more, links, guests, Vec::new())
        }
        VERSION_LATER => {
            let (wire, more, links, guests) = decode(bytes, MESSAGE_BYTES_MAX)?;
            (wire, more, links, guests, Vec::new())
        }
        VERSION_MEMORY | VERSION_DISKS => decode(bytes, MESSAGE_BYTES_MAX)?,
        VERSION_POLICIES => {
            let (shapes, behind) = decode::<(Shapes, _)>(bytes, MESSAGE_BYTES_MAX)?;
            policies = behind;
            shapes
        }
        found => return Err(DecodeError::Unknown { what: "fragment version", found: found.into() }),
    };
    let placement = |(vm, host): (String, String)| Ok(Placement { vm: name(&vm)?, host: name(&host)? });
    let guest = |(guest, address): (String, IpAddr)| Ok((name(&guest)?, address));
    let blob = |b: BlobWire| {
        Ok(Blob {
            from: text(b.from, LINE_BYTES_MAX)?,
            digest: Digest(b.digest),
            bytes: b.bytes,
            mode: b.mode,
        })
    };
    let mut vms: Vec<Vm> = wire.vms.into_iter().map(Vm::try_from).collect::<Result<_, DecodeError>>()?;
    if version >= VERSION_MORE && more.len() != vms.len() {
        return Err(DecodeError::Invalid { what: "list of what VMs have besides" });
    }
    for (vm, more) in vms.iter_mut().zip(more) {
        more.add_to(vm)?;
    }
    let hooks = guests.add_to(&mut vms)?;
    if version >= VERSION_MEMORY && most.len() != vms.len() {
        return Err(DecodeError::Invalid { what: "list of the most memory of VMs" });
    }
    for (vm, most) in vms.iter_mut().zip(most) {
        vm.setup.memory_max = most.map(MemoryMib);
    }
    decode_policies(policies, &mut vms)?;
    let mut fragment = Fragment {
        vms,
        hooks,
        switches: wire.switches.into_iter().map(Switch::try_from).collect::<Result<_, DecodeError>>()?,
        placement: wire.placement.into_iter().map(placement).collect::<Result<_, DecodeError>>()?,
        guest_names: wire.guest_names.into_iter().map(guest).collect::<Result<_, DecodeError>>()?,
        blobs: wire.blobs.into_iter().map(blob).collect::<Result<_, DecodeError>>()?,
        uplinks: Vec::new(),
    };
    links.add_to(&mut fragment)?;
    // The digest in the revision is of these bytes: a part has one encoding, that of the oldest version that can hold it.
    if encode_fragment(&fragment) != bytes {
        return Err(DecodeError::Invalid {
            what: "encoding of a fragment: it is not the one of its contents",
        });
    }
    Ok(fragment)
}

impl From<&Vm> for VmMoreWire {
    fn from(vm: &Vm) -> Self {
        let ports =
            |forward: &Forward| (forward.host_port, forward.guest_port, transport_byte(forward.transport));
        let of = |network: &Network| network.forwards.iter().map(ports).collect();
        let has_forwards = vm.networks.iter().any(|network| !network.forwards.is_empty());
        Self {
            nameservers: vm.nameservers.clone(),
            modules: vm.modules.clone(),
            forwards: if has_forwards { vm.networks.iter().map(of).collect() } else { Vec::new() },
        }
    }
}

impl VmMoreWire {
    fn add_to(self, vm: &mut Vm) -> Result<(), DecodeError> {
        if !self.forwards.is_empty() && self.forwards.len() != vm.networks.len() {
            return Err(DecodeError::Invalid { what: "list of forwards" });
        }
        vm.nameservers = self.nameservers;
        let module = |found| text(found, LINE_BYTES_MAX);
        vm.modules = self.modules.into_iter().map(module).collect::<Result<_, DecodeError>>()?;
        for (network, forwards) in vm.networks.iter_mut().zip(self.forwards) {
            let forwards = forwards
                .into_iter()
                .map(|(host_port, guest_port, byte)| forward(host_port, guest_port, byte));
            network.forwards = forwards.collect::<Result<_, DecodeError>>()?;
        }
        Ok(())
    }
}

impl From<&Vm> for VmWire {
    fn from(vm: &Vm) -> Self {
        Self {
            name: vm.name.to_string(),
            platform: platform_byte(vm.platform),
            service_host: vm.service_host.as_ref().map(|host| host.0.clone()),
            template: vm.template.as_ref().map(|template| match template {
                TemplateRef::Newest(name) => TemplateWire::Newest(name.to_string()),
                TemplateRef::Version(name, version) => {
                    TemplateWire::Version(name.to_string(), version.clone())
                }
                TemplateRef::Exact(name, digest) => TemplateWire::Exact(name.to_string(), digest.0),
            }),
            memory_mib: vm.memory.0,
            vcpus: vm.vcpus,
            disk: match vm.disk {
                DiskSize::Template => DiskWire::Template,
                DiskSize::Whole(bytes) => DiskWire::Whole(bytes.0),
                DiskSize::Free(bytes) => DiskWire::Free(bytes.0),
            },
            boot_order: vm.boot_order.0,
            networks: vm.networks.iter().map(NetworkWire::from).collect(),
            users: vm
                .users
                .iter()
                .map(|u| UserWire {
                    name: u.name.to_string(),
                    password: u.password.clone(),
                    home: u.home.clone(),
                    uid: u.uid,
                })
                .collect(),
            files: vm.files.iter().map(|f| (f.from.clone(), f.to.clone(), f.mode)).collect(),
            startup: vm.startup.clone(),
        }
    }
}

impl TryFrom<VmWire> for Vm {
    type Error = DecodeError;

    fn try_from(wire: VmWire) -> Result<Self, DecodeError> {
        let line = |found| text(found, LINE_BYTES_MAX);
        let template = |template| {
            Ok(match template {
                TemplateWire::Newest(found) => TemplateRef::Newest(name(&found)?),
                TemplateWire::Version(found, version) => TemplateRef::Version(name(&found)?, line(version)?),
                TemplateWire::Exact(found, digest) => TemplateRef::Exact(name(&found)?, Digest(digest)),
            })
        };
        let user = |u: UserWire| {
            Ok(User {
                name: name(&u.name)?,
                password: u.password.map(line).transpose()?,
                home: u.home.map(line).transpose()?,
                uid: u.uid,
            })
        };
        let file = |(from, to, mode)| Ok(GuestFile { from: line(from)?, to: line(to)?, mode });
        if wire.boot_order > 99 {
            return Err(DecodeError::Invalid { what: "boot order" });
        }
        Ok(Self {
            name: name(&wire.name)?,
            platform: platform(wire.platform)?,
            service_host: wire.service_host.map(line).transpose()?.map(HostAddress),
            template: wire.template.map(template).transpose()?,
            memory: MemoryMib(wire.memory_mib),
            vcpus: wire.vcpus,
            disk: match wire.disk {
                DiskWire::Template => DiskSize::Template,
                DiskWire::Whole(bytes) => DiskSize::Whole(DiskBytes(bytes)),
                DiskWire::Free(bytes) => DiskSize::Free(DiskBytes(bytes)),
            },
            boot_order: BootOrder(wire.boot_order),
            networks: wire.networks.into_iter().map(Network::try_from).collect::<Result<_, DecodeError>>()?,
            users: wire.users.into_iter().map(user).collect::<Result<_, DecodeError>>()?,
            files: wire.files.into_iter().map(file).collect::<Result<_, DecodeError>>()?,
            startup: wire.startup.into_iter().map(line).collect::<Result<_, DecodeError>>()?,
            nameservers: Vec::new(),
            modules: Vec::new(),
            setup: GuestSetup::default(),
            scheduling: Scheduling::default(),
        })
    }
}

impl From<&Network> for NetworkWire {
    fn from(network: &Network) -> Self {
        Self {
            name: network.name.to_string(),
            address: match network.address {
                AddressPlan::LinkLocal => AddressWire::LinkLocal,
                AddressPlan::Dhcp => AddressWire::Dhcp,
                AddressPlan::Static(fixed) => AddressWire::Static(fixed.address, fixed.prefix_bits),
            },
            gateway: network.gateway,
            broadcast: network.broadcast,
            attachment: match &network.attachment {
                Attachment::UserNat => AttachmentWire::UserNat,
                Attachment::Switch(name) => AttachmentWire::Switch(name.to_string()),
                Attachment::Bridge(name) => AttachmentWire::Bridge(name.to_string()),
                Attachment::Tap(name) => AttachmentWire::Tap(name.to_string()),
            },
            mac: network.mac.map(|mac| mac.0),
        }
    }
}

impl TryFrom<NetworkWire> for Network {
    type Error = DecodeError;

    fn try_from(wire: NetworkWire) -> Result<Self, DecodeError> {
        let fixed = |address: IpAddr, prefix_bits| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            if prefix_bits > bits {
                return Err(DecodeError::Invalid { what: "prefix length" });
            }
            Ok(AddressPlan::Static(InterfaceAddress { address, prefix_bits }))
        };
        Ok(Self {
            name: name(&wire.name)?,
            address: match wire.address {
                AddressWire::LinkLocal => AddressPlan::LinkLocal,
                AddressWire::Dhcp => AddressPlan::Dhcp,
                AddressWire::Static(address, prefix_bits) => fixed(address, prefix_bits)?,
            },
            gateway: wire.gateway,
            broadcast: wire.broadcast,
            attachment: match wire.attachment {
                AttachmentWire::UserNat => Attachment::UserNat,
                AttachmentWire::Switch(found) => Attachment::Switch(name(&found)?),
                AttachmentWire::Bridge(found) => Attachment::Bridge(name(&found)?),
                AttachmentWire::Tap(found) => Attachment::Tap(name(&found)?),
            },
            mac: wire.mac.map(Mac),
            forwards: Vec::new(),
            impairment: Impairment::default(),
            tap_address: None,
        })
    }
}

impl From<&Switch> for SwitchWire {
    fn from(switch: &Switch) -> Self {
        let member = |m: &SwitchMember| (m.vm.to_string(), m.interface.to_string());
        Self { name: switch.name.to_string(), members: switch.members.iter().map(member).collect() }
    }
}

impl TryFrom<SwitchWire> for Switch {
    type Error = DecodeError;

    fn try_from(wire: SwitchWire) -> Result<Self, DecodeError> {
        let member = |(vm, interface): (String, String)| {
            Ok(SwitchMember { vm: name(&vm)?, interface: name(&interface)? })
        };
        let members = wire.members.into_iter().map(member).collect::<Result<_, DecodeError>>()?;
        Ok(Self { name: name(&wire.name)?, members, settings: SwitchSettings::default() })
    }
}
