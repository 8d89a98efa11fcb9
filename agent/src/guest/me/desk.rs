//! The socket at which `mlnctl` calls the guest agent: one call and one answer for each connection, by root alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use mln_protocol::wire::me::{ME_BYTES_MAX, MeAnswer, MeCall, decode_me_call, encode_me_answer};
use tracing::warn;

/// How many may call at a time; further ones wait.
const CLIENTS_MAX: usize = 8;
/// How many bytes say how long a frame is.
const LENGTH_BYTES: usize = 4;

/// Who calls.
pub(super) type Client = u32;

/// The socket, and those who have called.
#[derive(Debug)]
pub(super) struct Desk {
    listener: Option<UnixListener>,
    clients: BTreeMap<Client, Connection>,
    last: Client,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    stage: Stage,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Calling,
    Waiting,
    Answered,
}

impl Desk {
    /// Listens at a path, at which nobody else does.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: Some(listener), ..Self::closed() })
    }

    /// Returns one at which nobody calls.
    pub(super) fn closed() -> Self {
        Self { listener: None, clients: BTreeMap::new(), last: 0 }
    }

    /// Returns what is to be waited for: true is room to write, false is something to read.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let listener = self.listener.iter().filter(|_| self.clients.len() < CLIENTS_MAX);
        let clients = self.clients.values();
        listener
            .map(|listener| (listener.as_fd(), false))
            .chain(clients.map(|client| (client.stream.as_fd(), !client.outgoing.is_empty())))
    }

    /// Whether somebody who has called waits still.
    pub(super) fn has(&self, client: Client) -> bool {
        self.clients.contains_key(&client)
    }

    /// Reads and writes what can be; returns who wants what.
    pub(super) fn pump(&mut self) -> Vec<(Client, MeCall)> {
        self.accept();
        let mut calls = Vec::new();
        self.clients.retain(|&number, client| {
            let mut unreadable = None;
            let goes_on = client.read(&mut |bytes| match decode_me_call(bytes) {
                Ok(call) => calls.push((number, call)),
                Err(error) => unreadable = Some(error.to_string()),
            });
            if let Some(text) = unreadable {
                client.answer(&MeAnswer::Failed { text });
            }
            goes_on && client.write()
        });
        calls
    }

    /// Answers somebody who has called; whoever has gone misses it.
    pub(super) fn answer(&mut self, client: Client, answer: &MeAnswer) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.answer(answer);
            if !connection.write() {
                self.clients.remove(&client);
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while self.clients.len() < CLIENTS_MAX {
            // Whatever can't be accepted now is there again at the next look.
            let Ok((stream, _)) = listener.accept() else { return };
            let is_ours = rustix::net::sockopt::socket_peercred(&stream)
                .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
            if !is_ours || stream.set_nonblocking(true).is_err() {
                warn!("somebody who isn't root has called");
                continue;
            }
            self.last = self.last.wrapping_add(1);
            let connection =
                Connection { stream, incoming: Vec::new(), outgoing: Vec::new(), stage: Stage::Calling };
            self.clients.insert(self.last, connection);
        }
    }
}

impl Connection {
    /// Reads what there is; false where the other end has gone, or says more than one call.
    fn read(&mut self, call: &mut dyn FnMut(&[u8])) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.stage == Stage::Answered && !self.outgoing.is_empty(),
                Ok(_) if self.stage != Stage::Calling => return false,
                Ok(count) => self.incoming.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            let Some(length) = self.incoming.first_chunk::<LENGTH_BYTES>() else { continue };
            let length = u32::from_le_bytes(*length) as usize;
            if length > ME_BYTES_MAX || self.incoming.len() > LENGTH_BYTES + length {
                return false;
            }
            if self.incoming.len() == LENGTH_BYTES + length {
                self.stage = Stage::Waiting;
                call(&std::mem::take(&mut self.incoming)[LENGTH_BYTES..]);
            }
        }
    }

    fn answer(&mut self, answer: &MeAnswer) {
        self.outgoing = frame(&encode_me_answer(1, answer.clone()));
        self.stage = Stage::Answered;
    }

    /// Writes what can be; false where that was all, or nobody reads.
    fn write(&mut self) -> bool {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.stage != Stage::Answered
    }
}

/// Returns bytes with their length before them.
pub(super) fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::wire::encode;
    use mln_protocol::wire::me::{decode_me_answer, encode_me_call};

    fn desk() -> (tempfile::TempDir, Desk) {
        let folder = tempfile::tempdir().expect("a folder");
        let desk = Desk::open(&folder.path().join("sock")).expect("listens");
        (folder, desk)
    }

    #[test]
    fn a_call_is_answered_and_the_connection_ends() {
        let (folder, mut desk) = desk();
        let mut stream = UnixStream::connect(folder.path().join("sock")).expect("it listens");
        let bytes = frame(&encode_me_call(MeCall::Status));
        stream.write_all(&bytes[..3]).expect("there is room");
        assert_eq!(desk.pump(), []);
        stream.write_all(&bytes[3..]).expect("there is room");
        let calls = desk.pump();
        assert_eq!(calls, [(1, MeCall::Status)]);
        assert!(desk.has(1) && desk.pump().is_empty());
        desk.answer(1, &MeAnswer::Away);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer and the end");
        assert_eq!(decode_me_answer(&answer[LENGTH_BYTES..]).map(|wire| wire.answer), Ok(MeAnswer::Away));
        assert!(!desk.has(1));
    }

    #[test]
    fn what_is_no_call_is_answered_and_what_is_too_long_ends_the_connection() {
        let (folder, mut desk) = desk();
        let path = folder.path().join("sock");
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(&frame(&encode(&7_u64))).expect("there is room");
        assert_eq!(desk.pump(), []);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer and the end");
        let answer = decode_me_answer(&answer[LENGTH_BYTES..]).expect("an answer").answer;
        assert!(matches!(answer, MeAnswer::Failed { .. }), "{answer:?}");
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(&u32::MAX.to_le_bytes()).expect("there is room");
        assert_eq!(desk.pump(), []);
        assert!(!desk.has(2));
    }

    #[test]
    fn so_many_are_served_at_a_time_and_the_next_when_one_has_gone() {
        let (folder, mut desk) = desk();
        let path = folder.path().join("sock");
        let mut streams: Vec<UnixStream> =
            (0..=CLIENTS_MAX).map(|_| UnixStream::connect(&path).expect("it listens")).collect();
        desk.pump();
        assert_eq!(desk.clients.len(), CLIENTS_MAX);
        drop(streams.remove(0));
        desk.pump();
        desk.pump();
        assert_eq!(desk.clients.len(), CLIENTS_MAX);
        assert!(desk.has(CLIENTS_MAX as u32 + 1) && !desk.has(1));
    }
}
