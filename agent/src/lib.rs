//! The MLN agent: the same on every service host and inside every virtual machine.
//!
//! With the feature `host` it is a member of the mesh; without it, what is left is the agent of a guest.

#[cfg(feature = "host")]
mod args;
#[cfg(feature = "host")]
mod blob;
mod causes;
#[cfg(feature = "host")]
mod clock;
#[cfg(feature = "host")]
mod config;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "host")]
mod definition;
#[cfg(feature = "host")]
mod departure;
#[cfg(feature = "uml")]
pub mod disk;
#[cfg(feature = "host")]
mod doctor;
#[cfg(feature = "host")]
mod effect;
#[cfg(feature = "host")]
mod event_loop;
#[cfg(feature = "host")]
mod events;
#[cfg(feature = "host")]
mod export;
mod ext4;
pub mod guest;
#[cfg(feature = "uml")]
pub mod holder;
#[cfg(feature = "host")]
mod hook;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
mod identity;
#[cfg(feature = "uml")]
pub mod image;
pub mod line;
#[cfg(feature = "host")]
pub mod mesh;
#[cfg(feature = "host")]
mod moving;
#[cfg(feature = "host")]
mod operations;
#[cfg(feature = "host")]
mod owner;
#[cfg(feature = "host")]
mod part_change;
#[cfg(feature = "uml")]
pub mod platform;
#[cfg(feature = "host")]
mod ports;
mod process_end;
#[cfg(feature = "host")]
mod request;
pub mod roles;
#[cfg(feature = "uml")]
pub mod shaper;
#[cfg(feature = "host")]
mod snapshot;
#[cfg(feature = "host")]
mod store;
#[cfg(feature = "host")]
mod store_health;
#[cfg(feature = "host")]
mod switches;
#[cfg(feature = "host")]
mod uplinks;
pub mod version;
#[cfg(feature = "host")]
pub mod vnet;
