//! Keys, signatures and grants: who said something, and whether they may.
//!
//! Nothing in this project acts on a value that is not [`Verified`]; the only way to get one is
//! [`Signed::verify`]. A grant's expiry is judged once, by whoever acts on it, by the time that it is given.

mod grant;
mod join;
#[cfg(feature = "memo")]
mod memo;
mod signed;

pub use grant::{AdmitError, CHAIN_LINKS_MAX, Grant, Role, Standing, Verb, admit, mesh_of};
pub use join::{Invited, JoinError, OPERATOR_GRANT_MS, grant_joined, judge_join};
pub use signed::{Domain, KeyPair, SignatureError, Signed, Verified};
