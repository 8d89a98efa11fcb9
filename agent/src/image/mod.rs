//! Images: what disks are made of.
//!
//! Templates are immutable files by digest, with names and versions that lead to them. A VM's disk is a layer
//! over one; beside it a guest has a seed drive of its own, and the drive with the guest agent that all share.
//! This knows files and formats; not what runs on them, and not where templates come from over the mesh.
//!
//! ```text
//!   DATA/images/<digest>.img            a template: sparse, mode 0444, always the same time of change
//!   DATA/images/<digest>-<bytes>.img    the same bytes in a longer file, for disks larger than it
//!   DATA/images/agent-<digest>.img      the drive with one version of the guest agent
//!   DATA/images/names/<name>/<version>  the digest of a template
//! ```

mod agent_drive;
pub mod cow;
mod mini;
pub mod seed;
mod sparse;
mod store;

pub use mini::{MiniError, build_mini};
pub(crate) use store::IMAGE_MTIME;
pub use store::{ImageError, ImageStore, Template};
