//! Changing a project that is there, and what would come of it.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

use super::request::{FileHead, ProjectRef};

/// A further revision of a project, to be planned or to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which project; none is the one that the text names.
    pub project: Option<ProjectRef>,
    /// What it is to be.
    pub content: ChangeContent,
    /// What it takes for the change to count.
    pub consent: ChangeConsent,
    /// What becomes of VMs that are left out and run.
    pub left_out: LeftOut,
    /// Whose VMs it goes on with, where revisions contradict each other: the digits with which that one's digest begins.
    pub from_head: Option<String>,
    /// The revision that the operator has looked at, by its digest: where the project stands elsewhere, nothing is done.
    pub seen: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// For how long the disks of VMs that are left out are kept, in milliseconds; 0 deletes them at once.
    pub keep_removed_ms: u64,
}

/// What a project is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeContent {
    /// What this text says; the bytes of the files follow as input.
    Text {
        /// The project file, with its includes folded in.
        source: String,
        /// What `--var` gave: name and value, in the order of the command line.
        vars: Vec<(String, String)>,
        /// The files that it copies into guests.
        files: Vec<FileHead>,
    },
    /// What this text says, with the variables and files that the project has.
    Edited {
        /// The text.
        source: String,
    },
    /// What it was in this revision: its number, or the digits with which its digest begins; none is the one before.
    Revision(Option<String>),
    /// What this head has, of those that contradict each other: the digits with which its digest begins.
    Head(String),
}

/// What it takes for a change to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeConsent {
    /// A majority of the project's hosts.
    Majority,
    /// The hosts that are there.
    Partial,
}

/// What becomes of VMs that are left out and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeftOut {
    /// They are a reason to refuse.
    Refuse,
    /// They are stopped.
    Stop,
}

/// What would come of a change, before its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Where it stands; none where it isn't built.
    pub head: Option<RevisionRef>,
    /// The hosts whose part would be another one.
    #[serde(with = "crate::name::list")]
    pub hosts: Vec<Name>,
}

/// A revision by number and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRef {
    /// How many revisions lead to it, itself among them.
    pub number: u32,
    /// Its digest: 64 hexadecimal digits.
    pub digest: String,
}

/// One thing that would come, go, change or move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRow {
    /// The hosts that answer for it.
    #[serde(with = "crate::name::list")]
    pub hosts: Vec<Name>,
    /// What becomes of it.
    pub sign: PlanSign,
    /// The keyword of what it is: `project`, `switch` or `host`.
    pub kind: String,
    /// Its name; the project has none here.
    #[serde(with = "crate::name::option")]
    pub name: Option<Name>,
    /// What of it, as the language calls it; none is all of it.
    pub key: Option<String>,
    /// What it is, where that can be said in a line.
    pub from: Option<String>,
    /// What it is to be.
    pub to: Option<String>,
    /// What it costs: `build`, `remove`, `live`, `reboot`, `rebuild` or `move`.
    pub act: String,
    /// Why it is that.
    pub why: String,
}

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlanSign {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// It is another one.
    Changed,
    /// It is elsewhere.
    Moved,
}

/// What an agent asks another one about its part of a change that is only thought of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consider {
    /// The question, as one node puts it to another.
    #[serde(with = "crate::bytes")]
    pub message: Vec<u8>,
}

/// A project stands at another revision now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revised {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Where it stands.
    pub head: RevisionRef,
    /// How that revision stands.
    pub standing: RevisionStanding,
}

/// A revision of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRow {
    /// Which one.
    pub revision: RevisionRef,
    /// The one before it.
    pub parent: Option<String>,
    /// How it stands.
    pub standing: RevisionStanding,
    /// Who made it.
    pub author: String,
    /// The host that published it.
    pub publisher: String,
    /// When, by its author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Why.
    pub reason: String,
    /// The hosts that carry a part of it.
    #[serde(with = "crate::name::list")]
    pub hosts: Vec<Name>,
    /// How many VMs it has.
    pub vms: u32,
    /// How many of them the one before didn't have.
    pub added: u32,
    /// How many the one before had, and it hasn't.
    pub removed: u32,
    /// How many are elsewhere.
    pub moved: u32,
    /// On how many hosts the part is another one.
    pub changed_hosts: u32,
}

/// How a revision stands among the others of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevisionStanding {
    /// A majority has decided on it.
    Decided,
    /// It counts in part: the majority was away.
    Partial,
    /// It counts in part, and another one contradicts it.
    Contested,
    /// Another one went before it.
    Beaten,
}

impl RevisionStanding {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Partial => "partial",
            Self::Contested => "contested",
            Self::Beaten => "beaten",
        }
    }
}

/// A project on which not all agree, or that has VMs which only a losing revision has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsettledRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// The digests of the partial revisions that lead to the head, oldest first.
    pub partial: Vec<String>,
    /// The digests of the partial revisions that contradict each other.
    pub contested: Vec<String>,
    /// The VMs that only a losing revision has: kept as they are.
    #[serde(with = "crate::name::list")]
    pub stranded: Vec<Name>,
}

/// What a project was submitted as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// The revision.
    pub revision: RevisionRef,
    /// Its text, with includes and what plugins made folded in.
    pub source: String,
    /// The variables of the command line.
    pub vars: Vec<(String, String)>,
}
