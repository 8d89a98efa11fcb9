//! The addresses on an interface with address translation: the same in every guest, whatever its host has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::{AddressPlan, InterfaceAddress};

/// Where the subnets of these interfaces begin: 10.0.2.0/24 is the first one's.
const FIRST: [u8; 2] = [10, 0];
/// The place of the first one.
const FIRST_SUBNET: u8 = 2;
/// The prefixes of their IPv6 addresses begin so, and end with the same number.
const FIRST_V6: [u16; 3] = [0xfd00, 0x6d6c, 0x6e00];

/// The addresses of one interface with address translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPlan {
    /// The guest's.
    pub address: InterfaceAddress,
    /// The router's; none where the file gives an address whose network has no room for one.
    pub gateway: Option<IpAddr>,
    /// Where the guest asks for names; the host's own server answers.
    pub nameserver: Option<IpAddr>,
    /// The network that the router announces for IPv6: 64 bits, the guest makes its address from it.
    pub announced: InterfaceAddress,
}

impl NatPlan {
    /// Returns the plan of a guest's n-th interface with address translation, counted from 0.
    ///
    /// An address in the file counts, and so does a gateway; everything else follows from them.
    pub fn nth(index: u8, written: AddressPlan, gateway: Option<IpAddr>) -> Self {
        let subnet = FIRST_SUBNET.saturating_add(index);
        let host = |last| Ipv4Addr::new(FIRST[0], FIRST[1], subnet, last);
        let address = match written {
            AddressPlan::Static(address) => address,
            AddressPlan::LinkLocal | AddressPlan::Dhcp => {
                InterfaceAddress { address: host(15).into(), prefix_bits: 24 }
            }
        };
        let [a, b, c] = FIRST_V6;
        let announced = Ipv6Addr::new(a, b, c, subnet.into(), 0, 0, 0, 15);
        let mut free = neighbours(address).filter(|&other| Some(other) != gateway);
        let gateway = gateway.or_else(|| free.next());
        Self {
            address,
            gateway,
            nameserver: free.next(),
            announced: InterfaceAddress { address: announced.into(), prefix_bits: 64 },
        }
    }
}

/// Returns the second and the next host's address of an IPv4 network, without a given one.
fn neighbours(InterfaceAddress { address, prefix_bits }: InterfaceAddress) -> impl Iterator<Item = IpAddr> {
    let network = match address {
        IpAddr::V4(own) => {
            let host_bits = 32 - u32::from(prefix_bits.min(32));
            let size = 1u64 << host_bits;
            let first = u64::from(own.to_bits()) & !(size - 1);
            Some((own, first, size))
        }
        // Routers tell of themselves there.
        IpAddr::V6(_) => None,
    };
    network.into_iter().flat_map(|(own, first, size)| {
        let last = first + size - 1;
        let hosts = (first + 2..last).filter_map(|bits| u32::try_from(bits).ok()).map(Ipv4Addr::from_bits);
        hosts.filter(move |&other| other != own).map(IpAddr::V4).take(3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_interface_has_a_subnet_of_its_own() {
        let first = NatPlan::nth(0, AddressPlan::LinkLocal, None);
        assert_eq!(first.address.to_string(), "10.0.2.15/24");
        assert_eq!((first.gateway, first.nameserver), (Some(ip("10.0.2.2")), Some(ip("10.0.2.3"))));
        assert_eq!(first.announced.to_string(), "fd00:6d6c:6e00:2::f/64");
        let second = NatPlan::nth(1, AddressPlan::Dhcp, None);
        assert_eq!(second.address.to_string(), "10.0.3.15/24");
        assert_eq!(second.gateway, Some(ip("10.0.3.2")));
    }

    #[test]
    fn what_the_file_says_counts() {
        let fixed = |text: &str, prefix_bits| {
            AddressPlan::Static(InterfaceAddress { address: ip(text), prefix_bits })
        };
        let plan = NatPlan::nth(0, fixed("192.168.7.2", 24), None);
        assert_eq!(plan.address.to_string(), "192.168.7.2/24");
        assert_eq!((plan.gateway, plan.nameserver), (Some(ip("192.168.7.3")), Some(ip("192.168.7.4"))));
        let plan = NatPlan::nth(0, fixed("192.168.7.9", 24), Some(ip("192.168.7.2")));
        assert_eq!((plan.gateway, plan.nameserver), (Some(ip("192.168.7.2")), Some(ip("192.168.7.3"))));
        let plan = NatPlan::nth(0, fixed("192.168.7.1", 30), None);
        assert_eq!((plan.gateway, plan.nameserver), (Some(ip("192.168.7.2")), None));
        let plan = NatPlan::nth(0, fixed("192.168.7.1", 32), None);
        assert_eq!((plan.gateway, plan.nameserver), (None, None));
        let plan = NatPlan::nth(0, fixed("fd01::7", 64), None);
        assert_eq!((plan.gateway, plan.nameserver), (None, None));
        assert_eq!(NatPlan::nth(0, fixed("1.2.3.4", 0), None).gateway, Some(ip("0.0.0.2")));
    }
}
