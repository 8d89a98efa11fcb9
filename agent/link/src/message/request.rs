//! What can be asked of an agent.

use std::fmt;

use mln_protocol::id::{Name, NameError};
use serde::{Deserialize, Serialize};

use super::bandwidth::Bandwidth;
use super::change::{Change, Consider};
use super::event::Events;
use super::export::{Export, ExportPart, Import};
use super::grant::{GrantOrder, Revoke};
use super::image::{GcMode, TemplateChoice, TemplatePull, TemplatePush, TemplateRemove};
use super::inside::{Console, Logs, Terminal, TerminalSize};
use super::mesh::OperatorToken;
use super::moving::{Evacuate, EvacuateBut, TakeOver};
use super::recipe::TemplateRecipe;
use super::snapshot::{Snapshot, SnapshotPart};

/// A request: the first message of a connection after the hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who and what is the agent?
    Version,
    /// Build a project; the bytes of its files follow as input, in the order of [`Build::files`].
    Build(Build),
    /// Start VMs.
    Start(Start),
    /// Stop VMs.
    Stop(Stop),
    /// Remove a project.
    Remove(Remove),
    /// The VMs of projects, each with its state.
    Status(Status),
    /// The service hosts, each with what it carries.
    DaemonStatus {
        /// Only hosts of this group.
        #[serde(with = "crate::name::option")]
        group: Option<Name>,
    },
    /// The projects.
    List,
    /// Run a command in a VM; its standard input follows as input.
    Exec(Exec),
    /// The peers that the agent knows.
    Peers,
    /// Make a token with which somebody may join.
    TokenNew {
        /// As what.
        role: Role,
        /// For how long it is good, in seconds.
        ttl_s: u64,
    },
    /// Make a template image from a recipe that the agent knows.
    TemplateBuild {
        /// The recipe's and the template's name.
        #[serde(with = "crate::name")]
        name: Name,
    },
    /// Add a template image; its bytes follow as input.
    ///
    /// Never a path: the agent may read files that the operator may not.
    TemplateAdd {
        /// The template's name.
        #[serde(with = "crate::name")]
        name: Name,
        /// The length of the image, in bytes.
        bytes: u64,
    },
    /// The templates that the agent's host holds.
    TemplateList,
    /// Make a token with which somebody may become an operator.
    OperatorToken(OperatorToken),
    /// Who was seen on the local network.
    PeersLan,
    /// The templates that all connected hosts hold.
    TemplatePeers,
    /// Fetch a template from another host.
    TemplatePull(TemplatePull),
    /// Have another host fetch a template from this one.
    TemplatePush(TemplatePush),
    /// Fetch a template from the agent that asks: the far end of a push.
    TemplateTake(TemplateChoice),
    /// Remove a template.
    TemplateRemove(TemplateRemove),
    /// Show or free what of the image store nobody uses.
    Gc(GcMode),
    /// What happened, and perhaps what happens from now on.
    Events(Events),
    /// What is wrong with the agent's machine.
    Doctor,
    /// Run a command in a VM on a terminal; what is typed follows as input.
    Terminal(Terminal),
    /// Look at a VM's console; what is typed follows as input.
    Console(Console),
    /// The console log of a VM.
    Logs(Logs),
    /// Make a template image from a recipe that the agent knows, with more packages.
    TemplateRecipe(TemplateRecipe),
    /// What would come of a change; the bytes of its files follow as input.
    Plan(Change),
    /// Make a further revision of a project; the bytes of its files follow as input.
    Upgrade(Change),
    /// The revisions of a project.
    Log(ProjectRef),
    /// What a project was submitted as.
    Definition(ProjectRef),
    /// From one agent to another: its part of a change that is only thought of.
    Consider(Consider),
    /// Sign a grant for somebody's key.
    Grant(GrantOrder),
    /// The grants of people.
    Grants,
    /// Take back grants, with the key of the agent's host.
    Revoke(Revoke),
    /// Tell everybody of a revocation that whoever asks has signed: a record, encoded.
    Revocation(Vec<u8>),
    /// The agent's host is the right one of those with its key.
    ConfirmKey,
    /// Where the VMs of a host could go.
    Evacuate(Evacuate),
    /// Take over a VM whose owner is gone.
    TakeOver(TakeOver),
    /// Where the VMs of a host could go, once hosts have said no.
    EvacuateBut(EvacuateBut),
    /// From one agent to another: what its host has left for VMs.
    Room,
    /// Something about a project's snapshots.
    Snapshot(Snapshot),
    /// From one agent to another: its part of that.
    SnapshotPart(SnapshotPart),
    /// A whole project, as output.
    Export(Export),
    /// From one agent to another: its part of that.
    ExportPart(ExportPart),
    /// Build a project from an export; its bytes follow as input.
    Import(Import),
    /// How fast the disks of VMs may leave their hosts, for one change; told to the agents that have them.
    Bandwidth(Bandwidth),
    /// What the VMs of projects measure.
    Gauges(Target),
}

impl Request {
    /// Returns the word that people type for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Build(_) => "build",
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Remove(_) => "remove",
            Self::Status(_) | Self::Gauges(_) => "status",
            Self::DaemonStatus { .. } => "daemon_status",
            Self::List => "list",
            Self::Exec(_) => "exec",
            Self::Peers => "peers",
            Self::TokenNew { .. } => "token new",
            Self::TemplateBuild { .. } | Self::TemplateRecipe(_) => "template build",
            Self::TemplateAdd { .. } => "template add",
            Self::TemplateList => "template list",
            Self::OperatorToken(_) => "token new",
            Self::PeersLan => "peers",
            Self::TemplatePeers => "template list --peers",
            Self::TemplatePull(_) => "template pull",
            Self::TemplatePush(_) | Self::TemplateTake(_) => "template push",
            Self::TemplateRemove(_) => "template rm",
            Self::Gc(_) => "gc",
            Self::Events(_) => "events",
            Self::Doctor => "doctor",
            Self::Terminal(_) => "exec -t",
            Self::Console(_) => "console",
            Self::Logs(_) => "logs",
            Self::Plan(_) | Self::Consider(_) => "plan",
            Self::Upgrade(_) => "upgrade",
            Self::Log(_) => "log",
            Self::Definition(_) => "show",
            Self::Grant(_) => "grant",
            Self::Grants => "grant list",
            Self::Revoke(_) | Self::Revocation(_) => "revoke",
            Self::ConfirmKey => "key confirm",
            Self::Evacuate(_) | Self::EvacuateBut(_) | Self::Room => "evacuate",
            Self::TakeOver(_) => "takeover",
            Self::Snapshot(_) | Self::SnapshotPart(_) => "snapshot",
            Self::Export(_) | Self::ExportPart(_) => "export",
            Self::Import(_) => "import",
            Self::Bandwidth(_) => "upgrade",
        }
    }
}

/// The first revision of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The project file, with its includes folded in.
    pub source: String,
    /// What `--var` gave: name and value, in the order of the command line.
    pub vars: Vec<(String, String)>,
    /// The files that it copies into guests.
    pub files: Vec<FileHead>,
    /// What to do where the project exists already.
    pub existing: Existing,
    /// What to do when a step fails.
    pub on_failure: OnFailure,
}

/// A file that follows as input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHead {
    /// Its path as the project file has it.
    pub from: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its length.
    pub bytes: u64,
}

/// What a build does where the project exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// Refuses.
    Refuse,
    /// Removes the old one first, unless a VM of it runs.
    Replace,
    /// Stops and removes the old one first.
    ReplaceRunning,
}

/// What a build does when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// Undoes the build.
    Undo,
    /// Keeps what is there, to be looked at.
    Keep,
}

/// Whose and which project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRef {
    /// Whose; none is the operator's own, or the only one of that name.
    #[serde(with = "crate::name::option")]
    pub owner: Option<Name>,
    /// Its name.
    #[serde(with = "crate::name")]
    pub project: Name,
}

impl ProjectRef {
    /// Parses `PROJECT` or `OWNER/PROJECT`.
    pub fn parse(text: &str) -> Result<Self, RefError> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [project] => Ok(Self { owner: None, project: Name::parse(project)? }),
            [owner, project] => Ok(Self { owner: Some(Name::parse(owner)?), project: Name::parse(project)? }),
            _ => Err(RefError::Project),
        }
    }
}

impl fmt::Display for ProjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}/{}", self.project),
            None => write!(f, "{}", self.project),
        }
    }
}

/// Which VM of which project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRef {
    /// Its project.
    pub project: ProjectRef,
    /// Its name there.
    #[serde(with = "crate::name")]
    pub vm: Name,
}

impl VmRef {
    /// Parses `PROJECT/VM` or `OWNER/PROJECT/VM`.
    pub fn parse(text: &str) -> Result<Self, RefError> {
        let (project, vm) = text.rsplit_once('/').ok_or(RefError::Vm)?;
        Ok(Self { project: ProjectRef::parse(project).map_err(|_| RefError::Vm)?, vm: Name::parse(vm)? })
    }
}

impl fmt::Display for VmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.vm)
    }
}

/// Why a text names no project or VM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// A part of it is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too many parts.
    #[error("a project is PROJECT or OWNER/PROJECT")]
    Project,
    /// Too few or too many parts.
    #[error("a virtual machine is PROJECT/VM or OWNER/PROJECT/VM")]
    Vm,
}

/// The VMs that a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Of which projects.
    pub projects: ProjectSelection,
    /// Only VMs of these names; none is all of them.
    #[serde(with = "crate::name::list")]
    pub vms: Vec<Name>,
}

/// The projects that a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectSelection {
    /// All that the operator may see.
    All,
    /// One.
    One(ProjectRef),
}

/// Start VMs, in boot order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which.
    pub target: Target,
    /// The pause between two VMs of a host, in milliseconds.
    pub pause_ms: u64,
}

/// Stop VMs, in the reverse of boot order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Which.
    pub target: Target,
    /// The pause between two VMs of a host, in milliseconds.
    pub pause_ms: u64,
    /// How.
    pub manner: StopManner,
}

/// How a VM is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopManner {
    /// Asked to shut down, and killed after the host's usual limit.
    Ask,
    /// Asked to shut down, and killed after this many milliseconds.
    AskThenKill {
        /// The limit.
        after_ms: u64,
    },
    /// Killed at once.
    Halt,
}

/// Remove a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remove {
    /// Which.
    pub project: ProjectRef,
    /// Whether VMs that run are in the way.
    pub removal: Removal,
}

/// What a removal does with VMs that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// Refuses while one runs.
    Stopped,
    /// Stops them.
    Forced,
}

/// The state of VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which.
    pub target: Target,
    /// Answer only once this is so.
    pub wait: Option<StatusWait>,
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusWait {
    /// The state that all of the VMs shall have.
    pub until: WaitFor,
    /// How long at most, in milliseconds; then the rows come as they are, with a failure.
    pub timeout_ms: Option<u64>,
}

/// A state to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitFor {
    /// All are up.
    Up,
    /// All are down.
    Down,
}

/// Run a command in a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Where.
    pub vm: VmRef,
    /// The command and its arguments; no shell is involved.
    pub argv: Vec<String>,
}

/// As what somebody may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A service host.
    Host,
}

/// What a client sends after its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Some bytes, at most [`crate::CHUNK_BYTES_MAX`], within the window.
    Bytes(#[serde(with = "crate::bytes")] Vec<u8>),
    /// There will be no more bytes.
    End,
    /// A signal for the command; not held back by the window.
    Signal(i32),
    /// The operator's terminal has another size; not held back by the window.
    Resize(TerminalSize),
}
