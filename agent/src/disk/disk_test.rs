//! Any drives: what is read is what was written, and the root digest is the same if and only if the bytes are.

use std::fs;

use super::content::{Place, Region};
use super::testbed::{BLOCKS, Lot, bytes, change, copy, disk, open};
use super::{Access, BLOCK_BYTES, Reading, Remembered, scan};

#[test]
fn blocks_are_what_the_kernel_reads_whatever_of_them_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in 0..20 {
        let vm = disk(folder.path(), &format!("vm{seed}"));
        change(&vm, &mut Lot(seed), 200);
        let template = fs::read(folder.path().join("template.img")).expect("it is there");
        for (number, (drive, content)) in
            vm.open(Access::Read).expect("opens").iter().zip(bytes(&vm)).enumerate()
        {
            let mut seen = vec![0; content.len()];
            if number == 0 {
                seen.copy_from_slice(&template);
            }
            let mut buffer = [0; BLOCK_BYTES];
            drive
                .read_region::<std::io::Error>(0, |at, block| {
                    let begin = usize::from(at) * BLOCK_BYTES;
                    let length = BLOCK_BYTES.min(seen.len() - begin);
                    let whole =
                        if block.bytes().is_empty() { vec![0; BLOCK_BYTES] } else { block.bytes().to_vec() };
                    assert_ne!(
                        seen[begin..begin + length],
                        whole[..length],
                        "block {at} is what is below it"
                    );
                    seen[begin..begin + length].copy_from_slice(&whole[..length]);
                    assert_eq!(drive.read_block(0, at, &mut buffer)?, Some(block));
                    Ok(())
                })
                .expect("it can be read");
            assert!(seen == content, "seed {seed}, drive {number}");
        }
    }
}

#[test]
fn the_root_is_the_same_if_and_only_if_the_bytes_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lot = Lot(5);
    for seed in 0..20 {
        let (one, other) =
            (disk(folder.path(), &format!("a{seed}")), disk(folder.path(), &format!("b{seed}")));
        change(&one, &mut lot, 150);
        change(&other, &mut lot, 50);
        let access = |disk: &super::VmDisk| disk.open(Access::Write).expect("opens");
        copy(&access(&one), &access(&other));
        assert!(bytes(&one) == bytes(&other));
        let roots = [&one, &other].map(|disk| scan(disk, Reading::Cached).expect("it can be read"));
        assert_eq!(roots[0], roots[1]);
        assert_eq!(scan(&other, Reading::FromDisk).expect("it can be read"), roots[0]);
        change(&other, &mut lot, 1);
        let after = scan(&other, Reading::Cached).expect("it can be read");
        assert_eq!(after == roots[0], bytes(&one) == bytes(&other));
    }
}

#[test]
fn what_was_on_the_drives_is_remembered_as_long_as_its_file_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let vm = disk(folder.path(), "vm");
    change(&vm, &mut Lot(1), 300);
    let root = scan(&vm, Reading::Cached).expect("it can be read");
    assert!(vm.folder.content().is_none(), "nobody has said that it stays so");
    vm.folder.set_content(root).expect("there is room");
    let state = vm.folder.content().expect("it is remembered");
    assert_eq!((state.root(), state.drives().len()), (root, 2));
    let (mut region, mut known) = (Region::default(), 0);
    for place in state.places() {
        state.read(place, &mut region).expect("it can be read");
        known += region.len();
    }
    assert!(known > 100 && known <= 2 * u32::from(BLOCKS));
    let path = vm.folder.path().join(Remembered::State.file_name(root));
    let whole = fs::read(&path).expect("it is there");
    for cut in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..cut]).expect("there is room");
        assert!(vm.folder.content().is_none(), "cut at byte {cut}");
    }
    for at in (0..whole.len()).step_by(61) {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        fs::write(&path, &changed).expect("there is room");
        let state = vm.folder.content();
        let places = [0, 1].map(|drive| Place { drive, region: 0 });
        let is_read =
            state.is_some_and(|state| places.iter().all(|place| state.read(*place, &mut region).is_ok()));
        assert!(!is_read, "byte {at}");
    }
    fs::write(&path, &whole).expect("there is room");
    assert!(open(folder.path(), "vm").folder.content().is_some());
    vm.folder.void().expect("it can be forgotten");
    assert!(vm.folder.content().is_none());
    assert!(vm.folder.state(root).is_some(), "others may still have it");
    for seed in 0..6 {
        change(&vm, &mut Lot(seed), 10);
        scan(&vm, Reading::Cached).expect("it can be read");
    }
    let names = fs::read_dir(vm.folder.path()).expect("it is there").flatten();
    assert_eq!(names.filter(|entry| entry.file_name().to_string_lossy().starts_with("state-")).count(), 4);
    assert!(vm.folder.state(root).is_none(), "the oldest is forgotten");
}
