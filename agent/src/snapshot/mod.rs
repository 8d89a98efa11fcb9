//! Snapshots: copies of the disks of a project's VMs at one instant, each host with those that it owns.
//!
//! ```text
//!   freeze (all hosts) ──► copy, guests go on ──► durable (all hosts) ──► keep: it is a snapshot
//!        │                      │                      │
//!        └── a guest goes on by itself after 20 s ─────┴── anything fails: dropped on all hosts
//!
//!   snapshots/PROJECT/.NAME.taking/  ──renamed──►  snapshots/PROJECT/NAME/about, VM/disk.cow, …
//! ```
//!
//! What isn't renamed is no snapshot, and is swept at the next start. No snapshot is ever replaced. VMs that are down stay
//! so while they are copied: what is wanted of their drives waits its turn. Restoring gives each VM copies of all its drives
//! or of none; the snapshot stays.

mod freeze;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mln_protocol::id::{Digest, Name, ProjectId, VmId};
use mln_protocol::wire::{
    DecodeError, Manifest, SNAPSHOT_BYTES_MAX, SnapshotDiskWire, SnapshotVmWire, SnapshotWire,
};
use tokio::time::Instant;

use crate::disk::DriveFile;
use crate::disk::fit::DriveFiles;
use crate::disk::transfer::Turn;
use crate::export::{self, EXPORTING};
use crate::image::{Sweep, sparse};
use crate::platform::{Platform, StepError};
pub(crate) use freeze::FreezeError;
use freeze::Frozen;

/// How long the disks of frozen guests may take to be copied: less than the guests wait.
const COPY_MAX: Duration = Duration::from_secs(15);

/// After how long VMs are let go for which nobody has come back: later than guests go on by themselves.
const HELD_MAX: Duration = Duration::from_secs(20);

/// How long taking a snapshot may take until it is over whatever has become of who takes it.
const TAKE_MAX: Duration = Duration::from_secs(600);

/// How many snapshots of a project a host keeps.
const SNAPSHOTS_MAX: usize = 64;

/// What a host writes down about a snapshot.
const ABOUT: &str = "about";

/// How the name of a folder begins that is no snapshot yet, or none any more.
const HIDDEN: &str = ".";

/// Why a step of a snapshot failed. A snapshot that was there still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// There is one of that name.
    #[error("there is a snapshot {name} already; give this one another name, or remove that one")]
    Exists {
        /// The name.
        name: Name,
    },
    /// There is none of that name here.
    #[error("there is no snapshot {name} here; see mlnctl snapshot list")]
    Missing {
        /// The name.
        name: Name,
    },
    /// Another one of the project is being taken.
    #[error("the snapshot {name} of this project is being taken; try again when that is over")]
    Another {
        /// The name of that one.
        name: Name,
    },
    /// There are as many as there may be.
    #[error("the project has {SNAPSHOTS_MAX} snapshots on this host already; remove one")]
    TooMany,
    /// Guests could not be held still.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// Copying took longer than guests are held still.
    #[error("copying the disks took longer than {} s, and the guests went on; try again when there is less to do", COPY_MAX.as_secs())]
    TooSlow,
    /// Something else is being done with a disk.
    #[error("a disk is being read or moved for longer than {} s; try again when that is over", COPY_MAX.as_secs())]
    Busy,
    /// What was copied isn't there: the agent was started again meanwhile, for instance.
    #[error("the snapshot {name} was not begun here, or is over")]
    NotBegun {
        /// The name.
        name: Name,
    },
    /// A VM of the snapshot isn't here.
    #[error("{vm} of the snapshot is not on this host now")]
    Elsewhere {
        /// The VM.
        vm: Name,
    },
    /// A VM has other drives than it had then.
    #[error(
        "{vm} has other drives than in the snapshot, or drives of another size; give it the shape that it had (mlnctl log, \
         mlnctl rollback), and restore then"
    )]
    OtherDrives {
        /// The VM.
        vm: Name,
    },
    /// A file of the snapshot is not what was written.
    #[error("{} of the snapshot is damaged; nothing was restored from it", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// What is written about the snapshot can't be read.
    #[error("what is written about the snapshot is damaged")]
    About(#[from] DecodeError),
    /// The platform doesn't do it: the VM runs, for instance.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A file can't be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A task of this program ended early; a bug.
    #[error("the work was cut off")]
    CutOff,
}

/// Waits until it is the turn of all of these; what takes too long is waited for in the background, so that those behind it
/// keep their order.
async fn wait_for(turns: Vec<Turn>) -> Result<Vec<Turn>, SnapshotError> {
    let coming = tokio::spawn(async move {
        let mut come = Vec::new();
        for mut turn in turns {
            turn.come().await;
            come.push(turn);
        }
        come
    });
    match tokio::time::timeout(COPY_MAX, coming).await {
        Ok(come) => come.map_err(|_| SnapshotError::CutOff),
        Err(_) => Err(SnapshotError::Busy),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, source }
}

/// What is here of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) name: Name,
    pub(crate) about: SnapshotWire,
    /// What it takes on the disk.
    pub(crate) bytes: u64,
}

/// A snapshot of a project that is removed.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) project: ProjectId,
    pub(crate) taken: Taken,
}

/// The snapshots of a host; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    platform: Arc<dyn Platform>,
    /// What is held still for a snapshot.
    held: Mutex<BTreeMap<(ProjectId, Name), Held>>,
    /// The snapshots that are being taken, at most one of a project: guests that are held still for one are not for two.
    begun: Mutex<BTreeMap<ProjectId, Begun>>,
    /// The projects that this host exports, each with a snapshot that is taken for it.
    exporting: Mutex<BTreeSet<ProjectId>>,
}

/// An export that is under way from this host; it is over when this goes.
#[derive(Debug)]
pub(crate) struct OwnExport {
    shared: Arc<Shared>,
    project: ProjectId,
}

impl Drop for OwnExport {
    fn drop(&mut self) {
        let mut all = self.shared.exporting.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.project);
    }
}

#[derive(Debug)]
struct Begun {
    name: Name,
    since: Instant,
}

/// VMs that are held still: guests that run, and the turns of those that are down.
#[derive(Debug)]
struct Held {
    since: Instant,
    guests: Vec<(VmId, Frozen)>,
    turns: Vec<Turn>,
}

impl Held {
    /// Holds these guests still, and waits for the turns of the VMs that are down.
    async fn hold(
        platform: &dyn Platform,
        running: Vec<VmId>,
        down: Vec<Turn>,
    ) -> Result<Self, SnapshotError> {
        let since = Instant::now();
        let turns = wait_for(down).await?;
        let freezing = running.iter().map(|vm| Frozen::hold(platform, vm));
        let frozen = futures::future::try_join_all(freezing).await?;
        Ok(Self { since, guests: running.into_iter().zip(frozen).collect(), turns })
    }
}

impl Snapshots {
    /// Opens the snapshots below a data folder; what was begun and never finished is swept.
    pub(crate) fn open(data: &Path, platform: Arc<dyn Platform>) -> Self {
        let folder = data.join("snapshots");
        for project in fs::read_dir(&folder).into_iter().flatten().flatten() {
            for entry in fs::read_dir(project.path()).into_iter().flatten().flatten() {
                let is_left = entry.file_name().to_string_lossy().starts_with(EXPORTING);
                if (is_left || is_hidden(&entry.path()))
                    && let Err(error) = fs::remove_dir_all(entry.path())
                {
                    tracing::warn!(folder = %entry.path().display(), %error, "a leftover stays; remove it by hand");
                }
            }
        }
        Self {
            shared: Arc::new(Shared {
                folder,
                platform,
                held: Mutex::default(),
                begun: Mutex::default(),
                exporting: Mutex::default(),
            }),
        }
    }

    fn project(&self, project: ProjectId) -> PathBuf {
        self.shared.folder.join(project.0.to_string())
    }

    fn taking(&self, project: ProjectId, name: &Name) -> PathBuf {
        self.project(project).join(format!("{HIDDEN}{name}.taking"))
    }

    /// Holds still the guests that run, and the VMs that are down; all are let go after a while, should nobody come back.
    pub(crate) async fn freeze(
        &self,
        project: ProjectId,
        name: &Name,
        running: Vec<VmId>,
        down: Vec<Turn>,
    ) -> Result<(), SnapshotError> {
        let before = self.begun(project);
        if let Some(before) = before.filter(|before| export::is_over(before, name)) {
            self.undo(project, &before).await?;
        }
        self.begin(project, name)?;
        match Held::hold(&*self.shared.platform, running, down).await {
            Ok(held) => {
                self.let_go_later(project, name, held);
                Ok(())
            }
            Err(error) => {
                self.end(project, name);
                Err(error)
            }
        }
    }

    /// Lets nobody else take a snapshot of the project until this one is over; an error where there can't be another one.
    fn begin(&self, project: ProjectId, name: &Name) -> Result<(), SnapshotError> {
        if self.project(project).join(name.as_str()).exists() {
            return Err(SnapshotError::Exists { name: name.clone() });
        }
        if self.list(project)?.len() >= SNAPSHOTS_MAX {
            return Err(SnapshotError::TooMany);
        }
        let mut all = self.shared.begun.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&project) {
            Some(other) if other.since.elapsed() < TAKE_MAX => {
                Err(SnapshotError::Another { name: other.name.clone() })
            }
            _ => {
                all.insert(project, Begun { name: name.clone(), since: Instant::now() });
                Ok(())
            }
        }
    }

    /// Returns the snapshot of a project that is being taken.
    fn begun(&self, project: ProjectId) -> Option<Name> {
        let all = self.shared.begun.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&project).map(|begun| begun.name.clone())
    }

    /// Notes that this host exports a project; none where it does so already.
    pub(crate) fn export(&self, project: ProjectId) -> Option<OwnExport> {
        let mut all = self.shared.exporting.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(project).then(|| OwnExport { shared: self.shared.clone(), project })
    }

    fn end(&self, project: ProjectId, name: &Name) {
        let mut all = self.shared.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&project).is_some_and(|begun| begun.name == *name) {
            all.remove(&project);
        }
    }

    /// Keeps what is held still until it is copied, and not for ever.
    fn let_go_later(&self, project: ProjectId, name: &Name, held: Held) {
        let (since, key) = (held.since, (project, name.clone()));
        self.held().insert(key.clone(), held);
        let later = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(since + HELD_MAX).await;
            let mut all = later.held();
            if all.get(&key).is_some_and(|held| held.since == since) {
                all.remove(&key);
            }
        });
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<(ProjectId, Name), Held>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the disks of these VMs, lets the guests go on, and makes the copies durable.
    pub(crate) async fn copy(
        &self,
        project: ProjectId,
        name: &Name,
        hosts: &[Name],
        vms: Vec<VmId>,
        unix_ms: u64,
    ) -> Result<(), SnapshotError> {
        let begun = self.held().remove(&(project, name.clone()));
        let Held { since, guests, turns } =
            begun.ok_or_else(|| SnapshotError::NotBegun { name: name.clone() })?;
        let (taking, platform) = (self.taking(project, name), self.shared.platform.clone());
        let target = taking.clone();
        let copied = blocking(move || {
            let drives = |vm: VmId| -> Result<(VmId, Vec<PathBuf>), StepError> {
                let drives = platform.disk(&vm)?.drives;
                Ok((vm, drives.into_iter().map(|drive| drive.path).collect()))
            };
            let sources = vms.into_iter().map(drives).collect::<Result<Vec<_>, _>>()?;
            copy_all(&target, &sources)?;
            Ok(sources)
        })
        .await;
        let in_time = since.elapsed() < COPY_MAX;
        let mut let_go = Ok(());
        for (vm, guest) in guests {
            let_go = guest.let_go(&vm).await.and(let_go);
        }
        drop(turns);
        let sources = copied?;
        if !in_time {
            return Err(SnapshotError::TooSlow);
        }
        let_go?;
        let hosts = hosts.iter().map(Name::to_string).collect();
        blocking(move || settle(&taking, &sources, hosts, unix_ms)).await
    }

    /// Makes what was copied a snapshot.
    pub(crate) async fn keep(&self, project: ProjectId, name: &Name) -> Result<(), SnapshotError> {
        let (from, to) = (self.taking(project, name), self.project(project).join(name.as_str()));
        self.end(project, name);
        let name = name.clone();
        blocking(move || {
            if !from.join(ABOUT).exists() {
                return Err(SnapshotError::NotBegun { name });
            }
            if to.exists() {
                return Err(SnapshotError::Exists { name });
            }
            fs::rename(&from, &to).map_err(at(&to))?;
            sync_folder(to.parent().unwrap_or(&to))
        })
        .await
    }

    /// Takes back what was begun for a snapshot: guests go on, copies are dropped. One that is there stays.
    pub(crate) async fn undo(&self, project: ProjectId, name: &Name) -> Result<(), SnapshotError> {
        let held = self.held().remove(&(project, name.clone()));
        for (vm, guest) in held.into_iter().flat_map(|held| held.guests) {
            // What is copied of it is dropped all the same.
            let _ = guest.let_go(&vm).await;
        }
        let taking = self.taking(project, name);
        let removed = blocking(move || remove(&taking)).await;
        self.end(project, name);
        removed
    }

    /// Forgets a snapshot and what was copied for one of its name; there need not be any.
    pub(crate) async fn drop(&self, project: ProjectId, name: &Name) -> Result<(), SnapshotError> {
        self.undo(project, name).await?;
        let taking = self.taking(project, name);
        let kept = self.project(project).join(name.as_str());
        blocking(move || {
            // Out of sight in one step: half a snapshot is none.
            if kept.exists() {
                remove(&taking)?;
                fs::rename(&kept, &taking).map_err(at(&kept))?;
                sync_folder(kept.parent().unwrap_or(&kept))?;
            }
            remove(&taking)
        })
        .await
    }

    /// Says whether a snapshot is here and every byte of it what was written, and all its VMs are among these and have the
    /// drives that they had.
    pub(crate) async fn check(
        &self,
        project: ProjectId,
        name: &Name,
        here: &[VmId],
    ) -> Result<(), SnapshotError> {
        let taken = self.find(project, name)?;
        for vm in &taken.about.vms {
            let id = here.iter().find(|here| here.birth.0 == vm.birth && here.name.as_str() == vm.name);
            let Some(id) = id else {
                let vm = Name::parse(&vm.name).map_err(|_| DecodeError::Invalid { what: "name" })?;
                return Err(SnapshotError::Elsewhere { vm });
            };
            let disk = self.shared.platform.disk(id)?;
            let drives = DriveFiles::at(disk.drives.iter().map(|drive| &drive.path));
            let copies = vm.disks.iter().map(|disk| (OsString::from(&disk.file), disk.bytes));
            if drives.map_err(at(&self.shared.folder))? != DriveFiles::new(copies) {
                return Err(SnapshotError::OtherDrives { vm: id.name.clone() });
            }
        }
        let folder = self.project(project).join(name.as_str());
        blocking(move || verify(&folder, &taken.about)).await
    }

    /// Gives the VMs of a snapshot its disks: each VM all of its disks or none. Whatever else is wanted of them waits.
    pub(crate) async fn restore(
        &self,
        project: ProjectId,
        name: &Name,
        down: Vec<(VmId, Turn)>,
    ) -> Result<(), SnapshotError> {
        let (here, turns): (Vec<VmId>, Vec<Turn>) = down.into_iter().unzip();
        let _turns = wait_for(turns).await?;
        self.check(project, name, &here).await?;
        let taken = self.find(project, name)?;
        let folder = self.project(project).join(name.as_str());
        for vm in &taken.about.vms {
            let id = here.iter().find(|here| here.birth.0 == vm.birth && here.name.as_str() == vm.name);
            let Some(id) = id else { continue };
            let copies = vm.disks.iter().map(|disk| folder.join(&vm.name).join(&disk.file)).collect();
            self.shared.platform.replace_drives(id, copies).await?;
        }
        Ok(())
    }

    /// Returns the snapshots of a project, by name. One that can't be read has no VMs and no hosts: it can be removed.
    pub(crate) fn list(&self, project: ProjectId) -> Result<Vec<Taken>, SnapshotError> {
        let folder = self.project(project);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&folder)(error)),
        };
        let names = entries.flatten().filter(|entry| !is_hidden(&entry.path()));
        let mut names: Vec<Name> =
            names.filter_map(|entry| Name::parse(entry.file_name().to_str()?).ok()).collect();
        names.sort();
        let found = |name: Name| {
            self.find(project, &name).unwrap_or_else(|error| {
                tracing::warn!(%error, %name, project = %project.0, "a snapshot can't be read; remove it");
                let about = SnapshotWire::new(0, Vec::new(), Vec::new());
                Taken { name, bytes: 0, about }
            })
        };
        Ok(names.into_iter().map(found).collect())
    }

    /// Returns the projects of which there is a folder here. Reads a folder: quick.
    pub(crate) fn projects(&self) -> Vec<ProjectId> {
        let entries = fs::read_dir(&self.shared.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| Digest::from_hex(entry.file_name().to_str()?).map(ProjectId)).collect()
    }

    /// Returns the snapshots of projects that are removed, and removes them if that is wanted. One that can't be removed
    /// stays, and is not told of.
    pub(crate) async fn sweep(&self, projects: Vec<ProjectId>, sweep: Sweep) -> Vec<Leftover> {
        let mut left = Vec::new();
        for project in projects {
            let all = self.list(project).unwrap_or_else(|error| {
                tracing::warn!(%error, project = %project.0, "snapshots of a removed project can't be read");
                Vec::new()
            });
            for taken in all {
                let removed = match sweep {
                    Sweep::Show => Ok(()),
                    Sweep::Remove => self.drop(project, &taken.name).await,
                };
                match removed {
                    Ok(()) => left.push(Leftover { project, taken }),
                    Err(error) => tracing::warn!(%error, name = %taken.name, "a snapshot can't be removed"),
                }
            }
            if sweep == Sweep::Remove {
                // It stays where something is left in it.
                let _ = fs::remove_dir(self.project(project));
            }
        }
        left
    }

    /// Returns a folder for what has to be noted while a project's snapshots are read; it goes with the value.
    pub(crate) fn scratch(&self, project: ProjectId) -> Result<tempfile::TempDir, SnapshotError> {
        let folder = self.project(project);
        let made = tempfile::Builder::new().prefix(".reading-").tempdir_in(&folder);
        made.map_err(at(&folder))
    }

    /// Returns the drives of a snapshot's VMs that this host has, each over what is below it, after all of it was found to be
    /// what was written. Blocks.
    pub(crate) fn drives(
        &self,
        project: ProjectId,
        name: &Name,
    ) -> Result<Vec<(Name, Vec<DriveFile>)>, SnapshotError> {
        let about = self.find(project, name)?.about;
        let folder = self.project(project).join(name.as_str());
        verify(&folder, &about)?;
        let mut all = Vec::new();
        for vm in &about.vms {
            let vm_name = Name::parse(&vm.name).map_err(|_| DecodeError::Invalid { what: "name" })?;
            let id = VmId { birth: Digest(vm.birth), name: vm_name.clone() };
            let mut drives = match self.shared.platform.disk(&id) {
                Err(StepError::NoSuchVm { .. }) => return Err(SnapshotError::Elsewhere { vm: vm_name }),
                found => found?.drives,
            };
            let is_in = |drive: &DriveFile| {
                vm.disks
                    .iter()
                    .any(|disk| drive.path.file_name().is_some_and(|name| name == disk.file.as_str()))
            };
            if drives.len() != vm.disks.len() || !drives.iter().all(is_in) {
                return Err(SnapshotError::OtherDrives { vm: vm_name });
            }
            for drive in &mut drives {
                drive.path = folder.join(&vm.name).join(drive.path.file_name().unwrap_or_default());
            }
            all.push((vm_name, drives));
        }
        Ok(all)
    }

    fn find(&self, project: ProjectId, name: &Name) -> Result<Taken, SnapshotError> {
        let folder = self.project(project).join(name.as_str());
        let path = folder.join(ABOUT);
        let length = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SnapshotError::Missing { name: name.clone() });
            }
            Err(error) => return Err(at(&path)(error)),
        };
        if length > SNAPSHOT_BYTES_MAX as u64 {
            return Err(SnapshotError::Damaged { file: path });
        }
        let about = SnapshotWire::from_bytes(&fs::read(&path).map_err(at(&path))?)?;
        let files = about.vms.iter().flat_map(|vm| vm.disks.iter().map(|disk| (&vm.name, &disk.file)));
        let bytes = files.map(|(vm, file)| {
            folder.join(vm).join(file).metadata().map_or(0, |metadata| metadata.blocks() * 512)
        });
        Ok(Taken { name: name.clone(), bytes: bytes.sum(), about })
    }
}

/// Copies the disks of VMs into a new folder.
fn copy_all(taking: &Path, vms: &[(VmId, Vec<PathBuf>)]) -> Result<(), SnapshotError> {
    remove(taking)?;
    for (vm, disks) in vms {
        let folder = taking.join(vm.name.as_str());
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        for disk in disks {
            let to = folder.join(disk.file_name().unwrap_or_default());
            copy_file(disk, &to).map_err(at(&to))?;
        }
    }
    fs::create_dir_all(taking).map_err(at(taking))
}

/// Copies a file, sharing its blocks where the file system can.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::options().write(true).create_new(true).open(to)?);
    match rustix::fs::ioctl_ficlone(&target, &source) {
        Ok(()) => Ok(()),
        Err(_) => sparse::copy(&source, &target),
    }
}

/// Makes copies durable, and writes down what they are.
fn settle(
    taking: &Path,
    vms: &[(VmId, Vec<PathBuf>)],
    hosts: Vec<String>,
    unix_ms: u64,
) -> Result<(), SnapshotError> {
    let mut told = Vec::new();
    for (vm, disks) in vms {
        let folder = taking.join(vm.name.as_str());
        let mut of_vm = Vec::new();
        for disk in disks {
            let name = disk.file_name().unwrap_or_default();
            let path = folder.join(name);
            let file = File::open(&path).map_err(at(&path))?;
            file.sync_all().map_err(at(&path))?;
            let (bytes, digest) = content(&file).map_err(at(&path))?;
            of_vm.push(SnapshotDiskWire {
                file: name.to_string_lossy().into_owned(),
                bytes,
                digest: digest.0,
            });
        }
        sync_folder(&folder)?;
        told.push(SnapshotVmWire { birth: vm.birth.0, name: vm.name.to_string(), disks: of_vm });
    }
    let path = taking.join(ABOUT);
    let about = SnapshotWire::new(unix_ms, hosts, told);
    let written = File::create_new(&path).and_then(|mut file| {
        io::Write::write_all(&mut file, &about.to_bytes())?;
        file.sync_all()
    });
    written.map_err(at(&path))?;
    sync_folder(taking)?;
    for parent in taking.ancestors().skip(1).take(3) {
        sync_folder(parent)?;
    }
    Ok(())
}

/// Returns the length of a file, and the digest of what is in it: that of its manifest.
fn content(file: &File) -> io::Result<(u64, Digest)> {
    let (bytes, chunks) = sparse::chunks(file)?;
    let manifest = Manifest::new(bytes, chunks).map_err(io::Error::other)?;
    Ok((bytes, Digest::of(&manifest.to_bytes())))
}

fn verify(folder: &Path, about: &SnapshotWire) -> Result<(), SnapshotError> {
    for vm in &about.vms {
        for disk in &vm.disks {
            let path = folder.join(&vm.name).join(&disk.file);
            let file = File::open(&path).map_err(at(&path))?;
            let found = content(&file).map_err(at(&path))?;
            if found != (disk.bytes, Digest(disk.digest)) {
                return Err(SnapshotError::Damaged { file: path });
            }
        }
    }
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(HIDDEN))
}

fn remove(folder: &Path) -> Result<(), SnapshotError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(folder)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<(), SnapshotError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SnapshotError::CutOff))
}

#[cfg(test)]
#[path = "snapshot_test.rs"]
mod tests;
