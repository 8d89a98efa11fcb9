//! The bytes of every kind of message in version 1: they may never change under that version.
//!
//! `UPDATE_GOLDEN=1` rewrites the file; a line of it that changes needs a new `hello::VERSION_NEWEST`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use mln_link::message::{
    AgentVersion, Bandwidth, Build, Change, ChangeConsent, ChangeContent, Consider, Console, DaemonStatusRow,
    Definition, DoctorRow, Evacuate, EvacuateBut, Evacuation, EvacuationRefused, EvacuationRow, EventReading,
    EventRow, Events, Exec, ExecExit, Existing, Export, ExportImages, ExportPart, Failure, FileHead,
    ForwardRow, GarbageKind, GarbageReport, GarbageRow, GaugeRow, GaugeValue, GcMode, HostLiveness, Import,
    KeptRow, LanRow, LeftOut, LogExtent, Logs, NatState, OnFailure, OperatorToken, OutputStream, OutsideRow,
    OwnerHeard, Package, PeerLink, PeerRow, Plan, PlanRow, PlanSign, PortProtocol, Progress, ProjectRef,
    ProjectRow, ProjectSelection, Refusal, Removal, Remove, Revised, RevisionRef, RevisionRow,
    RevisionStanding, Role, Room, Silence, Snapshot, SnapshotOrder, SnapshotPart, SnapshotRow, SnapshotStep,
    Start, StartupRow, Status, StatusRow, StatusWait, Step, StepState, Stop, StopManner, TakeOver, Target,
    TemplateChoice, TemplateHostRow, TemplatePull, TemplatePush, TemplateRecipe, TemplateRemoval,
    TemplateRemove, TemplateRow, Terminal, TerminalSize, Token, UnsettledRow, Verdict, VmRef, VmState,
    WaitFor,
};
use mln_link::{Input, Reply, Request};
use mln_protocol::id::{Name, hex};
use mln_protocol::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;

const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

fn target() -> Target {
    let project = ProjectRef { owner: Some(name("anna")), project: name("ring") };
    Target { projects: ProjectSelection::One(project), vms: vec![name("r1")] }
}

fn requests() -> Vec<Request> {
    let project = ProjectRef { owner: None, project: name("ring") };
    vec![
        Request::Version,
        Request::Build(Build {
            source: "s".to_owned(),
            vars: vec![("k".to_owned(), "v".to_owned())],
            files: vec![FileHead { from: "f".to_owned(), mode: 0o644, bytes: 2 }],
            existing: Existing::Replace,
            on_failure: OnFailure::Keep,
        }),
        Request::Start(Start { target: target(), pause_ms: 3 }),
        Request::Stop(Stop {
            target: Target { projects: ProjectSelection::All, vms: vec![] },
            pause_ms: 0,
            manner: StopManner::AskThenKill { after_ms: 5 },
        }),
        Request::Remove(Remove { project: project.clone(), removal: Removal::Forced }),
        Request::Status(Status {
            target: target(),
            wait: Some(StatusWait { until: WaitFor::Down, timeout_ms: Some(9) }),
        }),
        Request::DaemonStatus { group: Some(name("lab")) },
        Request::List,
        Request::Exec(Exec {
            vm: VmRef { project: project.clone(), vm: name("r1") },
            argv: vec!["ls".to_owned()],
        }),
        Request::Peers,
        Request::TokenNew { role: Role::Host, ttl_s: 60 },
        Request::TemplateBuild { name: name("mini") },
        Request::TemplateAdd { name: name("mini"), bytes: 7 },
        Request::TemplateList,
        Request::OperatorToken(OperatorToken { ttl_s: 60, verbs: 129, name: Some(name("anna")) }),
        Request::PeersLan,
        Request::TemplatePeers,
        Request::TemplatePull(TemplatePull {
            template: TemplateChoice::Newest(name("mini")),
            from: Some(name("oslo")),
        }),
        Request::TemplatePush(TemplatePush {
            template: TemplateChoice::Version(name("mini"), name("1")),
            to: name("oslo"),
        }),
        Request::TemplateTake(TemplateChoice::Digest("d".to_owned())),
        Request::TemplateRemove(TemplateRemove {
            template: TemplateChoice::Newest(name("mini")),
            removal: TemplateRemoval::Forced,
        }),
        Request::Gc(GcMode::Free),
        Request::Events(Events {
            last: 20,
            project: Some(ProjectRef { owner: None, project: name("ring") }),
            reading: EventReading::Follow,
        }),
        Request::Doctor,
        Request::Terminal(Terminal {
            vm: VmRef { project: project.clone(), vm: name("r1") },
            argv: vec!["vi".to_owned()],
            term: "xterm".to_owned(),
            size: SIZE,
        }),
        Request::Console(Console {
            vm: VmRef { project: project.clone(), vm: name("r1") },
            lines: 7,
            term: "xterm".to_owned(),
            size: SIZE,
        }),
        Request::Logs(Logs { vm: VmRef { project, vm: name("r1") }, lines: 7, extent: LogExtent::Follow }),
        Request::TemplateRecipe(TemplateRecipe {
            recipe: name("debian"),
            name: name("web"),
            packages: vec![Package::parse("apache2").expect("a package")],
        }),
        Request::Plan(change(ChangeContent::Text {
            source: "s".to_owned(),
            vars: vec![("k".to_owned(), "v".to_owned())],
            files: vec![FileHead { from: "f".to_owned(), mode: 0o644, bytes: 2 }],
        })),
        Request::Upgrade(change(ChangeContent::Edited { source: "s".to_owned() })),
        Request::Upgrade(change(ChangeContent::Revision(Some("3".to_owned())))),
        Request::Upgrade(change(ChangeContent::Head("ab".to_owned()))),
        Request::Log(ProjectRef { owner: None, project: name("ring") }),
        Request::Definition(ProjectRef { owner: None, project: name("ring") }),
        Request::Consider(Consider { message: b"ab".to_vec() }),
        Request::ConfirmKey,
        Request::Evacuate(Evacuate { host: name("oslo"), direction: Evacuation::Back }),
        Request::TakeOver(TakeOver {
            vm: VmRef { project: ProjectRef { owner: None, project: name("ring") }, vm: name("r1") },
            owner_heard: OwnerHeard::Force,
        }),
        Request::EvacuateBut(EvacuateBut {
            host: name("oslo"),
            refused: vec![EvacuationRefused {
                owner: name("anna"),
                project: name("ring"),
                by: name("bergen"),
            }],
        }),
        Request::Room,
        Request::Snapshot(Snapshot { project: ring(), order: SnapshotOrder::Take(name("s")) }),
        Request::Snapshot(Snapshot { project: ring(), order: SnapshotOrder::List }),
        Request::SnapshotPart(SnapshotPart {
            project: ring(),
            name: Some(name("s")),
            step: SnapshotStep::List,
            hosts: vec![name("oslo")],
        }),
        Request::Export(Export { project: ring(), snapshot: Some(name("s")), images: ExportImages::Along }),
        Request::ExportPart(ExportPart { project: ring(), snapshot: name("s") }),
        Request::Import(Import {
            project: name("ring"),
            source: "t".to_owned(),
            vars: vec![("n".to_owned(), "v".to_owned())],
            images: ExportImages::Named,
        }),
        Request::Bandwidth(Bandwidth { project: ring(), vms: vec![name("a")], bits_per_s: Some(8_000_000) }),
        Request::Gauges(target()),
    ]
}

fn ring() -> ProjectRef {
    ProjectRef { owner: None, project: name("ring") }
}

fn change(content: ChangeContent) -> Change {
    Change {
        project: Some(ProjectRef { owner: None, project: name("ring") }),
        content,
        consent: ChangeConsent::Partial,
        left_out: LeftOut::Stop,
        from_head: Some("h".to_owned()),
        seen: Some("d".to_owned()),
        reason: "r".to_owned(),
        keep_removed_ms: 5,
    }
}

fn revision() -> RevisionRef {
    RevisionRef { number: 2, digest: "d".to_owned() }
}

fn replies() -> Vec<Reply> {
    let status = |state| StatusRow {
        owner: name("anna"),
        project: name("ring"),
        vm: name("r1"),
        host: name("oslo"),
        state,
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        since_ms: Some(1),
        age_ms: 2,
    };
    let peer = |link| PeerRow {
        name: Some(name("oslo")),
        key: "k".to_owned(),
        addresses: vec!["a".to_owned()],
        link,
        version: None,
    };
    vec![
        Reply::Done,
        Reply::Progress(Progress {
            project: None,
            vm: Some(name("r1")),
            host: Some(name("oslo")),
            step: Step::Template,
            state: StepState::Failed,
            detail: "d".to_owned(),
        }),
        Reply::Warning { text: "w".to_owned() },
        Reply::Refused(Refusal {
            host: Some(name("oslo")),
            vm: None,
            rule: "memory".to_owned(),
            text: "t".to_owned(),
            who_can_change: Some("w".to_owned()),
        }),
        Reply::Failed(Failure {
            what: "w".to_owned(),
            host: None,
            vm: Some(name("r1")),
            why: "y".to_owned(),
            console_tail: vec!["c".to_owned()],
            next: vec!["n".to_owned()],
        }),
        Reply::Silent(Silence { host: name("oslo"), text: "t".to_owned() }),
        Reply::Version(AgentVersion {
            agent: "0.1.0".to_owned(),
            host: name("oslo"),
            key: "k".to_owned(),
            mesh: "m".to_owned(),
        }),
        Reply::Status(vec![
            status(VmState::Up),
            status(VmState::Down { exit_status: Some(1) }),
            status(VmState::Building),
            status(VmState::Starting),
            status(VmState::Stopping),
            status(VmState::Failed { why: "y".to_owned() }),
            status(VmState::Unknown),
        ]),
        Reply::DaemonStatus(vec![DaemonStatusRow {
            name: name("oslo"),
            projects: 1,
            vms: 2,
            memory_used_mib: 3,
            memory_available_mib: 4,
            groups: vec![name("lab")],
            age_ms: 5,
            liveness: HostLiveness::Gone,
        }]),
        Reply::Projects(vec![ProjectRow {
            owner: name("anna"),
            project: name("ring"),
            id: "i".to_owned(),
            revisions: 1,
            hosts: 2,
            vms: 3,
            vms_up: 4,
        }]),
        Reply::Peers(vec![
            peer(PeerLink::Connected { round_trip_us: Some(1), since_ms: 2 }),
            peer(PeerLink::Lost { last_seen_ms: 3 }),
            peer(PeerLink::Never),
        ]),
        Reply::Templates(vec![TemplateRow {
            name: name("mini"),
            version: "1".to_owned(),
            digest: "d".to_owned(),
            bytes: 1,
            bytes_on_disk: 2,
            created_unix_ms: 3,
        }]),
        Reply::Token(Token { text: "t".to_owned(), expires_unix_ms: 1 }),
        Reply::Output { stream: OutputStream::Stderr, bytes: b"ab".to_vec() },
        Reply::Exited(ExecExit::Status(7)),
        Reply::Exited(ExecExit::Signal(9)),
        Reply::Window { bytes: 1 },
        Reply::Outside(vec![OutsideRow {
            owner: name("anna"),
            project: name("ring"),
            vm: name("r1"),
            nat: Some(NatState::None { why: "w".to_owned() }),
            forwards: vec![ForwardRow { host_port: 1, guest_port: 2, protocol: PortProtocol::Udp }],
        }]),
        Reply::Lan(vec![LanRow {
            name: Some(name("oslo")),
            key: "k".to_owned(),
            member: true,
            addresses: vec!["a".to_owned()],
            age_ms: 3,
        }]),
        Reply::TemplateHosts(vec![TemplateHostRow {
            host: "oslo".to_owned(),
            template: TemplateRow {
                name: name("mini"),
                version: "1".to_owned(),
                digest: "d".to_owned(),
                bytes: 1,
                bytes_on_disk: 2,
                created_unix_ms: 3,
            },
        }]),
        Reply::Garbage(GarbageReport {
            rows: vec![GarbageRow {
                kind: GarbageKind::Part,
                file: "f".to_owned(),
                bytes: 1,
                since_unix_ms: 2,
            }],
            bytes_left: 3,
            limit_bytes: Some(4),
        }),
        Reply::Events(vec![EventRow {
            unix_ms: 1,
            host: "h".to_owned(),
            kind: "k".to_owned(),
            project: Some("p".to_owned()),
            vm: Some("v".to_owned()),
            rule: Some("r".to_owned()),
            status: Some("s".to_owned()),
            text: "t".to_owned(),
        }]),
        Reply::Doctor(vec![DoctorRow {
            name: "n".to_owned(),
            verdict: Verdict::Warn,
            finding: "f".to_owned(),
            fix: Some("x".to_owned()),
        }]),
        Reply::Plan(Plan {
            owner: name("anna"),
            project: name("ring"),
            head: Some(revision()),
            hosts: vec![name("oslo")],
        }),
        Reply::PlanRows(vec![PlanRow {
            hosts: vec![name("oslo")],
            sign: PlanSign::Moved,
            kind: "host".to_owned(),
            name: Some(name("r1")),
            key: Some("memory".to_owned()),
            from: Some("64M".to_owned()),
            to: None,
            act: "reboot".to_owned(),
            why: "w".to_owned(),
        }]),
        Reply::Revised(Revised {
            owner: name("anna"),
            project: name("ring"),
            head: revision(),
            standing: RevisionStanding::Partial,
        }),
        Reply::Revisions(vec![RevisionRow {
            revision: revision(),
            parent: Some("p".to_owned()),
            standing: RevisionStanding::Beaten,
            author: "anna at oslo".to_owned(),
            publisher: "oslo".to_owned(),
            made_unix_ms: 1,
            reason: "upgrade".to_owned(),
            hosts: vec![name("oslo")],
            vms: 2,
            added: 3,
            removed: 4,
            moved: 5,
            changed_hosts: 6,
        }]),
        Reply::Definition(Box::new(Definition {
            owner: name("anna"),
            project: name("ring"),
            revision: revision(),
            source: "s".to_owned(),
            vars: vec![("k".to_owned(), "v".to_owned())],
        })),
        Reply::Unsettled(vec![UnsettledRow {
            owner: name("anna"),
            project: name("ring"),
            partial: vec!["p".to_owned()],
            contested: vec!["c".to_owned()],
            stranded: vec![name("r1")],
        }]),
        Reply::Evacuation(vec![EvacuationRow {
            owner: name("anna"),
            project: name("ring"),
            vm: name("r1"),
            from: name("oslo"),
            to: name("bergen"),
            back_to: Some("d".to_owned()),
        }]),
        Reply::Progress(Progress {
            project: None,
            vm: None,
            host: None,
            step: Step::TakeOver,
            state: StepState::Begun,
            detail: String::new(),
        }),
        Reply::Room(Room { memory_mib: 7 }),
        Reply::Snapshots(vec![SnapshotRow {
            owner: name("anna"),
            project: name("ring"),
            name: name("s"),
            host: name("oslo"),
            hosts: vec![name("oslo")],
            vms: vec![name("r1")],
            bytes: 1,
            taken_unix_ms: 2,
        }]),
        Reply::Kept(vec![KeptRow {
            owner: name("anna"),
            project: name("ring"),
            vm: name("r1"),
            host: name("oslo"),
            age_ms: 1,
            left_ms: 2,
        }]),
        Reply::Startup(vec![StartupRow { owner: name("anna"), project: name("ring"), vm: name("r1") }]),
        Reply::Gauges(vec![GaugeRow {
            owner: name("anna"),
            project: name("ring"),
            vm: name("r1"),
            gauge: name("load"),
            values: vec![GaugeValue { ago_ms: 1, value: "1.5".to_owned() }],
        }]),
    ]
}

fn inputs() -> Vec<Input> {
    vec![Input::Bytes(b"ab".to_vec()), Input::End, Input::Signal(15), Input::Resize(SIZE)]
}

/// Returns a line per message: its kind and its bytes; each must come back from its bytes.
fn lines<T>(kind: &str, messages: Vec<T>) -> Vec<String>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let line = |message: T| {
        let bytes = wire::encode(&message);
        assert_eq!(wire::decode::<T>(&bytes, wire::MESSAGE_BYTES_MAX).as_ref(), Ok(&message));
        let shown = format!("{message:?}");
        let word = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        format!("{kind} {word} {}\n", hex(&bytes))
    };
    messages.into_iter().map(line).collect()
}

#[test]
fn the_bytes_of_version_1_never_change() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/link/golden/v1.txt");
    let now: String =
        [lines("request", requests()), lines("reply", replies()), lines("input", inputs())].concat().concat();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file is committed");
    for (golden, now) in golden.lines().zip(now.lines()) {
        assert_eq!(golden, now);
    }
    assert_eq!(golden, now, "a kind of message was added or taken away");
}
