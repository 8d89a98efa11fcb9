//! The addresses of members, in a file of lines that people can read: `KEY ADDRESS`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use mln_protocol::id::PublicKey;

use crate::identity::{IdentityError, replace_file};

/// The file's name in the data folder.
const BOOK_FILE: &str = "peers";

/// Where members were last known to listen.
#[derive(Debug)]
pub(crate) struct AddressBook {
    path: PathBuf,
}

impl AddressBook {
    /// Returns the book of a data folder.
    pub(crate) fn of(data: &Path) -> Self {
        Self { path: data.join(BOOK_FILE) }
    }

    /// Returns the book in a file that was copied from another host.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Loads it. What can't be read is left out: a lost address is learned again from any other member.
    pub(crate) fn load(&self) -> Vec<(PublicKey, Vec<Multiaddr>)> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let mut peers: BTreeMap<PublicKey, Vec<Multiaddr>> = BTreeMap::new();
        for line in text.lines() {
            let Some((key, address)) = line.split_once(' ') else { continue };
            if let (Some(key), Ok(address)) = (PublicKey::from_hex(key), address.parse()) {
                peers.entry(key).or_default().push(address);
            }
        }
        peers.into_iter().collect()
    }

    /// Saves it.
    pub(crate) fn save(&self, peers: &[(PublicKey, Vec<Multiaddr>)]) -> Result<(), IdentityError> {
        let lines =
            peers.iter().flat_map(|(key, addresses)| addresses.iter().map(move |a| format!("{key} {a}\n")));
        replace_file(&self.path, lines.collect::<String>().as_bytes(), 0o644)
    }
}
