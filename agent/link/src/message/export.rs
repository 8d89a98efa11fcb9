//! Whole projects as one file: out of a mesh, and into one.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

use super::request::ProjectRef;

/// What a project was submitted as, and what is on its disks, as output in the form of [`mln_protocol::wire::ExportReader`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Which project.
    pub project: ProjectRef,
    /// As its disks are in this snapshot; none takes one for it, and removes it afterwards.
    #[serde(with = "crate::name::option")]
    pub snapshot: Option<Name>,
    /// What becomes of the images below the disks.
    pub images: ExportImages,
}

/// What becomes of the images below disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportImages {
    /// They are named: who imports it has them, or can fetch them.
    Named,
    /// They come along.
    Along,
}

/// What one host has of an export; asked by the agent that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportPart {
    /// Which project.
    pub project: ProjectRef,
    /// As its disks are in this snapshot.
    #[serde(with = "crate::name")]
    pub snapshot: Name,
}

/// Build a project from an export, whose bytes follow as input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// What the project is called here; its text says the same.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Its text.
    pub source: String,
    /// The variables that it is understood with: name and value.
    pub vars: Vec<(String, String)>,
    /// Whether images come along in it.
    pub images: ExportImages,
}
