//! Why platforms don't do what they are asked.

use std::io;
use std::path::PathBuf;

use mln_protocol::id::{Name, VmId};
use mln_protocol::model::{DiskBytes, Forward, InterfaceAddress, MemoryMib};
use mln_protocol::wire::holder::{HOLDER_VERSION, HOLDER_VERSION_OLDEST};

use crate::holder::files::FileError;
use crate::holder::tap::TapError;
use crate::image::ImageError;

/// Why a VM can't be built on this host. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The platform can't be used.
    #[error("this host can't run it: {obstacle}")]
    Platform {
        /// Why, and what to do.
        obstacle: String,
    },
    /// The template can't be had.
    #[error(transparent)]
    Template(#[from] ImageError),
    /// The VM would not boot.
    #[error("{memory} of memory is too little, the least is {least}")]
    MemoryTooSmall {
        /// What was asked for.
        memory: MemoryMib,
        /// What it needs.
        least: MemoryMib,
    },
    /// The disk would not hold what the template holds.
    #[error("a disk of {disk} is smaller than its template, which needs {template}")]
    DiskSmallerThanTemplate {
        /// What was asked for.
        disk: DiskBytes,
        /// The size of the template's file system.
        template: DiskBytes,
    },
    /// No file of a host can hold the disk.
    #[error("a disk of {disk} is larger than a host can hold: at most {limit}")]
    DiskTooLarge {
        /// What was asked for.
        disk: DiskBytes,
        /// The most.
        limit: DiskBytes,
    },
    /// The host has too little room for any VM.
    #[error("{available} are free in {}, at least {least} must be", folder.display())]
    DiskSpace {
        /// Where VMs are kept.
        folder: PathBuf,
        /// What is free.
        available: DiskBytes,
        /// What must be.
        least: DiskBytes,
    },
    /// The kernel of a guest knows no such interface names.
    #[error("interface name {name:?} is longer than {limit} characters")]
    InterfaceName {
        /// The name.
        name: Name,
        /// The longest possible.
        limit: usize,
    },
    /// A port that is to lead to the VM belongs to another program of the host.
    #[error(
        "forward {forward}: port {} ({}) of this host is taken by another program; choose another one, or end that program",
        forward.host_port, forward.transport.word()
    )]
    PortTaken {
        /// What was asked for.
        forward: Forward,
    },
    /// A port that is to lead to the VM is for root alone.
    #[error(
        "forward {forward}: the agent is not run by root, and ports below 1024 are root's on this host; choose a higher one, \
         or, as root: sysctl net.ipv4.ip_unprivileged_port_start={}", forward.host_port
    )]
    PortPrivileged {
        /// What was asked for.
        forward: Forward,
    },
    /// Only root can put an interface on a bridge.
    #[error(
        "{interface}: only an agent that is run by root can put it on the bridge {bridge}; use a `switch`, or let root make a \
         tap on the bridge for the agent's user (ip tuntap add dev NAME mode tap user USER; ip link set NAME master {bridge} \
         up) and name it: tun_iface NAME"
    )]
    BridgeNeedsRoot {
        /// The interface.
        interface: Name,
        /// The bridge.
        bridge: Name,
    },
    /// The host has no such bridge.
    #[error(
        "{interface}: this host has no bridge {bridge}; whoever runs it can make it: ip link add {bridge} type bridge"
    )]
    NoBridge {
        /// The interface.
        interface: Name,
        /// The bridge.
        bridge: Name,
    },
    /// The host has no such tap.
    #[error(
        "{interface}: this host has no tap {tap}; whoever runs it can make it: ip tuntap add dev {tap} mode tap user USER"
    )]
    NoTap {
        /// The interface.
        interface: Name,
        /// The tap.
        tap: Name,
    },
    /// Only root can give a tap an address.
    #[error(
        "{interface}: only an agent that is run by root can give the tap {tap} its `tun_address`; leave that out, and let root \
         set it: ip address add {address} dev {tap}"
    )]
    TapAddressNeedsRoot {
        /// The interface.
        interface: Name,
        /// The tap.
        tap: Name,
        /// The address.
        address: InterfaceAddress,
    },
    /// The host shares no such path.
    #[error(
        "mount {path}: this host lets no VM have that; whoever runs it can allow it in config.toml, and then restart the \
         agent: [share] folders = [{path:?}]"
    )]
    NotShared {
        /// The path that was asked for.
        path: String,
    },
    /// There is no such file, or no such folder.
    #[error("mount {path}: there is no such {what} on this host")]
    ShareMissing {
        /// The path that was asked for.
        path: String,
        /// What it should be.
        what: &'static str,
    },
    /// Nothing would keep a guest in the folder that it shares.
    #[error(
        "mount {path}: a folder of this host can't be shared, because its kernel has no Landlock to keep the guest in it; \
         use `files`, or a disk of the VM"
    )]
    ShareUnconfined {
        /// The path that was asked for.
        path: String,
    },
    /// No disk is made with that file system.
    #[error("mount: this host makes no disks with the file system {file_system:?}; use ext4")]
    FileSystem {
        /// What was asked for.
        file_system: String,
    },
    /// A guest can't have that many drives.
    #[error("{count} further disks are more than {limit}, swap included")]
    TooManyDrives {
        /// How many were asked for.
        count: usize,
        /// The most that are possible.
        limit: usize,
    },
    /// Only root may put a process before others.
    #[error(
        "nice {nice}: only an agent that is run by root can make a VM less nice than itself; ask for 0 to 19"
    )]
    NiceNeedsRoot {
        /// What was asked for.
        nice: i8,
    },
    /// The host has no such processor, or the agent may not use it.
    #[error("cpus: this host's agent has no processor {cpu}; it has {there}")]
    NoCpu {
        /// What was asked for.
        cpu: u16,
        /// Those that there are.
        there: String,
    },
    /// A guest can't have that many interfaces.
    #[error("{count} interfaces are more than {limit}")]
    TooManyInterfaces {
        /// How many were asked for.
        count: usize,
        /// The most that are possible.
        limit: usize,
    },
}

/// Why a step failed. Unless a variant says otherwise nothing was changed, and it can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// There is no such VM on this host.
    #[error("there is no VM {vm} on this host")]
    NoSuchVm {
        /// Which one.
        vm: VmId,
    },
    /// The platform's program isn't installed.
    #[error("User-Mode Linux is not installed; try: apt-get install user-mode-linux")]
    NoKernel,
    /// A guest's memory has no room.
    #[error(
        "{} has {available} free, and the VM needs {wanted}: enlarge it (mount -o remount,size=... {}), stop \
         other VMs, or name a larger folder as `memory_folder` in config.toml",
        folder.display(), folder.display()
    )]
    MemoryFolderTooSmall {
        /// The folder for the files that are guests' memory.
        folder: PathBuf,
        /// What is free there.
        available: MemoryMib,
        /// The memory of the VM.
        wanted: MemoryMib,
    },
    /// A guest's memory can't be where the host forbids programs.
    #[error(
        "{} is mounted noexec, and a guest's memory must be executable: remount it with exec, or name another \
         folder as `memory_folder` in config.toml",
        folder.display()
    )]
    MemoryFolderNoExec {
        /// The folder for the files that are guests' memory.
        folder: PathBuf,
    },
    /// A disk is full.
    #[error("no space is left in {}: remove VMs or templates that are not needed, or enlarge it", folder.display())]
    DiskFull {
        /// Where.
        folder: PathBuf,
    },
    /// The system refused something else.
    #[error("{what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An image can't be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The template is not here and can't be fetched. What came of it is kept: another try goes on from there.
    #[error("fetching its template: {text}")]
    Fetch {
        /// Why not.
        text: String,
    },
    /// The disk that came with the VM is not here and can't be fetched, or is not what it should be. Nothing was made, and
    /// another try begins anew.
    #[error("the imported disk of {vm}: {text}")]
    ImportedDisk {
        /// Which VM.
        vm: Name,
        /// Why not.
        text: String,
    },
    /// A file of the VM's folder can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// An interface can't be put on its bridge.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The VM's disk can't be what the project wants.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The holder could not start the guest.
    #[error("the guest's process could not be started: {text}")]
    Holder {
        /// What it said.
        text: String,
    },
    /// A holder runs, but does not answer. The VM may run.
    #[error("the holder of {vm} does not answer; see holder.log in its folder")]
    HolderSilent {
        /// Which VM.
        vm: VmId,
    },
    /// Its holder is of a version that this agent doesn't speak with. The VM runs, out of reach.
    #[error(
        "the holder of {vm} speaks version {found}, this mlnd {HOLDER_VERSION_OLDEST} to {HOLDER_VERSION}: run the \
         mlnd that started it, stop the VM, and upgrade then"
    )]
    HolderVersion {
        /// Which VM.
        vm: VmId,
        /// The version.
        found: u16,
    },
    /// A disk that a VM mounts would go, or become another one. It is as it was.
    #[error(
        "what is on the disk of {vm} that is mounted at {at} would be lost: the project has to keep that disk"
    )]
    DiskWouldBeLost {
        /// Which VM.
        vm: VmId,
        /// Where the disk was mounted.
        at: String,
    },
    /// What a VM that runs was to be given did not become so. Some of it may have.
    #[error("the guest could not be given its definition: {text}")]
    Apply {
        /// Why not.
        text: String,
    },
    /// The VM is being worked on by another process. The VM may run.
    #[error("{vm} is held by another process")]
    Busy {
        /// Which VM.
        vm: VmId,
    },
    /// The copy of a VM's drives that is here is not complete: it can't be started with it.
    #[error("the copy of {vm} that is here is not complete")]
    CopyIncomplete {
        /// Which VM.
        vm: VmId,
    },
    /// A VM has a drive that this platform has no place for.
    #[error("{vm} has a drive {drive}, which this version of mlnd doesn't know")]
    UnknownDrive {
        /// Which VM.
        vm: VmId,
        /// What the drive is called.
        drive: mln_protocol::id::Name,
    },
    /// What is in the place of the VM's folder is not this VM.
    #[error("{} is not the folder of {vm}: move it away", folder.display())]
    FolderTaken {
        /// Which VM.
        vm: VmId,
        /// The folder.
        folder: PathBuf,
    },
    /// A task of this program ended early; a bug.
    #[error("the step was cut off")]
    CutOff,
}

impl StepError {
    /// Returns the error for a refusal of the system, told apart where there is something to do about it.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { folder: path },
            _ => Self::Io { what, path, source },
        }
    }
}

/// Why a command in a guest can't be run, or can't be followed to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The VM doesn't run.
    #[error("{vm} is not running")]
    NotRunning {
        /// Which one.
        vm: VmId,
    },
    /// The VM boots; there is nobody in it yet to ask.
    #[error("{vm} is still booting")]
    NotReady {
        /// Which one.
        vm: VmId,
    },
    /// The command is longer than the line carries.
    #[error("the command has {bytes} bytes, more than {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest.
        limit: usize,
    },
    /// The guest could not start it.
    #[error("{text}")]
    NotStarted {
        /// Why, with the program's name.
        text: String,
        /// The system's error number; 2 is "no such file".
        errno: i32,
    },
    /// The guest agent was started before it learned to do this. Whatever else is asked of it works.
    #[error("the guest agent of this VM is older than this agent and knows no terminals: restart the VM")]
    GuestOlder,
    /// The guest runs as many as it can.
    #[error("{limit} commands run in the guest already")]
    TooMany {
        /// How many those are.
        limit: u32,
    },
    /// The agent in the guest was restarted, or its line lost bytes: how the command ended is unknown.
    #[error("the connection to the guest was lost")]
    LineLost,
    /// The VM ended first.
    #[error("the guest ended")]
    GuestEnded,
}
