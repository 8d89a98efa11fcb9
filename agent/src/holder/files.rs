//! The files of a VM's folder, and how the small ones are read and written.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mln_protocol::wire::holder::holder_is_understood;
use mln_protocol::wire::{DecodeError, decode, encode};
use serde::{Serialize, de::DeserializeOwned};

/// What a build leaves (`VmFileWire`).
pub const VM: &str = "vm";
/// The layer over the template: all that the VM has written.
pub const DISK: &str = "disk.cow";
/// The seed drive.
pub const SEED: &str = "seed.tar";
/// Where its interfaces lead (`OutsideWire`).
pub const OUTSIDE: &str = "outside";
/// What it has of the host besides (`DrivesWire`), as it was built.
pub const EXTRA: &str = "extra";
/// The same as it is started, with paths looked up.
pub const DRIVES: &str = "drives";
/// What is to be started (`LaunchWire`).
pub const LAUNCH: &str = "launch";
/// How much of its memory it has (`MemoryFileWire`).
pub const MEMORY: &str = "memory";
/// What was started last (`BootWire`).
pub const BOOT: &str = "boot";
/// How it ended (`ExitWire`).
pub const EXIT: &str = "exit";
/// Locked by the holder as long as the guest may run.
pub const LOCK: &str = "lock";
/// Where the agent attaches to the holder.
pub const HOLDER_SOCKET: &str = "holder.sock";
/// Where User-Mode Linux tells the holder of itself.
pub const NOTIFY_SOCKET: &str = "notify.sock";
/// The folder of User-Mode Linux's own socket, and the guest's name in there.
pub const UML_FOLDER: &str = "run/";
/// The guest's name in [`UML_FOLDER`]: its folder is its own, so that any name does.
pub const UML_ID: &str = "vm";
/// What the guest wrote to its console.
pub const CONSOLE: &str = "console.log";
/// What it wrote before that.
pub const CONSOLE_OLDER: &str = "console.log.1";
/// What the holder has to say about itself.
pub const HOLDER_LOG: &str = "holder.log";

/// The permissions of a VM's files: they hold its secrets, and what it prints.
pub const PRIVATE_FILE: u32 = 0o600;
/// The permissions of a VM's folder, and of the folder of all VMs.
pub const PRIVATE_FOLDER: u32 = 0o700;

/// The longest of the small files, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Returns where the guest's n-th interface connects to.
pub fn port_socket(index: usize) -> String {
    format!("port-{index}.sock")
}

/// Why a small file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read; it may not be there.
    #[error("reading {name}")]
    Read {
        /// The file.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It can't be written. The file that was there before still is.
    #[error("writing {name}")]
    Write {
        /// The file.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It isn't what it should be.
    #[error("the file {name}")]
    Decode {
        /// The file.
        name: &'static str,
        /// In what way.
        source: DecodeError,
    },
}

impl FileError {
    /// Returns whether the file just isn't there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads one of the small files; its first field is the version, which must be known.
pub fn read<T: DeserializeOwned>(folder: &Path, name: &'static str) -> Result<T, FileError> {
    let bytes = std::fs::read(folder.join(name)).map_err(|source| FileError::Read { name, source })?;
    let version = bytes.get(..2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
    if !holder_is_understood(version) {
        let source = DecodeError::Unknown { what: "version", found: version.into() };
        return Err(FileError::Decode { name, source });
    }
    decode(&bytes, FILE_BYTES_MAX).map_err(|source| FileError::Decode { name, source })
}

/// Creates a file that only its owner can read, or empties the one that is there.
pub fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(path)
}

/// Writes one of the small files, whole and durable or not at all.
pub fn write<T: Serialize>(folder: &Path, name: &'static str, value: &T) -> Result<(), FileError> {
    let put = || -> io::Result<()> {
        let fresh = folder.join(format!("{name}.new"));
        let mut file = create(&fresh)?;
        file.write_all(&encode(value))?;
        file.sync_all()?;
        std::fs::rename(&fresh, folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    put().map_err(|source| FileError::Write { name, source })
}
