//! Both ends of a control connection, over a unix socket pair or a pipe in memory.

use mln_link::frame::{FrameReader, write_frame};
use mln_link::message::{
    Build, Exec, ExecExit, Existing, FileHead, OnFailure, OutputStream, Progress, ProjectRef, Request, Step,
    StepState, VmRef,
};
use mln_link::{
    CHUNK_BYTES_MAX, Client, Connection, INPUT_WINDOW_BYTES, Input, LinkError, Reply, input_channel,
};
use mln_protocol::id::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

fn exec_request() -> Request {
    let vm = VmRef::parse("ring/router1").expect("a project and a VM");
    Request::Exec(Exec { vm, argv: vec!["cat".to_owned()] })
}

/// Runs a server that answers one request as `answer` says, next to `client`.
async fn converse<T>(
    answer: impl AsyncFnOnce(Request, mpsc::Sender<Reply>, mln_link::InputQueue),
    client: impl AsyncFnOnce(Client<UnixStream>) -> T,
) -> (T, Result<(), LinkError>) {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    let server = async {
        let mut connection = Connection::accept(far).await?;
        let request = connection.request().await?.expect("a request");
        let (replies, replies_out) = mpsc::channel(4);
        let (feed, queue) = input_channel();
        let ((), pumped) = tokio::join!(answer(request, replies, queue), connection.pump(replies_out, feed));
        pumped
    };
    let client = async { client(Client::over(near).await.expect("a server of this version")).await };
    tokio::join!(client, server)
}

#[tokio::test]
async fn every_field_of_a_request_and_its_replies_arrives() {
    let request = Request::Build(Build {
        source: "global { project ring }\n".to_owned(),
        vars: vec![("n".to_owned(), "3".to_owned())],
        files: vec![FileHead { from: "motd".to_owned(), mode: 0o644, bytes: 5 }],
        existing: Existing::Replace,
        on_failure: OnFailure::Keep,
    });
    let progress = Reply::Progress(Progress {
        project: Some(name("ring")),
        vm: None,
        host: Some(name("oslo")),
        step: Step::Build,
        state: StepState::Begun,
        detail: String::new(),
    });
    let (replies, pumped) = converse(
        async |got, replies, _input| {
            assert_eq!(got, request);
            replies.send(progress.clone()).await.expect("the client listens");
            replies.send(Reply::Done).await.expect("the client listens");
        },
        async |client| {
            let (_input, mut replies) = client.request(&request).await.expect("sent");
            let mut seen = Vec::new();
            while let Some(reply) = replies.next().await.expect("a whole conversation") {
                seen.push(reply);
            }
            seen
        },
    )
    .await;
    pumped.expect("a whole conversation");
    assert_eq!(replies, [progress]);
}

/// Answers `exec` of `cat`: its input comes back as output.
async fn cat(_request: Request, replies: mpsc::Sender<Reply>, mut input: mln_link::InputQueue) {
    while let Some(message) = input.next().await {
        let reply = match message {
            Input::Bytes(bytes) => Reply::Output { stream: OutputStream::Stdout, bytes },
            Input::Signal(signal) => Reply::Exited(ExecExit::Signal(signal)),
            Input::End => Reply::Exited(ExecExit::Status(0)),
            Input::Resize(_) => continue,
        };
        let exited = matches!(reply, Reply::Exited(_));
        replies.send(reply).await.expect("the client listens");
        if exited {
            break;
        }
    }
    replies.send(Reply::Done).await.expect("the client listens");
}

async fn output_of_cat(client: Client<UnixStream>, sent: Vec<u8>) -> (Vec<u8>, Option<ExecExit>) {
    let (mut input, mut replies) = client.request(&exec_request()).await.expect("sent");
    let send = async {
        input.bytes(&sent).await.expect("the server reads");
        input.end().await.expect("the server reads");
    };
    let receive = async {
        let (mut output, mut exit) = (Vec::new(), None);
        while let Some(reply) = replies.next().await.expect("a whole conversation") {
            match reply {
                Reply::Output { bytes, .. } => output.extend(bytes),
                Reply::Exited(how) => exit = Some(how),
                other => panic!("unexpected {other:?}"),
            }
        }
        (output, exit)
    };
    tokio::join!(send, receive).1
}

#[tokio::test]
async fn input_far_beyond_the_window_comes_back_whole() {
    let sent: Vec<u8> =
        (0..INPUT_WINDOW_BYTES * 5 + 7).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
    let (got, pumped) = converse(cat, async |client| output_of_cat(client, sent.clone()).await).await;
    pumped.expect("a whole conversation");
    assert_eq!(got.1, Some(ExecExit::Status(0)));
    assert!(got.0 == sent, "{} of {} bytes came back", got.0.len(), sent.len());
}

#[tokio::test]
async fn a_signal_passes_input_that_nobody_reads() {
    let (exit, pumped) = converse(
        async |_request, replies, mut input| {
            let signal = input.signal().await.expect("the client is there");
            replies.send(Reply::Exited(ExecExit::Signal(signal))).await.expect("the client listens");
            replies.send(Reply::Done).await.expect("the client listens");
        },
        async |client| {
            let (mut input, mut replies) = client.request(&exec_request()).await.expect("sent");
            input.bytes(&vec![0; INPUT_WINDOW_BYTES]).await.expect("within the window");
            let more = tokio::time::timeout(std::time::Duration::ZERO, input.ready()).await;
            assert!(more.is_err(), "the window is used up");
            input.signal(9).await.expect("signals need no window");
            replies.next().await.expect("a whole conversation")
        },
    )
    .await;
    pumped.expect("a whole conversation");
    assert_eq!(exit, Some(Reply::Exited(ExecExit::Signal(9))));
}

#[tokio::test]
async fn a_client_that_ignores_the_window_is_dropped() {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (mut near_reader, mut near_writer) = tokio::io::split(near);
    let client = async {
        near_writer.write_all(b"mlnc\x01\x00\x01\x00").await.expect("the server reads");
        write_frame(&mut near_writer, &exec_request()).await.expect("the server reads");
        for _ in 0..=INPUT_WINDOW_BYTES / CHUNK_BYTES_MAX {
            let input = Input::Bytes(vec![0; CHUNK_BYTES_MAX]);
            write_frame(&mut near_writer, &input).await.expect("the pipe holds it all");
        }
        let mut answer = Vec::new();
        near_reader.read_to_end(&mut answer).await.expect("the server closes");
    };
    let server = async {
        let mut connection = Connection::accept(far).await.expect("a hello");
        connection.request().await.expect("a request");
        let (_replies, replies_out) = mpsc::channel(1);
        let (feed, _queue) = input_channel();
        connection.pump(replies_out, feed).await.expect_err("too much input")
    };
    let ((), error) = tokio::join!(client, server);
    assert!(matches!(error, LinkError::WindowExceeded), "{error}");
}

#[tokio::test]
async fn a_worker_that_gives_up_is_reported_and_a_client_that_leaves_is_noticed() {
    let (reply, pumped) = converse(
        async |_request, replies, _input| drop(replies),
        async |client| {
            let (_input, mut replies) = client.request(&Request::List).await.expect("sent");
            replies.next().await.expect("an answer")
        },
    )
    .await;
    pumped.expect("the client was told");
    assert!(matches!(reply, Some(Reply::Failed(_))), "{reply:?}");

    let ((), pumped) = converse(
        async |_request, replies, _input| replies.closed().await,
        async |client| drop(client.request(&Request::List).await.expect("sent")),
    )
    .await;
    pumped.expect("leaving is no error");
}

#[tokio::test]
async fn a_server_that_leaves_is_no_end_of_an_answer() {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    let server = async {
        let mut connection = Connection::accept(far).await.expect("a hello");
        connection.request().await.expect("a request");
    };
    let client = async {
        let client = Client::over(near).await.expect("a hello");
        let (_input, mut replies) = client.request(&Request::List).await.expect("sent");
        replies.next().await.expect_err("no end")
    };
    let ((), error) = tokio::join!(server, client);
    assert!(matches!(error, LinkError::ClosedEarly), "{error}");
}

#[tokio::test]
async fn a_relayed_command_is_as_good_as_a_direct_one() {
    let (middle, far) = UnixStream::pair().expect("a socket pair");
    let remote_server = async {
        let mut connection = Connection::accept(far).await?;
        let request = connection.request().await?.expect("a request");
        let (replies, replies_out) = mpsc::channel(4);
        let (feed, queue) = input_channel();
        tokio::join!(cat(request, replies, queue), connection.pump(replies_out, feed)).1
    };
    let sent = vec![7; INPUT_WINDOW_BYTES * 3];
    let asked = converse(
        async |request, replies, input| {
            let remote = Client::over(middle).await.expect("a hello").request(&request).await.expect("sent");
            mln_link::relay::relay(remote, input, replies.clone()).await.expect("relayed");
            replies.send(Reply::Done).await.expect("the client listens");
        },
        async |client| output_of_cat(client, sent.clone()).await,
    );
    let ((got, pumped), remote) = tokio::join!(asked, remote_server);
    pumped.expect("a whole conversation");
    remote.expect("a whole conversation");
    assert_eq!((got.0.len(), got.1), (sent.len(), Some(ExecExit::Status(0))));
}

#[tokio::test]
async fn a_name_that_is_none_is_not_decoded() {
    let good = Request::TemplateBuild { name: name("mini") };
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &good).await.expect("a Vec takes everything");
    let decoded: Option<Request> = FrameReader::new(&bytes[..]).next().await.expect("a valid name");
    assert_eq!(decoded, Some(good));
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(b"../x");
    let error = FrameReader::new(&bytes[..]).next::<Request>().await.expect_err("no name");
    assert!(matches!(error, LinkError::Decode(_)), "{error}");
}

#[test]
fn projects_and_vms_are_written_with_slashes() {
    assert_eq!(ProjectRef::parse("ring").map(|p| p.to_string()), Ok("ring".to_owned()));
    assert_eq!(VmRef::parse("anna/ring/r1").map(|vm| vm.to_string()), Ok("anna/ring/r1".to_owned()));
    assert!(VmRef::parse("r1").is_err());
    assert!(VmRef::parse("a/b/c/d").is_err());
    assert!(ProjectRef::parse("a/b/c").is_err());
    assert!(ProjectRef::parse("/b").is_err());
}
