//! `/mln/inventory/1`: which chunks of an image a host has, also while it is fetching that image itself.
//!
//! The header of a stream is the image's digest. A block with an [`Inventory`] follows. Of an image that is not whole
//! there, blocks with the chunks that have come since follow, each a list of [`Inventory::positions`], until it is whole
//! or no longer fetched: then the stream ends. Chunks are counted in the order of the manifest, holes left out.

use serde::{Deserialize, Serialize};

use super::{DecodeError, MESSAGE_BYTES_MAX, decode, encode};

/// The longest answer, in bytes: a bit for each chunk of the largest image.
pub const INVENTORY_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 32 / 8 + 64;

/// How many chunks one block tells of that have come.
pub const INVENTORY_NEWS_MAX: usize = 4096;

/// The longest block of chunks that have come, in bytes.
pub const INVENTORY_NEWS_BYTES_MAX: usize = INVENTORY_NEWS_MAX * 4 + 8;

/// What a host has of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inventory {
    /// Nothing, and it isn't fetching it.
    Nothing,
    /// All of it.
    Whole,
    /// It is fetching it: a bit for each chunk, the lowest bit of the first byte first.
    Part(Vec<u8>),
}

#[derive(Serialize, Deserialize)]
enum InventoryWire {
    Nothing,
    Whole,
    Part(Vec<u8>),
}

impl Inventory {
    /// Returns what has those chunks for which `has` holds, of so many.
    pub fn part(chunks: usize, has: impl Fn(usize) -> bool) -> Self {
        let mut bits = vec![0u8; chunks.div_ceil(8)];
        for position in (0..chunks).filter(|&position| has(position)) {
            bits[position / 8] |= 1 << (position % 8);
        }
        Self::Part(bits)
    }

    /// Whether it has a chunk.
    pub fn has(&self, position: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Whole => true,
            Self::Part(bits) => bits.get(position / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1),
        }
    }

    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&match self {
            Self::Nothing => InventoryWire::Nothing,
            Self::Whole => InventoryWire::Whole,
            Self::Part(bits) => InventoryWire::Part(bits.clone()),
        })
    }

    /// Decodes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match decode(bytes, INVENTORY_BYTES_MAX)? {
            InventoryWire::Nothing => Self::Nothing,
            InventoryWire::Whole => Self::Whole,
            InventoryWire::Part(bits) => Self::Part(bits),
        })
    }

    /// Encodes the chunks that have come.
    pub fn news(positions: &[u32]) -> Vec<u8> {
        encode(&positions.to_vec())
    }

    /// Decodes the chunks that have come.
    pub fn positions(bytes: &[u8]) -> Result<Vec<u32>, DecodeError> {
        let positions: Vec<u32> = decode(bytes, INVENTORY_NEWS_BYTES_MAX)?;
        if positions.len() > INVENTORY_NEWS_MAX {
            return Err(DecodeError::TooLong { bytes: positions.len(), limit: INVENTORY_NEWS_MAX });
        }
        Ok(positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let part = Inventory::part(10, |position| position % 3 == 0);
        for (inventory, bytes) in [
            (Inventory::Nothing, "00000000"),
            (Inventory::Whole, "01000000"),
            (part, "0200000002000000000000004902"),
        ] {
            assert_eq!(hex(&inventory.to_bytes()), bytes);
            assert_eq!(Inventory::from_bytes(&inventory.to_bytes()), Ok(inventory));
        }
        let news = Inventory::news(&[1, 7]);
        assert_eq!(hex(&news), "02000000000000000100000007000000");
        assert_eq!(Inventory::positions(&news), Ok(vec![1, 7]));
    }

    #[test]
    fn a_part_has_what_its_bits_say_and_nothing_behind_them() {
        let part = Inventory::part(9, |position| position == 0 || position == 8);
        let has: Vec<usize> = (0..100).filter(|&position| part.has(position)).collect();
        assert_eq!(has, [0, 8]);
        assert!(Inventory::Whole.has(1 << 20) && !Inventory::Nothing.has(0));
    }

    #[test]
    fn the_largest_image_fits() {
        let chunks = MESSAGE_BYTES_MAX / 32;
        assert!(Inventory::part(chunks, |_| true).to_bytes().len() <= INVENTORY_BYTES_MAX);
        let all: Vec<u32> = (0..INVENTORY_NEWS_MAX as u32).collect();
        assert!(Inventory::news(&all).len() <= INVENTORY_NEWS_BYTES_MAX);
    }
}
