//! Building a VM: its folder appears whole or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use mln_protocol::model::{AddressPlan, Mac, Vm};
use mln_protocol::wire::holder::{HOLDER_VERSION, InterfaceWire, VmFileWire};
use mln_protocol::wire::seed::{
    SEED_VERSION, SeedAddressWire, SeedFileWire, SeedInterfaceWire, SeedUserWire, SeedWire,
};

use super::folder::VmFolders;
use super::{check, configure, drives, imported, outside};
use crate::disk::{Access, Shape};
use crate::holder::files;
use crate::image::{IMAGE_MTIME, ImageStore, cow, seed};
use crate::platform::{BuildRequest, FileContent, FirstContent, StepError};

/// Whom a guest asks for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The modules that a guest loads at each boot, as Debian has them.
const MODULES: &str = "/etc/modules";

/// Builds a VM; one that is there stays as it is.
pub(super) fn build(
    folders: &VmFolders,
    images: &ImageStore,
    request: &BuildRequest,
) -> Result<(), StepError> {
    let folder = folders.path(&request.id);
    if super::whose(&folder, &request.id)? {
        return Ok(());
    }
    let building = folders.building(&request.id);
    let fresh = || -> io::Result<()> {
        if building.exists() {
            fs::remove_dir_all(&building)?;
        }
        fs::DirBuilder::new().mode(files::PRIVATE_FOLDER).create(&building)
    };
    fresh().map_err(|source| StepError::io("making", &building, source))?;
    // Until the folder has its name, nobody sees that it uses an image.
    let _holding = images.hold();
    let built = fill(&building, images, request).and_then(|()| {
        let settle = || -> io::Result<()> {
            fs::rename(&building, &folder)?;
            File::open(&folders.folder)?.sync_all()
        };
        settle().map_err(|source| StepError::io("making", &folder, source))
    });
    if built.is_err() {
        // What can't be removed now is when the agent starts again.
        let _ = fs::remove_dir_all(&building);
    }
    built
}

fn fill(folder: &Path, images: &ImageStore, request: &BuildRequest) -> Result<(), StepError> {
    let (image_bytes, file_system_bytes) = images.sizes(&request.template)?;
    let disk_bytes = check::disk_bytes(request.vm.disk, file_system_bytes)?;
    // What came is as long as it came: where the definition wants more by now, the next start gives it.
    let backing_bytes = match &request.first {
        Some(first) => {
            root_bytes(&**first, image_bytes).map_err(|source| StepError::io("importing", folder, source))?
        }
        None => image_bytes.max(disk_bytes.unwrap_or(0)),
    };
    let backing = images.backing(&request.template, backing_bytes)?;

    let disk = folder.join(files::DISK);
    cow::create(&disk, &backing, backing_bytes, IMAGE_MTIME)
        .map_err(|source| StepError::io("writing", &disk, source))?;
    write_seed(&folder.join(files::SEED), request, disk_bytes)?;
    write(folder, files::OUTSIDE, &outside::outside(request))?;
    write(folder, files::MEMORY, &configure::memory_of(&request.vm))?;
    match &request.first {
        Some(first) => imported::make(folder, first.drives())?,
        None => drives::make(folder, &request.vm)?,
    }
    if let Some(extra) = drives::extra(&request.vm) {
        write(folder, files::EXTRA, &extra)?;
    }
    let vm = VmFileWire {
        version: HOLDER_VERSION,
        birth: request.id.birth.0,
        name: request.id.name.as_str().to_owned(),
        owner: request.label.owner.as_str().to_owned(),
        project: request.label.project.as_str().to_owned(),
        memory_mib: request.vm.memory.0,
        template: request.template.0,
        backing_bytes,
        interfaces: interfaces(request).collect(),
    };
    // It also makes the entries of the folder durable.
    write(folder, files::VM, &vm)?;
    match &request.first {
        Some(first) => {
            write_first(folder, images, &**first)?;
            imported::fit(folder, first.drives(), &request.vm)
        }
        None => Ok(()),
    }
}

/// Returns how long the first drive is that came; an error where it can't be a layer over the image.
fn root_bytes(first: &dyn FirstContent, image_bytes: u64) -> io::Result<u64> {
    let root = first.drives().iter().find(|drive| drive.template.is_some());
    root.map(|root| root.bytes).filter(|bytes| *bytes >= image_bytes).ok_or_else(|| {
        let what = "the disk that came is shorter than the image below it";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// Gives new drives what is on them from the start.
fn write_first(folder: &Path, images: &ImageStore, first: &dyn FirstContent) -> Result<(), StepError> {
    let disk = super::copies::disk_in(images, folder.to_owned())?;
    let written = || {
        let drives = disk.open(Access::Read)?;
        let shapes: Vec<_> = drives.iter().map(|drive| drive.shape().clone()).collect();
        if !Shape::are_same(&shapes, first.drives()) {
            let what = "the disk that came is a layer over another image, or has drives that no machine has";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        first.write(disk.clone())?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|source| StepError::io("writing", folder, source))
}

/// Writes the drive that tells the guest what it is, where there is no such file yet.
pub(super) fn write_seed(
    drive: &Path,
    request: &BuildRequest,
    disk_bytes: Option<u64>,
) -> Result<(), StepError> {
    let files: Vec<FileContent> = made_files(&request.vm).chain(request.files.iter().cloned()).collect();
    let contents: Vec<&[u8]> = files.iter().map(|file| &file.bytes[..]).collect();
    let more = drives::seed_of(&request.vm);
    seed::write(drive, &seed_of(request, &files, disk_bytes), more.as_ref(), &contents)
        .map_err(|source| StepError::io("writing", drive, source))
}

pub(super) fn write<T: serde::Serialize>(
    folder: &Path,
    name: &'static str,
    value: &T,
) -> Result<(), StepError> {
    files::write(folder, name, value).map_err(|error| match error {
        files::FileError::Write { name, source } => StepError::io("writing", folder.join(name), source),
        other => other.into(),
    })
}

/// Returns the files that follow from the definition. They come first, so that a file of the project wins.
fn made_files(vm: &Vm) -> impl Iterator<Item = FileContent> {
    let modules: String = vm.modules.iter().map(|module| format!("{module}\n")).collect();
    let made = [(RESOLV_CONF, outside::resolv_conf(vm)), (MODULES, (!modules.is_empty()).then_some(modules))];
    made.into_iter().filter_map(|(path, text)| {
        let bytes = text?.into_bytes();
        Some(FileContent { path: path.to_owned(), mode: 0o644, bytes })
    })
}

pub(super) fn interfaces(request: &BuildRequest) -> impl Iterator<Item = InterfaceWire> {
    let BuildRequest { vm, label, .. } = request;
    vm.networks.iter().map(move |network| {
        let derived = || Mac::derive(&label.owner, &label.project, &vm.name, &network.name);
        InterfaceWire { name: network.name.as_str().to_owned(), mac: network.mac.unwrap_or_else(derived).0 }
    })
}

fn seed_of(request: &BuildRequest, files: &[FileContent], disk_bytes: Option<u64>) -> SeedWire {
    let vm = &request.vm;
    SeedWire {
        version: SEED_VERSION,
        hostname: vm.name.as_str().to_owned(),
        interfaces: interfaces(request)
            .zip(&vm.networks)
            .zip(outside::addresses(vm))
            .map(|((wire, network), (address, gateway))| SeedInterfaceWire {
                mac: wire.mac,
                name: wire.name,
                address: match address {
                    AddressPlan::LinkLocal => SeedAddressWire::LinkLocal,
                    AddressPlan::Dhcp => SeedAddressWire::Dhcp,
                    AddressPlan::Static(address) => {
                        SeedAddressWire::Static { address: address.address, prefix_bits: address.prefix_bits }
                    }
                },
                gateway,
                broadcast: network.broadcast,
            })
            .collect(),
        guest_names: request
            .guest_names
            .iter()
            .map(|(name, address)| (name.as_str().to_owned(), *address))
            .collect(),
        users: vm
            .users
            .iter()
            .map(|user| SeedUserWire {
                name: user.name.as_str().to_owned(),
                password: user.password.clone(),
                home: user.home.clone(),
                uid: user.uid,
            })
            .collect(),
        files: files.iter().map(|file| SeedFileWire { path: file.path.clone(), mode: file.mode }).collect(),
        startup: vm.startup.clone(),
        disk_bytes,
    }
}
