//! Platforms: what runs virtual machines on this host.
//!
//! The trait speaks our nouns only; what a platform is made of stays in its module. Every operation is
//! idempotent: done again it changes nothing. A platform decides nothing: which VMs should run, and what
//! follows when one ends, is for those who call it.
//!
//! ```text
//!   (nothing) ──build──► down ──start──► running: booting ──► ready | seed failed | startup failed
//!       ▲                 │ ▲                │
//!       └─────remove──────┘ └──────stop──────┴──► lost, when its process vanished without a status
//! ```

mod error;
mod event;
mod exec;
mod log;
pub mod uml;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mln_protocol::id::{Digest, Label, Name, VmId};
use mln_protocol::model::{DiskBytes, MemoryMib, TemplateRef, Vm};
use mln_protocol::plan::Obstacle;
use mln_protocol::wire::DriveShape;

use crate::disk::VmDisk;
use crate::image::{ImageUse, Template};

pub use error::{ExecError, Refusal, StepError};
pub use event::{End, Exit, Stopped, VmEvent, VmEventKind};
pub use exec::{
    ConsoleView, Exec, ExecCommand, ExecControl, ExecInput, ExecOutput, ExecOutputEvent, TerminalCommand,
    WindowSize,
};
pub use log::ConsoleLog;

/// What an operation of a platform returns: a future that any task can run.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What runs virtual machines on this host.
///
/// The events that it sends must be taken by another task than those that await its operations: a platform
/// whose events nobody takes waits for that.
pub trait Platform: fmt::Debug + Send + Sync {
    /// Finds out what this host can do.
    fn probe(&self) -> Answer<'_, Probe>;

    /// Says whether a VM could be built here, and on what template; changes nothing.
    fn check<'a>(&'a self, vm: &'a Vm) -> Answer<'a, Result<Checked, Refusal>>;

    /// Says the same for a template that is not here yet, and that somebody else offers.
    fn check_on<'a>(
        &'a self,
        vm: &'a Vm,
        template: &'a TemplateFacts,
    ) -> Answer<'a, Result<Checked, Refusal>>;

    /// Returns the template that a VM's definition asks for, in words or by default.
    fn template_of(&self, vm: &Vm) -> TemplateRef;

    /// Returns what the VMs of this host use of the image store. Reads files: not for the event loop.
    fn image_uses(&self) -> Result<Vec<ImageUse>, StepError>;

    /// Returns where the program is that runs in guests.
    fn guest_agent(&self) -> PathBuf;

    /// Builds a VM, whole or not at all: nothing of it is left when this fails or the host stops meanwhile.
    fn build(&self, request: BuildRequest) -> Answer<'_, Result<(), StepError>>;

    /// Gives a VM what its definition says by now, for its next start; its disks stay as they are. One that runs stays as
    /// it is.
    fn configure(&self, configuration: Configuration) -> Answer<'_, Result<(), StepError>>;

    /// Gives a VM that runs what its definition says by now, as it runs; `replugged` are interfaces whose switch is another
    /// one. One that doesn't run stays as it is. Again changes nothing.
    fn apply(
        &self,
        configuration: Configuration,
        replugged: Vec<Name>,
    ) -> Answer<'_, Result<Applied, StepError>>;

    /// Returns what a VM can be given as it runs; changes nothing.
    fn leeway<'a>(&'a self, vm: &'a VmId, memory: MemoryQuestion) -> Answer<'a, Leeway>;

    /// Starts a VM; returns when its process runs. That it is ready is an event.
    fn start<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>>;

    /// Stops a VM; returns when it has ended, with how it did. None: it has never run.
    fn stop<'a>(&'a self, vm: &'a VmId, how: Stop) -> Answer<'a, Result<Option<Exit>, StepError>>;

    /// Removes a VM and all that it has written; stops it at once if it runs.
    fn remove<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>>;

    /// Gives a VM copies of these files as its drives, each in the place of the one of its name: all of them or none. Nothing
    /// is changed where it runs, or where they are not those of all its drives.
    fn replace_drives<'a>(&'a self, vm: &'a VmId, copies: Vec<PathBuf>) -> Answer<'a, Result<(), StepError>>;

    /// Whether a VM runs that this agent is attached to.
    fn is_running(&self, vm: &VmId) -> bool;

    /// Returns the drives of a VM that is built here; where it isn't, those of the copy of it. Reads files: not for the
    /// event loop.
    fn disk(&self, vm: &VmId) -> Result<VmDisk, StepError>;

    /// Returns the copy of a VM's drives that is here, complete or not; none where there is nothing of it. What is the VM's
    /// own becomes one; an error where it runs.
    fn copy<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<Option<VmDisk>, StepError>>;

    /// Whether there is something of a VM here: a copy, complete or not, or the VM itself.
    fn has_copy<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<bool, StepError>>;

    /// Returns the drives that a VM has of its own by its definition, beside the one with the system, with their lengths in
    /// bytes.
    fn own_drives(&self, vm: &Vm) -> Vec<(Name, u64)>;

    /// Makes a copy of a VM's drives that has nothing in it but the templates, which must be here, and is not complete. It
    /// is there whole or not at all.
    fn make_copy(&self, copy: NewCopy) -> Answer<'_, Result<VmDisk, StepError>>;

    /// Makes a copy that is complete a VM that is down. Without a copy, or where the VM is there, nothing is changed.
    fn take_up<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>>;

    /// Makes a VM that doesn't run a copy. Nothing is changed where there is no such VM.
    fn shelve<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>>;

    /// Returns the VMs of which there is a copy that is not complete.
    fn incomplete_copies(&self) -> Answer<'_, Result<Vec<VmId>, StepError>>;

    /// Deletes a copy, complete or not.
    fn drop_copy<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>>;

    /// Looks at everything of this platform on this host, and attaches to what runs; for the agent's start. A VM of which
    /// there is a complete copy is down.
    ///
    /// What a killed build or removal has left is cleared away.
    fn observe_all(&self) -> Answer<'_, Result<Vec<Observation>, StepError>>;

    /// Runs a command in a VM.
    fn exec<'a>(&'a self, vm: &'a VmId, command: ExecCommand) -> Answer<'a, Result<Exec, ExecError>>;

    /// Runs a command in a VM, on a terminal.
    fn terminal<'a>(&'a self, vm: &'a VmId, wanted: TerminalCommand) -> Answer<'a, Result<Exec, ExecError>>;

    /// Shows the console of a VM to somebody, who may type: one shell that outlives those who look at it.
    fn console<'a>(&'a self, vm: &'a VmId, view: ConsoleView) -> Answer<'a, Result<Exec, ExecError>>;

    /// Tells what runs in a VM something about its project: bytes of a `MeAnswerWire`. False where it doesn't run, or too
    /// much waits for it already; whether it was heard nothing says.
    fn tell(&self, vm: &VmId, bytes: Vec<u8>) -> bool;

    /// Returns the log of a VM's console, from its last `lines` lines on; the VM may be down.
    fn console_log<'a>(&'a self, vm: &'a VmId, lines: usize) -> Answer<'a, std::io::Result<ConsoleLog>>;

    /// Returns the last lines of a VM's console, oldest first; none where there is no such VM.
    fn console_tail(&self, vm: &VmId, lines: usize) -> Vec<String>;
}

/// What became of a definition that a VM was to be given as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It has it.
    Done,
    /// It can't have all of it before it is started again.
    TakesAStart {
        /// Why, for people.
        why: String,
    },
}

/// What is asked about the memory of a VM that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryQuestion {
    /// How much it can have.
    Most,
    /// Also with how little it would do, as far as its guest can tell without changing anything.
    MostAndLeast,
}

/// What a VM can be given as it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leeway {
    /// What keeps it from being changed as it runs; none where nothing does, or it doesn't run.
    pub obstacle: Option<Obstacle>,
    /// How large its disk can become as it runs; none where that isn't known.
    pub disk_max: Option<DiskBytes>,
    /// How much memory it can have as it runs: what it was started with room for; none where that isn't known.
    pub memory_max: Option<MemoryMib>,
    /// With how much memory its guest would do by what it has free now; none where that isn't known.
    pub memory_min: Option<MemoryMib>,
}

/// What a host can do on a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Why nothing can run here, with what to do; none where it can.
    pub obstacle: Option<String>,
    /// The host's memory.
    pub memory_total: MemoryMib,
    /// What of it is free.
    pub memory_available: MemoryMib,
    /// What guests can still have of it.
    pub guest_memory_available: MemoryMib,
    /// What is free where VMs are kept.
    pub disk_available: DiskBytes,
}

/// What a check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The template that the VM would start from.
    pub template: Digest,
    /// How large its disk would be.
    pub disk: DiskBytes,
}

/// What a check needs to know of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateFacts {
    /// Its digest.
    pub digest: Digest,
    /// The size of its file system.
    pub file_system_bytes: u64,
    /// The least memory that a guest of it boots with.
    pub memory_min: MemoryMib,
    /// What has yet to be fetched of it.
    pub fetch_bytes: u64,
}

impl From<&Template> for TemplateFacts {
    fn from(template: &Template) -> Self {
        Self {
            digest: template.digest,
            file_system_bytes: template.file_system_bytes,
            memory_min: template.memory_min,
            fetch_bytes: 0,
        }
    }
}

#[cfg(feature = "host")]
impl From<&mln_protocol::wire::ImageOffer> for TemplateFacts {
    fn from(offer: &mln_protocol::wire::ImageOffer) -> Self {
        Self {
            digest: offer.digest,
            file_system_bytes: offer.file_system_bytes,
            memory_min: MemoryMib(offer.memory_mib_min),
            fetch_bytes: offer.data_bytes,
        }
    }
}

/// A VM to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Which one.
    pub id: VmId,
    /// What it is like. Passwords are those that it keeps: hashed.
    pub vm: Vm,
    /// The project that it is in.
    pub label: Label,
    /// What its disk starts from.
    pub template: Digest,
    /// Names of the project's guests with their addresses.
    pub guest_names: Vec<(Name, IpAddr)>,
    /// Its files.
    pub files: Vec<FileContent>,
    /// What is on its drives from the start; none is what the template has.
    pub first: Option<Arc<dyn FirstContent>>,
}

/// What is on the drives of a VM from the start.
pub trait FirstContent: fmt::Debug + Send + Sync {
    /// Returns the drives that it is for.
    fn drives(&self) -> &[DriveShape];

    /// Writes it to new drives that are like those, durably. When it fails, there is no telling what is on them.
    fn write(&self, disk: VmDisk) -> std::io::Result<()>;
}

/// The copy of a VM's drives that is to be made.
#[derive(Debug, Clone)]
pub struct NewCopy {
    /// Of which VM.
    pub vm: VmId,
    /// The project that it is in.
    pub label: Label,
    /// What its drives are like.
    pub drives: Vec<DriveShape>,
}

/// What a VM that is built is given for its next start.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Which one.
    pub id: VmId,
    /// What it is like. Passwords are those that it keeps: hashed.
    pub vm: Vm,
    /// The project that it is in.
    pub label: Label,
    /// Names of the project's guests with their addresses.
    pub guest_names: Vec<(Name, IpAddr)>,
    /// Its files.
    pub files: Vec<FileContent>,
}

/// A file for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// Its absolute path there.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// How to stop a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is asked, and killed when it hasn't ended within the limit.
    Clean {
        /// How long it may take.
        limit: Duration,
    },
    /// It is killed.
    Now,
}

/// A VM that was found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Which one.
    pub vm: VmId,
    /// The project that it was built for.
    pub label: Label,
    /// The memory that it was built with.
    pub memory: MemoryMib,
    /// How it is.
    pub state: Observed,
}

/// How a VM was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It doesn't run.
    Down {
        /// How it ended; none where it has never run.
        exit: Option<Exit>,
    },
    /// It was running, and nobody knows how it ended: after a power cut, or when its holder was killed.
    Lost {
        /// When it had been started, in milliseconds since 1970.
        boot_unix_ms: u64,
    },
    /// It runs.
    Running {
        /// When it was started, in milliseconds since 1970.
        boot_unix_ms: u64,
        /// How far it has come.
        progress: BootProgress,
    },
}

/// How far a VM has come since it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootProgress {
    /// It boots, or its startup lines run.
    Booting,
    /// All is done.
    Ready,
    /// It runs, but isn't what it should be.
    SeedFailed {
        /// What failed and why.
        text: String,
    },
    /// It runs and is configured, but its startup lines failed.
    StartupFailed {
        /// How they ended.
        end: End,
        /// The last that they printed.
        log_tail: String,
    },
}
