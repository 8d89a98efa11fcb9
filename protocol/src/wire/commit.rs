//! Revisions and their proofs, as bytes.
//!
//! What hosts sign for one revision differs by the signature alone, so that a commit carries what was signed once
//! and then who signed it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ballot::{BallotWire, encode_promise, verify_promise};
use super::charge::ChargeWire;
use super::guest::DecisionWire;
use super::record::{REASON_BYTES_MAX, RecordError};
use super::{DecodeError, RECORD_BYTES_MAX, decode, encode, name, text};
use crate::id::{Digest, Label, ProjectId, PublicKey};
use crate::node::limits::PROJECT_HOSTS_MAX;
use crate::record::{Charge, Commit, Consent, Promise, Reservation, Revision, RevisionHost, RevisionVm};
use crate::trust::{Decision, Domain, KeyPair, Signed, Verified};

#[derive(Serialize, Deserialize)]
pub(super) struct CommitWire {
    revision: Vec<u8>,
    reservations: Vec<SignatureWire>,
    ballot: Option<BallotWire>,
    promises: Vec<SignatureWire>,
}

/// Who signed something that is known otherwise.
#[derive(Serialize, Deserialize)]
struct SignatureWire {
    author: [u8; 32],
    signature: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct RevisionWire {
    project: Option<[u8; 32]>,
    parent: Option<[u8; 32]>,
    owner: String,
    label: String,
    hosts: Vec<RevisionHostWire>,
    definition: [u8; 32],
    partial: bool,
    made_unix_ms: u64,
    author: String,
    reason: String,
}

/// A revision that was made on somebody's grants. One that was not keeps the bytes that it always had.
#[derive(Serialize, Deserialize)]
struct ChargedWire {
    revision: RevisionWire,
    charge: ChargeWire,
}

/// A revision that leaves VMs out whose disks are kept. It is told from one with a charge by its length.
#[derive(Serialize, Deserialize)]
struct KeepingWire {
    revision: RevisionWire,
    keep_removed_ms: u64,
}

/// A revision with both.
#[derive(Serialize, Deserialize)]
struct ChargedKeepingWire {
    charged: ChargedWire,
    keep_removed_ms: u64,
}

/// What stands behind a revision that a VM decided on. An agent from before that takes it for no revision at all.
#[derive(Serialize, Deserialize)]
struct DecidedWire {
    mark: [u8; 16],
    charge: Option<ChargeWire>,
    keep_removed_ms: u64,
    decision: DecisionWire,
}

/// What it begins with, where a charge would have a key that nobody has.
const DECIDED: [u8; 16] = *b"mln decision 1\0\0";

#[derive(Serialize, Deserialize)]
struct RevisionHostWire {
    name: String,
    key: [u8; 32],
    fragment: [u8; 32],
    vms: Vec<(String, Option<[u8; 32]>)>,
}

#[derive(Serialize, Deserialize)]
struct ReservationWire {
    revision: [u8; 32],
}

/// Returns how many bytes a commit of this revision may take, with the signatures of this many hosts.
pub fn commit_bytes_max(revision: &Revision, signatures: usize) -> usize {
    // A signature, its author and its length; and what every record begins with.
    encode_revision(revision).len() + signatures * 104 + 256
}

/// Returns the encoding of a revision, whose digest is its identity.
pub fn encode_revision(revision: &Revision) -> Vec<u8> {
    let wire = RevisionWire {
        project: revision.project.map(|p| p.0.0),
        parent: revision.parent.map(|p| p.0),
        owner: revision.label.owner.to_string(),
        label: revision.label.project.to_string(),
        hosts: revision
            .hosts
            .iter()
            .map(|host| RevisionHostWire {
                name: host.name.to_string(),
                key: host.key.0,
                fragment: host.fragment.0,
                vms: host.vms.iter().map(|vm| (vm.name.to_string(), vm.birth.map(|b| b.0))).collect(),
            })
            .collect(),
        definition: revision.definition.0,
        partial: revision.consent == Consent::Partial,
        made_unix_ms: revision.made_unix_ms,
        author: revision.author.clone(),
        reason: revision.reason.clone(),
    };
    let keep_removed_ms = revision.keep_removed_ms;
    if let Some(decision) = &revision.decision {
        let mut bytes = encode(&wire);
        let charge = revision.charge.as_ref().map(ChargeWire::from);
        let decision = decision.into();
        bytes.extend(encode(&DecidedWire { mark: DECIDED, charge, keep_removed_ms, decision }));
        return bytes;
    }
    match &revision.charge {
        None if keep_removed_ms == 0 => encode(&wire),
        None => encode(&KeepingWire { revision: wire, keep_removed_ms }),
        Some(charge) => {
            let charged = ChargedWire { revision: wire, charge: charge.into() };
            if keep_removed_ms == 0 {
                encode(&charged)
            } else {
                encode(&ChargedKeepingWire { charged, keep_removed_ms })
            }
        }
    }
}

/// What may stand behind a revision that every agent can read.
struct Appended {
    charge: Option<Charge>,
    keep_removed_ms: u64,
    decision: Option<Decision>,
}

impl Appended {
    fn of_people(charge: Option<Charge>, keep_removed_ms: u64) -> Self {
        Self { charge, keep_removed_ms, decision: None }
    }
}

/// Reads what stands behind a revision that a VM decided on; none where people did.
fn decode_decided(bytes: &[u8], behind: usize) -> Result<Option<(RevisionWire, Appended)>, DecodeError> {
    let Some((revision, tail)) = bytes.len().checked_sub(behind).and_then(|at| bytes.split_at_checked(at))
    else {
        return Ok(None);
    };
    if !tail.starts_with(&DECIDED) {
        return Ok(None);
    }
    let decided: DecidedWire = decode(tail, RECORD_BYTES_MAX)?;
    let appended = Appended {
        charge: decided.charge.map(Charge::try_from).transpose()?,
        keep_removed_ms: decided.keep_removed_ms,
        decision: Some(decided.decision.try_into()?),
    };
    Ok(Some((decode(revision, RECORD_BYTES_MAX)?, appended)))
}

/// Reads a revision with what stands behind it.
fn decode_appended(bytes: &[u8]) -> Result<(RevisionWire, Appended), DecodeError> {
    match decode::<RevisionWire>(bytes, RECORD_BYTES_MAX) {
        Err(DecodeError::Trailing { bytes: KEEPING_BYTES }) => {
            let keeping: KeepingWire = decode(bytes, RECORD_BYTES_MAX)?;
            let keep_removed_ms = judge_keeping(keeping.keep_removed_ms)?;
            return Ok((keeping.revision, Appended::of_people(None, keep_removed_ms)));
        }
        Err(DecodeError::Trailing { bytes: behind }) => {
            if let Some(decided) = decode_decided(bytes, behind)? {
                return Ok(decided);
            }
        }
        wire => return Ok((wire?, Appended::of_people(None, 0))),
    }
    let (charged, keep_removed_ms) = match decode::<ChargedWire>(bytes, RECORD_BYTES_MAX) {
        Err(DecodeError::Trailing { .. }) => {
            let keeping: ChargedKeepingWire = decode(bytes, RECORD_BYTES_MAX)?;
            (keeping.charged, judge_keeping(keeping.keep_removed_ms)?)
        }
        charged => (charged?, 0),
    };
    let charge = charged.charge.try_into()?;
    Ok((charged.revision, Appended::of_people(Some(charge), keep_removed_ms)))
}

/// How long the time for which disks are kept is, in bytes: shorter than any charge.
const KEEPING_BYTES: usize = 8;

/// There is one encoding of a revision that keeps nothing, and it has no time in it.
fn judge_keeping(keep_removed_ms: u64) -> Result<u64, DecodeError> {
    match keep_removed_ms {
        0 => Err(DecodeError::Invalid { what: "revision: keeps disks for no time" }),
        _ => Ok(keep_removed_ms),
    }
}

/// Decodes a revision: no host and no VM stands in it twice.
pub fn decode_revision(bytes: &[u8]) -> Result<Revision, DecodeError> {
    let (wire, Appended { charge, keep_removed_ms, decision }) = decode_appended(bytes)?;
    let vm = |(text, birth): (String, Option<[u8; 32]>)| {
        Ok(RevisionVm { name: name(&text)?, birth: birth.map(Digest) })
    };
    let host = |host: RevisionHostWire| {
        Ok(RevisionHost {
            name: name(&host.name)?,
            key: PublicKey(host.key),
            fragment: Digest(host.fragment),
            vms: host.vms.into_iter().map(vm).collect::<Result<_, DecodeError>>()?,
        })
    };
    if wire.project.is_some() != wire.parent.is_some() {
        return Err(DecodeError::Invalid { what: "revision's parent" });
    }
    if wire.hosts.len() > PROJECT_HOSTS_MAX {
        return Err(DecodeError::TooLong { bytes: wire.hosts.len(), limit: PROJECT_HOSTS_MAX });
    }
    let revision = Revision {
        project: wire.project.map(|p| ProjectId(Digest(p))),
        parent: wire.parent.map(Digest),
        label: Label { owner: name(&wire.owner)?, project: name(&wire.label)? },
        hosts: wire.hosts.into_iter().map(host).collect::<Result<_, DecodeError>>()?,
        definition: Digest(wire.definition),
        consent: if wire.partial { Consent::Partial } else { Consent::Majority },
        made_unix_ms: wire.made_unix_ms,
        author: text(wire.author, REASON_BYTES_MAX)?,
        reason: text(wire.reason, REASON_BYTES_MAX)?,
        charge,
        keep_removed_ms,
        decision,
    };
    let hosts = || revision.hosts.iter();
    let (keys, names) = (hosts().map(|host| host.key), hosts().map(|host| &host.name));
    let vms = || hosts().flat_map(|host| &host.vms);
    let distinct = keys.collect::<BTreeSet<_>>().len() == revision.hosts.len()
        && names.collect::<BTreeSet<_>>().len() == revision.hosts.len()
        && vms().map(|vm| &vm.name).collect::<BTreeSet<_>>().len() == vms().count();
    if !distinct {
        return Err(DecodeError::Invalid { what: "revision: a host or a VM stands in it twice" });
    }
    Ok(revision)
}

/// Signs a reservation for a revision.
pub fn sign_reservation(keys: &KeyPair, revision: Digest) -> Verified<Reservation> {
    let payload = encode(&ReservationWire { revision: revision.0 });
    Verified::own(keys, Domain::Request, Reservation { revision }, payload)
}

/// Verifies a reservation.
pub fn verify_reservation(signed: Signed) -> Result<Verified<Reservation>, RecordError> {
    let decode_payload = |bytes: &[u8]| {
        decode::<ReservationWire>(bytes, 64).map(|wire| Reservation { revision: Digest(wire.revision) })
    };
    signed.verify(Domain::Request, decode_payload).map_err(|_| RecordError::Signature)
}

/// Verifies every signature of a commit while it is read.
pub(super) fn decode_commit(wire: CommitWire) -> Result<Commit, RecordError> {
    let digest = Digest::of(&wire.revision);
    let revision = decode_revision(&wire.revision)?;
    // Those that are left out sign, too.
    let signatures_max = 2 * PROJECT_HOSTS_MAX;
    for signatures in [&wire.reservations, &wire.promises] {
        if signatures.len() > signatures_max {
            return Err(DecodeError::TooLong { bytes: signatures.len(), limit: signatures_max }.into());
        }
    }
    let reserved = encode(&ReservationWire { revision: digest.0 });
    let reservations = wire
        .reservations
        .into_iter()
        .map(|signature| verify_reservation(signature.over(&reserved)?))
        .collect::<Result<_, RecordError>>()?;
    let promised = match (wire.ballot, revision.parent) {
        (Some(ballot), Some(parent)) => Promise { parent, child: digest, ballot: ballot.into() },
        _ if wire.promises.is_empty() => {
            return Ok(Commit { revision, digest, reservations, promises: Vec::new() });
        }
        _ => return Err(DecodeError::Invalid { what: "promise without a parent or a ballot" }.into()),
    };
    let promised = encode_promise(promised);
    let promises = wire
        .promises
        .into_iter()
        .map(|signature| verify_promise(signature.over(&promised)?))
        .collect::<Result<_, RecordError>>()?;
    Ok(Commit { revision, digest, reservations, promises })
}

/// Whether a commit proves what can be told without its parent. The rest is judged where the parent is known.
pub(super) fn prove(commit: &Commit) -> Result<(), RecordError> {
    let unproven = |what| Err(RecordError::Unproven { what });
    let reserving = commit.reserving();
    if reserving.len() != commit.reservations.len() || commit.promising().len() != commit.promises.len() {
        return unproven("a signature that stands there once");
    }
    if reserving.is_empty() {
        return unproven("the reservation of any host");
    }
    if commit.revision.parent.is_some() {
        return Ok(());
    }
    if !commit.revision.hosts.iter().all(|host| reserving.contains(&host.key)) {
        return unproven("the reservation of every host");
    }
    let born_here = commit.revision.hosts.iter().flat_map(|host| &host.vms).all(|vm| vm.birth.is_none());
    if !born_here || commit.revision.consent == Consent::Partial {
        return unproven("what a first revision follows");
    }
    Ok(())
}

impl SignatureWire {
    fn of(signed: &Signed) -> Self {
        Self { author: signed.author.0, signature: signed.signature.to_vec() }
    }

    fn over(self, payload: &[u8]) -> Result<Signed, DecodeError> {
        let signature =
            self.signature.try_into().map_err(|_| DecodeError::Invalid { what: "signature length" })?;
        Ok(Signed { author: PublicKey(self.author), payload: payload.to_vec(), signature })
    }
}

impl From<&Commit> for CommitWire {
    fn from(commit: &Commit) -> Self {
        Self {
            revision: encode_revision(&commit.revision),
            reservations: commit.reservations.iter().map(|r| SignatureWire::of(r.signed())).collect(),
            ballot: commit.promises.first().map(|promise| promise.ballot.into()),
            promises: commit.promises.iter().map(|p| SignatureWire::of(p.signed())).collect(),
        }
    }
}
