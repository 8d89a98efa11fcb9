//! What a guest has beside its disk and its interfaces, and how its process runs on the host.

use crate::id::Name;

use super::policy::Policy;
use super::size::{DiskBytes, MemoryMib};

/// What a guest is given beside its disk and its interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestSetup {
    /// Groups of accounts, in the order of the file.
    pub groups: Vec<Group>,
    /// How much it can swap out, to a disk of its own.
    pub swap: Option<DiskBytes>,
    /// What is mounted in it, in the order of the file.
    pub mounts: Vec<Mount>,
    /// Shell lines that it runs when it shuts down, before anything in it is stopped.
    pub shutdown: Vec<String>,
    /// The most memory that it can be given as it runs; none is what it is started with.
    pub memory_max: Option<MemoryMib>,
    /// What it may decide by itself, in the order of the file: it is told.
    pub policies: Vec<Policy>,
}

/// A group of accounts in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// The accounts that are in it.
    pub members: Vec<Name>,
}

/// Something that is mounted in a guest at each boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// The folder in the guest, absolute.
    pub at: String,
    /// The type of its file system: `ext4`.
    pub file_system: String,
    /// What `mount -o` is told, if anything.
    pub options: Option<String>,
}

impl Mount {
    /// Returns whether it is mounted for reading only.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().flat_map(|options| options.split(',')).any(|option| option == "ro")
    }
}

/// What is mounted in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A disk of this size, which is made with the VM and goes with it.
    Disk(DiskBytes),
    /// An image or a device of the service host, by its absolute path there.
    Image(String),
    /// A folder of the service host, by its absolute path there.
    Folder(String),
}

/// How a VM's process runs on its service host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Its niceness, -20 to 19; none is that of the agent.
    pub nice: Option<i8>,
    /// The host's processors that it may use, in order; none is all of them.
    pub cpus: Vec<u16>,
}
