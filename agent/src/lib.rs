//! The MLN agent: the edge around the mesh's state machine.

#[cfg(feature = "control")]
pub mod control;
