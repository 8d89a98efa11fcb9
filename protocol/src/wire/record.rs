//! Records, as they are signed, stored and sent.
//!
//! The first two bytes of a payload are the version of all record shapes, so that a later program can tell.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim::{ClaimWire, DeclineWire, EpochWire, ReleaseWire};
use super::commit::{CommitWire, decode_commit, prove};
use super::gauges::{GAUGES_SLOT, VmsWire, gauges_of, vms_wire};
use super::grant::SignedWire;
use super::later::{decode_later, encode_later};
use super::{DecodeError, RECORD_BYTES_MAX, decode, encode, known, name, text};
use crate::id::{Digest, Name, ProjectId, PublicKey, VmId};
use crate::model::{BootOrder, Forward, MemoryMib, Platform, Transport};
use crate::record::{
    ClaimBasis, ExitStatus, HostGauges, HostStatus, Link, Member, Nat, Record, RunState, Startup,
    VerifiedRecord, VmState, VmStatus,
};
use crate::time::Now;
use crate::trust::{
    CHAIN_LINKS_MAX, Domain, KeyPair, Revocation, SignatureError, Signed, Verb, Verified, admit, standing_of,
};

/// The version of the shapes below.
pub(super) const VERSION: u16 = 2;

/// The longest text for people in a record, in bytes.
pub const REASON_BYTES_MAX: usize = 2048;

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u16,
    record: RecordWire,
}

/// How many kinds there are below. Those that are added begin with a slot and a counter: see [`super::later`].
pub(super) const KINDS: u32 = 14;

/// The first kind that begins with a slot and a counter: an older agent keeps it, and all after it, as they are.
pub(super) const FIRST_HEADED_KIND: u32 = 10;

/// The number of the kind that says what the guests on a host measure.
pub const GAUGES_KIND: u32 = 13;

#[derive(Serialize, Deserialize)]
pub(super) enum RecordWire {
    Member {
        counter: u64,
        name: String,
        chain: Vec<SignedWire>,
    },
    Host(HostWire),
    Commit(CommitWire),
    Vm(Box<VmWire>),
    /// A VM with something to say about the outside; all others stay readable for older agents.
    VmOutside {
        vm: Box<VmWire>,
        nat: Option<u8>,
        forwards: Vec<(u16, u16, u8)>,
    },
    Claim(Box<ClaimWire>),
    Decline(Box<DeclineWire>),
    Release(Box<ReleaseWire>),
    Grant {
        chain: Vec<SignedWire>,
    },
    Revocation {
        chain: Vec<SignedWire>,
        made_unix_ms: u64,
        reason: String,
    },
    /// A VM that has another part's definition than the one that it was born with.
    VmRevised {
        slot: [u8; 32],
        counter: u64,
        vm: Box<VmWire>,
        nat: Option<u8>,
        forwards: Vec<(u16, u16, u8)>,
        part: [u8; 32],
    },
    /// A VM that is left out, and for how long its disk has been kept.
    VmKept {
        slot: [u8; 32],
        counter: u64,
        vm: Box<VmWire>,
        kept_ms: u64,
    },
    /// A VM whose startup lines failed.
    VmUnready {
        slot: [u8; 32],
        counter: u64,
        vm: Box<VmWire>,
        nat: Option<u8>,
        forwards: Vec<(u16, u16, u8)>,
        part: Option<[u8; 32]>,
    },
    /// What the guests on a host measure.
    Gauges {
        slot: [u8; 32],
        counter: u64,
        told_unix_ms: u64,
        vms: VmsWire,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct HostWire {
    counter: u64,
    groups: Vec<String>,
    platforms: Vec<u8>,
    projects: u32,
    vms: u32,
    memory_used_mib: u32,
    memory_limit_mib: u32,
    agent_version: String,
    measured_unix_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct VmWire {
    counter: u64,
    birth: [u8; 32],
    name: String,
    project: [u8; 32],
    up: bool,
    run_counter: u64,
    run_by: [u8; 32],
    state: StateWire,
    exit: Option<ExitWire>,
    memory_mib: u32,
    boot_order: u8,
    address: Option<std::net::IpAddr>,
    since_unix_ms: u64,
    host: String,
    epoch: EpochWire,
}

#[derive(Serialize, Deserialize)]
enum StateWire {
    Building,
    Down,
    Booting,
    Up,
    Stopping,
    Removed,
    Failed { reason: String },
}

#[derive(Serialize, Deserialize)]
enum ExitWire {
    Code(i32),
    Signal(i32),
}

/// Why a record was not accepted. Nothing changed; the sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Its encoding is wrong.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its signature, or one inside it, is wrong.
    #[error("a signature is wrong")]
    Signature,
    /// It says something that its signatures don't prove.
    #[error("{what} is not proven")]
    Unproven {
        /// What.
        what: &'static str,
    },
}

impl RecordError {
    /// Whether it is of a version or kind that only a newer program knows, or an older one: it is left out, and nobody is
    /// blamed.
    pub fn is_of_another_version(&self) -> bool {
        matches!(self, Self::Decode(DecodeError::Unknown { .. } | DecodeError::Older { .. }))
    }
}

/// Signs a record of our own. What it says must be true and proven, as for anybody else's.
pub fn sign_record(keys: &KeyPair, record: Record) -> VerifiedRecord {
    let payload = payload_of(&record);
    Arc::new(Verified::own(keys, Domain::Record, record, payload))
}

/// Verifies a record: its signature, its shape, and what it must prove by itself.
///
/// Never depends on the time: expiry was judged by whoever signed.
pub fn verify_record(signed: Signed, root: PublicKey) -> Result<VerifiedRecord, RecordError> {
    let verified = signed.verify(Domain::Record, decode_record).map_err(|error| match error {
        SignatureError::Key | SignatureError::Signature => RecordError::Signature,
        SignatureError::Payload(error) => error,
    })?;
    prove_record(verified, root)
}

/// Takes a record for its author's, whoever has signed it: a mutation, for the simulator alone.
#[cfg(feature = "mutants")]
pub fn trust_record(signed: Signed, root: PublicKey) -> Result<VerifiedRecord, RecordError> {
    prove_record(signed.unverified(decode_record)?, root)
}

/// Takes a record for good that its author has signed, whatever it should prove: a mutation, for the simulator alone.
#[cfg(feature = "mutants")]
pub fn unproven_record(signed: Signed) -> Result<VerifiedRecord, RecordError> {
    let verified = signed.verify(Domain::Record, decode_record).map_err(|error| match error {
        SignatureError::Key | SignatureError::Signature => RecordError::Signature,
        SignatureError::Payload(error) => error,
    })?;
    Ok(Arc::new(verified))
}

/// Judges what a record must prove by itself, beside its signature.
fn prove_record(verified: Verified<Record>, root: PublicKey) -> Result<VerifiedRecord, RecordError> {
    let author = verified.author();
    match &*verified {
        Record::Member(member) => {
            let long_ago = Now { mono_ms: 0, unix_ms: 0 };
            let standing = admit(root, &member.chain, author, long_ago)
                .map_err(|_| RecordError::Unproven { what: "membership" })?;
            if standing.name.as_ref() != Some(&member.name) {
                return Err(RecordError::Unproven { what: "the member's name" });
            }
        }
        Record::Commit(commit) => prove(commit)?,
        Record::Link(link) => {
            link.judge(author).map_err(|unproven| RecordError::Unproven { what: unproven.0 })?;
            if let Link::Claim(claim) = link
                && let ClaimBasis::Takeover(takeover) = &claim.basis
            {
                let long_ago = Now { mono_ms: 0, unix_ms: 0 };
                let granted = admit(root, &takeover.chain, author, long_ago)
                    .is_ok_and(|standing| standing.allows(Verb::Takeover).is_ok());
                if !granted {
                    return Err(RecordError::Unproven { what: "the right to take over" });
                }
            }
        }
        Record::Grant(chain) => {
            standing_of(root, chain).map_err(|_| RecordError::Unproven { what: "the grant" })?;
        }
        Record::Revocation(revocation) => {
            let unproven = |_| RecordError::Unproven { what: "the right to revoke" };
            revocation.judge(root, author).map_err(unproven)?;
        }
        Record::Host(_) | Record::Vm(_) | Record::Gauges(_) | Record::Later(_) => {}
    }
    Ok(Arc::new(verified))
}

/// Decodes a record no further than to its wire shape.
pub(super) fn decode_wire(bytes: &[u8]) -> Result<RecordWire, RecordError> {
    known(bytes, VERSION, KINDS, "version or kind of a record")?;
    let wire: Versioned = decode(bytes, RECORD_BYTES_MAX)?;
    Ok(wire.record)
}

/// Decodes a record; what has the head of the kinds that older agents keep unread is kept unread here too where the
/// rest of it makes no sense. Whoever passed it on couldn't see that: only its author is at fault.
fn decode_record(bytes: &[u8]) -> Result<Record, RecordError> {
    decode_wire(bytes)
        .and_then(|wire| read_record(wire, bytes.len()))
        .or_else(|error| decode_later(bytes).map(Record::Later).ok_or(error))
}

/// Reads a record whose payload is so many bytes long.
fn read_record(wire: RecordWire, bytes: usize) -> Result<Record, RecordError> {
    match wire {
        RecordWire::Member { counter, name: text, chain } => {
            let chain = chain.into_iter().map(Signed::try_from).collect::<Result<_, _>>()?;
            Ok(Record::Member(Member { counter, name: name(&text)?, chain }))
        }
        RecordWire::Host(wire) => Ok(Record::Host(wire.try_into()?)),
        RecordWire::Commit(wire) => Ok(Record::Commit(decode_commit(wire)?)),
        RecordWire::Vm(wire) => Ok(Record::Vm((*wire).try_into()?)),
        RecordWire::VmOutside { vm, nat: Some(DISK_KEPT), forwards } if forwards.is_empty() => {
            Ok(Record::Vm(kept(*vm, 0)?))
        }
        RecordWire::VmKept { slot, counter, vm, kept_ms } => {
            let status = kept(*vm, kept_ms)?;
            is_headed(&status, slot, counter)?;
            Ok(Record::Vm(status))
        }
        RecordWire::VmOutside { vm, nat, forwards } => {
            let forwards = forwards.into_iter().map(|(host, guest, byte)| forward(host, guest, byte));
            Ok(Record::Vm(VmStatus {
                nat: nat.map(nat_of).transpose()?,
                forwards: forwards.collect::<Result<_, _>>()?,
                ..(*vm).try_into()?
            }))
        }
        RecordWire::VmRevised { slot, counter, vm, nat, forwards, part } => {
            let forwards = forwards.into_iter().map(|(host, guest, byte)| forward(host, guest, byte));
            let status = VmStatus {
                nat: nat.map(nat_of).transpose()?,
                forwards: forwards.collect::<Result<_, _>>()?,
                part: Some(Digest(part)),
                ..(*vm).try_into()?
            };
            is_headed(&status, slot, counter)?;
            Ok(Record::Vm(status))
        }
        RecordWire::VmUnready { slot, counter, vm, nat, forwards, part } => {
            let forwards = forwards.into_iter().map(|(host, guest, byte)| forward(host, guest, byte));
            let status = VmStatus {
                nat: nat.map(nat_of).transpose()?,
                forwards: forwards.collect::<Result<_, _>>()?,
                part: part.map(Digest),
                startup: Startup::Failed,
                ..(*vm).try_into()?
            };
            is_headed(&status, slot, counter)?;
            Ok(Record::Vm(status))
        }
        RecordWire::Gauges { slot, counter, told_unix_ms, vms } => {
            Ok(Record::Gauges(gauges_of(slot, counter, told_unix_ms, vms, bytes)?))
        }
        RecordWire::Claim(wire) => Ok(Record::Link(Link::Claim((*wire).try_into()?))),
        RecordWire::Decline(wire) => Ok(Record::Link(Link::Decline((*wire).try_into()?))),
        RecordWire::Release(wire) => Ok(Record::Link(Link::Release((*wire).try_into()?))),
        RecordWire::Grant { chain } => Ok(Record::Grant(chain_of(chain)?)),
        RecordWire::Revocation { chain, made_unix_ms, reason } => Ok(Record::Revocation(Revocation {
            chain: chain_of(chain)?,
            made_unix_ms,
            reason: text(reason, REASON_BYTES_MAX)?,
        })),
    }
}

fn chain_of(links: Vec<SignedWire>) -> Result<Vec<Signed>, DecodeError> {
    if links.len() > CHAIN_LINKS_MAX {
        return Err(DecodeError::TooLong { bytes: links.len(), limit: CHAIN_LINKS_MAX });
    }
    links.into_iter().map(Signed::try_from).collect()
}

fn payload_of(record: &Record) -> Vec<u8> {
    let record = match record {
        Record::Member(member) => RecordWire::Member {
            counter: member.counter,
            name: member.name.to_string(),
            chain: member.chain.iter().map(SignedWire::from).collect(),
        },
        Record::Host(status) => RecordWire::Host(status.into()),
        Record::Commit(commit) => RecordWire::Commit(commit.into()),
        Record::Vm(status) => vm_wire(status),
        Record::Link(Link::Claim(claim)) => RecordWire::Claim(Box::new(claim.into())),
        Record::Link(Link::Decline(decline)) => RecordWire::Decline(Box::new(decline.into())),
        Record::Link(Link::Release(release)) => RecordWire::Release(Box::new(release.into())),
        Record::Grant(chain) => RecordWire::Grant { chain: chain.iter().map(SignedWire::from).collect() },
        Record::Revocation(revocation) => RecordWire::Revocation {
            chain: revocation.chain.iter().map(SignedWire::from).collect(),
            made_unix_ms: revocation.made_unix_ms,
            reason: shorten(&revocation.reason),
        },
        Record::Gauges(gauges) => gauges_wire(gauges),
        Record::Later(later) => return encode_later(later),
    };
    encode(&Versioned { version: VERSION, record })
}

fn gauges_wire(gauges: &HostGauges) -> RecordWire {
    let HostGauges { counter, told_unix_ms, .. } = *gauges;
    RecordWire::Gauges { slot: GAUGES_SLOT, counter, told_unix_ms, vms: vms_wire(gauges) }
}

/// Returns how long the payload of a record of what guests measure is.
pub(super) fn record_bytes(gauges: &HostGauges) -> usize {
    encode(&Versioned { version: VERSION, record: gauges_wire(gauges) }).len()
}

/// Encodes what a VM is doing in the oldest kind that can hold it.
fn vm_wire(status: &VmStatus) -> RecordWire {
    let vm = Box::new(VmWire::from(status));
    let nat = status.nat.map(nat_byte);
    let forwards: Vec<(u16, u16, u8)> =
        status.forwards.iter().map(|f| (f.host_port, f.guest_port, transport_byte(f.transport))).collect();
    match status.part {
        // It runs nowhere, so it has nothing to say about the outside, nor of what it runs with.
        _ if status.state == VmState::Kept && status.kept_ms > 0 => RecordWire::VmKept {
            slot: slot_of(&status.vm),
            counter: status.counter,
            vm,
            kept_ms: status.kept_ms,
        },
        _ if status.state == VmState::Kept => {
            RecordWire::VmOutside { vm, nat: Some(DISK_KEPT), forwards: Vec::new() }
        }
        part if status.startup == Startup::Failed => RecordWire::VmUnready {
            slot: slot_of(&status.vm),
            counter: status.counter,
            vm,
            nat,
            forwards,
            part: part.map(|part| part.0),
        },
        Some(part) => RecordWire::VmRevised {
            slot: slot_of(&status.vm),
            counter: status.counter,
            vm,
            nat,
            forwards,
            part: part.0,
        },
        None if nat.is_none() && forwards.is_empty() => RecordWire::Vm(vm),
        None => RecordWire::VmOutside { vm, nat, forwards },
    }
}

/// Reads a VM whose disk is kept: older programs take it for removed.
fn kept(vm: VmWire, kept_ms: u64) -> Result<VmStatus, DecodeError> {
    match vm.try_into()? {
        removed @ VmStatus { state: VmState::Removed, .. } => {
            Ok(VmStatus { state: VmState::Kept, kept_ms, ..removed })
        }
        _ => Err(DecodeError::Invalid { what: "state of a VM whose disk is kept" }),
    }
}

/// Refuses another head than what is said has: programs that know the kind would keep another one of two records than
/// those that don't.
fn is_headed(status: &VmStatus, slot: [u8; 32], counter: u64) -> Result<(), DecodeError> {
    if slot == slot_of(&status.vm) && counter == status.counter {
        return Ok(());
    }
    Err(DecodeError::Invalid { what: "head of what a VM is doing" })
}

/// Returns under what programs that don't know the kind keep what is said of a VM.
fn slot_of(vm: &VmId) -> [u8; 32] {
    let mut bytes = vm.birth.0.to_vec();
    bytes.extend_from_slice(vm.name.as_str().as_bytes());
    Digest::of(&bytes).0
}

impl From<&HostStatus> for HostWire {
    fn from(status: &HostStatus) -> Self {
        Self {
            counter: status.counter,
            groups: status.groups.iter().map(Name::to_string).collect(),
            platforms: status.platforms.iter().map(|&p| platform_byte(p)).collect(),
            projects: status.projects,
            vms: status.vms,
            memory_used_mib: status.memory_used.0,
            memory_limit_mib: status.memory_limit.0,
            agent_version: status.agent_version.clone(),
            measured_unix_ms: status.measured_unix_ms,
        }
    }
}

impl TryFrom<HostWire> for HostStatus {
    type Error = DecodeError;

    fn try_from(wire: HostWire) -> Result<Self, DecodeError> {
        Ok(Self {
            counter: wire.counter,
            groups: wire.groups.iter().map(|group| name(group)).collect::<Result<_, _>>()?,
            platforms: wire.platforms.into_iter().map(platform).collect::<Result<_, _>>()?,
            projects: wire.projects,
            vms: wire.vms,
            memory_used: MemoryMib(wire.memory_used_mib),
            memory_limit: MemoryMib(wire.memory_limit_mib),
            agent_version: text(wire.agent_version, 64)?,
            measured_unix_ms: wire.measured_unix_ms,
        })
    }
}

impl From<&VmStatus> for VmWire {
    fn from(status: &VmStatus) -> Self {
        Self {
            counter: status.counter,
            birth: status.vm.birth.0,
            name: status.vm.name.to_string(),
            project: status.project.0.0,
            up: status.run == RunState::Up,
            run_counter: status.run_counter,
            run_by: status.run_by.0,
            state: match &status.state {
                VmState::Building => StateWire::Building,
                VmState::Down => StateWire::Down,
                VmState::Booting => StateWire::Booting,
                VmState::Up => StateWire::Up,
                VmState::Stopping => StateWire::Stopping,
                // Kept is told in another way, so that older agents pass over it.
                VmState::Removed | VmState::Kept => StateWire::Removed,
                VmState::Failed { reason } => StateWire::Failed { reason: shorten(reason) },
            },
            exit: status.exit.map(|exit| match exit {
                ExitStatus::Code(code) => ExitWire::Code(code),
                ExitStatus::Signal(signal) => ExitWire::Signal(signal),
            }),
            memory_mib: status.memory.0,
            boot_order: status.boot_order.0,
            address: status.address,
            since_unix_ms: status.since_unix_ms,
            host: status.host.to_string(),
            epoch: status.epoch.into(),
        }
    }
}

impl TryFrom<VmWire> for VmStatus {
    type Error = DecodeError;

    fn try_from(wire: VmWire) -> Result<Self, DecodeError> {
        Ok(Self {
            counter: wire.counter,
            vm: VmId { birth: Digest(wire.birth), name: name(&wire.name)? },
            project: ProjectId(Digest(wire.project)),
            run: if wire.up { RunState::Up } else { RunState::Down },
            run_counter: wire.run_counter,
            run_by: PublicKey(wire.run_by),
            state: match wire.state {
                StateWire::Building => VmState::Building,
                StateWire::Down => VmState::Down,
                StateWire::Booting => VmState::Booting,
                StateWire::Up => VmState::Up,
                StateWire::Stopping => VmState::Stopping,
                StateWire::Removed => VmState::Removed,
                StateWire::Failed { reason } => VmState::Failed { reason: text(reason, REASON_BYTES_MAX)? },
            },
            exit: wire.exit.map(|exit| match exit {
                ExitWire::Code(code) => ExitStatus::Code(code),
                ExitWire::Signal(signal) => ExitStatus::Signal(signal),
            }),
            memory: MemoryMib(wire.memory_mib),
            boot_order: BootOrder(wire.boot_order),
            address: wire.address,
            since_unix_ms: wire.since_unix_ms,
            kept_ms: 0,
            host: name(&wire.host)?,
            epoch: wire.epoch.into(),
            nat: None,
            forwards: Vec::new(),
            part: None,
            startup: Startup::Fine,
        })
    }
}

/// Stands in the place of [`nat_byte`] where a VM is left out and its disk kept: agents that don't know it leave the record
/// out.
const DISK_KEPT: u8 = 5;

fn nat_byte(nat: Nat) -> u8 {
    match nat {
        Nat::Up => 1,
        Nat::NoRoute => 2,
        Nat::NotInstalled => 3,
        Nat::Failed => 4,
    }
}

fn nat_of(byte: u8) -> Result<Nat, DecodeError> {
    match byte {
        1 => Ok(Nat::Up),
        2 => Ok(Nat::NoRoute),
        3 => Ok(Nat::NotInstalled),
        4 => Ok(Nat::Failed),
        found => Err(DecodeError::Unknown { what: "address translation", found: found.into() }),
    }
}

/// Returns the number of a protocol, as IP has it.
pub(crate) fn transport_byte(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

pub(super) fn forward(host_port: u16, guest_port: u16, byte: u8) -> Result<Forward, DecodeError> {
    let transport = match byte {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        found => return Err(DecodeError::Unknown { what: "protocol of a port", found: found.into() }),
    };
    if host_port == 0 || guest_port == 0 {
        return Err(DecodeError::Invalid { what: "port" });
    }
    Ok(Forward { host_port, guest_port, transport })
}

pub(super) fn platform_byte(platform: Platform) -> u8 {
    match platform {
        Platform::Uml => 1,
    }
}

pub(super) fn platform(byte: u8) -> Result<Platform, DecodeError> {
    Platform::ALL
        .into_iter()
        .find(|&platform| platform_byte(platform) == byte)
        .ok_or(DecodeError::Unknown { what: "platform", found: byte.into() })
}

/// Cuts a text for people at its limit, between two characters.
pub(super) fn shorten(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
