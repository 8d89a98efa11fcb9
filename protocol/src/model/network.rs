//! Interfaces and switches.

use std::fmt;
use std::net::IpAddr;

use super::impairment::Impairment;
use super::project::HostAddress;
use crate::id::Name;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Derives a locally administered unicast address (IEEE 802) from what names the interface, so that it
    /// neither changes when the VM moves nor collides on a shared segment.
    pub fn derive(owner: &Name, project: &Name, vm: &Name, interface: &Name) -> Self {
        let text = format!("mln mac 1\0{owner}\0{project}\0{vm}\0{interface}");
        let digest = blake3::hash(text.as_bytes());
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&digest.as_bytes()[..6]);
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self(bytes)
    }

    /// Parses six pairs of hexadecimal digits with colons between them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next()?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        if parts.next().is_some() { None } else { Some(Self(bytes)) }
    }

    /// Whether it names a group of stations rather than one.
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An interface of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name in the guest, `eth0`.
    pub name: Name,
    /// How it gets its address.
    pub address: AddressPlan,
    /// The router to everywhere else.
    pub gateway: Option<IpAddr>,
    /// The address that everyone on the segment listens to, where it is not the usual one.
    pub broadcast: Option<IpAddr>,
    /// Where its other end is.
    pub attachment: Attachment,
    /// Its hardware address, where the file gives one; else [`Mac::derive`].
    pub mac: Option<Mac>,
    /// The service host's ports that lead to the guest's, in the order of the file; only where the other end is
    /// the host's address translation.
    pub forwards: Vec<Forward>,
    /// What is done to the frames that leave it.
    pub impairment: Impairment,
    /// The service host's address on the tap; only where the other end is one.
    pub tap_address: Option<InterfaceAddress>,
}

/// A port of the service host that leads to one of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forward {
    /// Where the service host listens, on all of its addresses.
    pub host_port: u16,
    /// Where the guest does.
    pub guest_port: u16,
    /// What is carried.
    pub transport: Transport,
}

/// What a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Forward {
    /// Parses `8080:80`, `8080:80/tcp` or `5353:53/udp`; none where it is no such thing, or a port is 0.
    pub fn parse(text: &str) -> Option<Self> {
        let (ports, transport) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Transport::Tcp),
            Some((ports, "udp")) => (ports, Transport::Udp),
            Some(_) => return None,
        };
        let port = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u16>().ok().filter(|&port| port != 0)).flatten()
        };
        let (host, guest) = ports.split_once(':')?;
        Some(Self { host_port: port(host)?, guest_port: port(guest)?, transport })
    }

    /// Whether two of them can't be on one service host.
    pub fn clashes_with(&self, other: &Self) -> bool {
        (self.host_port, self.transport) == (other.host_port, other.transport)
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host_port, self.guest_port)?;
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str("/udp"),
        }
    }
}

/// How an interface gets its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPlan {
    /// The file says nothing: the interface is up, with a link-local IPv6 address.
    LinkLocal,
    /// From a server on the segment.
    Dhcp,
    /// As written in the file.
    Static(InterfaceAddress),
}

/// An address and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of the network's prefix, in bits.
    pub prefix_bits: u8,
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// Where the other end of an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Nowhere in the project: address translation on the service host.
    UserNat,
    /// One of the project's switches.
    Switch(Name),
    /// A bridge of the service host.
    Bridge(Name),
    /// A tap of the service host that its administrator has made beforehand.
    Tap(Name),
}

/// A switch: one learning segment over every service host that carries a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Its name in the project.
    pub name: Name,
    /// The interfaces that are attached to it, in the order of the project's VMs.
    pub members: Vec<SwitchMember>,
    /// What it is besides.
    pub settings: SwitchSettings,
}

/// What a switch is besides a segment: by default it learns, and leads nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchSettings {
    /// What it does with frames.
    pub kind: SwitchKind,
    /// How it is joined to the network of a service host, of one only.
    pub uplink: Option<Uplink>,
    /// With which number its frames are tagged (IEEE 802.1Q) on the uplink, from 1 to 4094; none is not at all.
    pub vlan: Option<u16>,
    /// Which service host has the uplink; none is the first by name of those that carry the switch.
    pub service_host: Option<HostAddress>,
}

/// What a switch does with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SwitchKind {
    /// It learns where stations are, and sends frames only there.
    #[default]
    Learning,
    /// It sends every frame everywhere.
    Hub,
}

impl SwitchKind {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Learning => "switch",
            Self::Hub => "hub",
        }
    }
}

/// How a switch is joined to the network of its service host: by a tap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// The tap's name; none is one that the agent makes up.
    pub tap: Option<Name>,
    /// The bridge that the agent puts the tap on; none is none.
    pub bridge: Option<Name>,
}

/// An interface on a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchMember {
    /// The VM.
    pub vm: Name,
    /// Its interface.
    pub interface: Name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_two_ports_and_what_is_carried() {
        let forward = |host_port, guest_port, transport| Forward { host_port, guest_port, transport };
        assert_eq!(Forward::parse("8080:80"), Some(forward(8080, 80, Transport::Tcp)));
        assert_eq!(Forward::parse("8080:80/tcp"), Some(forward(8080, 80, Transport::Tcp)));
        assert_eq!(Forward::parse("5353:53/udp"), Some(forward(5353, 53, Transport::Udp)));
        for bad in
            ["", "80", "0:80", "80:0", "80:", ":80", "65536:80", "80:80/sctp", "80:80/", "+80:80", "1:2:3"]
        {
            assert_eq!(Forward::parse(bad), None, "{bad}");
        }
        for good in ["8080:80", "5353:53/udp"] {
            assert_eq!(Forward::parse(good).map(|forward| forward.to_string()).as_deref(), Some(good));
        }
    }

    #[test]
    fn a_derived_mac_is_local_unicast_and_differs_by_interface() {
        let name = |text| Name::parse(text).expect("a valid name");
        let mac = |vm, interface| Mac::derive(&name("root"), &name("ring"), &name(vm), &name(interface));
        let first = mac("router1", "eth0");
        assert_eq!(first.0[0] & 3, 2);
        assert_ne!(first, mac("router1", "eth1"));
        assert_eq!(Mac::parse(&first.to_string()), Some(first));
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "2:0:0:0:0:0", "+2:00:00:00:00:00"] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}
