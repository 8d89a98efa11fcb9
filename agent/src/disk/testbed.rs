//! Drives in a folder of their own, and what must be on them, for the tests of this module.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use mln_protocol::id::{Digest, Name};
use mln_protocol::wire::{DiskBlockKind, DriveTemplate};

use super::{Access, BLOCK_BYTES, DiskFolder, Drive, DriveFile, VmDisk};
use crate::image::cow;

/// How many blocks the drives have; the last one of the plain drive is a short one.
pub(super) const BLOCKS: u16 = 300;
const SHORT_BYTES: u64 = 1024;

/// Numbers that look random, the same in every run.
pub(super) struct Lot(pub(super) u64);

impl Lot {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Returns a block: zeros, or what isn't.
    pub(super) fn block(&mut self) -> [u8; BLOCK_BYTES] {
        if self.below(4) > 0 { self.noise() } else { [0; BLOCK_BYTES] }
    }

    /// Returns a block that can't be packed.
    pub(super) fn noise(&mut self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let seed = self.below(1 << 30).to_le_bytes();
        blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut block);
        block
    }
}

/// A template of its own in a folder: some blocks have something in them.
pub(super) fn template(folder: &std::path::Path) -> PathBuf {
    let path = folder.join("template.img");
    if !path.exists() {
        let file = File::create(&path).expect("the folder is ours");
        file.set_len(u64::from(BLOCKS) * BLOCK_BYTES as u64).expect("there is room");
        for block in (0..u64::from(BLOCKS)).step_by(3) {
            file.write_all_at(&[7; BLOCK_BYTES], block * BLOCK_BYTES as u64).expect("there is room");
        }
    }
    path
}

/// Makes two drives below a folder: a layer over a template, and a plain one.
pub(super) fn disk(folder: &std::path::Path, name: &str) -> VmDisk {
    let below = template(folder);
    let path = folder.join(name);
    fs::create_dir(&path).expect("the name is new");
    let bytes = u64::from(BLOCKS) * BLOCK_BYTES as u64;
    cow::create(&path.join("disk.cow"), &below, bytes, 1).expect("there is room");
    File::create(path.join("disk-d.img"))
        .and_then(|file| file.set_len(bytes - SHORT_BYTES))
        .expect("there is room");
    open(folder, name)
}

/// Returns drives that are there.
pub(super) fn open(folder: &std::path::Path, name: &str) -> VmDisk {
    let path = folder.join(name);
    let named = |name: &str| Name::parse(name).expect("a name");
    let template = DriveTemplate { name: named("mini"), digest: Digest([9; 32]) };
    let root = DriveFile {
        name: named("root"),
        path: path.join("disk.cow"),
        below: Some((template, folder.join("template.img"))),
    };
    let plain = DriveFile { name: named("d"), path: path.join("disk-d.img"), below: None };
    VmDisk { folder: DiskFolder::at(path), drives: vec![root, plain] }
}

/// Changes some blocks, as a guest does.
pub(super) fn change(disk: &VmDisk, lot: &mut Lot, count: u64) {
    let drives = disk.open(Access::Write).expect("they are there");
    for _ in 0..count {
        let drive = &drives[lot.below(2) as usize];
        let (at, block) = (lot.below(BLOCKS.into()) as u16, lot.block());
        match lot.below(8) {
            0 => drive.write_block(0, at, DiskBlockKind::Below, &[]).expect("there is room"),
            1 => drive.write_block(0, at, DiskBlockKind::Zero, &[]).expect("there is room"),
            2 if drive.shape().template.is_some() => write_sector(disk, at, lot.below(8), &block[..512]),
            _ => drive.write_block(0, at, DiskBlockKind::Data, &block).expect("there is room"),
        }
    }
}

/// Writes one sector of the layer, as the kernel does.
fn write_sector(disk: &VmDisk, at: u16, sector: u64, bytes: &[u8]) {
    let file = File::options().read(true).write(true).open(&disk.drives[0].path).expect("it is there");
    let layout = cow::layout(&file).expect("it is a layer");
    let mut bits = [0];
    file.read_exact_at(&mut bits, layout.bitmap_at + u64::from(at)).expect("it has a bitmap");
    bits[0] |= 1 << sector;
    file.write_all_at(bytes, layout.data_at + u64::from(at) * BLOCK_BYTES as u64 + sector * 512)
        .expect("room");
    file.write_all_at(&bits, layout.bitmap_at + u64::from(at)).expect("room");
}

/// Returns all that is on the drives, read as the kernel would.
pub(super) fn bytes(disk: &VmDisk) -> Vec<Vec<u8>> {
    let layer = fs::read(&disk.drives[0].path).expect("it is there");
    let layout = cow::layout(&File::open(&disk.drives[0].path).expect("it is there")).expect("a layer");
    let mut root = fs::read(&disk.drives[0].below.as_ref().expect("it is a layer").1).expect("it is there");
    for sector in 0..root.len() / 512 {
        if layer[layout.bitmap_at as usize + sector / 8] & (1 << (sector % 8)) != 0 {
            let at = layout.data_at as usize + sector * 512;
            root[sector * 512..(sector + 1) * 512].copy_from_slice(&layer[at..at + 512]);
        }
    }
    vec![root, fs::read(&disk.drives[1].path).expect("it is there")]
}

/// Copies all that one disk has to another one, block by block.
pub(super) fn copy(from: &[Drive], to: &[Drive]) {
    for (from, to) in from.iter().zip(to) {
        for at in 0..BLOCKS {
            to.write_block(0, at, DiskBlockKind::Below, &[]).expect("there is room");
        }
        let put = |at, block: super::Block<'_>| to.write_block(0, at, block.kind(), block.bytes());
        from.read_region::<std::io::Error>(0, put).expect("it can be read");
    }
}
