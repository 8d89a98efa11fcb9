//! Whether a VM can be built here: all that is known before anything is written.

use mln_protocol::model::{DiskBytes, DiskSize, TemplateRef, Vm};

use super::folder::VmFolders;
use super::{UmlConfig, drives, outside, space};
use crate::image::ImageStore;
use crate::platform::{Checked, Refusal, TemplateFacts};

/// What must be free for a VM: its layer begins with some tens of KB and grows with what it writes.
const DISK_SPACE_MIN: DiskBytes = DiskBytes(64 << 20);
/// The largest disk: the usual file systems of hosts have no files of more than 16 TiB, and a layer is longer than its disk.
pub(super) const DISK_MAX: DiskBytes = DiskBytes(8 << 40);
/// The longest name of an interface that Linux has.
const INTERFACE_NAME_MAX: usize = 15;
/// The most interfaces of a guest; the kernel's limit is higher, this keeps the command line short.
const INTERFACES_MAX: usize = 32;

pub(super) fn check(
    config: &UmlConfig,
    images: &ImageStore,
    folders: &VmFolders,
    vm: &Vm,
    offered: Option<&TemplateFacts>,
) -> Result<Checked, Refusal> {
    if let Some(obstacle) = super::obstacle(config) {
        return Err(Refusal::Platform { obstacle });
    }
    if vm.networks.len() > INTERFACES_MAX {
        return Err(Refusal::TooManyInterfaces { count: vm.networks.len(), limit: INTERFACES_MAX });
    }
    let long = vm.networks.iter().map(|n| &n.name).find(|name| name.as_str().len() > INTERFACE_NAME_MAX);
    if let Some(name) = long {
        return Err(Refusal::InterfaceName { name: name.clone(), limit: INTERFACE_NAME_MAX });
    }
    outside::check(folders, vm)?;
    drives::check(config, vm)?;
    let template = match offered {
        Some(offered) => *offered,
        None => TemplateFacts::from(&images.resolve(&wanted_template(config, vm))?),
    };
    if vm.memory < template.memory_min {
        return Err(Refusal::MemoryTooSmall { memory: vm.memory, least: template.memory_min });
    }
    let disk = disk_bytes(vm.disk, template.file_system_bytes)?;
    // Where the space can't be asked for, the build says what is wrong.
    let folder = &folders.folder;
    let available = space::available(folder).unwrap_or(DISK_SPACE_MIN);
    let more = template.fetch_bytes.saturating_add(drives::bytes_at_once(vm));
    let least = DiskBytes(DISK_SPACE_MIN.0.saturating_add(more));
    if available < least {
        return Err(Refusal::DiskSpace { folder: folder.to_owned(), available, least });
    }
    Ok(Checked { template: template.digest, disk: DiskBytes(disk.unwrap_or(template.file_system_bytes)) })
}

/// Returns what a VM's disk starts from.
pub(super) fn wanted_template(config: &UmlConfig, vm: &Vm) -> TemplateRef {
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
    if bytes > DISK_MAX.0 {
        return Err(Refusal::DiskTooLarge { disk: DiskBytes(bytes), limit: DISK_MAX });
    }
    if bytes < template_bytes {
        return Err(Refusal::DiskSmallerThanTemplate {
            disk: DiskBytes(bytes),
            template: DiskBytes(template_bytes),
        });
    }
    Ok(Some(bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It ended in what the kernel says of a file that is too large.
    #[test]
    fn a_disk_that_no_file_can_hold_is_refused_with_the_limit() {
        let of = |size| disk_bytes(size, 1 << 20);
        assert!(matches!(of(DiskSize::Whole(DISK_MAX)), Ok(Some(bytes)) if bytes == DISK_MAX.0));
        for size in [DiskSize::Whole(DiskBytes(100 << 40)), DiskSize::Free(DISK_MAX)] {
            let refused = of(size).expect_err("it is too large");
            assert!(matches!(refused, Refusal::DiskTooLarge { limit: DISK_MAX, .. }), "{refused}");
        }
    }
}
