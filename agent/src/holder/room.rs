//! Room on the way between a guest and its switch.
//!
//! User-Mode Linux sends frames without waiting. When its socket is full its kernel tries again at once, and so
//! takes the processor from those who would make room: the switch and the receiver. A usual socket holds about
//! ninety frames, less than one TCP connection has on its way. So both ends get more, as much as the system lets
//! an ordinary user have (`net.core.wmem_max`).
//!
//! The guest's own end is in the guest's process. Its holder started that process, so it may take a duplicate of
//! the descriptor (`pidfd_getfd`); where that is forbidden, the socket stays as it is and the network is slower.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::net::{SocketAddrUnix, SocketType, sockopt};
use rustix::process::{Pid, PidfdGetfdFlags, pidfd_getfd};

/// How much may be on its way in each direction, in bytes of the kernel's own counting, which takes some hundred
/// bytes more for each frame. A guest's TCP has at most some 400 KB of data on its way, which are 1 MiB here.
const SEND_BYTES: usize = 1 << 20;

/// The most descriptors of a guest's process that are looked at.
const DESCRIPTORS_MAX: usize = 1024;

/// Makes room on both ends of an interface that a guest has connected to the listener `port`.
///
/// `guest` and `pid` are the guest's process. An error says that its own end could not be reached.
pub(super) fn widen(ours: &OwnedFd, guest: BorrowedFd<'_>, pid: Pid, port: &str) -> io::Result<()> {
    sockopt::set_socket_send_buffer_size(ours, SEND_BYTES)?;
    let theirs = connected_to(guest, pid, Path::new(port))?;
    Ok(sockopt::set_socket_send_buffer_size(theirs, SEND_BYTES)?)
}

/// Returns a duplicate of the socket of a process that is connected to a listener.
fn connected_to(process: BorrowedFd<'_>, pid: Pid, port: &Path) -> io::Result<OwnedFd> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
    for entry in entries.flatten().take(DESCRIPTORS_MAX) {
        let is_socket = std::fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|_| is_socket) else { continue };
        // It may have been closed meanwhile.
        let Ok(socket) = pidfd_getfd(process, number, PidfdGetfdFlags::empty()) else { continue };
        if sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET) && leads_to(&socket, port) {
            return Ok(socket);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn leads_to(socket: impl AsFd, port: &Path) -> bool {
    let peer = rustix::net::getpeername(socket).ok().flatten();
    let peer = peer.and_then(|peer| SocketAddrUnix::try_from(peer).ok());
    peer.is_some_and(|peer| peer.path_bytes() == Some(port.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use crate::holder::packet;

    #[test]
    fn both_ends_get_more_room_and_no_other_socket_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("port-0.sock");
        let listener = packet::listen(&path).expect("listens");
        let here = rustix::fs::open(
            folder.path(),
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .expect("opens");
        let theirs = packet::connect_in(here.as_fd(), "port-0.sock").expect("connects");
        let ours = packet::accept(listener.as_fd()).expect("it waits");
        let before = sockopt::socket_send_buffer_size(&theirs).expect("a size");

        // This process is its own guest here: it may always look at itself.
        let process = pidfd_open(getpid(), PidfdFlags::empty()).expect("it runs");
        let port = path.to_str().expect("a plain path");
        widen(&ours, process.as_fd(), getpid(), port).expect("it is there");
        let after = sockopt::socket_send_buffer_size(&theirs).expect("a size");
        assert!(after > before, "{before} → {after}");
        assert_eq!(sockopt::socket_send_buffer_size(&ours).expect("a size"), after);
        let other = folder.path().join("port-1.sock");
        let missing = widen(&ours, process.as_fd(), getpid(), other.to_str().expect("a plain path"));
        assert_eq!(missing.expect_err("nobody is connected to it").kind(), io::ErrorKind::NotFound);
    }
}
