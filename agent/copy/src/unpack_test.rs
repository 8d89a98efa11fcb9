//! Copies from folder to folder, whole ones and others.

use std::os::unix::fs::symlink;

use super::*;
use crate::{Depth, Sealing, measure, pack};

fn stream_of(source: &Path, depth: Depth) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sealing = Sealing::new(&mut out);
    pack(source, depth, &mut sealing).expect("it can be read");
    sealing.finish().expect("a Vec takes all");
    out
}

fn copy(source: &Path, target: &Path) -> Result<Seal, CopyError> {
    unpack(Unsealing::new(stream_of(source, Depth::Tree).as_slice()), Form::Archive, target)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// An archive with one entry, as a hostile sender would write it.
fn archive_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut archive = tar::Builder::new(Sealing::new(&mut out));
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_entry_type(*kind);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if *kind == tar::EntryType::Symlink {
            header.set_link_name(content).expect("short");
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, io::empty()).expect("a Vec takes all");
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).expect("a Vec takes all");
        }
    }
    archive.into_inner().and_then(Sealing::finish).expect("a Vec takes all");
    out
}

#[test]
fn a_file_keeps_its_content_and_permissions_and_replaces_another() {
    let folder = folder();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let content: Vec<u8> = (0..100_000_u32).map(|n| n.wrapping_mul(n) as u8).collect();
    fs::write(&from, &content).expect("writes");
    fs::set_permissions(&from, Permissions::from_mode(0o4751)).expect("ours");
    fs::write(&to, "old").expect("writes");
    copy(&from, &to).expect("is copied");
    assert!(fs::read(&to).expect("is there") == content);
    assert_eq!(mode(&to), 0o751);
    assert_eq!(names(folder.path()), ["from", "to"]);
    let bytes = stream_of(&from, Depth::File).len() as u64;
    assert!(bytes.abs_diff(measure(&from, Depth::File).expect("readable")) < 200);
}

#[test]
fn a_folder_comes_with_all_that_is_in_it() {
    let folder = folder();
    let from = folder.path().join("from");
    fs::create_dir_all(from.join("sub/deep")).expect("makes");
    fs::write(from.join("sub/deep/file"), "deep").expect("writes");
    fs::write(from.join("x".repeat(200)), "long").expect("writes");
    symlink("sub/deep/file", from.join("link")).expect("links");
    fs::set_permissions(from.join("sub/deep"), Permissions::from_mode(0o500)).expect("ours");
    let to = folder.path().join("to");
    copy(&from, &to).expect("is copied");
    assert_eq!(names(&to), ["link".to_owned(), "sub".to_owned(), "x".repeat(200)]);
    assert_eq!(fs::read_to_string(to.join("link")).expect("leads there"), "deep");
    assert_eq!(mode(&to.join("sub/deep")), 0o500);
    // Into the one that is there now: what else is in it stays.
    fs::write(to.join("mine"), "mine").expect("writes");
    fs::set_permissions(to.join("sub/deep"), Permissions::from_mode(0o700)).expect("ours");
    copy(&from, &to).expect("is copied");
    assert_eq!(fs::read_to_string(to.join("mine")).expect("stays"), "mine");
    let refused = pack(&from, Depth::File, io::sink()).expect_err("a folder");
    assert!(matches!(refused, CopyError::IsFolder(_)), "{refused}");
}

#[test]
fn of_a_stream_that_breaks_off_nothing_is_left() {
    let folder = folder();
    let from = folder.path().join("from");
    fs::create_dir(&from).expect("makes");
    fs::write(from.join("one"), "1".repeat(3000)).expect("writes");
    fs::write(from.join("two"), "2".repeat(3000)).expect("writes");
    for source in [from.clone(), from.join("one")] {
        let stream = stream_of(&source, Depth::Tree);
        for length in (0..stream.len()).step_by(97) {
            let target = folder.path().join("to");
            let error =
                unpack(Unsealing::new(&stream[..length]), Form::Archive, &target).expect_err("cut off");
            assert!(matches!(error, CopyError::Stream(_)), "{error}");
            assert_eq!(names(folder.path()), ["from"], "after {length} bytes");
        }
    }
}

#[test]
fn nothing_is_written_outside_of_what_is_copied() {
    let regular = tar::EntryType::Regular;
    let hostile: [&[(&str, tar::EntryType, &str)]; 5] = [
        &[("root/../../escaped", regular, "x")],
        &[("/escaped", regular, "x")],
        &[("escaped", regular, "x")],
        &[("root", tar::EntryType::Symlink, "/etc")],
        &[
            ("root", tar::EntryType::Directory, ""),
            ("root/link", tar::EntryType::Symlink, ".."),
            ("root/link/escaped", regular, "x"),
        ],
    ];
    for entries in hostile {
        let folder = folder();
        let target = folder.path().join("sub/to");
        fs::create_dir(folder.path().join("sub")).expect("makes");
        let stream = archive_of(entries);
        let error = unpack(Unsealing::new(stream.as_slice()), Form::Archive, &target).expect_err("hostile");
        assert!(matches!(error, CopyError::Outside(_)), "{entries:?}: {error}");
        assert_eq!(names(folder.path()), ["sub"]);
        assert_eq!(names(&folder.path().join("sub")), [""; 0], "{entries:?}");
    }
}

#[test]
fn where_something_goes_is_decided_before_it_is_sent() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let name = Some(OsStr::new("name"));
    assert_eq!(destination(folder.path(), name).expect("a folder"), path("name"));
    assert_eq!(destination(&path("new"), name).expect("its folder is there"), path("new"));
    for missing in ["no/file", "no/"] {
        let error = destination(&path(missing), name).expect_err("no such folder");
        assert!(matches!(error, CopyError::NoFolder(_)), "{error}");
    }
    assert!(matches!(destination(folder.path(), None), Err(CopyError::FolderInTheWay(_))));
    fs::create_dir(path("name")).expect("makes");
    fs::write(path("file"), "").expect("writes");
    assert!(matches!(copy(&path("file"), &path("name")), Err(CopyError::FolderInTheWay(_))));
    assert!(matches!(copy(&path("name"), &path("file")), Err(CopyError::FileInTheWay(_))));
}

#[test]
fn whoever_asked_for_a_file_gets_no_folder() {
    let (regular, directory) = (tar::EntryType::Regular, tar::EntryType::Directory);
    let hostile: [&[(&str, tar::EntryType, &str)]; 2] =
        [&[("root", directory, ""), ("root/.profile", regular, "x")], &[("root/.profile", regular, "x")]];
    for entries in hostile {
        let folder = folder();
        let target = folder.path().join("notes");
        fs::create_dir(&target).expect("makes");
        let stream = archive_of(entries);
        let error = unpack(Unsealing::new(stream.as_slice()), Form::OneFile, &target).expect_err("a folder");
        assert!(matches!(error, CopyError::NoFile), "{error}");
        assert_eq!(names(&target), [""; 0]);
    }
    let folder = folder();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, "content").expect("writes");
    let stream = stream_of(&from, Depth::File);
    unpack(Unsealing::new(stream.as_slice()), Form::OneFile, &to).expect("a file");
    assert_eq!(fs::read_to_string(&to).expect("is there"), "content");
}

#[test]
fn a_name_without_end_is_not_read_into_memory() {
    let folder = folder();
    let name = "x".repeat(1 << 20);
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let stream = archive_of(&[("root", kind, &name), ("root", tar::EntryType::Regular, "x")]);
        let mut input = stream.as_slice();
        let error = unpack(Unsealing::new(&mut input), Form::Archive, &folder.path().join("to"));
        let error = error.expect_err("too long");
        assert!(matches!(error, CopyError::Stream(_)), "{error}");
        assert!(stream.len() - input.len() < 128 << 10, "{kind:?}: it was read all the same");
    }
}

#[test]
fn permissions_of_folders_that_were_there_stay() {
    let folder = folder();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    for made in [&from, &to] {
        fs::create_dir_all(made.join("sub")).expect("makes");
    }
    fs::create_dir(from.join("new")).expect("makes");
    for (path, mode) in [(from.join("sub"), 0o777), (to.join("sub"), 0o700), (from.join("new"), 0o750)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
    }
    copy(&from, &to).expect("is copied");
    assert_eq!((mode(&to.join("sub")), mode(&to.join("new"))), (0o700, 0o750));
}

/// Looks, at each read, at what stands beside the target.
struct Watching<'a> {
    stream: &'a [u8],
    folder: &'a Path,
    seen: &'a mut Vec<u32>,
}

impl Read for Watching<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let hidden = names(self.folder).into_iter().filter(|name| name.starts_with(".to."));
        self.seen.extend(hidden.map(|name| mode(&self.folder.join(name))));
        self.stream.read(bytes)
    }
}

#[test]
fn a_folder_on_its_way_is_open_to_nobody_else() {
    let folder = folder();
    let from = folder.path().join("from");
    fs::create_dir(&from).expect("makes");
    fs::write(from.join("secret"), "x".repeat(10_000)).expect("writes");
    fs::set_permissions(&from, Permissions::from_mode(0o700)).expect("ours");
    let (stream, mut seen) = (stream_of(&from, Depth::Tree), Vec::new());
    let watching = Watching { stream: &stream, folder: folder.path(), seen: &mut seen };
    unpack(Unsealing::new(watching), Form::Archive, &folder.path().join("to")).expect("is copied");
    assert!(!seen.is_empty() && seen.iter().all(|mode| *mode == 0o700), "{seen:?}");
}
