//! What a guest is told on its seed drive.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The version of the seed that this program writes.
pub const SEED_VERSION: u16 = 1;

/// The longest encoded [`SeedWire`], in bytes; the content of files is beside it.
pub const SEED_BYTES_MAX: usize = 1 << 20;

/// What a guest is told on its seed drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedWire {
    /// [`SEED_VERSION`] of the writer.
    pub version: u16,
    /// The guest's host name.
    pub hostname: String,
    /// Its interfaces.
    pub interfaces: Vec<SeedInterfaceWire>,
    /// The project's guests by name.
    pub guest_names: Vec<(String, IpAddr)>,
    /// Its accounts.
    pub users: Vec<SeedUserWire>,
    /// Its files; the content of the n-th is the drive's entry `files/n`.
    pub files: Vec<SeedFileWire>,
    /// Shell lines for each boot.
    pub startup: Vec<String>,
    /// How large its root file system shall at least be, in bytes.
    pub disk_bytes: Option<u64>,
}

/// What a guest is told besides, in an entry of its own that an older guest agent passes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedMoreWire {
    /// [`SEED_VERSION`] of the writer.
    pub version: u16,
    /// Groups of accounts: each with its members.
    pub groups: Vec<(String, Vec<String>)>,
    /// What it mounts at each boot, in this order.
    pub mounts: Vec<SeedMountWire>,
    /// The drive that it swaps to.
    pub swap: Option<String>,
    /// Shell lines for its shutdown.
    pub shutdown: Vec<String>,
}

/// What a guest mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedMountWire {
    /// The drive, or whatever else the type of file system takes for one.
    pub device: String,
    /// The folder.
    pub at: String,
    /// The type of the file system.
    pub file_system: String,
    /// What `mount -o` is told, if anything.
    pub options: Option<String>,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedInterfaceWire {
    /// By this it is found.
    pub mac: [u8; 6],
    /// So it is called.
    pub name: String,
    /// How it gets its address.
    pub address: SeedAddressWire,
    /// The router to everywhere else.
    pub gateway: Option<IpAddr>,
    /// The address that everyone on the segment listens to, where it is not the usual one.
    pub broadcast: Option<IpAddr>,
}

/// How an interface gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeedAddressWire {
    /// It is up, and nothing more.
    LinkLocal,
    /// From a server on the segment.
    Dhcp,
    /// This one.
    Static {
        /// The address.
        address: IpAddr,
        /// The length of the network's prefix.
        prefix_bits: u8,
    },
}

/// An account of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedUserWire {
    /// Its login.
    pub name: String,
    /// Its password as crypt(5) has it; none leaves or locks it.
    pub password: Option<String>,
    /// Its home folder; none is the usual one.
    pub home: Option<String>,
    /// Its number; none is the next free one.
    pub uid: Option<u32>,
}

/// A file of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFileWire {
    /// Its absolute path.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
}

/// How far a boot has come, on the guest's disk: a guest agent that is started again does nothing twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecordWire {
    /// The kernel's name for this boot.
    pub boot_id: String,
    /// The newest report.
    pub report: super::line::ReportWire,
}
