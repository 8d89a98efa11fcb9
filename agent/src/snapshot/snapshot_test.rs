//! Snapshots of files that stand for disks: what is half there is none, and none is replaced.

use std::os::unix::fs::FileExt;

use super::*;
use crate::platform::uml::{Uml, UmlConfig};

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn vm(text: &str) -> VmId {
    VmId { birth: Digest([1; 32]), name: name(text) }
}

/// A VM's disk: sparse, with something in it.
fn disk(folder: &Path, text: &str) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder");
    let path = folder.join("disk.cow");
    let file = File::options().write(true).create(true).truncate(true).open(&path).expect("a file");
    file.set_len(64 << 20).expect("it is sparse");
    file.write_all_at(text.as_bytes(), 40 << 20).expect("room");
    path
}

fn read(path: &Path) -> String {
    let mut bytes = [0; 5];
    File::open(path).expect("it is there").read_exact_at(&mut bytes, 40 << 20).expect("it is that long");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_copy_is_what_was_there_and_takes_as_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = disk(&folder.path().join("vm"), "first");
    let taking = folder.path().join("snapshots/p/.a.taking");
    let vms = [(vm("r1"), vec![source.clone()])];
    copy_all(&taking, &vms).expect("room");
    settle(&taking, &vms, vec!["oslo".to_owned()], 7).expect("room");
    disk(&folder.path().join("vm"), "later");
    let copy = taking.join("r1/disk.cow");
    assert_eq!(read(&copy), "first");
    assert!(copy.metadata().expect("it is there").blocks() * 512 < 1 << 20, "holes stay holes");
    let about = SnapshotWire::from_bytes(&fs::read(taking.join(ABOUT)).expect("it is there")).expect("whole");
    assert_eq!((about.taken_unix_ms, about.vms[0].name.as_str()), (7, "r1"));
    verify(&taking, &about).expect("nothing has changed");
}

#[test]
fn a_changed_byte_or_a_cut_file_of_a_snapshot_is_noticed() {
    for spoil in [
        |file: &File| file.write_all_at(b"x", 40 << 20).expect("room"),
        |file: &File| file.set_len(41 << 20).expect("room"),
        |file: &File| file.write_all_at(b"x", 3 << 20).expect("room"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let source = disk(&folder.path().join("vm"), "first");
        let taking = folder.path().join("snapshots/p/.a.taking");
        let vms = [(vm("r1"), vec![source])];
        copy_all(&taking, &vms).expect("room");
        settle(&taking, &vms, Vec::new(), 7).expect("room");
        let about = fs::read(taking.join(ABOUT)).expect("it is there");
        let about = SnapshotWire::from_bytes(&about).expect("whole");
        spoil(&File::options().write(true).open(taking.join("r1/disk.cow")).expect("it is there"));
        assert!(matches!(verify(&taking, &about), Err(SnapshotError::Damaged { .. })));
    }
}

#[test]
fn what_was_begun_and_not_finished_is_swept_and_copied_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let taking = folder.path().join("snapshots/p/.a.taking");
    fs::create_dir_all(taking.join("r1")).expect("a folder");
    fs::write(taking.join("r1/disk.cow"), "half").expect("room");
    let source = disk(&folder.path().join("vm"), "whole");
    copy_all(&taking, &[(vm("r1"), vec![source])]).expect("room");
    assert_eq!(read(&taking.join("r1/disk.cow")), "whole");
}

#[tokio::test]
async fn none_takes_the_place_of_another_and_half_a_one_is_none() {
    let data = tempfile::tempdir().expect("a folder");
    let config = UmlConfig::usual(data.path()).expect("this program has a path");
    let images = crate::image::ImageStore::open(&data.path().join("images")).expect("a store");
    let (platform, _events) = Uml::open(config, images).expect("a platform");
    let platform: Arc<dyn Platform> = Arc::new(platform);
    let snapshots = Snapshots::open(data.path(), platform.clone());
    let (project, before) = (ProjectId(Digest([9; 32])), name("before"));

    // Nobody runs, so nobody is held; the second step is told from one that was never begun.
    let never = snapshots.copy(project, &before, &[], Vec::new(), 1).await;
    assert!(matches!(never, Err(SnapshotError::NotBegun { .. })));
    snapshots.freeze(project, &before, Vec::new(), Vec::new()).await.expect("nobody runs");
    snapshots.copy(project, &before, &[name("oslo")], Vec::new(), 1).await.expect("room");
    assert!(snapshots.list(project).expect("reads").is_empty(), "durable, and none yet");
    assert!(matches!(snapshots.find(project, &before), Err(SnapshotError::Missing { .. })));

    // An agent that ends here has begun and not finished.
    let snapshots = Snapshots::open(data.path(), platform.clone());
    assert!(matches!(snapshots.keep(project, &before).await, Err(SnapshotError::NotBegun { .. })));

    for unix_ms in [2, 3] {
        let begun = snapshots.freeze(project, &before, Vec::new(), Vec::new()).await;
        if unix_ms == 2 {
            begun.expect("there is none of that name");
            let other = snapshots.freeze(project, &name("other"), Vec::new(), Vec::new()).await;
            assert!(matches!(other, Err(SnapshotError::Another { .. })), "one at a time: {other:?}");
            snapshots.copy(project, &before, &[name("oslo")], Vec::new(), unix_ms).await.expect("room");
            snapshots.keep(project, &before).await.expect("it is durable");
        } else {
            assert!(matches!(begun, Err(SnapshotError::Exists { .. })));
        }
        let listed = Snapshots::open(data.path(), platform.clone()).list(project).expect("reads");
        assert_eq!(listed.iter().map(|taken| taken.about.taken_unix_ms).collect::<Vec<_>>(), [2]);
    }
    snapshots.undo(project, &before).await.expect("nothing was begun");
    assert_eq!(snapshots.list(project).expect("reads").len(), 1, "what is there is not undone");

    // One that can't be read stands in nobody's way, and can be removed.
    let broken = name("broken");
    fs::create_dir(snapshots.project(project).join(broken.as_str())).expect("room");
    let names = |all: Vec<Taken>| all.into_iter().map(|taken| taken.name).collect::<Vec<_>>();
    assert_eq!(names(snapshots.list(project).expect("reads")), [before.clone(), broken.clone()]);
    snapshots.drop(project, &broken).await.expect("it is there");
    snapshots.drop(project, &before).await.expect("it is there");
    assert!(snapshots.list(project).expect("reads").is_empty());
}

/// The agent that exported was killed after the first step, and could not export for ten minutes.
#[tokio::test]
async fn what_a_host_has_begun_for_an_export_is_over_when_it_begins_another() {
    let data = tempfile::tempdir().expect("a folder");
    let config = UmlConfig::usual(data.path()).expect("this program has a path");
    let images = crate::image::ImageStore::open(&data.path().join("images")).expect("a store");
    let (platform, _events) = Uml::open(config, images).expect("a platform");
    let snapshots = Snapshots::open(data.path(), Arc::new(platform));
    let project = ProjectId(Digest([9; 32]));
    let freeze = |text: &str| {
        let (snapshots, name) = (snapshots.clone(), name(text));
        async move { snapshots.freeze(project, &name, Vec::new(), Vec::new()).await }
    };
    freeze("exporting-0a-1").await.expect("nobody runs");
    let other = freeze("exporting-0b-1").await;
    assert!(matches!(other, Err(SnapshotError::Another { .. })), "another host's goes on: {other:?}");
    freeze("exporting-0a-2").await.expect("the one before is over");
    let over = snapshots.copy(project, &name("exporting-0a-1"), &[], Vec::new(), 1).await;
    assert!(matches!(over, Err(SnapshotError::NotBegun { .. })));

    let own = snapshots.export(project).expect("there is none");
    assert!(snapshots.export(project).is_none());
    drop(own);
    assert!(snapshots.export(project).is_some());
}

#[tokio::test]
async fn a_vm_that_is_down_waits_with_all_else_until_it_is_copied() {
    let data = tempfile::tempdir().expect("a folder");
    let config = UmlConfig::usual(data.path()).expect("this program has a path");
    let images = crate::image::ImageStore::open(&data.path().join("images")).expect("a store");
    let (platform, _events) = Uml::open(config, images).expect("a platform");
    let snapshots = Snapshots::open(data.path(), Arc::new(platform));
    let (project, before) = (ProjectId(Digest([9; 32])), name("before"));
    let mut works = crate::disk::transfer::Works::default();

    let turn = works.turn(&vm("r1"));
    snapshots.freeze(project, &before, Vec::new(), vec![turn]).await.expect("nobody runs");
    let begins = tokio::spawn(works.over(&vm("r1")));
    tokio::task::yield_now().await;
    assert!(!begins.is_finished(), "it is held still");
    snapshots.copy(project, &before, &[name("oslo")], Vec::new(), 1).await.expect("room");
    begins.await.expect("it goes on");
}
