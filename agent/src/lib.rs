//! The MLN agent: the same on every service host and inside every virtual machine.

pub mod line;
