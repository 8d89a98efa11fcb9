//! Why the store of images can't do what was asked.

use std::io;
use std::path::PathBuf;

use mln_protocol::id::{Digest, Name};
use mln_protocol::wire::{DecodeError, ManifestError};

/// Why the store can't do what was asked. What was in it before still is.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "no space is left in {}: `mlnctl gc` frees what nobody uses; else remove templates or VMs, or enlarge it",
        folder.display()
    )]
    DiskFull {
        /// Where.
        folder: PathBuf,
    },
    /// There is no template of that name.
    #[error("there is no template {name:?}; there {}", known_names(known))]
    UnknownName {
        /// The name that was asked for.
        name: Name,
        /// The names that there are.
        known: Vec<Name>,
    },
    /// There is a template of that name, but not this one.
    #[error("template {name:?} has no version {version:?}; the newest is {newest:?}")]
    UnknownVersion {
        /// Its name.
        name: Name,
        /// The version that was asked for.
        version: String,
        /// The newest version that there is.
        newest: String,
    },
    /// There is no image of that digest.
    #[error("there is no image {}", digest.short())]
    UnknownDigest {
        /// The digest that was asked for.
        digest: Digest,
    },
    /// Several versions have that name.
    #[error("template {name:?} has the versions {}: say which, as in {name}:{}", versions.join(", "), versions[0])]
    SeveralVersions {
        /// Its name.
        name: Name,
        /// Its versions, at least two.
        versions: Vec<String>,
    },
    /// A version isn't a name.
    #[error("{text:?} can't be a version")]
    BadVersion {
        /// The version.
        text: String,
    },
    /// A version stands for other bytes already.
    #[error("version {version:?} of template {name:?} has other content; templates never change")]
    VersionTaken {
        /// The template's name.
        name: Name,
        /// The version.
        version: String,
    },
    /// A file has no ext4 file system.
    #[error("{} has no ext4 file system", path.display())]
    NotExt4 {
        /// The file.
        path: PathBuf,
    },
    /// A file is more than a manifest can describe.
    #[error("{} can't be an image", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// A manifest on the disk isn't one, or is that of another image.
    #[error("{} is damaged: remove it, and the image will be fetched or can be added again", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// In what way; none is a digest that it doesn't have.
        source: Option<DecodeError>,
    },
    /// The image is being fetched already.
    #[error("image {} is being fetched already", digest.short())]
    BeingFetched {
        /// Its digest.
        digest: Digest,
    },
    /// The guest agent's binary isn't there.
    #[error("reading the guest agent {}", path.display())]
    GuestAgent {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program can't be run.
    #[error("running {tool} (is the package {package} installed?)")]
    Tool {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{tool}: {text}")]
    ToolFailed {
        /// The program.
        tool: &'static str,
        /// Its complaint.
        text: String,
    },
}

impl ImageError {
    /// Returns the error of a write that the system refused; a full disk is told apart.
    pub(super) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { folder: path.parent().map_or(path.clone(), PathBuf::from) }
            }
            _ => Self::Write { path, source },
        }
    }

    /// Whether a template is just not here: somebody else may have it.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::UnknownName { .. } | Self::UnknownVersion { .. } | Self::UnknownDigest { .. })
    }
}

fn known_names(known: &[Name]) -> String {
    match known {
        [] => "is none (make one with `mlnctl template build mini`)".to_owned(),
        names => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            format!("is {}", names.join(", "))
        }
    }
}
