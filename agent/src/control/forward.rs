//! A request that another agent answers: a command in a VM that another host carries.

use std::time::Duration;

use mln_link::message::{Failure, Reply, Request};
use mln_link::{Client, InputQueue, LinkError, relay};
use mln_protocol::id::Name;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::ReplySender;
use crate::causes::chain;

/// How long the other agent may take for its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Passes a request without files on over `stream`, and its input and replies in both directions; returns when
/// the conversation is over. `host` is who is at the other end, for the operator's eyes.
///
/// The other agent calls [`super::serve`] on its end.
pub async fn forward<S>(request: &Request, stream: S, host: &Name, input: InputQueue, reply: ReplySender)
where
    S: AsyncRead + AsyncWrite,
{
    if let Err(error) = attempt(request, stream, input, &reply).await {
        let failure = Failure {
            what: format!("asking {host}"),
            host: Some(host.clone()),
            vm: None,
            why: chain(&error),
            console_tail: Vec::new(),
            next: vec!["mlnctl peers".to_owned()],
        };
        // An operator who is gone need not be told.
        let _ = reply.send(Reply::Failed(failure)).await;
    }
    let _ = reply.send(Reply::Done).await;
}

async fn attempt<S>(
    request: &Request,
    stream: S,
    input: InputQueue,
    reply: &ReplySender,
) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    let Ok(greeted) = timeout(HELLO_TIMEOUT, Client::over(stream)).await else {
        return Err(LinkError::Io(std::io::ErrorKind::TimedOut.into()));
    };
    relay::relay(greeted?.request(request).await?, input, reply.channel_sender()).await
}

#[cfg(test)]
mod tests {
    use mln_link::message::{Exec, ExecExit, VmRef};
    use mln_link::{Connection, Input, input_channel};
    use tokio::sync::mpsc;

    use super::super::{ControlCommand, Operator, Origin, serve};
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a valid name")
    }

    fn exec() -> Request {
        let vm = VmRef::parse("ring/r1").expect("a project and a VM");
        Request::Exec(Exec { vm, argv: vec!["true".to_owned()] })
    }

    #[tokio::test]
    async fn a_command_on_another_host_gets_its_input_and_ends_here() {
        let (near, far) = tokio::io::duplex(4096);
        let origin = Origin::Peer { key: mln_protocol::id::PublicKey([1; 32]) };
        let operator = Operator::of_host(name("anna"), origin);
        let (commands, mut arriving) = mpsc::channel::<ControlCommand>(1);
        let owner = async {
            let mut command = arriving.recv().await.expect("the request is passed on");
            let input = command.input.next().await;
            command.reply.finish(Reply::Exited(ExecExit::Status(3))).expect("somebody listens");
            (command.request, input)
        };
        let (feed, input) = input_channel();
        feed.push(Input::Bytes(b"hi".to_vec())).expect("room");
        let (reply, mut replies) = ReplySender::channel();
        let (request, oslo) = (exec(), name("oslo"));
        let ((), (), (asked, got)) =
            tokio::join!(forward(&request, near, &oslo, input, reply), serve(far, operator, commands), owner);
        assert_eq!((asked, got), (request, Some(Input::Bytes(b"hi".to_vec()))));
        assert_eq!(replies.recv().await, Some(Reply::Exited(ExecExit::Status(3))));
        assert_eq!(replies.recv().await, Some(Reply::Done));
        drop(feed);
    }

    #[tokio::test]
    async fn a_host_that_goes_away_is_a_failure_that_names_it() {
        let (near, far) = tokio::io::duplex(4096);
        let (feed, input) = input_channel();
        let (reply, mut replies) = ReplySender::channel();
        let other = async {
            let mut connection = Connection::accept(far).await.expect("a hello");
            connection.request().await.expect("a request");
        };
        let (request, oslo) = (exec(), name("oslo"));
        tokio::join!(forward(&request, near, &oslo, input, reply), other);
        let failed = replies.recv().await;
        assert!(
            matches!(&failed, Some(Reply::Failed(failure)) if failure.host == Some(name("oslo"))),
            "{failed:?}"
        );
        assert_eq!(replies.recv().await, Some(Reply::Done));
        drop(feed);
    }
}
