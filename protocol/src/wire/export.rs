//! The file of an exported project: what it was submitted as, and what is on the disks of its VMs.
//!
//! ```text
//!   file     = "MLN export 1\n" { record }*
//!   record   = kind 1 │ check of the header 3 │ length 4 │ payload │ check 16       numbers little-endian
//!   records  = head, definition, { file }*, { image, frames | vm, frames }*, end
//!   frames   = those with which a disk goes from host to host ([`DiskFrame`]): shape, blocks and regions, root
//!   end      = BLAKE3 over all bytes before this record
//! ```
//! A record's check is of where it stands and of all of its bytes, so that damage is found where it is. Blocks that are
//! what the image below them has are not in the file, and zeros take no room. There is no key in it, no journal and no
//! claim: what is made of it is another project.
//!
//! [`ExportWriter`] and [`ExportReader`] are bytes in, bytes out. A reader gives each record once it is whole and in its
//! place; that nothing is missing is known when [`ExportReader::end`] says so, and not before.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    DISK_FRAME_BYTES_MAX, DecodeError, DiskFrame, DriveShape, MESSAGE_BYTES_MAX, decode, decode_definition,
    encode, encode_definition, name,
};
use crate::id::{Digest, Label, Name};
use crate::model::Definition;

/// What a file begins with.
const MAGIC: &[u8; 13] = b"MLN export 1\n";
/// What a file of any version begins with.
const MAGIC_ANY: &[u8] = b"MLN export ";
/// What stands before the payload of a record.
const HEADER_BYTES: usize = 8;
/// What stands behind it.
const CHECK_BYTES: usize = 16;
/// The longest payload of a record, in bytes.
const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// The longest piece of a file in one record, in bytes.
pub const EXPORT_PIECE_BYTES_MAX: usize = 1 << 20;
/// How many VMs and images one export has at most.
const SECTIONS_MAX: usize = 65_536;

const _: () = assert!(DISK_FRAME_BYTES_MAX <= PAYLOAD_BYTES_MAX);

/// What an export begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportHead {
    /// What the project was called where it was.
    pub label: Label,
    /// When its disks were as they are in it, in milliseconds since 1970, by the clock of a host that had some.
    pub taken_unix_ms: u64,
}

/// An image below disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportImage {
    /// What it was called.
    pub name: Name,
    /// Which one of that name.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// The least memory that a guest of it boots with, in MiB.
    pub memory_mib_min: u32,
    /// When it was made, in milliseconds since 1970.
    pub added_unix_ms: u64,
}

/// A part of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportRecord {
    /// Whose project it was; comes first.
    Head(ExportHead),
    /// What the project was submitted as; comes second.
    Definition(Definition),
    /// A piece of a file that the definition names.
    File {
        /// Which one, counted from 0.
        index: u32,
        /// The piece, at most [`EXPORT_PIECE_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// The frames that follow are an image's.
    Image(ExportImage),
    /// The frames that follow are those of this VM's drives.
    Vm(Name),
    /// A frame of a disk.
    Frame(DiskFrame),
    /// The end; only a reader gives it, when all before it is what was written.
    End,
}

/// What of an export is a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedDisk {
    /// The VM, or the image.
    pub name: Name,
    /// Its drives.
    pub drives: Vec<DriveShape>,
    /// How many blocks of 4 KiB are in the file.
    pub blocks: u64,
    /// What it takes in the file, in bytes.
    pub bytes: u64,
    /// The root digest of its content.
    pub root: Digest,
}

/// What is in an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportContents {
    /// Whose project it was; none in a part of an export.
    pub head: Option<ExportHead>,
    /// What it was submitted as; none in a part of an export.
    pub definition: Option<Definition>,
    /// The VMs with their disks, in the order of the file.
    pub vms: Vec<ExportedDisk>,
    /// The images, in the order of the file.
    pub images: Vec<(ExportImage, ExportedDisk)>,
    /// The length of the file, in bytes.
    pub bytes: u64,
    /// The digest over all of it.
    pub root: Option<Digest>,
}

/// Why bytes are no export. Where it says a byte, they are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// It is something else.
    #[error("this is no exported project: it does not begin as one")]
    NotExport,
    /// Another program wrote it.
    #[error("this export is of a later version than this program reads: upgrade it")]
    Version,
    /// The end is missing.
    #[error(
        "the file ends at byte {at}, and more has to follow: it was cut off; copy it again, or export again"
    )]
    Truncated {
        /// Where it ends.
        at: u64,
    },
    /// Something is not what was written.
    #[error(
        "bytes {from} to {to} are not what was written there: the file is damaged; copy it again, or export again"
    )]
    Changed {
        /// The first byte of the record that is damaged.
        from: u64,
        /// The first byte behind it.
        to: u64,
    },
    /// What was written is not what belongs there: a bug, or somebody's work.
    #[error("at byte {at} there is {what}: this is not what mlnctl export writes")]
    Order {
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// What was written can't be understood.
    #[error("what stands at byte {at} is not understood")]
    Decode {
        /// Where.
        at: u64,
        /// Why not.
        source: DecodeError,
    },
}

#[derive(Serialize, Deserialize)]
struct HeadWire {
    owner: String,
    project: String,
    taken_unix_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct ImageWire {
    name: String,
    version: String,
    digest: [u8; 32],
    memory_mib_min: u32,
    added_unix_ms: u64,
}

impl ExportRecord {
    fn kind(&self) -> u8 {
        match self {
            Self::Head(_) => 1,
            Self::Definition(_) => 2,
            Self::File { .. } => 3,
            Self::Image(_) => 4,
            Self::Vm(_) => 5,
            Self::Frame(_) => 6,
            Self::End => END,
        }
    }

    fn payload(&self) -> Vec<u8> {
        match self {
            Self::Head(head) => encode(&HeadWire {
                owner: head.label.owner.to_string(),
                project: head.label.project.to_string(),
                taken_unix_ms: head.taken_unix_ms,
            }),
            Self::Definition(definition) => encode_definition(definition),
            Self::File { index, bytes } => [&index.to_le_bytes()[..], bytes].concat(),
            Self::Image(image) => encode(&ImageWire {
                name: image.name.to_string(),
                version: image.version.clone(),
                digest: image.digest.0,
                memory_mib_min: image.memory_mib_min,
                added_unix_ms: image.added_unix_ms,
            }),
            Self::Vm(vm) => vm.as_str().as_bytes().to_vec(),
            Self::Frame(frame) => frame.to_bytes(),
            Self::End => Vec::new(),
        }
    }

    fn from_payload(kind: u8, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            1 => {
                let wire: HeadWire = decode(payload, MESSAGE_BYTES_MAX)?;
                let label = Label { owner: name(&wire.owner)?, project: name(&wire.project)? };
                Self::Head(ExportHead { label, taken_unix_ms: wire.taken_unix_ms })
            }
            2 => Self::Definition(decode_definition(payload)?),
            3 => {
                let (index, bytes) = payload.split_first_chunk().ok_or(DecodeError::Malformed)?;
                if bytes.len() > EXPORT_PIECE_BYTES_MAX {
                    return Err(DecodeError::TooLong { bytes: bytes.len(), limit: EXPORT_PIECE_BYTES_MAX });
                }
                Self::File { index: u32::from_le_bytes(*index), bytes: bytes.to_vec() }
            }
            4 => {
                let wire: ImageWire = decode(payload, MESSAGE_BYTES_MAX)?;
                // A version is a file's name where it is kept.
                let version = name(&wire.version)?.to_string();
                let (name, digest) = (name(&wire.name)?, Digest(wire.digest));
                Self::Image(ExportImage {
                    name,
                    version,
                    digest,
                    memory_mib_min: wire.memory_mib_min,
                    added_unix_ms: wire.added_unix_ms,
                })
            }
            5 => Self::Vm(name(std::str::from_utf8(payload).map_err(|_| DecodeError::Malformed)?)?),
            6 => Self::Frame(DiskFrame::from_bytes(payload)?),
            found => return Err(DecodeError::Unknown { what: "record of an export", found: found.into() }),
        })
    }
}

/// The kind of the last record.
const END: u8 = 255;

fn header(at: u64, kind: u8, payload: &[u8]) -> [u8; HEADER_BYTES] {
    // A payload has at most PAYLOAD_BYTES_MAX.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let check = header_check(at, kind, length);
    [kind, check[0], check[1], check[2], length[0], length[1], length[2], length[3]]
}

fn header_check(at: u64, kind: u8, length: [u8; 4]) -> [u8; 3] {
    let mut hasher = blake3::Hasher::new_derive_key("mln 2026 header of a record of an export");
    hasher.update(&at.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(&length);
    let found = hasher.finalize();
    let bytes = found.as_bytes();
    [bytes[0], bytes[1], bytes[2]]
}

fn check(at: u64, record: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key("mln 2026 record of an export");
    hasher.update(&at.to_le_bytes());
    hasher.update(record);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
    check
}

/// Makes the bytes of an export, record by record.
#[derive(Debug)]
pub struct ExportWriter {
    hasher: blake3::Hasher,
    at: u64,
}

impl ExportWriter {
    /// Begins; returns the first bytes too.
    pub fn begin() -> (Self, Vec<u8>) {
        let mut writer = Self { hasher: blake3::Hasher::new(), at: 0 };
        let bytes = writer.count(MAGIC.to_vec());
        (writer, bytes)
    }

    /// Returns the bytes of the next record.
    pub fn record(&mut self, record: &ExportRecord) -> Vec<u8> {
        let payload = record.payload();
        let bytes = self.framed(record.kind(), &payload);
        self.count(bytes)
    }

    /// Returns the last bytes.
    pub fn finish(self) -> Vec<u8> {
        self.framed(END, self.hasher.finalize().as_bytes())
    }

    fn framed(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECK_BYTES);
        bytes.extend_from_slice(&header(self.at, kind, payload));
        bytes.extend_from_slice(payload);
        let check = check(self.at, &bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    fn count(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.hasher.update(&bytes);
        self.at += bytes.len() as u64;
        bytes
    }
}

/// Takes the bytes of an export as they come, and gives its records.
#[derive(Debug)]
pub struct ExportReader {
    hasher: blake3::Hasher,
    /// Where what waits begins.
    at: u64,
    waiting: Vec<u8>,
    stage: Stage,
    contents: ExportContents,
    names: BTreeSet<Name>,
    /// The file that is being read, what of it has come, and its digest so far.
    file: (usize, u64, blake3::Hasher),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Magic(Extent),
    Head,
    Definition,
    /// Between files, images and VMs.
    Between,
    /// In the frames of a disk.
    In(Section, ExportedDisk),
    Over,
    /// Something had no place where it stood.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Section {
    Image(ExportImage),
    Vm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    Part,
}

impl ExportReader {
    /// Begins to read a whole export.
    pub fn whole() -> Self {
        Self::new(Extent::Whole)
    }

    /// Begins to read what one host has of an export: VMs alone.
    pub fn part() -> Self {
        Self::new(Extent::Part)
    }

    fn new(extent: Extent) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            at: 0,
            waiting: Vec::new(),
            stage: Stage::Magic(extent),
            contents: ExportContents::default(),
            names: BTreeSet::new(),
            file: (0, 0, blake3::Hasher::new()),
        }
    }

    /// Adds bytes that have come. Records should be taken before more are added: what waits is in memory.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Returns the next record; none where more bytes are needed for it, and behind the end.
    pub fn record(&mut self) -> Result<Option<ExportRecord>, ExportError> {
        if let Stage::Magic(extent) = self.stage {
            let Some(magic) = self.waiting.first_chunk::<{ MAGIC.len() }>() else { return Ok(None) };
            if magic != MAGIC {
                let is_any = magic.starts_with(MAGIC_ANY);
                return Err(if is_any { ExportError::Version } else { ExportError::NotExport });
            }
            self.consume(MAGIC.len());
            self.stage = match extent {
                Extent::Whole => Stage::Head,
                Extent::Part => Stage::Between,
            };
        }
        if self.stage == Stage::Over {
            return if self.waiting.is_empty() {
                Ok(None)
            } else {
                Err(self.order("something behind the end"))
            };
        }
        let Some([kind, a, b, c, length @ ..]) = self.waiting.first_chunk::<HEADER_BYTES>().copied() else {
            return Ok(None);
        };
        let changed = |bytes: usize| ExportError::Changed { from: self.at, to: self.at + bytes as u64 };
        let length_bytes = u32::from_le_bytes(length) as usize;
        if header_check(self.at, kind, length) != [a, b, c] {
            return Err(changed(HEADER_BYTES));
        }
        if length_bytes > PAYLOAD_BYTES_MAX {
            return Err(self.order("a record longer than any"));
        }
        let (payload_end, end) = (HEADER_BYTES + length_bytes, HEADER_BYTES + length_bytes + CHECK_BYTES);
        if self.waiting.len() < end {
            return Ok(None);
        }
        if check(self.at, &self.waiting[..payload_end]) != self.waiting[payload_end..end] {
            return Err(changed(end));
        }
        let payload = &self.waiting[HEADER_BYTES..payload_end];
        let record = if kind == END {
            if payload != self.hasher.finalize().as_bytes() {
                return Err(ExportError::Changed { from: 0, to: self.at });
            }
            ExportRecord::End
        } else {
            let decoded = ExportRecord::from_payload(kind, payload);
            decoded.map_err(|source| ExportError::Decode { at: self.at, source })?
        };
        self.place(&record, end as u64)?;
        self.consume(end);
        Ok(Some(record))
    }

    /// Says what was in it, when no more bytes come.
    pub fn end(self) -> Result<ExportContents, ExportError> {
        if self.stage != Stage::Over {
            return Err(ExportError::Truncated { at: self.at + self.waiting.len() as u64 });
        }
        if !self.waiting.is_empty() {
            return Err(self.order("something behind the end"));
        }
        Ok(self.contents)
    }

    fn consume(&mut self, bytes: usize) {
        self.hasher.update(&self.waiting[..bytes]);
        self.waiting.drain(..bytes);
        self.at += bytes as u64;
    }

    fn order(&self, what: &'static str) -> ExportError {
        ExportError::Order { at: self.at, what }
    }

    /// Sees to it that a record belongs where it stands.
    fn place(&mut self, record: &ExportRecord, bytes: u64) -> Result<(), ExportError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        self.stage = match (stage, record) {
            (Stage::Head, ExportRecord::Head(head)) => {
                self.contents.head = Some(head.clone());
                Stage::Definition
            }
            (Stage::Definition, ExportRecord::Definition(definition)) => {
                self.contents.definition = Some(definition.clone());
                self.skip_empty_files()?;
                Stage::Between
            }
            (Stage::Between, ExportRecord::File { index, bytes }) => {
                self.piece(*index, bytes)?;
                Stage::Between
            }
            (Stage::Between, ExportRecord::Image(image)) => {
                self.files_are_whole()?;
                if self.contents.images.iter().any(|(known, _)| known.digest == image.digest)
                    || self.contents.images.len() >= SECTIONS_MAX
                {
                    return Err(self.order("an image that was there already"));
                }
                Stage::In(Section::Image(image.clone()), disk(&image.name, bytes))
            }
            (Stage::Between, ExportRecord::Vm(vm)) => {
                self.files_are_whole()?;
                if self.names.len() >= SECTIONS_MAX || !self.names.insert(vm.clone()) {
                    return Err(self.order("a VM that was there already"));
                }
                Stage::In(Section::Vm, disk(vm, bytes))
            }
            (Stage::In(section, mut disk), ExportRecord::Frame(frame)) => {
                disk.bytes += bytes;
                match (frame, disk.drives.is_empty()) {
                    (DiskFrame::Shape(shape), true) if !shape.drives.is_empty() => {
                        disk.drives.clone_from(&shape.drives);
                        Stage::In(section, disk)
                    }
                    (DiskFrame::Blocks(_) | DiskFrame::RegionEnd { .. }, false) => Stage::In(section, disk),
                    (DiskFrame::End { root, changed }, false) => {
                        (disk.root, disk.blocks) = (*root, *changed);
                        match section {
                            Section::Image(image) => self.contents.images.push((image, disk)),
                            Section::Vm => self.contents.vms.push(disk),
                        }
                        Stage::Between
                    }
                    (
                        DiskFrame::Shape(_)
                        | DiskFrame::Refused(_)
                        | DiskFrame::Busy
                        | DiskFrame::Compare(_)
                        | DiskFrame::Blocks(_)
                        | DiskFrame::RegionEnd { .. }
                        | DiskFrame::End { .. },
                        _,
                    ) => return Err(self.order("a part of a disk that has no place there")),
                }
            }
            (Stage::Between, ExportRecord::End) => {
                self.files_are_whole()?;
                self.contents.bytes = self.at + bytes;
                self.contents.root = Some(Digest(*self.hasher.finalize().as_bytes()));
                Stage::Over
            }
            (
                Stage::Magic(_)
                | Stage::Head
                | Stage::Definition
                | Stage::Between
                | Stage::In(..)
                | Stage::Over
                | Stage::Failed,
                _,
            ) => return Err(self.order("a record that has no place there")),
        };
        Ok(())
    }

    fn piece(&mut self, index: u32, bytes: &[u8]) -> Result<(), ExportError> {
        let files = self.contents.definition.iter().flat_map(|definition| &definition.files);
        let Some(wanted) = files.clone().nth(self.file.0).filter(|_| index as usize == self.file.0) else {
            return Err(self.order("a piece of another file"));
        };
        let (digest, length) = (wanted.digest, wanted.bytes);
        self.file.1 += bytes.len() as u64;
        self.file.2.update(bytes);
        if self.file.1 > length || bytes.is_empty() {
            return Err(self.order("a file of another length than was said"));
        }
        if self.file.1 == length {
            if Digest(*self.file.2.finalize().as_bytes()) != digest {
                return Err(self.order("a file that is not the one that was submitted"));
            }
            self.file = (self.file.0 + 1, 0, blake3::Hasher::new());
            self.skip_empty_files()?;
        }
        Ok(())
    }

    /// Empty files have no pieces.
    fn skip_empty_files(&mut self) -> Result<(), ExportError> {
        while let Some(file) = self.next_file() {
            if file.0 > 0 {
                break;
            }
            if file.1 != Digest::of(&[]) {
                return Err(self.order("an empty file that is not the one that was submitted"));
            }
            self.file.0 += 1;
        }
        Ok(())
    }

    fn next_file(&self) -> Option<(u64, Digest)> {
        let file = self.contents.definition.as_ref()?.files.get(self.file.0)?;
        Some((file.bytes, file.digest))
    }

    fn files_are_whole(&self) -> Result<(), ExportError> {
        match self.next_file() {
            Some(_) => Err(self.order("something before the end of the project's files")),
            None => Ok(()),
        }
    }
}

fn disk(name: &Name, bytes: u64) -> ExportedDisk {
    ExportedDisk { name: name.clone(), drives: Vec::new(), blocks: 0, bytes, root: Digest([0; 32]) }
}

#[cfg(test)]
#[path = "export_test.rs"]
mod tests;
