//! The store of templates, on real files.

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

fn new(name: &Name) -> NewName<'_> {
    NewName { name, version: NewVersion::Next, memory_min: MEMORY_MIN }
}

/// Makes a file that has an ext4 superblock and is otherwise a hole.
fn image(folder: &Path, salt: u8) -> PathBuf {
    let path = folder.join(format!("image-{salt}"));
    let file = File::create(&path).expect("creates");
    file.set_len(8 << 20).expect("long");
    let mut superblock = [0; 1024];
    superblock[0x38..0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
    superblock[0x4..0x8].copy_from_slice(&2048u32.to_le_bytes());
    superblock[0x70] = salt;
    file.write_all_at(&superblock, SUPERBLOCK_OFFSET).expect("writes");
    path
}

#[test]
fn a_template_is_found_by_name_version_and_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ImageStore::open(&folder.path().join("images")).expect("opens");
    let mini = name("mini");
    let first = store.add(&image(folder.path(), 1), &new(&mini)).expect("adds");
    let second = store.add(&image(folder.path(), 2), &new(&mini)).expect("adds");
    assert_eq!((first.version.as_str(), second.version.as_str()), ("1", "2"));
    assert_eq!((first.bytes, first.file_system_bytes), (8 << 20, 2 << 20));

    let resolve = |wanted| store.resolve(&wanted).map(|t| t.digest).ok();
    assert_eq!(resolve(TemplateRef::Newest(mini.clone())), Some(second.digest));
    assert_eq!(resolve(TemplateRef::Version(mini.clone(), "1".into())), Some(first.digest));
    assert_eq!(resolve(TemplateRef::Exact(mini.clone(), first.digest)), Some(first.digest));
    assert_eq!(store.list(), [first, second]);
    let unknown = store.resolve(&TemplateRef::Newest(name("maxi"))).expect_err("is not there");
    assert_eq!(unknown.to_string(), "there is no template \"maxi\"; there is mini");
}

#[test]
fn the_same_bytes_again_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ImageStore::open(&folder.path().join("images")).expect("opens");
    let path = image(folder.path(), 1);
    let first = store.add(&path, &new(&name("mini"))).expect("adds");
    assert_eq!(store.add(&path, &new(&name("mini"))).expect("adds"), first);
    assert_eq!(
        store.add(&path, &NewName { version: NewVersion::Exactly("1"), ..new(&name("mini")) }).expect("adds"),
        first
    );
    assert!(matches!(
        store.add(
            &image(folder.path(), 2),
            &NewName { version: NewVersion::Exactly("1"), ..new(&name("mini")) }
        ),
        Err(ImageError::VersionTaken { .. })
    ));
    assert_eq!(store.list(), [first]);
}

#[test]
fn an_image_is_immutable_and_leaves_no_work_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ImageStore::open(&folder.path().join("images")).expect("opens");
    let template = store.add(&image(folder.path(), 1), &new(&name("mini"))).expect("adds");
    let metadata = store.path(&template.digest).metadata().expect("is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o444);
    let mtime = metadata.modified().expect("has a time").duration_since(UNIX_EPOCH).expect("after 1970");
    assert_eq!(mtime.as_secs(), u64::from(IMAGE_MTIME));
    let left = fs::read_dir(store.folder()).expect("reads").count();
    assert_eq!(left, 3, "names, the image and its manifest");
}

#[test]
fn a_larger_disk_gets_a_longer_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ImageStore::open(&folder.path().join("images")).expect("opens");
    let template = store.add(&image(folder.path(), 1), &new(&name("mini"))).expect("adds");
    let backing = |bytes| store.backing(&template.digest, bytes).expect("has one");
    assert_eq!(backing(4 << 20), store.path(&template.digest));
    let longer = backing(16 << 20);
    assert_eq!(longer.metadata().expect("is there").len(), 16 << 20);
    assert_eq!(backing(16 << 20), longer);
}

#[test]
fn what_has_no_file_system_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ImageStore::open(&folder.path().join("images")).expect("opens");
    let path = folder.path().join("text");
    fs::write(&path, "no image").expect("writes");
    assert!(matches!(store.add(&path, &new(&name("mini"))), Err(ImageError::NotExt4 { .. })));
    assert_eq!(fs::read_dir(store.folder()).expect("reads").count(), 1, "only names");
}
