//! Whether a VM can be built here: all that is known before anything is written.

use mln_protocol::model::{DiskBytes, DiskSize, MemoryMib, TemplateRef, Vm};

use super::folder::VmFolders;
use super::{UmlConfig, outside, space};
use crate::image::ImageStore;
use crate::platform::{Checked, Refusal};

/// What the template `mini` boots with (40 MiB was measured to work, 36 not).
const MEMORY_MIN: MemoryMib = MemoryMib(40);
/// What must be free for a VM: its layer begins with some tens of KB and grows with what it writes.
const DISK_SPACE_MIN: DiskBytes = DiskBytes(64 << 20);
/// The longest name of an interface that Linux has.
const INTERFACE_NAME_MAX: usize = 15;
/// The most interfaces of a guest; the kernel's limit is higher, this keeps the command line short.
const INTERFACES_MAX: usize = 32;

pub(super) fn check(
    config: &UmlConfig,
    images: &ImageStore,
    folders: &VmFolders,
    vm: &Vm,
) -> Result<Checked, Refusal> {
    if let Some(obstacle) = super::obstacle(config) {
        return Err(Refusal::Platform { obstacle });
    }
    if vm.memory < MEMORY_MIN {
        return Err(Refusal::MemoryTooSmall { memory: vm.memory, least: MEMORY_MIN });
    }
    if vm.networks.len() > INTERFACES_MAX {
        return Err(Refusal::TooManyInterfaces { count: vm.networks.len(), limit: INTERFACES_MAX });
    }
    let long = vm.networks.iter().map(|n| &n.name).find(|name| name.as_str().len() > INTERFACE_NAME_MAX);
    if let Some(name) = long {
        return Err(Refusal::InterfaceName { name: name.clone(), limit: INTERFACE_NAME_MAX });
    }
    outside::check(folders, vm)?;
    let template = images.resolve(&wanted_template(config, vm))?;
    let disk = disk_bytes(vm.disk, template.file_system_bytes)?;
    // Where the space can't be asked for, the build says what is wrong.
    let folder = &folders.folder;
    let available = space::available(folder).unwrap_or(DISK_SPACE_MIN);
    if available < DISK_SPACE_MIN {
        return Err(Refusal::DiskSpace { folder: folder.clone(), available, least: DISK_SPACE_MIN });
    }
    Ok(Checked { template: template.digest, disk: DiskBytes(disk.unwrap_or(template.file_system_bytes)) })
}

fn wanted_template(config: &UmlConfig, vm: &Vm) -> TemplateRef {
    let default = || TemplateRef::Newest(config.default_template.clone());
    vm.template.clone().unwrap_or_else(default)
}

/// Returns how large a file system shall be; none is as it is.
pub(super) fn disk_bytes(size: DiskSize, template_bytes: u64) -> Result<Option<u64>, Refusal> {
    const BLOCK_BYTES: u64 = 4096;
    let bytes = match size {
        DiskSize::Template => return Ok(None),
        DiskSize::Whole(bytes) => bytes.0,
        DiskSize::Free(bytes) => template_bytes.saturating_add(bytes.0),
    };
    if bytes < template_bytes {
        return Err(Refusal::DiskSmallerThanTemplate {
            disk: DiskBytes(bytes),
            template: DiskBytes(template_bytes),
        });
    }
    Ok(Some(bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)))
}
