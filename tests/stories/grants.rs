//! Who may do what: grants with limits, taken back; and requests that a host gets over the wire and does not carry out.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use mln_e2e::{Host, Site, until};
use mln_protocol::id::{Digest, Name, PublicKey, VmId, unhex};
use mln_protocol::node::{Ask, Message, RunOrder, RunRequest, RunVerdict, RunningVms};
use mln_protocol::plan::StopLimit;
use mln_protocol::record::{
    Charge, Consent, Epoch, Later, Member, Record, Revision, RevisionHost, RevisionVm,
};
use mln_protocol::trust::{Amount, Domain, Grant, KeyPair, Limits, Scope, Signed, Verb, Verified, mesh_of};
use mln_protocol::wire;
use mlnd::mesh::{MeshConfig, MeshEvent, MeshHandle, Reach, start};

use crate::{LIMIT, SINGLE};

/// Has a host give a grant to another one's user, who takes it.
#[track_caller]
fn grant(site: &mut Site, to: &str, arguments: &[&str]) {
    let key = site.host(to).mlnctl(&["key"]).done();
    let all = [&["grant", "--to", key.trim(), "--name", to], arguments].concat();
    let text = site.host("oslo").ctl(&all).done();
    site.host(to).mlnctl(&["ctx", "join", text.trim(), "--name", "lab"]).ended(0).says(to);
}

fn project(name: &str, memory: u32) -> String {
    format!("global {{ project {name} }}\nhost vm {{ memory {memory}M }}\n")
}

#[test]
fn a_grant_allows_what_it_says_until_it_is_taken_back() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    for name in ["anna", "bob", "carl"] {
        site.add(name);
    }
    let single = site.project("single", SINGLE);
    site.host("oslo").ctl(&["build", "-f", &single]).done();

    // Starting and stopping is one grant, building another.
    grant(&mut site, "bob", &["--may", "control"]);
    let bob = site.host("bob");
    bob.mlnctl(&["build", "-f", &single]).ended(3).says("no build").says("rule grant");
    // What the hosts would refuse, they say of a plan.
    let more = site.project("single-more", &format!("{SINGLE}host more {{ memory 40M }}\n"));
    let bob = site.host("bob");
    bob.mlnctl(&["plan", "-f", &more]).ended(3).says("rule grant").says("no upgrade");
    bob.mlnctl(&["start", "-p", "single"]).done();
    bob.mlnctl(&["stop", "-p", "single"]).done();

    // Anna builds what is hers, as much as her grant allows.
    grant(
        &mut site,
        "anna",
        &[
            "--may",
            "all,grant",
            "--projects",
            "anna/*,root/shared",
            "--memory",
            "160",
            "--vms",
            "2",
            "--pass-on",
            "2",
        ],
    );
    let one = site.project("one", &project("one", 96));
    let two = site.project("two", &project("two", 96));
    let anna = site.host("anna");
    anna.mlnctl(&["build", "-f", &one]).done();
    anna.mlnctl(&["build", "-f", &two])
        .ended(3)
        .says("rule grant-limit")
        .says("96 MiB of memory wanted, 64 of 160 left");
    anna.mlnctl(&["plan", "-f", &two]).ended(3).says("rule grant-limit").says("64 of 160 left");
    anna.mlnctl(&["plan", "-f", &one]).ended(0);
    anna.mlnctl(&["start", "-p", "single"]).ended(3).says("root/single").says("anna/*");
    anna.mlnctl(&["start", "-a"]).ended(3).says("-p PROJECT");
    let seen = anna.mlnctl(&["list", "--json"]).json();
    assert_eq!(seen.as_array().map(Vec::len), Some(1), "others' projects are not shown: {seen}");
    // A token would be signed by the host, and so outlive and exceed her grant.
    anna.mlnctl(&["token", "new", "--role", "operator"]).ended(3).says("mlnctl grant --to KEY");

    // What she passes on is in her own chain: it pays from her limits, and goes when hers goes.
    let key = site.host("carl").mlnctl(&["key"]).done();
    let anna = site.host("anna");
    anna.mlnctl(&["grant", "--to", key.trim(), "--name", "carl", "--valid", "900d"])
        .ended(3)
        .says("ends before");
    anna.mlnctl(&["grant", "--to", key.trim(), "--name", "carl", "--pass-on", "2"])
        .ended(3)
        .says("passed on 2 times");
    let text = anna.mlnctl(&["grant", "--to", key.trim(), "--name", "carl"]).done();
    let carl = site.host("carl");
    carl.mlnctl(&["ctx", "join", text.trim(), "--name", "lab"]).ended(0);
    carl.mlnctl(&["build", "-f", &two]).ended(3).says("carl/two");
    carl.mlnctl(&["start", "-p", "anna/one"]).done();

    // Everybody hears of what oslo takes back, and of nothing that it did not sign.
    let rows = site.host("bergen").ctl(&["grant", "list", "--json"]).json();
    let names = |rows: &serde_json::Value| -> Vec<String> {
        let names =
            rows.as_array().into_iter().flatten().map(|row| row["name"].as_str().unwrap_or("").to_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(names(&rows), ["anna", "bob", "carl"], "{rows}");
    site.host("bergen").ctl(&["revoke", "anna"]).ended(3).says("this host signed nothing").says("oslo");
    let revoked = site.host("oslo").ctl(&["revoke", "anna", "--reason", "term is over", "--json"]).json();
    assert_eq!(revoked[0]["revoked"]["reason"], "term is over", "{revoked}");
    for name in ["anna", "carl"] {
        site.host(name).mlnctl(&["list"]).ended(3).says("revoked");
    }
    until("bergen has heard of it", LIMIT, || {
        let rows = site.host("bergen").ctl(&["grant", "list", "--json"]).json();
        let revoked = rows.as_array().into_iter().flatten().filter(|row| !row["revoked"].is_null()).count();
        if revoked == 2 { Ok(()) } else { Err(rows.to_string()) }
    });
    site.host("bob").mlnctl(&["list"]).ended(0);
    // What was built with it stays, and so does the revocation over a restart.
    let kept = site.host("oslo").ctl(&["list", "--json"]).json();
    assert_eq!(kept.as_array().map(Vec::len), Some(2), "{kept}");
    site.host("oslo").stop();
    site.host("oslo").run();
    site.host("anna").mlnctl(&["list"]).ended(3).says("revoked");
    let said = site.host("oslo").last_words();
    assert!(said.contains("a grant was revoked"), "{said}");
}

/// A member of the mesh whose agent is this test.
struct Raw {
    keys: KeyPair,
    chain: Vec<Signed>,
    root: PublicKey,
    mesh: MeshHandle,
    events: tokio::sync::mpsc::Receiver<MeshEvent>,
    oslo: PublicKey,
}

fn hexadecimal(text: &str) -> Vec<u8> {
    unhex(text.trim()).expect("the agent wrote it")
}

/// What a host has in its folder when it has joined.
fn identity(host: &Host) -> (KeyPair, Vec<Signed>) {
    let secret = fs::read_to_string(host.folder().join("host.key")).expect("it has joined");
    let membership = fs::read_to_string(host.folder().join("membership.toml")).expect("it has joined");
    let links = membership.split('"').filter(|text| text.len() > 200);
    let chain = links.map(|text| Signed::from_bytes(&hexadecimal(text)).expect("a grant")).collect();
    (KeyPair::from_secret(hexadecimal(&secret).try_into().expect("32 bytes")), chain)
}

impl Raw {
    async fn connect(keys: KeyPair, chain: Vec<Signed>, token: wire::Token) -> Self {
        let addresses = token.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        let config = MeshConfig {
            keys: keys.clone(),
            root: token.root,
            chain: chain.clone(),
            listen: Vec::new(),
            known: vec![(token.issuer, addresses)],
            reach: Reach::default(),
        };
        let (mesh, mut events) = start(config).expect("nobody listens");
        let connected = async {
            while let Some(event) = events.recv().await {
                if matches!(event, MeshEvent::Connected { .. }) {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, connected).await.expect("oslo lets it in");
        let raw = Self { keys, chain, root: token.root, mesh, events, oslo: token.issuer };
        let name = Name::parse("eve").expect("a name");
        let member = Record::Member(Member { counter: 1, name, chain: raw.chain.clone() });
        raw.send(&Message::Records(vec![wire::sign_record(&raw.keys, member)])).await;
        raw
    }

    async fn send(&self, message: &Message) {
        self.bytes(wire::encode_message(message)).await;
    }

    async fn bytes(&self, bytes: Vec<u8>) {
        self.mesh.send(self.oslo, bytes).await.expect("the mesh runs");
    }

    /// Returns the next message that somebody is looking for.
    async fn hears<T>(&mut self, what: &str, look: impl Fn(Message) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the mesh runs");
                let MeshEvent::Message { bytes, .. } = event else { continue };
                let Ok(message) = wire::decode_message(&bytes, self.root) else { continue };
                if let Some(found) = look(message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("nothing is said: {what}"))
    }

    /// Sends a record until it is there: messages come in no particular order.
    async fn has_told(&mut self, record: mln_protocol::record::VerifiedRecord) {
        let key = record.key(record.author());
        let deadline = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < deadline {
            self.send(&Message::Records(vec![record.clone()])).await;
            self.send(&Message::Want(vec![key.clone()])).await;
            let known = self.hears("the record", |message| match message {
                Message::Records(records) => {
                    records.iter().any(|one| one.key(one.author()) == key).then_some(())
                }
                _ => None,
            });
            if tokio::time::timeout(Duration::from_millis(500), known).await.is_ok() {
                return;
            }
        }
        panic!("the record is not taken");
    }

    /// Sends a request to run a VM, and returns what is answered.
    async fn runs(&mut self, signer: &KeyPair, request: RunRequest) -> RunVerdict {
        let payload = wire::encode_run_request(&request);
        let request = Arc::new(Verified::own(signer, Domain::Request, request, payload));
        self.send(&Message::Run(request.clone())).await;
        self.hears("an answer to a request to run", |message| match message {
            Message::RunAnswer { request: of, verdict } if of == request.digest() => Some(verdict),
            _ => None,
        })
        .await
    }

    /// Asks for a part of a revision, and returns the rule by which it is refused; none where it is reserved.
    async fn asks(&mut self, signer: &KeyPair, revision: Revision, chain: Vec<Signed>) -> Option<String> {
        let digest = Digest::of(&wire::encode_revision(&revision));
        let (host, running) = (self.oslo, RunningVms::Stop);
        let ask = Ask { host, revision, digest, running, replaces: None, chain, guest: None };
        let payload = wire::encode_ask(&ask);
        let ask = Arc::new(Verified::own(signer, Domain::Request, ask, payload));
        self.send(&Message::Ask { ask, fragment: None }).await;
        self.hears("an answer to an ask", |message| match message {
            Message::Answer { revision, verdict } if revision == digest => {
                Some(verdict.err().map(|refusal| refusal.rule.code().to_owned()))
            }
            _ => None,
        })
        .await
    }
}

/// A grant of eve's for a key that is nobody's yet, behind her own.
fn passed(
    raw: &Raw,
    to: &KeyPair,
    verbs: &[Verb],
    not_after_unix_ms: Option<u64>,
    limits: Limits,
) -> Vec<Signed> {
    let grant = Grant {
        mesh: mesh_of(raw.root),
        subject: to.public(),
        name: Name::parse("mallory").ok(),
        verbs: verbs.iter().copied().chain([Verb::View]).collect(),
        passes: 0,
        not_after_unix_ms,
        scope: Scope { limits, ..Scope::default() },
    };
    let mut chain = raw.chain.clone();
    chain.push(raw.keys.sign(Domain::Grant, grant.to_bytes()));
    chain
}

#[test]
fn what_a_host_is_asked_over_the_wire_and_may_not_do_it_refuses_and_logs() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("single", SINGLE);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.add("eve");
    site.join("oslo", "eve").done();
    let token = site.host("oslo").ctl(&["token", "new"]).done();
    let token = wire::Token::parse(token.trim()).expect("an agent made it");
    let projects = site.host("oslo").ctl(&["list", "--json"]).json();
    let birth = projects[0]["id"].as_str().and_then(Digest::from_hex).expect("a project has an identity");
    let before = state(site.host("oslo"));

    let (keys, chain) = identity(site.host("eve"));
    let asked = site.host("eve").inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(refusals(keys, chain, token, birth))
    });
    assert_eq!(asked, Vec::<String>::new());

    // Nothing has changed but what was allowed: one start and one stop.
    let oslo = site.host("oslo");
    until("the virtual machine is down again", LIMIT, || {
        let now = state(oslo);
        if now == before { Ok(()) } else { Err(format!("{now:?}, before {before:?}")) }
    });
    let log = fs::read_to_string(oslo.folder().join("mlnd.log")).expect("it has a log");
    for reason in [
        "a signature is wrong",
        "nobody here knows the key",
        "its author saw an earlier state of the virtual machine; or it was sent before",
        "grant 3 has expired",
        "the grant has no start",
        "the grant has no build",
        "was revoked",
        "VMs wanted, 0 of 0 left",
        "doesn't name the grants on which it was made",
    ] {
        assert!(log.contains(reason), "{reason:?} is not in the log:\n{log}");
    }
}

fn state(host: &Host) -> Vec<String> {
    let rows = host.ctl(&["status", "--json"]).json();
    let rows = rows.as_array().into_iter().flatten();
    rows.map(|row| format!("{} {} {}", row["project"], row["name"], row["state"])).collect()
}

/// Sends requests of each kind that a host must refuse; returns those that it did not.
async fn refusals(keys: KeyPair, chain: Vec<Signed>, token: wire::Token, birth: Digest) -> Vec<String> {
    let mut raw = Raw::connect(keys.clone(), chain, token).await;
    let stranger = KeyPair::from_secret([77; 32]);
    let mut wrong = Vec::new();
    let mut check = |what: &str, holds: bool| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let vm = VmId { birth, name: Name::parse("vm").expect("a name") };
    let request = |order, seen_counter, chain| RunRequest {
        owner: raw.oslo,
        vm: vm.clone(),
        epoch: Epoch::FIRST,
        seen_counter,
        order,
        made_unix_ms: 1,
        chain,
    };
    let refused = |verdict: &RunVerdict| matches!(verdict, RunVerdict::Refused(_));
    let (up, down) = (RunOrder::Up, RunOrder::Down(StopLimit::Now));

    let none = Limits::default();
    let looks = passed(&raw, &stranger, &[], None, none);
    let expired = passed(&raw, &stranger, &[Verb::Start, Verb::Build], Some(1), none);
    let nothing = passed(&raw, &stranger, &[Verb::Build, Verb::Start], None, Limits { vms: Some(0), ..none });
    let (plain, of_looks, of_expired) =
        (request(up, 0, vec![]), request(up, 0, looks.clone()), request(up, 0, expired.clone()));
    let stop = request(down, 1, vec![]);
    let of_nothing = request(up, 2, nothing.clone());

    // Not signed by whom it says.
    let payload = wire::encode_run_request(&plain);
    let forged = Arc::new(Verified::own(&keys, Domain::Request, plain.clone(), payload));
    let mut bytes = wire::encode_message(&Message::Run(forged.clone()));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    raw.bytes(bytes).await;
    // By nobody of the mesh; with grants that lack the verb, or are over.
    check("a stranger's", refused(&raw.runs(&stranger, plain.clone()).await));
    check("without the verb", refused(&raw.runs(&keys, of_looks).await));
    check("after its end", refused(&raw.runs(&keys, of_expired).await));
    // Once is allowed; a second time it was sent before.
    check("an allowed one", raw.runs(&keys, plain.clone()).await == RunVerdict::Applied);
    check("a replayed one", matches!(raw.runs(&keys, plain).await, RunVerdict::Stale { .. }));
    check("a stop", raw.runs(&keys, stop.clone()).await == RunVerdict::Applied);
    check("a replayed stop", matches!(raw.runs(&keys, stop).await, RunVerdict::Stale { .. }));

    // The same for changes of projects.
    let revision = |chain: &[Signed]| Revision {
        project: None,
        parent: None,
        label: mln_protocol::id::Label {
            owner: Name::parse("mallory").expect("a name"),
            project: Name::parse("ghost").expect("a name"),
        },
        hosts: vec![RevisionHost {
            name: Name::parse("oslo").expect("a name"),
            key: raw.oslo,
            fragment: Digest([1; 32]),
            vms: vec![RevisionVm { name: Name::parse("vm").expect("a name"), birth: None }],
        }],
        definition: Digest([1; 32]),
        consent: Consent::Majority,
        made_unix_ms: 1,
        author: "mallory".to_owned(),
        reason: "build".to_owned(),
        charge: (!chain.is_empty()).then(|| Charge {
            principal: stranger.public(),
            grants: chain.iter().map(|link| Digest::of(&link.payload)).collect(),
            amount: Amount { memory_mib: 1, vms: 1, disk_bytes: 0 },
        }),
        keep_removed_ms: 0,
        decision: None,
    };
    let revisions = [
        ("a stranger's ask", "grant", &stranger, revision(&[]), vec![]),
        ("an ask without the verb", "grant", &keys, revision(&looks), looks.clone()),
        ("an ask after its end", "grant", &keys, revision(&expired), expired),
        ("an ask that hides its grants", "malformed", &keys, revision(&[]), nothing.clone()),
        ("an ask over the limit", "grant-limit", &keys, revision(&nothing), nothing.clone()),
    ];
    for (what, rule, signer, revision, chain) in revisions {
        let found = raw.asks(signer, revision, chain).await;
        check(&format!("{what}: {found:?}"), found.as_deref() == Some(rule));
    }
    // And after eve has taken the grant back.
    let revocation =
        mln_protocol::trust::Revocation { chain: nothing, made_unix_ms: 2, reason: String::new() };
    let record = wire::sign_record(&keys, Record::Revocation(revocation));
    raw.has_told(record).await;
    // What only a newer host knows is kept for those that know it.
    let later = Later { kind: 1_000, slot: [1; 32], counter: 1, rest: b"who knows".to_vec() };
    raw.has_told(wire::sign_record(&keys, Record::Later(later))).await;
    check("a revoked one", refused(&raw.runs(&keys, of_nothing).await));
    drop(tokio::time::timeout(Duration::from_secs(5), raw.mesh.stop()).await);
    wrong
}
