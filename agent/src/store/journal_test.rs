use super::*;
use crate::store::medium::Disk;
use crate::store::power::PowerCuts;

fn header() -> JournalHeader {
    JournalHeader { version: mln_protocol::wire::JOURNAL_VERSION, host: [1; 32], project: Some([2; 32]) }
}

fn change(slot: u32, value: &str) -> Change {
    Change { slot: slot.to_le_bytes().to_vec(), value: Some(value.as_bytes().to_vec()) }
}

fn open(folder: &Path) -> Opened {
    Journal::open(&Disk, folder, &header()).expect("it is sound").expect("it is there")
}

fn written(folder: &Path) -> Journal {
    let mut journal = Journal::create(&Disk, folder, header()).expect("the folder is ours");
    journal.append(&Disk, &[change(1, "one"), change(2, "two")]).expect("there is room");
    let gone = Change { slot: 1_u32.to_le_bytes().to_vec(), value: None };
    journal.append(&Disk, &[gone, change(3, "three")]).expect("there is room");
    journal
}

#[test]
fn what_was_appended_is_there_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = written(folder.path());
    let again = open(folder.path());
    assert_eq!((again.journal.live(), again.torn_bytes), (journal.live(), 0));
    assert_eq!(
        again.journal.live().values().map(|value| &value[..]).collect::<Vec<_>>(),
        [&b"two"[..], b"three"]
    );
    assert_eq!(again.journal.live_bytes, journal.live_bytes);
}

#[test]
fn what_changes_nothing_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = written(folder.path());
    let end = journal.end;
    journal.append(&Disk, &[change(2, "two")]).expect("there is room");
    assert_eq!(journal.end, end);
}

#[test]
fn a_last_entry_that_is_cut_at_any_byte_is_cut_off_and_the_journal_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = written(folder.path());
    let (before, live) = (journal.end, journal.live().clone());
    journal.append(&Disk, &[change(4, "four")]).expect("there is room");
    let bytes = std::fs::read(folder.path().join(FILE)).expect("it is there");
    for cut in before..journal.end {
        std::fs::write(folder.path().join(FILE), &bytes[..cut as usize]).expect("the folder is ours");
        let Opened { mut journal, torn_bytes } = open(folder.path());
        assert_eq!((journal.live(), torn_bytes), (&live, cut - before), "cut at {cut}");
        journal.append(&Disk, &[change(5, "five")]).expect("there is room");
        let again = open(folder.path());
        assert_eq!((again.journal.live(), again.torn_bytes), (journal.live(), 0), "cut at {cut}");
    }
}

#[test]
fn damage_before_the_last_entry_is_told_with_its_place_and_nothing_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = written(folder.path());
    let path = folder.path().join(FILE);
    let sound = std::fs::read(&path).expect("it is there");
    let ends: Vec<usize> = {
        let scan = frame::scan(&sound);
        let sizes = scan.payloads.iter().map(|payload| payload.len() + 32);
        sizes
            .scan(0, |end, size| {
                *end += size;
                Some(*end)
            })
            .collect()
    };
    assert_eq!(ends.last().copied(), Some(journal.end as usize));
    for place in 0..ends[ends.len() - 2] {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&path, &bytes).expect("the folder is ours");
        let broken = Journal::open(&Disk, folder.path(), &header()).expect_err("an entry is damaged");
        let begins = ends.iter().copied().filter(|end| *end <= place).max().unwrap_or(0) as u64;
        assert!(matches!(broken.error, JournalError::Damaged { at } if at == begins), "{place}: {broken:?}");
        assert_eq!(std::fs::read(&path).expect("it is there"), bytes);
    }
}

#[test]
fn the_journal_of_another_host_or_of_a_newer_program_is_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path());
    let other = JournalHeader { host: [9; 32], ..header() };
    let broken = Journal::open(&Disk, folder.path(), &other).expect_err("it is another host's");
    assert!(matches!(broken.error, JournalError::Foreign { .. }), "{broken:?}");
    let newer = JournalHeader { version: header().version + 1, ..header() };
    std::fs::write(folder.path().join(FILE), frame::encode(0, &encode_journal_header(&newer)))
        .expect("the folder is ours");
    let broken = Journal::open(&Disk, folder.path(), &header()).expect_err("it is newer");
    assert!(matches!(broken.error, JournalError::Contents(DecodeError::Unknown { .. })), "{broken:?}");
}

#[test]
fn a_long_journal_is_compacted_and_says_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = written(folder.path());
    let text = "x".repeat(20_000);
    for number in 0..200 {
        journal.append(&Disk, &[change(number % 7, &format!("{number} {text}"))]).expect("there is room");
        let longest = COMPACT_BYTES_MIN + COMPACT_RATIO * journal.live_bytes + 40_000;
        assert!(journal.end < longest, "{} bytes for {} that count", journal.end, journal.live_bytes);
    }
    let again = open(folder.path());
    assert_eq!(again.journal.live(), journal.live());
    assert_eq!(again.journal.end, journal.end);
}

/// The power is cut after each of the things that are done to the disk, with every unsynced write there, away, or
/// torn: what an append had returned for is there, and the journal opens.
#[test]
fn a_power_cut_at_any_place_takes_nothing_that_was_durable() {
    let mut cuts = 0;
    for seed in 0..40 {
        for after in 0.. {
            let disk = PowerCuts::new(seed, Some(after));
            let (durable, last) = life(&disk);
            if !disk.is_cut() {
                assert!(after > 20, "a life has more steps than {after}");
                break;
            }
            cuts += 1;
            let after_cut = disk.after_the_cut();
            let found = Journal::open(&after_cut, Path::new("/d"), &header());
            let found = found.unwrap_or_else(|broken| panic!("seed {seed}, cut {after}: {broken:?}"));
            let live = found.map(|opened| opened.journal.live);
            // The last group that was being written may be there as a whole.
            let is_right = match &live {
                None => durable.is_none(),
                Some(live) => Some(live) == durable.as_ref() || Some(live) == last.as_ref(),
            };
            assert!(is_right, "seed {seed}, cut {after}: {live:?} and not {durable:?} or {last:?}");
        }
    }
    assert!(cuts > 1000, "{cuts} cuts");
}

type Live = BTreeMap<Vec<u8>, Vec<u8>>;

/// Writes a journal until the power is cut; returns what is durable, and what may be.
fn life(disk: &PowerCuts) -> (Option<Live>, Option<Live>) {
    let Ok(mut journal) = Journal::create(disk, Path::new("/d"), header()) else {
        return (None, Some(Live::new()));
    };
    // Small enough to be compacted several times.
    for number in 0..12_u32 {
        journal.compact_from = 300;
        let before = journal.live().clone();
        let changes = [change(number % 3, &"v".repeat(40 + number as usize)), change(9, &number.to_string())];
        let mut after = before.clone();
        changes.iter().for_each(|change| put(&mut after, change.clone()));
        if journal.append(disk, &changes).is_err() {
            return (Some(before), Some(after));
        }
    }
    (Some(journal.live().clone()), None)
}

#[test]
fn a_disk_that_fails_to_sync_is_not_believed_and_the_journal_is_written_anew() {
    let disk = PowerCuts::new(7, None);
    let mut journal = Journal::create(&disk, Path::new("/d"), header()).expect("nothing fails yet");
    journal.append(&disk, &[change(1, "one")]).expect("nothing fails yet");
    disk.fail_next_sync();
    journal.append(&disk, &[change(2, "two")]).expect_err("it fails to sync");
    assert_eq!(journal.live().len(), 1, "what isn't durable doesn't count");
    journal.append(&disk, &[change(2, "two")]).expect("it is tried again");
    let again = Journal::open(&disk.after_the_cut(), Path::new("/d"), &header());
    let again = again.expect("it is sound").expect("it is there");
    assert_eq!(again.journal.live(), journal.live());
}

#[test]
fn a_full_disk_takes_what_fits_into_the_room_that_was_taken_ahead() {
    let disk = PowerCuts::new(7, None);
    let mut journal = Journal::create(&disk, Path::new("/d"), header()).expect("there is room");
    journal.append(&disk, &[change(0, "first")]).expect("there is room");
    disk.fill();
    let mut written = 0;
    while journal.append(&disk, &[change(written, "stop")]).is_ok() {
        written += 1;
        assert!(written < 10_000, "a disk that is full fills up");
    }
    assert!(written > 100, "a host that is full could say {written} things");
    let live = journal.live().clone();
    disk.empty();
    journal.append(&disk, &[change(77_777, "again")]).expect("there is room again");
    let again = Journal::open(&disk.after_the_cut(), Path::new("/d"), &header());
    assert_eq!(again.expect("it is sound").expect("it is there").journal.live().len(), live.len() + 1);
}
