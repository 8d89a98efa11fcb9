//! User-Mode Linux: virtual machines as processes of an ordinary user, without KVM.
//!
//! Each VM is a folder (`holder::files` lists what is in it) and, while it runs, a holder process with the
//! guest's processes below it. This module starts holders and attaches to them; it never touches a guest itself.

mod attach;
mod build;
mod check;
mod configure;
mod copies;
mod disks;
mod drives;
mod folder;
mod imported;
mod live;
mod outside;
mod redrive;
mod space;
mod start;
mod uses;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mln_protocol::id::{Name, VmId};
use mln_protocol::model::{DiskBytes, MemoryMib, TemplateRef, Vm};
use mln_protocol::wire::holder::{BootWire, HolderCommandWire};
use mln_protocol::wire::line::{LINE_MESSAGE_BYTES_MAX, ReportWire};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    Answer, Applied, BootProgress, BuildRequest, Checked, Configuration, ConsoleLog, ConsoleView, Exec,
    ExecCommand, ExecError, Exit, Leeway, MemoryQuestion, NewCopy, Observation, Observed, Platform, Probe,
    Refusal, StepError, Stop, TemplateFacts, TerminalCommand, VmEvent,
};
use crate::disk::{DiskFolder, VmDisk};
use crate::holder::{self, files};
use crate::image::{ImageStore, ImageUse};
use attach::{Attachment, Ended, Target};
use folder::{VmFile, VmFolders};

/// Events that wait to be taken.
const EVENTS_MAX: usize = 1024;
/// How much longer than its limit a stop may take before the holder is taken for dead.
const HOLDER_GRACE: Duration = Duration::from_secs(15);

/// What the platform needs to know of its host.
#[derive(Debug, Clone)]
pub struct UmlConfig {
    /// The folder with the VMs' folders.
    pub vms: PathBuf,
    /// The User-Mode Linux binary.
    pub kernel: PathBuf,
    /// This program, which is also the holder.
    pub holder: PathBuf,
    /// The static build of this program for guests.
    pub guest_agent: PathBuf,
    /// Folders for the files that are guests' memory; the first with room is taken.
    pub memory_folders: Vec<PathBuf>,
    /// The template of VMs that name none.
    pub default_template: Name,
    /// The host's folders whose images and folders VMs may mount.
    pub shared_folders: Vec<PathBuf>,
}

impl UmlConfig {
    /// Returns the usual configuration for a data folder.
    ///
    /// The guest agent is `mlnd-guest`, beside this program or in `../lib/mln` from there, or what `MLN_GUEST_AGENT`
    /// names.
    pub fn usual(data: &Path) -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        // As it is installed: PREFIX/bin/mlnd and PREFIX/lib/mln/mlnd-guest.
        let prefix = program.ancestors().nth(2).unwrap_or(Path::new("/usr"));
        let installed = prefix.join("lib/mln/mlnd-guest");
        let beside = program.with_file_name("mlnd-guest");
        let found = if beside.exists() { beside } else { installed };
        Ok(Self {
            vms: data.join("vms"),
            kernel: PathBuf::from("/usr/bin/linux.uml"),
            holder: program,
            guest_agent: std::env::var_os("MLN_GUEST_AGENT").map_or(found, PathBuf::from),
            memory_folders: vec![PathBuf::from("/dev/shm")],
            default_template: Name::parse("mini").expect("four letters are a name"),
            shared_folders: Vec::new(),
        })
    }
}

/// The platform.
#[derive(Debug, Clone)]
pub struct Uml {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: UmlConfig,
    images: ImageStore,
    folders: VmFolders,
    events: mpsc::Sender<VmEvent>,
    /// The VMs that run; one that has ended stays until it is started again.
    attached: Mutex<BTreeMap<VmId, Arc<Attachment>>>,
    /// Held while a VM is built, started or removed, so that these come one after the other.
    steps: Mutex<BTreeMap<VmId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Uml {
    /// Opens the platform; [`Platform::observe_all`] then finds what is there.
    pub fn open(config: UmlConfig, images: ImageStore) -> Result<(Self, mpsc::Receiver<VmEvent>), StepError> {
        let making = |source| StepError::io("making", &config.vms, source);
        fs::create_dir_all(&config.vms).map_err(making)?;
        // An earlier version may have made it for everybody.
        fs::set_permissions(&config.vms, fs::Permissions::from_mode(files::PRIVATE_FOLDER))
            .map_err(making)?;
        // Guests compare the path with that of their working folder.
        let folder = config.vms.canonicalize().map_err(making)?;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let shared = Shared {
            folders: VmFolders { folder },
            config,
            images,
            events,
            attached: Mutex::default(),
            steps: Mutex::default(),
        };
        Ok((Self { shared: Arc::new(shared) }, receiver))
    }
}

/// Returns the VMs that are kept in a folder, as `OWNER/PROJECT/VM`; one that can't be read by its folder's name.
pub fn carried(vms: &Path) -> std::io::Result<Vec<String>> {
    let entries = match fs::read_dir(vms) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut carried = Vec::new();
    for entry in entries {
        let entry = entry?;
        let folder = entry.path();
        if folder::is_hidden(entry.file_name().as_encoded_bytes()) || !folder.join(files::VM).exists() {
            continue;
        }
        carried.push(match VmFile::read(&folder) {
            Ok(file) => format!("{}/{}", file.label, file.vm.name),
            Err(_) => folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        });
    }
    carried.sort();
    Ok(carried)
}

/// Says why no guest can run on this host.
fn obstacle(config: &UmlConfig) -> Option<String> {
    if !config.kernel.exists() {
        return Some(StepError::NoKernel.to_string());
    }
    if !config.guest_agent.exists() {
        return Some(format!("the guest agent is not at {}", config.guest_agent.display()));
    }
    None
}

impl Shared {
    fn attached(&self, vm: &VmId) -> Option<Arc<Attachment>> {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.get(vm).filter(|attachment| attachment.ended.borrow().is_none()).cloned()
    }

    fn keep(&self, vm: &VmId, attachment: Attachment) {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.insert(vm.clone(), Arc::new(attachment));
    }

    fn step_lock(&self, vm: &VmId) -> Arc<tokio::sync::Mutex<()>> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.retain(|_, lock| Arc::strong_count(lock) > 1);
        steps.entry(vm.clone()).or_default().clone()
    }

    fn target(&self, file: &VmFile) -> Target {
        Target {
            vm: file.vm.clone(),
            folder: self.folders.path(&file.vm),
            kernel: self.config.kernel.clone(),
            interfaces: file.interfaces.clone(),
            events: self.events.clone(),
        }
    }

    fn vm_file(&self, vm: &VmId) -> Result<VmFile, StepError> {
        match VmFile::read(&self.folders.path(vm)) {
            Ok(file) if file.vm == *vm => Ok(file),
            // Eight digits of another birth.
            Ok(_) => Err(StepError::NoSuchVm { vm: vm.clone() }),
            Err(error) if error.is_absent() => Err(StepError::NoSuchVm { vm: vm.clone() }),
            Err(error) => Err(error.into()),
        }
    }

    fn probe(&self) -> Probe {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let (memory_total, memory_available) = space::host_memory(&meminfo);
        let guest_memory =
            self.config.memory_folders.iter().filter_map(|folder| space::memory_available(folder).ok()).max();
        Probe {
            obstacle: obstacle(&self.config),
            memory_total,
            memory_available,
            guest_memory_available: guest_memory.unwrap_or(MemoryMib(0)),
            disk_available: space::available(&self.folders.folder).unwrap_or(DiskBytes(0)),
        }
    }

    async fn start(&self, vm: &VmId) -> Result<(), StepError> {
        let lock = self.step_lock(vm);
        let _step = lock.lock().await;
        if self.attached(vm).is_some() {
            return Ok(());
        }
        let file = self.vm_file(vm)?;
        if let Some((attachment, _)) = attach::attach(self.target(&file)).await? {
            self.keep(vm, attachment);
            return Ok(());
        }
        start::start(&self.config, &self.images, &self.folders.path(vm), &file).await?;
        match attach::attach(self.target(&file)).await? {
            Some((attachment, _)) => self.keep(vm, attachment),
            // It has ended already; how, is in its exit file, and on its console.
            None => {
                let text = match attach::last_exit(&self.folders.path(vm)) {
                    Some(exit) => format!("it ended at once with {}", exit.end),
                    None => "its holder ended at once".to_owned(),
                };
                return Err(StepError::Holder { text });
            }
        }
        Ok(())
    }

    async fn stop(&self, vm: &VmId, how: Stop) -> Result<Option<Exit>, StepError> {
        let file = match self.vm_file(vm) {
            Err(StepError::NoSuchVm { .. }) => return Ok(None),
            other => other?,
        };
        let folder = self.folders.path(vm);
        let attachment = match self.attached(vm) {
            Some(attachment) => attachment,
            None => match attach::attach(self.target(&file)).await? {
                Some((attachment, _)) => {
                    self.keep(vm, attachment);
                    self.attached(vm).ok_or(StepError::CutOff)?
                }
                None => return Ok(attach::last_exit(&folder)),
            },
        };
        let (command, limit) = match how {
            Stop::Clean { limit } => {
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                (HolderCommandWire::StopClean { limit_ms }, limit)
            }
            Stop::Now => (HolderCommandWire::StopNow, Duration::ZERO),
        };
        attachment.stop(command).await;
        match tokio::time::timeout(limit.saturating_add(HOLDER_GRACE), attachment.wait()).await {
            Ok(Ended::Exited(exit)) => Ok(Some(exit)),
            Ok(Ended::Lost) => Ok(None),
            Err(_) => Err(StepError::HolderSilent { vm: vm.clone() }),
        }
    }

    async fn remove(&self, vm: &VmId) -> Result<(), StepError> {
        self.stop(vm, Stop::Now).await?;
        let lock = self.step_lock(vm);
        let _step = lock.lock().await;
        if self.attached(vm).is_some() {
            return Err(StepError::Busy { vm: vm.clone() });
        }
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).remove(vm);
        let (folder, removing) = (self.folders.path(vm), self.folders.removing(vm));
        let (parent, vm) = (self.folders.folder.clone(), vm.clone());
        let memory_folders = self.config.memory_folders.clone();
        blocking(move || {
            let ours = match whose(&folder, &vm) {
                // Then there is nothing of this one.
                Err(StepError::FolderTaken { .. }) => false,
                other => other?,
            };
            if ours {
                holder::tap::remove_for(&folder);
                space::remove_own_memory_folder(&folder, &memory_folders);
            }
            let remove = || -> std::io::Result<()> {
                if removing.exists() {
                    fs::remove_dir_all(&removing)?;
                }
                if ours {
                    fs::rename(&folder, &removing)?;
                    fs::File::open(&parent)?.sync_all()?;
                    fs::remove_dir_all(&removing)?;
                }
                Ok(())
            };
            remove().map_err(|source| StepError::io("removing", &folder, source))
        })
        .await
    }

    async fn observe_all(&self) -> Result<Vec<Observation>, StepError> {
        let folders = self.folders.clone();
        let finished = blocking(move || {
            let finished =
                folders.finished().map_err(|source| StepError::io("reading", &folders.folder, source))?;
            for folder in &finished {
                // Its drives are looked at again before it starts.
                if let Err(error) = disks::finish_left(folder) {
                    warn!(folder = %folder.display(), %error, "drives that were being restored are not all in place");
                }
            }
            Ok(finished)
        })
        .await?;
        let mut found = Vec::new();
        for folder in finished {
            if let Err(error) = redrive::finish(&folder) {
                // It is tried again before the VM starts.
                warn!(folder = %folder.display(), %error, "its disks are not what they are to be");
            }
            match VmFile::read(&folder) {
                Ok(file) if self.folders.path(&file.vm) != folder => warn!(
                    folder = %folder.display(), vm = %file.vm,
                    "the folder of a VM has another name than it should: name it so, or move it away"
                ),
                Ok(file) => match self.observe(&file).await {
                    Ok(state) => {
                        let memory = MemoryMib(file.wire.memory_mib);
                        found.push(Observation { vm: file.vm, label: file.label, memory, state });
                    }
                    // The others are to be had all the same. Nothing is said of this one: it may run.
                    Err(error) => warn!(
                        folder = %folder.display(), vm = %file.vm, error = &error as &dyn std::error::Error,
                        "can't tell how a VM is: see what is wrong in its folder (end its holder if that does not \
                         answer), then restart the agent"
                    ),
                },
                // It stays where it is, for a person to look at.
                Err(error) => warn!(folder = %folder.display(), %error, "not a VM that this version knows"),
            }
        }
        info!(vms = found.len(), "VMs observed");
        self.find_copies(&mut found).await?;
        Ok(found)
    }

    /// Adds the VMs of which there is a copy that is complete: if they are this host's, they can be started.
    async fn find_copies(&self, found: &mut Vec<Observation>) -> Result<(), StepError> {
        let folders = self.folders.clone();
        let copies = blocking(move || {
            folders.copies().map_err(|source| StepError::io("reading", &folders.folder, source))
        })
        .await?;
        for folder in copies {
            match VmFile::read(&folder) {
                Ok(file) if DiskFolder::at(&folder).is_arriving() => {
                    info!(vm = %file.vm, "a copy is here that is not complete");
                }
                Ok(file) if found.iter().all(|there| there.vm != file.vm) => {
                    let (vm, memory) = (file.vm, MemoryMib(file.wire.memory_mib));
                    let state = Observed::Down { exit: None };
                    found.push(Observation { vm, label: file.label, memory, state });
                }
                Ok(_) => {}
                Err(error) => warn!(folder = %folder.display(), %error, "not a copy that this version knows"),
            }
        }
        Ok(())
    }

    async fn observe(&self, file: &VmFile) -> Result<Observed, StepError> {
        if self.attached(&file.vm).is_none()
            && let Some((attachment, state)) = attach::attach(self.target(file)).await?
        {
            self.keep(&file.vm, attachment);
            let report = state.report.and_then(|bytes| {
                mln_protocol::wire::decode::<ReportWire>(&bytes, LINE_MESSAGE_BYTES_MAX).ok()
            });
            let progress = report.map_or(BootProgress::Booting, BootProgress::from);
            return Ok(Observed::Running { boot_unix_ms: state.boot_unix_ms, progress });
        }
        let (folder, kernel) = (self.folders.path(&file.vm), self.config.kernel.clone());
        blocking(move || {
            let boot: BootWire = match files::read(&folder, files::BOOT) {
                Ok(boot) => boot,
                Err(error) if error.is_absent() => return Ok(Observed::Down { exit: None }),
                Err(error) => return Err(error.into()),
            };
            Ok(match attach::last_exit_or_sweep(&folder, &kernel) {
                Some(exit) => Observed::Down { exit: Some(exit) },
                None => Observed::Lost { boot_unix_ms: boot.boot_unix_ms },
            })
        })
        .await
    }
}

/// Returns whether a folder is this VM's; false where it isn't there.
///
/// Its name has only eight digits of the VM's birth, so that it may be another's; that is an error.
fn whose(folder: &Path, vm: &VmId) -> Result<bool, StepError> {
    match VmFile::read(folder) {
        Ok(file) if file.vm == *vm => Ok(true),
        Err(error) if error.is_absent() && !folder.exists() => Ok(false),
        Err(error) if !error.is_absent() => Err(error.into()),
        Ok(_) | Err(_) => Err(StepError::FolderTaken { vm: vm.clone(), folder: folder.to_owned() }),
    }
}

/// Runs what touches disks where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StepError::CutOff))
}

impl Platform for Uml {
    fn probe(&self) -> Answer<'_, Probe> {
        Box::pin(async { self.shared.probe() })
    }

    fn check<'a>(&'a self, vm: &'a Vm) -> Answer<'a, Result<Checked, Refusal>> {
        let shared = &self.shared;
        Box::pin(async { check::check(&shared.config, &shared.images, &shared.folders, vm, None) })
    }

    fn check_on<'a>(
        &'a self,
        vm: &'a Vm,
        template: &'a TemplateFacts,
    ) -> Answer<'a, Result<Checked, Refusal>> {
        let shared = &self.shared;
        Box::pin(async { check::check(&shared.config, &shared.images, &shared.folders, vm, Some(template)) })
    }

    fn template_of(&self, vm: &Vm) -> TemplateRef {
        check::wanted_template(&self.shared.config, vm)
    }

    fn image_uses(&self) -> Result<Vec<ImageUse>, StepError> {
        uses::image_uses(&self.shared.folders, &self.shared.images)
    }

    fn guest_agent(&self) -> PathBuf {
        self.shared.config.guest_agent.clone()
    }

    fn build(&self, request: BuildRequest) -> Answer<'_, Result<(), StepError>> {
        Box::pin(async move {
            let lock = self.shared.step_lock(&request.id);
            let _step = lock.lock().await;
            let shared = self.shared.clone();
            blocking(move || build::build(&shared.folders, &shared.images, &request)).await
        })
    }

    fn configure(&self, configuration: Configuration) -> Answer<'_, Result<(), StepError>> {
        Box::pin(async move {
            let lock = self.shared.step_lock(&configuration.id);
            let _step = lock.lock().await;
            if self.shared.attached(&configuration.id).is_some() {
                return Ok(());
            }
            let shared = self.shared.clone();
            blocking(move || configure::configure(&shared.folders, &shared.images, configuration)).await
        })
    }

    fn apply(
        &self,
        configuration: Configuration,
        replugged: Vec<Name>,
    ) -> Answer<'_, Result<Applied, StepError>> {
        Box::pin(async move {
            let lock = self.shared.step_lock(&configuration.id);
            let _step = lock.lock().await;
            match self.shared.attached(&configuration.id) {
                Some(attachment) => live::apply(&self.shared, &attachment, configuration, replugged).await,
                // It has ended just now, and has it at its next start.
                None => Ok(Applied::Done),
            }
        })
    }

    fn leeway<'a>(&'a self, vm: &'a VmId, memory: MemoryQuestion) -> Answer<'a, Leeway> {
        Box::pin(live::leeway(&self.shared, vm, memory))
    }

    fn start<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>> {
        Box::pin(self.shared.start(vm))
    }

    fn stop<'a>(&'a self, vm: &'a VmId, how: Stop) -> Answer<'a, Result<Option<Exit>, StepError>> {
        Box::pin(self.shared.stop(vm, how))
    }

    fn remove<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>> {
        Box::pin(self.shared.remove(vm))
    }

    fn is_running(&self, vm: &VmId) -> bool {
        self.shared.attached(vm).is_some()
    }

    fn disk(&self, vm: &VmId) -> Result<VmDisk, StepError> {
        self.shared.disk(vm)
    }

    fn copy<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<Option<VmDisk>, StepError>> {
        Box::pin(self.shared.copy(vm))
    }

    fn has_copy<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<bool, StepError>> {
        Box::pin(self.shared.has_copy(vm))
    }

    fn own_drives(&self, vm: &Vm) -> Vec<(Name, u64)> {
        drives::own(vm)
    }

    fn make_copy(&self, copy: NewCopy) -> Answer<'_, Result<VmDisk, StepError>> {
        Box::pin(self.shared.make_copy(copy))
    }

    fn take_up<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>> {
        Box::pin(self.shared.take_up(vm))
    }

    fn shelve<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>> {
        Box::pin(self.shared.shelve(vm))
    }

    fn incomplete_copies(&self) -> Answer<'_, Result<Vec<VmId>, StepError>> {
        Box::pin(self.shared.incomplete_copies())
    }

    fn drop_copy<'a>(&'a self, vm: &'a VmId) -> Answer<'a, Result<(), StepError>> {
        Box::pin(self.shared.drop_copy(vm))
    }

    fn observe_all(&self) -> Answer<'_, Result<Vec<Observation>, StepError>> {
        Box::pin(self.shared.observe_all())
    }

    fn replace_drives<'a>(&'a self, vm: &'a VmId, copies: Vec<PathBuf>) -> Answer<'a, Result<(), StepError>> {
        Box::pin(self.shared.replace_drives(vm, copies))
    }

    fn exec<'a>(&'a self, vm: &'a VmId, command: ExecCommand) -> Answer<'a, Result<Exec, ExecError>> {
        Box::pin(async move {
            match self.shared.attached(vm) {
                Some(attachment) => attachment.exec(vm, command).await,
                None => Err(ExecError::NotRunning { vm: vm.clone() }),
            }
        })
    }

    fn terminal<'a>(&'a self, vm: &'a VmId, wanted: TerminalCommand) -> Answer<'a, Result<Exec, ExecError>> {
        Box::pin(async move {
            match self.shared.attached(vm) {
                Some(attachment) => attachment.terminal(vm, wanted).await,
                None => Err(ExecError::NotRunning { vm: vm.clone() }),
            }
        })
    }

    fn console<'a>(&'a self, vm: &'a VmId, view: ConsoleView) -> Answer<'a, Result<Exec, ExecError>> {
        Box::pin(async move {
            match self.shared.attached(vm) {
                Some(attachment) => attachment.console(vm, view).await,
                None => Err(ExecError::NotRunning { vm: vm.clone() }),
            }
        })
    }

    fn tell(&self, vm: &VmId, bytes: Vec<u8>) -> bool {
        self.shared.attached(vm).is_some_and(|attachment| attachment.tell(bytes))
    }

    fn console_log<'a>(&'a self, vm: &'a VmId, lines: usize) -> Answer<'a, std::io::Result<ConsoleLog>> {
        Box::pin(async move { ConsoleLog::open(&self.shared.folders.path(vm), lines) })
    }

    fn console_tail(&self, vm: &VmId, lines: usize) -> Vec<String> {
        holder::console_tail(&self.shared.folders.path(vm), lines)
    }
}
