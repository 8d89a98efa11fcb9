//! The holder: one small process per VM, to a guest what conmon is to a container.
//!
//! It starts the guest's process and owns what must outlive the agent: the line with its framing and credit,
//! the sockets of the interfaces, the console log, the exit status. The agent comes and goes: it attaches to
//! `holder.sock` in the VM's folder, is told how things stand, gets a duplicate of each interface's socket and
//! moves the frames itself. The guest never notices that an agent died.
//!
//! It deliberately knows nothing of projects, the mesh, or what the messages on a channel mean.
//!
//! ```text
//!   agent ◄── holder.sock: messages, descriptors ──► holder ◄── line, console, notices, ports ──► linux.uml
//! ```
//!
//! It ends with its guest, after the exit file is on disk.

mod command_line;
mod confine;
mod console_log;
pub mod files;
pub(crate) mod group;
mod keeper;
mod mconsole;
mod metadata;
mod nat;
pub(crate) mod packet;
mod room;
mod scheduling;
pub mod tap;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{SystemTime, UNIX_EPOCH};

use mln_protocol::model::Impairment;
use mln_protocol::wire::holder::{BootWire, DrivesWire, HOLDER_VERSION, LaunchWire, OutsideWire, PlugWire};
use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;
use tracing::warn;

use crate::causes::chain;

pub(crate) use command_line::DRIVE_LETTERS;
pub use confine::is_available as can_confine;
pub use nat::is_installed as has_passt;

pub use console_log::{CONSOLE_BYTES_MAX, tail as console_tail};

/// What the holder writes to its standard output once the guest's process runs; anything else is an error.
pub const STARTED: &str = "started\n";

/// Why a holder could not start its guest, or had to give up.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// Another holder has this VM, or the folder can't be used.
    #[error("locking the folder of the VM")]
    Lock(#[source] io::Error),
    /// A small file can't be read or written.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// A socket or the console log can't be made.
    #[error("making {what}")]
    Make {
        /// What it is.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The guest's process can't be started.
    #[error("starting {kernel}")]
    Spawn {
        /// The binary.
        kernel: String,
        /// What the system said.
        source: io::Error,
    },
    /// The loop can't go on. The guest has been killed.
    #[error("the holder's loop")]
    Loop(#[source] io::Error),
}

/// Holds the VM in `folder` until its guest ends.
///
/// The agent that starts it reads one line from its standard output: [`STARTED`] or what went wrong.
pub fn run(folder: &Path) -> Result<(), HolderError> {
    // What a guest has on its disk and its console is nobody else's business.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let started = start(folder);
    let line = match &started {
        Ok(_) => STARTED.to_owned(),
        Err(error) => format!("{}\n", chain(error)),
    };
    // Whoever started us may be gone.
    let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
    detach_output();
    started?.run()
}

fn start(folder: &Path) -> Result<keeper::Keeper, HolderError> {
    let make = |what| move |source| HolderError::Make { what, source };
    std::env::set_current_dir(folder).map_err(HolderError::Lock)?;
    // A session of its own: neither a terminal's hang-up nor a signal to the agent's group reaches it.
    let _ = rustix::process::setsid();
    let here = Path::new(".");
    let lock = FolderLock::take(here).map_err(HolderError::Lock)?;
    let launch: LaunchWire = files::read(here, files::LAUNCH)?;
    let plugs = plugs(here, launch.interfaces.len())?;
    let drives = drives(here)?;
    let _ = std::fs::remove_dir_all(files::UML_FOLDER);
    std::fs::create_dir(files::UML_FOLDER).map_err(make("the folder of the guest's socket"))?;

    let log = console_log::ConsoleLog::open(here).map_err(make("the console log"))?;
    let console =
        mconsole::Console::bind(Path::new(files::NOTIFY_SOCKET)).map_err(make("the notice socket"))?;
    let ports = (0..launch.interfaces.len())
        .map(|index| packet::listen(Path::new(&files::port_socket(index))))
        .collect::<io::Result<Vec<OwnedFd>>>()
        .map_err(make("the port of an interface"))?;
    let listener = packet::listen(Path::new(files::HOLDER_SOCKET)).map_err(make("the holder's socket"))?;
    without_random_addresses();
    let boot_unix_ms = unix_ms();
    files::write(here, files::BOOT, &BootWire { version: HOLDER_VERSION, boot_unix_ms })?;
    let guest = Guest::start(&launch, &plugs, &drives)?;
    let lock = Some(lock);
    keeper::Keeper::new(keeper::Parts {
        lock,
        launch,
        plugs,
        drives,
        log,
        console,
        ports,
        listener,
        guest,
        boot_unix_ms,
    })
    .map_err(HolderError::Loop)
}

/// Returns where each interface's other end is.
fn plugs(folder: &Path, count: usize) -> Result<Vec<PlugWire>, files::FileError> {
    let mut plugs = match files::read::<OutsideWire>(folder, files::OUTSIDE) {
        Ok(outside) => outside.interfaces,
        Err(error) if error.is_absent() => Vec::new(),
        Err(error) => return Err(error),
    };
    plugs.resize(count, PlugWire::Socket);
    Ok(plugs)
}

/// Returns what the guest has of the host besides.
fn drives(folder: &Path) -> Result<DrivesWire, files::FileError> {
    match files::read(folder, files::DRIVES) {
        Err(error) if error.is_absent() => Ok(DrivesWire {
            version: HOLDER_VERSION,
            drives: Vec::new(),
            folders: Vec::new(),
            nice: None,
            cpus: Vec::new(),
        }),
        read => read,
    }
}

/// A guest's process, and our ends of what it was given.
#[derive(Debug)]
struct Guest {
    process: Child,
    line: OwnedFd,
    output: OwnedFd,
    /// Address translation of those interfaces that have it.
    nats: Vec<Option<nat::Nat>>,
}

impl Guest {
    fn start(launch: &LaunchWire, plugs: &[PlugWire], drives: &DrivesWire) -> Result<Self, HolderError> {
        let make = |what| move |source| HolderError::Make { what, source };
        let refused = |what| move |errno: rustix::io::Errno| make(what)(errno.into());
        let (line, guest_line) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(refused("the line"))?;
        rustix::io::ioctl_fionbio(&line, true).map_err(refused("the line"))?;
        let (output, guest_output) = io::pipe().map_err(make("the console"))?;
        rustix::io::ioctl_fionbio(&output, true).map_err(refused("the console"))?;
        let process = spawn(launch, plugs, drives, guest_line, guest_output)?;
        let group = Pid::from_child(&process);
        let nats = plugs.iter().map(|plug| match plug {
            PlugWire::Nat(wire) => Some(nat::Nat::start(wire.clone(), Impairment::default(), group)),
            PlugWire::ImpairedNat { nat, impairment } => {
                let impairment = Impairment::try_from(*impairment).unwrap_or_else(|error| {
                    warn!(%error, "nothing is done to the frames of an interface");
                    Impairment::default()
                });
                Some(nat::Nat::start(nat.clone(), impairment, group))
            }
            PlugWire::Socket | PlugWire::Tap { .. } | PlugWire::AddressedTap { .. } => None,
        });
        Ok(Self { process, line, output: output.into(), nats: nats.collect() })
    }
}

/// Has the guest's process laid out the same each time.
///
/// User-Mode Linux keeps books about the gap between its program and its heap as if that were memory. Where the
/// gap is random, up to 1 GiB, that costs a guest up to 19 of its 64 MiB (measured), another amount at each boot.
fn without_random_addresses() {
    use nix::sys::personality::{self, Persona};
    let set = personality::get().and_then(|now| personality::set(now | Persona::ADDR_NO_RANDOMIZE));
    if let Err(error) = set {
        tracing::warn!(%error, "the guest's memory will be smaller than it could be");
    }
}

fn spawn(
    launch: &LaunchWire,
    plugs: &[PlugWire],
    drives: &DrivesWire,
    line: OwnedFd,
    output: io::PipeWriter,
) -> Result<Child, HolderError> {
    let error = |source| HolderError::Spawn { kernel: launch.kernel.clone(), source };
    let mut command = Command::new(&launch.kernel);
    command
        .args(command_line::arguments(launch, plugs, drives))
        .env_clear()
        .env("TMPDIR", &launch.memory_folder)
        .stdin(line)
        .stdout(output.try_clone().map_err(error)?)
        .stderr(output)
        // Its helpers are in its group, and are killed with it.
        .process_group(0);
    let confined = || {
        scheduling::apply(drives);
        confine::confine(launch, plugs, drives)?;
        command.spawn()
    };
    // In a thread of its own, which has fewer rights than the holder from then on; the guest has its.
    let spawned = std::thread::scope(|scope| scope.spawn(confined).join());
    spawned.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended early"))).map_err(error)
}

/// Says that nobody else may run the VM of a folder, as long as it lives.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Locks a VM's folder; an error of kind `WouldBlock` says that another process has it.
    pub fn take(folder: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.create(true).truncate(false).write(true).mode(files::PRIVATE_FILE);
        let file = options.open(folder.join(files::LOCK))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { file })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file is not enough: another thread may have forked, and until its child runs a program
        // that has the file too.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn detach_output() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
