//! A virtual machine, as the project wants it.

use super::network::Network;
use super::project::HostAddress;
use super::setup::{GuestSetup, Scheduling};
use super::size::{DiskBytes, MemoryMib};
use crate::id::{Digest, Name};

/// A virtual machine, as the project wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its name in the project, and its host name.
    pub name: Name,
    /// What runs it.
    pub platform: Platform,
    /// Which service host runs it; none is the host that the build was asked of.
    pub service_host: Option<HostAddress>,
    /// What its disk starts from; none is the host's default.
    pub template: Option<TemplateRef>,
    /// Its memory.
    pub memory: MemoryMib,
    /// Its processors.
    pub vcpus: u16,
    /// How large its disk is.
    pub disk: DiskSize,
    /// When it starts and stops, relative to the others.
    pub boot_order: BootOrder,
    /// Its interfaces, in the order of the file.
    pub networks: Vec<Network>,
    /// Its accounts, in the order of the file; `root_password` is the user `root`.
    pub users: Vec<User>,
    /// Files that are copied into it before its first boot.
    pub files: Vec<GuestFile>,
    /// Shell lines that it runs at each boot.
    pub startup: Vec<String>,
    /// Whom it asks for the addresses of names; none is the address translation's, where it has that.
    pub nameservers: Vec<std::net::IpAddr>,
    /// Modules of its kernel that it loads at each boot.
    pub modules: Vec<String>,
    /// What else it is given.
    pub setup: GuestSetup,
    /// How its process runs on its service host.
    pub scheduling: Scheduling,
}

/// What runs a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    /// User-Mode Linux: a process of an ordinary user.
    Uml,
}

impl Platform {
    /// Every platform that this program knows.
    pub const ALL: [Self; 1] = [Self::Uml];

    /// Returns its keyword in the project language.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Uml => "uml",
        }
    }
}

/// A template by name, and which one of that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplateRef {
    /// The newest version of that name.
    Newest(Name),
    /// One version of that name.
    Version(Name, String),
    /// Exactly these bytes, whatever their name.
    Exact(Name, Digest),
}

impl TemplateRef {
    /// Returns the template's name.
    pub fn name(&self) -> &Name {
        match self {
            Self::Newest(name) | Self::Version(name, _) | Self::Exact(name, _) => name,
        }
    }
}

/// How large a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskSize {
    /// As large as the template's file system.
    Template,
    /// This large in all.
    Whole(DiskBytes),
    /// This much more than the template's file system.
    Free(DiskBytes),
}

/// When a VM starts: 0 to 99, lower ones first; they stop in the reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootOrder(pub u8);

impl Default for BootOrder {
    fn default() -> Self {
        Self(99)
    }
}

/// An account in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its login.
    pub name: Name,
    /// Its password as crypt(5) has it, or in plain where the file has it so: hashed before anything is signed.
    pub password: Option<String>,
    /// Its home folder; none is the usual one.
    pub home: Option<String>,
    /// Its number; none is the next free one.
    pub uid: Option<u32>,
}

/// A file that is copied into the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Its path on the machine where the project is submitted, relative to the project file.
    pub from: String,
    /// Its absolute path in the guest.
    pub to: String,
    /// Its permission bits; none is those of the original.
    pub mode: Option<u32>,
}
