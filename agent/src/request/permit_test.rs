use std::collections::BTreeSet;

use mln_link::message::{
    Bandwidth, Build, Change, ChangeContent, Consider, Console, Evacuate, EvacuateBut, Evacuation,
    EventReading, Events, Exec, ExportPart, GcMode, GrantOrder, LogExtent, Logs, OnFailure, OperatorToken,
    OwnerHeard, Remove, Revoke, SnapshotPart, Status, StopManner, TakeOver, Target, TemplateChoice,
    TemplatePull, TemplatePush, TemplateRecipe, TemplateRemoval, TemplateRemove, Terminal, TerminalSize,
};
use serde::Deserialize;
use serde::de::{self, Visitor, value::Error};

use super::*;

/// Tells the names of an enum's variants, and reads nothing.
struct Variants<'a>(&'a mut BTreeSet<&'static str>);

impl<'de> de::Deserializer<'de> for Variants<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("this is no enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(variants);
        Err(de::Error::custom("only its variants are wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A request, what somebody needs to ask for it, whether an agent may pass it on for its operator, and what of the mesh
/// it is about.
type Row = (Request, &'static [Verb], bool, &'static str);

/// One row and more for each request there is.
fn table() -> Vec<Row> {
    use Verb::{Build as B, Console as C, Exec as E, Grant as G, Join as J, Partial as P, Remove as R};
    use Verb::{Start as S, Stop as D, Takeover as K, Template as T, Upgrade as U, View as V};
    let mini = || Name::parse("mini").expect("a name");
    let ring = || ProjectRef::parse("ring").expect("a project");
    let vm = || VmRef::parse("ring/router1").expect("a project and a VM");
    let size = TerminalSize { rows: 24, columns: 80 };
    let argv = || vec!["true".to_owned()];
    let one = || Target { projects: ProjectSelection::One(ring()), vms: Vec::new() };
    let newest = || TemplateChoice::Newest(mini());
    let remove = |removal| Request::Remove(Remove { project: ring(), removal });
    let change = |project: Option<ProjectRef>, consent, left_out| Change {
        project,
        content: ChangeContent::Revision(None),
        consent,
        left_out,
        from_head: None,
        seen: None,
        reason: String::new(),
        keep_removed_ms: 0,
    };
    let (all, majority, partial) = (target, ChangeConsent::Majority, ChangeConsent::Partial);
    let upgrade = |consent, left_out| Request::Upgrade(change(Some(ring()), consent, left_out));
    let recipe = TemplateRecipe { recipe: mini(), name: mini(), packages: Vec::new() };
    let order = GrantOrder {
        to: "bob".to_owned(),
        name: None,
        verbs: 1,
        projects: Vec::new(),
        hosts: Vec::new(),
        memory_mib: None,
        vms: None,
        disk_bytes: None,
        valid_ms: None,
        passes: 0,
    };
    vec![
        (Request::Version, &[V], false, "mesh"),
        (build(Existing::Refuse), &[B], false, "changed"),
        (build(Existing::Replace), &[B, R], false, "changed"),
        (build(Existing::ReplaceRunning), &[B, D, R], false, "changed"),
        (Request::Start(Start { target: one(), pause_ms: 0 }), &[S], false, "project"),
        (Request::Start(Start { target: all(), pause_ms: 0 }), &[S], false, "all projects"),
        (Request::Stop(Stop { target: one(), pause_ms: 0, manner: StopManner::Ask }), &[D], false, "project"),
        (
            Request::Stop(Stop { target: all(), pause_ms: 0, manner: StopManner::Ask }),
            &[D],
            false,
            "all projects",
        ),
        (remove(Removal::Stopped), &[R], false, "project"),
        (remove(Removal::Forced), &[R, D], false, "project"),
        (Request::Status(Status { target: all(), wait: None }), &[V], false, "mesh"),
        (Request::DaemonStatus { group: None }, &[V], false, "mesh"),
        (Request::List, &[V], false, "mesh"),
        (exec(), &[E], true, "inside"),
        (Request::Peers, &[V], false, "mesh"),
        (Request::TokenNew { role: Role::Host, ttl_s: 60 }, &[G, J], false, "mesh"),
        (Request::TemplateBuild { name: mini() }, &[T], false, "host"),
        (Request::TemplateAdd { name: mini(), bytes: 1 }, &[T], false, "host"),
        (Request::TemplateList, &[V], false, "mesh"),
        (Request::OperatorToken(OperatorToken { ttl_s: 60, verbs: 1, name: None }), &[G], false, "mesh"),
        (Request::PeersLan, &[V], false, "mesh"),
        (Request::TemplatePeers, &[V], false, "mesh"),
        (Request::TemplatePull(TemplatePull { template: newest(), from: None }), &[T], false, "host"),
        (Request::TemplatePush(TemplatePush { template: newest(), to: mini() }), &[T], false, "host"),
        (Request::TemplateTake(newest()), &[T], true, "host"),
        (
            Request::TemplateRemove(TemplateRemove { template: newest(), removal: TemplateRemoval::Unused }),
            &[T],
            false,
            "host",
        ),
        (Request::Gc(GcMode::Show), &[T], false, "host"),
        (
            Request::Events(Events { last: 1, project: None, reading: EventReading::Follow }),
            &[V],
            false,
            "everything",
        ),
        (Request::Doctor, &[V], false, "mesh"),
        (
            Request::Terminal(Terminal { vm: vm(), argv: argv(), term: "xterm".to_owned(), size }),
            &[E],
            true,
            "inside",
        ),
        (
            Request::Console(Console { vm: vm(), lines: 1, term: "xterm".to_owned(), size }),
            &[C],
            true,
            "inside",
        ),
        (Request::Logs(Logs { vm: vm(), lines: 1, extent: LogExtent::Present }), &[C], true, "inside"),
        (Request::TemplateRecipe(recipe), &[T], false, "host"),
        (Request::Plan(change(None, partial, LeftOut::Stop)), &[V], false, "changed"),
        (Request::Plan(change(Some(ring()), majority, LeftOut::Refuse)), &[V], false, "project"),
        (Request::Upgrade(change(None, majority, LeftOut::Refuse)), &[U], false, "changed"),
        (upgrade(majority, LeftOut::Stop), &[U, D], false, "project"),
        (upgrade(partial, LeftOut::Refuse), &[U, P], false, "project"),
        (upgrade(partial, LeftOut::Stop), &[U, P, D], false, "project"),
        (Request::Gauges(Target { projects: ProjectSelection::All, vms: Vec::new() }), &[V], false, "mesh"),
        (Request::Log(ring()), &[V], false, "project"),
        (Request::Definition(ring()), &[V], false, "project"),
        (Request::Consider(Consider { message: Vec::new() }), &[V], true, "changed"),
        (Request::Grant(order), &[G], false, "mesh"),
        (Request::Grants, &[V], false, "mesh"),
        (Request::Revoke(Revoke { whom: "bob".to_owned(), reason: String::new() }), &[G], false, "mesh"),
        (Request::Revocation(Vec::new()), &[V], false, "mesh"),
        (Request::ConfirmKey, &[K], false, "host"),
        (Request::Evacuate(Evacuate { host: mini(), direction: Evacuation::Away }), &[V], false, "mesh"),
        (Request::EvacuateBut(EvacuateBut { host: mini(), refused: Vec::new() }), &[V], false, "mesh"),
        (Request::Room, &[V], true, "mesh"),
        (Request::TakeOver(TakeOver { vm: vm(), owner_heard: OwnerHeard::Refuse }), &[K], true, "project"),
        (snapshot(SnapshotOrder::List), &[V], false, "project"),
        (snapshot(SnapshotOrder::Take(mini())), &[U], false, "project"),
        (snapshot(SnapshotOrder::Restore(mini())), &[U], false, "project"),
        (snapshot(SnapshotOrder::Remove(mini())), &[U], false, "project"),
        (snapshot_part(SnapshotStep::List), &[V], true, "project"),
        (snapshot_part(SnapshotStep::Copy), &[U], true, "project"),
        (export(Some(mini())), &[E], false, "project"),
        (export(None), &[E, U], false, "project"),
        (Request::ExportPart(ExportPart { project: lab(), snapshot: mini() }), &[E], true, "project"),
        (import(ExportImages::Named), &[B], false, "changed"),
        (import(ExportImages::Along), &[B, T], false, "changed"),
        (
            Request::Bandwidth(Bandwidth { project: lab(), vms: Vec::new(), bits_per_s: None }),
            &[U],
            true,
            "project",
        ),
    ]
}

fn export(snapshot: Option<Name>) -> Request {
    Request::Export(Export { project: lab(), snapshot, images: ExportImages::Along })
}

fn import(images: ExportImages) -> Request {
    let project = Name::parse("lab").expect("a name");
    Request::Import(Import { project, source: String::new(), vars: Vec::new(), images })
}

fn lab() -> ProjectRef {
    ProjectRef { owner: None, project: Name::parse("lab").expect("a name") }
}

fn snapshot(order: SnapshotOrder) -> Request {
    Request::Snapshot(Snapshot { project: lab(), order })
}

fn snapshot_part(step: SnapshotStep) -> Request {
    Request::SnapshotPart(SnapshotPart { project: lab(), name: None, step, hosts: Vec::new() })
}

fn word(reach: Reach<'_>) -> &'static str {
    match reach {
        Reach::Mesh => "mesh",
        Reach::Changed => "changed",
        Reach::AllProjects => "all projects",
        Reach::Everything => "everything",
        Reach::Project(_) => "project",
        Reach::Inside(_) => "inside",
        Reach::Host => "host",
    }
}

/// Whoever adds a request says here who may ask for it: a request without a row fails this.
#[test]
fn every_request_has_its_rights() {
    let mut all = BTreeSet::new();
    assert!(Request::deserialize(Variants(&mut all)).is_err());
    let name_of = |request: &Request| {
        let text = format!("{request:?}");
        let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
        text[..end].to_owned()
    };
    let rows: BTreeSet<String> = table().iter().map(|(request, ..)| name_of(request)).collect();
    let missing: Vec<_> = all.iter().filter(|name| !rows.contains(**name)).collect();
    assert!(missing.is_empty(), "no row here for {missing:?}");
    assert_eq!(rows.len(), all.len());

    let every: Verbs = Verb::ALL.into_iter().collect();
    let key = PublicKey([1; 32]);
    for (request, needed, passed_on, about) in table() {
        let exactly: Verbs = needed.iter().copied().collect();
        check(needed, &request, None);
        for verb in needed {
            let less: Vec<Verb> = needed.iter().copied().filter(|other| other != verb).collect();
            check(&less, &request, Some(&format!("no {}", verb.word())));
            let all_but: Vec<Verb> = Verb::ALL.into_iter().filter(|other| other != verb).collect();
            check(&all_but, &request, Some(&format!("no {}", verb.word())));
        }
        // Over another agent: only what it may do itself, and whom it asks for may do, too.
        let peer = operator(Origin::Peer { key });
        assert_eq!(judge(&peer, &request, Some(every)).is_ok(), passed_on, "{request:?}");
        assert_eq!(judge(&peer, &request, Some(exactly)).is_ok(), passed_on, "{request:?}");
        assert!(judge(&peer, &request, Some(Verbs::default())).is_err(), "{request:?}");
        assert!(judge(&peer, &request, None).is_err(), "{request:?}");
        let socket = operator(Origin::Socket { uid: 0 });
        assert_eq!(judge(&socket, &request, None), Ok(()), "the socket has been judged: {request:?}");
        assert_eq!(word(reach(&request)), about, "{request:?}");
    }
}

fn operator(origin: Origin) -> Operator {
    Operator::of_host(Name::parse("anna").expect("a name"), origin)
}

fn with(verbs: &[Verb]) -> Operator {
    operator(Origin::Operator { key: PublicKey([2; 32]), verbs: verbs.iter().copied().collect() })
}

fn target() -> Target {
    Target { projects: ProjectSelection::All, vms: Vec::new() }
}

fn exec() -> Request {
    let vm = VmRef::parse("ring/router1").expect("a project and a VM");
    Request::Exec(Exec { vm, argv: vec!["true".to_owned()] })
}

fn build(existing: Existing) -> Request {
    let (source, vars, files) = (String::new(), Vec::new(), Vec::new());
    Request::Build(Build { source, vars, files, existing, on_failure: OnFailure::Undo })
}

#[track_caller]
fn check(verbs: &[Verb], request: &Request, expect: Option<&str>) {
    let judged = judge(&with(verbs), request, None).map_err(|refusal| refusal.text);
    match expect {
        None => assert_eq!(judged, Ok(()), "{}", request.word()),
        Some(words) => {
            let text = judged.expect_err("it is not granted");
            assert!(text.contains(words), "{text}");
        }
    }
}

#[test]
fn an_operator_may_ask_for_what_their_verbs_allow() {
    let stop = Request::Stop(Stop { target: target(), pause_ms: 0, manner: StopManner::Ask });
    let start = Request::Start(Start { target: target(), pause_ms: 0 });
    let project = ProjectRef::parse("ring").expect("a project");
    let remove = |removal| Request::Remove(Remove { project: project.clone(), removal });
    let view = [Verb::View];
    for request in [Request::Version, Request::List, Request::Peers, Request::PeersLan, Request::TemplateList]
    {
        check(&view, &request, None);
        check(&[Verb::Exec], &request, Some("no view"));
    }
    check(&view, &stop, Some("anna may not stop: the grant has no stop; it has view"));
    check(&view, &start, Some("no start"));
    check(&view, &exec(), Some("no exec"));
    check(&[Verb::View, Verb::Exec], &exec(), None);
    check(&[Verb::Build], &build(Existing::Refuse), None);
    check(&[Verb::Build], &build(Existing::Replace), Some("no remove"));
    check(&[Verb::Build, Verb::Remove], &build(Existing::ReplaceRunning), Some("no stop"));
    check(&[Verb::Remove], &remove(Removal::Stopped), None);
    check(&[Verb::Remove], &remove(Removal::Forced), Some("no stop"));
    let name = Name::parse("mini").expect("a name");
    check(&view, &Request::TemplateBuild { name }, Some("no template"));
}

#[test]
fn an_operator_makes_no_hosts_and_invites_only_where_that_is_granted() {
    let host = Request::TokenNew { role: Role::Host, ttl_s: 60 };
    let token = Request::OperatorToken(OperatorToken { ttl_s: 60, verbs: 1, name: None });
    let all_but_join: Vec<Verb> = Verb::ALL.into_iter().filter(|verb| *verb != Verb::Join).collect();
    check(&all_but_join, &host, Some("no join"));
    check(&all_but_join, &token, None);
    check(&[Verb::View], &token, Some("no grant"));
}

#[test]
fn another_agent_may_pass_on_commands_within_its_own_grant_and_nothing_else() {
    let peer = operator(Origin::Peer { key: PublicKey([1; 32]) });
    let all: Verbs = Verb::ALL.into_iter().collect();
    let no_exec: Verbs = [Verb::View, Verb::Join].into_iter().collect();
    assert_eq!(judge(&peer, &exec(), Some(all)), Ok(()));
    let vm = VmRef::parse("ring/router1").expect("a project and a VM");
    let logs = Request::Logs(Logs { vm, lines: 1, extent: LogExtent::Present });
    assert_eq!(judge(&peer, &logs, Some(all)), Ok(()));
    assert!(judge(&peer, &logs, Some(no_exec)).is_err(), "a console may show secrets");
    assert!(judge(&peer, &exec(), Some(no_exec)).is_err(), "no privilege grows by passing on");
    assert!(judge(&peer, &exec(), None).is_err(), "a host that is not connected vouches for nobody");
    let token = Request::TokenNew { role: Role::Host, ttl_s: 60 };
    for request in [token.clone(), Request::List, Request::TemplateList, Request::Version] {
        assert!(judge(&peer, &request, Some(all)).is_err(), "{}", request.word());
    }
    assert_eq!(judge(&operator(Origin::Socket { uid: 0 }), &token, None), Ok(()));
}
