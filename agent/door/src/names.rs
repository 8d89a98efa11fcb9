//! Names of machines in addresses: `/dns4/host.example/tcp/7117`, and `host.example:7117` as people type it.
//!
//! Names are looked up as every program of the machine does it (getaddrinfo(3): hosts file, DNS, whatever else is
//! set up), when they are dialled and not before: the address behind a name may change.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::net::lookup_host;
use tokio::time::timeout;

/// The port where agents listen unless they are told otherwise.
pub const PORT_USUAL: u16 = 7117;

/// How many addresses of one name are tried.
pub const ADDRESSES_PER_NAME_MAX: usize = 8;

/// How long looking up one name may take.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a name can't be dialled. Nothing changed; later it may be otherwise.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It is not known, or whoever knows can't be asked.
    #[error("the name {name} can't be looked up")]
    Lookup {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is known, but has no address of the kind that was asked for.
    #[error("the name {0} has no such address")]
    NoAddress(String),
}

/// Which addresses of a name are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

/// Whether an address begins with a name.
pub fn has_name(address: &Multiaddr) -> bool {
    name_of(address).is_some()
}

fn name_of(address: &Multiaddr) -> Option<(String, Family)> {
    match address.iter().next()? {
        Protocol::Dns(name) => Some((name.into_owned(), Family::Any)),
        Protocol::Dns4(name) => Some((name.into_owned(), Family::V4)),
        Protocol::Dns6(name) => Some((name.into_owned(), Family::V6)),
        _ => None,
    }
}

/// Returns what an address means at the moment: itself, or one for each address that its name has.
pub async fn resolve(address: &Multiaddr) -> Result<Vec<Multiaddr>, NameError> {
    let Some((name, family)) = name_of(address) else { return Ok(vec![address.clone()]) };
    let lookup = async { Ok(lookup_host((name.as_str(), 0)).await?.collect::<Vec<SocketAddr>>()) };
    let found = timeout(LOOKUP_TIMEOUT, lookup).await;
    let found = found
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| NameError::Lookup { name: name.clone(), source })?;
    let mut addresses: Vec<Multiaddr> = Vec::new();
    for ip in found.iter().map(SocketAddr::ip).filter(|ip| fits(*ip, family)) {
        let resolved: Multiaddr = std::iter::once(Protocol::from(ip)).chain(address.iter().skip(1)).collect();
        if addresses.len() < ADDRESSES_PER_NAME_MAX && !addresses.contains(&resolved) {
            addresses.push(resolved);
        }
    }
    if addresses.is_empty() { Err(NameError::NoAddress(name)) } else { Ok(addresses) }
}

fn fits(ip: IpAddr, family: Family) -> bool {
    match family {
        Family::Any => true,
        Family::V4 => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6(),
    }
}

/// Returns the address that somebody means who types `HOST`, `HOST:PORT`, `[IPV6]:PORT`, an IP address, or a
/// multiaddress; none where it is none of these.
pub fn parse(text: &str) -> Option<Multiaddr> {
    if text.starts_with('/') {
        return text.parse().ok();
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(Multiaddr::empty().with(ip.into()).with(Protocol::Tcp(PORT_USUAL)));
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(Multiaddr::empty().with(socket.ip().into()).with(Protocol::Tcp(socket.port())));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, PORT_USUAL),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_name = name.len() <= 253 && name.trim_end_matches('.').split('.').all(is_label);
    is_name.then(|| Multiaddr::empty().with(Protocol::Dns(name.into())).with(Protocol::Tcp(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), expect, "{text}");
    }

    #[test]
    fn what_people_type_becomes_an_address() {
        check("oslo.example", Some("/dns/oslo.example/tcp/7117"));
        check("oslo:4000", Some("/dns/oslo/tcp/4000"));
        check("10.0.0.1", Some("/ip4/10.0.0.1/tcp/7117"));
        check("10.0.0.1:80", Some("/ip4/10.0.0.1/tcp/80"));
        check("[fd00::1]:80", Some("/ip6/fd00::1/tcp/80"));
        check("[fd00::1]", Some("/ip6/fd00::1/tcp/7117"));
        check("fd00::1", Some("/ip6/fd00::1/tcp/7117"));
        check("/ip4/10.0.0.1/tcp/7117", Some("/ip4/10.0.0.1/tcp/7117"));
        for wrong in ["", "oslo:", "oslo:0", "oslo:http", "a b", "a..b", "/tmp/mlnd.sock", "-:1:2"] {
            check(wrong, None);
        }
    }

    #[tokio::test]
    async fn a_name_stands_for_the_addresses_of_its_kind() {
        let localhost: Multiaddr = "/dns4/localhost/tcp/7117".parse().expect("a valid address");
        assert!(has_name(&localhost));
        let found = resolve(&localhost).await.expect("every machine has a localhost");
        assert_eq!(found, ["/ip4/127.0.0.1/tcp/7117".parse().expect("a valid address")]);
        let plain: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("a valid address");
        assert_eq!(resolve(&plain).await.expect("nothing to look up"), [plain]);
    }
}
