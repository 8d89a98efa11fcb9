//! From what is wanted and what is there to what is to be done: pure, and it cannot fail.

mod fragment;
mod step;

pub use fragment::{PlacedHost, PlacementError, fragments, guest_address};
pub use step::{Existence, Observed, RunPhase, Step, StopLimit, next_step};
