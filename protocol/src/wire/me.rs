//! What a guest and the agent of its host say to each other about the project that the guest is in: `mlnctl me`.
//!
//! It goes over the guest's line, whole in one message each, through the holder, which knows only the number of a question:
//! with that it answers by itself where no agent is there, or where a guest asks too often. The same answers go on to
//! `mlnctl` inside the guest, over a local socket.
//!
//! Enumerations grow at their end only: host and guest may be of different versions.

use serde::{Deserialize, Serialize};

use super::sight::{MeSight, MeView};
use super::{DecodeError, decode, encode};

/// The version of the shapes below: the first two bytes of each.
pub const ME_VERSION: u16 = 1;

/// The longest of them, in bytes: what a message of the line holds, with room for its frames and the holder's.
pub const ME_BYTES_MAX: usize = 60 << 10;

/// The most rows of one answer; how many more there are is said.
pub const ME_ROWS_MAX: usize = 100;

/// What a guest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeAskWire {
    version: u16,
    /// The answer has the same; never 0.
    pub number: u64,
    /// What it is.
    pub ask: MeAsk,
}

/// What a guest wants to know, or to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeAsk {
    /// That its host says whose this public key is: it was made for this run of the guest, and has never been on a disk.
    Key([u8; 32]),
    /// That its project is changed: a signed request.
    Request(Vec<u8>),
    /// Who and where it is, and what it may decide.
    Me,
    /// How the machines of its project are.
    Status,
    /// What its project was before, and who changed it.
    Log,
    /// Its policies, and what they look at.
    Sight,
    /// The same, and what the other machines of its project measure; with what it measures itself now.
    Look(Vec<MeValue>),
    /// What would come of a signed request, which is not made.
    Plan(Vec<u8>),
}

/// What a host says, or its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeAnswerWire {
    version: u16,
    /// Which question it answers; 0 is none.
    pub number: u64,
    /// What it is.
    pub answer: MeAnswer,
}

/// What a guest is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeAnswer {
    /// The host has said whose the key is.
    Attested(Box<MeVm>),
    /// No agent is attached to the holder.
    Away,
    /// Nothing was changed, and this is why.
    Refused(Vec<MeRefusal>),
    /// It did not work; what was changed stands in `mlnctl log`.
    Failed {
        /// What went wrong.
        text: String,
    },
    /// The project was changed as it was wanted; what follows from it is under way.
    Done(Box<MeRevision>),
    /// Who and where it is, and what it may decide.
    Me(Box<MeSelf>),
    /// How the machines of its project are.
    Status {
        /// The first of them.
        rows: Vec<MeMachine>,
        /// How many more there are.
        more: u32,
    },
    /// What its project was before, the newest first.
    Log {
        /// The newest of them.
        rows: Vec<MeRevision>,
        /// How many more there are.
        more: u32,
    },
    /// The host is from before there was what it is asked.
    Unknown,
    /// Its policies, and what they look at.
    Sight(Box<MeSight>),
    /// The guest's own gauges, and what its policies did last: the guest agent's answer, not the host's.
    Own {
        /// The gauges.
        gauges: Vec<MeGauge>,
        /// The policies.
        policies: Vec<MeRun>,
    },
    /// Its policies, and all that they look at.
    View(Box<MeView>),
    /// What would come of a request.
    Plan {
        /// The first changes.
        rows: Vec<MePlanRow>,
        /// How many more there are.
        more: u32,
    },
}

/// What a guest measures now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeValue {
    /// The gauge's name.
    pub name: String,
    /// Its value, written as a decimal number.
    pub value: String,
}

/// One thing that would be another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MePlanRow {
    /// The service hosts that say so.
    pub service_hosts: Vec<String>,
    /// `+`, `-`, `~` or `>`, as the host's `plan` has it.
    pub sign: String,
    /// Of what kind it is: `host`, `switch`.
    pub kind: String,
    /// Which.
    pub name: Option<String>,
    /// The keyword, where it is one that changes.
    pub key: Option<String>,
    /// What it is.
    pub from: Option<String>,
    /// What it would be.
    pub to: Option<String>,
    /// What would be done for it: `live`, `reboot`, `move`.
    pub act: String,
    /// Why that, for people; may be empty.
    pub why: String,
}

/// A gauge of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeGauge {
    /// Its name.
    pub name: String,
    /// Its newest value, written as a decimal number.
    pub value: String,
    /// How long ago that was measured, in milliseconds.
    pub ago_ms: u64,
}

/// What a policy of a guest did last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeRun {
    /// Its name.
    pub policy: String,
    /// What came of it when it was last asked; empty where it wasn't yet.
    pub said: String,
    /// How long ago that was, in milliseconds.
    pub ago_ms: u64,
}

/// A VM, as its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeVm {
    /// The revision in which it was born.
    pub birth: [u8; 32],
    /// Its name.
    pub name: String,
    /// Whose project it is in.
    pub owner: String,
    /// The project's name.
    pub project: String,
    /// The service host that owns it.
    pub service_host: String,
    /// How often it was taken over, and one more.
    pub term: u64,
    /// The number of its hand-over within that.
    pub n: u64,
    /// The digest of the revision at which its project stands: what a request begins from.
    pub head: [u8; 32],
}

/// A VM, and what it may decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeSelf {
    /// The VM.
    pub vm: MeVm,
    /// Where its project stands.
    pub revision: MeRevision,
    /// What it may decide.
    pub policies: Vec<MePolicy>,
}

/// What a policy allows a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MePolicy {
    /// Its name.
    pub name: String,
    /// What it allows, each as the language has it: `may move bergen`, `may scale web 1..4`.
    pub may: Vec<String>,
    /// How long after a decision nothing is decided, in milliseconds.
    pub grace_ms: u64,
}

/// A machine of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeMachine {
    /// Its name.
    pub name: String,
    /// The service host that owns it.
    pub service_host: String,
    /// How it is, as `status` says it: `up`, `down`.
    pub state: String,
}

/// A revision of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeRevision {
    /// How many revisions lead to it, itself among them.
    pub number: u32,
    /// Its digest.
    pub digest: [u8; 32],
    /// How it stands among the others: `decided`, `partial`, `contested`, `beaten`.
    pub standing: String,
    /// Who made it.
    pub author: String,
    /// When, by the clock of whoever made it, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Why.
    pub reason: String,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeRefusal {
    /// The host that refuses; empty where that is not known.
    pub host: String,
    /// The name of the rule.
    pub rule: String,
    /// What it says.
    pub text: String,
    /// Who can change it, and how; empty where nobody has to.
    pub who_can_change: String,
}

/// What `mlnctl` in a guest asks its guest agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeCallWire {
    version: u16,
    /// What it is.
    pub call: MeCall,
}

/// What somebody in a guest wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeCall {
    /// [`MeAsk::Me`].
    Me,
    /// [`MeAsk::Status`].
    Status,
    /// [`MeAsk::Log`].
    Log,
    /// A change of the project, which the guest agent signs.
    Want {
        /// Which.
        want: MeWant,
        /// Why, for people.
        reason: String,
    },
    /// A gauge has a value.
    Gauge {
        /// Its name.
        name: String,
        /// The value, a decimal number.
        value: String,
    },
    /// What gauges there are, and what the policies did last.
    Own,
    /// What would come of a change, which is not made.
    Plan(MeWant),
}

/// A change that a VM wants of its own project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeWant {
    /// So many of a class.
    Scale {
        /// The superclass or enumeration.
        class: String,
        /// How many.
        to: u32,
    },
    /// To be on this service host, or on one of this group.
    Move {
        /// Which.
        to: String,
    },
    /// A keyword with another value.
    Set {
        /// Where it stands, as in `mlnctl query`.
        path: String,
        /// The value; none for a keyword that has none.
        value: Option<String>,
    },
    /// A whole new text.
    Text(String),
}

/// Makes the bytes of a question.
pub fn encode_me_ask(number: u64, ask: MeAsk) -> Vec<u8> {
    encode(&MeAskWire { version: ME_VERSION, number, ask })
}

/// Reads a question.
pub fn decode_me_ask(bytes: &[u8]) -> Result<MeAskWire, DecodeError> {
    known(bytes)?;
    decode(bytes, ME_BYTES_MAX)
}

/// Makes the bytes of an answer.
pub fn encode_me_answer(number: u64, answer: MeAnswer) -> Vec<u8> {
    encode(&MeAnswerWire { version: ME_VERSION, number, answer })
}

/// Reads an answer.
pub fn decode_me_answer(bytes: &[u8]) -> Result<MeAnswerWire, DecodeError> {
    known(bytes)?;
    decode(bytes, ME_BYTES_MAX)
}

/// Makes the bytes of what `mlnctl` asks the guest agent.
pub fn encode_me_call(call: MeCall) -> Vec<u8> {
    encode(&MeCallWire { version: ME_VERSION, call })
}

/// Reads what `mlnctl` asks the guest agent.
pub fn decode_me_call(bytes: &[u8]) -> Result<MeCall, DecodeError> {
    known(bytes)?;
    decode::<MeCallWire>(bytes, ME_BYTES_MAX).map(|wire| wire.call)
}

/// Returns the number of a question, also of one that can't be read; none where there is no room for one.
pub fn me_number(bytes: &[u8]) -> Option<u64> {
    bytes.get(2..)?.first_chunk().map(|number| u64::from_le_bytes(*number))
}

fn known(bytes: &[u8]) -> Result<(), DecodeError> {
    match bytes.first_chunk().map(|version| u16::from_le_bytes(*version)) {
        Some(ME_VERSION) => Ok(()),
        Some(found) => {
            Err(DecodeError::Unknown { what: "version of what a guest asks", found: found.into() })
        }
        None => Err(DecodeError::Malformed),
    }
}

#[cfg(test)]
#[path = "me_test.rs"]
mod tests;
