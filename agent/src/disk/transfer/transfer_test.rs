//! Drives go from one folder to another: whatever differs, however often it is cut off, and whoever lies.

use std::io;

use mln_protocol::wire::{
    ChunkPacking, DISK_BLOCK_BYTES, DiskBatch, DiskBlockKind, DiskBlocks, DiskCompare, DiskFrame,
};

use super::receive::{ReceiveError, Receiver, Step};
use super::send::{Base, Outlet, Sent, Still, send};
use crate::disk::content::{Node, Place};
use crate::disk::testbed::{Lot, bytes, change, disk, open};
use crate::disk::{Reading, VmDisk, scan};

/// A stream without a network: it may break after so many frames, and changes one of them.
struct Pipe<'a> {
    receiver: Option<Receiver>,
    frames_left: u64,
    meddle: &'a dyn Fn(DiskFrame) -> DiskFrame,
    bytes: usize,
    end: Option<Result<Sent, ReceiveError>>,
}

impl Pipe<'_> {
    fn put(&mut self, frame: DiskFrame) -> io::Result<Vec<Node>> {
        if self.frames_left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.frames_left -= 1;
        let packed = (self.meddle)(frame).to_bytes();
        self.bytes += packed.len();
        let frame = DiskFrame::from_bytes(&packed).expect("it was made here");
        let receiver = self.receiver.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        match receiver.take(frame) {
            Ok(Step::Next) => Ok(Vec::new()),
            Ok(Step::Answer(nodes)) => {
                self.bytes += nodes.len() * 16;
                Ok(nodes)
            }
            Ok(Step::Done(sent)) => {
                self.end = Some(Ok(sent));
                Ok(Vec::new())
            }
            Err(error) => {
                self.end = Some(Err(error));
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

impl Outlet for Pipe<'_> {
    fn send(&mut self, frame: DiskFrame) -> io::Result<()> {
        self.put(frame).map(drop)
    }

    fn ask(&mut self, compare: DiskCompare) -> io::Result<Vec<Node>> {
        self.put(DiskFrame::Compare(compare))
    }
}

/// How a transfer ends that isn't whole.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The connection breaks.
    Cut,
    /// The power goes.
    Crash,
}

fn base(from: &VmDisk, to: &VmDisk) -> (Base, Option<crate::disk::State>) {
    if to.folder.content().is_none() {
        let root = scan(to, Reading::FromDisk).expect("it can be read");
        to.folder.set_content(root).expect("there is room");
    }
    let here = to.folder.content().expect("it was just hashed");
    (from.folder.state(here.root()).map_or(Base::Unknown, Base::Known), Some(here))
}

/// Sends what differs, as far as so many frames; returns what went over the line.
fn transfer(
    from: &VmDisk,
    to: &VmDisk,
    still: Still,
    frames: Option<(u64, End)>,
    meddle: &dyn Fn(DiskFrame) -> DiskFrame,
) -> (usize, Option<Result<Sent, ReceiveError>>) {
    let (known, here) = base(from, to);
    let receiver = Receiver::begin(to.clone(), here).expect("there is room");
    let frames_left = frames.map_or(u64::MAX, |(frames, _)| frames);
    let mut pipe = Pipe { receiver: Some(receiver), frames_left, meddle, bytes: 0, end: None };
    let sent = send(from, still, &known, &mut pipe);
    if pipe.end.is_none() {
        assert!(sent.is_err(), "it ended early");
        if !matches!(frames, Some((_, End::Crash))) {
            pipe.receiver.take().expect("it is there").cut().expect("there is room");
        }
    }
    (pipe.bytes, pipe.end)
}

fn same(frame: DiskFrame) -> DiskFrame {
    frame
}

#[test]
fn whatever_differs_and_however_often_it_is_cut_off_the_copy_is_the_same_in_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lot = Lot(11);
    for seed in 0..12 {
        let from = disk(folder.path(), &format!("from{seed}"));
        let to = disk(folder.path(), &format!("to{seed}"));
        change(&from, &mut lot, 400);
        change(&to, &mut lot, 100 * (seed % 2));
        for round in 0..6 {
            let end = if lot.below(2) == 0 { End::Cut } else { End::Crash };
            let frames = (round < 5).then(|| (lot.below(9), end));
            let still = if lot.below(2) == 0 { Still::Yes } else { Still::No };
            change(&from, &mut lot, 20);
            let (_, ended) = transfer(&from, &to, still, frames, &same);
            if frames.is_none() {
                let sent = ended.expect("nothing cut it off").expect("nobody lied");
                assert!(bytes(&from) == bytes(&to), "seed {seed}");
                assert_eq!(scan(&to, Reading::FromDisk).expect("reads"), sent.root, "seed {seed}");
                assert_eq!(scan(&from, Reading::Cached).expect("reads"), sent.root, "seed {seed}");
            }
        }
    }
}

#[test]
fn what_both_know_costs_nothing_and_a_change_costs_its_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (disk(folder.path(), "from"), disk(folder.path(), "to"));
    let mut lot = Lot(3);
    change(&from, &mut lot, 600);
    let (first, _) = transfer(&from, &to, Still::No, None, &same);
    let root = scan(&from, Reading::Cached).expect("reads");
    from.folder.set_content(root).expect("there is room");
    let (again, _) = transfer(&from, &to, Still::Yes, None, &same);
    assert!(first > 512 << 10 && again < 200, "{first} bytes, then {again}");
    // What was sealed is not hashed again: a change behind its back is found out, and nothing is said to be whole.
    change(&from, &mut lot, 40);
    let (_, ended) = transfer(&from, &to, Still::Yes, None, &same);
    assert!(ended.is_none_or(|ended| ended.is_ok()));
    from.folder.void().expect("it can be forgotten");
    let (some, ended) = transfer(&from, &to, Still::Yes, None, &same);
    let sent = ended.expect("it is whole").expect("nobody lied");
    assert!(sent.changed <= 40 && some < 45 * DISK_BLOCK_BYTES, "{some} bytes for {} blocks", sent.changed);
    assert!(bytes(&from) == bytes(&to));
    // And back: what went is known there.
    change(&to, &mut lot, 5);
    let (back, ended) = transfer(&to, &from, Still::No, None, &same);
    assert!(ended.is_some_and(|ended| ended.is_ok()) && back < 6 * DISK_BLOCK_BYTES, "{back} bytes");
    assert!(bytes(&from) == bytes(&to));
}

#[test]
fn a_source_that_lies_is_noticed_and_what_is_there_is_known_nevertheless() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (disk(folder.path(), "from"), disk(folder.path(), "to"));
    change(&from, &mut Lot(9), 500);
    let other_bytes = |frame| match frame {
        DiskFrame::Blocks(DiskBlocks { place, .. }) => {
            let mut batch = DiskBatch::default();
            batch.push(5, DiskBlockKind::Data, &[1; DISK_BLOCK_BYTES]);
            let (packing, bytes) = (ChunkPacking::Plain, batch.to_bytes());
            DiskFrame::Blocks(DiskBlocks { place, packing, bytes })
        }
        frame => frame,
    };
    let behind_the_end = |frame| match frame {
        DiskFrame::Blocks(blocks) => {
            DiskFrame::Blocks(DiskBlocks { place: Place { drive: 0, region: 1 }, ..blocks })
        }
        frame => frame,
    };
    let no_batch = |frame| match frame {
        DiskFrame::Blocks(blocks) => DiskFrame::Blocks(DiskBlocks { bytes: vec![7; 100], ..blocks }),
        frame => frame,
    };
    let meddlers: [&dyn Fn(DiskFrame) -> DiskFrame; 3] = [&other_bytes, &behind_the_end, &no_batch];
    for meddle in meddlers {
        let (_, ended) = transfer(&from, &to, Still::No, None, meddle);
        assert!(ended.is_some_and(|ended| ended.is_err_and(|error| error.is_theirs())));
        assert!(to.folder.is_arriving());
    }
    let (_, ended) = transfer(&from, &to, Still::No, None, &same);
    ended.expect("it is whole").expect("nobody lied");
    assert!(bytes(&from) == bytes(&open(folder.path(), "to")));
}

/// A plain drive of this many blocks, with noise in the first of them.
fn plain(folder: &std::path::Path, name: &str, blocks: u64, noise: u64, lot: &mut Lot) -> VmDisk {
    let disk = disk(folder, name);
    let drive = disk.drives[1].clone();
    let file = std::fs::File::options().write(true).open(&drive.path).expect("it is there");
    file.set_len(blocks * DISK_BLOCK_BYTES as u64).expect("there is room");
    let disk = VmDisk { drives: vec![drive], ..disk };
    write_noise(&disk, 0..noise, lot);
    disk
}

fn write_noise(disk: &VmDisk, blocks: impl Iterator<Item = u64>, lot: &mut Lot) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    // As a platform does before a guest writes.
    disk.folder.void().expect("it can be forgotten");
    let file = std::fs::File::options().write(true).open(&disk.drives[0].path).expect("it is there");
    let mut all = Vec::new();
    for block in blocks {
        let bytes = lot.noise();
        file.write_all_at(&bytes, block * DISK_BLOCK_BYTES as u64).expect("there is room");
        all.extend_from_slice(&bytes);
    }
    all
}

#[test]
fn the_line_carries_little_more_than_the_changed_blocks_packed() {
    const BLOCKS: u64 = 70_000;
    let folder = tempfile::tempdir().expect("a folder");
    let mut lot = Lot(21);
    for (number, percent) in [1, 10].into_iter().enumerate() {
        let from = plain(folder.path(), &format!("from{number}"), BLOCKS, 4_000, &mut lot);
        let to = plain(folder.path(), &format!("to{number}"), BLOCKS, 0, &mut lot);
        let (_, ended) = transfer(&from, &to, Still::No, None, &same);
        ended.expect("it is whole").expect("nobody lied");
        let places: std::collections::BTreeSet<u64> =
            (0..BLOCKS * percent / 100).map(|_| lot.below(BLOCKS)).collect();
        let changed = write_noise(&from, places.into_iter(), &mut lot);
        let packed = zstd::bulk::compress(&changed, 3).expect("it can be packed").len();
        let (line, ended) = transfer(&from, &to, Still::Yes, None, &same);
        ended.expect("it is whole").expect("nobody lied");
        assert!(line * 100 <= packed * 105, "{line} bytes for {packed}, {percent} %");
        // And back, after a change of one in a hundred.
        let places: Vec<u64> = (0..BLOCKS / 100).map(|_| lot.below(BLOCKS)).collect();
        write_noise(&to, places.into_iter(), &mut lot);
        let (back, ended) = transfer(&to, &from, Still::Yes, None, &same);
        ended.expect("it is whole").expect("nobody lied");
        assert!(back as u64 * 100 <= 2 * BLOCKS * DISK_BLOCK_BYTES as u64, "{back} bytes");
        // Where nobody remembers anything, it costs digests where there are changes, and no more.
        let places: Vec<u64> = (0..BLOCKS / 1000).map(|_| lot.below(BLOCKS)).collect();
        let changed = write_noise(&to, places.into_iter(), &mut lot);
        for entry in std::fs::read_dir(to.folder.path()).expect("it is there").flatten() {
            if ["state", "round", "content"]
                .iter()
                .any(|name| entry.file_name().to_string_lossy().starts_with(name))
            {
                std::fs::remove_file(entry.path()).expect("it is ours");
            }
        }
        let (line, ended) = transfer(&to, &from, Still::Yes, None, &same);
        ended.expect("it is whole").expect("nobody lied");
        assert!(line * 100 <= changed.len() * 130, "{line} bytes for {}", changed.len());
    }
}
