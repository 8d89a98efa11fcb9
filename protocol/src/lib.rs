//! The project language, the model, and the mesh's state machine.
//!
//! Nothing here reads a clock, a file, a socket, the environment or a source of randomness: whatever is
//! needed from outside is an argument. `mlnctl`, `mlnd` and `netsim` all drive this same code.
//!
//! Modules, downward only: `lang` → `resolve` → `model` → `plan` → `node`; `trust` and `record` stand beside
//! `model`; `wire` is the only one that knows bytes, `convert` the only one that knows JSON.

pub mod convert;
pub mod id;
pub mod lang;
pub mod model;
pub mod node;
pub mod plan;
pub mod policy;
pub mod record;
pub mod resolve;
#[cfg(test)]
mod sample;
pub mod time;
pub mod trust;
pub mod wire;
