//! The MLN agent: the same on every service host and inside every virtual machine.

#[cfg(feature = "control")]
pub mod control;
mod ext4;
pub mod guest;
#[cfg(feature = "uml")]
pub mod holder;
#[cfg(feature = "uml")]
pub mod image;
pub mod line;
#[cfg(feature = "uml")]
pub mod platform;
mod process_end;
pub mod roles;
