use std::fs;
use std::sync::Arc;

use mln_protocol::id::{Digest, Label, Name, VmId};
use mln_protocol::model::{BootOrder, Fragment, MemoryMib};
use mln_protocol::node::{ReservationNote, ReservedRoom, WriteId};
use mln_protocol::record::{Epoch, HostStatus, Record, RunState, Startup, VerifiedRecord, VmState, VmStatus};
use mln_protocol::trust::KeyPair;
use mln_protocol::wire::{encode_fragment, encode_write, sign_record};

use super::pending::Pending;
use super::*;

/// Draws numbers from a seed: splitmix64.
struct Lot(u64);

impl Lot {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).expect("it is below")
    }
}

fn keys(number: u8) -> KeyPair {
    KeyPair::from_secret([number; 32])
}

fn me() -> PublicKey {
    keys(0).public()
}

fn root() -> PublicKey {
    keys(99).public()
}

fn project(number: usize) -> ProjectId {
    ProjectId(Digest([u8::try_from(number).expect("few"); 32]))
}

fn host_status(author: u8, counter: u64) -> VerifiedRecord {
    let status = HostStatus {
        counter,
        groups: Vec::new(),
        platforms: Vec::new(),
        projects: 0,
        vms: 0,
        memory_used: MemoryMib(0),
        memory_limit: MemoryMib(0),
        agent_version: "x".repeat(30),
        measured_unix_ms: 0,
    };
    sign_record(&keys(author), Record::Host(status))
}

fn vm_status(author: u8, of: usize, vm: usize, counter: u64) -> VerifiedRecord {
    let name = |text: &str| Name::parse(text).expect("a name");
    let status = VmStatus {
        counter,
        vm: VmId { birth: project(of).0, name: name(&format!("vm{vm}")) },
        epoch: Epoch::FIRST,
        project: project(of),
        run: RunState::Up,
        run_counter: counter,
        run_by: me(),
        state: VmState::Up,
        exit: None,
        memory: MemoryMib(64),
        boot_order: BootOrder(0),
        address: None,
        since_unix_ms: 0,
        kept_ms: 0,
        host: name("oslo"),
        nat: None,
        forwards: Vec::new(),
        part: None,
        startup: Startup::Fine,
    };
    sign_record(&keys(author), Record::Vm(status))
}

fn fragment(number: usize) -> (Digest, Arc<Fragment>) {
    let guest = Name::parse(&format!("guest{number}")).expect("a name");
    let fragment = Fragment {
        vms: Vec::new(),
        switches: Vec::new(),
        placement: Vec::new(),
        guest_names: vec![(guest, std::net::IpAddr::from([10, 0, 0, 1]))],
        blobs: Vec::new(),
        ..Fragment::default()
    };
    (Digest::of(&encode_fragment(&fragment)), Arc::new(fragment))
}

fn store_record(record: VerifiedRecord) -> Write {
    Write::Record(record.key(record.author()), record)
}

/// Draws something that a node could want to remember.
fn any_write(lot: &mut Lot, counter: u64) -> Write {
    match lot.below(9) {
        0 => store_record(host_status(0, counter)),
        1 | 2 => store_record(host_status(1 + u8::try_from(lot.below(40)).expect("few"), counter)),
        3 | 4 => store_record(vm_status(0, lot.below(4), lot.below(3), counter)),
        5 => store_record(vm_status(5, lot.below(4), lot.below(3), counter)),
        6 => Write::Join(project(lot.below(4))),
        7 => {
            let (digest, fragment) = fragment(lot.below(6));
            Write::Fragment(digest, fragment)
        }
        _ => Write::DropFragment(fragment(lot.below(6)).0),
    }
}

fn open(data: &Path) -> Opened {
    Store::open(data, me(), root()).expect("the journals are sound")
}

fn write(store: &mut Store, writes: &[Write]) {
    let mut pending = Pending::default();
    pending.add(&mut store.journals, WriteId(1), writes);
    pending.commit(&mut store.journals).expect("there is room");
    if let Some(index) = &store.index {
        index.apply(pending.indexed()).and_then(|()| index.flush()).expect("it is sound");
    }
}

fn told(record: &VerifiedRecord) -> String {
    let what = match &***record {
        Record::Vm(status) => format!("{}/{}", status.project.0, status.vm.name),
        _ => String::new(),
    };
    format!("{} {what} {} {}", record.author().short(), record.counter(), record.digest())
}

/// Returns what a state says, in an order that doesn't depend on where it came from; but for what was only heard.
fn own(state: &StoredState) -> Vec<String> {
    let records = state.records.iter().filter(|record| record.author() == me());
    let mut said: Vec<String> = records.map(told).collect();
    said.extend(state.fragments.iter().map(|(digest, _)| digest.to_string()));
    said.extend(state.joined.iter().map(|project| format!("joined {}", project.0)));
    said.sort();
    said
}

fn all(state: &StoredState) -> Vec<String> {
    let records = state.records.iter().filter(|record| record.author() != me());
    let mut said = own(state);
    said.extend(records.map(told));
    said.sort();
    said
}

#[test]
fn what_a_host_signed_comes_back_from_its_journals_alone() {
    for seed in 0..12 {
        let data = tempfile::tempdir().expect("a folder");
        let mut lot = Lot(seed);
        let mut store = open(data.path()).store;
        // What there should be, by slot.
        let mut model: BTreeMap<Vec<u8>, Write> = BTreeMap::new();
        for group in 0..20 {
            let writes: Vec<Write> =
                (0..1 + lot.below(5)).map(|number| any_write(&mut lot, group * 10 + number as u64)).collect();
            write(&mut store, &writes);
            for write in writes {
                let change = encode_write(&write);
                match change.value {
                    Some(_) => model.insert(change.slot, write),
                    None => model.remove(&change.slot),
                };
            }
        }
        drop(store);
        let mut expected = StoredState::default();
        model.into_values().for_each(|write| expected.take(write));

        let whole = open(data.path());
        assert_eq!(all(&whole.state), all(&expected), "seed {seed}: with the index");
        assert_eq!(whole.findings, Findings::default());
        drop(whole);
        fs::remove_dir_all(data.path().join(index::FOLDER)).expect("it is there");
        let rebuilt = open(data.path());
        assert_eq!(own(&rebuilt.state), own(&expected), "seed {seed}: without the index");
        drop(rebuilt);
        // The new index has them too, should a journal be lost.
        fs::remove_dir_all(data.path().join(PROJECTS_FOLDER)).expect("it is there");
        let state = open(data.path()).state;
        let mut without_right = expected;
        without_right.joined.clear();
        assert_eq!(own(&state), own(&without_right), "seed {seed}: without journals");
    }
}

#[test]
fn what_a_host_is_told_of_itself_gives_no_right_and_goes_with_the_index() {
    let data = tempfile::tempdir().expect("a folder");
    let mut store = open(data.path()).store;
    let heard = vm_status(0, 1, 0, 9);
    write(&mut store, &[Write::Heard(heard.key(me()), heard)]);
    drop(store);
    let opened = open(data.path());
    assert_eq!((opened.state.records.len(), opened.state.joined.len()), (1, 0));
    drop(opened);
    assert!(!data.path().join(PROJECTS_FOLDER).join(project(1).0.to_string()).exists());
    fs::remove_dir_all(data.path().join(index::FOLDER)).expect("it is there");
    assert_eq!(open(data.path()).state.records.len(), 0);
}

fn filled(data: &Path) -> StoredState {
    let mut store = open(data).store;
    let mut lot = Lot(1);
    for group in 0..30 {
        let writes: Vec<Write> = (0..8).map(|number| any_write(&mut lot, group * 10 + number)).collect();
        write(&mut store, &writes);
    }
    write(&mut store, &(0..4).map(|number| Write::Join(project(number))).collect::<Vec<_>>());
    drop(store);
    open(data).state
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is ours");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("it has one").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("the folder is ours");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Cuts, flips and zeroes a file, by lot.
fn spoil(lot: &mut Lot, path: &Path) -> String {
    let mut bytes = fs::read(path).expect("it is there");
    if bytes.is_empty() {
        bytes.push(7);
    }
    let at = lot.below(bytes.len());
    let what = match lot.below(4) {
        0 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        1 => {
            bytes[at] ^= 1 << lot.below(8);
            format!("a bit flipped at {at}")
        }
        2 => {
            let end = (at + 1 + lot.below(4096)).min(bytes.len());
            bytes[at..end].fill(0);
            format!("zeroes from {at} to {end}")
        }
        _ => {
            let end = (at + 1 + lot.below(64)).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = u8::try_from(lot.below(256)).expect("a byte"));
            format!("noise from {at} to {end}")
        }
    };
    fs::write(path, bytes).expect("the folder is ours");
    format!("{}: {what}", path.display())
}

#[test]
fn an_index_that_is_cut_or_spoilt_anywhere_opens_or_is_made_anew_and_nothing_of_the_journals_is_lost() {
    let whole = tempfile::tempdir().expect("a folder");
    let expected = own(&filled(whole.path()));
    let mut set_aside = 0;
    for seed in 0..150 {
        let data = tempfile::tempdir().expect("a folder");
        copy(whole.path(), data.path());
        let mut lot = Lot(seed);
        let all = files(&data.path().join(index::FOLDER));
        let mut spoilt = Vec::new();
        for _ in 0..1 + lot.below(3) {
            let path = &all[lot.below(all.len())];
            spoilt.push(spoil(&mut lot, path));
        }
        let mut opened = open(data.path());
        set_aside += usize::from(opened.findings.set_aside.is_some());
        assert_eq!(own(&opened.state), expected, "seed {seed}: {spoilt:?}");
        assert!(opened.store.index.is_some(), "seed {seed}: {spoilt:?}");
        // It goes on.
        write(&mut opened.store, &[store_record(host_status(0, 5000))]);
        drop(opened);
        let again = open(data.path());
        assert!(again.state.records.iter().any(|record| record.counter() == 5000), "seed {seed}: {spoilt:?}");
    }
    assert!(set_aside > 10, "only {set_aside} were so broken that they were noticed");
}

#[test]
fn an_index_that_ended_the_agent_when_it_was_opened_is_set_aside_and_few_of_those_are_kept() {
    let data = tempfile::tempdir().expect("a folder");
    let expected = own(&filled(data.path()));
    for _ in 0..4 {
        fs::write(data.path().join("state.opening"), b"").expect("the folder is ours");
        let opened = open(data.path());
        assert_eq!(own(&opened.state), expected);
        assert!(opened.findings.set_aside.is_some_and(|why| why.contains("has ended")));
    }
    assert_eq!(broken_indexes(data.path()).expect("it can be read").len(), 2);
}

#[test]
fn a_damaged_journal_stops_its_project_and_no_other_and_is_left_as_it_is() {
    let data = tempfile::tempdir().expect("a folder");
    filled(data.path());
    let path = data.path().join(PROJECTS_FOLDER).join(project(2).0.to_string()).join("journal");
    let mut bytes = fs::read(&path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).expect("the folder is ours");
    let mut opened = open(data.path());
    let others: Vec<ProjectId> = [0, 1, 3].map(project).to_vec();
    assert_eq!(opened.state.joined.iter().copied().collect::<Vec<_>>(), others);
    let stopped = &opened.findings.stopped[&project(2)];
    assert!(stopped.why.contains("damaged at byte"), "{}", stopped.why);
    let of_it = |record: &VerifiedRecord| matches!(&***record, Record::Vm(vm) if vm.project == project(2));
    assert!(opened.state.records.iter().any(of_it), "what can be read is known, without the right to it");
    write(&mut opened.store, &[store_record(vm_status(0, 2, 0, 9000)), Write::Join(project(2))]);
    drop(opened);
    assert_eq!(fs::read(&path).expect("it is there"), bytes);
    assert!(!open(data.path()).state.joined.contains(&project(2)));
}

#[test]
fn a_journal_with_something_that_only_a_newer_program_understands_stops_its_project() {
    let data = tempfile::tempdir().expect("a folder");
    let mut opened = open(data.path());
    write(&mut opened.store, &[Write::Join(project(0)), Write::Join(project(1))]);
    let newer = Change { slot: vec![0xff; 4], value: Some(vec![0xff; 8]) };
    let place = journals::Place::Project(project(1));
    opened.store.journals.write(place, &[newer]).expect("there is room");
    drop(opened);
    let opened = open(data.path());
    assert_eq!(opened.state.joined.into_iter().collect::<Vec<_>>(), [project(0)]);
    assert_eq!(opened.findings.stopped.into_keys().collect::<Vec<_>>(), [project(1)]);
}

#[test]
fn a_part_of_a_project_that_is_damaged_is_left_out() {
    let data = tempfile::tempdir().expect("a folder");
    let mut store = open(data.path()).store;
    for number in 0..2 {
        let (digest, fragment) = fragment(number);
        write(&mut store, &[Write::Fragment(digest, fragment)]);
    }
    drop(store);
    let folder = data.path().join("fragments");
    fs::write(folder.join(fragment(0).0.to_string()), b"?").expect("the folder is ours");
    fs::write(folder.join(".part-x"), b"?").expect("the folder is ours");
    let state = open(data.path()).state;
    assert_eq!(state.fragments.iter().map(|(digest, _)| *digest).collect::<Vec<_>>(), [fragment(1).0]);
    assert!(!folder.join(".part-x").exists());
}

#[test]
fn an_index_that_is_set_aside_after_the_clock_was_set_back_is_not_the_first_to_go() {
    let data = tempfile::tempdir().expect("a folder");
    // Later than any clock of this test's.
    for name in ["state", "state.broken-9999999998", "state.broken-9999999999"] {
        fs::create_dir(data.path().join(name)).expect("it is ours");
    }
    let aside = Index::set_aside(data.path()).expect("the folder is ours");
    assert!(aside.ends_with("state.broken-10000000000") && aside.exists(), "{}", aside.display());
    assert_eq!(broken_indexes(data.path()).expect("it can be read").len(), 2);
}

#[test]
fn what_is_reserved_is_noted_by_the_host_and_begins_no_project() {
    let data = tempfile::tempdir().expect("a folder");
    let name = |text: &str| Name::parse(text).expect("a name");
    let note = ReservationNote {
        revision: project(3).0,
        number: 1,
        coordinator: keys(5).public(),
        label: Label { owner: name("anna"), project: name("lab") },
        project: None,
        parent: None,
        memory_mib: 64,
        part: Some(fragment(1).0),
        definition: Digest([7; 32]),
        charge: None,
        room: ReservedRoom::Held,
    };
    let mut store = open(data.path()).store;
    write(&mut store, &[Write::Reservation(Box::new(note.clone()))]);
    drop(store);
    let mut opened = open(data.path());
    assert_eq!(opened.state.reservations, [note]);
    let folders = fs::read_dir(data.path().join(PROJECTS_FOLDER)).expect("it is there").count();
    assert_eq!(folders, 0, "what may never come to be has no folder");
    write(&mut opened.store, &[Write::Join(project(3)), Write::DropReservation(project(3).0)]);
    drop(opened);
    let state = open(data.path()).state;
    assert_eq!(state.reservations, []);
    assert_eq!(state.joined.into_iter().collect::<Vec<_>>(), [project(3)]);
}
