//! What a node has made durable, as slots with values: the form of journals and of the index over them.
//!
//! Of two writes in one slot the later one counts. A value's first two bytes are the version of the shapes here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::grant::SignedWire;
use super::record::RecordError;
use super::{
    DecodeError, MESSAGE_BYTES_MAX, decode, decode_decision_note, decode_fragment, decode_holding,
    decode_reservation_note, encode, encode_decision_note, encode_fragment, encode_holding,
    encode_record_key, encode_reservation_note, encode_vm_id, known, verify_record,
};
use crate::id::{Digest, ProjectId, PublicKey};
use crate::node::Write;

/// The version of the shapes below.
const VERSION: u16 = 1;

/// How many kinds of values there are below.
const KINDS: u32 = 7;

/// One durable change: a slot gets a value, or loses the one that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The slot, as bytes that sort by kind.
    pub slot: Vec<u8>,
    /// What it holds from now on.
    pub value: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
enum SlotWire {
    Record(Vec<u8>),
    Fragment([u8; 32]),
    Join([u8; 32]),
    Decision([u8; 32]),
    Holding(Vec<u8>),
    Reservation([u8; 32]),
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u16,
    value: ValueWire,
}

#[derive(Serialize, Deserialize)]
enum ValueWire {
    Record(SignedWire),
    Heard(SignedWire),
    Fragment(Vec<u8>),
    Join([u8; 32]),
    Decision(Vec<u8>),
    Holding(Vec<u8>),
    Reservation(Vec<u8>),
}

fn slot_of(write: &Write) -> SlotWire {
    match write {
        // What was heard gives way to what is said, and the other way round: there is one record of a slot.
        Write::Record(key, _) | Write::Heard(key, _) => SlotWire::Record(encode_record_key(key)),
        Write::Join(project) => SlotWire::Join(project.0.0),
        Write::Decision(note) => SlotWire::Decision(note.parent.0),
        Write::DropDecision(parent) => SlotWire::Decision(parent.0),
        Write::Holding(vm, _) | Write::DropHolding(vm) => SlotWire::Holding(encode_vm_id(vm)),
        Write::Fragment(digest, _) | Write::DropFragment(digest) => SlotWire::Fragment(digest.0),
        Write::Reservation(note) => SlotWire::Reservation(note.revision.0),
        Write::DropReservation(revision) => SlotWire::Reservation(revision.0),
    }
}

fn value_of(write: &Write) -> Option<ValueWire> {
    Some(match write {
        Write::Record(_, record) => ValueWire::Record(record.signed().into()),
        Write::Heard(_, record) => ValueWire::Heard(record.signed().into()),
        Write::Join(project) => ValueWire::Join(project.0.0),
        Write::Decision(note) => ValueWire::Decision(encode_decision_note(note)),
        Write::Holding(vm, holding) => ValueWire::Holding(encode_holding(vm, holding)),
        Write::Fragment(_, fragment) => ValueWire::Fragment(encode_fragment(fragment)),
        Write::Reservation(note) => ValueWire::Reservation(encode_reservation_note(note)),
        Write::DropFragment(_)
        | Write::DropDecision(_)
        | Write::DropHolding(_)
        | Write::DropReservation(_) => return None,
    })
}

/// Encodes a write.
pub fn encode_write(write: &Write) -> Change {
    let value = value_of(write).map(|value| encode(&Versioned { version: VERSION, value }));
    Change { slot: encode(&slot_of(write)), value }
}

/// Decodes the value of a slot, and verifies again what is signed in it, by the mesh with this root key.
pub fn decode_write(value: &[u8], root: PublicKey) -> Result<Write, RecordError> {
    known(value, VERSION, KINDS, "version or kind of a stored value")?;
    let wire: Versioned = decode(value, MESSAGE_BYTES_MAX)?;
    let record = |signed: SignedWire| {
        let record = verify_record(signed.try_into()?, root)?;
        Ok::<_, RecordError>((record.key(record.author()), record))
    };
    Ok(match wire.value {
        ValueWire::Record(signed) => {
            let (key, record) = record(signed)?;
            Write::Record(key, record)
        }
        ValueWire::Heard(signed) => {
            let (key, record) = record(signed)?;
            Write::Heard(key, record)
        }
        ValueWire::Fragment(bytes) => Write::Fragment(Digest::of(&bytes), Arc::new(decode_fragment(&bytes)?)),
        ValueWire::Decision(bytes) => Write::Decision(Box::new(decode_decision_note(&bytes)?)),
        ValueWire::Holding(bytes) => {
            let (vm, holding) = decode_holding(&bytes, root)?;
            Write::Holding(vm, holding)
        }
        ValueWire::Join(project) => Write::Join(ProjectId(Digest(project))),
        ValueWire::Reservation(bytes) => Write::Reservation(Box::new(decode_reservation_note(&bytes)?)),
    })
}

/// Whose journal it is: what its first entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHeader {
    /// The version of journals.
    pub version: u16,
    /// The key of the host that signs what is in it.
    pub host: [u8; 32],
    /// The project; none in the host's own.
    pub project: Option<[u8; 32]>,
}

/// The version of journals.
pub const JOURNAL_VERSION: u16 = 1;

/// The longest of these, in bytes.
const HEADER_BYTES_MAX: usize = 128;

/// Encodes what a journal's first entry says.
pub fn encode_journal_header(header: &JournalHeader) -> Vec<u8> {
    encode(header)
}

/// Decodes what a journal's first entry says; one of another version is [`DecodeError::Unknown`].
pub fn decode_journal_header(bytes: &[u8]) -> Result<JournalHeader, DecodeError> {
    let found = bytes.first_chunk().map_or(JOURNAL_VERSION, |bytes| u16::from_le_bytes(*bytes));
    if found != JOURNAL_VERSION {
        return Err(DecodeError::Unknown { what: "version of a journal", found: found.into() });
    }
    decode(bytes, HEADER_BYTES_MAX)
}

/// Encodes the changes of one entry of a journal.
pub fn encode_changes(changes: &[Change]) -> Vec<u8> {
    encode(&changes)
}

/// Decodes the changes of one entry of a journal of at most `limit` bytes.
pub fn decode_changes(bytes: &[u8], limit: usize) -> Result<Vec<Change>, DecodeError> {
    decode(bytes, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{HostStatus, Record};
    use crate::trust::KeyPair;
    use crate::wire::sign_record;

    fn record() -> crate::record::VerifiedRecord {
        let status = HostStatus {
            counter: 7,
            groups: Vec::new(),
            platforms: Vec::new(),
            projects: 1,
            vms: 2,
            memory_used: crate::model::MemoryMib(3),
            memory_limit: crate::model::MemoryMib(4),
            agent_version: "0.1.0".to_owned(),
            measured_unix_ms: 5,
        };
        sign_record(&KeyPair::from_secret([1; 32]), Record::Host(status))
    }

    fn writes() -> Vec<Write> {
        let record = record();
        let key = record.key(record.author());
        vec![
            Write::Record(key.clone(), record.clone()),
            Write::Heard(key, record),
            Write::Join(ProjectId(Digest([9; 32]))),
            Write::DropFragment(Digest([8; 32])),
            Write::Reservation(Box::new(super::super::reservation::sample())),
            Write::DropReservation(Digest([7; 32])),
        ]
    }

    #[test]
    fn what_is_stored_is_read_again() {
        for write in writes() {
            let change = encode_write(&write);
            let Some(value) = change.value else { continue };
            let again = decode_write(&value, PublicKey([0; 32])).expect("it was just encoded");
            assert_eq!(format!("{again:?}"), format!("{write:?}"));
            assert_eq!(encode_write(&again).slot, change.slot);
        }
    }

    /// The bytes on disks: a change here needs a new version.
    #[test]
    fn the_bytes_of_stored_writes_stay_the_same() {
        let golden = include_str!("golden/stored_1.txt");
        let lines: Vec<String> = writes()
            .iter()
            .map(|write| {
                let change = encode_write(write);
                let value = change.value.map_or_else(|| "-".to_owned(), |value| crate::id::hex(&value));
                format!("{} {value}", crate::id::hex(&change.slot))
            })
            .collect();
        assert_eq!(lines.join("\n"), golden.trim_end());
    }

    #[test]
    fn a_value_of_a_newer_program_is_told_from_a_damaged_one() {
        let newer = encode(&(VERSION + 1, 0_u32));
        assert!(decode_write(&newer, PublicKey([0; 32])).expect_err("it is newer").is_of_another_version());
        let damaged = encode(&(VERSION, 0_u32));
        assert!(
            !decode_write(&damaged, PublicKey([0; 32])).expect_err("it is damaged").is_of_another_version()
        );
    }
}
