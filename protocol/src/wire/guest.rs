//! What owners attest and guests sign, as bytes, and what a revision says of a guest's decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim::{EpochWire, VmIdWire};
use super::grant::SignedWire;
use super::record::RecordError;
use super::{DecodeError, RECORD_BYTES_MAX, decode, encode, known, name, text};
use crate::id::{Digest, PublicKey, VmId};
use crate::model::HostAddress;
use crate::trust::{
    Attestation, Decision, Domain, GUEST_DEFINITION_BYTES_MAX, GUEST_REASON_BYTES_MAX, GUEST_TEXT_BYTES_MAX,
    GUEST_USES_MAX, GuestRequest, GuestRight, KeyPair, SignatureError, Signed, Use, UseKind, Verified,
    Wanted,
};

/// The version of what is signed: the first two bytes of either.
const VERSION: u16 = 1;
/// Longer than any attestation, in bytes.
const ATTESTATION_BYTES_MAX: usize = 512;
/// The longest path or value that a guest names, in bytes.
const VALUE_BYTES_MAX: usize = 4 << 10;

#[derive(Serialize, Deserialize)]
struct AttestationWire {
    version: u16,
    vm: VmIdWire,
    epoch: EpochWire,
    boot: u64,
    key: [u8; 32],
    made_unix_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct RequestWire {
    version: u16,
    wanted: WantedWire,
    vm: VmIdWire,
    parent: [u8; 32],
    number: u64,
    reason: String,
    made_unix_ms: u64,
}

/// How many kinds there are below.
const KINDS: u32 = 4;

#[derive(Serialize, Deserialize)]
enum WantedWire {
    Scale { class: String, to: u32 },
    Move { to: String },
    Set { path: String, value: Option<String> },
    Text(String),
}

/// A right, beside the question that it is for: each of its parts proves itself.
#[derive(Serialize, Deserialize)]
pub(super) struct RightWire {
    attestation: SignedWire,
    request: SignedWire,
    definition: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DecisionWire {
    vm: VmIdWire,
    request: [u8; 32],
    uses: Vec<UseWire>,
}

#[derive(Serialize, Deserialize)]
struct UseWire {
    origin: String,
    policy: String,
    kind: UseKindWire,
}

#[derive(Serialize, Deserialize)]
enum UseKindWire {
    Move { to: String },
    Scale { class: String, to: u32 },
    Volumes { count: u32 },
    Cloud { hours: u32 },
}

/// Signs an owner's word on its guest's key.
pub fn sign_attestation(keys: &KeyPair, attestation: Attestation) -> Verified<Attestation> {
    let payload = encode(&AttestationWire {
        version: VERSION,
        vm: (&attestation.vm).into(),
        epoch: attestation.epoch.into(),
        boot: attestation.boot,
        key: attestation.key.0,
        made_unix_ms: attestation.made_unix_ms,
    });
    Verified::own(keys, Domain::Attestation, attestation, payload)
}

/// Verifies an owner's word on its guest's key.
pub fn verify_attestation(signed: Signed) -> Result<Verified<Attestation>, RecordError> {
    signed.verify(Domain::Attestation, decode_attestation).map_err(fault)
}

fn decode_attestation(bytes: &[u8]) -> Result<Attestation, DecodeError> {
    known(bytes, VERSION, u32::MAX, "version of an attestation")?;
    let wire: AttestationWire = decode(bytes, ATTESTATION_BYTES_MAX)?;
    Ok(Attestation {
        vm: wire.vm.try_into()?,
        epoch: wire.epoch.into(),
        boot: wire.boot,
        key: PublicKey(wire.key),
        made_unix_ms: wire.made_unix_ms,
    })
}

/// Signs what a guest wants, with the guest's key.
pub fn sign_guest_request(keys: &KeyPair, request: GuestRequest) -> Verified<GuestRequest> {
    let payload = encode_request(&request);
    Verified::own(keys, Domain::GuestRequest, request, payload)
}

/// Verifies what a guest wants.
pub fn verify_guest_request(signed: Signed) -> Result<Verified<GuestRequest>, RecordError> {
    signed.verify(Domain::GuestRequest, decode_request).map_err(fault)
}

fn encode_request(request: &GuestRequest) -> Vec<u8> {
    encode(&RequestWire {
        version: VERSION,
        wanted: match &request.wanted {
            Wanted::Scale { class, to } => WantedWire::Scale { class: class.to_string(), to: *to },
            Wanted::Move { to } => WantedWire::Move { to: to.0.clone() },
            Wanted::Set { path, value } => WantedWire::Set { path: path.clone(), value: value.clone() },
            Wanted::Text(text) => WantedWire::Text(text.clone()),
        },
        vm: (&request.vm).into(),
        parent: request.parent.0,
        number: request.number,
        reason: request.reason.clone(),
        made_unix_ms: request.made_unix_ms,
    })
}

fn decode_request(bytes: &[u8]) -> Result<GuestRequest, DecodeError> {
    known(bytes, VERSION, KINDS, "version or kind of a guest's request")?;
    let wire: RequestWire = decode(bytes, RECORD_BYTES_MAX)?;
    let value = |found| text(found, VALUE_BYTES_MAX);
    Ok(GuestRequest {
        vm: wire.vm.try_into()?,
        parent: Digest(wire.parent),
        number: wire.number,
        wanted: match wire.wanted {
            WantedWire::Scale { class, to } => Wanted::Scale { class: name(&class)?, to },
            WantedWire::Move { to } => Wanted::Move { to: HostAddress(value(to)?) },
            WantedWire::Set { path, value: set } => {
                Wanted::Set { path: value(path)?, value: set.map(value).transpose()? }
            }
            WantedWire::Text(found) if found.len() > GUEST_TEXT_BYTES_MAX => {
                return Err(DecodeError::TooLong { bytes: found.len(), limit: GUEST_TEXT_BYTES_MAX });
            }
            WantedWire::Text(found) => Wanted::Text(found),
        },
        // It is shown to people, on one line.
        reason: match text(wire.reason, GUEST_REASON_BYTES_MAX)? {
            reason if reason.contains(['\n', '\t']) => {
                return Err(DecodeError::Invalid { what: "reason of a guest: it has several lines" });
            }
            reason => reason,
        },
        made_unix_ms: wire.made_unix_ms,
    })
}

fn fault(error: SignatureError<DecodeError>) -> RecordError {
    match error {
        SignatureError::Payload(error) => RecordError::Decode(error),
        SignatureError::Key | SignatureError::Signature => RecordError::Signature,
    }
}

impl From<&GuestRight> for RightWire {
    fn from(right: &GuestRight) -> Self {
        Self {
            attestation: right.attestation.signed().into(),
            request: right.request.signed().into(),
            definition: right.definition.to_vec(),
        }
    }
}

impl TryFrom<RightWire> for GuestRight {
    type Error = RecordError;

    fn try_from(wire: RightWire) -> Result<Self, RecordError> {
        if wire.definition.len() > GUEST_DEFINITION_BYTES_MAX {
            let bytes = wire.definition.len();
            return Err(DecodeError::TooLong { bytes, limit: GUEST_DEFINITION_BYTES_MAX }.into());
        }
        Ok(Self {
            attestation: verify_attestation(wire.attestation.try_into()?)?,
            request: verify_guest_request(wire.request.try_into()?)?,
            definition: Arc::from(wire.definition),
        })
    }
}

impl From<&Decision> for DecisionWire {
    fn from(decision: &Decision) -> Self {
        let one = |one: &Use| UseWire {
            origin: one.origin.to_string(),
            policy: one.policy.to_string(),
            kind: match &one.kind {
                UseKind::Move { to } => UseKindWire::Move { to: to.0.clone() },
                UseKind::Scale { class, to } => UseKindWire::Scale { class: class.to_string(), to: *to },
                UseKind::Volumes { count } => UseKindWire::Volumes { count: *count },
                UseKind::Cloud { hours } => UseKindWire::Cloud { hours: *hours },
            },
        };
        Self {
            vm: (&decision.vm).into(),
            request: decision.request.0,
            uses: decision.uses.iter().map(one).collect(),
        }
    }
}

impl TryFrom<DecisionWire> for Decision {
    type Error = DecodeError;

    fn try_from(wire: DecisionWire) -> Result<Self, DecodeError> {
        if wire.uses.len() > GUEST_USES_MAX {
            return Err(DecodeError::TooLong { bytes: wire.uses.len(), limit: GUEST_USES_MAX });
        }
        let one = |one: UseWire| {
            Ok(Use {
                origin: name(&one.origin)?,
                policy: name(&one.policy)?,
                kind: match one.kind {
                    UseKindWire::Move { to } => UseKind::Move { to: HostAddress(text(to, VALUE_BYTES_MAX)?) },
                    UseKindWire::Scale { class, to } => UseKind::Scale { class: name(&class)?, to },
                    UseKindWire::Volumes { count } => UseKind::Volumes { count },
                    UseKindWire::Cloud { hours } => UseKind::Cloud { hours },
                },
            })
        };
        Ok(Self {
            vm: VmId::try_from(wire.vm)?,
            request: Digest(wire.request),
            uses: wire.uses.into_iter().map(one).collect::<Result<_, DecodeError>>()?,
        })
    }
}

#[cfg(test)]
#[path = "guest_test.rs"]
mod tests;
