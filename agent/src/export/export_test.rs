use std::fs;
use std::os::unix::fs::FileExt;

use mln_protocol::id::Digest;
use mln_protocol::model::{Blob, Definition};
use mln_protocol::wire::{ExportError, ExportHead, ExportRecord, ExportWriter};
use tokio::sync::mpsc;

use super::*;
use crate::blob::Blobs;
use crate::disk::transfer::send::{Base, Outlet, SendError, Still, send, shape};
use crate::disk::{Access, DiskFolder, DriveFile, VmDisk};
use crate::image::ImageStore;
use crate::platform::FirstContent;

const DRIVE_BYTES: u64 = 1 << 20;

fn named(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn label() -> Label {
    Label { owner: named("anna"), project: named("ring") }
}

/// A disk of one plain drive, with something in two places.
fn disk(folder: &std::path::Path, content: &[u8]) -> VmDisk {
    fs::create_dir_all(folder).expect("a folder");
    let path = folder.join("drive");
    let file = fs::File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    file.set_len(DRIVE_BYTES).expect("a hole");
    file.write_all_at(content, 8192).expect("room");
    file.write_all_at(content, DRIVE_BYTES - 4096).expect("room");
    let drive = DriveFile { name: named("c"), path, below: None };
    VmDisk { folder: DiskFolder::at(folder), drives: vec![drive] }
}

struct Frames(Vec<ExportRecord>);

impl Outlet for Frames {
    fn send(&mut self, frame: mln_protocol::wire::DiskFrame) -> io::Result<()> {
        self.0.push(ExportRecord::Frame(frame));
        Ok(())
    }

    fn ask(&mut self, _: mln_protocol::wire::DiskCompare) -> io::Result<Vec<crate::disk::content::Node>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn frames(disk: &VmDisk) -> Result<Vec<ExportRecord>, SendError> {
    let shape = shape(&disk.open(Access::Read)?)?;
    let mut frames = Frames(vec![ExportRecord::Frame(mln_protocol::wire::DiskFrame::Shape(shape))]);
    send(disk, Still::Yes, &Base::Nothing, &mut frames)?;
    Ok(frames.0)
}

/// An export of two VMs with a file, as bytes.
fn exported(folder: &std::path::Path) -> Vec<u8> {
    let files = vec![Blob { from: "motd".to_owned(), digest: Digest::of(b"hello"), bytes: 5, mode: 0o644 }];
    let definition =
        Definition { source: Some(String::new()), variables: Vec::new(), files, templates: Vec::new() };
    let mut records = vec![
        ExportRecord::Head(ExportHead { label: label(), taken_unix_ms: 1 }),
        ExportRecord::Definition(definition),
        ExportRecord::File { index: 0, bytes: b"hello".to_vec() },
    ];
    for vm in ["one", "two"] {
        records.push(ExportRecord::Vm(named(vm)));
        records.extend(frames(&disk(&folder.join(vm), b"content")).expect("it is read"));
    }
    let (mut writer, mut bytes) = ExportWriter::begin();
    records.iter().for_each(|record| bytes.extend(writer.record(record)));
    bytes.extend(writer.finish());
    bytes
}

struct Here {
    _folder: tempfile::TempDir,
    blobs: Blobs,
    images: ImageStore,
    path: std::path::PathBuf,
}

fn here() -> Here {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let blobs = Blobs::open(&path).expect("a store");
    let images = ImageStore::open(&path.join("images")).expect("a store");
    Here { _folder: folder, blobs, images, path }
}

fn staging(here: &Here) -> Staging {
    Staging::begin(label(), here.blobs.clone(), here.images.clone(), false)
}

fn kept(here: &Here) -> usize {
    fs::read_dir(here.path.join("blobs")).expect("it is there").count()
}

#[test]
fn what_came_in_is_on_the_drives_that_are_made_of_it() {
    let here = here();
    let bytes = exported(&here.path.join("from"));
    let mut staging = staging(&here);
    for piece in bytes.chunks(1000) {
        staging.take(piece).expect("it is as it was");
    }
    let staged = staging.end().expect("it is whole");
    assert_eq!((staged.files.len(), &staged.files[0].bytes[..]), (1, &b"hello"[..]));
    let disks = staged.keep().expect("there is room").disks;
    assert_eq!(disks.len(), 2);
    // The same bytes of two VMs are two contents: each goes when its VM is built.
    assert_ne!(disks[0].digest, disks[1].digest);
    let at = |blob: &Blob| here.path.join("blobs").join(blob.digest.to_string());
    for (vm, blob) in ["one", "two"].into_iter().zip(&disks) {
        assert_eq!(blob.from, Blob::disk_of(&named(vm)));
        assert_eq!(Digest::of(&fs::read(at(blob)).expect("it is kept")), blob.digest);
        let first = ImportedDisk::open(at(blob), &label(), &named(vm)).expect("it is one");
        let to = here.path.join("to").join(vm);
        let empty = disk(&to, b"");
        assert_eq!(first.drives()[0].bytes, DRIVE_BYTES);
        first.write(empty.clone()).expect("there is room");
        let (there, before) = (to.join("drive"), here.path.join("from").join(vm).join("drive"));
        assert_eq!(fs::read(there).expect("reads"), fs::read(before).expect("reads"));
        assert!(!empty.folder.is_arriving() && empty.folder.content().is_some(), "it is known what is on it");
    }
    assert!(ImportedDisk::open(at(&disks[0]), &label(), &named("two")).is_err(), "it is another's");
    here.blobs.forget_disk(&disks[0]);
    assert!(!at(&disks[0]).exists() && at(&disks[1]).exists());
}

#[test]
fn no_file_stays_open_for_a_disk_that_came() {
    let here = here();
    let bytes = exported(&here.path.join("from"));
    let mut staging = staging(&here);
    staging.take(&bytes).expect("it is as it was");
    let open = fs::read_dir("/proc/self/fd").expect("it is there").flatten();
    let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let blobs = here.path.join("blobs");
    assert_eq!(
        open.filter(|path| path.starts_with(&blobs)).collect::<Vec<_>>(),
        [""; 0].map(std::path::PathBuf::from)
    );
    assert_eq!(kept(&here), 2);
    drop(staging);
    assert_eq!(kept(&here), 0);
}

#[test]
fn what_is_cut_off_or_changed_leaves_nothing() {
    let here = here();
    let bytes = exported(&here.path.join("from"));
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut staging = staging(&here);
        staging.take(&bytes[..at]).expect("it is as it was");
        let error = staging.end().expect_err("it is cut off");
        assert!(matches!(error, StageError::Export(ExportError::Truncated { .. })), "{error}");
    }
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let error = staging(&here).take(&damaged).expect_err("it is damaged");
    assert!(matches!(error, StageError::Export(ExportError::Changed { .. })), "{error}");
    assert_eq!(kept(&here), 0);
    let full = here.blobs.room_for(u64::MAX).expect_err("no disk is that large");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    // What a killed agent was receiving goes when it starts.
    let (_, left) = here.blobs.stage().expect("a file").keep().expect("it stays");
    Blobs::open(&here.path).expect("a store");
    assert!(!left.exists());
}

#[test]
fn an_image_comes_along_as_the_image_that_it_was() {
    let (from, to) = (here(), here());
    let made = from.path.join("made.img");
    fs::File::create(&made).expect("a file").set_len(8 << 20).expect("a hole");
    let formatted = std::process::Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&made).status();
    assert!(formatted.expect("e2fsprogs is installed").success());
    let new = crate::image::NewName {
        name: &named("mini"),
        version: crate::image::NewVersion::Exactly("7"),
        memory_min: mln_protocol::model::MemoryMib(48),
    };
    let added = from.images.add(&made, &new).expect("it is one");
    let (sender, mut records) = mpsc::channel(1000);
    image(&from.images, &added.digest, &sender).expect("it is read");
    drop(sender);
    let definition =
        Definition { source: None, variables: Vec::new(), files: Vec::new(), templates: Vec::new() };
    let (mut writer, mut bytes) = ExportWriter::begin();
    bytes.extend(writer.record(&ExportRecord::Head(ExportHead { label: label(), taken_unix_ms: 1 })));
    bytes.extend(writer.record(&ExportRecord::Definition(definition)));
    while let Ok(record) = records.try_recv() {
        bytes.extend(writer.record(&record));
    }
    bytes.extend(writer.finish());
    assert!(matches!(staging(&to).take(&bytes), Err(StageError::UnsaidImage)));
    let mut staging = Staging::begin(label(), to.blobs.clone(), to.images.clone(), true);
    staging.take(&bytes).expect("it is as it was");
    let kept = staging.end().expect("it is whole").keep().expect("there is room");
    assert_eq!(kept.images, [(named("mini"), "7".to_owned())]);
    let there = to.images.list();
    assert_eq!((there.len(), there[0].digest, there[0].memory_min.0), (1, added.digest, 48));
    assert_eq!((&there[0].version[..], there[0].added_unix_ms), ("7", added.added_unix_ms));
    // No project came of it: its name goes again.
    kept.brought().unname(&to.images);
    assert!(to.images.list().is_empty());
}
