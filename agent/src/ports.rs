//! Which ports an agent has that listens wherever there is a free one: `/ip4/127.0.0.1/tcp/0`.
//!
//! Others remember where a member was. Where all members of a mesh listen on any port and all are started anew, each
//! would look for the others where nobody is any more. So the port that was found once is remembered, in a file of lines
//! that people can read, `ADDRESS PORT`, and tried before any other.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tracing::{info, warn};

use crate::causes::chain;
use crate::identity::replace_file;

/// The file's name in the data folder.
const PORTS_FILE: &str = "ports";

/// The ports that an agent has had.
#[derive(Debug)]
pub(crate) struct RememberedPorts {
    path: PathBuf,
    /// Addresses as they were asked for, each with the port that it got; equal ones in the order in which they were asked for.
    had: Vec<(Multiaddr, u16)>,
}

impl RememberedPorts {
    /// Loads those of a data folder. A line that can't be read is left out: it costs a port that others have to hear of.
    pub(crate) fn of(data: &Path) -> Self {
        let path = data.join(PORTS_FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let entry = |line: &str| {
            let (address, port) = line.split_once(' ')?;
            Some((address.parse().ok()?, port.parse().ok()?))
        };
        Self { had: text.lines().filter_map(entry).collect(), path }
    }

    /// Returns where to listen, with a port in place of each zero: the one that it had before, or another where that one is
    /// taken. What it has now is remembered, durably, before anybody can hear of it.
    pub(crate) fn settle(mut self, listen: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let mut known = self.had.clone();
        let mut have = Vec::new();
        let mut settled = Vec::new();
        // Until all have one: else two might get the same.
        let mut held: Vec<OwnedFd> = Vec::new();
        for wanted in listen {
            let Some(place) = Place::of_any_port(&wanted) else {
                settled.push(wanted);
                continue;
            };
            let at = known.iter().position(|(address, _)| *address == wanted);
            let before = at.map(|at| known.remove(at).1);
            let found = match before.map(|port| (port, place.take(port))) {
                Some((_, Ok(found))) => Ok(found),
                Some((port, Err(error))) => {
                    info!(address = %wanted, port, %error, "the port from before is not to be had; it gets another");
                    place.take(0)
                }
                None => place.take(0),
            };
            match found {
                Ok((port, socket)) => {
                    held.push(socket);
                    settled.push(with_port(&wanted, port));
                    have.push((wanted, port));
                }
                // Listening says better what is wrong with the address.
                Err(_) => settled.push(wanted),
            }
        }
        if have != self.had {
            self.had = have;
            self.save();
        }
        settled
    }

    fn save(&self) {
        let lines: String = self.had.iter().map(|(address, port)| format!("{address} {port}\n")).collect();
        if let Err(error) = replace_file(&self.path, lines.as_bytes(), 0o644) {
            // It listens all the same; after the next start, perhaps elsewhere.
            warn!(why = chain(&error), "where this host listens can't be remembered");
        }
    }
}

/// An address whose port is any.
#[derive(Clone, Copy, Debug)]
enum Place {
    Tcp(IpAddr),
    Udp(IpAddr),
}

impl Place {
    fn of_any_port(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::from(ip),
            Protocol::Ip6(ip) => IpAddr::from(ip),
            _ => return None,
        };
        match parts.next()? {
            Protocol::Tcp(0) => Some(Self::Tcp(ip)),
            Protocol::Udp(0) => Some(Self::Udp(ip)),
            _ => None,
        }
    }

    /// Returns the port, or a free one where it is zero, with what keeps it; an error where somebody has it. Between giving it
    /// back and listening, another may still come: then the agent doesn't start, and says so.
    fn take(self, port: u16) -> io::Result<(u16, OwnedFd)> {
        match self {
            Self::Tcp(ip) => {
                let socket = TcpListener::bind(SocketAddr::new(ip, port))?;
                Ok((socket.local_addr()?.port(), socket.into()))
            }
            Self::Udp(ip) => {
                let socket = UdpSocket::bind(SocketAddr::new(ip, port))?;
                Ok((socket.local_addr()?.port(), socket.into()))
            }
        }
    }
}

fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(0) => Protocol::Tcp(port),
            Protocol::Udp(0) => Protocol::Udp(port),
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("a valid address")
    }

    fn settle(data: &Path, listen: &[&str]) -> Vec<String> {
        let listen = listen.iter().map(|text| address(text)).collect();
        RememberedPorts::of(data).settle(listen).iter().map(Multiaddr::to_string).collect()
    }

    const ANY: [&str; 3] = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];

    #[test]
    fn a_port_that_was_found_once_is_taken_again() {
        let data = tempfile::tempdir().expect("a folder");
        let first = settle(data.path(), &ANY);
        assert!(first.iter().all(|address| !address.contains("/0")), "{first:?}");
        assert_ne!(first[0], first[2]);
        assert_eq!(settle(data.path(), &ANY), first);
    }

    #[test]
    fn where_it_is_taken_there_is_another_which_is_remembered_from_then_on() {
        let data = tempfile::tempdir().expect("a folder");
        let first = settle(data.path(), &ANY[..1]);
        let port: u16 = first[0].rsplit('/').next().expect("it ends with one").parse().expect("a port");
        let other = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
        let second = settle(data.path(), &ANY[..1]);
        assert_ne!(second, first);
        drop(other);
        assert_eq!(settle(data.path(), &ANY[..1]), second, "others have heard of it");
    }

    #[test]
    fn what_names_its_port_or_is_no_address_of_a_machine_stays_as_it_is() {
        let data = tempfile::tempdir().expect("a folder");
        let fixed = ["/ip4/127.0.0.1/tcp/7117", "/dns4/oslo.example/tcp/0", "/memory/0"];
        assert_eq!(settle(data.path(), &fixed), fixed);
        assert!(!data.path().join(PORTS_FILE).exists(), "there is nothing to be remembered");
        std::fs::write(data.path().join(PORTS_FILE), "what is\nthis 7\n").expect("it is ours");
        assert_eq!(settle(data.path(), &ANY[..1]).len(), 1, "it is made anew");
    }
}
