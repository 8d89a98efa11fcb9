//! A conversation with an agent: one request, its input, and what comes back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mln_link::client::has_left;
use mln_link::message::{
    AgentVersion, DaemonStatusRow, Definition, DoctorRow, EvacuationRow, ExecExit, Failure, GarbageReport,
    GaugeRow, GrantRow, Granted, KeptRow, LanRow, OutsideRow, PeerRow, Plan, PlanRow, ProjectRow, Refusal,
    Revised, RevisionRow, Silence, SnapshotRow, StartupRow, StatusRow, TemplateHostRow, TemplateRow, Token,
    UnsettledRow,
};
use mln_link::{CHUNK_BYTES_MAX, Client, InputSender, LinkError, Replies, Reply, Request, place};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::{Context, Home, LOCAL};
use crate::error::{CommandError, UsageError};
use crate::network::{Network, address_of};
use crate::ui::screen::{LiveProgress, Screen};

/// The signal of a pipe that nobody reads; tokio leaves its number out.
const SIGPIPE: i32 = rustix::process::Signal::PIPE.as_raw();

/// How long an agent may take for its hello: one that is stopped or stuck would keep us for ever.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that an agent answered, by kind.
#[derive(Debug, Default)]
pub struct Answer {
    /// Who said no.
    pub refusals: Vec<Refusal>,
    /// What didn't work.
    pub failures: Vec<Failure>,
    /// Who didn't answer.
    pub silences: Vec<Silence>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The rows of `status`.
    pub status: Vec<StatusRow>,
    /// What VMs have of the outside.
    pub outside: Vec<OutsideRow>,
    /// Those VMs whose startup lines failed.
    pub startup: Vec<StartupRow>,
    /// What VMs measure.
    pub gauges: Vec<GaugeRow>,
    /// The rows of `daemon_status`.
    pub daemon_status: Vec<DaemonStatusRow>,
    /// The rows of `list`.
    pub projects: Vec<ProjectRow>,
    /// The rows of `peers`.
    pub peers: Vec<PeerRow>,
    /// The rows of `peers --lan`.
    pub lan: Vec<LanRow>,
    /// The rows of `template list`.
    pub templates: Vec<TemplateRow>,
    /// The rows of `template list --peers`.
    pub template_hosts: Vec<TemplateHostRow>,
    /// What `gc` found.
    pub garbage: Option<GarbageReport>,
    /// A new token.
    pub token: Option<Token>,
    /// A new grant.
    pub granted: Option<Granted>,
    /// The rows of `grant list`, and what `revoke` took back.
    pub grants: Vec<GrantRow>,
    /// Who the agent is.
    pub version: Option<AgentVersion>,
    /// The lines of `doctor`.
    pub doctor: Vec<DoctorRow>,
    /// The VMs that are left out and whose disks are kept.
    pub kept: Vec<KeptRow>,
    /// The rows of `snapshot list`.
    pub snapshots: Vec<SnapshotRow>,
    /// How a command ended.
    pub exited: Option<ExecExit>,
    /// What `plan` is about.
    pub plan: Option<Plan>,
    /// The rows of `plan`.
    pub plan_rows: Vec<PlanRow>,
    /// Where a change has led.
    pub revised: Option<Revised>,
    /// The rows of `log`.
    pub revisions: Vec<RevisionRow>,
    /// What a project was submitted as.
    pub definition: Option<Definition>,
    /// The projects on which not all agree.
    pub unsettled: Vec<UnsettledRow>,
    /// Where the VMs of a host could go.
    pub evacuation: Vec<EvacuationRow>,
}

/// A stream to an agent, whatever it runs over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream to an agent.
pub type Line = Box<dyn Stream>;

impl Answer {
    /// Adds what isn't shown at once.
    pub(crate) fn note(&mut self, reply: Reply) {
        match reply {
            Reply::Warning { text } => self.warnings.push(text),
            Reply::Refused(refusal) => self.refusals.push(refusal),
            Reply::Failed(failure) => self.failures.push(failure),
            Reply::Silent(silence) => self.silences.push(silence),
            Reply::Version(version) => self.version = Some(version),
            Reply::Status(rows) => self.status.extend(rows),
            Reply::Outside(rows) => self.outside.extend(rows),
            Reply::Startup(rows) => self.startup.extend(rows),
            Reply::Gauges(rows) => self.gauges.extend(rows),
            Reply::Lan(rows) => self.lan.extend(rows),
            Reply::DaemonStatus(rows) => self.daemon_status.extend(rows),
            Reply::Projects(rows) => self.projects.extend(rows),
            Reply::Peers(rows) => self.peers.extend(rows),
            Reply::Templates(rows) => self.templates.extend(rows),
            Reply::TemplateHosts(rows) => self.template_hosts.extend(rows),
            Reply::Garbage(report) => self.garbage = Some(report),
            Reply::Doctor(rows) => self.doctor.extend(rows),
            Reply::Token(token) => self.token = Some(token),
            Reply::Granted(granted) => self.granted = Some(*granted),
            Reply::Grants(rows) => self.grants.extend(rows),
            Reply::Exited(exited) => self.exited = Some(exited),
            Reply::Plan(plan) => self.plan = Some(plan),
            Reply::PlanRows(rows) => self.plan_rows.extend(rows),
            Reply::Revised(revised) => self.revised = Some(revised),
            Reply::Revisions(rows) => self.revisions.extend(rows),
            Reply::Definition(definition) => self.definition = Some(*definition),
            Reply::Unsettled(rows) => self.unsettled.extend(rows),
            Reply::Evacuation(rows) => self.evacuation.extend(rows),
            Reply::Kept(rows) => self.kept.extend(rows),
            Reply::Snapshots(rows) => self.snapshots.extend(rows),
            // Shown by whoever asked, or kept by the link to itself.
            Reply::Progress(_)
            | Reply::Output { .. }
            | Reply::Events(_)
            | Reply::Room(_)
            | Reply::Done
            | Reply::Window { .. } => {}
        }
    }
}

/// The agent that is asked: not connected yet.
#[derive(Debug)]
pub enum Agent {
    /// On this machine: where it may listen, likeliest first.
    Local(Vec<PathBuf>),
    /// On the network.
    Network(Box<Network>),
}

impl Agent {
    /// Returns the agent that is meant by `peer`: a socket's path, a context, a host name or an address. Without it,
    /// the agents of the context that is used, or else of this machine.
    pub fn at(peer: Option<PathBuf>) -> Result<Self, CommandError> {
        let peer = match peer {
            Some(peer) => peer,
            None => return Self::usual(),
        };
        // What is not UTF-8 can only be a path.
        let Some(text) = peer.to_str().map(str::to_owned) else { return Ok(Self::Local(vec![peer])) };
        if peer.is_dir() {
            return Ok(Self::Local(vec![place::socket_in(&peer)]));
        }
        if !is_address(&text) && (text.contains('/') || peer.exists()) {
            return Ok(Self::Local(vec![peer]));
        }
        if text == LOCAL {
            return Ok(Self::local());
        }
        let home = Home::of_user()?;
        let contexts = home.contexts()?;
        if let Some(context) = contexts.named(&text).cloned() {
            return Ok(Self::Network(Box::new(Network::of_context(home, context))));
        }
        match address_of(&text) {
            Some(address) => Ok(Self::Network(Box::new(Network::named(home, &contexts, &text, address)))),
            None => Err(CommandError::Usage(UsageError::PeerAddress(text))),
        }
    }

    fn usual() -> Result<Self, CommandError> {
        // Whoever has no home has no contexts either.
        let Ok(home) = Home::of_user() else { return Ok(Self::local()) };
        let contexts = home.contexts()?;
        match contexts.current().cloned() {
            Some(context) => Ok(Self::Network(Box::new(Network::of_context(home, context)))),
            None => Ok(Self::local()),
        }
    }

    fn local() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self::Local(place::socket_candidates(uid, |name| std::env::var_os(name)))
    }

    /// Returns the context whose grants are shown; none where the agent of this machine is asked.
    pub fn context(&self) -> Option<&Context> {
        match self {
            Self::Local(_) => None,
            Self::Network(network) => network.context(),
        }
    }

    /// Asks for something that takes no input.
    pub async fn ask(&self, request: &Request, screen: &Screen) -> Result<Answer, CommandError> {
        let mut signals = Signals::listen().map_err(CommandError::Terminal)?;
        // The sending half is kept until the end: dropping it would be no harm, but says something else.
        let (_input, replies) = self.begin(request).await?;
        tokio::select! {
            answer = collect(replies, screen.progress(), Warnings::Last) => answer,
            signal = signals.next() => Err(CommandError::Interrupted { signal }),
        }
    }

    /// Asks for something that may take long: warnings are shown as they come, and stand in no answer.
    pub async fn ask_told_at_once(&self, request: &Request, screen: &Screen) -> Result<Answer, CommandError> {
        let mut signals = Signals::listen().map_err(CommandError::Terminal)?;
        // As above.
        let (_input, replies) = self.begin(request).await?;
        tokio::select! {
            answer = collect(replies, screen.progress(), Warnings::AtOnce) => answer,
            signal = signals.next() => Err(CommandError::Interrupted { signal }),
        }
    }

    /// Asks for something whose input is a file.
    pub async fn ask_with_file(
        &self,
        request: &Request,
        file: impl AsyncRead + Unpin,
        path: &Path,
        screen: &Screen,
    ) -> Result<Answer, CommandError> {
        let mut signals = Signals::listen().map_err(CommandError::Terminal)?;
        let (input, replies) = self.begin(request).await?;
        let unreadable = |source| CommandError::File { path: path.to_owned(), source };
        tokio::select! {
            answer = collect(replies, screen.progress(), Warnings::Last) => answer,
            signal = signals.next() => Err(CommandError::Interrupted { signal }),
            Err(error) = send_all(input, file) => Err(match error {
                SendError::Read(source) => unreadable(source),
                SendError::Link(source) => CommandError::BrokeOff(source),
            }),
        }
    }

    /// Runs a command whose streams are ours; signals that we get are the command's.
    pub async fn attach(
        &self,
        request: &Request,
        on_signal: OnSignal,
        screen: &Screen,
    ) -> Result<Answer, CommandError> {
        let signals = Signals::listen().map_err(CommandError::Terminal)?;
        let (input, replies) = self.begin(request).await?;
        tokio::select! {
            answer = collect(replies, screen.progress(), Warnings::Last) => answer,
            ended = attach_input(input, signals, on_signal) => match ended {
                // Told twice to stop: the connection is dropped, and with it the command.
                Ok(Abandoned { signal }) => {
                    Ok(Answer { exited: Some(ExecExit::Signal(signal)), ..Answer::default() })
                }
                Err(error) => Err(CommandError::BrokeOff(error)),
            },
        }
    }

    /// Asks; the caller carries the input and the replies.
    pub(crate) async fn begin(
        &self,
        request: &Request,
    ) -> Result<(InputSender<Line>, Replies<Line>), CommandError> {
        self.connect().await?.request(request).await.map_err(|error| match error {
            LinkError::TooLong { bytes, limit } => CommandError::TooLong { bytes, limit },
            error => CommandError::BrokeOff(error),
        })
    }

    async fn connect(&self) -> Result<Client<Line>, CommandError> {
        match self {
            Self::Local(sockets) => connect_to(sockets).await,
            Self::Network(network) => {
                let stream: Line = Box::new(network.connect().await?);
                let greeted = tokio::time::timeout(HELLO_TIMEOUT, Client::over(stream)).await;
                greeted
                    .unwrap_or_else(|_| Err(LinkError::Io(io::ErrorKind::TimedOut.into())))
                    .map_err(|source| CommandError::NoConversation { place: network.place(), source })
            }
        }
    }
}

/// Connects to the first socket where somebody listens.
async fn connect_to(sockets: &[PathBuf]) -> Result<Client<Line>, CommandError> {
    for socket in sockets {
        let place = || socket.display().to_string();
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) if nobody_listens(&error) => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(CommandError::NotPermitted(socket.clone()));
            }
            Err(error) => {
                return Err(CommandError::NoConversation { place: place(), source: error.into() });
            }
        };
        let stream: Line = Box::new(stream);
        let greeted = tokio::time::timeout(HELLO_TIMEOUT, Client::over(stream)).await;
        return greeted
            .unwrap_or_else(|_| Err(LinkError::Io(io::ErrorKind::TimedOut.into())))
            .map_err(|source| CommandError::NoConversation { place: place(), source });
    }
    Err(CommandError::NoAgent(sockets.to_vec()))
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
    )
}

/// Whether a text is an address of a peer rather than a path.
fn is_address(text: &str) -> bool {
    ["/ip4/", "/ip6/", "/dns/", "/dns4/", "/dns6/"].iter().any(|start| text.starts_with(start))
}

/// When warnings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warnings {
    /// With what else is wrong, by whoever has asked.
    Last,
    /// When they come: what they are about may be mended meanwhile.
    AtOnce,
}

/// Collects replies until the last one, showing progress and output as they come.
async fn collect(
    mut replies: Replies<Line>,
    mut live: LiveProgress<'_>,
    warnings: Warnings,
) -> Result<Answer, CommandError> {
    let mut answer = Answer::default();
    loop {
        // Both arms are cancel-safe: a reply that isn't whole stays in its reader, and a tick is only a time.
        let reply = tokio::select! {
            reply = replies.next() => reply.map_err(CommandError::BrokeOff)?,
            () = live.tick() => continue,
        };
        let Some(reply) = reply else { return Ok(answer) };
        match reply {
            Reply::Progress(progress) => live.note(&progress),
            Reply::Warning { text } if warnings == Warnings::AtOnce => live.screen().warning_meanwhile(&text),
            Reply::Output { stream, bytes } => match live.screen().pass_through(stream, &bytes).await {
                Ok(()) => {}
                // Whoever read our output has left: end as a command in a pipeline does, by the same signal.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    answer.exited = Some(ExecExit::Signal(SIGPIPE));
                    return Ok(answer);
                }
                Err(error) => return Err(CommandError::Terminal(error)),
            },
            // They may go on for ever, so each is shown when it comes.
            Reply::Events(rows) => match live.screen().events(&rows) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    answer.exited = Some(ExecExit::Signal(SIGPIPE));
                    return Ok(answer);
                }
                Err(error) => return Err(CommandError::Terminal(error)),
            },
            reply => answer.note(reply),
        }
    }
}

enum SendError {
    Read(io::Error),
    Link(LinkError),
}

/// Sends all of a file and the end of input. When the agent leaves meanwhile, its replies say why.
async fn send_all(mut input: InputSender<Line>, mut file: impl AsyncRead + Unpin) -> Result<(), SendError> {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    loop {
        let length = file.read(&mut chunk).await.map_err(SendError::Read)?;
        let sent = if length == 0 { input.end().await } else { input.bytes(&chunk[..length]).await };
        match sent {
            Ok(()) if length == 0 => return Ok(()),
            Ok(()) => {}
            Err(LinkError::Io(source)) if has_left(&source) => return Ok(()),
            Err(error) => return Err(SendError::Link(error)),
        }
    }
}

/// The signals that are passed on.
pub(crate) struct Signals {
    listeners: Vec<(i32, Signal)>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let listeners = kinds.into_iter().map(|kind| Ok((kind.as_raw_value(), signal(kind)?)));
        Ok(Self { listeners: listeners.collect::<io::Result<_>>()? })
    }

    /// Returns the next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, listener) in &mut self.listeners {
                if listener.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// What the first signal to us means for a command that we carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    /// It gets the signal.
    PassOn,
    /// Its input ends, so that it can clear up.
    EndInput,
}

/// The user doesn't wait for the command's end.
struct Abandoned {
    signal: i32,
}

/// Sends standard input and signals; returns when it is told to stop a second time.
async fn attach_input(
    mut input: InputSender<Line>,
    mut signals: Signals,
    on_signal: OnSignal,
) -> Result<Abandoned, LinkError> {
    let mut stdin = tokio::io::stdin();
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    let mut stdin_is_open = true;
    let mut signalled = false;
    loop {
        // Both arms are cancel-safe: tokio keeps what it has read of standard input, and `ready` takes nothing.
        let sent = tokio::select! {
            read = read_within_window(&mut input, &mut stdin, &mut chunk), if stdin_is_open => match read {
                Some(length) if length > 0 => input.bytes(&chunk[..length]).await,
                Some(_) | None => {
                    stdin_is_open = false;
                    input.end().await
                }
            },
            signal = signals.next() => {
                if signalled {
                    return Ok(Abandoned { signal });
                }
                signalled = true;
                match on_signal {
                    OnSignal::PassOn => input.signal(signal).await,
                    OnSignal::EndInput => {
                        stdin_is_open = false;
                        input.end().await
                    }
                }
            }
        };
        match sent {
            Ok(()) => {}
            // The agent has left: the replies say how the command ended.
            Err(LinkError::Io(source)) if has_left(&source) => stdin_is_open = false,
            Err(error) => return Err(error),
        }
    }
}

/// Returns how much was read; nothing at the end, where it can't be read, and when the request is over.
pub(crate) async fn read_within_window(
    input: &mut InputSender<Line>,
    stdin: &mut tokio::io::Stdin,
    chunk: &mut [u8],
) -> Option<usize> {
    let window = input.ready().await?;
    stdin.read(&mut chunk[..window]).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_a_path() {
        for path in ["/var/lib/mln/mlnd.sock", "data/mlnd.sock", "./oslo"] {
            assert!(matches!(Agent::at(Some(path.into())), Ok(Agent::Local(_))), "{path}");
        }
        assert!(matches!(Agent::at(Some(LOCAL.into())), Ok(Agent::Local(_))));
        for address in ["/ip4/127.0.0.1/tcp/4001", "/dns4/oslo.example/tcp/7117"] {
            assert!(is_address(address), "{address}");
        }
    }
}
