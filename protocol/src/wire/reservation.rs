//! What a host notes of a revision that it has reserved for, as bytes on its own disk.

use serde::{Deserialize, Serialize};

use super::charge::ChargeWire;
use super::{DecodeError, decode, encode, name};
use crate::id::{Digest, Label, ProjectId, PublicKey};
use crate::node::{ReservationNote, ReservedRoom};
use crate::record::Charge;

/// The version of a note on the disk: its first two bytes.
const VERSION: u16 = 1;

/// More than a note takes, in bytes: two names, and the digests of a chain of grants.
const NOTE_BYTES_MAX: usize = 2048;

#[derive(Serialize, Deserialize)]
struct NoteWire {
    version: u16,
    revision: [u8; 32],
    number: u64,
    coordinator: [u8; 32],
    owner: String,
    label: String,
    project: Option<[u8; 32]>,
    parent: Option<[u8; 32]>,
    memory_mib: u32,
    part: Option<[u8; 32]>,
    definition: [u8; 32],
    charge: Option<ChargeWire>,
    room: RoomWire,
}

#[derive(Serialize, Deserialize)]
enum RoomWire {
    Held,
    Lapsed,
}

/// Encodes what a host has reserved for, for its own disk.
pub fn encode_reservation_note(note: &ReservationNote) -> Vec<u8> {
    encode(&NoteWire {
        version: VERSION,
        revision: note.revision.0,
        number: note.number,
        coordinator: note.coordinator.0,
        owner: note.label.owner.to_string(),
        label: note.label.project.to_string(),
        project: note.project.map(|project| project.0.0),
        parent: note.parent.map(|parent| parent.0),
        memory_mib: note.memory_mib,
        part: note.part.map(|part| part.0),
        definition: note.definition.0,
        charge: note.charge.as_ref().map(ChargeWire::from),
        room: match note.room {
            ReservedRoom::Held => RoomWire::Held,
            ReservedRoom::Lapsed => RoomWire::Lapsed,
        },
    })
}

/// Decodes what a host has reserved for; a note of a newer program is [`DecodeError::Unknown`].
pub fn decode_reservation_note(bytes: &[u8]) -> Result<ReservationNote, DecodeError> {
    let wire: NoteWire = decode(bytes, NOTE_BYTES_MAX)?;
    if wire.version != VERSION {
        let what = "version of a note about a reservation";
        return Err(DecodeError::Unknown { what, found: wire.version.into() });
    }
    Ok(ReservationNote {
        revision: Digest(wire.revision),
        number: wire.number,
        coordinator: PublicKey(wire.coordinator),
        label: Label { owner: name(&wire.owner)?, project: name(&wire.label)? },
        project: wire.project.map(|project| ProjectId(Digest(project))),
        parent: wire.parent.map(Digest),
        memory_mib: wire.memory_mib,
        part: wire.part.map(Digest),
        definition: Digest(wire.definition),
        charge: wire.charge.map(Charge::try_from).transpose()?,
        room: match wire.room {
            RoomWire::Held => ReservedRoom::Held,
            RoomWire::Lapsed => ReservedRoom::Lapsed,
        },
    })
}

/// A note with all that one can have.
#[cfg(test)]
pub(super) fn sample() -> ReservationNote {
    let name = |text| crate::id::Name::parse(text).expect("letters are a name");
    ReservationNote {
        revision: Digest([1; 32]),
        number: 7,
        coordinator: PublicKey([2; 32]),
        label: Label { owner: name("people"), project: name("lab") },
        project: Some(ProjectId(Digest([3; 32]))),
        parent: Some(Digest([4; 32])),
        memory_mib: 64,
        part: Some(Digest([5; 32])),
        definition: Digest([6; 32]),
        charge: Some(Charge {
            principal: PublicKey([7; 32]),
            grants: vec![Digest([8; 32])],
            amount: crate::trust::Amount { memory_mib: 64, vms: 1, disk_bytes: 0 },
        }),
        room: ReservedRoom::Lapsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let first = ReservationNote {
            project: None,
            parent: None,
            charge: None,
            room: ReservedRoom::Held,
            ..sample()
        };
        for note in [sample(), first] {
            assert_eq!(decode_reservation_note(&encode_reservation_note(&note)), Ok(note));
        }
    }

    #[test]
    fn a_note_of_a_newer_program_is_not_understood() {
        let mut bytes = encode_reservation_note(&sample());
        bytes[0] = 2;
        assert!(matches!(decode_reservation_note(&bytes), Err(DecodeError::Unknown { .. })));
    }
}
