//! A project, and the part of it that one host carries.

use std::fmt;

use std::net::IpAddr;

use super::hooks::Hooks;
use super::network::Switch;
use super::vm::Vm;
use crate::id::{Digest, Name};

/// A whole project, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name; its owner is whoever submits it.
    pub name: Name,
    /// Its VMs, in the order of the file.
    pub vms: Vec<Vm>,
    /// Its switches, in the order of the file.
    pub switches: Vec<Switch>,
    /// What its service hosts run around its start and stop.
    pub hooks: Hooks,
}

/// How a file names a service host: a host's name in the mesh, an address that leads to one, or `@` and a group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAddress(pub String);

impl HostAddress {
    /// Returns the group that it names, as in `@lab`; none where it is a host.
    pub fn group(&self) -> Option<Name> {
        Name::parse(self.0.strip_prefix('@')?).ok()
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The part of a project that one service host carries: all that this host needs, and nothing of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The VMs that this host runs.
    pub vms: Vec<Vm>,
    /// The switches with a member here, with all their members, here and elsewhere.
    pub switches: Vec<Switch>,
    /// The service host of each VM that shares a switch with one of these, so that switches can be joined.
    pub placement: Vec<Placement>,
    /// The project's guests by the address of their first interface that has one, for `/etc/hosts`.
    pub guest_names: Vec<(Name, IpAddr)>,
    /// The contents of the files that these VMs get.
    pub blobs: Vec<Blob>,
    /// The switches whose uplink this host has.
    pub uplinks: Vec<Name>,
    /// What this host runs around the start and the stop of the project.
    pub hooks: Hooks,
}

/// Where a VM is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// The VM.
    pub vm: Name,
    /// The service host's name in the mesh.
    pub host: Name,
}

/// Contents that travel by digest: of a file for a guest, or what the project was submitted as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// What the project file calls it: [`super::GuestFile::from`]; [`Blob::DEFINITION`] is none of them.
    pub from: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its permission bits where it was submitted.
    pub mode: u32,
}

impl Blob {
    /// What a [`super::Definition`] is called among the contents of a project: no file has an empty path.
    pub const DEFINITION: &str = "";

    /// Returns what the disk is called that a VM is built with, where that is not its template's alone: no file's path has a
    /// line break in it. A part of a project has it for as long as it stands as it was imported.
    pub fn disk_of(vm: &Name) -> String {
        format!("\n{vm}")
    }

    /// Whether it is the disk of a VM, which is fetched when that is built, and not before.
    pub fn is_disk(&self) -> bool {
        self.from.starts_with('\n')
    }
}
