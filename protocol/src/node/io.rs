//! What goes into a node and what comes out of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::message::{Message, Refusal, RunOrder, RunningVms};
use super::reservations::ReservationNote;
use crate::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use crate::model::{Blob, Fragment, HookPoint, Impairment, MemoryMib, Platform, Project, SwitchKind, Uplink};
use crate::plan::{Observed, Step};
use crate::record::{Ballot, Commit, Consent, Epoch, Nat, RecordKey, VerifiedRecord, VmState};
use crate::trust::{GuestRight, KeyPair, Signed, Standing};

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
    /// Those whose projects' hooks are run here.
    pub hook_owners: Vec<HookOwner>,
    /// The version of its agent.
    pub agent_version: String,
    /// Seeds what is drawn by lot: which peer to compare records with.
    pub seed: u64,
    /// The rule that is switched off, to see whether the simulator notices.
    #[cfg(feature = "mutants")]
    pub mutation: Option<super::Mutation>,
}

/// Somebody whose projects' hooks a host runs. A name alone would be anybody's: each host of a mesh says by itself who its
/// users are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOwner {
    /// The owner.
    pub owner: Name,
    /// Whose word it is that they are the one.
    pub vouched: Vouched,
}

/// The hosts that are believed who their users are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// The one that runs the hooks.
    Here,
    /// The member of that name.
    By(Name),
    /// Each.
    ByAnybody,
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
            hook_owners: Vec::new(),
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
    /// What the host has said about revisions whose child is not decided.
    pub decisions: Vec<DecisionNote>,
    /// What this host has signed about VMs, and which copies of disks it has.
    pub holdings: Vec<(VmId, Holding)>,
    /// The projects that the host has given its word to, as its journals say: only they give it the right to promise
    /// anything for them.
    pub joined: BTreeSet<ProjectId>,
    /// What the host has reserved for, as far as it doesn't know what became of it.
    pub reservations: Vec<ReservationNote>,
}

/// A host's own note of one VM: what it has signed last about who owns it, or what copy of its disk it has.
///
/// Only such a note gives the right to run a VM. What peers know can take that right away, and never give it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// It has claimed an epoch.
    Claimed {
        /// The claim.
        claim: VerifiedRecord,
        /// The fragment that defines the VM here.
        fragment: Digest,
        /// Whether there was a disk when it claimed: if that is gone, no new one is made.
        made: bool,
    },
    /// It is being given a VM; the copy of the disk is not complete.
    Arriving {
        /// The epoch of the owner.
        epoch: Epoch,
        /// The owner.
        from: PublicKey,
    },
    /// It is being given a VM, and has signed that the copy lies complete on its disk.
    Arrived {
        /// The epoch of the owner.
        epoch: Epoch,
        /// The owner.
        from: PublicKey,
        /// The root digest that was read back.
        root: Digest,
    },
    /// It has released a VM, and holds the copy pinned until it holds the claim of whom it was released to.
    Released {
        /// The release.
        release: VerifiedRecord,
        /// The fragment that defines the VM here.
        fragment: Digest,
        /// See [`Self::Claimed`].
        made: bool,
    },
    /// It has declined a VM; whatever copy there is is not complete.
    Declined {
        /// The decline.
        decline: VerifiedRecord,
    },
    /// Somebody else owns the VM; the disk as it was when this host gave it away is still here.
    Shadow {
        /// The epoch that was released.
        epoch: Epoch,
        /// The root digest.
        root: Digest,
        /// The fragment that defined the VM here.
        fragment: Digest,
    },
}

/// What a host has said about one revision whose child is not decided, and must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionNote {
    /// The revision.
    pub parent: Digest,
    /// The highest ballot that it has answered.
    pub answered: Option<Ballot>,
    /// The last promise that it has made: its ballot and the child, with the reservations for it.
    pub promised: Option<(Ballot, Commit)>,
    /// The number of the last ballot that it has coordinated itself: none is used twice.
    pub coordinated: u64,
    /// The children that it has reserved for, each with the digest of its own part, oldest first.
    pub reserved: Vec<(Digest, Digest)>,
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
    /// A hook has ended.
    HookDone {
        /// The project.
        project: ProjectId,
        /// When it is run.
        point: HookPoint,
        /// Why it failed, for people.
        result: Result<(), String>,
    },
    /// A VM has changed by itself. One that ends was seen to run before.
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
    /// The startup lines of a VM that is up have failed.
    StartupFailed {
        /// Which VM.
        vm: VmId,
    },
    /// What the guest in a VM that is up measures now.
    Gauges {
        /// Which VM.
        vm: VmId,
        /// Each gauge with its value.
        values: Vec<(Name, f64)>,
    },
    /// A round of copying a disk here has ended.
    Pulled {
        /// Which VM.
        vm: VmId,
        /// How many bytes had changed, or why it failed, for people.
        result: Result<u64, String>,
    },
    /// A VM's disk that does not change any more was hashed.
    Sealed {
        /// Which VM.
        vm: VmId,
        /// Its root digest, or why that can't be known, for people.
        result: Result<Digest, String>,
    },
    /// A copy was made durable and read back from the disk.
    CopyRead {
        /// Which VM.
        vm: VmId,
        /// Its root digest, or why it can't be read, for people.
        result: Result<Digest, String>,
    },
    /// There is little space left: copies that nobody needs may go.
    SpaceShort,
    /// There is room on the host's disk for more to be signed and built, or none any more.
    Room(Room),
    /// [`super::Node::poll_timeout`] has come.
    Timeout,
    /// An operator asks for something, with grants of their own: they are judged by every host that does something
    /// for it.
    OperateFor {
        /// Names it.
        op: OpId,
        /// What.
        operation: Operation,
        /// What the grants were judged to allow.
        standing: Box<Standing>,
    },
    /// Somebody who is no member has grants, root first; they were judged.
    GrantSeen(Vec<Signed>),
    /// This host takes back a grant: the last of this chain, which it has signed or which follows from one that it has
    /// signed.
    Revoke {
        /// The chain, root first.
        chain: Vec<Signed>,
        /// Why, for people.
        reason: String,
    },
    /// Somebody else takes back a grant, and has signed that.
    RevokedBy(VerifiedRecord),
    /// [`Step::Apply`] has ended: the VM can't have as it runs what it lacks. Nothing of it was changed that a start
    /// would not change too.
    NotLive {
        /// Which VM.
        vm: VmId,
    },
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
    /// Change a project: its next revision.
    Revise(Box<ReviseOrder>),
    /// Start or stop VMs, in boot order or in its reverse.
    Run {
        /// The VMs.
        vms: Vec<VmId>,
        /// What to do.
        order: RunOrder,
        /// The pause between one VM and the next, in milliseconds.
        pause_ms: u64,
    },
    /// Take over a VM whose owner is gone, with the copy that is here.
    TakeOver {
        /// Which VM.
        vm: VmId,
        /// What is done although somebody has just heard its owner.
        owner: OwnerHeard,
        /// Who asks, for people.
        author: String,
    },
    /// What a VM of this host wants for itself: its project's next revision.
    Guest(Box<GuestRight>),
    /// This host is the right one of those with its key: it signs again, and takes what others have heard as its own.
    GoOn,
}

/// What a takeover does where the owner was heard within the failure timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerHeard {
    /// It is refused.
    Refuse,
    /// It takes over all the same.
    Force,
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

/// A project to be changed.
#[derive(Clone, Debug)]
pub struct ReviseOrder {
    /// The project.
    pub project: ProjectId,
    /// What it is to be.
    pub content: ReviseContent,
    /// Who asks, for people.
    pub author: String,
    /// Why, for people.
    pub reason: String,
    /// What it takes for the change to count.
    pub consent: Consent,
    /// What becomes of running VMs that are left out.
    pub running: RunningVms,
    /// Whose VMs it goes on with where partial revisions contradict each other, or to settle a partial one; none
    /// means the head's, where nothing is contested.
    pub from_head: Option<Digest>,
    /// For how long the disks of VMs that it leaves out are kept, in milliseconds.
    pub keep_removed_ms: u64,
}

/// What a project is to be.
#[derive(Clone, Debug)]
pub enum ReviseContent {
    /// This.
    Definition {
        /// Its definition.
        project: Project,
        /// The contents of its files.
        blobs: Vec<Blob>,
    },
    /// What it was in this revision.
    Revision(Digest),
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
        /// The part that it replaces; none where the host carries nothing of the project.
        before: Option<Arc<Fragment>>,
        /// The VMs of the part whose disks are at other hosts.
        arriving: Vec<Name>,
        /// The VMs whose disks are here and go to other hosts.
        leaving: Vec<Name>,
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
    /// Run a hook of a project on this host, then say [`Input::HookDone`].
    Hook {
        /// The project.
        project: ProjectId,
        /// Which hook.
        point: HookPoint,
        /// The project's label.
        label: Label,
        /// The part of the project that is here, which has its lines.
        fragment: Arc<Fragment>,
    },
    /// Copy what has changed of a VM's disk since the last time, and its image the first time, to this host; then
    /// say [`Input::Pulled`].
    Pull {
        /// Which VM.
        vm: VmId,
        /// Its owner, who has it.
        from: PublicKey,
        /// Whether it still runs there.
        round: PullRound,
    },
    /// Hash the disk of a VM that does not run, then say [`Input::Sealed`].
    Seal {
        /// Which VM.
        vm: VmId,
    },
    /// Make the copy of a disk durable, read it back whole, then say [`Input::CopyRead`]. From then on it is the
    /// disk of a VM that is down.
    ReadCopy {
        /// Which VM.
        vm: VmId,
    },
    /// What was the disk of a VM is a copy from now on: nobody but this node may have it run again.
    Shelve {
        /// Which VM.
        vm: VmId,
    },
    /// Delete a copy, complete or not.
    DropCopy {
        /// Which VM.
        vm: VmId,
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
    /// A grant was taken back: whoever presents it is no longer served.
    Revoked(Digest),
    /// Somebody has signed two links in one slot, these: they are shown as the proof, and their author is cut off.
    Forked(Box<[VerifiedRecord; 2]>),
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
    /// Store what this host has signed about a VM, in the place of what it had signed before.
    Holding(VmId, Holding),
    /// Forget that this host ever had anything to do with a VM: it has no copy of it any more.
    DropHolding(VmId),
    /// Store what was said about a revision, in the place of what stood there.
    Decision(Box<DecisionNote>),
    /// Forget what was said about a revision: its child is decided, and known.
    DropDecision(Digest),
    /// Store what was reserved for a revision, in the place of what stood there.
    Reservation(Box<ReservationNote>),
    /// Forget what was reserved for a revision: what became of it is known.
    DropReservation(Digest),
}

/// Whether a VM runs while its disk is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullRound {
    /// It may: what is copied is not yet all.
    Running,
    /// It is stopped: what is copied now completes it.
    Last,
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
    /// What it does with frames.
    pub kind: SwitchKind,
    /// How this host joins it to its own network, if it is this one that does.
    pub uplink: Option<UplinkWanted>,
    /// What is done to the frames that leave interfaces of VMs of this host, where something is.
    pub impaired: Vec<ImpairedPort>,
}

/// How a switch is joined to the network of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkWanted {
    /// By what.
    pub uplink: Uplink,
    /// With which number frames are tagged there; none is not at all.
    pub vlan: Option<u16>,
}

/// An interface of a VM of this host, and what is done to the frames that leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImpairedPort {
    /// The VM.
    pub vm: VmId,
    /// The interface.
    pub interface: Name,
    /// What is done.
    pub impairment: Impairment,
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
