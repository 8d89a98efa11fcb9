use std::sync::Arc;

use mln_protocol::id::Digest;
use mln_protocol::model::{BootOrder, HostAddress, MemoryMib};
use mln_protocol::node::{Ask, HostRefusal, OpId, Refusal as NodeRefusal, Rule, RunningVms, WriteId};
use mln_protocol::record::{Consent, Epoch, ExitStatus, HostStatus, Member, Revision, RunState, Startup};
use mln_protocol::trust::{
    Attestation, Decision, Domain, GuestRequest, GuestRight, KeyPair, Use, UseKind, Wanted,
};
use mln_protocol::wire::{encode_ask, sign_attestation, sign_guest_request, sign_record};

use super::*;
use crate::platform::End;

const NOW: u64 = 1_000_000;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

fn keys(seed: u8) -> KeyPair {
    KeyPair::from_secret([seed; 32])
}

fn member(host: &str, seed: u8) -> VerifiedRecord {
    sign_record(&keys(seed), Record::Member(Member { counter: 1, name: name(host), chain: Vec::new() }))
}

fn vm(seed: u8, host: &str, state: VmState, exit: Option<ExitStatus>) -> VerifiedRecord {
    let birth = Digest::of(b"ring");
    let status = VmStatus {
        counter: 1,
        vm: VmId { birth, name: name("router1") },
        epoch: mln_protocol::record::Epoch::FIRST,
        project: ProjectId(birth),
        run: RunState::Up,
        run_counter: 1,
        run_by: keys(seed).public(),
        state,
        exit,
        memory: MemoryMib(64),
        boot_order: BootOrder(99),
        address: None,
        since_unix_ms: 77,
        kept_ms: 0,
        nat: None,
        forwards: Vec::new(),
        part: None,
        startup: Startup::Fine,
        host: name(host),
    };
    sign_record(&keys(seed), Record::Vm(status))
}

fn written(record: VerifiedRecord) -> Output {
    let key = record.key(record.author());
    Output::Persist { id: WriteId(1), writes: vec![Write::Record(key, record)] }
}

fn label(_: About<'_>) -> Option<Label> {
    Some(Label { owner: name("anna"), project: name("ring") })
}

/// This host is oslo; bergen is known as well.
fn oslo() -> Deriver {
    Deriver::new(keys(1).public(), name("oslo"), &[member("oslo", 1), member("bergen", 2)])
}

#[track_caller]
fn one(deriver: &mut Deriver, output: Output) -> Event {
    let mut events = deriver.output(&output, NOW, &label);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

#[track_caller]
fn none(deriver: &mut Deriver, output: Output) {
    assert_eq!(deriver.output(&output, NOW, &label), []);
}

#[test]
fn the_life_of_a_vm_on_another_host_is_told() {
    let mut deriver = oslo();
    let failed = Some(ExitStatus::Code(7));
    none(&mut deriver, written(vm(2, "bergen", VmState::Building, None)));
    let steps = [
        (VmState::Down, None, EventKind::Build),
        (VmState::Booting, None, EventKind::Start),
        (VmState::Up, None, EventKind::Ready),
        (VmState::Down, failed, EventKind::Exit),
        (VmState::Removed, failed, EventKind::Remove),
    ];
    for (state, exit, kind) in steps {
        let event = one(&mut deriver, written(vm(2, "bergen", state, exit)));
        assert_eq!((event.kind, event.host.as_str(), event.unix_ms), (kind, "bergen", 77));
        assert_eq!(event.project, label(About::Project(ProjectId(Digest::of(b"ring")))));
        assert_eq!(event.status, if kind == EventKind::Exit { failed } else { None });
    }
}

#[test]
fn a_vm_that_was_taken_over_is_told_with_its_epochs_and_is_not_built_anew() {
    use mln_protocol::record::Takeover;
    let mut deriver = oslo();
    one(&mut deriver, written(vm(2, "bergen", VmState::Up, None)));
    let takeover = Takeover {
        seen: Some(Epoch { term: 1, n: 3 }),
        copy: None,
        chain: Vec::new(),
        author: "anna at oslo".to_owned(),
        made_unix_ms: 0,
    };
    let basis = ClaimBasis::Takeover(takeover);
    let claim = Claim { vm: router1(), epoch: Epoch { term: 2, n: 1 }, basis };
    let event = one(&mut deriver, written(sign_record(&keys(1), Record::Link(Link::Claim(claim)))));
    assert_eq!((event.kind, event.host.as_str()), (EventKind::TakeOver, "oslo"));
    assert_eq!(event.text, "is taken over from epoch 1.3 (epoch 2.1), asked by anna at oslo");
    assert_eq!((event.project, event.vm), (label(About::Vm(&router1())), Some(name("router1"))));
    none(&mut deriver, written(vm(1, "oslo", VmState::Down, None)));
    assert_eq!(one(&mut deriver, written(vm(1, "oslo", VmState::Up, None))).kind, EventKind::Ready);
}

fn router1() -> VmId {
    VmId { birth: Digest::of(b"ring"), name: name("router1") }
}

#[test]
fn the_same_news_twice_is_one_event() {
    let mut deriver = oslo();
    one(&mut deriver, written(vm(2, "bergen", VmState::Up, None)));
    none(&mut deriver, written(vm(2, "bergen", VmState::Up, None)));
}

#[test]
fn only_the_word_of_a_vms_host_counts() {
    let mut deriver = oslo();
    none(&mut deriver, written(vm(1, "bergen", VmState::Up, None)));
    none(&mut deriver, written(vm(3, "bergen", VmState::Up, None)));
}

#[test]
fn what_was_known_before_a_restart_is_no_event() {
    let stored = [vm(2, "bergen", VmState::Up, None), member("oslo", 1), member("bergen", 2)];
    let mut deriver = Deriver::new(keys(1).public(), name("oslo"), &stored);
    none(&mut deriver, written(vm(2, "bergen", VmState::Up, None)));
    none(&mut deriver, written(member("bergen", 2)));
    let event = one(&mut deriver, written(vm(2, "bergen", VmState::Down, None)));
    assert_eq!((event.kind, event.text.as_str()), (EventKind::Exit, "has ended; nobody saw how"));
}

#[test]
fn a_new_member_joins_once_and_its_new_version_is_told() {
    let mut deriver = oslo();
    let event = one(&mut deriver, written(member("gjovik", 3)));
    assert_eq!((event.kind, event.host.as_str()), (EventKind::Join, "gjovik"));
    none(&mut deriver, written(member("gjovik", 3)));
    let runs = |version: &str| {
        let status = HostStatus {
            counter: 1,
            groups: Vec::new(),
            platforms: Vec::new(),
            projects: 0,
            vms: 0,
            memory_used: MemoryMib(0),
            memory_limit: MemoryMib(0),
            agent_version: version.to_owned(),
            measured_unix_ms: 0,
        };
        written(sign_record(&keys(3), Record::Host(status)))
    };
    none(&mut deriver, runs("0.1.0"));
    none(&mut deriver, runs("0.1.0"));
    let event = one(&mut deriver, runs("0.2.0"));
    assert_eq!((event.kind, event.text.as_str()), (EventKind::Version, "mlnd 0.2.0, before: 0.1.0"));
}

#[test]
fn a_refusal_names_its_rule_wherever_it_was_said() {
    let mut deriver = oslo();
    let refusal = || NodeRefusal { rule: Rule::Memory, detail: "64 MiB wanted, 10 left".to_owned() };
    let outcome = Outcome::Refused(vec![HostRefusal { host: "bergen".to_owned(), refusal: refusal() }]);
    let event = one(&mut deriver, Output::Done { op: OpId(1), outcome });
    assert_eq!((event.kind, event.rule, event.host.as_str()), (EventKind::Refusal, Some("memory"), "bergen"));
    let answer = |to: u8| {
        let verdict = Err(refusal());
        let message = Message::Answer { revision: Digest::of(b"ring"), verdict };
        Output::Send { to: keys(to).public(), message }
    };
    let event = one(&mut deriver, answer(2));
    assert_eq!((event.host.as_str(), event.text.as_str()), ("oslo", "to bergen: 64 MiB wanted, 10 left"));
    // What this host refuses itself is told by the operation that ends with it.
    none(&mut deriver, answer(1));
}

#[test]
fn a_panic_is_told_with_the_kernels_words_and_a_plain_exit_by_its_record() {
    let deriver = oslo();
    let vm = VmId { birth: Digest::of(b"ring"), name: name("router1") };
    let event = VmEvent { vm: vm.clone(), kind: VmEventKind::Panicked { text: "no init found".to_owned() } };
    let told = deriver.vm_event(&event, NOW, None).expect("an event");
    assert_eq!((told.kind, told.text.as_str()), (EventKind::Panic, "no init found"));
    assert_eq!(deriver.vm_event(&VmEvent { vm, kind: VmEventKind::Lost }, NOW, None), None);
}

#[test]
fn a_guest_that_runs_and_is_not_what_it_should_be_is_told() {
    let deriver = oslo();
    let vm = VmId { birth: Digest::of(b"ring"), name: name("router1") };
    let told = |progress| {
        let event = VmEvent { vm: vm.clone(), kind: VmEventKind::Progress(progress) };
        deriver.vm_event(&event, NOW, None).map(|event| (event.kind, event.text))
    };
    let failed =
        BootProgress::StartupFailed { end: End::Exited(127), log_tail: "one\nnosuchcmd: not found\n".into() };
    let (kind, text) = told(failed).expect("an event");
    assert_eq!(kind, EventKind::Setup);
    assert!(text.contains("127") && text.ends_with("nosuchcmd: not found"), "{text}");
    let (kind, text) = told(BootProgress::SeedFailed { text: "mount /maps".into() }).expect("an event");
    assert_eq!((kind, text.contains("mount /maps")), (EventKind::Setup, true));
    assert_eq!(told(BootProgress::Ready), None);
}

#[test]
fn a_stranger_who_knocks_for_ever_is_told_of_once() {
    let mut deriver = oslo();
    let stranger = keys(9).public();
    assert!(deriver.stranger(stranger, Refusal::OtherMesh, NOW).is_some());
    assert!(deriver.stranger(stranger, Refusal::OtherMesh, NOW).is_none());
    assert!(deriver.stranger(keys(2).public(), Refusal::Duplicate, NOW).is_none());
}

#[test]
fn strangers_with_ever_new_keys_do_not_drive_out_other_events() {
    let mut deriver = oslo();
    let mut told = |unix_ms| {
        let mut knock = |seed: u16| {
            let stranger = PublicKey(Digest::of(&seed.to_le_bytes()).0);
            deriver.stranger(stranger, Refusal::OtherMesh, unix_ms).is_some()
        };
        (0..1000).filter(|seed| knock(*seed)).count()
    };
    assert_eq!(told(NOW), 64);
    assert_eq!(told(NOW + 1000), 0);
    assert_eq!(told(NOW + 3_600_000), 64, "an hour later they are news again");
}

#[test]
fn the_first_line_of_a_failure_is_its_text() {
    let mut deriver = oslo();
    let state = VmState::Failed { reason: "the disk is full\n| [ 0.1] words".to_owned() };
    let event = one(&mut deriver, written(vm(2, "bergen", state, None)));
    assert_eq!((event.kind, event.text.as_str()), (EventKind::Failed, "the disk is full"));
}

#[test]
fn a_disk_that_does_not_come_is_told_once_in_a_while() {
    let (mut oslo, full) = (oslo(), "the disk is full");
    let label = || label(About::Vm(&router1())).expect("everything is of one project here");
    let told = oslo.not_moved(&router1(), label(), full, NOW).expect("that is news");
    assert_eq!(
        (told.kind, told.vm, told.text.contains(full)),
        (EventKind::Failed, Some(name("router1")), true)
    );
    assert!(oslo.not_moved(&router1(), label(), full, NOW + 5_000).is_none(), "it is tried again and again");
    assert!(oslo.not_moved(&router1(), label(), full, NOW + NOT_MOVED_PAUSE_MS).is_some());
}

#[test]
fn what_a_vm_decides_is_told_once_whoever_else_publishes_it() {
    let decision = |reason: &str| {
        let policy = |policy: &str| Use {
            origin: name("base"),
            policy: name(policy),
            kind: UseKind::Scale { class: name("web"), to: 2 },
        };
        let uses = vec![policy("grow"), policy("slow"), policy("grow")];
        let revision = Revision {
            project: Some(ProjectId(Digest::of(b"ring"))),
            parent: Some(Digest::of(b"before")),
            label: label(About::Vm(&router1())).expect("everything is of one project here"),
            hosts: Vec::new(),
            definition: Digest::of(b"text"),
            consent: Consent::Majority,
            made_unix_ms: NOW,
            author: "router1 of anna/ring".to_owned(),
            reason: reason.to_owned(),
            charge: None,
            keep_removed_ms: 0,
            decision: Some(Decision { vm: router1(), request: Digest::of(b"request"), uses }),
        };
        let digest = Digest::of(reason.as_bytes());
        Record::Commit(Commit { revision, digest, reservations: Vec::new(), promises: Vec::new() })
    };
    let mut deriver = oslo();
    let event = one(&mut deriver, written(sign_record(&keys(2), decision("it is full"))));
    let expect = "changes its project, as policy grow, slow allows: it is full";
    assert_eq!((event.kind, event.text.as_str()), (EventKind::Decision, expect));
    assert_eq!((event.host, event.vm), (name("bergen"), Some(name("router1"))));
    none(&mut deriver, written(sign_record(&keys(1), decision("it is full"))));
    one(&mut deriver, written(sign_record(&keys(1), decision("it is empty"))));
}

/// Neither what an operation ends with nor an answer to another host said which VM it was about.
#[test]
fn a_refusal_of_what_a_vm_asks_for_names_it_at_every_host() {
    let revision = Revision {
        project: Some(ProjectId(Digest::of(b"ring"))),
        parent: Some(Digest::of(b"before")),
        label: label(About::Vm(&router1())).expect("everything is of one project here"),
        hosts: Vec::new(),
        definition: Digest::of(b"text"),
        consent: Consent::Majority,
        made_unix_ms: NOW,
        author: "router1 of anna/ring".to_owned(),
        reason: "near".to_owned(),
        charge: None,
        keep_removed_ms: 0,
        decision: None,
    };
    let key = keys(7).public();
    let epoch = Epoch { term: 1, n: 1 };
    let attestation = Attestation { vm: router1(), epoch, boot: 1, key, made_unix_ms: NOW };
    let request = GuestRequest {
        vm: router1(),
        parent: Digest::of(b"before"),
        number: 1,
        wanted: Wanted::Move { to: HostAddress("oslo".to_owned()) },
        reason: "near".to_owned(),
        made_unix_ms: NOW,
    };
    let right = GuestRight {
        attestation: sign_attestation(&keys(2), attestation),
        request: sign_guest_request(&keys(7), request),
        definition: Vec::new().into(),
    };
    let asked = |guest: Option<GuestRight>, digest: Digest| {
        let (host, revision, running) = (keys(1).public(), revision.clone(), RunningVms::Refuse);
        let guest = guest.map(Arc::new);
        let ask = Ask { host, revision, digest, running, replaces: None, chain: Vec::new(), guest };
        let payload = encode_ask(&ask);
        let ask = Arc::new(Verified::own(&keys(2), Domain::Request, ask, payload));
        Message::Ask { ask, fragment: None }
    };
    let refusal = || NodeRefusal { rule: Rule::Envelope, detail: "it may not".to_owned() };
    let answer = |revision: Digest| Output::Send {
        to: keys(2).public(),
        message: Message::Answer { revision, verdict: Err(refusal()) },
    };
    let (wish, upgrade) = (Digest::of(b"wish"), Digest::of(b"upgrade"));
    let mut deriver = oslo();
    let coordinator = keys(2).public();
    let held = Ownership { owner: coordinator, epoch, tenure: Tenure::Held };
    let known = |ownership: &Ownership| Some((ownership.clone(), label(About::Vm(&router1()))?));
    deriver.asked(coordinator, &asked(Some(right.clone()), wish), |_| known(&held));
    deriver.asked(coordinator, &asked(None, upgrade), |_| known(&held));
    let of = |event: Event| (event.vm, event.project, event.rule);
    let expect = (Some(name("router1")), label(About::Vm(&router1())), Some("envelope"));
    assert_eq!(of(one(&mut deriver, answer(wish))), expect);
    assert_eq!(of(one(&mut deriver, answer(upgrade))), (None, None, Some("envelope")));

    // What a message says of itself was believed: any host could have a refusal told of any VM.
    let mut deriver = oslo();
    let nobody = (None, None, Some("envelope"));
    let elsewhere = Ownership { owner: keys(3).public(), ..held.clone() };
    let later = Ownership { epoch: Epoch { term: 1, n: 2 }, ..held.clone() };
    let attested = |author: &KeyPair, key: PublicKey| GuestRight {
        attestation: sign_attestation(author, Attestation { key, ..(*right.attestation).clone() }),
        ..right.clone()
    };
    let (other_word, other_key) = (attested(&keys(3), key), attested(&keys(2), keys(8).public()));
    deriver.asked(coordinator, &asked(Some(right.clone()), wish), |_| None);
    deriver.asked(coordinator, &asked(Some(right.clone()), wish), |_| known(&elsewhere));
    deriver.asked(coordinator, &asked(Some(right.clone()), wish), |_| known(&later));
    deriver.asked(keys(3).public(), &asked(Some(right.clone()), wish), |_| known(&held));
    deriver.asked(coordinator, &asked(Some(other_word), wish), |_| known(&held));
    deriver.asked(coordinator, &asked(Some(other_key), wish), |_| known(&held));
    assert_eq!(of(one(&mut deriver, answer(wish))), nobody);

    let asker = Asker { project: revision.label.clone(), vm: name("router1") };
    let outcome = Outcome::Refused(vec![HostRefusal { host: "bergen".to_owned(), refusal: refusal() }]);
    let event = one(&mut deriver, Output::Done { op: OpId(1), outcome });
    assert_eq!(of(asker.names(event)), expect);
}
