//! What one node says to another directly; records are also gossiped.

use std::sync::Arc;

use super::sync::SyncRange;
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::model::Fragment;
use crate::plan::StopLimit;
use crate::record::{
    Answered, Ballot, Commit, Epoch, Promise, Ready, RecordKey, Reservation, Revision, VerifiedRecord,
};
use crate::trust::{GuestRight, Signed, Verified};

/// A message to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you carry your part of this revision?
    Ask {
        /// The question, signed by whoever coordinates.
        ask: Arc<Verified<Ask>>,
        /// The part; none where the revision leaves the host out, doesn't change its part, or where the host has it
        /// already.
        fragment: Option<Arc<Fragment>>,
    },
    /// The answer to an [`Ask`].
    Answer {
        /// The revision that was asked about.
        revision: Digest,
        /// Yes, signed; or no, with the rule.
        verdict: Result<Verified<Reservation>, Refusal>,
    },
    /// The revision will not be committed: whoever reserved for it may forget it.
    Withdraw {
        /// The revision.
        revision: Digest,
    },
    /// Start or stop a VM of yours.
    Run(Arc<Verified<RunRequest>>),
    /// The answer to a [`RunRequest`].
    RunAnswer {
        /// The digest of the request.
        request: Digest,
        /// What became of it.
        verdict: RunVerdict,
    },
    /// Ranges of the sender's records, to be compared.
    Sync(Vec<SyncRange>),
    /// Send me these records.
    Want(Vec<RecordKey>),
    /// Records that the receiver lacks.
    Records(Vec<VerifiedRecord>),
    /// Send me the fragment with this digest.
    FragmentWanted(Digest),
    /// A fragment that was asked for.
    FragmentFound(Arc<Fragment>),
    /// Would you take part in this ballot on a revision's child, and in no lower one?
    Ballot {
        /// The revision.
        parent: Digest,
        /// The ballot; its coordinator is the sender.
        ballot: Ballot,
    },
    /// The answer to a ballot.
    Answered {
        /// What the host says, signed.
        answer: Box<Verified<Answered>>,
        /// The child that it promised last, with the reservations for it.
        candidate: Option<Box<Commit>>,
    },
    /// Would you promise this child of a revision?
    Propose(Box<Propose>),
    /// The answer to a [`Propose`].
    Promised(Box<Verified<Promise>>),
    /// A higher ballot was answered for this parent: the receiver's is over.
    Outbid {
        /// The parent.
        parent: Digest,
        /// The ballot of the receiver.
        ballot: Ballot,
        /// The number of the ballot that was answered.
        number: u64,
    },
    /// About who owns a VM.
    HandOver(HandOver),
    /// The sender's agent is in this run.
    OwnWanted {
        /// Names the run, by lot.
        instance: u64,
        /// Whether the receiver is to say what it has heard of the sender.
        asks: bool,
    },
    /// What was heard under the receiver's key.
    OwnTold {
        /// The run that this is for: any other one passes it over.
        instance: u64,
        /// Another run of the same key that is alive.
        other: Option<u64>,
        /// What the receiver has last said of itself, if it has asked.
        records: Vec<VerifiedRecord>,
    },
}

/// What hosts say to each other about who owns a VM, beside the records that everybody hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// To the owner: I have nearly all of its disk; stop it and tell the digest of what is left.
    Halt {
        /// Which VM.
        vm: VmId,
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// To the new host: it is stopped, and its disk has this root digest.
    Halted {
        /// Which VM.
        vm: VmId,
        /// The owner's epoch.
        epoch: Epoch,
        /// The digest.
        root: Digest,
    },
    /// To the owner: the disk lies complete on mine.
    Ready(Arc<Verified<Ready>>),
    /// To the new host: not now, or not to you; nothing was changed.
    NotNow {
        /// Which VM.
        vm: VmId,
        /// The epoch that was asked about.
        epoch: Epoch,
        /// Why, for people.
        reason: String,
    },
    /// To anybody: what do you know of who owns these VMs?
    LinksWanted(Vec<VmId>),
    /// The answer: the links of each that the sender holds, newest first where there are too many.
    LinksTold {
        /// The VMs that were asked about.
        vms: Vec<VmId>,
        /// What there is.
        links: Vec<VerifiedRecord>,
    },
    /// To anybody: when did you last hear this host?
    HeardWanted {
        /// Which.
        host: PublicKey,
    },
    /// The answer.
    HeardTold {
        /// Which host.
        host: PublicKey,
        /// How many milliseconds ago; none where never.
        ago_ms: Option<u64>,
    },
}

/// Asks a voter to promise a child, with all that shows that it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propose {
    /// The ballot.
    pub ballot: Ballot,
    /// The child, with the reservations of all hosts that it changes, and no promises.
    pub candidate: Commit,
    /// The answers of a majority of the voters to this ballot.
    pub answers: Vec<Verified<Answered>>,
}

/// Asks one host to reserve for its part of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who is asked: an ask for one host says nothing to another.
    pub host: PublicKey,
    /// The revision.
    pub revision: Revision,
    /// The digest of the revision's encoding.
    pub digest: Digest,
    /// Whether running VMs may be stopped for it.
    pub running: RunningVms,
    /// The project that will be removed first: its name and its memory count as free.
    pub replaces: Option<ProjectId>,
    /// The grants of whoever asked the author for it, root first; none where that is a user of the author's own host.
    pub chain: Vec<Signed>,
    /// By what right a VM wants it; none where people do. It travels beside what is signed, and proves itself.
    pub guest: Option<Arc<GuestRight>>,
}

/// What becomes of running VMs that a revision leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningVms {
    /// They are a reason to refuse.
    Refuse,
    /// They are stopped.
    Stop,
}

/// Asks the owner of a VM to start or stop it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// Who is asked.
    pub owner: PublicKey,
    /// Which VM.
    pub vm: VmId,
    /// The epoch of its ownership that the author saw: in another one the request is stale.
    pub epoch: Epoch,
    /// The run counter that the author saw: where it has moved on, the request is stale.
    pub seen_counter: u64,
    /// What to do.
    pub order: RunOrder,
    /// When it was made, by the author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// The grants of whoever asked the author for it, root first; none where that is a user of the author's own host.
    pub chain: Vec<Signed>,
}

/// What a [`RunRequest`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOrder {
    /// Run.
    Up,
    /// Shut down within this time.
    Down(StopLimit),
}

/// What became of a [`RunRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunVerdict {
    /// It stands in the owner's records.
    Applied,
    /// Somebody else was first.
    Stale {
        /// The owner's counter.
        counter: u64,
        /// Who changed it.
        by: PublicKey,
    },
    /// The asked host doesn't own such a VM.
    NotOwner,
    /// Whoever asks may not.
    Refused(Box<Refusal>),
}

/// Why a host does not do its part. Nothing was changed on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// The numbers and names behind it, and what to do, for people.
    pub detail: String,
}

/// A rule by which a host refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No host of that name is known.
    UnknownHost,
    /// The host is off or can't be reached.
    HostOff,
    /// The host didn't answer in time.
    NoAnswer,
    /// The owner has another project of that name.
    LabelInUse,
    /// The VMs need more memory than the host has left.
    Memory,
    /// The host doesn't have the template.
    Template,
    /// The host can't run VMs of that platform.
    Platform,
    /// The disk can't be that size, or there is no room for it.
    Disk,
    /// A file of the project could not be fetched.
    Files,
    /// The VMs run.
    Running,
    /// The revision doesn't follow the one that the host knows.
    Parent,
    /// The request contradicts itself.
    Malformed,
    /// Whoever signed the request holds no grant of this mesh.
    Grant,
    /// The project is larger than one revision can be.
    Size,
    /// The host doesn't share a path with VMs.
    Share,
    /// The host runs no hooks of that owner.
    Hooks,
    /// No host of a group has room.
    Group,
    /// The disk of a VM would be lost, and nobody asked for that.
    DiskLoss,
    /// Too few of the hosts that decide on the change have answered.
    Majority,
    /// Another change of the project was decided first.
    Overtaken,
    /// Partial revisions contradict each other: they have to be resolved first.
    Contested,
    /// Nothing would change.
    Unchanged,
    /// The change was put forward, and it is not known whether it was decided.
    Undecided,
    /// Who owns the VM stands against it.
    Ownership,
    /// The host has lost what it had signed for the project.
    Forgotten,
    /// More than the grant of whoever asks allows.
    GrantLimit,
    /// No policy of the VM that asks allows it.
    Envelope,
    /// The key of the VM that asks is not the one that it has now.
    GuestKey,
    /// The VM asks too often.
    GuestRate,
}

impl Rule {
    /// Every rule, in the order of its code.
    pub const ALL: [Self; 29] = [
        Self::UnknownHost,
        Self::HostOff,
        Self::NoAnswer,
        Self::LabelInUse,
        Self::Memory,
        Self::Template,
        Self::Platform,
        Self::Disk,
        Self::Files,
        Self::Running,
        Self::Parent,
        Self::Malformed,
        Self::Grant,
        Self::Size,
        Self::Share,
        Self::Hooks,
        Self::Group,
        Self::DiskLoss,
        Self::Majority,
        Self::Overtaken,
        Self::Contested,
        Self::Unchanged,
        Self::Undecided,
        Self::Ownership,
        Self::Forgotten,
        Self::GrantLimit,
        Self::Envelope,
        Self::GuestKey,
        Self::GuestRate,
    ];

    /// Returns its stable name, as users and scripts see it.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown-host",
            Self::HostOff => "host-off",
            Self::NoAnswer => "no-answer",
            Self::LabelInUse => "label-in-use",
            Self::Memory => "memory",
            Self::Template => "template",
            Self::Platform => "platform",
            Self::Disk => "disk",
            Self::Files => "files",
            Self::Running => "running",
            Self::Parent => "parent",
            Self::Malformed => "malformed",
            Self::Grant => "grant",
            Self::Size => "size",
            Self::Share => "share",
            Self::Hooks => "hooks",
            Self::Group => "group",
            Self::Ownership => "ownership",
            Self::Forgotten => "forgotten",
            Self::GrantLimit => "grant-limit",
            Self::Envelope => "envelope",
            Self::GuestKey => "guest-key",
            Self::GuestRate => "guest-rate",
            Self::DiskLoss => "disk-loss",
            Self::Majority => "majority",
            Self::Overtaken => "overtaken",
            Self::Contested => "contested",
            Self::Unchanged => "unchanged",
            Self::Undecided => "undecided",
        }
    }
}
