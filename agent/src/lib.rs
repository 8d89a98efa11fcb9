//! The MLN agent: the edge around `mln_protocol`, module by module.

#[cfg(feature = "host")]
pub mod mesh;
#[cfg(feature = "host")]
pub mod vnet;
