//! What version 3 of a host's part of a project knows of its guests, and the project's hooks.

use serde::{Deserialize, Serialize};

use super::fragment::LINE_BYTES_MAX;
use super::{DecodeError, name, text};
use crate::model::{
    DiskBytes, Fragment, Group, GuestSetup, HookPoint, Hooks, Mount, MountSource, Scheduling, Vm,
};

/// What it adds. Where it is all empty, an earlier version is written.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GuestsWire {
    /// One for each VM, by its place; none at all where no VM has anything.
    guests: Vec<GuestWire>,
    /// By their place in [`HookPoint::ALL`].
    hooks: Vec<(u8, Vec<String>)>,
}

#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
struct GuestWire {
    groups: Vec<(String, Vec<String>)>,
    swap_bytes: Option<u64>,
    mounts: Vec<MountWire>,
    shutdown: Vec<String>,
    nice: Option<i8>,
    cpus: Vec<u16>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct MountWire {
    source: SourceWire,
    at: String,
    file_system: String,
    options: Option<String>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
enum SourceWire {
    Disk(u64),
    Image(String),
    Folder(String),
}

impl From<&Fragment> for GuestsWire {
    fn from(fragment: &Fragment) -> Self {
        let guests: Vec<GuestWire> = fragment.vms.iter().map(GuestWire::from).collect();
        let is_empty = guests.iter().all(|guest| *guest == GuestWire::default());
        let points = (0..).zip(HookPoint::ALL);
        let hooks = points.filter_map(|(index, point)| Some((index, fragment.hooks.lines(point)?.to_vec())));
        Self { guests: if is_empty { Vec::new() } else { guests }, hooks: hooks.collect() }
    }
}

impl GuestsWire {
    /// Adds it to the VMs, and returns the hooks.
    pub(super) fn add_to(self, vms: &mut [Vm]) -> Result<Hooks, DecodeError> {
        if !self.guests.is_empty() && self.guests.len() != vms.len() {
            return Err(DecodeError::Invalid { what: "list of what guests have" });
        }
        for (vm, guest) in vms.iter_mut().zip(self.guests) {
            (vm.setup, vm.scheduling) = guest.setup()?;
        }
        let mut hooks = Hooks::default();
        for (index, lines) in self.hooks {
            let unknown = DecodeError::Unknown { what: "hook", found: index.into() };
            let point = HookPoint::ALL.get(usize::from(index)).copied().ok_or(unknown)?;
            let lines = lines.into_iter().map(|line| text(line, LINE_BYTES_MAX));
            hooks.0.insert(point, lines.collect::<Result<_, _>>()?);
        }
        Ok(hooks)
    }
}

impl From<&Vm> for GuestWire {
    fn from(vm: &Vm) -> Self {
        let setup = &vm.setup;
        let group = |group: &Group| {
            (group.name.to_string(), group.members.iter().map(|member| member.to_string()).collect())
        };
        let mount = |mount: &Mount| MountWire {
            source: match &mount.source {
                MountSource::Disk(bytes) => SourceWire::Disk(bytes.0),
                MountSource::Image(path) => SourceWire::Image(path.clone()),
                MountSource::Folder(path) => SourceWire::Folder(path.clone()),
            },
            at: mount.at.clone(),
            file_system: mount.file_system.clone(),
            options: mount.options.clone(),
        };
        Self {
            groups: setup.groups.iter().map(group).collect(),
            swap_bytes: setup.swap.map(|bytes| bytes.0),
            mounts: setup.mounts.iter().map(mount).collect(),
            shutdown: setup.shutdown.clone(),
            nice: vm.scheduling.nice,
            cpus: vm.scheduling.cpus.clone(),
        }
    }
}

impl GuestWire {
    fn setup(self) -> Result<(GuestSetup, Scheduling), DecodeError> {
        let line = |found| text(found, LINE_BYTES_MAX);
        let group = |(found, members): (String, Vec<String>)| {
            let members = members.iter().map(|member| name(member)).collect::<Result<_, DecodeError>>()?;
            Ok(Group { name: name(&found)?, members })
        };
        // A path that leads elsewhere, or has a second one behind it, is what no file can say.
        let path = |found: String| {
            let has_parts = found.split('/').any(|part| part == "..");
            let is_path = found.starts_with('/') && !has_parts && !found.contains([',', ':', '\0']);
            if is_path { line(found) } else { Err(DecodeError::Invalid { what: "path to mount" }) }
        };
        let mount = |mount: MountWire| {
            Ok(Mount {
                source: match mount.source {
                    SourceWire::Disk(bytes) => MountSource::Disk(DiskBytes(bytes)),
                    SourceWire::Image(found) => MountSource::Image(path(found)?),
                    SourceWire::Folder(found) => MountSource::Folder(path(found)?),
                },
                at: line(mount.at)?,
                file_system: line(mount.file_system)?,
                options: mount.options.map(line).transpose()?,
            })
        };
        if self.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
            return Err(DecodeError::Invalid { what: "niceness" });
        }
        let setup = GuestSetup {
            groups: self.groups.into_iter().map(group).collect::<Result<_, DecodeError>>()?,
            swap: self.swap_bytes.map(DiskBytes),
            mounts: self.mounts.into_iter().map(mount).collect::<Result<_, DecodeError>>()?,
            shutdown: self.shutdown.into_iter().map(line).collect::<Result<_, DecodeError>>()?,
        };
        Ok((setup, Scheduling { nice: self.nice, cpus: self.cpus }))
    }
}
