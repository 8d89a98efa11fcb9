//! One conversation with an operator, over whatever stream it came.

use std::time::Duration;

use mln_link::message::{ChangeContent, Failure, Refusal, Reply, Request};
use mln_link::{Connection, LinkError, input_channel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

use super::reply::ReplySender;
use super::upload::{self, UploadError};
use super::{ControlCommand, Operator};

/// How many requests may wait for the event loop.
pub const CONTROL_COMMANDS_WAITING_MAX: usize = 64;

/// How long a client may take for its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take for its request and the files that belong to it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What is known about a client when its connection comes in.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It may ask.
    Admitted(Operator),
    /// It may not, and is told why.
    Refused(Box<Refusal>),
}

/// Serves a stream from an operator who was admitted, or from another agent, which vouches for one; returns when the conversation is over.
///
/// Errors are the other end's: they are logged, and nothing else happens.
pub async fn serve<S>(stream: S, operator: Operator, commands: mpsc::Sender<ControlCommand>)
where
    S: AsyncRead + AsyncWrite,
{
    converse(stream, Verdict::Admitted(operator), commands).await;
}

/// Serves a stream; returns when the conversation is over.
pub(super) async fn converse<S>(stream: S, verdict: Verdict, commands: mpsc::Sender<ControlCommand>)
where
    S: AsyncRead + AsyncWrite,
{
    if let Err(error) = attempt(stream, verdict, commands).await {
        debug!(error = &error as &dyn std::error::Error, "a control connection ended early");
    }
}

async fn attempt<S>(
    stream: S,
    verdict: Verdict,
    commands: mpsc::Sender<ControlCommand>,
) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    let Ok(accepted) = timeout(HELLO_TIMEOUT, Connection::accept(stream)).await else { return too_slow() };
    let mut connection = accepted?;
    let operator = match verdict {
        Verdict::Admitted(operator) => operator,
        Verdict::Refused(refusal) => return answer(connection, Reply::Refused(*refusal)).await,
    };
    let Ok(received) = timeout(REQUEST_TIMEOUT, receive(&mut connection)).await else { return too_slow() };
    let (request, files) = match received {
        Ok(Some(received)) => received,
        Ok(None) => return Ok(()),
        Err(UploadError::Link(error)) => return Err(error),
        Err(UploadError::Limit(refusal)) => return answer(connection, Reply::Refused(*refusal)).await,
        Err(error @ UploadError::Length { .. }) => {
            return answer(connection, failed("receiving files", error.to_string())).await;
        }
    };
    debug!(request = request.word(), operator = %operator.name, "asked");
    let (reply, replies) = ReplySender::channel();
    let (feed, input) = input_channel();
    match commands.send(ControlCommand { request, files, operator, reply, input }).await {
        Ok(()) => connection.pump(replies, feed).await,
        Err(_) => {
            answer(connection, failed("asking the agent", "the agent is about to end".to_owned())).await
        }
    }
}

/// Returns the request and its files; none where the client leaves without one.
async fn receive<S>(
    connection: &mut Connection<S>,
) -> Result<Option<(Request, Vec<upload::SubmittedFile>)>, UploadError>
where
    S: AsyncRead + AsyncWrite,
{
    let Some(request) = connection.request().await? else { return Ok(None) };
    let files = match &request {
        Request::Build(build) => upload::receive(connection, &build.files).await?,
        Request::Plan(change) | Request::Upgrade(change) => match &change.content {
            ChangeContent::Text { files, .. } => upload::receive(connection, files).await?,
            ChangeContent::Edited { .. } | ChangeContent::Revision(_) | ChangeContent::Head(_) => Vec::new(),
        },
        // Listed one by one, so that a new request with files is not forgotten here.
        Request::Version
        | Request::Start(_)
        | Request::Stop(_)
        | Request::Remove(_)
        | Request::Status(_)
        | Request::DaemonStatus { .. }
        | Request::List
        | Request::Exec(_)
        | Request::Peers
        | Request::TokenNew { .. }
        | Request::TemplateBuild { .. }
        | Request::TemplateAdd { .. }
        | Request::TemplateList
        | Request::OperatorToken(_)
        | Request::PeersLan
        | Request::TemplatePeers
        | Request::TemplatePull(_)
        | Request::TemplatePush(_)
        | Request::TemplateTake(_)
        | Request::TemplateRemove(_)
        | Request::Log(_)
        | Request::Definition(_)
        | Request::Consider(_)
        | Request::Gc(_)
        | Request::Events(_)
        | Request::Doctor
        | Request::Terminal(_)
        | Request::Console(_)
        | Request::Logs(_)
        | Request::TemplateRecipe(_)
        | Request::Grant(_)
        | Request::Grants
        | Request::Revoke(_)
        | Request::Revocation(_)
        | Request::ConfirmKey
        | Request::Evacuate(_)
        | Request::TakeOver(_)
        | Request::EvacuateBut(_)
        | Request::Room
        | Request::Snapshot(_)
        | Request::SnapshotPart(_)
        | Request::Export(_)
        | Request::ExportPart(_)
        | Request::Bandwidth(_)
        | Request::Gauges(_)
        // It may be as long as disks are: its bytes are taken as they come.
        | Request::Import(_) => Vec::new(),
    };
    Ok(Some((request, files)))
}

async fn answer<S>(mut connection: Connection<S>, reply: Reply) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite,
{
    connection.reply(&reply).await?;
    connection.finish().await
}

fn failed(what: &str, why: String) -> Reply {
    Reply::Failed(Failure {
        what: what.to_owned(),
        host: None,
        vm: None,
        why,
        console_tail: Vec::new(),
        next: Vec::new(),
    })
}

fn too_slow() -> Result<(), LinkError> {
    Err(LinkError::Io(std::io::ErrorKind::TimedOut.into()))
}
