//! `/mln/disk/1`: how the content of a VM's drives goes from one host to another. Enumerations grow at their end only.
//!
//! The header of a stream is a [`DiskAsk`]. Whoever has the drives answers with [`DiskFrame`]s, each in a block. Drives are
//! blocks of 4 KiB; 65,536 of them are a region, and regions come one after the other. Where it isn't known what the other
//! side has, its digests are asked for by [`DiskFrame::Compare`], from coarse to fine, and only where they differ; the
//! answers are blocks of digests alone, [`DISK_NODE_BYTES`] each.

use serde::{Deserialize, Serialize};

use super::{ChunkPacking, DecodeError, decode, encode, name, text};
use crate::id::{Digest, Name, VmId};

/// The length of a block, in bytes: a page, and the block of most file systems.
pub const DISK_BLOCK_BYTES: usize = 4096;

/// How many blocks a region has; the last one of a drive may have fewer.
pub const DISK_REGION_BLOCKS: u32 = 1 << 16;

/// How many blocks travel together at most.
pub const DISK_BATCH_BLOCKS_MAX: usize = 256;

/// How many drives a VM has at most.
pub const DISK_DRIVES_MAX: usize = 64;

/// The longest drive, in bytes.
pub const DISK_BYTES_MAX: u64 = 1 << 46;

/// The length of a digest that is only there for finding differences, in bytes.
pub const DISK_NODE_BYTES: usize = 16;

/// The longest header of a stream, in bytes.
pub const DISK_ASK_BYTES_MAX: usize = 512;

/// The longest frame, in bytes; the longest answer to [`DiskFrame::Compare`] fits as well.
pub const DISK_FRAME_BYTES_MAX: usize = DISK_BATCH_BLOCKS_MAX * (DISK_BLOCK_BYTES + 3) + 1024;

/// The longest text of a refusal, in bytes.
const REFUSAL_BYTES_MAX: usize = 1024;

/// What a host wants of another's drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskAsk {
    /// What drives a VM has.
    Shape(VmId),
    /// What has changed on them.
    Pull {
        /// The VM.
        vm: VmId,
        /// Whether it must not run.
        round: DiskRound,
        /// The root digest of what is on the drives that the asking side has; none is nothing.
        have: DiskHave,
    },
}

/// Whether a VM may run while its drives are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRound {
    /// It may.
    Running,
    /// It must not.
    Last,
}

/// What the asking side has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskHave {
    /// Nothing but templates.
    Nothing,
    /// Something with this root digest.
    Root(Digest),
}

/// What a VM's drives are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskShape {
    /// The drives, in their order.
    pub drives: Vec<DriveShape>,
    /// What they take on the disk there, in bytes, without templates.
    pub bytes_on_disk: u64,
}

/// What a drive is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveShape {
    /// What it is called among the VM's drives.
    pub name: Name,
    /// Its length in bytes.
    pub bytes: u64,
    /// The image that it is a layer over; none is zeros.
    pub template: Option<DriveTemplate>,
}

/// The image below a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveTemplate {
    /// What it is called there.
    pub name: Name,
    /// Its digest.
    pub digest: Digest,
}

/// What whoever has the drives says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskFrame {
    /// What the drives are like; comes first.
    Shape(DiskShape),
    /// It can't be had, and why, for people. Nothing follows.
    Refused(String),
    /// As many hand-overs as may be are under way; ask again later. Nothing follows.
    Busy,
    /// What are the digests of these nodes' children? An answer is due.
    Compare(DiskCompare),
    /// Blocks that differ.
    Blocks(DiskBlocks),
    /// The region is as it is there, if its digest is this.
    RegionEnd {
        /// Where.
        place: DiskPlace,
        /// The region's digest.
        digest: Digest,
    },
    /// All regions are. Nothing follows.
    End {
        /// The root digest.
        root: Digest,
        /// How many blocks differed.
        changed: u64,
    },
}

/// A region of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskPlace {
    /// Which drive, counted from 0.
    pub drive: u16,
    /// Which region of it, counted from 0.
    pub region: u32,
}

/// A question about digests: 0 is that of the whole region, 1 has 256 nodes, 2 has 16 for each of these, 3 one for each block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCompare {
    /// Where.
    pub place: DiskPlace,
    /// How fine.
    pub level: u8,
    /// The nodes of the level above whose children are asked for, ascending.
    pub parents: Vec<u16>,
}

/// Blocks of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskBlocks {
    /// Where.
    pub place: DiskPlace,
    /// How the batch is packed.
    pub packing: ChunkPacking,
    /// A [`DiskBatch`], packed.
    pub bytes: Vec<u8>,
}

/// Some blocks of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskBatch {
    /// Which ones, ascending, with what they are.
    pub blocks: Vec<(u16, DiskBlockKind)>,
    /// What is in those that have something in them, one after the other.
    pub data: Vec<u8>,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskBlockKind {
    /// What is below: the template, or zeros.
    Below,
    /// Zeros, where the template has something else.
    Zero,
    /// Something else.
    Data,
}

/// What is known of what was on a VM's drives at some time: the digest of each block that was not what is below it. It is
/// kept beside the drives; the digests of blocks lie in front of this table, in the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskTable {
    /// The drives.
    pub drives: Vec<DriveShape>,
    /// The regions with such blocks, ascending.
    pub regions: Vec<DiskTableRegion>,
}

/// A region in a [`DiskTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskTableRegion {
    /// Where.
    pub place: DiskPlace,
    /// Its digest.
    pub digest: Digest,
    /// Where its blocks begin in the file.
    pub offset: u64,
    /// How many there are.
    pub blocks: u32,
}

/// The version of [`DiskTable`] that this program writes. Another one is not understood, and what it said is found out anew.
const TABLE_VERSION: u16 = 1;

/// The longest encoded [`DiskTable`], in bytes: some 16 TiB of data.
pub const DISK_TABLE_BYTES_MAX: usize = super::MESSAGE_BYTES_MAX;

#[derive(Serialize, Deserialize)]
struct TableWire {
    version: u16,
    drives: Vec<DriveWire>,
    regions: Vec<TableRegionWire>,
}

#[derive(Serialize, Deserialize)]
struct TableRegionWire {
    drive: u16,
    region: u32,
    digest: [u8; 32],
    offset: u64,
    blocks: u32,
}

impl DiskTable {
    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let region = |region: &DiskTableRegion| TableRegionWire {
            drive: region.place.drive,
            region: region.place.region,
            digest: region.digest.0,
            offset: region.offset,
            blocks: region.blocks,
        };
        encode(&TableWire {
            version: TABLE_VERSION,
            drives: self.drives.iter().map(DriveWire::from).collect(),
            regions: self.regions.iter().map(region).collect(),
        })
    }

    /// Decodes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let found = bytes.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes));
        if found != TABLE_VERSION {
            return Err(DecodeError::Unknown { what: "table of a disk", found: found.into() });
        }
        let wire: TableWire = decode(bytes, DISK_TABLE_BYTES_MAX)?;
        let region = |wire: &TableRegionWire| DiskTableRegion {
            place: DiskPlace { drive: wire.drive, region: wire.region },
            digest: Digest(wire.digest),
            offset: wire.offset,
            blocks: wire.blocks,
        };
        let regions: Vec<DiskTableRegion> = wire.regions.iter().map(region).collect();
        if !regions.is_sorted_by(|a, b| a.place < b.place) {
            return Err(DecodeError::Invalid { what: "order of regions" });
        }
        let drives = wire.drives.into_iter().map(DriveShape::try_from).collect::<Result<_, _>>()?;
        Ok(Self { drives, regions })
    }
}

#[derive(Serialize, Deserialize)]
enum AskWire {
    Shape { birth: [u8; 32], name: String },
    Pull { birth: [u8; 32], name: String, last: bool, have: Option<[u8; 32]> },
}

#[derive(Serialize, Deserialize)]
enum FrameWire {
    Shape { drives: Vec<DriveWire>, bytes_on_disk: u64 },
    Refused(String),
    Busy,
    Compare { drive: u16, region: u32, level: u8, parents: Vec<u16> },
    RegionEnd { drive: u16, region: u32, digest: [u8; 32] },
    End { root: [u8; 32], changed: u64 },
}

#[derive(Serialize, Deserialize)]
struct DriveWire {
    name: String,
    bytes: u64,
    template: Option<(String, [u8; 32])>,
}

/// The first byte of a frame that is encoded as the others are.
const WIRE: u8 = 0;
/// The first byte of a frame with blocks: they are not copied more often than need be.
const BLOCKS: u8 = 1;
/// What stands before the bytes of a frame with blocks: its first byte, drive, region, packing.
const BLOCKS_HEADER_BYTES: usize = 1 + 2 + 4 + 1;

impl DiskAsk {
    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&match self {
            Self::Shape(vm) => AskWire::Shape { birth: vm.birth.0, name: vm.name.to_string() },
            Self::Pull { vm, round, have } => AskWire::Pull {
                birth: vm.birth.0,
                name: vm.name.to_string(),
                last: *round == DiskRound::Last,
                have: match have {
                    DiskHave::Nothing => None,
                    DiskHave::Root(root) => Some(root.0),
                },
            },
        })
    }

    /// Decodes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let vm = |birth, found: String| Ok(VmId { birth: Digest(birth), name: name(&found)? });
        Ok(match decode(bytes, DISK_ASK_BYTES_MAX)? {
            AskWire::Shape { birth, name } => Self::Shape(vm(birth, name)?),
            AskWire::Pull { birth, name, last, have } => Self::Pull {
                vm: vm(birth, name)?,
                round: if last { DiskRound::Last } else { DiskRound::Running },
                have: have.map_or(DiskHave::Nothing, |root| DiskHave::Root(Digest(root))),
            },
        })
    }
}

impl DiskFrame {
    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = match self {
            Self::Blocks(DiskBlocks { place, packing, bytes }) => {
                let mut frame = Vec::with_capacity(BLOCKS_HEADER_BYTES + bytes.len());
                frame.push(BLOCKS);
                frame.extend_from_slice(&place.drive.to_le_bytes());
                frame.extend_from_slice(&place.region.to_le_bytes());
                frame.push(packing.byte());
                frame.extend_from_slice(bytes);
                return frame;
            }
            Self::Shape(shape) => FrameWire::Shape {
                drives: shape.drives.iter().map(DriveWire::from).collect(),
                bytes_on_disk: shape.bytes_on_disk,
            },
            Self::Refused(why) => {
                FrameWire::Refused(why[..why.floor_char_boundary(REFUSAL_BYTES_MAX)].to_owned())
            }
            Self::Busy => FrameWire::Busy,
            Self::Compare(DiskCompare { place, level, parents }) => FrameWire::Compare {
                drive: place.drive,
                region: place.region,
                level: *level,
                parents: parents.clone(),
            },
            Self::RegionEnd { place, digest } => {
                FrameWire::RegionEnd { drive: place.drive, region: place.region, digest: digest.0 }
            }
            Self::End { root, changed } => FrameWire::End { root: root.0, changed: *changed },
        };
        let mut frame = vec![WIRE];
        frame.extend(encode(&wire));
        frame
    }

    /// Decodes it. That places are within the drives is for the caller to see to.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > DISK_FRAME_BYTES_MAX {
            return Err(DecodeError::TooLong { bytes: bytes.len(), limit: DISK_FRAME_BYTES_MAX });
        }
        let (&first, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
        match first {
            WIRE => Self::from_wire(decode(rest, DISK_FRAME_BYTES_MAX)?),
            BLOCKS => {
                let (drive, rest) = rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
                let (region, rest) = rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
                let (&packing, bytes) = rest.split_first().ok_or(DecodeError::Malformed)?;
                let place =
                    DiskPlace { drive: u16::from_le_bytes(*drive), region: u32::from_le_bytes(*region) };
                let packing = ChunkPacking::of(packing)?;
                Ok(Self::Blocks(DiskBlocks { place, packing, bytes: bytes.to_vec() }))
            }
            found => Err(DecodeError::Unknown { what: "frame of a disk", found: found.into() }),
        }
    }

    fn from_wire(wire: FrameWire) -> Result<Self, DecodeError> {
        Ok(match wire {
            FrameWire::Shape { drives, bytes_on_disk } => {
                if drives.len() > DISK_DRIVES_MAX {
                    return Err(DecodeError::TooLong { bytes: drives.len(), limit: DISK_DRIVES_MAX });
                }
                let drives = drives.into_iter().map(DriveShape::try_from).collect::<Result<_, _>>()?;
                Self::Shape(DiskShape { drives, bytes_on_disk })
            }
            FrameWire::Refused(why) => Self::Refused(text(why, REFUSAL_BYTES_MAX)?),
            FrameWire::Busy => Self::Busy,
            FrameWire::Compare { drive, region, level, parents } => {
                Self::Compare(DiskCompare { place: DiskPlace { drive, region }, level, parents })
            }
            FrameWire::RegionEnd { drive, region, digest } => {
                Self::RegionEnd { place: DiskPlace { drive, region }, digest: Digest(digest) }
            }
            FrameWire::End { root, changed } => Self::End { root: Digest(root), changed },
        })
    }
}

impl From<&DriveShape> for DriveWire {
    fn from(drive: &DriveShape) -> Self {
        let template = drive.template.as_ref();
        Self {
            name: drive.name.to_string(),
            bytes: drive.bytes,
            template: template.map(|template| (template.name.to_string(), template.digest.0)),
        }
    }
}

impl TryFrom<DriveWire> for DriveShape {
    type Error = DecodeError;

    fn try_from(wire: DriveWire) -> Result<Self, DecodeError> {
        if wire.bytes > DISK_BYTES_MAX {
            return Err(DecodeError::Invalid { what: "length of a drive" });
        }
        let template = wire.template.map(|(found, digest)| {
            Ok::<_, DecodeError>(DriveTemplate { name: name(&found)?, digest: Digest(digest) })
        });
        Ok(Self { name: name(&wire.name)?, bytes: wire.bytes, template: template.transpose()? })
    }
}

impl DiskBatch {
    /// Adds a block, which must lie behind those that are there; `bytes` is what is in it, of a block's length.
    pub fn push(&mut self, block: u16, kind: DiskBlockKind, bytes: &[u8]) {
        self.blocks.push((block, kind));
        if kind == DiskBlockKind::Data {
            self.data.extend_from_slice(bytes);
        }
    }

    /// Encodes it: how many blocks, their places, their kinds, their bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.blocks.len() * 3 + self.data.len());
        // At most DISK_BATCH_BLOCKS_MAX are put in.
        bytes.extend_from_slice(&u16::try_from(self.blocks.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.blocks.iter().for_each(|(block, _)| bytes.extend_from_slice(&block.to_le_bytes()));
        bytes.extend(self.blocks.iter().map(|(_, kind)| match kind {
            DiskBlockKind::Below => 0,
            DiskBlockKind::Zero => 1,
            DiskBlockKind::Data => 2,
        }));
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// Decodes it: ascending places, and as many bytes as there must be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (count, rest) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
        let count = usize::from(u16::from_le_bytes(*count));
        if count > DISK_BATCH_BLOCKS_MAX {
            return Err(DecodeError::TooLong { bytes: count, limit: DISK_BATCH_BLOCKS_MAX });
        }
        let (places, rest) = rest.split_at_checked(count * 2).ok_or(DecodeError::Malformed)?;
        let (kinds, data) = rest.split_at_checked(count).ok_or(DecodeError::Malformed)?;
        let kind = |&byte: &u8| match byte {
            0 => Ok(DiskBlockKind::Below),
            1 => Ok(DiskBlockKind::Zero),
            2 => Ok(DiskBlockKind::Data),
            found => Err(DecodeError::Unknown { what: "kind of a block", found: found.into() }),
        };
        let places = places.as_chunks().0.iter().map(|place| u16::from_le_bytes(*place));
        let blocks: Vec<(u16, DiskBlockKind)> = places
            .zip(kinds.iter().map(kind))
            .map(|(place, kind)| Ok((place, kind?)))
            .collect::<Result<_, DecodeError>>()?;
        if !blocks.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::Invalid { what: "order of blocks" });
        }
        let with_data = blocks.iter().filter(|(_, kind)| *kind == DiskBlockKind::Data).count();
        if data.len() != with_data * DISK_BLOCK_BYTES {
            return Err(DecodeError::Invalid { what: "length of blocks" });
        }
        Ok(Self { blocks, data: data.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    fn vm() -> VmId {
        VmId { birth: Digest([1; 32]), name: Name::parse("vm").expect("a name") }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let asks = [
            DiskAsk::Shape(vm()),
            DiskAsk::Pull { vm: vm(), round: DiskRound::Running, have: DiskHave::Nothing },
            DiskAsk::Pull { vm: vm(), round: DiskRound::Last, have: DiskHave::Root(Digest([2; 32])) },
        ];
        let template = DriveTemplate { name: Name::parse("mini").expect("a name"), digest: Digest([3; 32]) };
        let drive = |name: &str, template| DriveShape {
            name: Name::parse(name).expect("a name"),
            bytes: 1 << 32,
            template,
        };
        let place = DiskPlace { drive: 1, region: 2 };
        let mut batch = DiskBatch::default();
        batch.push(3, DiskBlockKind::Below, &[]);
        batch.push(4, DiskBlockKind::Zero, &[]);
        batch.push(65_535, DiskBlockKind::Data, &[5; DISK_BLOCK_BYTES]);
        let packed = batch.to_bytes();
        assert_eq!(DiskBatch::from_bytes(&packed), Ok(batch));
        let frames = [
            DiskFrame::Shape(DiskShape {
                drives: vec![drive("root", Some(template)), drive("c", None)],
                bytes_on_disk: 4096,
            }),
            DiskFrame::Refused("it runs".to_owned()),
            DiskFrame::Busy,
            DiskFrame::Compare(DiskCompare { place, level: 2, parents: vec![0, 255] }),
            DiskFrame::Blocks(DiskBlocks {
                place,
                packing: ChunkPacking::Plain,
                bytes: packed[..12].to_vec(),
            }),
            DiskFrame::RegionEnd { place, digest: Digest([6; 32]) },
            DiskFrame::End { root: Digest([7; 32]), changed: 8 },
        ];
        let table = DiskTable {
            drives: vec![drive("root", None)],
            regions: vec![DiskTableRegion { place, digest: Digest([8; 32]), offset: 9, blocks: 10 }],
        };
        assert_eq!(DiskTable::from_bytes(&table.to_bytes()), Ok(table.clone()));
        let mut lines = format!("{}\n", hex(&table.to_bytes()));
        for ask in asks {
            let bytes = ask.to_bytes();
            assert_eq!(DiskAsk::from_bytes(&bytes), Ok(ask));
            lines += &format!("{}\n", hex(&bytes));
        }
        for frame in frames {
            let bytes = frame.to_bytes();
            assert_eq!(DiskFrame::from_bytes(&bytes), Ok(frame));
            lines += &format!("{}\n", hex(&bytes));
        }
        assert_eq!(lines, include_str!("golden/disk_1.hex"));
    }

    #[test]
    fn batches_that_lie_about_their_length_or_order_are_refused() {
        let block = [9; DISK_BLOCK_BYTES];
        let mut batch = DiskBatch::default();
        batch.push(7, DiskBlockKind::Data, &block);
        let bytes = batch.to_bytes();
        assert!(DiskBatch::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(DiskBatch::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        assert!(DiskBatch::from_bytes(&[]).is_err());
        let mut wrong = batch.clone();
        wrong.push(7, DiskBlockKind::Zero, &[]);
        assert_eq!(
            DiskBatch::from_bytes(&wrong.to_bytes()),
            Err(DecodeError::Invalid { what: "order of blocks" })
        );
        let many = DiskBatch {
            blocks: (0..=DISK_BATCH_BLOCKS_MAX as u16).map(|at| (at, DiskBlockKind::Zero)).collect(),
            data: Vec::new(),
        };
        assert!(matches!(DiskBatch::from_bytes(&many.to_bytes()), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn the_longest_header_and_the_fullest_batch_fit() {
        let long = Name::parse(&"n".repeat(crate::id::NAME_BYTES_MAX)).expect("a name");
        let vm = VmId { birth: Digest([0; 32]), name: long };
        let ask = DiskAsk::Pull { vm, round: DiskRound::Last, have: DiskHave::Root(Digest([0; 32])) };
        assert!(ask.to_bytes().len() <= DISK_ASK_BYTES_MAX);
        let mut batch = DiskBatch::default();
        for block in 0..DISK_BATCH_BLOCKS_MAX as u16 {
            batch.push(block, DiskBlockKind::Data, &[1; DISK_BLOCK_BYTES]);
        }
        let place = DiskPlace { drive: 0, region: 0 };
        let frame = DiskBlocks { place, packing: ChunkPacking::Plain, bytes: batch.to_bytes() };
        assert!(DiskFrame::Blocks(frame).to_bytes().len() <= DISK_FRAME_BYTES_MAX);
        assert!(DISK_REGION_BLOCKS as usize * DISK_NODE_BYTES <= DISK_FRAME_BYTES_MAX);
    }
}
