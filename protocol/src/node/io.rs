//! What goes into a node and what comes out of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::message::{Message, Refusal, RunOrder, RunningVms};
use crate::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use crate::model::{Blob, Fragment, MemoryMib, Platform, Project};
use crate::plan::{Observed, Step};
use crate::record::{Nat, RecordKey, VerifiedRecord, VmState};
use crate::trust::{KeyPair, Signed};

/// What a node is told once, when it starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The host's key.
    pub keys: KeyPair,
    /// The host's name in the mesh.
    pub name: Name,
    /// The grants that make it a member.
    pub chain: Vec<Signed>,
    /// The groups that it counts itself to.
    pub groups: Vec<Name>,
    /// The platforms that work on it.
    pub platforms: Vec<Platform>,
    /// The memory that VMs may have here in all.
    pub memory_limit: MemoryMib,
    /// The version of its agent.
    pub agent_version: String,
    /// Seeds what is drawn by lot: which peer to compare records with.
    pub seed: u64,
    /// The rule that is switched off, to see whether the simulator notices.
    #[cfg(feature = "mutants")]
    pub mutation: Option<super::Mutation>,
}

impl NodeConfig {
    /// Returns the least that a node needs: a host that lends nothing.
    pub fn new(keys: KeyPair, name: Name, chain: Vec<Signed>) -> Self {
        Self {
            keys,
            name,
            chain,
            groups: Vec::new(),
            platforms: Vec::new(),
            memory_limit: MemoryMib(0),
            agent_version: String::new(),
            seed: 0,
            #[cfg(feature = "mutants")]
            mutation: None,
        }
    }
}

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug, Default)]
pub struct StoredState {
    /// Records, verified again.
    pub records: Vec<VerifiedRecord>,
    /// Fragments by their digest.
    pub fragments: Vec<(Digest, Arc<Fragment>)>,
    /// The projects that the host has given its word to, as its journals say: only they give it the right to run a
    /// VM or to promise.
    pub joined: BTreeSet<ProjectId>,
}

/// Names a request of the operator, from input to outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// Names a write, from [`Output::Persist`] to [`Input::Persisted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// Something that happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The first input: the VMs that the platforms found.
    Start {
        /// Every VM with a folder here.
        found: Vec<(VmId, Observed)>,
    },
    /// A peer that belongs to the mesh is connected.
    Connected(PublicKey),
    /// It no longer is.
    Disconnected(PublicKey),
    /// A message could not be brought to a peer.
    Unreachable(PublicKey),
    /// A message from a peer.
    Message {
        /// Who sent it, as the connection proves.
        from: PublicKey,
        /// What it says.
        message: Message,
    },
    /// A record from gossip.
    Record(VerifiedRecord),
    /// A write is durable, and so are all before it.
    Persisted(WriteId),
    /// The operator asks for something.
    Operate {
        /// Names it.
        op: OpId,
        /// What.
        operation: Operation,
    },
    /// The operator has gone away: what it asked for goes on, unobserved.
    Abandon(OpId),
    /// The host has looked at its part of a revision.
    Checked {
        /// The revision.
        revision: Digest,
        /// Whether it can be built here.
        verdict: Result<(), Refusal>,
    },
    /// A step has ended.
    StepDone {
        /// The VM.
        vm: VmId,
        /// The step.
        step: Step,
        /// What the platform sees now, or why the step failed, for people.
        result: Result<Observed, String>,
    },
    /// A VM has changed by itself.
    Observed {
        /// The VM.
        vm: VmId,
        /// What the platform sees now.
        observed: Observed,
    },
    /// Whether a VM reaches the outside by this host's address translation.
    Nat {
        /// Which VM.
        vm: VmId,
        /// Whether it does.
        nat: Nat,
    },
    /// [`super::Node::poll_timeout`] has come.
    Timeout,
    /// There is room on the host's disk for more to be signed and built, or none any more.
    Room(Room),
}

/// Whether a host's disk has room for new parts of projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Ample,
    /// What is there can be run and removed, nothing new is taken on.
    Full,
}

/// Something the operator asks for.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Build a project: its first revision.
    Build(Box<BuildOrder>),
    /// Remove a project: its last revision.
    Remove {
        /// The project.
        project: ProjectId,
        /// What becomes of VMs that run.
        running: RunningVms,
    },
    /// Start or stop VMs, in boot order or in its reverse.
    Run {
        /// The VMs.
        vms: Vec<VmId>,
        /// What to do.
        order: RunOrder,
        /// The pause between one VM and the next, in milliseconds.
        pause_ms: u64,
    },
}

/// A project to be built.
#[derive(Clone, Debug)]
pub struct BuildOrder {
    /// Its label.
    pub label: Label,
    /// Its definition.
    pub project: Project,
    /// The contents of its files.
    pub blobs: Vec<Blob>,
    /// Who asks, for people.
    pub author: String,
    /// What happens to a project of the same label.
    pub existing: ExistingProject,
    /// What happens if a host fails to build its part.
    pub on_failure: OnFailure,
}

/// What a build does with a project that has its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingProject {
    /// It is a reason to refuse.
    Refuse,
    /// It is removed, disks and all, once the new one is sure to be built; its VMs may run, or not.
    Replace(RunningVms),
}

/// What a build does when a step fails on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It removes what was built.
    Undo,
    /// It leaves all as it is, to be looked at.
    Keep,
}

/// Something that a node wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Bring a message to a peer; it may get lost.
    Send {
        /// To whom.
        to: PublicKey,
        /// What.
        message: Message,
    },
    /// Gossip a record to everybody.
    Broadcast(VerifiedRecord),
    /// Make these writes durable, all or none, then say [`Input::Persisted`].
    Persist {
        /// Names it.
        id: WriteId,
        /// What to write, in this order.
        writes: Vec<Write>,
    },
    /// Find out whether this part of a revision can be built here, fetching what it needs; then say
    /// [`Input::Checked`].
    Check {
        /// The revision.
        revision: Digest,
        /// Who has its files.
        coordinator: PublicKey,
        /// The part.
        fragment: Arc<Fragment>,
    },
    /// Carry out a step, then say [`Input::StepDone`].
    Step {
        /// The VM.
        vm: VmId,
        /// What to do.
        step: Step,
        /// The project's label.
        label: Label,
        /// The part of the project that the VM belongs to.
        fragment: Arc<Fragment>,
    },
    /// Have exactly these switches open.
    Switches(Vec<SwitchWanted>),
    /// Something to show to the operator.
    Progress {
        /// Who waits for it.
        op: OpId,
        /// The VM.
        vm: Name,
        /// Its host.
        host: Name,
        /// What it is doing.
        state: VmState,
    },
    /// What the operator asked for has ended.
    Done {
        /// Which.
        op: OpId,
        /// How.
        outcome: Outcome,
    },
}

/// A durable change.
#[derive(Clone, Debug)]
pub enum Write {
    /// Store a record in its slot.
    Record(RecordKey, VerifiedRecord),
    /// Store a record under the host's own key that it was told of by others: it gives no right.
    Heard(RecordKey, VerifiedRecord),
    /// Remember that the host has given its word to a project.
    Join(ProjectId),
    /// Store a fragment under its digest.
    Fragment(Digest, Arc<Fragment>),
    /// Forget a fragment.
    DropFragment(Digest),
}

/// A switch that this host carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchWanted {
    /// Its project.
    pub project: ProjectId,
    /// Its name.
    pub name: Name,
    /// The other hosts that carry it.
    pub peers: Vec<PublicKey>,
}

/// How something that the operator asked for has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is done.
    Done,
    /// Nothing was changed.
    Refused(Vec<HostRefusal>),
    /// Some of it went wrong.
    Failed(Vec<VmFailure>),
}

/// A host's refusal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRefusal {
    /// The host's name, as far as it is known.
    pub host: String,
    /// Its reason.
    pub refusal: Refusal,
}

/// What went wrong with a VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmFailure {
    /// The VM.
    pub vm: Name,
    /// Its host.
    pub host: String,
    /// Why, for people.
    pub reason: String,
    /// Whether anything was tried at all.
    pub cause: FailureCause,
}

/// What lies behind a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureCause {
    /// It was tried and went wrong, or somebody else was faster.
    Tried,
    /// The host was off, or didn't answer: what it did is not known.
    Silent,
}
