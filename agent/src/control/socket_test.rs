//! The control socket with real connections.

use mln_link::message::{Build, Existing, FileHead, OnFailure, ProjectRow, Request};
use mln_link::{Client, Reply, connect};
use mln_protocol::id::{Name, PublicKey};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::super::serve::{CONTROL_COMMANDS_WAITING_MAX, serve};
use super::super::upload::BUILD_FILES_BYTES_MAX;
use super::super::{ControlCommand, Operator, Origin};
use super::*;

fn locked_folder() -> (TempDir, DataFolderLock) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lock = DataFolderLock::take(folder.path()).expect("nobody else uses it");
    (folder, lock)
}

/// A running control socket, and what arrives there.
async fn listening() -> (TempDir, PathBuf, mpsc::Receiver<ControlCommand>) {
    let (folder, lock) = locked_folder();
    let socket = ControlSocket::bind(&lock, None).await.expect("a fresh folder");
    let path = socket.path().to_owned();
    let (commands, arriving) = mpsc::channel(CONTROL_COMMANDS_WAITING_MAX);
    tokio::spawn(async move {
        let _lock = lock;
        socket.run(commands).await;
    });
    (folder, path, arriving)
}

fn build_of(files: Vec<FileHead>) -> Request {
    Request::Build(Build {
        source: "global { project ring }".to_owned(),
        vars: Vec::new(),
        files,
        existing: Existing::Refuse,
        on_failure: OnFailure::Undo,
    })
}

fn head(from: &str, bytes: u64) -> FileHead {
    FileHead { from: from.to_owned(), mode: 0o600, bytes }
}

async fn first_reply(request: Request, path: &Path) -> Reply {
    let client = connect(path).await.expect("an agent listens");
    let (_input, mut replies) = client.request(&request).await.expect("sent");
    replies.next().await.expect("an answer").expect("more than the end")
}

#[tokio::test]
async fn a_request_reaches_the_event_loop_with_who_asked_and_is_answered() {
    let (_folder, path, mut arriving) = listening().await;
    let event_loop = async {
        let command = arriving.recv().await.expect("a command");
        let row = ProjectRow {
            owner: command.operator.name.clone(),
            project: Name::parse("ring").expect("a name"),
            id: "0".repeat(64),
            revisions: 1,
            hosts: 3,
            vms: 3,
            vms_up: 0,
        };
        command.reply.finish(Reply::Projects(vec![row])).expect("the client listens");
        (command.request, command.operator)
    };
    let (reply, (request, operator)) = tokio::join!(first_reply(Request::List, &path), event_loop);
    assert_eq!(request, Request::List);
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(operator.origin, Origin::Socket { uid });
    assert!(matches!(reply, Reply::Projects(rows) if rows[0].owner == operator.name));
}

#[tokio::test]
async fn the_files_of_a_build_arrive_before_the_event_loop_sees_it() {
    let (_folder, path, mut arriving) = listening().await;
    let big = mln_link::INPUT_WINDOW_BYTES as u64 * 2;
    let client = async {
        let client = connect(&path).await.expect("an agent listens");
        let request = build_of(vec![head("motd", 5), head("big", big)]);
        let (mut input, mut replies) = client.request(&request).await.expect("sent");
        let send = async {
            input.bytes(b"hello").await.expect("the agent reads");
            input.bytes(&vec![1; usize::try_from(big).expect("small")]).await.expect("the agent reads");
            input.end().await.expect("the agent reads");
        };
        tokio::join!(send, replies.next()).1.expect("a whole conversation")
    };
    let event_loop = async {
        let command = arriving.recv().await.expect("a command");
        command.reply.post(Reply::Done).expect("the client listens");
        command.files
    };
    let (end, files) = tokio::join!(client, event_loop);
    assert_eq!(end, None);
    assert_eq!(
        (files[0].from.as_str(), files[0].mode, files[0].bytes.as_slice()),
        ("motd", 0o600, &b"hello"[..])
    );
    assert_eq!(files[1].bytes.len() as u64, big);
}

#[tokio::test]
async fn a_build_with_too_many_bytes_is_refused_and_never_seen() {
    let (_folder, path, mut arriving) = listening().await;
    let reply = first_reply(build_of(vec![head("iso", BUILD_FILES_BYTES_MAX + 1)]), &path).await;
    assert!(matches!(&reply, Reply::Refused(refusal) if refusal.rule == "build-files"), "{reply:?}");
    assert!(arriving.try_recv().is_err());
}

#[tokio::test]
async fn a_client_that_is_not_permitted_is_told_so_before_it_asks() {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    let access = Access { owner_uid: 1000, group: None };
    let caller =
        super::super::access::Caller { uid: 1001, login: None, gids: std::collections::BTreeSet::new() };
    let refusal = access.judge(&caller).expect_err("a stranger");
    let (commands, mut arriving) = mpsc::channel::<ControlCommand>(1);
    let client = async {
        let client = Client::over(near).await.expect("a hello");
        let (_input, mut replies) =
            client.request(&Request::List).await.expect("a refused client can still ask");
        replies.next().await.expect("an answer")
    };
    let ((), reply) = tokio::join!(converse(far, Verdict::Refused(refusal), commands), client);
    assert!(matches!(&reply, Some(Reply::Refused(refusal)) if refusal.rule == "control-access"), "{reply:?}");
    assert!(arriving.recv().await.is_none());
}

#[tokio::test]
async fn garbage_changes_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_folder, path, mut arriving) = listening().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"mlnc\x01\x00\x01\x00\xff\xff\xff\xff",
        b"mlnc\x01\x00\x01\x00\x01\x00\x00\x00\xff",
    ] {
        let mut stream = UnixStream::connect(&path).await.expect("an agent listens");
        stream.write_all(bytes).await.expect("the agent reads");
        let mut answer = Vec::new();
        // It may be reset, since not all was read; either way it is closed.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() <= 8, "no more than a hello: {answer:?}");
    }
    assert!(arriving.try_recv().is_err());
    let reply = tokio::join!(first_reply(Request::List, &path), async {
        let command = arriving.recv().await.expect("the agent still serves");
        command.reply.finish(Reply::Projects(Vec::new())).expect("the client listens");
    })
    .0;
    assert_eq!(reply, Reply::Projects(Vec::new()));
}

#[tokio::test]
async fn another_agent_can_ask_for_its_operator() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (commands, mut arriving) = mpsc::channel::<ControlCommand>(1);
    let origin = Origin::Peer { key: PublicKey([7; 32]) };
    let operator = Operator::of_host(Name::parse("anna").expect("a name"), origin);
    let event_loop = async {
        let command = arriving.recv().await.expect("a command");
        command.reply.post(Reply::Done).expect("the client listens");
        command.operator
    };
    let client = async {
        let client = Client::over(near).await.expect("a hello");
        let (_input, mut replies) = client.request(&Request::Peers).await.expect("sent");
        replies.next().await.expect("a whole conversation")
    };
    let ((), end, seen) = tokio::join!(serve(far, operator.clone(), commands), client, event_loop);
    assert_eq!((end, seen), (None, operator));
}

#[tokio::test]
async fn an_agent_that_ends_tells_who_waits() {
    let (_folder, path, arriving) = listening().await;
    drop(arriving);
    let reply = first_reply(Request::List, &path).await;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
}

#[tokio::test]
async fn a_left_over_socket_is_replaced_and_an_answered_one_is_not() {
    let (folder, lock) = locked_folder();
    let path = place::socket_in(folder.path());
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a fresh folder"));
    assert!(path.exists(), "a crash leaves the file");
    let first = ControlSocket::bind(&lock, None).await.expect("nobody answers");
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, SOCKET_MODE);
    let second = ControlSocket::bind(&lock, None).await.expect_err("the first listens");
    assert!(matches!(second, BindError::Answered(_)), "{second}");
    drop(first);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_group_that_does_not_exist_is_an_error_and_one_that_does_owns_the_socket() {
    let (folder, lock) = locked_folder();
    let error = ControlSocket::bind(&lock, Some("no such group")).await.expect_err("no group");
    assert!(matches!(error, BindError::Group(_)), "{error}");
    assert!(!place::socket_in(folder.path()).exists());
    // A user may give its files only to its own groups.
    let gid = rustix::process::getegid().as_raw();
    let group =
        nix::unistd::Group::from_gid(gid.into()).expect("a database").expect("the group has a name").name;
    let socket = ControlSocket::bind(&lock, Some(&group)).await.expect("an existing group");
    assert_eq!(std::fs::metadata(socket.path()).expect("a socket").gid(), gid);
}
