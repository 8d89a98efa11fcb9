//! Interfaces and switches: addresses, masks, and who is attached to what.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::definitions::Definitions;
use super::expand::{Expander, Scope};
use super::host::MergedNetwork;
use super::inherit::MergedContent;
use super::switch;
use crate::id::Name;
use crate::lang::{Code, Diagnostic, Span};
use crate::model::{
    AddressPlan, Attachment, Forward, HostAddress, InterfaceAddress, Mac, Network, Switch, SwitchMember,
    Transport,
};

/// The project's switches with their members, and every address and hardware address that is taken.
pub(super) struct Segments<'a> {
    definitions: &'a Definitions<'a>,
    members: Vec<Vec<SwitchMember>>,
    addresses: BTreeMap<(usize, IpAddr), Taken>,
    macs: BTreeMap<Mac, Taken>,
    ports: BTreeMap<(Option<HostAddress>, u16, Transport), Taken>,
    /// Whether an interface names a switch that is not defined: then another one may be empty for that.
    is_misnamed: bool,
}

/// Who took an address first.
struct Taken {
    by: String,
    span: Span,
}

impl<'a> Segments<'a> {
    pub(super) fn new(definitions: &'a Definitions<'a>) -> Self {
        Self {
            definitions,
            members: definitions.switches.iter().map(|_| Vec::new()).collect(),
            addresses: BTreeMap::new(),
            macs: BTreeMap::new(),
            ports: BTreeMap::new(),
            is_misnamed: false,
        }
    }

    /// Returns the switches with their members, and warns of those that have none.
    pub(super) fn finish(self, expander: &mut Expander<'a>) -> Vec<Switch> {
        // Then what was meant to be attached may not be.
        let is_unsure = self.is_misnamed || expander.report.has(Code::AttachedTwice);
        let mut switches = Vec::with_capacity(self.members.len());
        for ((text, named), members) in self.definitions.switches.iter().zip(self.members) {
            if members.is_empty() && !is_unsure {
                let diagnostic = Diagnostic::new(
                    Code::SwitchEmpty,
                    named.name_span,
                    format!("nothing is attached to the switch `{text}`"),
                )
                .label(format!("expected a `network` with `switch {text}`"));
                expander.report.push(diagnostic);
            }
            let name = expander.name(text, named.name_span, "a switch's name");
            let scope = Scope::global(&self.definitions.global.variables);
            let settings = switch::settings(named, scope, expander);
            switches.extend(name.map(|name| Switch { name, members, settings }));
        }
        switches
    }

    /// Returns which of the switches a name is; one that is not defined is reported.
    fn switch(&mut self, name: &str, span: Span, expander: &mut Expander<'a>) -> Option<usize> {
        if let Some(&at) = self.definitions.switch_places.get(name) {
            return Some(at);
        }
        self.is_misnamed = true;
        let message = format!("the switch `{name}` is not defined");
        let diagnostic = Diagnostic::new(Code::SwitchUnknown, span, message)
            .label(format!("expected a block `switch {name} {{ }}`"));
        let known = self.definitions.switches.iter().map(|(name, _)| name.as_str());
        expander.report.push_unknown(diagnostic, span, name, known);
        None
    }
}

/// Makes an interface of a VM.
pub(super) struct NetworkMaker<'m, 'a> {
    pub(super) expander: &'m mut Expander<'a>,
    pub(super) segments: &'m mut Segments<'a>,
    pub(super) vm: &'m Name,
    pub(super) service_host: &'m Option<HostAddress>,
}

impl<'a> NetworkMaker<'_, 'a> {
    /// Returns the interface, with what is wrong left out; none if it cannot even have its name.
    pub(super) fn network(&mut self, merged: &MergedNetwork<'a>, scope: Scope<'_, 'a>) -> Option<Network> {
        let name = self.expander.name(&merged.name, merged.span, "an interface's name")?;
        let scope = scope.block(&merged.body.variables);
        let (address, address_span) = self.address(merged, scope);
        let network = match address {
            AddressPlan::Static(address) => Some(address),
            AddressPlan::Dhcp | AddressPlan::LinkLocal => None,
        };
        let gateway = self.neighbour(merged, scope, "gateway", network);
        let broadcast = self.neighbour(merged, scope, "broadcast", network);
        if address == AddressPlan::LinkLocal && merged.body.setting("address").is_none() {
            self.warn_without_address(merged);
        }
        let mac = self.mac(merged, scope, &name);
        let attachment = self.attachment(merged, scope, &name, network.zip(address_span));
        let forwards = self.forwards(merged, scope, &name, &attachment);
        let impairment = self.impairment(merged, scope, &attachment);
        let tap_address = self.tap_address(merged, scope, &attachment);
        Some(Network {
            name,
            address,
            gateway,
            broadcast,
            attachment,
            mac,
            forwards,
            impairment,
            tap_address,
        })
    }

    pub(super) fn setting(
        &mut self,
        merged: &MergedNetwork<'a>,
        scope: Scope<'_, 'a>,
        slot: &'static str,
    ) -> Option<(String, Span, usize)> {
        let (value, level) = merged.body.setting(slot)?;
        Some((self.expander.expand(value, scope)?, value.span(), level))
    }

    pub(super) fn report(&mut self, code: Code, span: Span, message: String, label: &str) {
        self.expander.report.push(Diagnostic::new(code, span, message).label(label));
    }

    fn warn_without_address(&mut self, merged: &MergedNetwork<'a>) {
        for slot in ["netmask", "gateway", "broadcast"] {
            if let Some((value, _)) = merged.body.setting(slot) {
                let message = format!("`{slot}` is given, but no address");
                self.report(Code::AddressMissing, value.span(), message, "expected an `address` beside it");
            }
        }
    }

    fn address(&mut self, merged: &MergedNetwork<'a>, scope: Scope<'_, 'a>) -> (AddressPlan, Option<Span>) {
        let mask = self.setting(merged, scope, "netmask");
        let Some((text, span, level)) = self.setting(merged, scope, "address") else {
            return (AddressPlan::LinkLocal, None);
        };
        if text == "dhcp" {
            return (AddressPlan::Dhcp, Some(span));
        }
        let (address, length) = text.split_once('/').map_or((text.as_str(), None), |(a, l)| (a, Some(l)));
        let Ok(address) = address.parse::<IpAddr>() else {
            let message = format!("`{text}` is no address");
            self.report(
                Code::AddressInvalid,
                span,
                message,
                "expected `A.B.C.D`, `A.B.C.D/LEN`, IPv6 or `dhcp`",
            );
            return (AddressPlan::LinkLocal, Some(span));
        };
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let stated = match length.map(str::parse::<u8>) {
            None => None,
            Some(Ok(bits)) if bits <= bits_max => Some(bits),
            Some(_) => {
                let message = format!("`{text}` has no prefix of that length");
                self.report(Code::AddressInvalid, span, message, "expected 0 to 32 bits, for IPv6 0 to 128");
                return (AddressPlan::LinkLocal, Some(span));
            }
        };
        let masked = mask.and_then(|(text, mask_span, mask_level)| {
            let bits = prefix_of_mask(&text, address.is_ipv4());
            if bits.is_none() {
                let message = format!("`{text}` is no network mask");
                self.report(Code::NetmaskInvalid, mask_span, message, "expected one such as 255.255.255.0");
            } else if stated.is_some() && stated != bits && mask_level == level {
                let message = "the mask and the length behind the address differ".to_owned();
                self.report(Code::NetmaskInvalid, mask_span, message, "one of the two is enough");
            }
            bits
        });
        let usual = if address.is_ipv4() { 24 } else { 64 };
        let prefix_bits = stated.or(masked).unwrap_or(usual);
        self.check_host_part(address, prefix_bits, span);
        (AddressPlan::Static(InterfaceAddress { address, prefix_bits }), Some(span))
    }

    /// Refuses the addresses of a network that belong to no host.
    fn check_host_part(&mut self, address: IpAddr, prefix_bits: u8, span: Span) {
        if !address.is_ipv4() || prefix_bits > 30 {
            return;
        }
        let what = if network_of(address, prefix_bits) == address {
            "that of the network itself"
        } else if last_of_network(address, prefix_bits) == address_bits(address) {
            "the one that everybody in the network listens to"
        } else {
            return;
        };
        let message = format!("{address}/{prefix_bits} is no host's address, but {what}");
        self.report(Code::AddressOutside, span, message, "expected an address between the two");
    }

    /// Returns another address in the interface's network.
    fn neighbour(
        &mut self,
        merged: &MergedNetwork<'a>,
        scope: Scope<'_, 'a>,
        slot: &'static str,
        network: Option<InterfaceAddress>,
    ) -> Option<IpAddr> {
        let (text, span, _) = self.setting(merged, scope, slot)?;
        let Ok(address) = text.parse::<IpAddr>() else {
            let message = format!("`{text}` is no address");
            self.report(Code::AddressInvalid, span, message, "expected one such as 10.0.0.1");
            return None;
        };
        if let Some(InterfaceAddress { address: own, prefix_bits }) = network
            && (own.is_ipv4() != address.is_ipv4()
                || network_of(own, prefix_bits) != network_of(address, prefix_bits))
        {
            let network = network_of(own, prefix_bits);
            let message = format!("the {slot} {address} is not in the network {network}/{prefix_bits}");
            self.report(
                Code::AddressOutside,
                span,
                message,
                "expected an address of the interface's network",
            );
        }
        Some(address)
    }

    fn mac(&mut self, merged: &MergedNetwork<'a>, scope: Scope<'_, 'a>, name: &Name) -> Option<Mac> {
        let (text, span, _) = self.setting(merged, scope, "mac")?;
        let Some(mac) = Mac::parse(&text).filter(|mac| !mac.is_multicast()) else {
            let message = format!("`{text}` is no hardware address of one interface");
            self.report(Code::MacInvalid, span, message, "expected one such as 02:00:00:00:00:01");
            return None;
        };
        let by = format!("{}:{name}", self.vm);
        match self.segments.macs.get(&mac) {
            Some(first) => {
                let message = format!("{by} and {} have the hardware address {mac}", first.by);
                let diagnostic = Diagnostic::new(Code::MacTwice, span, message).label(by);
                let diagnostic = with_first(diagnostic, first, span);
                self.expander.report.push(diagnostic);
            }
            None => _ = self.segments.macs.insert(mac, Taken { by, span }),
        }
        Some(mac)
    }

    fn attachment(
        &mut self,
        merged: &MergedNetwork<'a>,
        scope: Scope<'_, 'a>,
        name: &Name,
        address: Option<(InterfaceAddress, Span)>,
    ) -> Attachment {
        let keyword = merged.body.entry("attachment").map(|entry| entry.keyword.word);
        let setting = self.setting(merged, scope, "attachment");
        if let Some((text, span, _)) = self.setting(merged, scope, "tun_iface") {
            if keyword == Some("switch") {
                let message = format!("`tun_iface {text}` has no effect on an interface with a switch");
                self.report(Code::NoEffect, span, message, "a switch of the project needs no tap");
            } else if let Some(tap) = self.expander.name(&text, span, "a tap's name") {
                // On a bridge, where one is given, it has been put by whoever made it.
                return Attachment::Tap(tap);
            }
        }
        let (Some(keyword @ ("switch" | "bridge")), Some((text, span, _))) = (keyword, setting) else {
            return Attachment::UserNat;
        };
        let what = if keyword == "switch" { "a switch's name" } else { "a bridge's name" };
        let Some(target) = self.expander.name(&text, span, what) else {
            return Attachment::UserNat;
        };
        if keyword == "bridge" {
            return Attachment::Bridge(target);
        }
        if let Some(at) = self.segments.switch(&text, span, self.expander) {
            let member = SwitchMember { vm: self.vm.clone(), interface: name.clone() };
            self.segments.members[at].push(member);
            if let Some((address, span)) = address {
                self.take_address(at, address.address, span, name, &text);
            }
        }
        Attachment::Switch(target)
    }

    fn forwards(
        &mut self,
        merged: &MergedNetwork<'a>,
        scope: Scope<'_, 'a>,
        name: &Name,
        attachment: &Attachment,
    ) -> Vec<Forward> {
        let Some(MergedContent::Several(values)) = merged.body.entry("forward").map(|entry| &entry.content)
        else {
            return Vec::new();
        };
        let mut forwards = Vec::with_capacity(values.len());
        for value in values {
            let (Some(text), span) = (self.expander.expand(value, scope), value.span()) else { continue };
            let Some(forward) = Forward::parse(&text) else {
                let message = format!("`{text}` leads from no port to another");
                self.report(
                    Code::ForwardInvalid,
                    span,
                    message,
                    "expected `8080:80` or `5353:53/udp`: the service host's port, the guest's, each from 1 to 65535",
                );
                continue;
            };
            if *attachment != Attachment::UserNat {
                let message = format!("`forward {text}`, and the interface has no address translation");
                let label = "expected an interface without `switch` and `bridge`, such as `network nat0 { forward … }`";
                self.report(Code::ForwardMisplaced, span, message, label);
                continue;
            }
            self.take_port(forward, span, name);
            forwards.push(forward);
        }
        forwards
    }

    fn take_port(&mut self, forward: Forward, span: Span, name: &Name) {
        // Hosts of a group each have the port: whoever chooses among them sees to it.
        if self.service_host.as_ref().is_some_and(|host| host.group().is_some()) {
            return;
        }
        let by = format!("{}:{name}", self.vm);
        let key = (self.service_host.clone(), forward.host_port, forward.transport);
        match self.segments.ports.get(&key) {
            Some(first) => {
                let host = self
                    .service_host
                    .as_ref()
                    .map_or("their service host".to_owned(), HostAddress::to_string);
                let (port, transport) = (forward.host_port, forward.transport.word());
                let message = format!("{by} and {} want port {port} ({transport}) of {host}", first.by);
                let diagnostic = Diagnostic::new(Code::ForwardTwice, span, message).label(by);
                let diagnostic = with_first(diagnostic, first, span);
                self.expander.report.push(diagnostic);
            }
            None => _ = self.segments.ports.insert(key, Taken { by, span }),
        }
    }

    fn take_address(&mut self, at: usize, address: IpAddr, span: Span, name: &Name, switch: &str) {
        let by = format!("{}:{name}", self.vm);
        match self.segments.addresses.get(&(at, address)) {
            Some(first) => {
                let message =
                    format!("{by} and {} on the switch `{switch}` have the address {address}", first.by);
                let diagnostic = Diagnostic::new(Code::AddressTwice, span, message).label(by);
                let diagnostic = with_first(diagnostic, first, span);
                self.expander.report.push(diagnostic);
            }
            None => _ = self.segments.addresses.insert((at, address), Taken { by, span }),
        }
    }
}

/// Points to who was first, unless both have it from the same place of a class.
fn with_first(diagnostic: Diagnostic, first: &Taken, span: Span) -> Diagnostic {
    if first.span == span { diagnostic } else { diagnostic.other(first.span, first.by.clone()) }
}

/// Returns an address as a number.
pub(super) fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Returns the bits behind a prefix, all of them set.
fn host_bits(address: IpAddr, prefix_bits: u8) -> u128 {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let free = u32::from(bits - prefix_bits.min(bits));
    1u128.checked_shl(free).map_or(u128::MAX, |size| size - 1)
}

/// Returns the first address of the network that an address is in.
pub(super) fn network_of(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let mask = !host_bits(address, prefix_bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::try_from(mask & u128::from(u32::MAX)).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)),
    }
}

/// Returns the last address of the network that an address is in, as a number.
pub(super) fn last_of_network(address: IpAddr, prefix_bits: u8) -> u128 {
    address_bits(network_of(address, prefix_bits)) | host_bits(address, prefix_bits)
}

/// Parses a network mask, in dots or as a number of bits.
fn prefix_of_mask(text: &str, is_ipv4: bool) -> Option<u8> {
    if let Ok(bits) = text.parse::<u8>() {
        return (bits <= if is_ipv4 { 32 } else { 128 }).then_some(bits);
    }
    let mask = text.parse::<Ipv4Addr>().ok().filter(|_| is_ipv4)?.to_bits();
    (mask.leading_ones() + mask.trailing_zeros() >= 32)
        .then(|| u8::try_from(mask.leading_ones()).unwrap_or(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_contiguous() {
        assert_eq!(prefix_of_mask("255.255.255.0", true), Some(24));
        assert_eq!(prefix_of_mask("0.0.0.0", true), Some(0));
        assert_eq!(prefix_of_mask("255.255.255.255", true), Some(32));
        assert_eq!(prefix_of_mask("255.0.255.0", true), None);
        assert_eq!(prefix_of_mask("64", false), Some(64));
        assert_eq!(prefix_of_mask("33", true), None);
    }

    #[test]
    fn networks_begin_and_end_where_their_prefix_says() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network_of(ip("10.1.2.3"), 16), ip("10.1.0.0"));
        assert_eq!(network_of(ip("10.1.2.3"), 0), ip("0.0.0.0"));
        assert_eq!(last_of_network(ip("10.1.2.3"), 24), address_bits(ip("10.1.2.255")));
        assert_eq!(network_of(ip("fd00::5"), 64), ip("fd00::"));
        assert_eq!(network_of(ip("fd00::5"), 0), ip("::"));
    }
}
