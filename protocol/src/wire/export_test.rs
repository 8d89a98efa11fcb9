use super::*;
use crate::model::Blob;
use crate::wire::{ChunkPacking, DiskBlocks, DiskPlace, DiskShape, DriveTemplate};

/// Numbers that look random, the same in every run.
struct Lot(u64);

impl Lot {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn named(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn shape(template: bool) -> DiskFrame {
    let template = template.then(|| DriveTemplate { name: named("mini"), digest: Digest([3; 32]) });
    let root = DriveShape { name: named("root"), bytes: 1 << 28, template };
    DiskFrame::Shape(DiskShape { drives: vec![root], bytes_on_disk: 8192 })
}

fn frames(lot: &mut Lot, out: &mut Vec<ExportRecord>, template: bool) {
    out.push(ExportRecord::Frame(shape(template)));
    for _ in 0..lot.below(4) {
        let place = DiskPlace { drive: 0, region: 0 };
        let bytes = (0..lot.below(200)).map(|at| at as u8).collect();
        let blocks = DiskBlocks { place, packing: ChunkPacking::Zstd, bytes };
        out.push(ExportRecord::Frame(DiskFrame::Blocks(blocks)));
        out.push(ExportRecord::Frame(DiskFrame::RegionEnd { place, digest: Digest([7; 32]) }));
    }
    let changed = lot.below(9);
    out.push(ExportRecord::Frame(DiskFrame::End { root: Digest([8; 32]), changed }));
}

/// An export with some files, VMs and images.
fn records(lot: &mut Lot) -> Vec<ExportRecord> {
    let label = Label { owner: named("anna"), project: named("ring") };
    let contents: Vec<Vec<u8>> =
        (0..lot.below(3)).map(|file| vec![file as u8; lot.below(40) as usize]).collect();
    let files = contents.iter().enumerate().map(|(at, bytes)| Blob {
        from: format!("file{at}"),
        digest: Digest::of(bytes),
        bytes: bytes.len() as u64,
        mode: 0o644,
    });
    let definition = Definition {
        source: Some("global { project ring }\nhost a { }\n".to_owned()),
        variables: vec![("n".to_owned(), "3".to_owned())],
        files: files.collect(),
        templates: Vec::new(),
    };
    let head = ExportHead { label, taken_unix_ms: 1_700_000_000_000 };
    let mut all = vec![ExportRecord::Head(head), ExportRecord::Definition(definition)];
    for (index, bytes) in (0..).zip(&contents) {
        for piece in bytes.chunks(16) {
            all.push(ExportRecord::File { index, bytes: piece.to_vec() });
        }
    }
    for at in 0..1 + lot.below(3) {
        all.push(ExportRecord::Vm(named(&format!("vm{at}"))));
        frames(lot, &mut all, true);
    }
    for at in 0..lot.below(2) {
        all.push(ExportRecord::Image(ExportImage {
            name: named("mini"),
            version: "1".to_owned(),
            digest: Digest([at as u8; 32]),
            memory_mib_min: 40,
            added_unix_ms: 5,
        }));
        frames(lot, &mut all, false);
    }
    all
}

/// Returns the bytes of an export, and where each of its records begins.
fn written(records: &[ExportRecord]) -> (Vec<u8>, Vec<usize>) {
    let (mut writer, mut bytes) = ExportWriter::begin();
    let mut begins = vec![0];
    for record in records {
        begins.push(bytes.len());
        bytes.extend(writer.record(record));
    }
    begins.push(bytes.len());
    bytes.extend(writer.finish());
    (bytes, begins)
}

/// Reads an export in pieces of some length.
fn read(bytes: &[u8], piece: usize) -> Result<(Vec<ExportRecord>, ExportContents), ExportError> {
    let (mut reader, mut records) = (ExportReader::whole(), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        while let Some(record) = reader.record()? {
            records.push(record);
        }
    }
    Ok((records, reader.end()?))
}

#[test]
fn what_was_written_is_read_however_it_is_cut() {
    let mut lot = Lot(7);
    for _ in 0..60 {
        let all = records(&mut lot);
        let (bytes, _) = written(&all);
        let (mut found, contents) = read(&bytes, 1 + lot.below(500) as usize).expect("it is whole");
        assert_eq!(found.pop(), Some(ExportRecord::End));
        assert_eq!(found, all);
        let vms = all.iter().filter(|record| matches!(record, ExportRecord::Vm(_))).count();
        assert_eq!((contents.vms.len(), contents.bytes), (vms, bytes.len() as u64));
        let head = contents.head.expect("a whole export has one");
        assert_eq!(head.label.to_string(), "anna/ring");
    }
}

#[test]
fn a_file_that_was_cut_off_is_known_at_every_byte() {
    let (bytes, _) = written(&records(&mut Lot(3)));
    for at in 0..bytes.len() {
        let found = read(&bytes[..at], 64);
        assert_eq!(found.expect_err("it is cut off"), ExportError::Truncated { at: at as u64 });
    }
}

#[test]
fn a_byte_that_was_changed_is_found_where_it_is() {
    let (bytes, begins) = written(&records(&mut Lot(5)));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let begin = begins.iter().rev().find(|begin| **begin <= at).copied().expect("the first is 0");
        match read(&damaged, 100).expect_err("it is damaged") {
            ExportError::NotExport | ExportError::Version => assert_eq!(begin, 0),
            ExportError::Changed { from, to } => {
                assert_eq!(from, begin as u64, "byte {at}");
                assert!(to > at as u64, "byte {at} is not before {to}");
            }
            other => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn records_that_have_no_place_are_refused() {
    let all = records(&mut Lot(1));
    let wrong = |change: &dyn Fn(&mut Vec<ExportRecord>)| {
        let mut other = all.clone();
        change(&mut other);
        let found = read(&written(&other).0, 512).expect_err("it is out of order");
        assert!(matches!(found, ExportError::Order { .. }), "{found}");
    };
    wrong(&|all| {
        all.remove(0);
    });
    wrong(&|all| all.swap(0, 1));
    // A disk without its end, one without its beginning, and one that is there twice.
    wrong(&|all| {
        all.pop();
    });
    wrong(&|all| {
        let vm = all.iter().position(|record| matches!(record, ExportRecord::Vm(_))).expect("it has one");
        all.remove(vm + 1);
    });
    wrong(&|all| {
        let vm = all.iter().position(|record| matches!(record, ExportRecord::Vm(_))).expect("it has one");
        let again: Vec<_> = all[vm..].to_vec();
        all.extend(again);
    });
    wrong(&|all| all.push(ExportRecord::File { index: 0, bytes: vec![1] }));
    let (mut bytes, _) = written(&all);
    bytes.push(0);
    assert!(matches!(read(&bytes, 512), Err(ExportError::Order { .. })));
    bytes.truncate(5);
    assert_eq!(read(&bytes, 512).expect_err("it is cut off"), ExportError::Truncated { at: 5 });
}

#[test]
fn a_file_that_is_another_one_is_refused() {
    let definition = Definition {
        source: None,
        variables: Vec::new(),
        files: vec![Blob { from: "a".to_owned(), digest: Digest::of(b"abc"), bytes: 3, mode: 0o600 }],
        templates: Vec::new(),
    };
    let label = Label { owner: named("anna"), project: named("ring") };
    let begin = |pieces: &[&[u8]]| {
        let head = ExportHead { label: label.clone(), taken_unix_ms: 0 };
        let mut all = vec![ExportRecord::Head(head), ExportRecord::Definition(definition.clone())];
        all.extend(pieces.iter().map(|piece| ExportRecord::File { index: 0, bytes: piece.to_vec() }));
        all.push(ExportRecord::Vm(named("a")));
        frames(&mut Lot(1), &mut all, true);
        read(&written(&all).0, 512)
    };
    assert!(begin(&[b"a", b"bc"]).is_ok());
    for wrong in [&[][..], &[&b"ab"[..]], &[b"abd"], &[b"abc", b"d"]] {
        assert!(matches!(begin(wrong), Err(ExportError::Order { .. })), "{wrong:?}");
    }
}

#[test]
fn only_agents_that_know_of_imported_disks_read_a_part_with_one() {
    let disk = Blob { from: Blob::disk_of(&named("a")), digest: Digest([1; 32]), bytes: 9, mode: 0o600 };
    let mut fragment = crate::model::Fragment { blobs: vec![disk], ..Default::default() };
    let bytes = crate::wire::encode_fragment(&fragment);
    assert_eq!(bytes[..2], [5, 0]);
    assert_eq!(crate::wire::decode_fragment(&bytes), Ok(fragment.clone()));
    fragment.blobs[0].from = "disk".to_owned();
    assert_eq!(crate::wire::encode_fragment(&fragment)[..2], [1, 0]);
}

#[test]
fn the_bytes_of_version_1_never_change() {
    let (bytes, _) = written(&records(&mut Lot(11)));
    let golden = include_str!("golden/export_1.hex");
    assert_eq!(crate::id::hex(&bytes), golden.trim());
}
