use super::*;
use crate::record::{Commit, Measured, Reading};
use crate::sample::{first_revision, keys, name as named};
use crate::trust::{Grant, Verb, mesh_of};
use crate::wire::sign_reservation;

fn member(seed: u8) -> Member {
    let grant = Grant {
        mesh: mesh_of(keys(0).public()),
        subject: keys(seed).public(),
        name: Some(named("oslo")),
        verbs: [Verb::Join].into(),
        passes: 1,
        not_after_unix_ms: Some(1),
        scope: crate::trust::Scope::default(),
    };
    Member { counter: 1, name: named("oslo"), chain: vec![keys(0).sign(Domain::Grant, grant.to_bytes())] }
}

fn vm_status() -> VmStatus {
    VmStatus {
        counter: 7,
        vm: VmId { birth: Digest([3; 32]), name: named("router1") },
        epoch: crate::record::Epoch { term: 1, n: 2 },
        project: ProjectId(Digest([3; 32])),
        run: RunState::Up,
        run_counter: 2,
        run_by: keys(1).public(),
        state: VmState::Failed { reason: "no room".into() },
        exit: Some(ExitStatus::Signal(6)),
        memory: MemoryMib(64),
        boot_order: BootOrder(10),
        address: Some(std::net::IpAddr::from([10, 0, 0, 1])),
        since_unix_ms: 5,
        kept_ms: 0,
        host: named("oslo"),
        nat: None,
        forwards: Vec::new(),
        part: None,
        startup: Startup::Fine,
    }
}

#[test]
fn what_a_vm_has_of_the_outside_comes_back_and_costs_others_nothing() {
    let plain = sign_record(&keys(1), Record::Vm(vm_status()));
    let forwards = vec![Forward { host_port: 8080, guest_port: 80, transport: Transport::Udp }];
    for nat in [None, Some(Nat::Up), Some(Nat::NoRoute), Some(Nat::NotInstalled), Some(Nat::Failed)] {
        let status = VmStatus { nat, forwards: forwards.clone(), ..vm_status() };
        let record = sign_record(&keys(1), Record::Vm(status.clone()));
        assert_ne!(record.signed().payload, plain.signed().payload);
        let back = verify_record(record.signed().clone(), keys(0).public()).expect("it is genuine");
        assert_eq!(**back, Record::Vm(status));
    }
}

#[test]
fn the_part_that_a_vm_has_comes_back_with_what_it_has_of_the_outside() {
    for nat in [None, Some(Nat::Up)] {
        let status = VmStatus { nat, part: Some(Digest([7; 32])), ..vm_status() };
        let record = sign_record(&keys(1), Record::Vm(status.clone()));
        let back = verify_record(record.signed().clone(), keys(0).public()).expect("it is genuine");
        assert_eq!(**back, Record::Vm(status));
    }
}

#[test]
fn that_startup_lines_failed_comes_back_with_all_else() {
    for part in [None, Some(Digest([7; 32]))] {
        let status = VmStatus { nat: Some(Nat::Up), part, startup: Startup::Failed, ..vm_status() };
        let record = sign_record(&keys(1), Record::Vm(status.clone()));
        let back = verify_record(record.signed().clone(), keys(0).public()).expect("it is genuine");
        assert_eq!(**back, Record::Vm(status));
    }
}

#[test]
fn how_long_a_disk_has_been_kept_comes_back() {
    for kept_ms in [0, 1, u64::MAX] {
        let status = VmStatus { state: VmState::Kept, kept_ms, ..vm_status() };
        let record = sign_record(&keys(1), Record::Vm(status.clone()));
        let back = verify_record(record.signed().clone(), keys(0).public()).expect("it is genuine");
        assert_eq!(**back, Record::Vm(status));
    }
}

/// What two machines measure.
fn gauges() -> HostGauges {
    let reading = |age_s, value| Reading { age_s, value: Measured::of(value).expect("a number") };
    let vm = |text| VmId { birth: Digest([3; 32]), name: named(text) };
    let load = [(named("load"), vec![reading(20, -1.5), reading(0, 17.25)])];
    let vms = [(vm("router1"), load.into()), (vm("router2"), [(named("cpu"), Vec::new())].into())];
    HostGauges { counter: 8, told_unix_ms: 9, vms: vms.into() }
}

#[test]
fn what_guests_measure_comes_back_and_its_bytes_stay_the_same() {
    check(Record::Gauges(gauges()), 1, Ok(()));
    let record = sign_record(&keys(1), Record::Gauges(gauges()));
    let found = crate::id::hex(&record.signed().payload);
    let golden = include_str!("golden/gauges_2.hex");
    assert_eq!(found, golden.trim_end(), "version 2 is fixed: a new shape needs a new kind");
    assert_eq!(super::record_bytes(&gauges()), record.signed().payload.len());
}

/// An agent that doesn't know the kind keeps the record in the same slot, under the same count.
#[test]
fn what_guests_measure_has_the_head_that_all_later_kinds_have() {
    let record = sign_record(&keys(1), Record::Gauges(gauges()));
    let head = encode(&(VERSION, GAUGES_KIND, GAUGES_SLOT, 8_u64));
    assert!(record.signed().payload.starts_with(&head));
    let author = keys(1).public();
    let slot = crate::record::RecordKey::Later(author, GAUGES_KIND, GAUGES_SLOT);
    assert_eq!((record.key(author), record.counter()), (slot, 8));
}

#[test]
fn what_guests_measure_is_in_order_finite_and_no_more_than_is_told() {
    type Told = Vec<(String, Vec<(u16, u32)>)>;
    let wire = |change: fn(&mut Told)| {
        let mut found = vec![("a".to_owned(), vec![(0, 0)]), ("b".to_owned(), Vec::new())];
        change(&mut found);
        let vms = vec![([3_u8; 32], "vm".to_owned(), found)];
        decode_record(&encode(&(VERSION, GAUGES_KIND, GAUGES_SLOT, 1_u64, 2_u64, vms)))
    };
    assert!(wire(|_| {}).is_ok());
    for (what, change) in [
        ("order", (|gauges| gauges.reverse()) as fn(&mut Told)),
        ("twice", |gauges| gauges[1].0 = "a".to_owned()),
        ("infinite", |gauges| gauges[0].1[0].1 = f32::INFINITY.to_bits()),
        ("no name", |gauges| gauges[0].0 = "-".to_owned()),
        ("values", |gauges| gauges[0].1 = vec![(0, 0); 13]),
        ("gauges", |gauges| *gauges = (0..9).map(|number| (format!("g{number}"), Vec::new())).collect()),
    ] {
        assert!(is_kept_unread(wire(change)), "{what}");
    }
    let slot = encode(&(VERSION, GAUGES_KIND, [1_u8; 32], 1_u64, 2_u64, Vec::<u8>::new()));
    assert!(is_kept_unread(decode_record(&slot)), "there is one slot");
}

fn is_kept_unread(read: Result<Record, RecordError>) -> bool {
    matches!(read, Ok(Record::Later(_)))
}

/// What an older agent passes on because of its head alone, a newer one takes too: or it would blame the older one.
#[test]
fn what_has_a_head_and_makes_no_sense_behind_it_is_kept_as_what_nobody_knows() {
    for kind in 0..KINDS {
        let payload = encode(&(VERSION, kind, [7_u8; 32], 9_u64, [0xff_u8; 32]));
        let read = verify_record(keys(1).sign(Domain::Record, payload.clone()), keys(0).public());
        if kind < FIRST_HEADED_KIND {
            assert!(!read.expect_err("it has no head").is_of_another_version());
            continue;
        }
        let read = read.expect("it is kept");
        let author = keys(1).public();
        let slot = crate::record::RecordKey::Later(author, kind, [7; 32]);
        assert_eq!((read.key(author), read.counter()), (slot, 9));
        assert_eq!(sign_record(&keys(1), (**read).clone()).signed().payload, payload);
    }
}

fn commit(signers: &[u8]) -> Commit {
    let first = first_revision("router1");
    let digest = first.digest;
    let reservations = signers.iter().map(|&seed| sign_reservation(&keys(seed), digest)).collect();
    Commit { reservations, ..first }
}

#[track_caller]
fn check(record: Record, author: u8, expect: Result<(), RecordError>) {
    let own = sign_record(&keys(author), record.clone());
    let bytes = own.signed().to_bytes();
    let signed = Signed::from_bytes(&bytes).expect("encoded above");
    let found = verify_record(signed, keys(0).public());
    assert_eq!(found.map(|r| (**r).clone()), expect.map(|()| record));
}

#[test]
fn records_come_back_as_they_were() {
    check(Record::Member(member(1)), 1, Ok(()));
    check(Record::Vm(vm_status()), 1, Ok(()));
    check(Record::Commit(commit(&[1])), 2, Ok(()));
}

#[test]
fn a_record_must_prove_what_it_says() {
    check(Record::Member(member(1)), 2, Err(RecordError::Unproven { what: "membership" }));
    let renamed = Member { name: named("bergen"), ..member(1) };
    check(Record::Member(renamed), 1, Err(RecordError::Unproven { what: "the member's name" }));
    let unproven = Err(RecordError::Unproven { what: "the reservation of every host" });
    let alone = Err(RecordError::Unproven { what: "the reservation of any host" });
    check(Record::Commit(commit(&[])), 2, alone);
    check(Record::Commit(commit(&[2])), 2, unproven);
}

#[test]
fn the_bytes_of_a_record_stay_the_same() {
    let record = sign_record(&keys(1), Record::Vm(vm_status()));
    let golden = include_str!("golden/vm_status_2.hex");
    assert_eq!(
        crate::id::hex(&record.signed().payload),
        golden.trim_end(),
        "version 2 is fixed: add version 3"
    );
}

#[test]
fn cut_and_trailing_bytes_are_refused() {
    let bytes = sign_record(&keys(1), Record::Vm(vm_status())).signed().payload.clone();
    for end in 0..bytes.len() {
        assert!(decode_record(&bytes[..end]).is_err(), "{end} bytes");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(decode_record(&longer), Err(DecodeError::Trailing { bytes: 1 }.into()));
}

#[test]
fn what_only_a_newer_host_knows_is_left_out_and_told_from_what_is_wrong() {
    let root = keys(0).public();
    let signed = |payload: Vec<u8>| keys(1).sign(Domain::Record, payload);
    let newer_kind = signed(encode(&(VERSION, KINDS, [1_u64; 3])));
    let newer_version = signed(encode(&(VERSION + 1, 0_u32)));
    let older_version = signed(encode(&(VERSION - 1, 0_u32)));
    for newer in [&newer_kind, &newer_version] {
        let error = verify_record(newer.clone(), root).expect_err("it can't be understood");
        assert!(error.is_of_another_version(), "{error}");
    }
    let torn = verify_record(signed(encode(&(VERSION, 3_u32, 1_u8))), root).expect_err("it is torn");
    assert!(!torn.is_of_another_version(), "{torn}");
    let mut forged = newer_kind.clone();
    forged.payload[9] ^= 1;
    assert_eq!(verify_record(forged.clone(), root).expect_err("forged"), RecordError::Signature);

    let known = sign_record(&keys(1), Record::Vm(vm_status()));
    let records = |all: &[&Signed]| {
        let wires: Vec<SignedWire> = all.iter().map(|signed| SignedWire::from(*signed)).collect();
        // The seventh kind of message, of version 2.
        crate::wire::decode_message(&encode(&(2_u16, 7_u32, wires)), root)
    };
    let read = records(&[&newer_kind, known.signed(), &newer_version, &older_version]);
    assert_eq!(read, Ok(crate::node::Message::Records(vec![known.clone()])));
    assert_eq!(records(&[&forged, known.signed()]), Err(RecordError::Signature));
    let newer_message = crate::wire::decode_message(&encode(&(2_u16, 1_000_u32)), root);
    assert!(newer_message.is_err_and(|error| error.is_of_another_version()));
}

#[test]
fn a_record_of_an_older_version_says_what_to_do() {
    let signed = keys(1).sign(Domain::Record, encode(&(1_u16, 0_u32)));
    let refused = verify_record(signed, keys(0).public()).expect_err("its shapes are not read any more");
    assert!(refused.is_of_another_version());
    assert!(refused.to_string().ends_with("upgrade the agent that wrote it"), "{refused}");
}
