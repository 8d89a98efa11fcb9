//! Chunks, parts, and what nobody uses, on real files.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use mln_protocol::id::{Digest, Label, Name, VmId};
use mln_protocol::model::{MemoryMib, TemplateRef};

use super::part::Part;
use super::sparse::tests::Lot;
use super::store::{ImageStore, MEMORY_MIN, NewName, NewVersion, Template};
use super::{GarbageKind, ImageUse, Sweep};
use crate::ext4::SUPERBLOCK_OFFSET;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

/// Makes a file of 8 MiB that has an ext4 superblock, and noise in some chunks.
fn image(folder: &Path, noise: std::ops::Range<u64>, salt: u64) -> PathBuf {
    let path = folder.join(format!("image-{}-{salt}", noise.start));
    let file = File::create(&path).expect("creates");
    file.set_len(8 << 20).expect("long");
    let mut superblock = [0; 1024];
    superblock[0x38..0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
    superblock[0x4..0x8].copy_from_slice(&2048u32.to_le_bytes());
    file.write_all_at(&superblock, SUPERBLOCK_OFFSET).expect("writes");
    for place in noise {
        let mut lot = Lot(place);
        let bytes: Vec<u8> = (0..256 << 10).map(|_| lot.below(256) as u8).collect();
        file.write_all_at(&bytes, place << 18).expect("writes");
    }
    file.write_all_at(&salt.to_le_bytes(), 7 << 20).expect("writes");
    path
}

fn add(store: &ImageStore, file: &Path, text: &str) -> Template {
    let name = name(text);
    store
        .add(file, &NewName { name: &name, version: NewVersion::Next, memory_min: MEMORY_MIN })
        .expect("adds")
}

fn store(folder: &Path, name: &str) -> ImageStore {
    ImageStore::open(&folder.join(name)).expect("opens")
}

#[test]
fn a_part_takes_only_the_right_bytes_and_goes_on_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (store(folder.path(), "from"), store(folder.path(), "to"));
    let template = add(&from, &image(folder.path(), 1..6, 1), "mini");
    let manifest = from.manifest(&template.digest).expect("has one");
    let bytes = fs::read(from.path(&template.digest)).expect("reads");
    let chunk = |index: u32| {
        let at = (index as usize) << 18;
        bytes[at..at + manifest.chunk_len(index)].to_vec()
    };
    let open = || Part::open(&to, template.digest, manifest.clone());

    let mut part = open().expect("opens");
    assert!(open().is_err(), "once at a time");
    assert_eq!(part.missing().len(), manifest.chunks().len());
    let mut flipped = chunk(2);
    flipped[100] ^= 4;
    assert!(!part.put(2, &flipped).expect("no failure of ours"));
    assert!(!part.put(3, &chunk(2)).expect("no failure of ours"), "another place's");
    assert!(!part.put(20, &chunk(2)).expect("no failure of ours"), "a hole");
    assert!(part.put(2, &chunk(2)).expect("writes") && part.put(1, &chunk(1)).expect("writes"));
    drop(part);
    // One was half written when the power went.
    let path = to.part_path(&template.digest);
    File::options()
        .write(true)
        .open(&path)
        .expect("is there")
        .write_all_at(&[9; 70], 1 << 18)
        .expect("writes");
    let mut part = open().expect("opens");
    assert_eq!(part.missing().len(), manifest.chunks().len() - 1);
    assert!(!part.missing().contains(&2));
    for chunk_of in manifest.chunks() {
        assert!(part.put(chunk_of.index, &chunk(chunk_of.index)).expect("writes"));
    }
    assert_eq!(part.missing_bytes(), 0);
    part.finish().expect("is whole");
    assert!(fs::read(to.path(&template.digest)).expect("reads") == bytes);
    assert_eq!(to.manifest(&template.digest).expect("has one"), manifest);
    assert!(!path.exists());
}

#[test]
fn what_is_not_whole_is_no_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (store(folder.path(), "from"), store(folder.path(), "to"));
    let template = add(&from, &image(folder.path(), 1..3, 1), "mini");
    let manifest = from.manifest(&template.digest).expect("has one");
    let part = Part::open(&to, template.digest, manifest).expect("opens");
    assert!(part.finish().is_err());
    assert!(!to.has(&template.digest));
}

#[test]
fn a_second_version_takes_from_the_first_what_they_share() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (store(folder.path(), "from"), store(folder.path(), "to"));
    let (one, other) = (image(folder.path(), 1..6, 1), image(folder.path(), 2..8, 2));
    add(&to, &one, "mini");
    let template = add(&from, &other, "mini");
    let manifest = from.manifest(&template.digest).expect("has one");
    let part = Part::open(&to, template.digest, manifest).expect("opens");
    let missing: Vec<u32> = part.missing().iter().copied().collect();
    // Chunk 0 has the superblock of both; 28 has the salt.
    assert_eq!(missing, [6, 7, 28]);
}

#[test]
fn a_store_without_manifests_is_taken_over_and_its_files_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = folder.path().join("images");
    let file = image(folder.path(), 1..3, 1);
    let old = Digest::of(&fs::read(&file).expect("reads"));
    fs::create_dir_all(images.join("names/mini")).expect("makes");
    fs::copy(&file, images.join(format!("{old}.img"))).expect("copies");
    fs::write(images.join("names/mini/1"), format!("{old} 77\n")).expect("writes");
    let store = ImageStore::open(&images).expect("opens");
    let template = store.resolve(&TemplateRef::Newest(name("mini"))).expect("is there");
    assert_eq!((template.version.as_str(), template.added_unix_ms), ("1", 77));
    assert_eq!(template.memory_min, MemoryMib(40));
    assert_eq!(store.manifest(&template.digest).expect("has one").digest(), template.digest);
    // VMs of before have a layer over the old file; both are the same bytes on the disk.
    let inode = |digest| store.path(&digest).metadata().expect("is there").ino();
    assert_eq!(inode(old), inode(template.digest));
    assert_eq!(ImageStore::open(&images).expect("opens").list(), [template]);
}

#[test]
fn what_no_name_and_no_vm_uses_goes_oldest_first_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), "images");
    let agent = folder.path().join("agent");
    fs::write(&agent, "the agent").expect("writes");
    let named = add(&store, &image(folder.path(), 1..3, 1), "named");
    let used = add(&store, &image(folder.path(), 3..6, 2), "used");
    let unused = add(&store, &image(folder.path(), 6..9, 3), "unused");
    let longer = store.backing(&unused.digest, 16 << 20).expect("makes");
    let longer_used = store.backing(&used.digest, 16 << 20).expect("makes");
    for (file, digest) in [("agent-", Digest::of(b"the agent")), ("agent-", Digest::of(b"an older one"))] {
        fs::write(store.folder().join(format!("{file}{digest}.img")), "a drive").expect("writes");
    }
    fs::write(store.part_path(&Digest::of(b"given up")), "a part").expect("writes");
    store.unname(&used).expect("has a name");
    store.unname(&unused).expect("has a name");
    let uses = [ImageUse {
        vm: VmId { birth: Digest::of(b"a revision"), name: name("vm") },
        label: Label { owner: name("anna"), project: name("p") },
        template: used.digest,
        backing: longer_used.clone(),
        agent_drive: None,
    }];
    let collect = |limit, sweep| {
        let exclusive = store.exclusive();
        store.collect(&exclusive, &uses, &agent, limit, sweep).expect("collects")
    };
    let shown = collect(None, Sweep::Show);
    let mut kinds: Vec<GarbageKind> = shown.garbage.iter().map(|garbage| garbage.kind).collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [GarbageKind::Image, GarbageKind::LongerImage, GarbageKind::AgentDrive, GarbageKind::Part]
    );
    assert!(shown.garbage.windows(2).all(|pair| pair[0].since_unix_ms <= pair[1].since_unix_ms));
    assert!(store.has(&unused.digest), "only shown");

    let under = collect(Some(store.bytes_on_disk()), Sweep::Remove);
    assert_eq!(under.garbage, [], "below the limit nothing has to go");
    let all = collect(None, Sweep::Remove);
    assert_eq!((all.garbage.len(), all.bytes_left), (4, store.bytes_on_disk()));
    assert!(store.has(&named.digest) && store.has(&used.digest) && longer_used.exists());
    assert!(!store.has(&unused.digest) && !longer.exists());
    assert_eq!(collect(None, Sweep::Remove).garbage, []);
}

#[test]
fn a_fetched_template_keeps_its_age_and_never_takes_a_name_that_stands_for_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), "images");
    let own = add(&store, &image(folder.path(), 1..3, 1), "mini");
    let fetched = add(&store, &image(folder.path(), 3..5, 2), "other");
    let mini = name("mini");
    let elsewhere = NewVersion::Elsewhere("1", 5);
    let new = NewName { name: &mini, version: elsewhere, memory_min: MemoryMib(64) };
    let named = store.name(&new, &fetched.digest).expect("names");
    assert_eq!((named.version.as_str(), named.added_unix_ms, named.memory_min), ("2", 5, MemoryMib(64)));
    let newest = store.resolve(&TemplateRef::Newest(mini.clone())).expect("is there");
    assert_eq!(newest, own, "made later, though it came earlier");
    let by_digest = store.resolve(&TemplateRef::Exact(name("whatever"), own.digest)).expect("is there");
    assert_eq!(by_digest, own);
    let several = store.resolve_one(&TemplateRef::Newest(mini)).expect_err("two versions");
    assert!(several.to_string().contains("2, 1"), "{several}");
}
