//! The MLN agent: the same on every service host and inside every virtual machine.
//!
//! With the feature `host` it is a member of the mesh; without it, what is left is the agent of a guest.

#[cfg(feature = "control")]
pub mod control;
mod ext4;
pub mod guest;
#[cfg(feature = "uml")]
pub mod holder;
#[cfg(feature = "uml")]
pub mod image;
pub mod line;
#[cfg(feature = "host")]
pub mod mesh;
#[cfg(feature = "uml")]
pub mod platform;
mod process_end;
pub mod roles;
#[cfg(feature = "host")]
pub mod vnet;
