//! The content of drives as digests: of blocks, of regions, and of all of it.
//!
//! ```text
//!   root     names, lengths and templates of all drives; the digests of their regions that have one
//!   region   65,536 blocks (256 MiB): places and digests of the blocks that are not what is below them
//!   node     256 or 16 blocks, or one: only for finding where two regions differ
//! ```

use mln_protocol::id::Digest;
use mln_protocol::wire::{DISK_NODE_BYTES, DiskCompare, DriveShape};

use super::{BLOCK_BYTES, REGION_BLOCKS};

pub use mln_protocol::wire::DiskPlace as Place;

/// The digest of a region in which everything is what is below it.
pub const EMPTY: Digest = Digest([0; 32]);

/// A digest that is only there for finding differences.
pub type Node = [u8; DISK_NODE_BYTES];

/// How many blocks a node has, by level.
const LEVELS: [usize; 4] = [REGION_BLOCKS as usize, 256, 16, 1];

/// What follows from the length of a drive.
#[derive(Debug)]
pub struct Shape;

impl Shape {
    /// Returns how many regions a drive has.
    pub fn regions(drive: &DriveShape) -> u32 {
        let blocks = drive.bytes.div_ceil(BLOCK_BYTES as u64);
        u32::try_from(blocks.div_ceil(u64::from(REGION_BLOCKS))).unwrap_or(u32::MAX)
    }

    /// Returns how many blocks a region of a drive has.
    pub fn region_blocks(drive: &DriveShape, region: u32) -> u32 {
        let blocks = drive.bytes.div_ceil(BLOCK_BYTES as u64);
        let before = u64::from(region) * u64::from(REGION_BLOCKS);
        u32::try_from(blocks.saturating_sub(before)).unwrap_or(REGION_BLOCKS).min(REGION_BLOCKS)
    }

    /// Whether two lists of drives are the same, whatever their templates are called.
    pub fn are_same(some: &[DriveShape], others: &[DriveShape]) -> bool {
        let digest = |drive: &DriveShape| drive.template.as_ref().map(|template| template.digest);
        let is_same = |(one, other): (&DriveShape, &DriveShape)| {
            (&one.name, one.bytes, digest(one)) == (&other.name, other.bytes, digest(other))
        };
        some.len() == others.len() && some.iter().zip(others).all(is_same)
    }

    /// Whether a block is one of these drives.
    pub fn has(drives: &[DriveShape], place: Place, at: u16) -> bool {
        let drive = drives.get(usize::from(place.drive));
        drive.is_some_and(|drive| u32::from(at) < Self::region_blocks(drive, place.region))
    }
}

/// The blocks of a region that are not what is below them, each with its digest. Takes some 2 MiB of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    blocks: Vec<Option<Digest>>,
    count: u32,
}

impl Default for Region {
    fn default() -> Self {
        Self { blocks: vec![None; REGION_BLOCKS as usize], count: 0 }
    }
}

impl Region {
    /// Returns the digest of a block; none where it is what is below it.
    pub fn get(&self, at: u16) -> Option<Digest> {
        self.blocks[usize::from(at)]
    }

    /// Notes what a block is.
    pub fn set(&mut self, at: u16, digest: Option<Digest>) {
        let block = &mut self.blocks[usize::from(at)];
        self.count = self.count - u32::from(block.is_some()) + u32::from(digest.is_some());
        *block = digest;
    }

    /// Forgets all blocks.
    pub fn clear(&mut self) {
        if self.count > 0 {
            self.blocks.fill(None);
            self.count = 0;
        }
    }

    /// Returns how many blocks are not what is below them.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether all blocks are what is below them.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns these blocks, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Digest)> {
        (0..=u16::MAX).zip(&self.blocks).filter_map(|(at, digest)| Some((at, (*digest)?)))
    }

    /// Returns the places where two regions differ, in order.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u16> + 'a {
        let pairs = self.blocks.iter().zip(&other.blocks);
        (0..=u16::MAX).zip(pairs).filter_map(|(at, (one, other))| (one != other).then_some(at))
    }

    /// Returns the region's digest.
    pub fn digest(&self) -> Digest {
        if self.is_empty() {
            return EMPTY;
        }
        Digest(self.hash(0..self.blocks.len()))
    }

    /// Answers what the digests of nodes are; none where there are no such nodes.
    pub fn nodes(&self, compare: &DiskCompare) -> Option<Vec<Node>> {
        let level = usize::from(compare.level);
        let blocks = *LEVELS.get(level)?;
        let parent_blocks = if level == 0 { blocks } else { LEVELS[level - 1] };
        let parents = self.blocks.len() / parent_blocks;
        if !compare.parents.is_sorted_by(|a, b| a < b)
            || compare.parents.iter().any(|parent| usize::from(*parent) >= parents)
        {
            return None;
        }
        let mut nodes = Vec::with_capacity(compare.parents.len() * (parent_blocks / blocks));
        for parent in &compare.parents {
            let begin = usize::from(*parent) * parent_blocks;
            let children = (begin..begin + parent_blocks).step_by(blocks);
            nodes.extend(children.map(|from| self.node(from..from + blocks)));
        }
        Some(nodes)
    }

    /// Returns the children at a level of these nodes of the level above, by their numbers at their own level.
    pub fn children(level: u8, parents: &[u16]) -> Vec<u16> {
        let level = usize::from(level);
        let each = if level == 0 { 1 } else { LEVELS[level - 1] / LEVELS[level] };
        let numbers = parents.iter().flat_map(|parent| {
            let begin = usize::from(*parent) * each;
            begin..begin + each
        });
        numbers.map(|number| u16::try_from(number).unwrap_or(u16::MAX)).collect()
    }

    fn node(&self, range: std::ops::Range<usize>) -> Node {
        let mut node = [0; DISK_NODE_BYTES];
        if self.blocks[range.clone()].iter().any(Option::is_some) {
            node.copy_from_slice(&self.hash(range)[..DISK_NODE_BYTES]);
        }
        node
    }

    fn hash(&self, range: std::ops::Range<usize>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for at in range {
            if let Some(digest) = self.blocks[at] {
                hasher.update(&(at as u64).to_le_bytes());
                hasher.update(&digest.0);
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// Makes the root digest: drive by drive, and of each its regions in order.
#[derive(Debug)]
pub struct RootHasher {
    hasher: blake3::Hasher,
}

impl RootHasher {
    /// Begins with what the drives are like.
    pub fn new(drives: &[DriveShape]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("mln 2026 what is on a VM's drives");
        hasher.update(&(drives.len() as u64).to_le_bytes());
        for drive in drives {
            let name = drive.name.as_str().as_bytes();
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name);
            hasher.update(&drive.bytes.to_le_bytes());
            // What the template is called is nobody's content.
            let template = drive.template.as_ref().map_or([0; 32], |template| template.digest.0);
            hasher.update(&[u8::from(drive.template.is_some())]);
            hasher.update(&template);
        }
        Self { hasher }
    }

    /// Goes on with a region; those must come in order, and empty ones make no difference.
    pub fn region(&mut self, place: Place, digest: Digest) {
        if digest != EMPTY {
            self.hasher.update(&place.drive.to_le_bytes());
            self.hasher.update(&place.region.to_le_bytes());
            self.hasher.update(&digest.0);
        }
    }

    /// Returns the root digest.
    pub fn finish(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_differ_exactly_where_blocks_do() {
        let (mut one, mut other) = (Region::default(), Region::default());
        for at in [0, 1, 300, 40_000, u16::MAX] {
            one.set(at, Some(Digest([at as u8; 32])));
            other.set(at, Some(Digest([at as u8; 32])));
        }
        assert_eq!(one.digest(), other.digest());
        other.set(40_000, None);
        other.set(7, Some(Digest([1; 32])));
        assert_eq!(one.differences(&other).collect::<Vec<_>>(), [7, 40_000]);
        let mut parents = vec![0];
        for level in 0..4 {
            let compare = DiskCompare { place: Place { drive: 0, region: 0 }, level, parents };
            let [ours, theirs] = [&one, &other].map(|region| region.nodes(&compare).expect("there are such"));
            let children = Region::children(level, &compare.parents);
            let differ = children.iter().zip(ours.iter().zip(&theirs)).filter(|(_, (a, b))| a != b);
            parents = differ.map(|(child, _)| *child).collect();
        }
        assert_eq!(parents, [7, 40_000]);
        let wrong =
            |level, parents| one.nodes(&DiskCompare { place: Place { drive: 0, region: 0 }, level, parents });
        assert_eq!(wrong(4, vec![0]), None);
        assert_eq!(wrong(1, vec![1]), None);
        assert_eq!(wrong(2, vec![3, 3]), None);
    }

    #[test]
    fn an_empty_region_is_none() {
        let mut region = Region::default();
        assert_eq!(region.digest(), EMPTY);
        region.set(5, Some(Digest([1; 32])));
        assert_ne!(region.digest(), EMPTY);
        region.set(5, None);
        assert_eq!((region.digest(), region.len()), (EMPTY, 0));
    }
}
