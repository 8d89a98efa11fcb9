//! What goes wrong on this side of the connection; what an agent refuses or fails at comes as replies.

use std::io;
use std::path::PathBuf;

use mln_door::join::JoinError;
use mln_door::operator::EnterError;
use mln_link::LinkError;
use mln_protocol::trust::{AdmitError, IssueError};
use mln_protocol::wire::TokenError;

use crate::context::ContextError;
use crate::exit::Exit;
use crate::project_file::OpenError;

/// By what a machine would be stopped that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Something of it changes that needs a start, or a new disk.
    Reboot,
    /// So it may: only doing it tells.
    MayReboot,
    /// It goes to another service host.
    Move,
    /// The project doesn't have it any more.
    Removal,
}

/// Why a command could not be carried out from here. What the user can do about it is said in `ui::hint`.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No agent listens at any of the places. Nothing was asked.
    #[error("no agent listens on {}", places(.0))]
    NoAgent(Vec<PathBuf>),
    /// The system doesn't let this user connect. Nothing was asked.
    #[error("this user may not connect to the agent on {0}")]
    NotPermitted(PathBuf),
    /// No agent on the network can be asked with this user's key and grants. Nothing was asked.
    #[error("the agent at {place} can't be asked")]
    Enter {
        /// Where.
        place: String,
        /// Why.
        source: Box<EnterError>,
    },
    /// What `--peer` names is no context, and no agent answers at a machine of that name. Nothing was asked.
    #[error("--peer {name} is no context ({known}), and no agent answers at a machine called {name}")]
    UnknownPeer {
        /// What was named.
        name: String,
        /// The contexts that there are.
        known: String,
    },
    /// A host that the project doesn't have. Nothing was changed.
    #[error("{project} has no host {host}{meant} (it has {known})")]
    NoSuchHost {
        /// Which project.
        project: String,
        /// What was named.
        host: String,
        /// Which one may be meant, as the rest of a sentence.
        meant: String,
        /// Those that it has.
        known: String,
    },
    /// The token is none.
    #[error("this is no token")]
    Token(#[source] TokenError),
    /// The token gave nothing.
    #[error("joining did not work")]
    Join(#[source] JoinError),
    /// The user's contexts or key can't be used. Nothing was asked.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Somebody listens, but there is no talking to them. Nothing was asked.
    #[error("the agent on {place} can't be talked to")]
    NoConversation {
        /// Where.
        place: String,
        /// Why.
        source: LinkError,
    },
    /// The agent left, or the connection broke. Whether the request was carried out is not known.
    #[error("the conversation with the agent broke off")]
    BrokeOff(#[source] LinkError),
    /// The request is longer than any agent reads. Nothing was asked.
    #[error("the request has {bytes} bytes, where an agent reads at most {limit}")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// What is read.
        limit: usize,
    },
    /// The project file can't be read. Nothing was asked.
    #[error(transparent)]
    ProjectFile(#[from] OpenError),
    /// Nothing was granted: it would be more than the user has.
    #[error("nothing was granted")]
    NotGranted(#[source] IssueError),
    /// A chain of grants doesn't hold. Nothing was changed.
    #[error("the grant does not hold")]
    Chain(#[source] AdmitError),
    /// A file of the user's can't be read. Nothing was asked.
    #[error("{path} can't be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder of the user's can't be read or written. What is said about it holds on this side.
    #[error(transparent)]
    Copy(#[from] mln_copy::CopyError),
    /// The VM can't do what is asked. Nothing was changed there, unless it says so.
    #[error("{what}: {text}")]
    Guest {
        /// What was tried.
        what: String,
        /// What the VM said.
        text: String,
    },
    /// A program of this machine can't be run, or didn't end well.
    #[error("{program}: {text}; try: apt-get install openssh-client")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        text: String,
    },
    /// A file of the user's can't be written. What was there is as it was.
    #[error("{path} can't be written")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user interrupted; what was begun goes on without `mlnctl`.
    #[error("interrupted; what was begun goes on")]
    Interrupted {
        /// By which signal.
        signal: i32,
    },
    /// Standard input, standard output or a signal can't be had. A bug or a very bare environment.
    #[error("the terminal or pipe can't be used")]
    Terminal(#[source] io::Error),
    /// A machine would be stopped that must not be. Nothing was changed.
    #[error("{vm} {} be stopped, and -l says that it must not be", if *.by == Stop::MayReboot { "may" } else { "would" })]
    NotLive {
        /// Which.
        vm: String,
        /// By what.
        by: Stop,
    },
    /// There is a file where one is to be written. It is as it was.
    #[error("{} is there already", path.display())]
    FileExists {
        /// Which.
        path: PathBuf,
    },
    /// A place is said for a host that the exported project doesn't have. Nothing was built.
    #[error("the project in it has no host {host}{meant}")]
    NoSuchPlaced {
        /// Which.
        host: String,
        /// The end of the sentence: what may be meant.
        meant: String,
    },
    /// A disk of the exported project has no place in its text. Nothing was built.
    #[error("{text}")]
    Misfit {
        /// Which, and why.
        text: String,
    },
    /// The text of a project can't be changed so. Nothing was changed.
    #[error("{project} can't be changed so")]
    Edit {
        /// Which project.
        project: String,
        /// Why.
        source: mln_protocol::lang::EditError,
    },
    /// What was to be an exported project is none, or is damaged. Nothing was built, and no such file was written.
    #[error(transparent)]
    Export(mln_protocol::wire::ExportError),
    /// The arguments don't make sense together. Nothing was asked.
    #[error("{0}")]
    Usage(UsageError),
}

/// What doesn't make sense about arguments that are fine one by one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Neither a project nor all.
    #[error("it is not said which project")]
    NoTarget,
    /// A project and all.
    #[error("-p {0} and -a exclude each other")]
    ProjectAndAll(String),
    /// MLN's folder of projects.
    #[error("there is no folder of projects (-P {0}): the mesh holds them")]
    ProjectsFolder(String),
    /// No terminal.
    #[error("standard input and output must be a terminal")]
    NoTerminal {
        /// What does it without one.
        instead: &'static str,
    },
    /// Both sides of a copy are here, or both in VMs.
    #[error("one side of a copy is PROJECT/HOST:PATH, and the other is not: {0} {1}")]
    CopySides(String, String),
    /// A folder can't be standard input or output.
    #[error("`-` is one file: it can't be copied with -r")]
    CopyTreeOfStream,
    /// A path or name that can't be passed on.
    #[error("{0} can't be named to the VM: it is no UTF-8, or no file name")]
    CopyName(String),
    /// A name that `mlnctl ssh --config` knows nothing of.
    #[error("{0} is no VM: HOST.PROJECT.mln, HOST.PROJECT.OWNER.mln, PROJECT/HOST or OWNER/PROJECT/HOST")]
    SshName(String),
    /// Nothing that would be done.
    #[error("it is not said where to: PROJECT/HOST")]
    SshNowhere,
    /// Neither a path, nor a context, nor an address.
    #[error("{0:?} is neither a path of an agent's control socket, nor a context, nor an address")]
    PeerAddress(String),
    /// No context is used, and none is named.
    #[error("no context is used, so one must be named")]
    NoContext,
    /// Neither the token nor the environment says who the user is.
    #[error("it is not said under which name you join")]
    NoOwner,
    /// A context can't be called as this machine's agent is.
    #[error("a context can't be called local: that is the agent of this machine")]
    LocalIsTaken,
    /// A word that is no right.
    #[error("{0:?} is nothing that an operator may do; known: {1}")]
    Right(String, String),
    /// Somebody who is not known, or not one.
    #[error("{0} is neither a key nor the name of one that has a grant")]
    Grantee(String),
    /// A key without a name.
    #[error("a new key needs a name")]
    NoGranteeName,
    /// Nothing to be taken back.
    #[error("nobody knows a grant of {0}")]
    NoGrantOf(String),
    /// Options of an operator's token for a host's.
    #[error("--may and --name are for tokens of operators")]
    HostTokenOptions,
    /// A form that what works on a file alone doesn't have.
    #[error("-o yaml and -o csv are for what an agent answers")]
    FormOfAgents,
}

impl CommandError {
    /// Returns how `mlnctl` ends because of it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoAgent(_) | Self::NoConversation { .. } | Self::UnknownPeer { .. } => Exit::NoAgent,
            Self::Enter { source, .. } => match **source {
                EnterError::Refused { .. } => Exit::Refused,
                EnterError::Connect(_)
                | EnterError::NoOperators { .. }
                | EnterError::NotAHost { .. }
                | EnterError::Closed { .. }
                | EnterError::Unexpected { .. }
                | EnterError::Decode { .. }
                | EnterError::Timeout { .. } => Exit::NoAgent,
            },
            Self::Join(JoinError::Connect(_) | JoinError::Timeout) => Exit::NoAgent,
            Self::Join(JoinError::Refused(_)) => Exit::Refused,
            Self::Token(_) => Exit::Usage,
            Self::NotGranted(_) | Self::Chain(_) => Exit::Refused,
            Self::NotPermitted(_)
            | Self::NotLive { .. }
            | Self::NoSuchHost { .. }
            | Self::FileExists { .. }
            | Self::NoSuchPlaced { .. }
            | Self::Misfit { .. } => Exit::Refused,
            Self::BrokeOff(_)
            | Self::TooLong { .. }
            | Self::ProjectFile(_)
            | Self::File { .. }
            | Self::Write { .. }
            | Self::Context(_)
            | Self::Join(_)
            | Self::Copy(_)
            | Self::Guest { .. }
            | Self::Edit { .. }
            | Self::Export(_)
            | Self::Program { .. }
            | Self::Terminal(_) => Exit::Failed,
            Self::Interrupted { signal } => Exit::of_signal(*signal),
            Self::Usage(_) => Exit::Usage,
        }
    }
}

fn places(sockets: &[PathBuf]) -> String {
    sockets.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}
