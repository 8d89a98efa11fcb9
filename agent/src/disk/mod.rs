//! What is on a VM's drives, whatever the files are that it lies in: for moving, copying and comparing it.
//!
//! A drive is a row of blocks of 4 KiB ([`Drive`]). Each of them is *below* (what the template has there, or zeros where
//! there is none), or has a digest. That is a drive's content; how its file is laid out, what its layer says of the
//! template's path, and whether zeros are written or holes, is not. The digest over all drives' names, lengths, templates
//! and blocks is the **root digest** ([`content`]): two hosts have the same disk if and only if they have the same root.
//!
//! What was on the drives at some time is remembered beside them ([`state`]): block by block, as digests. So a host that is
//! asked "what has changed since this root?" finds the difference by itself.
//!
//! ```text
//!   VM's folder                       its copy's folder (hidden: no VM, until it is taken up)
//!   disk.cow, disk-d.img     drives   the same
//!   content                  root     what is on them, for sure; gone as soon as anything may write
//!   state-<root>             states   what was on them when it was sealed or received
//!   round-<root>             states   what was sent while it ran
//!                            arriving it is not complete, and nothing may be started with it
//! ```
//!
//! Here nothing is known of the mesh's decisions: whether a VM may be started is for `protocol::node` to say. Only
//! `transfer` knows that there is a mesh at all.

pub mod content;
pub mod drive;
#[cfg(feature = "host")]
mod files;
#[cfg(feature = "host")]
pub(crate) mod fit;
pub mod folder;
pub mod scan;
pub mod state;
#[cfg(feature = "host")]
pub(crate) mod transfer;

pub use content::{Place, Region, RootHasher, Shape};
pub use drive::{Access, Block, Drive, DriveFile, VmDisk};
pub use folder::{DiskFolder, Remembered};
pub use scan::{Reading, scan};
pub use state::{State, StateWriter};

/// The length of a block, in bytes.
pub const BLOCK_BYTES: usize = mln_protocol::wire::DISK_BLOCK_BYTES;

/// How many blocks a region has.
pub const REGION_BLOCKS: u32 = mln_protocol::wire::DISK_REGION_BLOCKS;

#[cfg(test)]
mod disk_test;
#[cfg(test)]
mod testbed;
