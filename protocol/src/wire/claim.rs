//! Records of ownership, and a host's own notes of them, as bytes.

use serde::{Deserialize, Serialize};

use super::grant::SignedWire;
use super::record::{REASON_BYTES_MAX, RecordError, shorten, verify_record};
use super::{DecodeError, RECORD_BYTES_MAX, decode, encode, name, text};
use crate::id::{Digest, PublicKey, VmId};
use crate::node::Holding;
use crate::record::{
    Claim, ClaimBasis, Decline, Epoch, Link, Ready, Record, Release, ReleasedDisk, RunState, Takeover,
};
use crate::trust::{CHAIN_LINKS_MAX, Domain, SignatureError, Signed, Verified};

#[derive(Serialize, Deserialize)]
pub(super) struct EpochWire {
    term: u64,
    n: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct VmIdWire {
    birth: [u8; 32],
    name: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClaimWire {
    vm: VmIdWire,
    epoch: EpochWire,
    basis: BasisWire,
}

#[derive(Serialize, Deserialize)]
enum BasisWire {
    Birth,
    Release(SignedWire),
    Declined(SignedWire),
    Takeover {
        seen: Option<EpochWire>,
        copy: Option<[u8; 32]>,
        chain: Vec<SignedWire>,
        author: String,
        made_unix_ms: u64,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReleaseWire {
    vm: VmIdWire,
    epoch: EpochWire,
    to: [u8; 32],
    root: Option<[u8; 32]>,
    up: bool,
    run_counter: u64,
    run_by: [u8; 32],
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeclineWire {
    vm: VmIdWire,
    epoch: EpochWire,
    release: SignedWire,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct ReadyWire {
    vm: VmIdWire,
    epoch: EpochWire,
    root: [u8; 32],
}

/// The version of [`HoldingWire`].
const HOLDING_VERSION: u16 = 1;

/// How many kinds it has.
const HOLDING_KINDS: u32 = 6;

#[derive(Serialize, Deserialize)]
struct HoldingVersioned {
    version: u16,
    holding: HoldingWire,
    vm: VmIdWire,
}

#[derive(Serialize, Deserialize)]
enum HoldingWire {
    Claimed { claim: SignedWire, fragment: [u8; 32], made: bool },
    Arriving { epoch: EpochWire, from: [u8; 32] },
    Arrived { epoch: EpochWire, from: [u8; 32], root: [u8; 32] },
    Released { release: SignedWire, fragment: [u8; 32], made: bool },
    Declined { decline: SignedWire },
    Shadow { epoch: EpochWire, root: [u8; 32], fragment: [u8; 32] },
}

impl From<Epoch> for EpochWire {
    fn from(epoch: Epoch) -> Self {
        Self { term: epoch.term, n: epoch.n }
    }
}

impl From<EpochWire> for Epoch {
    fn from(wire: EpochWire) -> Self {
        Self { term: wire.term, n: wire.n }
    }
}

impl From<&VmId> for VmIdWire {
    fn from(vm: &VmId) -> Self {
        Self { birth: vm.birth.0, name: vm.name.to_string() }
    }
}

impl TryFrom<VmIdWire> for VmId {
    type Error = DecodeError;

    fn try_from(wire: VmIdWire) -> Result<Self, DecodeError> {
        Ok(Self { birth: Digest(wire.birth), name: name(&wire.name)? })
    }
}

impl From<&Claim> for ClaimWire {
    fn from(claim: &Claim) -> Self {
        Self {
            vm: (&claim.vm).into(),
            epoch: claim.epoch.into(),
            basis: match &claim.basis {
                ClaimBasis::Birth => BasisWire::Birth,
                ClaimBasis::Release(release) => BasisWire::Release(release.signed().into()),
                ClaimBasis::Declined(decline) => BasisWire::Declined(decline.signed().into()),
                ClaimBasis::Takeover(takeover) => BasisWire::Takeover {
                    seen: takeover.seen.map(EpochWire::from),
                    copy: takeover.copy.map(|copy| copy.0),
                    chain: takeover.chain.iter().map(SignedWire::from).collect(),
                    author: shorten(&takeover.author),
                    made_unix_ms: takeover.made_unix_ms,
                },
            },
        }
    }
}

impl TryFrom<ClaimWire> for Claim {
    type Error = RecordError;

    fn try_from(wire: ClaimWire) -> Result<Self, RecordError> {
        let basis = match wire.basis {
            BasisWire::Birth => ClaimBasis::Birth,
            BasisWire::Release(signed) => ClaimBasis::Release(Box::new(verify_release(signed.try_into()?)?)),
            BasisWire::Declined(signed) => {
                ClaimBasis::Declined(Box::new(verify_decline(signed.try_into()?)?))
            }
            BasisWire::Takeover { seen, copy, chain, author, made_unix_ms } => {
                if chain.len() > CHAIN_LINKS_MAX {
                    return Err(DecodeError::TooLong { bytes: chain.len(), limit: CHAIN_LINKS_MAX }.into());
                }
                ClaimBasis::Takeover(Takeover {
                    seen: seen.map(Epoch::from),
                    copy: copy.map(Digest),
                    chain: chain.into_iter().map(Signed::try_from).collect::<Result<_, _>>()?,
                    author: text(author, REASON_BYTES_MAX)?,
                    made_unix_ms,
                })
            }
        };
        Ok(Self { vm: wire.vm.try_into()?, epoch: wire.epoch.into(), basis })
    }
}

impl From<&Release> for ReleaseWire {
    fn from(release: &Release) -> Self {
        Self {
            vm: (&release.vm).into(),
            epoch: release.epoch.into(),
            to: release.to.0,
            root: match release.disk {
                ReleasedDisk::NeverBuilt => None,
                ReleasedDisk::Root(root) => Some(root.0),
            },
            up: release.run == RunState::Up,
            run_counter: release.run_counter,
            run_by: release.run_by.0,
        }
    }
}

impl TryFrom<ReleaseWire> for Release {
    type Error = DecodeError;

    fn try_from(wire: ReleaseWire) -> Result<Self, DecodeError> {
        Ok(Self {
            vm: wire.vm.try_into()?,
            epoch: wire.epoch.into(),
            to: PublicKey(wire.to),
            disk: wire.root.map_or(ReleasedDisk::NeverBuilt, |root| ReleasedDisk::Root(Digest(root))),
            run: if wire.up { RunState::Up } else { RunState::Down },
            run_counter: wire.run_counter,
            run_by: PublicKey(wire.run_by),
        })
    }
}

impl From<&Decline> for DeclineWire {
    fn from(decline: &Decline) -> Self {
        Self {
            vm: (&decline.vm).into(),
            epoch: decline.epoch.into(),
            release: decline.release.signed().into(),
            reason: shorten(&decline.reason),
        }
    }
}

impl TryFrom<DeclineWire> for Decline {
    type Error = RecordError;

    fn try_from(wire: DeclineWire) -> Result<Self, RecordError> {
        Ok(Self {
            vm: wire.vm.try_into()?,
            epoch: wire.epoch.into(),
            release: Box::new(verify_release(wire.release.try_into()?)?),
            reason: text(wire.reason, REASON_BYTES_MAX)?,
        })
    }
}

/// Verifies what stands inside a claim or a decline as a release. It holds nothing that is signed in turn.
fn verify_release(signed: Signed) -> Result<Verified<Release>, RecordError> {
    inner(signed, |record| match record {
        super::record::RecordWire::Release(wire) => Some(Release::try_from(*wire).map_err(RecordError::from)),
        _ => None,
    })
}

/// Verifies what stands inside a claim as a decline, which holds a release and nothing else that is signed.
fn verify_decline(signed: Signed) -> Result<Verified<Decline>, RecordError> {
    inner(signed, |record| match record {
        super::record::RecordWire::Decline(wire) => Some(Decline::try_from(*wire)),
        _ => None,
    })
}

/// Verifies one kind of record inside another; any other kind is refused before anything in it is looked at, so
/// that nothing can be nested deeper than a decline in a claim.
fn inner<T>(
    signed: Signed,
    pick: impl FnOnce(super::record::RecordWire) -> Option<Result<T, RecordError>>,
) -> Result<Verified<T>, RecordError> {
    let decode = |bytes: &[u8]| {
        let wire = super::record::decode_wire(bytes)?;
        pick(wire).unwrap_or(Err(RecordError::Unproven { what: "the epoch before" }))
    };
    signed.verify(Domain::Record, decode).map_err(|error| match error {
        SignatureError::Key | SignatureError::Signature => RecordError::Signature,
        SignatureError::Payload(error) => error,
    })
}

/// Encodes a word of readiness, as it is signed.
pub fn encode_ready(ready: &Ready) -> Vec<u8> {
    encode(&ReadyWire { vm: (&ready.vm).into(), epoch: ready.epoch.into(), root: ready.root.0 })
}

/// Decodes a word of readiness.
pub(super) fn decode_ready(bytes: &[u8]) -> Result<Ready, DecodeError> {
    let wire: ReadyWire = decode(bytes, 512)?;
    Ok(Ready { vm: wire.vm.try_into()?, epoch: wire.epoch.into(), root: Digest(wire.root) })
}

/// Encodes which VM, as a store's key.
pub fn encode_vm_id(vm: &VmId) -> Vec<u8> {
    encode(&VmIdWire::from(vm))
}

/// Encodes a host's note of what it has signed about a VM, for its own disk.
pub fn encode_holding(vm: &VmId, holding: &Holding) -> Vec<u8> {
    let wire = match holding {
        Holding::Claimed { claim, fragment, made } => {
            HoldingWire::Claimed { claim: claim.signed().into(), fragment: fragment.0, made: *made }
        }
        Holding::Arriving { epoch, from } => HoldingWire::Arriving { epoch: (*epoch).into(), from: from.0 },
        Holding::Arrived { epoch, from, root } => {
            HoldingWire::Arrived { epoch: (*epoch).into(), from: from.0, root: root.0 }
        }
        Holding::Released { release, fragment, made } => {
            HoldingWire::Released { release: release.signed().into(), fragment: fragment.0, made: *made }
        }
        Holding::Declined { decline } => HoldingWire::Declined { decline: decline.signed().into() },
        Holding::Shadow { epoch, root, fragment } => {
            HoldingWire::Shadow { epoch: (*epoch).into(), root: root.0, fragment: fragment.0 }
        }
    };
    encode(&HoldingVersioned { version: HOLDING_VERSION, holding: wire, vm: vm.into() })
}

/// Decodes a host's note, verifying again what was signed.
pub fn decode_holding(bytes: &[u8], root: PublicKey) -> Result<(VmId, Holding), RecordError> {
    super::known(bytes, HOLDING_VERSION, HOLDING_KINDS, "version of a note of ownership")?;
    let wire: HoldingVersioned = decode(bytes, RECORD_BYTES_MAX)?;
    let record = |signed: SignedWire, fits: fn(&Record) -> bool| {
        let record = verify_record(signed.try_into()?, root)?;
        if fits(&record) { Ok(record) } else { Err(RecordError::Unproven { what: "a note of ownership" }) }
    };
    let holding = match wire.holding {
        HoldingWire::Claimed { claim, fragment, made } => Holding::Claimed {
            claim: record(claim, |record| matches!(record, Record::Link(Link::Claim(_))))?,
            fragment: Digest(fragment),
            made,
        },
        HoldingWire::Arriving { epoch, from } => {
            Holding::Arriving { epoch: epoch.into(), from: PublicKey(from) }
        }
        HoldingWire::Arrived { epoch, from, root } => {
            Holding::Arrived { epoch: epoch.into(), from: PublicKey(from), root: Digest(root) }
        }
        HoldingWire::Released { release, fragment, made } => Holding::Released {
            release: record(release, |record| matches!(record, Record::Link(Link::Release(_))))?,
            fragment: Digest(fragment),
            made,
        },
        HoldingWire::Declined { decline } => Holding::Declined {
            decline: record(decline, |record| matches!(record, Record::Link(Link::Decline(_))))?,
        },
        HoldingWire::Shadow { epoch, root, fragment } => {
            Holding::Shadow { epoch: epoch.into(), root: Digest(root), fragment: Digest(fragment) }
        }
    };
    Ok((wire.vm.try_into()?, holding))
}

#[cfg(test)]
#[path = "claim_test.rs"]
mod tests;
