//! The one codec: bytes on the wire, on disk, and under a signature.
//!
//! bincode 2 with little-endian fixed-width integers: one value has one encoding, so digests and signatures over
//! encoded bytes are stable. Every decode has a limit that is checked before anything is allocated, and must
//! use up all of its input.

mod ballot;
mod charge;
mod claim;
mod commit;
mod definition;
mod disk;
mod export;
mod fragment;
mod fragment_guest;
mod fragment_links;
mod fragment_policies;
mod gauges;
mod grant;
mod guest;
mod hello;
pub mod holder;
mod image;
mod inventory;
mod join;
mod later;
pub mod line;
mod manifest;
pub mod me;
mod message;
mod record;
mod refusal;
mod reservation;
pub mod seed;
mod sight;
mod snapshot;
mod stored;
mod token;
mod trunk;

pub use ballot::{
    decode_decision_note, encode_decision_note, sign_answered, sign_promise, verify_answered, verify_promise,
};
pub use claim::{decode_holding, encode_holding, encode_ready, encode_vm_id};
pub use commit::{commit_bytes_max, decode_revision, encode_revision, sign_reservation, verify_reservation};
pub use definition::{DEFINITION_BYTES_MAX, decode_definition, encode_definition};
pub use disk::{
    DISK_ASK_BYTES_MAX, DISK_BATCH_BLOCKS_MAX, DISK_BLOCK_BYTES, DISK_BYTES_MAX, DISK_DRIVES_MAX,
    DISK_FRAME_BYTES_MAX, DISK_NODE_BYTES, DISK_REGION_BLOCKS, DISK_TABLE_BYTES_MAX, DiskAsk, DiskBatch,
    DiskBlockKind, DiskBlocks, DiskCompare, DiskFrame, DiskHave, DiskPlace, DiskRound, DiskShape, DiskTable,
    DiskTableRegion, DriveShape, DriveTemplate,
};
pub use export::{
    EXPORT_PIECE_BYTES_MAX, ExportContents, ExportError, ExportHead, ExportImage, ExportReader, ExportRecord,
    ExportWriter, ExportedDisk,
};
pub use fragment::{decode_fragment, encode_fragment};
pub use gauges::{GAUGES_SLOT, gauges_bytes};
pub use grant::{GrantWire, SignedWire, decode_chain, encode_chain};
pub use guest::{sign_attestation, sign_guest_request, verify_attestation, verify_guest_request};
pub use hello::{
    ADDRESS_BYTES_MAX, AGENT_VERSION_BYTES_MAX, Greeting, HELLO_ADDRESSES_MAX, HELLO_BYTES_MAX,
    HELLO_PEERS_MAX, HELLO_VERSION, HelloMessage, Introduction, PeerAddresses,
};
pub use image::{
    CHUNK_ABSENT, ChunkPacking, IMAGE_ANSWER_BYTES_MAX, IMAGE_ASK_BYTES_MAX, IMAGE_OFFERS_MAX, ImageAnswer,
    ImageAsk, ImageOffer,
};
pub use inventory::{INVENTORY_BYTES_MAX, INVENTORY_NEWS_BYTES_MAX, INVENTORY_NEWS_MAX, Inventory};
pub use join::{JOIN_BYTES_MAX, JOIN_VERSION, JoinClaim, JoinMessage};
pub use later::LATER_BYTES_MAX;
pub use manifest::{
    CHUNK_BYTES, Chunk, MANIFEST_BYTES_MAX, MANIFEST_FILE_BYTES_MAX, MANIFEST_VERSION, Manifest,
    ManifestError,
};
pub use message::{
    MessageError, decode_message, decode_message_with, encode_ask, encode_message, encode_record_key,
    encode_run_request,
};
pub use record::{GAUGES_KIND, REASON_BYTES_MAX, RecordError, sign_record, verify_record};
#[cfg(feature = "mutants")]
pub use record::{trust_record, unproven_record};
pub use refusal::Refusal;
pub use reservation::{decode_reservation_note, encode_reservation_note};
pub use sight::{MACHINES_SEEN_MAX, MeSight, MeView, SIGHT_ROWS_MAX};
pub use snapshot::{SNAPSHOT_BYTES_MAX, SnapshotDiskWire, SnapshotVmWire, SnapshotWire};
pub use stored::{
    Change, JOURNAL_VERSION, JournalHeader, decode_changes, decode_journal_header, decode_write,
    encode_changes, encode_journal_header, encode_write,
};
pub use token::{GrantText, TOKEN_TEXT_BYTES_MAX, Token, TokenError};
pub use trunk::{TRUNK_HEADER_BYTES_MAX, TrunkHeader};

use serde::{Serialize, de::DeserializeOwned};

use crate::id::Name;

/// The largest value that a peer may send in one message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The largest signed record, in bytes: records are gossiped to everybody.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// Why bytes could not be decoded. Nothing changed; the sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the reader allows.
    #[error("{bytes} bytes, where at most {limit} are allowed")]
    TooLong {
        /// What arrived.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Not an encoding of the expected type.
    #[error("not a valid encoding")]
    Malformed,
    /// A valid encoding with something behind it.
    #[error("{bytes} bytes too many")]
    Trailing {
        /// How many are left over.
        bytes: usize,
    },
    /// A well-formed value that breaks a rule of its type.
    #[error("invalid {what}")]
    Invalid {
        /// The field.
        what: &'static str,
    },
    /// A version or kind that this program doesn't know.
    #[error("unknown {what} {found}")]
    Unknown {
        /// What kind of tag.
        what: &'static str,
        /// The tag's value.
        found: u32,
    },
    /// A version that this program no longer reads.
    #[error(
        "{what} {found} is of an mlnd before this one, whose shapes are not read any more: upgrade the agent that wrote it"
    )]
    Older {
        /// What kind of tag.
        what: &'static str,
        /// The tag's value.
        found: u32,
    },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<MESSAGE_BYTES_MAX>()
}

/// Encodes a wire value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let unlimited = bincode::config::standard().with_little_endian().with_fixed_int_encoding();
    bincode::serde::encode_to_vec(value, unlimited)
        .expect("wire types hold no maps, no unsized iterators and no failing serializers")
}

/// Decodes a wire value of at most `limit` bytes; all of `bytes` must be used up.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { bytes: bytes.len(), limit });
    }
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|_| DecodeError::Malformed)?;
    if used == bytes.len() { Ok(value) } else { Err(DecodeError::Trailing { bytes: bytes.len() - used }) }
}

/// Refuses a version or kind that only another program knows, by its number: that is nobody's fault, unlike what can't
/// be read. Both begin what is signed or sent.
fn known(bytes: &[u8], version: u16, kinds: u32, what: &'static str) -> Result<(), DecodeError> {
    let found = bytes.first_chunk().map_or(version, |bytes| u16::from_le_bytes(*bytes));
    if found < version {
        return Err(DecodeError::Older { what, found: found.into() });
    }
    if found > version {
        return Err(DecodeError::Unknown { what, found: found.into() });
    }
    match bytes.get(2..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes)) {
        Some(found) if found >= kinds => Err(DecodeError::Unknown { what, found }),
        Some(_) | None => Ok(()),
    }
}

fn name(found: &str) -> Result<Name, DecodeError> {
    Name::parse(found).map_err(|_| DecodeError::Invalid { what: "name" })
}

/// Accepts a text for people: not too long, and nothing in it that could move a terminal's cursor.
fn text(found: String, limit: usize) -> Result<String, DecodeError> {
    if found.len() > limit {
        return Err(DecodeError::TooLong { bytes: found.len(), limit });
    }
    if found.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(DecodeError::Invalid { what: "text" });
    }
    Ok(found)
}
