//! What agent and holder say to each other, and the small files of a VM's folder.
//!
//! An agent may be newer than the holder of a VM that runs: enumerations grow at their end only, and every
//! file begins with its version.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use super::fragment_links::ImpairmentWire;
use super::line::EndWire;

/// The version of the holder's messages and files that this program speaks.
pub const HOLDER_VERSION: u16 = 1;

/// The oldest version of them that it still speaks: at least the one before, so that guests live through an upgrade.
pub const HOLDER_VERSION_OLDEST: u16 = 1;

/// Whether this program speaks with a holder, or reads files, of this version.
pub fn holder_is_understood(version: u16) -> bool {
    (HOLDER_VERSION_OLDEST..=HOLDER_VERSION).contains(&version)
}

/// The longest message between agent and holder, in bytes: one packet of a local socket.
pub const HOLDER_MESSAGE_BYTES_MAX: usize = 80 << 10;

/// A message of a guest's line, with its frames put together again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineMessageWire {
    /// What it is, as in a frame.
    pub kind: u8,
    /// The channel that it belongs to.
    pub channel: u32,
    /// Its content, after `kind`.
    pub payload: Vec<u8>,
}

/// What a holder tells its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HolderEventWire {
    /// The first message to each agent: how things stand.
    State(HolderStateWire),
    /// A guest agent has opened the line; all channels of the one before are gone.
    SessionStarted {
        /// The guest agent's version.
        agent_version: String,
    },
    /// The line lost bytes: all channels are gone, a new session follows.
    SessionDamaged,
    /// The guest reported how far it has come: an encoded `ReportWire`.
    Report(Vec<u8>),
    /// A message on a channel.
    Line(LineMessageWire),
    /// The guest has brought an interface up; its socket comes with this message.
    InterfaceUp {
        /// Its place in the launch file's list.
        index: u32,
    },
    /// The guest has taken an interface down.
    InterfaceDown {
        /// Its place in the launch file's list.
        index: u32,
    },
    /// The guest's kernel gave up.
    Panicked {
        /// Its words.
        text: String,
    },
    /// The guest has ended and the exit file is on disk; nothing follows.
    Exited(ExitWire),
    /// How it is with address translation, where the guest has an interface for it; told to each agent, and when
    /// it changes.
    Nat(NatStateWire),
    /// What of the guest can be changed as it runs; told to each agent, and when it has changed. Holders from before there
    /// was this change nothing.
    Live(HolderLiveWire),
    /// A command that changes the guest as it runs was not carried out.
    Refused {
        /// Why, in the words of the guest's kernel.
        text: String,
    },
    /// The guest asks something about its project: bytes of a `MeAskWire`. Agents from before there was this pass it over.
    Node(Vec<u8>),
}

/// What of a guest can be changed as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderLiveWire {
    /// The memory that it has.
    pub memory_mib: u32,
    /// The most memory that it can have before it is started again.
    pub memory_max_mib: u32,
    /// Its interfaces by their places, of which some may be free.
    pub slots: Vec<Option<SlotWire>>,
}

/// An interface that is plugged into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotWire {
    /// The interface.
    pub interface: InterfaceWire,
    /// Where its other end is.
    pub plug: PlugWire,
}

/// How it is with a guest's address translation: with several interfaces, the worst of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NatStateWire {
    /// It works.
    Up,
    /// The host has no default route.
    NoRoute,
    /// The host has no program for it.
    NotInstalled,
    /// That program could not be started, or has ended.
    Failed,
}

/// How things stand when an agent attaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderStateWire {
    /// [`HOLDER_VERSION`] of the holder.
    pub version: u16,
    /// When the guest was started, in milliseconds since 1970.
    pub boot_unix_ms: u64,
    /// The process group of the guest.
    pub process_group: i32,
    /// The guest agent's version, once it has opened the line.
    pub agent_version: Option<String>,
    /// The newest report of the guest: an encoded `ReportWire`.
    pub report: Option<Vec<u8>>,
    /// The lowest number that a new channel may have.
    pub channel_next: u32,
}

/// What an agent tells the holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HolderCommandWire {
    /// A message on a channel.
    Line(LineMessageWire),
    /// Ask the guest to shut down; kill it when the time is over.
    StopClean {
        /// How long it may take, in milliseconds.
        limit_ms: u64,
    },
    /// Kill the guest.
    StopNow,
    /// Give the guest this much memory, up to what it was started with.
    Memory {
        /// How much, in MiB.
        mib: u32,
    },
    /// Plug another interface into the guest.
    Plug {
        /// The place that it gets; a free one.
        index: u32,
        /// The interface.
        slot: SlotWire,
    },
    /// Unplug an interface, which the guest has taken down.
    Unplug {
        /// Its place.
        index: u32,
    },
    /// Say again that an interface is up, with its socket.
    TellInterface {
        /// Its place.
        index: u32,
    },
    /// Tell the guest something about its project: bytes of a `MeAnswerWire`. Holders from before there was this pass it over.
    Node(Vec<u8>),
}

/// `memory`: how much of the memory that a guest is started with it has. A VM without the file has all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFileWire {
    /// [`HOLDER_VERSION`] of the writer.
    pub version: u16,
    /// What it has.
    pub memory_mib: u32,
    /// The most that it can have as it runs.
    pub memory_max_mib: u32,
}

/// `vm`: what a build leaves, so that the VM can be started without the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmFileWire {
    /// [`HOLDER_VERSION`] of the writer.
    pub version: u16,
    /// The revision in which the VM first appears.
    pub birth: [u8; 32],
    /// The VM's name.
    pub name: String,
    /// Whose project it is in.
    pub owner: String,
    /// The project's name.
    pub project: String,
    /// Its memory.
    pub memory_mib: u32,
    /// What its disk starts from.
    pub template: [u8; 32],
    /// The size of the file under its disk's layer.
    pub backing_bytes: u64,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceWire>,
}

/// An interface, as its holder needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceWire {
    /// Its name in the guest.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// `outside`: where each interface's other end is. A VM from before there was this file has sockets only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideWire {
    /// [`HOLDER_VERSION`] of the writer.
    pub version: u16,
    /// One for each interface of [`VmFileWire`].
    pub interfaces: Vec<PlugWire>,
}

/// Where an interface's other end is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlugWire {
    /// A socket; the agent moves its frames.
    Socket,
    /// Address translation; the holder moves its frames.
    Nat(NatWire),
    /// A tap of the host.
    Tap {
        /// Its name.
        tap: String,
        /// The bridge that it is put on when it is made for the VM; none where it was made by somebody else.
        bridge: Option<String>,
    },
    /// Address translation; the holder moves its frames, and does something to those that leave the guest. Agents
    /// from before there was this can't start the VM.
    ImpairedNat {
        /// The addresses and ports.
        nat: NatWire,
        /// What is done to the frames.
        impairment: ImpairmentWire,
    },
    /// A tap that somebody else has made, with an address of the service host on it as long as the guest runs. Agents
    /// from before there was this can't start the VM.
    AddressedTap {
        /// Its name.
        tap: String,
        /// The address.
        address: IpAddr,
        /// The length of its network's prefix.
        prefix_bits: u8,
    },
}

/// The addresses and ports of an interface with address translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatWire {
    /// The guest's address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix_bits: u8,
    /// The router's address.
    pub gateway: Option<IpAddr>,
    /// Where names are asked for.
    pub nameserver: Option<IpAddr>,
    /// The IPv6 address whose 64-bit network is announced.
    pub announced: IpAddr,
    /// Ports that lead to the guest's: host, guest, and 6 for TCP or 17 for UDP.
    pub forwards: Vec<(u16, u16, u8)>,
}

/// `extra`: what a VM has of the host besides, as it was built; `drives`: the same, as it is started, with every path of
/// the host looked up. A VM without the file has nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrivesWire {
    /// [`HOLDER_VERSION`] of the writer.
    pub version: u16,
    /// Its drives behind the three that every VM has, in order.
    pub drives: Vec<DriveWire>,
    /// Folders of the host that it may mount.
    pub folders: Vec<FolderWire>,
    /// The niceness of its process.
    pub nice: Option<i8>,
    /// The host's processors that it may use; none is all of them.
    pub cpus: Vec<u16>,
}

/// A further drive of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveWire {
    /// The file: in the VM's own folder, or an absolute path of the host.
    pub path: String,
    /// Whether it is only read.
    pub read_only: bool,
}

/// A folder of the host that a VM may mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderWire {
    /// Its absolute path.
    pub path: String,
    /// Whether it is only read.
    pub read_only: bool,
}

/// `launch`: what the agent wants started, written before each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchWire {
    /// [`HOLDER_VERSION`] of the writer.
    pub version: u16,
    /// The User-Mode Linux binary.
    pub kernel: String,
    /// The guest's memory.
    pub memory_mib: u32,
    /// The file under the disk's layer.
    pub backing: String,
    /// The drive with the guest agent.
    pub agent_drive: String,
    /// The folder for the file that is the guest's memory.
    pub memory_folder: String,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceWire>,
}

/// `boot`: the guest that was started last; the exit file that belongs to it names the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootWire {
    /// [`HOLDER_VERSION`] of the writer.
    pub version: u16,
    /// When it was started, in milliseconds since 1970.
    pub boot_unix_ms: u64,
}

/// `exit`: how the guest ended that was started last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitWire {
    /// [`HOLDER_VERSION`] of the writer.
    pub version: u16,
    /// When that guest was started, in milliseconds since 1970.
    pub boot_unix_ms: u64,
    /// When it ended, in milliseconds since 1970.
    pub exit_unix_ms: u64,
    /// How its process ended.
    pub end: EndWire,
    /// What its kernel said, if that gave up.
    pub panic: Option<String>,
    /// Why it was stopped, if it was.
    pub stop: Option<StopWire>,
}

/// How a guest was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopWire {
    /// It was asked, and did.
    Clean,
    /// It was asked, did not within its time, and was killed.
    LimitPassed,
    /// It was killed at once.
    Now,
}

#[cfg(test)]
#[path = "holder_test.rs"]
mod tests;
