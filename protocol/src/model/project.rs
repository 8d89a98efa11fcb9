//! A project, and the part of it that one host carries.

use std::fmt;

use super::network::Switch;
use super::vm::Vm;
use crate::id::Name;

/// A whole project, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name; its owner is whoever submits it.
    pub name: Name,
    /// Its VMs, in the order of the file.
    pub vms: Vec<Vm>,
    /// Its switches, in the order of the file.
    pub switches: Vec<Switch>,
}

/// How a file names a service host: a host's name in the mesh, or an address that leads to one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAddress(pub String);

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The VMs that this host runs.
    pub vms: Vec<Vm>,
    /// The switches with a member here, and where each member is.
    pub switches: Vec<Switch>,
    /// Every VM of the project with the service host that carries it, so that switches can be joined.
    pub placement: Vec<(Name, Name)>,
    /// Names of the project's guests with the address of their first interface that has one, for `/etc/hosts`.
    pub guest_names: Vec<(Name, std::net::IpAddr)>,
}
