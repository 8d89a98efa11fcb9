//! An agent that answers one request as a test says, and `mlnctl` run against it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use mln_link::{Connection, InputQueue, Reply, Request, input_channel};
use mln_protocol::id::Name;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// How long `mlnctl` may take until it has asked and was answered.
const DEADLINE: Duration = Duration::from_secs(30);

/// An agent that serves one connection.
pub(crate) struct ScriptedAgent {
    folder: TempDir,
    serving: JoinHandle<Request>,
}

impl ScriptedAgent {
    /// Listens, and answers the first request by `script`.
    pub(crate) fn serving<S>(script: S) -> Self
    where
        S: AsyncFnOnce(Request, mpsc::Sender<Reply>, InputQueue) + Send + 'static,
    {
        let mut script = Some(script);
        Self::serving_some(1, async move |request, sender, input| {
            let script = script.take().expect("there is one request");
            script(request, sender, input).await;
        })
    }

    /// Listens, and answers so many requests by `script`.
    fn serving_some<S>(count: usize, mut script: S) -> Self
    where
        S: AsyncFnMut(Request, mpsc::Sender<Reply>, InputQueue) + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join("mlnd.sock"))
            .expect("a temporary folder's path is short enough");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let serving = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).expect("a non-blocking socket");
                let serving = async {
                    for _ in 1..count {
                        serve_one(&listener, &mut script).await;
                    }
                    serve_one(&listener, &mut script).await
                };
                tokio::time::timeout(DEADLINE, serving).await.expect("mlnctl asks and reads in time")
            })
        });
        Self { folder, serving }
    }

    /// Listens, and answers one request after another, each by its replies; it was asked the last one.
    pub(crate) fn answering_each(mut answers: Vec<Vec<Reply>>) -> Self {
        let count = answers.len();
        answers.reverse();
        Self::serving_some(count, async move |_request, sender, _input| {
            for reply in answers.pop().into_iter().flatten().chain([Reply::Done]) {
                sender.send(reply).await.expect("mlnctl reads to the end");
            }
        })
    }

    /// Listens, and answers the first request by these replies.
    pub(crate) fn answering(replies: Vec<Reply>) -> Self {
        Self::serving(async move |_request, sender, _input| {
            for reply in replies {
                sender.send(reply).await.expect("mlnctl reads to the end");
            }
            sender.send(Reply::Done).await.expect("mlnctl reads to the end");
        })
    }

    /// Returns where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("mlnd.sock")
    }

    /// Runs `mlnctl` against it; returns what it was asked and how `mlnctl` ended.
    #[track_caller]
    pub(crate) fn run(self, line: &[&str]) -> (Request, Output) {
        let output = mlnctl(line).env("MLN_PEER", self.socket()).output().expect("mlnctl runs");
        let asked = self.serving.join();
        (asked.unwrap_or_else(|_| panic!("{line:?} asked for nothing: {output:?}")), output)
    }

    /// Returns what it was asked.
    #[track_caller]
    pub(crate) fn asked(self) -> Request {
        self.serving.join().expect("the agent was asked and could answer")
    }
}

async fn serve_one<S>(listener: &UnixListener, script: &mut S) -> Request
where
    S: AsyncFnMut(Request, mpsc::Sender<Reply>, InputQueue),
{
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut connection = Connection::accept(stream).await.expect("a hello");
    let request = connection.request().await.expect("a request that can be understood").expect("a request");
    let (replies, waiting) = mpsc::channel(16);
    let (feed, input) = input_channel();
    let (_pumped, ()) = tokio::join!(connection.pump(waiting, feed), script(request.clone(), replies, input));
    request
}

/// Returns a command that runs `mlnctl` with no environment but what a test adds.
pub(crate) fn mlnctl(line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mlnctl"));
    command.args(line).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}
