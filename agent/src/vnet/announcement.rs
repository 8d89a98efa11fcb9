//! What a station says of itself when it is somewhere else than before, so that all switches and neighbours hear of it at
//! once: for IPv4 a gratuitous ARP (RFC 5227, 3), for IPv6 an unsolicited neighbour advertisement (RFC 4861, 7.2.6), and
//! where no address is known a reverse ARP, which concerns nobody but switches. Pure.
//!
//! The switch says it for the guest: a guest speaks when it has something to say, and until then everything for it would
//! go where it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mln_protocol::model::Mac;

/// How many addresses of an interface are announced.
pub(super) const ADDRESSES_MAX: usize = 8;

/// The least that a frame has on a wire, without its checksum.
const FRAME_BYTES: usize = 60;

const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const TYPE_RARP: [u8; 2] = [0x80, 0x35];
const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];

const ARP_REQUEST: u8 = 1;
const RARP_REQUEST: u8 = 3;

const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The advertisement counts more than what was known.
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Such packets are dropped unless they come from the very segment.
const HOP_LIMIT: u8 = 255;

/// All nodes of the segment.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const BROADCAST: Mac = Mac([0xff; 6]);

/// Returns the frames by which a station announces itself: one for each address, and one where none is known.
pub(super) fn announcements(mac: Mac, addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    if addresses.is_empty() {
        return vec![arp(mac, TYPE_RARP, RARP_REQUEST, Ipv4Addr::UNSPECIFIED, mac)];
    }
    let frame = |address: &IpAddr| match address {
        IpAddr::V4(address) => arp(mac, TYPE_ARP, ARP_REQUEST, *address, Mac([0; 6])),
        IpAddr::V6(address) => advertisement(mac, *address),
    };
    addresses.iter().take(ADDRESSES_MAX).map(frame).collect()
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    [to.0.as_slice(), &from.0, &kind].concat()
}

/// A request about the sender's own address.
fn arp(mac: Mac, kind: [u8; 2], operation: u8, address: Ipv4Addr, target: Mac) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, kind);
    // Ethernet, IPv4, with addresses of six and four bytes.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend(target.0);
    frame.extend(address.octets());
    frame.resize(FRAME_BYTES, 0);
    frame
}

fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac.0);
    let length = u8::try_from(message.len()).expect("eight bytes, an address and an option of eight");
    let mut pseudo = [address.octets(), ALL_NODES.octets()].concat();
    pseudo.extend([0, 0, 0, length, 0, 0, 0, ICMPV6]);
    let sum = checksum(pseudo.iter().chain(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(ALL_NODES_MAC, mac, TYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, HOP_LIMIT]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The checksum of the Internet (RFC 1071) over an even number of bytes.
fn checksum<'b>(bytes: impl Iterator<Item = &'b u8>) -> u16 {
    let mut sum: u32 = 0;
    for (at, byte) in bytes.enumerate() {
        sum += u32::from(*byte) << (8 * (1 - at % 2));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("it was folded into sixteen bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0x4d, 0x4c, 0x4e, 0, 1]);

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_ipv4_address_is_announced_by_an_arp_about_itself() {
        let frames = announcements(MAC, &[address("10.0.0.7")]);
        let head = "ffffffffffff024d4c4e000108060001080006040001";
        let body = "024d4c4e00010a0000070000000000000a000007";
        let shown = mln_protocol::id::hex(&frames[0]);
        assert_eq!(shown, format!("{head}{body}{}", "0".repeat(36)));
        assert_eq!((frames.len(), frames[0].len()), (1, FRAME_BYTES));
    }

    #[test]
    fn an_ipv6_address_is_announced_by_an_advertisement_that_overrides_with_a_right_checksum() {
        let frames = announcements(MAC, &[address("fd00::7")]);
        let frame = &frames[0];
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!((&frame[..6], frame[20], frame[21]), (&ALL_NODES_MAC.0[..], ICMPV6, HOP_LIMIT));
        assert_eq!((frame[54], frame[58]), (NEIGHBOUR_ADVERTISEMENT, OVERRIDE));
        assert_eq!(&frame[80..86], &MAC.0);
        // Over itself with its checksum inside, the sum is nothing.
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, ICMPV6], &frame[54..]].concat();
        assert_eq!(checksum(pseudo.iter()), 0);
    }

    #[test]
    fn without_an_address_switches_alone_are_told() {
        let frames = announcements(MAC, &[]);
        assert_eq!((frames.len(), &frames[0][12..14]), (1, &TYPE_RARP[..]));
        assert_eq!(&frames[0][6..12], &MAC.0);
    }
}
