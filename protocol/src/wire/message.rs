//! Messages between nodes, as bytes. Whatever is signed inside is verified while it is decoded.

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ballot::{BallotWire, verify_answered, verify_promise};
use super::claim::{EpochWire, VmIdWire, decode_ready};
use super::commit::{CommitWire, decode_commit, decode_revision, encode_revision, verify_reservation};
use super::fragment::{decode_fragment, encode_fragment};
use super::grant::SignedWire;
use super::guest::RightWire;
use super::record::{REASON_BYTES_MAX, RecordError, shorten, verify_record};
use super::{DecodeError, MESSAGE_BYTES_MAX, RECORD_BYTES_MAX, decode, encode, known, name, text};
use crate::id::{Digest, ProjectId, PublicKey, VmId};
use crate::node::limits::{LINKS_WANTED_MAX, PROJECT_HOSTS_MAX, SYNC_RANGES_MAX, SYNC_RECORDS_MAX};
use crate::node::{
    Ask, HandOver, Message, Propose, Refusal, Rule, RunOrder, RunRequest, RunVerdict, RunningVms,
    SyncContent, SyncRange,
};
use crate::plan::StopLimit;
use crate::record::{Epoch, LinkKind, RecordKey, VerifiedRecord};
use crate::trust::{CHAIN_LINKS_MAX, Domain, Signed};

/// The version of the shapes below: the first two bytes of every message.
const VERSION: u16 = 2;

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u16,
    message: MessageWire,
}

/// How many records one host is told that it has said of itself: who it is, and how it is.
const OWN_RECORDS_MAX: usize = 2;

/// How many kinds there are below.
const KINDS: u32 = 19;

#[derive(Serialize, Deserialize)]
enum MessageWire {
    Ask {
        ask: SignedWire,
        fragment: Option<Vec<u8>>,
    },
    Answer {
        revision: [u8; 32],
        verdict: AnswerWire,
    },
    Withdraw {
        revision: [u8; 32],
    },
    Run(SignedWire),
    RunAnswer {
        request: [u8; 32],
        verdict: RunVerdictWire,
    },
    Sync(Vec<RangeWire>),
    Want(Vec<KeyWire>),
    Records(Vec<SignedWire>),
    FragmentWanted([u8; 32]),
    FragmentFound(Vec<u8>),
    Ballot {
        parent: [u8; 32],
        ballot: BallotWire,
    },
    Answered {
        answer: SignedWire,
        candidate: Option<CommitWire>,
    },
    Propose {
        ballot: BallotWire,
        candidate: CommitWire,
        answers: Vec<SignedWire>,
    },
    Promised(SignedWire),
    Outbid {
        parent: [u8; 32],
        ballot: BallotWire,
        number: u64,
    },
    HandOver(HandOverWire),
    OwnWanted {
        instance: u64,
        asks: bool,
    },
    OwnTold {
        instance: u64,
        other: Option<u64>,
        records: Vec<SignedWire>,
    },
    /// A question for a VM. An agent from before that doesn't know the kind, and doesn't answer.
    GuestAsk {
        ask: SignedWire,
        fragment: Option<Vec<u8>>,
        right: RightWire,
    },
}

#[derive(Serialize, Deserialize)]
enum HandOverWire {
    Halt { vm: VmIdWire, epoch: EpochWire },
    Halted { vm: VmIdWire, epoch: EpochWire, root: [u8; 32] },
    Ready(SignedWire),
    NotNow { vm: VmIdWire, epoch: EpochWire, reason: String },
    LinksWanted(Vec<VmIdWire>),
    LinksTold { vms: Vec<VmIdWire>, links: Vec<SignedWire> },
    HeardWanted { host: [u8; 32] },
    HeardTold { host: [u8; 32], ago_ms: Option<u64> },
}

#[derive(Serialize, Deserialize)]
enum AnswerWire {
    Reserved(SignedWire),
    Refused { rule: u16, detail: String },
}

#[derive(Serialize, Deserialize)]
enum RunVerdictWire {
    Applied,
    Stale { counter: u64, by: [u8; 32] },
    NotOwner,
    Refused { rule: u16, detail: String },
}

#[derive(Serialize, Deserialize)]
struct AskWire {
    host: [u8; 32],
    revision: Vec<u8>,
    stop_running: bool,
    replaces: Option<[u8; 32]>,
}

/// A request that a host passes on for somebody who is no host, with their grants behind it. A request of a host's own
/// user stays readable for older agents; one with grants they can't read, and so don't carry out.
#[derive(Serialize, Deserialize)]
struct ForWire<T> {
    request: T,
    chain: Vec<SignedWire>,
}

fn encode_for<T: Serialize>(request: T, chain: &[Signed]) -> Vec<u8> {
    if chain.is_empty() {
        return encode(&request);
    }
    encode(&ForWire { request, chain: chain.iter().map(SignedWire::from).collect() })
}

fn decode_for<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<(T, Vec<Signed>), DecodeError> {
    match decode(bytes, limit) {
        Err(DecodeError::Trailing { .. }) => {
            let wire: ForWire<T> = decode(bytes, limit)?;
            if wire.chain.is_empty() {
                return Err(DecodeError::Invalid { what: "grants of a request: there are none" });
            }
            at_most(wire.chain.len(), CHAIN_LINKS_MAX)?;
            let chain = wire.chain.into_iter().map(Signed::try_from);
            Ok((wire.request, chain.collect::<Result<_, _>>()?))
        }
        request => Ok((request?, Vec::new())),
    }
}

#[derive(Serialize, Deserialize)]
struct RunWire {
    owner: [u8; 32],
    birth: [u8; 32],
    vm: String,
    epoch: EpochWire,
    seen_counter: u64,
    order: RunOrderWire,
    made_unix_ms: u64,
}

#[derive(Serialize, Deserialize)]
enum RunOrderWire {
    Up,
    Down { after_ms: Option<u64> },
}

#[derive(Serialize, Deserialize)]
struct RangeWire {
    from: Option<KeyWire>,
    until: Option<KeyWire>,
    content: ContentWire,
}

#[derive(Serialize, Deserialize)]
enum ContentWire {
    Sum { records: u64, fingerprint: [u8; 32] },
    List(Vec<(KeyWire, [u8; 32])>),
}

#[derive(Serialize, Deserialize)]
enum KeyWire {
    Member([u8; 32]),
    Host([u8; 32]),
    Commit([u8; 32]),
    Vm { birth: [u8; 32], name: String, author: [u8; 32] },
    Link { birth: [u8; 32], name: String, epoch: (u64, u64), kind: LinkKindWire, author: [u8; 32] },
    Grant([u8; 32]),
    Revocation([u8; 32]),
    Later { author: [u8; 32], kind: u32, slot: [u8; 32] },
}

#[derive(Serialize, Deserialize)]
enum LinkKindWire {
    Claim,
    Decline,
    Release,
}

/// How long a request to start or stop a VM may be, in bytes: most of it is the chain of whoever wants it.
const RUN_BYTES_MAX: usize = 16 << 10;

/// Why a message was not accepted. Nothing changed; the sender is at fault.
pub type MessageError = RecordError;

/// Encodes a message.
pub fn encode_message(message: &Message) -> Vec<u8> {
    encode(&Versioned { version: VERSION, message: message.into() })
}

/// Decodes a message and verifies all that is signed in it, by the mesh with this root key.
pub fn decode_message(bytes: &[u8], root: PublicKey) -> Result<Message, MessageError> {
    decode_message_with(bytes, |signed| verify_record(signed, root))
}

/// Decodes a message as [`decode_message`] does, but has records verified by `verify_one`: whoever sees the same
/// records again and again may remember which it has verified, byte for byte.
pub fn decode_message_with(
    bytes: &[u8],
    mut verify_one: impl FnMut(Signed) -> Result<VerifiedRecord, RecordError>,
) -> Result<Message, MessageError> {
    known(bytes, VERSION, KINDS, "version or kind of a message")?;
    let wire: Versioned = decode(bytes, MESSAGE_BYTES_MAX)?;
    Ok(match wire.message {
        MessageWire::Ask { ask, fragment } => Message::Ask {
            ask: Arc::new(verify(ask, decode_ask)?),
            fragment: fragment.map(|bytes| decode_fragment(&bytes)).transpose()?.map(Arc::new),
        },
        MessageWire::GuestAsk { ask, fragment, right } => {
            let guest = Some(Arc::new(right.try_into()?));
            Message::Ask {
                ask: Arc::new(verify(ask, |bytes| Ok(Ask { guest, ..decode_ask(bytes)? }))?),
                fragment: fragment.map(|bytes| decode_fragment(&bytes)).transpose()?.map(Arc::new),
            }
        }
        MessageWire::Answer { revision, verdict } => Message::Answer {
            revision: Digest(revision),
            verdict: match verdict {
                AnswerWire::Reserved(signed) => Ok(verify_reservation(signed.try_into()?)?),
                AnswerWire::Refused { rule, detail } => {
                    Err(Refusal { rule: rule_of(rule)?, detail: text(detail, 4096)? })
                }
            },
        },
        MessageWire::Withdraw { revision } => Message::Withdraw { revision: Digest(revision) },
        MessageWire::Run(signed) => Message::Run(Arc::new(verify(signed, decode_run_request)?)),
        MessageWire::RunAnswer { request, verdict } => Message::RunAnswer {
            request: Digest(request),
            verdict: match verdict {
                RunVerdictWire::Applied => RunVerdict::Applied,
                RunVerdictWire::Stale { counter, by } => RunVerdict::Stale { counter, by: PublicKey(by) },
                RunVerdictWire::NotOwner => RunVerdict::NotOwner,
                RunVerdictWire::Refused { rule, detail } => RunVerdict::Refused(Box::new(Refusal {
                    rule: rule_of(rule)?,
                    detail: text(detail, 4096)?,
                })),
            },
        },
        MessageWire::Sync(ranges) => {
            at_most(ranges.len(), SYNC_RANGES_MAX)?;
            Message::Sync(ranges.into_iter().map(SyncRange::try_from).collect::<Result<_, _>>()?)
        }
        MessageWire::Want(keys) => {
            at_most(keys.len(), SYNC_RECORDS_MAX)?;
            Message::Want(keys.into_iter().map(RecordKey::try_from).collect::<Result<_, _>>()?)
        }
        MessageWire::Records(records) => {
            at_most(records.len(), SYNC_RECORDS_MAX)?;
            let verified = records.into_iter().map(|wire| verify_one(wire.try_into()?));
            // One that only newer hosts understand doesn't take the others with it.
            let understood =
                verified.filter(|record| !record.as_ref().is_err_and(RecordError::is_of_another_version));
            Message::Records(understood.collect::<Result<_, RecordError>>()?)
        }
        MessageWire::FragmentWanted(digest) => Message::FragmentWanted(Digest(digest)),
        MessageWire::FragmentFound(bytes) => Message::FragmentFound(Arc::new(decode_fragment(&bytes)?)),
        MessageWire::HandOver(wire) => Message::HandOver(decode_hand_over(wire, verify_one)?),
        MessageWire::Ballot { parent, ballot } => {
            Message::Ballot { parent: Digest(parent), ballot: ballot.into() }
        }
        MessageWire::Answered { answer, candidate } => Message::Answered {
            answer: Box::new(verify_answered(answer.try_into()?)?),
            candidate: candidate.map(decode_commit).transpose()?.map(Box::new),
        },
        MessageWire::Propose { ballot, candidate, answers } => {
            at_most(answers.len(), PROJECT_HOSTS_MAX)?;
            let answers = answers.into_iter().map(|answer| verify_answered(answer.try_into()?));
            Message::Propose(Box::new(Propose {
                ballot: ballot.into(),
                candidate: decode_commit(candidate)?,
                answers: answers.collect::<Result<_, RecordError>>()?,
            }))
        }
        MessageWire::Promised(promise) => Message::Promised(Box::new(verify_promise(promise.try_into()?)?)),
        MessageWire::Outbid { parent, ballot, number } => {
            Message::Outbid { parent: Digest(parent), ballot: ballot.into(), number }
        }
        MessageWire::OwnWanted { instance, asks } => Message::OwnWanted { instance, asks },
        MessageWire::OwnTold { instance, other, records } => {
            at_most(records.len(), OWN_RECORDS_MAX)?;
            let verified = records.into_iter().map(|wire| verify_one(wire.try_into()?));
            let understood =
                verified.filter(|record| !record.as_ref().is_err_and(RecordError::is_of_another_version));
            let records = understood.collect::<Result<_, RecordError>>()?;
            Message::OwnTold { instance, other, records }
        }
    })
}

fn decode_hand_over(
    wire: HandOverWire,
    verify_one: impl FnMut(Signed) -> Result<VerifiedRecord, RecordError>,
) -> Result<HandOver, RecordError> {
    Ok(match wire {
        HandOverWire::Halt { vm, epoch } => HandOver::Halt { vm: vm.try_into()?, epoch: epoch.into() },
        HandOverWire::Halted { vm, epoch, root } => {
            HandOver::Halted { vm: vm.try_into()?, epoch: epoch.into(), root: Digest(root) }
        }
        HandOverWire::Ready(signed) => HandOver::Ready(Arc::new(verify(signed, decode_ready)?)),
        HandOverWire::NotNow { vm, epoch, reason } => HandOver::NotNow {
            vm: vm.try_into()?,
            epoch: epoch.into(),
            reason: text(reason, REASON_BYTES_MAX)?,
        },
        HandOverWire::LinksWanted(vms) => HandOver::LinksWanted(vm_ids(vms)?),
        HandOverWire::LinksTold { vms, links } => {
            at_most(links.len(), SYNC_RECORDS_MAX)?;
            let mut verify_one = verify_one;
            let links = links.into_iter().map(|wire| verify_one(wire.try_into()?));
            HandOver::LinksTold { vms: vm_ids(vms)?, links: links.collect::<Result<_, _>>()? }
        }
        HandOverWire::HeardWanted { host } => HandOver::HeardWanted { host: PublicKey(host) },
        HandOverWire::HeardTold { host, ago_ms } => HandOver::HeardTold { host: PublicKey(host), ago_ms },
    })
}

fn vm_ids(vms: Vec<VmIdWire>) -> Result<Vec<VmId>, DecodeError> {
    at_most(vms.len(), LINKS_WANTED_MAX)?;
    vms.into_iter().map(VmId::try_from).collect()
}

impl From<&HandOver> for HandOverWire {
    fn from(message: &HandOver) -> Self {
        match message {
            HandOver::Halt { vm, epoch } => Self::Halt { vm: vm.into(), epoch: (*epoch).into() },
            HandOver::Halted { vm, epoch, root } => {
                Self::Halted { vm: vm.into(), epoch: (*epoch).into(), root: root.0 }
            }
            HandOver::Ready(ready) => Self::Ready(ready.signed().into()),
            HandOver::NotNow { vm, epoch, reason } => {
                Self::NotNow { vm: vm.into(), epoch: (*epoch).into(), reason: shorten(reason) }
            }
            HandOver::LinksWanted(vms) => Self::LinksWanted(vms.iter().map(VmIdWire::from).collect()),
            HandOver::LinksTold { vms, links } => Self::LinksTold {
                vms: vms.iter().map(VmIdWire::from).collect(),
                links: links.iter().map(|link| link.signed().into()).collect(),
            },
            HandOver::HeardWanted { host } => Self::HeardWanted { host: host.0 },
            HandOver::HeardTold { host, ago_ms } => Self::HeardTold { host: host.0, ago_ms: *ago_ms },
        }
    }
}

/// Encodes an ask, as it is signed. By what right a VM wants it is no part of that.
pub fn encode_ask(ask: &Ask) -> Vec<u8> {
    let wire = AskWire {
        host: ask.host.0,
        revision: encode_revision(&ask.revision),
        stop_running: ask.running == RunningVms::Stop,
        replaces: ask.replaces.map(|project| project.0.0),
    };
    encode_for(wire, &ask.chain)
}

/// Encodes a request to start or stop a VM, as it is signed.
pub fn encode_run_request(request: &RunRequest) -> Vec<u8> {
    let wire = RunWire {
        owner: request.owner.0,
        birth: request.vm.birth.0,
        vm: request.vm.name.to_string(),
        epoch: request.epoch.into(),
        seen_counter: request.seen_counter,
        order: match request.order {
            RunOrder::Up => RunOrderWire::Up,
            RunOrder::Down(StopLimit::Now) => RunOrderWire::Down { after_ms: None },
            RunOrder::Down(StopLimit::After(ms)) => RunOrderWire::Down { after_ms: Some(ms) },
        },
        made_unix_ms: request.made_unix_ms,
    };
    encode_for(wire, &request.chain)
}

fn verify<T>(
    wire: SignedWire,
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<crate::trust::Verified<T>, RecordError> {
    let signed = Signed::try_from(wire)?;
    signed.verify(Domain::Request, decode).map_err(|error| match error {
        crate::trust::SignatureError::Payload(error) => RecordError::Decode(error),
        crate::trust::SignatureError::Key | crate::trust::SignatureError::Signature => RecordError::Signature,
    })
}

fn decode_ask(bytes: &[u8]) -> Result<Ask, DecodeError> {
    let (wire, chain): (AskWire, _) = decode_for(bytes, RECORD_BYTES_MAX)?;
    Ok(Ask {
        chain,
        guest: None,
        host: PublicKey(wire.host),
        digest: Digest::of(&wire.revision),
        revision: decode_revision(&wire.revision)?,
        running: if wire.stop_running { RunningVms::Stop } else { RunningVms::Refuse },
        replaces: wire.replaces.map(|project| ProjectId(Digest(project))),
    })
}

fn decode_run_request(bytes: &[u8]) -> Result<RunRequest, DecodeError> {
    let (wire, chain): (RunWire, _) = decode_for(bytes, RUN_BYTES_MAX)?;
    Ok(RunRequest {
        chain,
        owner: PublicKey(wire.owner),
        vm: VmId { birth: Digest(wire.birth), name: name(&wire.vm)? },
        epoch: wire.epoch.into(),
        seen_counter: wire.seen_counter,
        order: match wire.order {
            RunOrderWire::Up => RunOrder::Up,
            RunOrderWire::Down { after_ms: None } => RunOrder::Down(StopLimit::Now),
            RunOrderWire::Down { after_ms: Some(ms) } => RunOrder::Down(StopLimit::After(ms)),
        },
        made_unix_ms: wire.made_unix_ms,
    })
}

fn rule_of(code: u16) -> Result<Rule, DecodeError> {
    let unknown = DecodeError::Unknown { what: "rule", found: code.into() };
    Rule::ALL.get(usize::from(code)).copied().ok_or(unknown)
}

fn rule_code(rule: Rule) -> u16 {
    let index = Rule::ALL.iter().position(|&known| known == rule).expect("every rule stands in the list");
    u16::try_from(index).expect("there are few rules")
}

fn at_most(found: usize, limit: usize) -> Result<(), DecodeError> {
    if found <= limit { Ok(()) } else { Err(DecodeError::TooLong { bytes: found, limit }) }
}

impl From<&Message> for MessageWire {
    fn from(message: &Message) -> Self {
        match message {
            Message::Ask { ask, fragment } => {
                let fragment = fragment.as_ref().map(|fragment| encode_fragment(fragment));
                match &ask.guest {
                    None => Self::Ask { ask: ask.signed().into(), fragment },
                    Some(right) => {
                        let right = (&**right).into();
                        Self::GuestAsk { ask: ask.signed().into(), fragment, right }
                    }
                }
            }
            Message::Answer { revision, verdict } => Self::Answer {
                revision: revision.0,
                verdict: match verdict {
                    Ok(reservation) => AnswerWire::Reserved(reservation.signed().into()),
                    Err(refusal) => {
                        AnswerWire::Refused { rule: rule_code(refusal.rule), detail: refusal.detail.clone() }
                    }
                },
            },
            Message::Withdraw { revision } => Self::Withdraw { revision: revision.0 },
            Message::Run(request) => Self::Run(request.signed().into()),
            Message::RunAnswer { request, verdict } => Self::RunAnswer {
                request: request.0,
                verdict: match verdict {
                    RunVerdict::Applied => RunVerdictWire::Applied,
                    RunVerdict::Stale { counter, by } => {
                        RunVerdictWire::Stale { counter: *counter, by: by.0 }
                    }
                    RunVerdict::NotOwner => RunVerdictWire::NotOwner,
                    RunVerdict::Refused(refusal) => RunVerdictWire::Refused {
                        rule: rule_code(refusal.rule),
                        detail: refusal.detail.clone(),
                    },
                },
            },
            Message::Sync(ranges) => Self::Sync(ranges.iter().map(RangeWire::from).collect()),
            Message::Want(keys) => Self::Want(keys.iter().map(KeyWire::from).collect()),
            Message::Records(records) => Self::Records(records.iter().map(|r| r.signed().into()).collect()),
            Message::FragmentWanted(digest) => Self::FragmentWanted(digest.0),
            Message::FragmentFound(fragment) => Self::FragmentFound(encode_fragment(fragment)),
            Message::HandOver(message) => Self::HandOver(message.into()),
            Message::Ballot { parent, ballot } => Self::Ballot { parent: parent.0, ballot: (*ballot).into() },
            Message::Answered { answer, candidate } => Self::Answered {
                answer: answer.signed().into(),
                candidate: candidate.as_deref().map(CommitWire::from),
            },
            Message::Propose(propose) => Self::Propose {
                ballot: propose.ballot.into(),
                candidate: (&propose.candidate).into(),
                answers: propose.answers.iter().map(|answer| answer.signed().into()).collect(),
            },
            Message::Promised(promise) => Self::Promised(promise.signed().into()),
            Message::Outbid { parent, ballot, number } => {
                Self::Outbid { parent: parent.0, ballot: (*ballot).into(), number: *number }
            }
            Message::OwnWanted { instance, asks } => Self::OwnWanted { instance: *instance, asks: *asks },
            Message::OwnTold { instance, other, records } => Self::OwnTold {
                instance: *instance,
                other: *other,
                records: records.iter().map(|record| record.signed().into()).collect(),
            },
        }
    }
}

impl From<&SyncRange> for RangeWire {
    fn from(range: &SyncRange) -> Self {
        Self {
            from: range.from.as_ref().map(KeyWire::from),
            until: range.until.as_ref().map(KeyWire::from),
            content: match &range.content {
                SyncContent::Sum { records, fingerprint } => {
                    ContentWire::Sum { records: *records, fingerprint: fingerprint.0 }
                }
                SyncContent::List(list) => {
                    ContentWire::List(list.iter().map(|(key, digest)| (key.into(), digest.0)).collect())
                }
            },
        }
    }
}

impl TryFrom<RangeWire> for SyncRange {
    type Error = DecodeError;

    fn try_from(wire: RangeWire) -> Result<Self, DecodeError> {
        let listed = |(key, digest)| Ok((RecordKey::try_from(key)?, Digest(digest)));
        Ok(Self {
            from: wire.from.map(RecordKey::try_from).transpose()?,
            until: wire.until.map(RecordKey::try_from).transpose()?,
            content: match wire.content {
                ContentWire::Sum { records, fingerprint } => {
                    SyncContent::Sum { records, fingerprint: Digest(fingerprint) }
                }
                ContentWire::List(list) => {
                    at_most(list.len(), SYNC_RECORDS_MAX)?;
                    SyncContent::List(list.into_iter().map(listed).collect::<Result<_, DecodeError>>()?)
                }
            },
        })
    }
}

impl From<&RecordKey> for KeyWire {
    fn from(key: &RecordKey) -> Self {
        match key {
            RecordKey::Member(key) => Self::Member(key.0),
            RecordKey::Host(key) => Self::Host(key.0),
            RecordKey::Commit(digest) => Self::Commit(digest.0),
            RecordKey::Vm(vm, author) => {
                Self::Vm { birth: vm.birth.0, name: vm.name.to_string(), author: author.0 }
            }
            RecordKey::Link(vm, epoch, kind, author) => Self::Link {
                birth: vm.birth.0,
                name: vm.name.to_string(),
                epoch: (epoch.term, epoch.n),
                kind: match kind {
                    LinkKind::Claim => LinkKindWire::Claim,
                    LinkKind::Decline => LinkKindWire::Decline,
                    LinkKind::Release => LinkKindWire::Release,
                },
                author: author.0,
            },
            RecordKey::Grant(grant) => Self::Grant(grant.0),
            RecordKey::Revocation(grant) => Self::Revocation(grant.0),
            RecordKey::Later(author, kind, slot) => {
                Self::Later { author: author.0, kind: *kind, slot: *slot }
            }
        }
    }
}

impl TryFrom<KeyWire> for RecordKey {
    type Error = DecodeError;

    fn try_from(wire: KeyWire) -> Result<Self, DecodeError> {
        Ok(match wire {
            KeyWire::Member(key) => Self::Member(PublicKey(key)),
            KeyWire::Host(key) => Self::Host(PublicKey(key)),
            KeyWire::Commit(digest) => Self::Commit(Digest(digest)),
            KeyWire::Grant(grant) => Self::Grant(Digest(grant)),
            KeyWire::Revocation(grant) => Self::Revocation(Digest(grant)),
            KeyWire::Later { author, kind, slot } => Self::Later(PublicKey(author), kind, slot),
            KeyWire::Vm { birth, name: text, author } => {
                Self::Vm(VmId { birth: Digest(birth), name: name(&text)? }, PublicKey(author))
            }
            KeyWire::Link { birth, name: text, epoch: (term, n), kind, author } => {
                let vm = VmId { birth: Digest(birth), name: name(&text)? };
                let kind = match kind {
                    LinkKindWire::Claim => LinkKind::Claim,
                    LinkKindWire::Decline => LinkKind::Decline,
                    LinkKindWire::Release => LinkKind::Release,
                };
                Self::Link(vm, Epoch { term, n }, kind, PublicKey(author))
            }
        })
    }
}

/// Encodes the slot of a record, as a store's key.
pub fn encode_record_key(key: &RecordKey) -> Vec<u8> {
    encode(&KeyWire::from(key))
}
