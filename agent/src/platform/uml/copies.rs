//! Copies of VMs' drives: on their way here, or left behind. A copy is a hidden folder beside those of the VMs, with the
//! same files; it is no VM before it is taken up, and nothing can be started with it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mln_protocol::id::{Name, VmId};
use mln_protocol::wire::holder::{HOLDER_VERSION, VmFileWire};
use mln_protocol::wire::{DriveShape, DriveTemplate};

use super::folder::VmFile;
use super::{Shared, blocking, build, configure, space, whose};
use crate::disk::{DiskFolder, DriveFile, VmDisk};
use crate::holder::{self, DRIVE_LETTERS, FolderLock, files};
use crate::image::{IMAGE_MTIME, ImageStore, cow};
use crate::platform::{NewCopy, StepError};

/// What the drive with the system is called; the others have their letter.
const ROOT: &str = "root";
/// What tells of a definition that is over: what the VM is like is written when it is started.
const OF_DEFINITION: [&str; 2] = [files::SEED, files::EXTRA];
/// What tells of a run of the VM that is over, and of where that was.
const OF_RUNS: [&str; 4] = [files::BOOT, files::EXIT, files::LAUNCH, files::DRIVES];

impl Shared {
    /// Returns where a VM's drives are: in its own folder, or in that of its copy.
    fn drives_folder(&self, vm: &VmId) -> Result<PathBuf, StepError> {
        let (folder, copy) = (self.folders.path(vm), self.folders.copy(vm));
        if whose(&folder, vm)? {
            Ok(folder)
        } else if whose(&copy, vm)? {
            Ok(copy)
        } else {
            Err(StepError::NoSuchVm { vm: vm.clone() })
        }
    }

    pub(super) fn disk(&self, vm: &VmId) -> Result<VmDisk, StepError> {
        disk_in(&self.images, self.drives_folder(vm)?)
    }

    pub(super) async fn copy(&self, vm: &VmId) -> Result<Option<VmDisk>, StepError> {
        if self.attached(vm).is_some() {
            return Err(StepError::Busy { vm: vm.clone() });
        }
        self.shelve(vm).await?;
        let (copy, vm, images) = (self.folders.copy(vm), vm.clone(), self.images.clone());
        blocking(move || {
            if !whose(&copy, &vm)? {
                return Ok(None);
            }
            // Which drive is which is no longer as it was when it left.
            for name in OF_DEFINITION {
                configure::remove(&copy, name)?;
            }
            disk_in(&images, copy).map(Some)
        })
        .await
    }

    pub(super) async fn has_copy(&self, vm: &VmId) -> Result<bool, StepError> {
        let (folder, copy, vm) = (self.folders.path(vm), self.folders.copy(vm), vm.clone());
        blocking(move || Ok(whose(&folder, &vm)? || whose(&copy, &vm)?)).await
    }

    pub(super) async fn make_copy(&self, new: NewCopy) -> Result<VmDisk, StepError> {
        let lock = self.step_lock(&new.vm);
        let _step = lock.lock().await;
        let (folders, images) = (self.folders.clone(), self.images.clone());
        blocking(move || {
            let (copy, building) = (folders.copy(&new.vm), folders.building(&new.vm));
            let fresh = || -> io::Result<()> {
                if building.exists() {
                    fs::remove_dir_all(&building)?;
                }
                DirBuilder::new().mode(files::PRIVATE_FOLDER).create(&building)
            };
            fresh().map_err(|source| StepError::io("making", &building, source))?;
            // Until the folder has its name, nobody sees that it uses an image.
            let _holding = images.hold();
            let made = fill(&building, &images, &new).and_then(|()| {
                let settle = || -> io::Result<()> {
                    fs::rename(&building, &copy)?;
                    File::open(&folders.folder)?.sync_all()
                };
                settle().map_err(|source| StepError::io("making", &copy, source))
            });
            if let Err(error) = made {
                // What can't be removed now is when the agent starts again.
                let _ = fs::remove_dir_all(&building);
                return Err(error);
            }
            disk_in(&images, copy)
        })
        .await
    }

    pub(super) async fn shelve(&self, vm: &VmId) -> Result<(), StepError> {
        let lock = self.step_lock(vm);
        let _step = lock.lock().await;
        if self.attached(vm).is_some() {
            return Err(StepError::Busy { vm: vm.clone() });
        }
        self.forget(vm);
        let (folders, vm) = (self.folders.clone(), vm.clone());
        let memory_folders = self.config.memory_folders.clone();
        blocking(move || {
            let (folder, copy) = (folders.path(&vm), folders.copy(&vm));
            if !whose(&folder, &vm)? {
                return Ok(());
            }
            // Whoever has it runs the VM.
            let lock = FolderLock::take(&folder).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => StepError::Busy { vm: vm.clone() },
                _ => StepError::io("locking", folder.join(files::LOCK), error),
            })?;
            holder::tap::remove_for(&folder);
            space::remove_own_memory_folder(&folder, &memory_folders);
            let shelve = || -> io::Result<()> {
                remove_all(&folders, &vm, &copy)?;
                fs::rename(&folder, &copy)?;
                File::open(&folders.folder)?.sync_all()
            };
            shelve().map_err(|source| StepError::io("shelving", &folder, source))?;
            drop(lock);
            Ok(())
        })
        .await
    }

    pub(super) async fn incomplete_copies(&self) -> Result<Vec<VmId>, StepError> {
        let folders = self.folders.clone();
        blocking(move || {
            let copies =
                folders.copies().map_err(|source| StepError::io("reading", &folders.folder, source))?;
            let incomplete = copies.into_iter().filter(|copy| DiskFolder::at(copy).is_arriving());
            // One that can't be read is for a person to look at.
            Ok(incomplete.filter_map(|copy| Some(VmFile::read(&copy).ok()?.vm)).collect())
        })
        .await
    }

    pub(super) async fn drop_copy(&self, vm: &VmId) -> Result<(), StepError> {
        let lock = self.step_lock(vm);
        let _step = lock.lock().await;
        let (folders, vm) = (self.folders.clone(), vm.clone());
        blocking(move || {
            let copy = folders.copy(&vm);
            if copy.join(files::VM).exists() && !whose(&copy, &vm)? {
                return Ok(());
            }
            remove_all(&folders, &vm, &copy).map_err(|source| StepError::io("removing", &copy, source))
        })
        .await
    }

    pub(super) async fn take_up(&self, vm: &VmId) -> Result<(), StepError> {
        let lock = self.step_lock(vm);
        let _step = lock.lock().await;
        let (folders, vm) = (self.folders.clone(), vm.clone());
        blocking(move || {
            let (folder, copy) = (folders.path(&vm), folders.copy(&vm));
            if whose(&folder, &vm)? || !whose(&copy, &vm)? {
                return Ok(());
            }
            if DiskFolder::at(&copy).is_arriving() {
                return Err(StepError::CopyIncomplete { vm });
            }
            let take = || -> io::Result<()> {
                for name in OF_RUNS {
                    match fs::remove_file(copy.join(name)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        Ok(()) | Err(_) => {}
                    }
                }
                fs::rename(&copy, &folder)?;
                File::open(&folders.folder)?.sync_all()
            };
            take().map_err(|source| StepError::io("taking up", &copy, source))?;
            Ok(())
        })
        .await
    }

    fn forget(&self, vm: &VmId) {
        self.attached.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(vm);
    }
}

/// Removes a folder of a copy, whole or not at all.
fn remove_all(folders: &super::VmFolders, vm: &VmId, copy: &Path) -> io::Result<()> {
    if !copy.exists() {
        return Ok(());
    }
    let removing = folders.removing(vm);
    if removing.exists() {
        fs::remove_dir_all(&removing)?;
    }
    fs::rename(copy, &removing)?;
    File::open(&folders.folder)?.sync_all()?;
    fs::remove_dir_all(&removing)
}

/// Returns the drives in a VM's folder, or in that of a copy.
pub(super) fn disk_in(images: &ImageStore, folder: PathBuf) -> Result<VmDisk, StepError> {
    let file = VmFile::read(&folder)?;
    let digest = mln_protocol::id::Digest(file.wire.template);
    let below = images.backing(&digest, file.wire.backing_bytes)?;
    let known = images.list().into_iter().find(|template| template.digest == digest);
    let root = Name::parse(ROOT).expect("letters are a name");
    let template = DriveTemplate { name: known.map_or_else(|| root.clone(), |known| known.name), digest };
    let mut drives =
        vec![DriveFile { name: root, path: folder.join(files::DISK), below: Some((template, below)) }];
    for letter in DRIVE_LETTERS {
        let path = folder.join(super::drives::file_of(letter));
        if path.exists() {
            let name = Name::parse(&letter.to_string()).expect("a letter is a name");
            drives.push(DriveFile { name, path, below: None });
        }
    }
    Ok(VmDisk { folder: DiskFolder::at(folder), drives })
}

/// Makes empty drives, and the file that says whose they are; what the VM is like is written when it is started.
fn fill(folder: &Path, images: &ImageStore, new: &NewCopy) -> Result<(), StepError> {
    let unknown =
        |drive: &DriveShape| StepError::UnknownDrive { vm: new.vm.clone(), drive: drive.name.clone() };
    let mut root = None;
    for drive in &new.drives {
        let letter = DRIVE_LETTERS.into_iter().find(|letter| drive.name.as_str() == letter.to_string());
        match (&drive.template, letter) {
            (Some(template), None) if drive.name.as_str() == ROOT && root.is_none() => {
                root = Some((template.digest, drive.bytes));
                let backing = images.backing(&template.digest, drive.bytes)?;
                let disk = folder.join(files::DISK);
                cow::create(&disk, &backing, drive.bytes, IMAGE_MTIME)
                    .map_err(|source| StepError::io("writing", &disk, source))?;
            }
            (None, Some(letter)) => {
                let path = folder.join(super::drives::file_of(letter));
                let mut options = File::options();
                let made = options.write(true).create_new(true).mode(files::PRIVATE_FILE).open(&path);
                made.and_then(|file| file.set_len(drive.bytes))
                    .map_err(|source| StepError::io("writing", &path, source))?;
            }
            (Some(_) | None, _) => return Err(unknown(drive)),
        }
    }
    let Some((template, backing_bytes)) = root else {
        return Err(StepError::NoSuchVm { vm: new.vm.clone() });
    };
    let disk = DiskFolder::at(folder);
    disk.begin_arriving().map_err(|source| StepError::io("writing", folder, source))?;
    let vm = VmFileWire {
        version: HOLDER_VERSION,
        birth: new.vm.birth.0,
        name: new.vm.name.as_str().to_owned(),
        owner: new.label.owner.as_str().to_owned(),
        project: new.label.project.as_str().to_owned(),
        memory_mib: 0,
        template: template.0,
        backing_bytes,
        interfaces: Vec::new(),
    };
    build::write(folder, files::VM, &vm)
}
