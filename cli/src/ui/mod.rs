//! What the user sees.

pub mod diagnostic;
pub mod outcome;
pub mod project;
