use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;

use mln_protocol::id::{Digest, Label, Name, VmId};
use mln_protocol::{lang, resolve};

use super::*;
use crate::platform::uml::drives;
use crate::platform::uml::drives::tests::shown;

fn vm(inside: &str) -> Vm {
    let (tree, _) = lang::parse("p.mln", format!("host vm {{ {inside} }}\n"), &lang::NoIncludes);
    let project = resolve::resolve(&tree, &resolve::Options::default()).project;
    project.vms.into_iter().next().expect("one host")
}

fn request(inside: &str) -> BuildRequest {
    let name = |text: &str| Name::parse(text).expect("a name");
    BuildRequest {
        id: VmId { birth: Digest([1; 32]), name: name("vm") },
        vm: vm(inside),
        label: Label { owner: name("o"), project: name("p") },
        template: Digest([2; 32]),
        guest_names: Vec::<(Name, IpAddr)>::new(),
        files: Vec::new(),
        first: None,
    }
}

/// A folder of a VM with its further disks, on each of which its letter is written.
fn built(inside: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let request = request(inside);
    drives::make(folder.path(), &request.vm).expect("are made");
    if let Some(extra) = extra(&request.vm) {
        build::write(folder.path(), files::EXTRA, &extra).expect("is written");
    }
    build::write_seed(&folder.path().join(files::SEED), &request, None).expect("is written");
    for letter in DRIVE_LETTERS {
        if let Ok(file) = File::options().write(true).open(folder.path().join(file_of(letter))) {
            file.write_all_at(&[letter as u8], 0).expect("is written");
        }
    }
    folder
}

#[track_caller]
fn check(before: &str, after: &str, expect: &str) {
    let folder = built(before);
    let next = request(after);
    redrive(folder.path(), &next, None).expect("is done");
    assert_eq!(shown(folder.path()), expect);
    redrive(folder.path(), &next, None).expect("again changes nothing");
    assert_eq!(shown(folder.path()), expect);
    let names: Vec<String> = fs::read_dir(folder.path())
        .expect("is there")
        .map(|entry| entry.expect("is there").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("disk-") && name != files::SEED && name != files::EXTRA)
        .collect();
    assert_eq!(names, [""; 0], "nothing else is left");
}

#[test]
fn disks_that_stay_keep_what_is_on_them_under_their_new_letters() {
    check("", "swap 8M", "d:-8");
    check("swap 8M", "", "");
    check("swap 8M", "swap 16M", "d:-16");
    check("mount { 8M /a ext2 }", "mount { 8M /a ext2 }; swap 8M", "d:d8 e:-8");
    check("mount { 8M /a ext2 }; swap 8M", "mount { 8M /a ext2; 9M /b ext2 }; swap 8M", "d:d8 e:-9 f:e8");
    check("mount { 8M /a ext2; 9M /b ext2 }", "mount { 9M /b ext2; 8M /a ext2 }", "d:e9 e:d8");
    check("mount { 8M /a ext2; 8M /b ext2 }", "mount { 8M /b ext2; 8M /c ext2 }", "d:e8 e:d8");
    check("mount { 8M /a ext2 }", "mount { /srv/x.img /x ext2; 8M /a ext2 }", "e:d8");
}

#[test]
fn a_disk_with_something_on_it_is_never_removed() {
    for after in ["", "mount { 9M /a ext2 }", "mount { 8M /a ext3 }", "swap 8M"] {
        let folder = built("mount { 8M /a ext2 }");
        let refused = redrive(folder.path(), &request(after), None);
        assert!(matches!(refused, Err(StepError::DiskWouldBeLost { at, .. }) if at == "/a"), "{after}");
        assert_eq!(shown(folder.path()), "d:d8");
    }
}

#[test]
fn what_was_cut_off_at_any_place_is_put_in_place_when_it_goes_on() {
    let (before, after) = ("mount { 8M /a ext2; 9M /b ext2 }; swap 8M", "mount { 9M /b ext2; 8M /a ext2 }");
    let expect = "d:e9 e:d8";
    let folder = built(before);
    let next = request(after);
    let had = had(folder.path()).expect("reads").expect("is described");
    let fresh = folder.path().join(FRESH);
    fs::create_dir(&fresh).expect("is made");
    fill(folder.path(), &fresh, &layout(&had, &next.vm), &next, None).expect("is filled");
    // Before it is decided, nothing has happened.
    assert_eq!(shown(folder.path()), "d:d8 e:e9 f:f8");
    fs::rename(&fresh, folder.path().join(NEXT)).expect("is decided");
    // Cut off after each file, it goes on.
    let names = DRIVE_LETTERS.map(file_of);
    for name in &names {
        put_in_place(&folder.path().join(NEXT).join(name), &folder.path().join(name)).expect("is put");
        put_in_place(&folder.path().join(NEXT).join(name), &folder.path().join(name)).expect("again");
    }
    redrive(folder.path(), &next, None).expect("goes on");
    assert_eq!(shown(folder.path()), expect);
    let described: BTreeMap<char, Kind> = super::had(folder.path())
        .expect("reads")
        .into_iter()
        .flatten()
        .map(|had| (had.letter, had.kind))
        .collect();
    let mounted = |at: &str| Kind::Mounted { at: at.into(), file_system: "ext2".into() };
    assert_eq!(described, BTreeMap::from([('d', mounted("/b")), ('e', mounted("/a"))]));
}

#[test]
fn a_copy_that_nothing_describes_stays_as_it_came() {
    let folder = built("mount { 8M /a ext2 }");
    fs::remove_file(folder.path().join(files::SEED)).expect("is there");
    redrive(folder.path(), &request("mount { 8M /b ext2 }"), None).expect("nothing is to be done");
    assert_eq!(shown(folder.path()), "d:d8");
}
