//! What a project was submitted as: kept beside its revision, so that it can be shown and changed later.

use super::project::Blob;
use crate::id::{Digest, Name};

/// What a project was submitted as. Its digest stands in the revision; it travels to the project's hosts alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its text, with includes and what plugins made folded in; none where a password stands in it in plain, since
    /// everybody who knows the digest could try out guesses.
    pub source: Option<String>,
    /// The variables of the command line, which win over the text's.
    pub variables: Vec<(String, String)>,
    /// The contents of the files that it copies into guests.
    pub files: Vec<Blob>,
    /// What the disks of its VMs start from: a disk stays what it was made from.
    pub templates: Vec<PinnedTemplate>,
}

/// Which image a VM's disk starts from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinnedTemplate {
    /// The VM.
    pub vm: Name,
    /// The template's name.
    pub template: Name,
    /// The image.
    pub digest: Digest,
}
