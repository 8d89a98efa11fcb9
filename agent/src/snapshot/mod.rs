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
//! What isn't renamed is no snapshot, and is swept at the next start. No snapshot is ever replaced. Restoring gives each VM
//! a copy, which takes its disk's place in one rename; the snapshot stays.

mod freeze;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mln_protocol::id::{Digest, Name, ProjectId, VmId};
use mln_protocol::wire::{
    DecodeError, Manifest, SNAPSHOT_BYTES_MAX, SnapshotDiskWire, SnapshotVmWire, SnapshotWire,
};
use tokio::time::Instant;

use crate::image::sparse;
use crate::platform::{Platform, StepError};
pub(crate) use freeze::FreezeError;
use freeze::Frozen;

/// How long the disks of frozen guests may take to be copied: less than the guests wait.
const COPY_MAX: Duration = Duration::from_secs(15);

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
    /// There are as many as there may be.
    #[error("the project has {SNAPSHOTS_MAX} snapshots on this host already; remove one")]
    TooMany,
    /// Guests could not be held still.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// Copying took longer than guests are held still.
    #[error("copying the disks took longer than {} s, and the guests went on; try again when there is less to do", COPY_MAX.as_secs())]
    TooSlow,
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

/// The snapshots of a host; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    platform: Arc<dyn Platform>,
    /// The guests that are held still for a snapshot, and since when.
    frozen: Mutex<BTreeMap<(ProjectId, Name), (Instant, Vec<Frozen>)>>,
}

impl Snapshots {
    /// Opens the snapshots below a data folder; what was begun and never finished is swept.
    pub(crate) fn open(data: &Path, platform: Arc<dyn Platform>) -> Self {
        let folder = data.join("snapshots");
        for project in fs::read_dir(&folder).into_iter().flatten().flatten() {
            for entry in fs::read_dir(project.path()).into_iter().flatten().flatten() {
                if is_hidden(&entry.path())
                    && let Err(error) = fs::remove_dir_all(entry.path())
                {
                    tracing::warn!(folder = %entry.path().display(), %error, "a leftover stays; remove it by hand");
                }
            }
        }
        Self { shared: Arc::new(Shared { folder, platform, frozen: Mutex::default() }) }
    }

    fn project(&self, project: ProjectId) -> PathBuf {
        self.shared.folder.join(project.0.to_string())
    }

    fn taking(&self, project: ProjectId, name: &Name) -> PathBuf {
        self.project(project).join(format!("{HIDDEN}{name}.taking"))
    }

    /// Holds the guests still that run.
    pub(crate) async fn freeze(
        &self,
        project: ProjectId,
        name: &Name,
        running: Vec<VmId>,
    ) -> Result<(), SnapshotError> {
        if self.project(project).join(name.as_str()).exists() {
            return Err(SnapshotError::Exists { name: name.clone() });
        }
        if self.list(project)?.len() >= SNAPSHOTS_MAX {
            return Err(SnapshotError::TooMany);
        }
        let since = Instant::now();
        let freezing = running.iter().map(|vm| Frozen::hold(&*self.shared.platform, vm));
        let frozen = futures::future::try_join_all(freezing).await?;
        let mut all = self.shared.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever never came back for theirs has been let go by now.
        all.retain(|_, (since, _)| since.elapsed() < COPY_MAX);
        all.insert((project, name.clone()), (since, frozen));
        Ok(())
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
        let begun = {
            let mut frozen = self.shared.frozen.lock().unwrap_or_else(PoisonError::into_inner);
            frozen.remove(&(project, name.clone()))
        };
        let (since, frozen) = begun.ok_or_else(|| SnapshotError::NotBegun { name: name.clone() })?;
        let (taking, platform) = (self.taking(project, name), self.shared.platform.clone());
        let sources = vms.iter().map(|vm| Ok((vm.clone(), platform.disk_files(vm)?)));
        let sources: Vec<(VmId, Vec<PathBuf>)> = sources.collect::<Result<_, StepError>>()?;
        let (target, wanted) = (taking.clone(), sources.clone());
        let copied = blocking(move || copy_all(&target, &wanted)).await;
        let in_time = since.elapsed() < COPY_MAX;
        for guest in frozen {
            guest.let_go().await;
        }
        copied?;
        if !in_time {
            return Err(SnapshotError::TooSlow);
        }
        let hosts = hosts.iter().map(Name::to_string).collect();
        blocking(move || settle(&taking, &sources, hosts, unix_ms)).await
    }

    /// Makes what was copied a snapshot.
    pub(crate) async fn keep(&self, project: ProjectId, name: &Name) -> Result<(), SnapshotError> {
        let (from, to) = (self.taking(project, name), self.project(project).join(name.as_str()));
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

    /// Forgets a snapshot, or what was copied for one; there need not be any.
    pub(crate) async fn drop(&self, project: ProjectId, name: &Name) -> Result<(), SnapshotError> {
        let frozen = {
            let mut frozen = self.shared.frozen.lock().unwrap_or_else(PoisonError::into_inner);
            frozen.remove(&(project, name.clone()))
        };
        for guest in frozen.into_iter().flat_map(|(_, frozen)| frozen) {
            guest.let_go().await;
        }
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

    /// Says whether a snapshot is here and every byte of it what was written, and all its VMs are among these.
    pub(crate) async fn check(
        &self,
        project: ProjectId,
        name: &Name,
        here: &[VmId],
    ) -> Result<(), SnapshotError> {
        let taken = self.find(project, name)?;
        for vm in &taken.about.vms {
            if !here.iter().any(|here| here.birth.0 == vm.birth && here.name.as_str() == vm.name) {
                let vm = Name::parse(&vm.name).map_err(|_| DecodeError::Invalid { what: "name" })?;
                return Err(SnapshotError::Elsewhere { vm });
            }
        }
        let folder = self.project(project).join(name.as_str());
        blocking(move || verify(&folder, &taken.about)).await
    }

    /// Gives the VMs of a snapshot its disks: each VM all of its disks or none.
    pub(crate) async fn restore(
        &self,
        project: ProjectId,
        name: &Name,
        here: &[VmId],
    ) -> Result<(), SnapshotError> {
        self.check(project, name, here).await?;
        let taken = self.find(project, name)?;
        let folder = self.project(project).join(name.as_str());
        for vm in &taken.about.vms {
            let id = here.iter().find(|here| here.birth.0 == vm.birth && here.name.as_str() == vm.name);
            let Some(id) = id else { continue };
            let copies = vm.disks.iter().map(|disk| folder.join(&vm.name).join(&disk.file)).collect();
            self.shared.platform.replace_disks(id, copies).await?;
        }
        Ok(())
    }

    /// Returns the snapshots of a project, by name.
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
        names.iter().map(|name| self.find(project, name)).collect()
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
