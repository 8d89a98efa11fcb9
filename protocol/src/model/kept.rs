//! What a project says and nobody carries out yet: kept by its text, so that a change of it is seen.

use crate::id::Name;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// In `global`.
    Project,
    /// In a switch.
    Switch(Name),
    /// In a host, its superclasses included.
    Host(Name),
}

/// A keyword that is understood and not carried out yet, with what follows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Where it stands.
    pub section: Section,
    /// The keyword, with the name of its block: `swap`, `network eth0 delay`, `policy proximity`.
    pub key: String,
    /// Its value or its lines, variables put in; none for a flag.
    pub lines: Vec<String>,
}
