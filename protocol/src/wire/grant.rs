//! Signed values and grants, as bytes.

use serde::{Deserialize, Serialize};

use super::{DecodeError, RECORD_BYTES_MAX, decode, encode};
use crate::id::{Digest, Name, PublicKey};
use crate::trust::{Grant, HostPattern, Limits, PATTERNS_MAX, ProjectPattern, Scope, Signed, Verb};

/// How long the payload of a grant may be, in bytes.
const GRANT_BYTES_MAX: usize = 1024;

/// Something signed: the payload's bytes are kept as they arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignedWire {
    author: [u8; 32],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl From<&Signed> for SignedWire {
    fn from(signed: &Signed) -> Self {
        Self {
            author: signed.author.0,
            payload: signed.payload.clone(),
            signature: signed.signature.to_vec(),
        }
    }
}

impl TryFrom<SignedWire> for Signed {
    type Error = DecodeError;

    fn try_from(wire: SignedWire) -> Result<Self, DecodeError> {
        if wire.payload.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::TooLong { bytes: wire.payload.len(), limit: RECORD_BYTES_MAX });
        }
        let signature =
            wire.signature.try_into().map_err(|_| DecodeError::Invalid { what: "signature length" })?;
        Ok(Self { author: PublicKey(wire.author), payload: wire.payload, signature })
    }
}

/// The payload of a grant.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrantWire {
    mesh: [u8; 32],
    subject: [u8; 32],
    name: Option<String>,
    verbs: u32,
    passes: u8,
    not_after_unix_ms: Option<u64>,
}

/// The payload of a grant that is limited: what an older program takes for no grant, and so for no right.
#[derive(Debug, Serialize, Deserialize)]
struct LimitedGrantWire {
    grant: GrantWire,
    scope: ScopeWire,
}

#[derive(Debug, Serialize, Deserialize)]
struct ScopeWire {
    projects: Vec<String>,
    hosts: Vec<String>,
    memory_mib: Option<u64>,
    vms: Option<u64>,
    disk_bytes: Option<u64>,
}

impl From<&Scope> for ScopeWire {
    fn from(scope: &Scope) -> Self {
        let Limits { memory_mib, vms, disk_bytes } = scope.limits;
        Self {
            projects: scope.projects.iter().map(ToString::to_string).collect(),
            hosts: scope.hosts.iter().map(ToString::to_string).collect(),
            memory_mib,
            vms,
            disk_bytes,
        }
    }
}

impl TryFrom<ScopeWire> for Scope {
    type Error = DecodeError;

    fn try_from(wire: ScopeWire) -> Result<Self, DecodeError> {
        for patterns in [&wire.projects, &wire.hosts] {
            if patterns.len() > PATTERNS_MAX {
                return Err(DecodeError::TooLong { bytes: patterns.len(), limit: PATTERNS_MAX });
            }
        }
        let wrong = |_| DecodeError::Invalid { what: "pattern of a grant" };
        let project = |text: &String| ProjectPattern::parse(text).map_err(wrong);
        let host = |text: &String| HostPattern::parse(text).map_err(wrong);
        Ok(Self {
            projects: wire.projects.iter().map(project).collect::<Result<_, _>>()?,
            hosts: wire.hosts.iter().map(host).collect::<Result<_, _>>()?,
            limits: Limits { memory_mib: wire.memory_mib, vms: wire.vms, disk_bytes: wire.disk_bytes },
        })
    }
}

impl Grant {
    /// Returns the digest of the grant, as it is signed.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Encodes the grant, as it is signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let grant = self.wire();
        if self.scope.is_whole() {
            return encode(&grant);
        }
        encode(&LimitedGrantWire { grant, scope: (&self.scope).into() })
    }

    fn wire(&self) -> GrantWire {
        GrantWire {
            mesh: self.mesh.0,
            subject: self.subject.0,
            name: self.name.as_ref().map(|n| n.as_str().to_owned()),
            verbs: self.verbs.iter().fold(0, |bits, verb| bits | verb.bit()),
            passes: self.passes,
            not_after_unix_ms: self.not_after_unix_ms,
        }
    }

    /// Decodes a grant.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (wire, scope) = match decode::<GrantWire>(bytes, GRANT_BYTES_MAX) {
            Err(DecodeError::Trailing { .. }) => {
                let limited: LimitedGrantWire = decode(bytes, GRANT_BYTES_MAX)?;
                let scope = Scope::try_from(limited.scope)?;
                if scope.is_whole() {
                    return Err(DecodeError::Invalid { what: "limits of a grant: there are none" });
                }
                (limited.grant, scope)
            }
            whole => (whole?, Scope::default()),
        };
        let verbs: std::collections::BTreeSet<Verb> =
            Verb::ALL.into_iter().filter(|verb| wire.verbs & verb.bit() != 0).collect();
        let known = verbs.iter().fold(0, |bits, verb| bits | verb.bit());
        if known != wire.verbs {
            return Err(DecodeError::Unknown { what: "verb", found: wire.verbs & !known });
        }
        let name = wire.name.map(|n| Name::parse(&n)).transpose();
        Ok(Self {
            mesh: Digest(wire.mesh),
            subject: PublicKey(wire.subject),
            name: name.map_err(|_| DecodeError::Invalid { what: "name" })?,
            verbs,
            passes: wire.passes,
            not_after_unix_ms: wire.not_after_unix_ms,
            scope,
        })
    }
}

impl Signed {
    /// Encodes a signed value.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&SignedWire::from(self))
    }

    /// Decodes a signed value; its signature is not verified by this.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode::<SignedWire>(bytes, RECORD_BYTES_MAX + 256)?.try_into()
    }
}

/// Encodes a chain of grants, root first.
pub fn encode_chain(chain: &[Signed]) -> Vec<u8> {
    encode(&chain.iter().map(SignedWire::from).collect::<Vec<_>>())
}

/// Decodes a chain of grants, root first; its length is checked, its signatures are not.
pub fn decode_chain(bytes: &[u8]) -> Result<Vec<Signed>, DecodeError> {
    let links: Vec<SignedWire> = decode(bytes, 16 << 10)?;
    if links.len() > crate::trust::CHAIN_LINKS_MAX {
        return Err(DecodeError::TooLong { bytes: links.len(), limit: crate::trust::CHAIN_LINKS_MAX });
    }
    links.into_iter().map(Signed::try_from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_without_limits_has_the_bytes_that_it_always_had() {
        let mut grant = Grant {
            mesh: Digest([1; 32]),
            subject: PublicKey([2; 32]),
            name: Name::parse("anna").ok(),
            verbs: [Verb::View].into(),
            passes: 0,
            not_after_unix_ms: Some(7),
            scope: Scope::default(),
        };
        let whole = grant.to_bytes();
        assert_eq!(whole.len(), 32 + 32 + 1 + 8 + 4 + 4 + 1 + 1 + 8);
        assert_eq!(Grant::from_bytes(&whole), Ok(grant.clone()));
        grant.scope = Scope {
            projects: (0..PATTERNS_MAX)
                .filter_map(|_| ProjectPattern::parse(&format!("{0}/{0}", "x".repeat(63))).ok())
                .collect(),
            hosts: vec![HostPattern::parse("@lab").expect("a group")],
            limits: Limits { memory_mib: Some(64), ..Limits::default() },
        };
        let limited = grant.to_bytes();
        assert_eq!(limited[..whole.len()], whole);
        assert_eq!(Grant::from_bytes(&limited), Ok(grant.clone()));
        grant.scope.hosts = vec![HostPattern::parse("a").expect("a name"); PATTERNS_MAX + 1];
        assert!(matches!(Grant::from_bytes(&grant.to_bytes()), Err(DecodeError::TooLong { .. })));
        assert!(Grant::from_bytes(&limited[..limited.len() - 1]).is_err());
    }
}
