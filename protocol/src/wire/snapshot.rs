//! What a host writes down about its part of a snapshot, beside the copies of the disks.

use serde::{Deserialize, Serialize};

use super::{DecodeError, decode, encode};

/// The version of the shape below: its first two bytes.
const VERSION: u16 = 1;

/// The longest such file, in bytes.
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 20;

/// A host's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotWire {
    version: u16,
    /// When it was taken, in milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// The names of all hosts that have a part in it.
    pub hosts: Vec<String>,
    /// The VMs whose disks are here.
    pub vms: Vec<SnapshotVmWire>,
}

/// A VM of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotVmWire {
    /// The revision in which it was born.
    pub birth: [u8; 32],
    /// Its name.
    pub name: String,
    /// Its disks.
    pub disks: Vec<SnapshotDiskWire>,
}

/// A disk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDiskWire {
    /// The name of its file.
    pub file: String,
    /// The length of the file, in bytes, holes included.
    pub bytes: u64,
    /// The digest of the manifest that the file has.
    pub digest: [u8; 32],
}

impl SnapshotWire {
    /// Makes one.
    pub fn new(taken_unix_ms: u64, hosts: Vec<String>, vms: Vec<SnapshotVmWire>) -> Self {
        Self { version: VERSION, taken_unix_ms, hosts, vms }
    }

    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Decodes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let found = bytes.first_chunk().map_or(VERSION, |bytes| u16::from_le_bytes(*bytes));
        if found != VERSION {
            return Err(DecodeError::Unknown { what: "version of a snapshot", found: found.into() });
        }
        decode(bytes, SNAPSHOT_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let disk = SnapshotDiskWire { file: "d".to_owned(), bytes: 3, digest: [2; 32] };
        let vm = SnapshotVmWire { birth: [1; 32], name: "v".to_owned(), disks: vec![disk] };
        let snapshot = SnapshotWire::new(5, vec!["h".to_owned()], vec![vm]);
        let bytes = snapshot.to_bytes();
        let one = |text: &str| format!("0100000000000000{}", hex(text.as_bytes()));
        let expect = [
            "01000500000000000000".to_owned(),
            format!("0100000000000000{}", one("h")),
            format!("0100000000000000{}{}", "01".repeat(32), one("v")),
            format!("0100000000000000{}0300000000000000{}", one("d"), "02".repeat(32)),
        ];
        assert_eq!(hex(&bytes), expect.concat());
        assert_eq!(SnapshotWire::from_bytes(&bytes), Ok(snapshot));
        assert!(SnapshotWire::from_bytes(&[2, 0]).is_err() && SnapshotWire::from_bytes(&bytes[..9]).is_err());
    }
}
