//! `/mln/trunk/1`: which virtual switch a stream between two hosts belongs to.

use serde::{Deserialize, Serialize};

use super::{DecodeError, decode, encode};
use crate::id::{Digest, Name, ProjectId};

/// The longest encoded [`TrunkHeader`], in bytes.
pub const TRUNK_HEADER_BYTES_MAX: usize = 128;

/// The header of a trunk; frames follow it, each behind its length in two bytes, big-endian.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrunkHeader {
    /// The project.
    pub project: ProjectId,
    /// The switch's name in it.
    pub switch: Name,
}

#[derive(Serialize, Deserialize)]
struct TrunkHeaderWire {
    project: [u8; 32],
    switch: String,
}

impl TrunkHeader {
    /// Encodes the header.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&TrunkHeaderWire { project: self.project.0.0, switch: self.switch.as_str().to_owned() })
    }

    /// Decodes a header.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: TrunkHeaderWire = decode(bytes, TRUNK_HEADER_BYTES_MAX)?;
        let switch = Name::parse(&wire.switch).map_err(|_| DecodeError::Invalid { what: "switch name" })?;
        Ok(Self { project: ProjectId(Digest(wire.project)), switch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_longest_name_fits_and_comes_back() {
        let switch = Name::parse(&"s".repeat(crate::id::NAME_BYTES_MAX)).expect("a valid name");
        let header = TrunkHeader { project: ProjectId(Digest([5; 32])), switch };
        let bytes = header.to_bytes();
        assert_eq!(TrunkHeader::from_bytes(&bytes), Ok(header));
        assert_eq!(bytes.len(), 32 + 8 + 63);
        assert!(matches!(TrunkHeader::from_bytes(&bytes[..90]), Err(DecodeError::Malformed)));
    }
}
