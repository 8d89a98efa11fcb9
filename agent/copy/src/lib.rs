//! Files and folders as one verified stream: what `mlnctl cp` sends and the agent in a guest receives, and back.
//!
//! [`pack`] makes a stream of what is on a disk, [`unpack`] puts it on another: each file whole or not at all, a
//! new folder whole or not at all. A [`Sealing`] writer ends the stream with its length and digest, and an
//! [`Unsealing`] reader gives nothing its end before both are found right. It knows nothing of guests, agents or
//! lines; it blocks.
//!
//! ```text
//!   stream = { length 4 │ bytes }*  0 4 │ total 8 │ BLAKE3 32        numbers little-endian
//!   bytes  = a tar whose entries are `root` and `root/…`, or the content of one file
//! ```

mod pack;
mod seal;
mod unpack;

use std::io;
use std::path::PathBuf;

pub use pack::{Depth, measure, pack};
pub use seal::{Seal, Sealing, Unsealing};
pub use unpack::{Form, destination, unpack};

/// The first words of a guest's answer, before anything is copied: a guest agent that can't copy says others.
pub const GREETING: &str = "mln-copy 1\n";

/// The name of the topmost entry of a stream.
const ROOT: &str = "root";

/// Why something isn't copied. Unless a variant says otherwise, nothing of it is there.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no such folder to copy into.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// A folder, and only a file was asked for.
    #[error("{} is a folder: copy it with -r", .0.display())]
    IsFolder(PathBuf),
    /// A file is to be where a folder is.
    #[error("{} is a folder", .0.display())]
    FolderInTheWay(PathBuf),
    /// A folder is to be where a file is.
    #[error("{} is a file", .0.display())]
    FileInTheWay(PathBuf),
    /// Neither file nor folder nor link.
    #[error("{} is neither a file nor a folder nor a link", .0.display())]
    Special(PathBuf),
    /// A file that changed while it was read.
    #[error("{} became shorter while it was read", .0.display())]
    Changed(PathBuf),
    /// A file was asked for, and the sender has something else.
    #[error("the sender has sent something else than the file that was asked for")]
    NoFile,
    /// A stream that would write outside of what is copied. A bug of the sender, or an attack.
    #[error("the sender names {0:?}, which is not inside of what is copied")]
    Outside(String),
    /// The disk said no. In a folder that was there before, files before this one are copied.
    #[error("{} {}", .what, .path.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stream broke off, or isn't what the sender meant.
    #[error("the transfer")]
    Stream(#[source] io::Error),
}

impl CopyError {
    fn disk(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Disk { what, path: path.into(), source }
    }
}
