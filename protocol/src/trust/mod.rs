//! Keys, signatures and grants: who said something, and whether they may.
//!
//! Nothing in this project acts on a value that is not [`Verified`]; the only way to get one is
//! [`Signed::verify`]. A grant's expiry is judged once, by whoever acts on it, by the time that it is given.

mod child;
#[cfg(test)]
mod child_test;
mod envelope;
#[cfg(test)]
mod envelope_test;
mod grant;
mod guest;
mod issue;
mod join;
#[cfg(feature = "memo")]
mod memo;
mod revocation;
mod scope;
mod signed;

pub use child::{Child, Ground, child_of};
pub use envelope::{
    Asked, Constitution, Cost, Destination, EnvelopeError, Spent, Step, Surroundings, Touched, Use, UseKind,
    judge as judge_envelope,
};
#[cfg(feature = "mutants")]
pub(crate) use grant::admit_widened;
pub use grant::{AdmitError, CHAIN_LINKS_MAX, Grant, Link, Role, ScopeError, Standing, Verb, admit, mesh_of};
pub use guest::{
    Attestation, Decision, GUEST_DEFINITION_BYTES_MAX, GUEST_ITEM_BYTES, GUEST_REASON_BYTES_MAX,
    GUEST_TEXT_BYTES_MAX, GUEST_USES_MAX, GUEST_VALUES_BYTES_MAX, GUEST_VMS_MAX, GuestRequest, GuestRight,
    Wanted,
};
pub use issue::{GRANT_MS_DEFAULT, IssueError, Order as GrantOrder, issue};
pub use join::{Invited, JoinError, OPERATOR_GRANT_MS, grant_joined, judge_join};
pub use revocation::{Revocation, RevocationError, standing_of};
pub use scope::{
    Amount, HostPattern, Limits, NamePattern, PATTERNS_MAX, PatternError, ProjectPattern, Scope,
};
pub use signed::{Domain, KeyPair, SignatureError, Signed, Verified};
