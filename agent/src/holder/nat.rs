//! Address translation for a guest's interface: a process of `passt`, and a thread that moves the frames.
//!
//! ```text
//!   linux.uml ◄── packets, a frame in each ──► pump ◄── stream, a length before each frame ──► passt ◄──► the host's sockets
//! ```
//!
//! The holder has both ends, so connections go on while the agent is away. passt is in the guest's process group
//! and ends with it; it also ends when our end of its stream is closed, so that nothing outlives a holder. It
//! confines itself; what it may reach is what the host's network namespace has, the host's own loopback
//! addresses excepted.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mln_protocol::model::Impairment;
use mln_protocol::wire::holder::{NatStateWire, NatWire};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};
use tracing::{info, warn};

use super::packet;
use crate::shaper::Shaper;

/// Where programs are looked for.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How long after one that failed the next attempt is made: a host may get its route, or passt, later.
const RETRY: Duration = Duration::from_secs(5);
/// The longest frame, in bytes; what says that it is longer is no frame.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// The number of IP's protocol TCP.
const TCP: u8 = 6;

/// Address translation of one interface.
#[derive(Debug)]
pub(super) struct Nat {
    wire: NatWire,
    impairment: Impairment,
    passt: Option<Passt>,
    tried: Instant,
    state: NatStateWire,
}

#[derive(Debug)]
struct Passt {
    process: Child,
    pidfd: OwnedFd,
    stream: Arc<Mutex<Stream>>,
}

impl Drop for Passt {
    fn drop(&mut self) {
        // It may have ended with its group. Its status is taken here: where the first process of a container takes none,
        // something of it would stay for each guest that was stopped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nat {
    /// Starts it, in the process group of the guest. That it doesn't run is no error, but a state.
    pub(super) fn start(wire: NatWire, impairment: Impairment, group: Pid) -> Self {
        let mut nat =
            Self { wire, impairment, passt: None, tried: Instant::now(), state: NatStateWire::Failed };
        nat.attempt(group);
        nat
    }

    /// Returns whether it runs, and if not, why.
    pub(super) fn state(&self) -> NatStateWire {
        self.state
    }

    /// Returns what becomes readable when its process ends.
    pub(super) fn end(&self) -> Option<&OwnedFd> {
        self.passt.as_ref().map(|passt| &passt.pidfd)
    }

    /// Takes in that its process has ended.
    pub(super) fn ended(&mut self) {
        if let Some(mut passt) = self.passt.take() {
            let status = passt.process.wait();
            warn!(?status, "passt has ended");
            self.state = NatStateWire::Failed;
            self.tried = Instant::now();
        }
    }

    /// Returns when the next attempt is due; none while it runs.
    pub(super) fn due(&self) -> Option<Instant> {
        self.passt.is_none().then(|| self.tried + RETRY)
    }

    /// Tries again if that is due; true where it runs now and didn't before.
    pub(super) fn retry(&mut self, group: Pid) -> bool {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return false;
        }
        self.attempt(group);
        self.passt.is_some()
    }

    fn attempt(&mut self, group: Pid) {
        self.tried = Instant::now();
        let routes = Routes::of_this_network();
        let before = self.state;
        self.state = match (program(), routes.any(), taken_port(&self.wire.forwards)) {
            (None, _, _) => NatStateWire::NotInstalled,
            (_, false, _) => NatStateWire::NoRoute,
            (_, _, Some(port)) => {
                warn!(port, "another program has a port that leads to this guest");
                NatStateWire::Failed
            }
            (Some(program), true, None) => {
                match spawn(&program, &self.wire, self.impairment, routes, group) {
                    Ok(passt) => {
                        info!(group = group.as_raw_nonzero(), "passt runs");
                        self.passt = Some(passt);
                        NatStateWire::Up
                    }
                    Err(error) => {
                        warn!(%error, "passt can't be started");
                        NatStateWire::Failed
                    }
                }
            }
        };
        if self.state != before && self.state != NatStateWire::Up {
            info!(state = ?self.state, "no address translation");
        }
    }

    /// Moves the frames of an interface that has come up, until it goes down.
    pub(super) fn plug(&self, interface: &OwnedFd) {
        let Some(passt) = &self.passt else { return };
        let stream = passt.stream.clone();
        let plugged = interface.try_clone().and_then(|interface| {
            let pump = move || {
                // The one of the connection before ends when it sees that this is over.
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                let end = stream.pump(&interface);
                info!(?end, "an interface with address translation is down");
            };
            std::thread::Builder::new().name("nat".to_owned()).spawn(pump)
        });
        if let Err(error) = plugged {
            warn!(%error, "an interface gets no address translation");
        }
    }
}

/// Returns where passt is.
fn program() -> Option<PathBuf> {
    FOLDERS.into_iter().map(|folder| Path::new(folder).join("passt")).find(|path| path.exists())
}

/// Returns whether the host has the program that does address translation.
pub fn is_installed() -> bool {
    program().is_some()
}

/// Returns the first of these ports that another program has. passt itself goes on without it where it gets the
/// port in one family of addresses, and nobody would hear of the other.
fn taken_port(forwards: &[(u16, u16, u8)]) -> Option<u16> {
    let taken = |&(port, _, protocol): &(u16, u16, u8)| {
        let everywhere = (Ipv4Addr::UNSPECIFIED, port);
        let bound = match protocol {
            TCP => TcpListener::bind(everywhere).map(drop),
            _ => UdpSocket::bind(everywhere).map(drop),
        };
        bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse).then_some(port)
    };
    forwards.iter().find_map(taken)
}

/// Which ways lead out of this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Routes {
    v4: bool,
    v6: bool,
}

impl Routes {
    fn of_this_network() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
        Self::of(&read("route"), &read("ipv6_route"))
    }

    /// Reads the kernel's tables.
    fn of(v4: &str, v6: &str) -> Self {
        // Interface, destination, gateway, flags, counters, metric, mask.
        let v4 = v4.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let leads_out =
            |fields: &Vec<&str>| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        // Destination and its length first, the interface last. What can't be reached leads to `lo`.
        let v6 = v6.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let leads_out_v6 = |fields: &Vec<&str>| {
            fields.first().is_some_and(|destination| destination.bytes().all(|byte| byte == b'0'))
                && fields.get(1) == Some(&"00")
                && fields.last() != Some(&"lo")
        };
        Self { v4: v4.filter(leads_out).count() > 0, v6: v6.filter(leads_out_v6).count() > 0 }
    }

    fn any(self) -> bool {
        self.v4 || self.v6
    }
}

/// Returns whom the host asks for names, where passt wouldn't find that out by itself: what the host's own
/// addresses lead to is closed to guests, and a resolver of systemd listens on one of those.
fn resolvers() -> Vec<Ipv4Addr> {
    let read = |path: &str| servers(&fs::read_to_string(path).unwrap_or_default());
    let usual = read("/etc/resolv.conf");
    if usual.is_empty() || usual.iter().any(|server| !server.is_loopback()) {
        return Vec::new();
    }
    read("/run/systemd/resolve/resolv.conf").into_iter().filter(|server| !server.is_loopback()).collect()
}

/// Reads the IPv4 servers of a `resolv.conf`.
fn servers(text: &str) -> Vec<Ipv4Addr> {
    text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok()).collect()
}

fn arguments(wire: &NatWire, routes: Routes, resolvers: &[Ipv4Addr], is_root: bool) -> Vec<OsString> {
    let mut words: Vec<String> =
        ["-q", "-f", "-F", "0", "--no-map-gw", "-m", "1500"].map(String::from).into();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if is_root {
        add("--runas", "nobody".to_owned());
    }
    // Of each family only what the host has: passt gives up on one without a route.
    if routes.v4 {
        if let IpAddr::V4(address) = wire.address {
            add("-a", address.to_string());
            add("-n", wire.prefix_bits.to_string());
        }
        if let Some(gateway @ IpAddr::V4(_)) = wire.gateway {
            add("-g", gateway.to_string());
        }
        if let Some(nameserver @ IpAddr::V4(_)) = wire.nameserver {
            add("--dns-forward", nameserver.to_string());
            resolvers.iter().for_each(|resolver| add("-D", resolver.to_string()));
        }
    }
    if routes.v6 {
        let address = if wire.address.is_ipv6() { wire.address } else { wire.announced };
        add("-a", address.to_string());
    }
    for (option, of_tcp) in [("-t", true), ("-u", false)] {
        let mut ports =
            wire.forwards.iter().filter(|(_, _, protocol)| (*protocol == TCP) == of_tcp).peekable();
        if ports.peek().is_none() {
            // Without this the ports of the other protocol would be forwarded for this one too.
            add(option, "none".to_owned());
        }
        ports.for_each(|(host, guest, _)| add(option, format!("{host}:{guest}")));
    }
    match routes {
        Routes { v4: true, v6: false } => words.push("-4".to_owned()),
        Routes { v4: false, v6: true } => words.push("-6".to_owned()),
        Routes { v4: true, v6: true } | Routes { v4: false, v6: false } => {}
    }
    words.into_iter().map(OsString::from).collect()
}

fn spawn(
    program: &Path,
    wire: &NatWire,
    impairment: Impairment,
    routes: Routes,
    group: Pid,
) -> io::Result<Passt> {
    let (ours, its) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let process = Command::new(program)
        .args(arguments(wire, routes, &resolvers(), rustix::process::geteuid().is_root()))
        .env_clear()
        .stdin(its)
        // The holder's own is nothing to write to; its errors belong into the holder's log.
        .stdout(std::process::Stdio::null())
        .process_group(group.as_raw_nonzero().get())
        .spawn()?;
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&process), PidfdFlags::empty())?;
    let stream = Stream::new(ours, impairment);
    Ok(Passt { process, pidfd, stream: Arc::new(Mutex::new(stream)) })
}

/// passt's end: what is on its way in both directions, so that no frame is torn when an interface goes down.
#[derive(Debug)]
struct Stream {
    socket: OwnedFd,
    /// The frame that is being written, with its length, and how much of it is.
    out: Vec<u8>,
    written: usize,
    /// What was read, and how much of it has been taken; at most a frame and its length.
    received: Vec<u8>,
    taken: usize,
    /// Holds back what the guest sends, where the project wants that.
    shaper: Option<Shaper>,
    start: Instant,
}

/// Why frames are no longer moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PumpEnd {
    /// The guest has taken the interface down, or is gone.
    Interface,
    /// passt is gone.
    Passt,
    /// What came from passt is no frame.
    Garbage,
    /// The system refuses to wait.
    Wait(Errno),
}

impl Stream {
    fn new(socket: OwnedFd, impairment: Impairment) -> Self {
        let seed = RandomState::new().build_hasher().finish();
        Self {
            socket,
            out: Vec::new(),
            written: 0,
            received: Vec::new(),
            taken: 0,
            shaper: (!impairment.is_none()).then(|| Shaper::new(impairment, seed)),
            start: Instant::now(),
        }
    }

    fn pump(&mut self, interface: &OwnedFd) -> PumpEnd {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let mut guest_is_full = false;
        loop {
            let mut waits = [
                PollFd::new(interface, if self.out.is_empty() { PollFlags::IN } else { PollFlags::empty() }),
                PollFd::new(&self.socket, if guest_is_full { PollFlags::empty() } else { PollFlags::IN }),
            ];
            if guest_is_full {
                waits[0] = PollFd::from_borrowed_fd(interface.as_fd(), waits_of(&self.out) | PollFlags::OUT);
            }
            if !self.out.is_empty() {
                let flags = if guest_is_full { PollFlags::empty() } else { PollFlags::IN };
                waits[1] = PollFd::from_borrowed_fd(self.socket.as_fd(), flags | PollFlags::OUT);
            }
            match rustix::event::poll(&mut waits, self.left().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return PumpEnd::Wait(errno),
            }
            let [guest, passt] = waits.map(|wait| wait.revents());
            // Both ends at once: more may be there than one packet.
            if let Err(end) = self.collect(interface, &mut buffer) {
                return end;
            }
            match self.deliver(interface) {
                Ok(full) => guest_is_full = full,
                Err(end) => return end,
            }
            if guest.intersects(PollFlags::HUP | PollFlags::ERR) {
                return PumpEnd::Interface;
            }
            // Also where the guest doesn't take the rest: nothing more will come, and nobody waits for that.
            if passt.contains(PollFlags::HUP) {
                return PumpEnd::Passt;
            }
        }
    }

    /// Returns how long it is until a frame is due that is held back; none where none is, or passt is waited for.
    fn left(&self) -> Option<Timespec> {
        let due = self.shaper.as_ref().filter(|_| self.out.is_empty())?.next_due()?;
        let left = due.saturating_sub(self.start.elapsed());
        Some(Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }))
    }

    /// Takes frames from the guest as long as passt takes them.
    fn collect(&mut self, interface: &OwnedFd, buffer: &mut [u8]) -> Result<(), PumpEnd> {
        loop {
            while self.written < self.out.len() {
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                match rustix::net::send(&self.socket, &self.out[self.written..], flags) {
                    Ok(count) => self.written += count,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(Errno::INTR) => {}
                    Err(_) => return Err(PumpEnd::Passt),
                }
            }
            self.out.clear();
            self.written = 0;
            if let Some(frame) = self.shaper.as_mut().and_then(|shaper| shaper.take_due(self.start.elapsed()))
            {
                self.put_out(&frame);
                continue;
            }
            match packet::receive(interface, buffer) {
                Ok(packet) if packet.bytes == 0 => return Err(PumpEnd::Interface),
                Ok(packet) => {
                    let frame = &buffer[..packet.bytes];
                    match &mut self.shaper {
                        None => self.put_out(frame),
                        // One that is lost, or of too many, is gone.
                        Some(shaper) => _ = shaper.offer(self.start.elapsed(), frame),
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    // One that is too long for anybody.
                    io::ErrorKind::Interrupted | io::ErrorKind::InvalidData => {}
                    _ => return Err(PumpEnd::Interface),
                },
            }
        }
    }

    /// Puts a frame and its length into `out`, which is empty.
    fn put_out(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(frame);
    }

    /// Brings frames to the guest as long as it takes them; true where it doesn't take the next one now.
    fn deliver(&mut self, interface: &OwnedFd) -> Result<bool, PumpEnd> {
        loop {
            while let Some(frame) = next_frame(&self.received[self.taken..])? {
                match packet::send(interface, frame, None) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => return Err(PumpEnd::Interface),
                }
                self.taken += 4 + frame.len();
            }
            self.received.drain(..self.taken);
            self.taken = 0;
            let there = self.received.len();
            self.received.resize(there + FRAME_BYTES_MAX, 0);
            let read = rustix::net::recv(
                &self.socket,
                &mut self.received[there..],
                rustix::net::RecvFlags::DONTWAIT,
            );
            let count = *read.as_ref().map_or(&0, |(count, _)| count);
            self.received.truncate(there + count);
            match read {
                Ok((_, 0)) => return Err(PumpEnd::Passt),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(_) => return Err(PumpEnd::Passt),
            }
        }
    }
}

fn waits_of(out: &[u8]) -> PollFlags {
    if out.is_empty() { PollFlags::IN } else { PollFlags::empty() }
}

/// Returns the frame that a stream goes on with, once all of it is there.
fn next_frame(bytes: &[u8]) -> Result<Option<&[u8]>, PumpEnd> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(PumpEnd::Garbage);
    }
    Ok(rest.get(..length))
}

#[cfg(test)]
#[path = "nat_test.rs"]
mod tests;
