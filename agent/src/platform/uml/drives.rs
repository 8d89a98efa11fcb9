//! What a VM has beside its disk: further drives, folders of the host, and a share of the host's processors.
//!
//! Paths of the host are given only below the folders that its configuration shares. They are looked up when the VM is
//! built and again at each start, so that neither a link nor another configuration leads elsewhere.

use std::io;
use std::path::{Path, PathBuf};

use mln_protocol::id::Name;
use mln_protocol::model::{Mount, MountSource, Vm};
use mln_protocol::wire::holder::{DriveWire, DrivesWire, FolderWire, HOLDER_VERSION};
use mln_protocol::wire::seed::{SEED_VERSION, SeedMoreWire, SeedMountWire};
use rustix::thread::CpuSet;

use super::UmlConfig;
use super::check::DISK_MAX;
use crate::holder::{self, DRIVE_LETTERS, files};
use crate::image::blank;
use crate::platform::{Refusal, StepError};

/// The file systems that a disk is made with.
const FILE_SYSTEMS: [&str; 3] = ["ext2", "ext3", "ext4"];

/// What is in a drive.
pub(super) enum Content<'a> {
    Mount(&'a Mount),
    Swap(u64),
}

/// Returns the drives of a VM behind the three that every VM has, each with its letter.
pub(super) fn drives(vm: &Vm) -> impl Iterator<Item = (char, Content<'_>)> {
    let mounts = vm.setup.mounts.iter().filter(|mount| !matches!(mount.source, MountSource::Folder(_)));
    let swap = vm.setup.swap.map(|bytes| Content::Swap(bytes.0));
    DRIVE_LETTERS.into_iter().zip(mounts.map(Content::Mount).chain(swap))
}

pub(super) fn file_of(letter: char) -> String {
    format!("disk-{letter}.img")
}

/// Says whether this host gives a VM what it asks for.
pub(super) fn check(config: &UmlConfig, vm: &Vm) -> Result<(), Refusal> {
    let is_drive = |mount: &&Mount| !matches!(mount.source, MountSource::Folder(_));
    let count = vm.setup.mounts.iter().filter(is_drive).count() + usize::from(vm.setup.swap.is_some());
    if count > DRIVE_LETTERS.len() {
        return Err(Refusal::TooManyDrives { count, limit: DRIVE_LETTERS.len() });
    }
    if let Some(swap) = vm.setup.swap.filter(|swap| *swap > DISK_MAX) {
        return Err(Refusal::DiskTooLarge { disk: swap, limit: DISK_MAX });
    }
    for mount in &vm.setup.mounts {
        match &mount.source {
            MountSource::Disk(bytes) if *bytes > DISK_MAX => {
                return Err(Refusal::DiskTooLarge { disk: *bytes, limit: DISK_MAX });
            }
            MountSource::Disk(_) if !FILE_SYSTEMS.contains(&mount.file_system.as_str()) => {
                return Err(Refusal::FileSystem { file_system: mount.file_system.clone() });
            }
            MountSource::Disk(_) => {}
            MountSource::Image(path) => drop(image(config, path)?),
            MountSource::Folder(path) => drop(folder(config, path)?),
        }
    }
    if let Some(nice) = vm.scheduling.nice.filter(|nice| *nice < 0)
        && !rustix::process::geteuid().is_root()
    {
        return Err(Refusal::NiceNeedsRoot { nice });
    }
    // Where it can't be asked, the holder tries.
    let Ok(there) = rustix::thread::sched_getaffinity(None) else { return Ok(()) };
    match vm.scheduling.cpus.iter().find(|&&cpu| !has_cpu(&there, cpu)) {
        Some(&cpu) => {
            let all: Vec<String> =
                (0..=u16::MAX).filter(|&cpu| has_cpu(&there, cpu)).map(|cpu| cpu.to_string()).collect();
            Err(Refusal::NoCpu { cpu, there: all.join(",") })
        }
        None => Ok(()),
    }
}

fn has_cpu(set: &CpuSet, cpu: u16) -> bool {
    usize::from(cpu) < CpuSet::MAX_CPU && set.is_set(cpu.into())
}

/// Returns where a path of the host leads, if that is below a folder that is shared.
fn shared(config: &UmlConfig, path: &str, what: &'static str) -> Result<PathBuf, Refusal> {
    let refused = || Refusal::NotShared { path: path.to_owned() };
    // First by its name, so that nothing is told of what lies elsewhere.
    if !config.shared_folders.iter().any(|folder| Path::new(path).starts_with(folder)) {
        return Err(refused());
    }
    let real =
        Path::new(path).canonicalize().map_err(|_| Refusal::ShareMissing { path: path.to_owned(), what })?;
    let folders = config.shared_folders.iter().filter_map(|folder| folder.canonicalize().ok());
    let is_below = folders.into_iter().any(|folder| real.starts_with(folder));
    // The command line of User-Mode Linux would read more into these.
    let is_plain =
        real.to_str().is_some_and(|real| !real.contains([',', ':']) && !real.contains(char::is_whitespace));
    if is_below && is_plain { Ok(real) } else { Err(refused()) }
}

fn image(config: &UmlConfig, path: &str) -> Result<PathBuf, Refusal> {
    let what = "image";
    let real = shared(config, path, what)?;
    if real.is_dir() {
        return Err(Refusal::ShareMissing { path: path.to_owned(), what });
    }
    Ok(real)
}

fn folder(config: &UmlConfig, path: &str) -> Result<PathBuf, Refusal> {
    let what = "folder";
    let real = shared(config, path, what)?;
    if !real.is_dir() {
        return Err(Refusal::ShareMissing { path: path.to_owned(), what });
    }
    if !holder::can_confine() {
        return Err(Refusal::ShareUnconfined { path: path.to_owned() });
    }
    Ok(real)
}

/// Returns what a VM's own disks take at once, in bytes: a file system has a map of its blocks, which is written when it is
/// made (some 110 MB for each TiB, measured).
pub(super) fn bytes_at_once(vm: &Vm) -> u64 {
    const SHARE: u64 = 8192;
    let made = vm.setup.mounts.iter().filter_map(|mount| match mount.source {
        MountSource::Disk(bytes) => Some(bytes.0 / SHARE),
        MountSource::Image(_) | MountSource::Folder(_) => None,
    });
    made.fold(0, u64::saturating_add)
}

/// Returns the disks that are the VM's own, with their lengths.
pub(super) fn own(vm: &Vm) -> Vec<(Name, u64)> {
    let own = drives(vm).filter_map(|(letter, content)| match content {
        Content::Swap(bytes) => Some((letter, bytes)),
        Content::Mount(Mount { source: MountSource::Disk(bytes), .. }) => Some((letter, bytes.0)),
        Content::Mount(_) => None,
    });
    own.map(|(letter, bytes)| (Name::parse(&letter.to_string()).expect("a letter is a name"), bytes))
        .collect()
}

/// Makes the disks that are the VM's own, in its folder.
pub(super) fn make(vm_folder: &Path, vm: &Vm) -> Result<(), StepError> {
    for (letter, content) in drives(vm) {
        make_one(&vm_folder.join(file_of(letter)), &content)?;
    }
    Ok(())
}

/// Makes one of them; nothing where it is the host's.
pub(super) fn make_one(path: &Path, content: &Content<'_>) -> Result<(), StepError> {
    match content {
        Content::Swap(bytes) => Ok(blank::for_swap(path, *bytes)?),
        Content::Mount(Mount { source: MountSource::Disk(bytes), file_system, .. }) => {
            Ok(blank::with_file_system(path, bytes.0, file_system)?)
        }
        Content::Mount(_) => Ok(()),
    }
}

/// Returns what the VM's folder says of this; none where there is nothing to say.
pub(super) fn extra(vm: &Vm) -> Option<DrivesWire> {
    let drives = drives(vm).map(|(letter, content)| match content {
        Content::Mount(mount @ Mount { source: MountSource::Image(path), .. }) => {
            DriveWire { path: path.clone(), read_only: mount.is_read_only() }
        }
        Content::Mount(_) | Content::Swap(_) => DriveWire { path: file_of(letter), read_only: false },
    });
    let folders = vm.setup.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Folder(path) => Some(FolderWire { path: path.clone(), read_only: mount.is_read_only() }),
        MountSource::Disk(_) | MountSource::Image(_) => None,
    });
    let extra = DrivesWire {
        version: HOLDER_VERSION,
        drives: drives.collect(),
        folders: folders.collect(),
        nice: vm.scheduling.nice,
        cpus: vm.scheduling.cpus.clone(),
    };
    let is_nothing =
        extra.drives.is_empty() && extra.folders.is_empty() && extra.nice.is_none() && extra.cpus.is_empty();
    (!is_nothing).then_some(extra)
}

/// Writes what the holder is to give the guest of all that, each path of the host looked up anew.
pub(super) fn look_up(config: &UmlConfig, vm_folder: &Path) -> Result<Option<DrivesWire>, StepError> {
    let mut wire: DrivesWire = match files::read(vm_folder, files::EXTRA) {
        Ok(wire) => wire,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    for drive in wire.drives.iter_mut().filter(|drive| drive.path.starts_with('/')) {
        drive.path = image(config, &drive.path)?.to_string_lossy().into_owned();
    }
    for shared in &mut wire.folders {
        // A guest mounts it by the name that it was given.
        let real = folder(config, &shared.path)?;
        if real != Path::new(&shared.path) {
            let source =
                io::Error::other(format!("it leads to {}, which is what has to be mounted", real.display()));
            return Err(StepError::io("sharing", &shared.path, source));
        }
    }
    files::write(vm_folder, files::DRIVES, &wire).map_err(|error| match error {
        files::FileError::Write { name, source } => StepError::io("writing", vm_folder.join(name), source),
        other => other.into(),
    })?;
    Ok(Some(wire))
}

/// Returns what the guest is told besides; none where there is nothing to tell.
pub(super) fn seed_of(vm: &Vm) -> Option<SeedMoreWire> {
    let setup = &vm.setup;
    let device = |mount: &Mount| {
        let letter = drives(vm).find_map(|(letter, content)| match content {
            Content::Mount(there) if std::ptr::eq(there, mount) => Some(letter),
            Content::Mount(_) | Content::Swap(_) => None,
        });
        letter.map_or_else(|| "none".to_owned(), |letter| format!("/dev/ubd{letter}"))
    };
    let options = |mount: &Mount| match (&mount.source, &mount.options) {
        // What it takes for a device stands among its options.
        (MountSource::Folder(path), None) => Some(path.clone()),
        (MountSource::Folder(path), Some(options)) => Some(format!("{path},{options}")),
        (MountSource::Disk(_) | MountSource::Image(_), options) => options.clone(),
    };
    let swap = drives(vm).find(|(_, content)| matches!(content, Content::Swap(_)));
    let text = |names: &[mln_protocol::id::Name]| names.iter().map(|name| name.to_string()).collect();
    let more = SeedMoreWire {
        version: SEED_VERSION,
        groups: setup.groups.iter().map(|group| (group.name.to_string(), text(&group.members))).collect(),
        mounts: setup
            .mounts
            .iter()
            .map(|mount| SeedMountWire {
                device: device(mount),
                at: mount.at.clone(),
                file_system: mount.file_system.clone(),
                options: options(mount),
            })
            .collect(),
        swap: swap.map(|(letter, _)| format!("/dev/ubd{letter}")),
        shutdown: setup.shutdown.clone(),
    };
    let is_nothing =
        more.groups.is_empty() && more.mounts.is_empty() && more.swap.is_none() && more.shutdown.is_empty();
    (!is_nothing).then_some(more)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use mln_protocol::{lang, resolve};

    /// Returns each disk's first byte as it was written, or a dash where the disk is new, with its size in MiB.
    pub(in crate::platform::uml) fn shown(folder: &Path) -> String {
        let one = |letter: char| {
            let file = File::open(folder.join(file_of(letter))).ok()?;
            let mut first = [0];
            file.read_exact_at(&mut first, 0).expect("reads");
            let was = if first == [0] { '-' } else { char::from(first[0]) };
            Some(format!("{letter}:{was}{}", file.metadata().expect("is there").len() >> 20))
        };
        DRIVE_LETTERS.into_iter().filter_map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn large_disks_take_room_at_once_for_the_maps_of_their_blocks() {
        let text = "host vm { swap 4T; mount { 8T /a ext4; 1G /b ext4; /srv/a.img /c ext4 } }\n";
        let (tree, _) = lang::parse("p.mln", text.to_owned(), &lang::NoIncludes);
        let project = resolve::resolve(&tree, &resolve::Options::default()).project;
        let mib: Vec<u64> = project.vms.iter().map(|vm| bytes_at_once(vm) >> 20).collect();
        assert_eq!(mib, [1024]);
    }
}
