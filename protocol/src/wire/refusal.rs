//! Why a peer was turned away, as the short code that it is told; the detail stays in our own log.

use std::fmt;

use crate::trust::AdmitError;

/// Why a peer was turned away. What it means for the peer is in the text; nothing changed on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The two sides speak different versions.
    Version,
    /// Something could not be read.
    Malformed,
    /// The chain of grants is empty or longer than anybody looks at.
    ChainLength,
    /// The grant is for another mesh.
    OtherMesh,
    /// A link is not signed by whom it should be, or not genuine.
    Forged,
    /// A link allows more than the one before it.
    Widened,
    /// A link's validity is over, by the clock of whoever refused.
    Expired,
    /// The last link is for another key.
    OtherSubject,
    /// The grant holds, but does not include what was asked for.
    NotGranted,
    /// There is a connection between the two already.
    Duplicate,
    /// Too many connections or requests at the moment.
    Busy,
    /// Too much misbehaviour before.
    Misbehaved,
    /// Somebody else has the name already.
    NameTaken,
    /// The host that was asked may not let others in: its own grant can't be passed on.
    NoIntroducer,
    /// The token is for somebody with another name.
    OtherName,
    /// A grant of the chain was taken back.
    Revoked,
    /// A code that this program doesn't know.
    Other(u16),
}

/// Every refusal that has a code, with it and with its text.
const CODES: [(Refusal, u16, &str); 16] = [
    (Refusal::Version, 1, "the two sides speak different versions of the protocol"),
    (Refusal::Malformed, 2, "what was sent could not be read"),
    (Refusal::ChainLength, 3, "the chain of grants is empty or too long"),
    (Refusal::OtherMesh, 4, "the grant is for another mesh"),
    (Refusal::Forged, 5, "a grant is not genuine"),
    (Refusal::Widened, 6, "a grant allows more than the one before it"),
    (Refusal::Expired, 7, "a grant has expired"),
    (Refusal::OtherSubject, 8, "the grant is for another key"),
    (Refusal::NotGranted, 9, "the grant does not allow this"),
    (Refusal::Duplicate, 10, "there is a connection already"),
    (Refusal::Busy, 11, "too many connections or requests at the moment"),
    (Refusal::Misbehaved, 12, "too much misbehaviour before"),
    (Refusal::NameTaken, 13, "another host has this name"),
    (Refusal::NoIntroducer, 14, "the host that was asked may not let others in"),
    (Refusal::OtherName, 15, "the token is for another name"),
    (Refusal::Revoked, 16, "a grant was revoked"),
];

impl Refusal {
    /// Returns the code that stands for it on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Other(code) => code,
            known => CODES.iter().find(|entry| entry.0 == known).map_or(0, |entry| entry.1),
        }
    }

    /// Returns what a code stands for.
    pub fn from_code(code: u16) -> Self {
        CODES.iter().find(|entry| entry.1 == code).map_or(Self::Other(code), |entry| entry.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "refused with the unknown code {code}"),
            known => {
                f.write_str(CODES.iter().find(|entry| entry.0 == *known).map_or("refused", |entry| entry.2))
            }
        }
    }
}

impl From<&AdmitError> for Refusal {
    fn from(error: &AdmitError) -> Self {
        match error {
            AdmitError::Empty | AdmitError::TooLong { .. } => Self::ChainLength,
            AdmitError::OtherMesh => Self::OtherMesh,
            AdmitError::Issuer { .. } | AdmitError::Forged { .. } => Self::Forged,
            AdmitError::Widened { .. } => Self::Widened,
            AdmitError::Expired { .. } => Self::Expired,
            AdmitError::OtherSubject => Self::OtherSubject,
            AdmitError::Verb => Self::NotGranted,
            AdmitError::Revoked { .. } => Self::Revoked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_comes_back_as_what_it_stood_for() {
        for code in 0..40 {
            assert_eq!(Refusal::from_code(code).code(), code);
        }
        assert_eq!(Refusal::from_code(7), Refusal::Expired);
        assert_eq!(Refusal::from_code(900), Refusal::Other(900));
    }
}
