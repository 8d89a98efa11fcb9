//! The hosts' network: a namespace for each and a bridge between them, or ports of this machine.

use std::fs::{self, File};
use std::net::{IpAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::answer::Answer;
use crate::host::LIMIT;

/// Where the system keeps the names of network namespaces.
const NAMES: &str = "/run/netns";

/// The hosts' network.
#[derive(Debug)]
pub(crate) enum Network {
    /// Each host has a namespace; their names begin with this. Needs root, and that it may.
    Namespaces { prefix: String, hosts: u8 },
    /// All hosts are on 127.0.0.1.
    Ports,
}

/// Where a host is in the network.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its namespace; none is that of the test.
    namespace: Option<PathBuf>,
    /// Where its agent listens.
    pub(crate) listen: Vec<String>,
    /// Its address there; none is 127.0.0.1, which it shares.
    pub(crate) address: Option<String>,
}

impl Network {
    /// Makes the bridge, where there is one.
    pub(crate) fn new(prefix: &str) -> Self {
        let hub = format!("{prefix}-hub");
        // Root in a container often may not.
        let is_allowed = geteuid().is_root()
            && try_ip(&["netns", "add", &hub])
            && try_ip(&["-n", &hub, "link", "add", "lan", "type", "bridge"]);
        if !is_allowed {
            return Self::Ports;
        }
        ip(&["-n", &hub, "link", "set", "lan", "up"]);
        Self::Namespaces { prefix: prefix.to_owned(), hosts: 0 }
    }

    /// Adds a host.
    pub(crate) fn add(&mut self, name: &str) -> Place {
        let Self::Namespaces { prefix, hosts } = self else {
            return Place {
                namespace: None,
                listen: vec![format!("/ip4/127.0.0.1/tcp/{}", free_port())],
                address: None,
            };
        };
        *hosts += 1;
        let hub = format!("{prefix}-hub");
        let space = format!("{prefix}-{name}");
        let port = format!("port{hosts}");
        let address = format!("10.77.0.{hosts}");
        ip(&["netns", "add", &space]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
        ip(&["-n", &space, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &hub]);
        ip(&["-n", &hub, "link", "set", &port, "master", "lan", "up"]);
        ip(&["-n", &space, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &space, "link", "set", "eth0", "up"]);
        let listen = vec![format!("/ip4/{address}/tcp/7117"), format!("/ip4/{address}/udp/7117/quic-v1")];
        Place { namespace: Some(PathBuf::from(NAMES).join(space)), listen, address: Some(address) }
    }

    /// Adds a host that has IPv6 alone.
    pub(crate) fn add_ipv6(&mut self, name: &str) -> Place {
        let place = self.add(name);
        let Some(address) = &place.address else {
            return Place { listen: vec![format!("/ip6/::1/tcp/{}", free_port())], ..place };
        };
        let Self::Namespaces { prefix, hosts } = self else { return place };
        let space = format!("{prefix}-{name}");
        let ipv6 = format!("fd77::{hosts}");
        ip(&["-n", &space, "address", "del", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &space, "address", "add", &format!("{ipv6}/64"), "dev", "eth0", "nodad"]);
        Place { listen: vec![format!("/ip6/{ipv6}/tcp/7117")], address: Some(ipv6), ..place }
    }
}

impl Place {
    /// Returns the machine's own network, which may lead to the outside.
    pub(crate) fn of_the_machine() -> Self {
        Self { namespace: None, listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()], address: None }
    }

    /// Has an agent listen on any port of the address that it has.
    pub(crate) fn listen_on_any_port(&mut self) {
        let ip = self.listen.first().and_then(|address| address.split('/').nth(2)).unwrap_or("127.0.0.1");
        self.listen = vec![format!("/ip4/{ip}/tcp/0")];
    }

    /// Makes an address unreachable from here.
    pub(crate) fn cut_off_from(&self, address: IpAddr) {
        let space = self.namespace.as_deref().and_then(std::path::Path::file_name);
        let space = space.and_then(std::ffi::OsStr::to_str).expect("only namespaces can be cut off");
        ip(&["-n", space, "route", "add", "unreachable", &format!("{address}/32")]);
    }

    /// Returns a command that runs a program here.
    pub(crate) fn command(&self, program: &std::path::Path) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(path) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", path.display())).arg(program);
                command
            }
        }
    }

    /// Returns its address, where it has a network of its own.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.namespace.as_ref()?;
        self.listen.first()?.split('/').nth(2)?.parse().ok()
    }

    /// Does something here, in a thread of its own.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                if let Some(path) = &self.namespace {
                    let space = File::open(path).expect("the namespace is there");
                    move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                        .expect("root may enter it");
                }
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Returns a port that nobody has. The host keeps it, as its peers expect after a restart.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a machine has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Removes all namespaces whose names begin so.
pub(crate) fn remove(prefix: &str) {
    let Ok(names) = fs::read_dir(NAMES) else { return };
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        if name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-')) {
            ip(&["netns", "del", &name]);
        }
    }
}

fn ip(arguments: &[&str]) {
    ask_ip(arguments).done();
}

fn try_ip(arguments: &[&str]) -> bool {
    ask_ip(arguments).code == Some(0)
}

fn ask_ip(arguments: &[&str]) -> Answer {
    let mut command = Command::new("ip");
    command.args(arguments).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    Answer::of(command, &[], LIMIT)
}
