use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use mln_protocol::id::{Digest, Label, Name, VmId};
use mln_protocol::model::MemoryMib;
use mln_protocol::wire::DriveTemplate;
use mln_protocol::{lang, resolve};

use super::*;
use crate::disk::VmDisk;
use crate::image::{ImageStore, NewName, NewVersion};
use crate::platform::uml::drives::tests::shown;
use crate::platform::uml::folder::{VmFile, VmFolders};
use crate::platform::uml::{build, configure};
use crate::platform::{BuildRequest, Configuration, FirstContent};

const MIB: u64 = 1 << 20;

fn vm(inside: &str) -> Vm {
    let (tree, _) = lang::parse("p.mln", format!("host vm {{ {inside} }}\n"), &lang::NoIncludes);
    let project = resolve::resolve(&tree, &resolve::Options::default()).project;
    project.vms.into_iter().next().expect("one host")
}

fn named(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// Returns the shapes of what stands in a text: a letter, its size in MiB, and whether it is swap.
fn shapes(text: &str) -> Vec<DriveShape> {
    let one = |word: &str| {
        let mib: u64 = word[1..].trim_end_matches('s').parse().expect("a number");
        DriveShape { name: named(&word[..1]), bytes: mib * MIB, template: None }
    };
    text.split_whitespace().map(one).collect()
}

/// Writes what the shapes are of: swap, or the letter.
fn fill(folder: &Path, text: &str) {
    for word in text.split_whitespace() {
        let letter = word.chars().next().expect("a letter");
        let path = folder.join(file_of(letter));
        if word.ends_with('s') {
            let bytes = fs::metadata(&path).expect("it was made").len();
            fs::remove_file(&path).expect("it was made");
            blank::for_swap(&path, bytes).expect("room");
        }
        let file = File::options().write(true).open(&path).expect("it was made");
        file.write_all_at(&[letter as u8], 0).expect("room");
    }
}

#[track_caller]
fn check(came: &str, inside: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let drives = shapes(came);
    make(folder.path(), &drives).expect("are made");
    fill(folder.path(), came);
    fit(folder.path(), &drives, &vm(inside)).map_err(|error| crate::causes::chain(&error))?;
    let left = fs::read_dir(folder.path()).expect("is there").flatten();
    let left = left.filter(|entry| entry.path().extension().is_some_and(|end| end == CAME));
    assert_eq!(left.count(), 0);
    Ok(shown(folder.path()))
}

#[test]
fn disks_that_came_are_what_the_definition_calls_them_by_now() {
    let shown = |came, inside| check(came, inside).expect("they fit");
    assert_eq!(shown("d8 e16s", "swap 16M; mount { 8M /a ext4 }"), "d:d8 e:e16");
    // A swap of another size is a new one, and one that nobody wants goes.
    assert_eq!(shown("d8 e16s", "swap 32M; mount { 8M /a ext4 }"), "d:d8 e:-32");
    assert_eq!(shown("d8 e16s", "mount { 8M /a ext4 }"), "d:d8");
    // A disk has come since, and the swap has another letter, though it is as large.
    assert_eq!(shown("d8s", "swap 8M; mount { 8M /a ext4 }"), "d:-8 e:d8");
    assert_eq!(shown("d8", "mount { 4M /b ext2; 8M /a ext4 }"), "d:-4 e:d8");
    assert_eq!(shown("", "mount { 4M /b ext2 }"), "d:-4");
    let refused = check("d8", "mount { 4M /b ext2 }").expect_err("nobody has it");
    assert!(refused.contains("a further disk of 8 MiB came with it"), "{refused}");
}

/// Writes nothing: new drives are as they are made.
#[derive(Debug)]
struct Nothing(Vec<DriveShape>);

impl FirstContent for Nothing {
    fn drives(&self) -> &[DriveShape] {
        &self.0
    }

    fn write(&self, _: VmDisk) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_came_shorter_or_longer_than_defined_is_built_as_it_came_and_grows_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = ImageStore::open(&folder.path().join("images")).expect("a store");
    let made = folder.path().join("made.img");
    File::create(&made).expect("a file").set_len(8 * MIB).expect("a hole");
    let formatted = std::process::Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&made).status();
    assert!(formatted.expect("e2fsprogs is installed").success());
    let mini = named("mini");
    let new = NewName { name: &mini, version: NewVersion::Exactly("1"), memory_min: MemoryMib(48) };
    let template = images.add(&made, &new).expect("it is one");
    let folders = VmFolders { folder: folder.path().join("vms") };
    fs::create_dir(&folders.folder).expect("a folder");
    let request = |birth: u8, mib: u64, inside: &str| BuildRequest {
        id: VmId { birth: Digest([birth; 32]), name: named("vm") },
        vm: vm(inside),
        label: Label { owner: named("o"), project: named("p") },
        template: template.digest,
        guest_names: Vec::<(Name, IpAddr)>::new(),
        files: Vec::new(),
        first: Some(Arc::new(Nothing(vec![DriveShape {
            name: named("root"),
            bytes: mib * MIB,
            template: Some(DriveTemplate { name: mini.clone(), digest: template.digest }),
        }]))),
    };
    let is_long = |request: &BuildRequest| {
        let folder = folders.path(&request.id);
        let file = VmFile::read(&folder).expect("it is built").wire.backing_bytes;
        assert_eq!(configure::disk_length(&folder).expect("it is built"), file);
        file / MIB
    };
    let start = |request: BuildRequest| {
        let BuildRequest { id, vm, label, guest_names, files, .. } = request;
        let next = Configuration { id, vm, label, guest_names, files };
        configure::configure(&folders, &images, next).expect("it can be started");
    };
    // It came before the definition gave it more, and a further disk.
    let grows = request(1, 16, "size 32M; mount { 4M /b ext2 }");
    build::build(&folders, &images, &grows).expect("it is built as it came");
    assert_eq!(is_long(&grows), 16);
    assert_eq!(shown(&folders.path(&grows.id)), "d:-4");
    start(grows.clone());
    assert_eq!(is_long(&grows), 32);
    assert_eq!(shown(&folders.path(&grows.id)), "d:-4");
    // It came larger than the definition says.
    let stays = request(2, 64, "size 32M");
    build::build(&folders, &images, &stays).expect("it is built as it came");
    start(stays.clone());
    assert_eq!(is_long(&stays), 64);
    let short = build::build(&folders, &images, &request(3, 4, "")).expect_err("no image fits below it");
    assert!(crate::causes::chain(&short).contains("shorter than the image"), "{short}");
}
