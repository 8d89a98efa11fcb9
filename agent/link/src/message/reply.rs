//! What an agent answers.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

use super::change::{Definition, Plan, PlanRow, Revised, RevisionRow, UnsettledRow};
use super::doctor::DoctorRow;
use super::event::EventRow;
use super::gauge::GaugeRow;
use super::grant::{GrantRow, Granted};
use super::image::{GarbageReport, TemplateHostRow};
use super::kept::KeptRow;
use super::mesh::LanRow;
use super::moving::{EvacuationRow, Room};
use super::outside::OutsideRow;
use super::row::{AgentVersion, DaemonStatusRow, PeerRow, ProjectRow, StatusRow, TemplateRow, Token};
use super::snapshot::SnapshotRow;
use super::startup::StartupRow;

/// A reply. Any number of them, then [`Reply::Done`]; rows of one table may come in several replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The last reply. Whether all went well is told by what came before it.
    Done,
    /// A step of the work.
    Progress(Progress),
    /// Something that the operator should know, and that is no failure.
    Warning {
        /// What.
        text: String,
    },
    /// A host, or the agent itself, says no.
    Refused(Refusal),
    /// Something was tried and didn't work.
    Failed(Failure),
    /// A host that didn't answer.
    Silent(Silence),
    /// To `version`.
    Version(AgentVersion),
    /// To `status`.
    Status(Vec<StatusRow>),
    /// To `daemon_status`.
    DaemonStatus(Vec<DaemonStatusRow>),
    /// To `list`.
    Projects(Vec<ProjectRow>),
    /// To `peers`.
    Peers(Vec<PeerRow>),
    /// To `template list`, and the one that `template build` and `template add` made.
    Templates(Vec<TemplateRow>),
    /// To `token new`.
    Token(Token),
    /// What a command wrote.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What, at most [`crate::CHUNK_BYTES_MAX`].
        #[serde(with = "crate::bytes")]
        bytes: Vec<u8>,
    },
    /// How a command ended; after all of its output.
    Exited(ExecExit),
    /// So many further bytes of input may be sent. Made by [`crate::Connection`], never by whoever answers.
    Window {
        /// How many.
        bytes: u32,
    },
    /// To `status`, behind its rows: what VMs have of the outside.
    Outside(Vec<OutsideRow>),
    /// To `peers --lan`.
    Lan(Vec<LanRow>),
    /// To `template list --peers`.
    TemplateHosts(Vec<TemplateHostRow>),
    /// To `gc`.
    Garbage(GarbageReport),
    /// To `events`: any number of these.
    Events(Vec<EventRow>),
    /// To `doctor`.
    Doctor(Vec<DoctorRow>),
    /// To `plan`, before its rows.
    Plan(Plan),
    /// To `plan`.
    PlanRows(Vec<PlanRow>),
    /// To `upgrade`, when it is done.
    Revised(Revised),
    /// To `log`.
    Revisions(Vec<RevisionRow>),
    /// To `show -p`.
    Definition(Box<Definition>),
    /// To `status`, behind its rows: the projects on which not all agree.
    Unsettled(Vec<UnsettledRow>),
    /// To `grant`.
    Granted(Box<Granted>),
    /// To `grant list`, and the grants that `revoke` took back.
    Grants(Vec<GrantRow>),
    /// To `evacuate`.
    Evacuation(Vec<EvacuationRow>),
    /// To another agent that asks what is left here.
    Room(Room),
    /// To `status` and `gc`: the VMs that are left out and whose disks are kept.
    Kept(Vec<KeptRow>),
    /// To `snapshot`: what each host has.
    Snapshots(Vec<SnapshotRow>),
    /// To `status`, behind its rows: the VMs whose startup lines failed.
    Startup(Vec<StartupRow>),
    /// To `status --gauges`.
    Gauges(Vec<GaugeRow>),
}

/// A step of the work on a VM or for a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// For which project, where there may be several.
    #[serde(with = "crate::name::option")]
    pub project: Option<Name>,
    /// For which VM; none is the whole project or host.
    #[serde(with = "crate::name::option")]
    pub vm: Option<Name>,
    /// On which service host.
    #[serde(with = "crate::name::option")]
    pub host: Option<Name>,
    /// What is done.
    pub step: Step,
    /// How far it is.
    pub state: StepState,
    /// More about it, for people; may be empty.
    pub detail: String,
}

/// What is done in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// A host is asked whether it can take its part.
    Ask,
    /// The revision is published.
    Publish,
    /// A switch is put up or taken down.
    Switch,
    /// An image or file is fetched from a peer.
    Fetch,
    /// A VM's disk and configuration are made.
    Build,
    /// A VM starts, until it is ready.
    Start,
    /// A VM stops.
    Stop,
    /// A VM and its disk are removed.
    Remove,
    /// A template image is made.
    Template,
    /// A VM comes to another host, until it does there what it did.
    Move,
    /// A VM is taken over from an owner that is gone.
    TakeOver,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepState {
    /// It began, or goes on with another detail.
    Begun,
    /// It is done.
    Done,
    /// It was done already: nothing had to change.
    Unchanged,
    /// It failed; a [`Failure`] says why.
    Failed,
}

/// A host, or the agent itself, says no; nothing was changed because of this request there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Who says so; none is the agent that was asked.
    #[serde(with = "crate::name::option")]
    pub host: Option<Name>,
    /// About which VM.
    #[serde(with = "crate::name::option")]
    pub vm: Option<Name>,
    /// The rule, as a stable short code such as `memory` or `template-missing`.
    pub rule: String,
    /// What the rule says here, with the value and the limit.
    pub text: String,
    /// Who can change that, or what to do.
    pub who_can_change: Option<String>,
}

/// Something was tried and didn't work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried, as in `starting`.
    pub what: String,
    /// On which service host.
    #[serde(with = "crate::name::option")]
    pub host: Option<Name>,
    /// For which VM.
    #[serde(with = "crate::name::option")]
    pub vm: Option<Name>,
    /// Why it didn't work, outermost reason first.
    pub why: String,
    /// The last lines of the VM's console, oldest first; as the guest wrote them, so not to be trusted.
    pub console_tail: Vec<String>,
    /// The next commands to try.
    pub next: Vec<String>,
}

/// A host that didn't answer in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Which.
    #[serde(with = "crate::name")]
    pub host: Name,
    /// What can't be done, or isn't known, because of that.
    pub text: String,
}

/// A stream that a command writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecExit {
    /// By itself, with this status.
    Status(u8),
    /// By a signal.
    Signal(i32),
}
