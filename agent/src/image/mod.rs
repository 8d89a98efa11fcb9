//! Images: what disks are made of.
//!
//! Templates are immutable files by digest, with names and versions that lead to them. The digest is that of a
//! manifest, which has a digest for each chunk of the file: so each can be verified on its own, whoever sends it. The
//! file itself stays whole, since User-Mode Linux wants it so; chunks are places in it.
//!
//! A VM's disk is a layer over a template; beside it a guest has a seed drive of its own, and the drive with the guest
//! agent that all share. Only [`exchange`] knows that there is a mesh; everything else knows files and formats, and
//! not what runs on them.
//!
//! ```text
//!   DATA/images/<digest>.img            an image: sparse, mode 0444, always the same time of change
//!   DATA/images/<digest>.manifest       what it is made of; its digest is the image's
//!   DATA/images/<digest>.part           one that is being fetched, or was when the agent was killed
//!   DATA/images/<digest>-<bytes>.img    the same bytes in a longer file, for disks larger than it
//!   DATA/images/agent-<digest>.img      the drive with one version of the guest agent
//!   DATA/images/names/<name>/<version>  the digest of a template, when it was made, the least memory in MiB
//! ```

mod agent_drive;
pub(crate) mod blank;
pub mod cow;
mod error;
#[cfg(feature = "host")]
pub(crate) mod exchange;
mod garbage;
#[cfg(test)]
mod garbage_test;
mod part;
mod recipe;
pub mod seed;
pub(crate) mod sparse;
mod store;
mod work;

pub use error::ImageError;
pub use garbage::{Collected, Garbage, GarbageKind, ImageUse, Sweep};
pub use recipe::{Recipe, RecipeError, build_mini, build_recipe};
pub use store::{Exclusive, Holding, ImageStore, NewName, NewVersion, Template};
pub(crate) use store::{IMAGE_MTIME, MEMORY_MIN};
#[cfg(feature = "host")]
pub(crate) use work::WorkFolder;
