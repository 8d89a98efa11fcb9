//! The management console of User-Mode Linux: requests to a guest's kernel, and what it tells unasked.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
const REQUEST_DATA_BYTES: usize = 512;

/// Something that arrived from the guest's kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The kernel takes requests now.
    Listening,
    /// The kernel gave up.
    Panic(String),
    /// The answer to a request; empty where it was carried out.
    Answer { error: u32, text: String },
    /// Anything else.
    Other,
}

/// Our end of the console.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) socket: OwnedFd,
}

impl Console {
    /// Binds the socket to which the guest's kernel will speak.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket })
    }

    /// Sends a request; its answer arrives as a notice.
    pub(super) fn request(&self, guest: &Path, command: &str) -> io::Result<()> {
        let bytes = encode_request(command);
        rustix::net::sendto(
            &self.socket,
            &bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            &SocketAddrUnix::new(guest)?,
        )?;
        Ok(())
    }

    /// Returns the next notice, if one is there.
    pub(super) fn notice(&self) -> Option<Notice> {
        let mut buffer = [0; 4096];
        let (_, bytes) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        Some(decode_notice(&buffer[..bytes]))
    }
}

fn encode_request(command: &str) -> Vec<u8> {
    debug_assert!(command.len() < REQUEST_DATA_BYTES);
    let mut bytes = Vec::with_capacity(12 + REQUEST_DATA_BYTES);
    for number in [MAGIC, VERSION, command.len() as u32] {
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    bytes.extend_from_slice(command.as_bytes());
    bytes.resize(12 + REQUEST_DATA_BYTES, 0);
    bytes
}

/// Tells notices (magic, version, type, length, text) from answers (error, more, length, text).
fn decode_notice(bytes: &[u8]) -> Notice {
    let number = |index: usize| {
        let at = index * 4;
        bytes.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
    };
    let text = |at: usize, length: u32| {
        let rest = bytes.get(at..).unwrap_or_default();
        let text = &rest[..rest.len().min(length as usize)];
        String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
    };
    match (number(0), number(2), number(3)) {
        (Some(MAGIC), Some(0), Some(_)) => Notice::Listening,
        (Some(MAGIC), Some(1), Some(length)) => Notice::Panic(text(16, length)),
        (Some(MAGIC), Some(_), Some(_)) => Notice::Other,
        (Some(error), Some(length), _) => Notice::Answer { error, text: text(12, length) },
        _ => Notice::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(numbers: &[u32], text: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    #[test]
    fn notices_are_told_from_answers() {
        assert_eq!(decode_notice(&packet(&[MAGIC, 2, 0, 4], "path")), Notice::Listening);
        assert_eq!(decode_notice(&packet(&[MAGIC, 2, 1, 4], "oops")), Notice::Panic("oops".into()));
        assert_eq!(decode_notice(&packet(&[MAGIC, 2, 3, 5], "READY")), Notice::Other);
        let answer = Notice::Answer { error: 0, text: "OK".into() };
        assert_eq!(decode_notice(&packet(&[0, 0, 2], "OK\0")), answer);
        assert_eq!(decode_notice(b"xy"), Notice::Other);
        // A length that lies reads no further than the packet.
        assert_eq!(decode_notice(&packet(&[MAGIC, 2, 1, u32::MAX], "a")), Notice::Panic("a".into()));
    }

    #[test]
    fn a_request_has_its_fixed_size() {
        let bytes = encode_request("cad");
        assert_eq!(bytes.len(), 524);
        assert_eq!(&bytes[8..15], [3u32.to_ne_bytes().as_slice(), b"cad"].concat());
    }
}
