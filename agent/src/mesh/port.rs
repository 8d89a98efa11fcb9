//! Whether an address is free to be listened on.
//!
//! libp2p shares its TCP ports (SO_REUSEPORT), so that it can dial from them; two agents on one port would each get
//! some of the connections, and nobody would be told. So the port is tried once without sharing it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Refuses a TCP address where somebody listens already. Between this and listening, another may still come; the
/// usual mistake, a second agent that is started by hand, is seen.
pub(super) fn is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::from(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::from(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port > 0 => match TcpListener::bind(SocketAddr::new(ip, port)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another program, perhaps another agent, listens on TCP port {port} already"),
            )),
            // Whatever else is wrong, listening says it better.
            Err(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_where_somebody_listens_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        for ip in ["127.0.0.1", "0.0.0.0"] {
            let address = format!("/ip4/{ip}/tcp/{port}").parse().expect("a valid address");
            let error = is_free(&address).expect_err("somebody listens there");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        }
        drop(listener);
        assert!(is_free(&format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("a valid address")).is_ok());
        assert!(is_free(&"/ip4/127.0.0.1/tcp/0".parse().expect("a valid address")).is_ok());
        assert!(is_free(&"/ip4/127.0.0.1/udp/1/quic-v1".parse().expect("a valid address")).is_ok());
    }
}
