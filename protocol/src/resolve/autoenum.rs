//! Enumerations: `autoenum` makes hosts by number, each with its service host and its address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::collect::duplicate;
use super::definitions::{Body, Definitions, Guest, MadeAddress, Member, Named, Value};
use super::expand::{Expander, Scope};
use super::network::{address_bits, last_of_network, network_of};
use crate::lang::{Code, Diagnostic, Span};

/// Returns every host of a project, those of enumerations in the place of the enumeration.
pub(super) fn guests<'a>(definitions: &'a Definitions<'a>, expander: &mut Expander<'a>) -> Vec<Guest<'a>> {
    let vms_max = expander.limits.vms;
    let mut guests: Vec<Guest<'a>> = Vec::new();
    for member in &definitions.members {
        match member {
            Member::Host(name, host) => guests.push(Guest::of_host(name, host)),
            Member::Enumeration(name, named) => {
                let room = vms_max.saturating_sub(guests.len());
                let name = name.as_deref();
                let enumeration = Enumeration { definitions, name, named, expander };
                guests.extend(enumeration.guests(room));
            }
        }
    }
    let mut places: BTreeMap<String, Span> = BTreeMap::new();
    guests.retain(|guest| {
        let first = *places.entry(guest.name.clone()).or_insert(guest.name_span);
        // Two hosts of one enumeration cannot have the same name, so the places differ.
        if first == guest.name_span {
            return true;
        }
        expander.report.push(duplicate("host", &guest.name, guest.name_span, first));
        false
    });
    if guests.len() > vms_max {
        let span = guests[vms_max].name_span;
        expander.report.push(too_large(span, vms_max));
        guests.truncate(vms_max);
    }
    guests
}

fn too_large(span: Span, vms_max: usize) -> Diagnostic {
    Diagnostic::new(Code::ProjectLarge, span, format!("a project has at most {vms_max} hosts"))
}

struct Enumeration<'e, 'a> {
    definitions: &'a Definitions<'a>,
    name: Option<&'a str>,
    named: &'a Named<'a>,
    expander: &'e mut Expander<'a>,
}

/// Where the addresses come from.
struct Range {
    interface: String,
    network: IpAddr,
    prefix_bits: u8,
    prefix_is_stated: bool,
    begin: u128,
    span: Span,
}

impl<'a> Enumeration<'_, 'a> {
    fn scope(&self) -> Scope<'a, 'a> {
        Scope::global(&self.definitions.global.variables).host(&self.named.body.variables, None, false)
    }

    fn setting(&mut self, keyword: &str) -> Option<(String, Span)> {
        let (value, span) = self.named.body.setting(keyword)?;
        Some((self.expander.expand(value, self.scope())?, span))
    }

    /// Returns a setting that is a whole number; one that is none is reported.
    fn number(&mut self, keyword: &str, limit: u64) -> Option<(u64, Span)> {
        let (text, span) = self.setting(keyword)?;
        match text.parse() {
            Ok(number) if number <= limit => Some((number, span)),
            Ok(_) | Err(_) => {
                let message = format!("`{text}` cannot be `{keyword}`");
                let diagnostic = Diagnostic::new(Code::NumberInvalid, span, message)
                    .label(format!("expected a whole number, at most {limit}"));
                self.expander.report.push(diagnostic);
                None
            }
        }
    }

    fn missing(&mut self, message: &str, expected: &str) {
        let diagnostic =
            Diagnostic::new(Code::EnumerationMissing, self.named.name_span, message).label(expected);
        self.expander.report.push(diagnostic);
    }

    fn guests(mut self, room: usize) -> Vec<Guest<'a>> {
        let body: &'a Body<'a> = &self.named.body;
        let count = self.number("numhosts", u64::from(u32::MAX));
        let Some((count, count_span)) = count else {
            if body.lacks("numhosts") {
                self.missing("the enumeration does not say how many hosts", "expected `numhosts N`");
            }
            return Vec::new();
        };
        let count = match usize::try_from(count) {
            Ok(count) if count <= room => count,
            Ok(_) | Err(_) => {
                self.expander.report.push(too_large(count_span, self.expander.limits.vms));
                return Vec::new();
            }
        };
        if body.lacks("superclass") {
            self.missing("the enumeration has no superclass", "expected `superclass NAME`");
        }
        let superclass = self.setting("superclass");
        let prefix = self.setting("hostprefix").map_or_else(|| "node".to_owned(), |(prefix, _)| prefix);
        let service_hosts = self.service_hosts(count);
        let range = self.range(count);
        let width = count.to_string().len();
        (0..count)
            .map(|index| Guest {
                name: format!("{prefix}{:0width$}", index + 1),
                name_span: self.named.name_span,
                body: None,
                enumeration: self.name,
                superclass: superclass.clone(),
                service_host: service_hosts.get(index).cloned(),
                address: range.as_ref().map(|range| range.address(index)),
                is_class: false,
            })
            .collect()
    }

    /// Returns the service host of each VM: filled in order, what is left over going round.
    fn service_hosts(&mut self, count: usize) -> Vec<Value<'a>> {
        let mut listed: Vec<Value<'a>> = Vec::new();
        let mut filled: Vec<Value<'a>> = Vec::new();
        for line in self.named.body.lines("service_hosts") {
            let span = line.span();
            let Some(text) = self.expander.expand_line(line, self.scope()) else { continue };
            let mut words = text.split(' ');
            let host = words.next().unwrap_or_default().to_owned();
            let take = match (words.next(), words.next()) {
                (None, _) => Some(1),
                (Some("all"), None) => Some(count),
                (Some(number), None) => number.parse().ok(),
                (Some(_), Some(_)) => None,
            };
            let Some(take) = take else {
                let message = format!("`{text}` is no service host of an enumeration");
                let diagnostic = Diagnostic::new(Code::NumberInvalid, span, message)
                    .label("expected `HOST`, `HOST N` or `HOST all`");
                self.expander.report.push(diagnostic);
                continue;
            };
            let value = Value::Made { text: host, span };
            let left = count - filled.len();
            filled.extend(std::iter::repeat_n(value.clone(), left.min(take)));
            listed.push(value);
        }
        let left = count - filled.len();
        filled.extend(listed.iter().cycle().take(left).cloned());
        filled
    }

    /// Returns where addresses come from; none if there are none, or if they can't be right, which is reported.
    fn range(&mut self, count: usize) -> Option<Range> {
        let interface = self.setting("interface").map_or_else(|| "eth0".to_owned(), |(name, _)| name);
        if let Some((how, span)) = self.setting("addresses")
            && !matches!(how.as_str(), "enum" | "auto")
        {
            let diagnostic =
                Diagnostic::new(Code::ValueInvalid, span, format!("`{how}` is no way to give addresses"))
                    .label("expected `addresses enum`");
            self.expander.report.push(diagnostic);
            return None;
        }
        let Some((text, span)) = self.setting("network") else {
            if self.named.body.setting("addresses").is_some() && self.named.body.setting("network").is_none()
            {
                self.missing(
                    "the enumeration gives addresses of no network",
                    "expected `network A.B.C.D/LEN`",
                );
            }
            return None;
        };
        let begin = match self.named.body.setting("addresses_begin") {
            Some(_) => self.number("addresses_begin", u64::from(u32::MAX))?.0,
            None => 1,
        };
        let Some((network, stated)) = parse_network(&text) else {
            let diagnostic = Diagnostic::new(Code::AddressInvalid, span, format!("`{text}` is no network"))
                .label("expected an address, such as `10.0.0.0/16`");
            self.expander.report.push(diagnostic);
            return None;
        };
        let highest = u128::from(begin) + (count as u128).saturating_sub(1);
        let prefix_bits = stated.unwrap_or_else(|| likely_prefix(network, highest));
        if network_of(network, prefix_bits) != network {
            let message = format!("`{text}` is an address in a network, not a network");
            let meant = format!("{}/{prefix_bits}", network_of(network, prefix_bits));
            let diagnostic = Diagnostic::new(Code::AddressOutside, span, message)
                .label(format!("did you mean `{meant}`?"))
                .fix(span, meant);
            self.expander.report.push(diagnostic);
            return None;
        }
        let last = last_of_network(network, prefix_bits);
        let is_full = |bits: u128| match network {
            IpAddr::V4(_) if prefix_bits < 31 => bits >= last,
            IpAddr::V4(_) | IpAddr::V6(_) => bits > last,
        };
        if is_full(address_bits(network).saturating_add(highest)) {
            let message =
                format!("host {count} of {count} would get an address outside of {network}/{prefix_bits}");
            let diagnostic = Diagnostic::new(Code::EnumerationOverflow, span, message)
                .label("expected a larger network, fewer hosts or a smaller `addresses_begin`");
            self.expander.report.push(diagnostic);
            return None;
        }
        let prefix_is_stated = stated.is_some();
        Some(Range { interface, network, prefix_bits, prefix_is_stated, begin: u128::from(begin), span })
    }
}

impl Range {
    fn address(&self, index: usize) -> MadeAddress {
        let bits = address_bits(self.network) + self.begin + index as u128;
        let address = match self.network {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        MadeAddress {
            interface: self.interface.clone(),
            address,
            prefix_bits: self.prefix_bits,
            prefix_is_stated: self.prefix_is_stated,
            span: self.span,
        }
    }
}

/// Parses `A.B.C.D` or `A.B.C.D/LEN`.
fn parse_network(text: &str) -> Option<(IpAddr, Option<u8>)> {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address: IpAddr = address.parse().ok()?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    match length.map(str::parse::<u8>) {
        None => Some((address, None)),
        Some(Ok(bits)) if bits <= bits_max => Some((address, Some(bits))),
        Some(_) => None,
    }
}

/// Returns the length of a network's prefix that nobody states: 24 bits, or fewer by whole octets where the hosts
/// need more room and the network's address has zeros there; 64 bits for IPv6.
fn likely_prefix(network: IpAddr, highest: u128) -> u8 {
    match network {
        IpAddr::V6(_) => 64,
        IpAddr::V4(_) => [24, 16, 8]
            .into_iter()
            .take_while(|&bits| network_of(network, bits) == network)
            .find(|&bits| highest < (1 << (32 - bits)) - 1)
            .unwrap_or(24),
    }
}
