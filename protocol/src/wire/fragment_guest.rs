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
            memory_max: None,
            policies: Vec::new(),
        };
        Ok((setup, Scheduling { nice: self.nice, cpus: self.cpus }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{NoIncludes, parse};
    use crate::resolve::{self, Options};
    use crate::wire::{decode_fragment, encode_fragment};

    fn fragment(inside: &str, hooks: &str) -> Fragment {
        let text = format!("global {{ project p; {hooks} }}\nhost a {{ {inside} }}\nhost b {{ }}");
        let (tree, diagnostics) = parse("p.mln", text, &NoIncludes);
        let resolved = resolve::resolve(&tree, &Options::default());
        assert_eq!((diagnostics.len(), resolved.diagnostics.len()), (0, 0), "{:?}", resolved.diagnostics);
        Fragment { vms: resolved.project.vms, hooks: resolved.project.hooks, ..Fragment::default() }
    }

    const SETUP: &str = "groups { staff { alice bob } }; swap 64M; nice -3; cpus 0-1
        mount { 1G /data ext4 noatime; /srv/a.img /a ext4 ro; /srv/f /f hostfs }
        shutdown { echo bye; }";

    #[test]
    fn what_guests_have_comes_back_as_it_was() {
        for (inside, hooks) in
            [(SETUP, ""), ("", "afterHostsStop { true }"), (SETUP, "beforeProjectStart { x }")]
        {
            let fragment = fragment(inside, hooks);
            let bytes = encode_fragment(&fragment);
            assert_eq!(bytes[..2], [3, 0]);
            assert_eq!(decode_fragment(&bytes), Ok(fragment));
        }
    }

    #[test]
    fn a_part_without_any_of_it_is_encoded_as_before() {
        assert_eq!(encode_fragment(&fragment("", ""))[..2], [1, 0]);
        assert_eq!(encode_fragment(&fragment("modules { tun }", ""))[..2], [2, 0]);
    }

    #[test]
    fn a_path_that_no_file_can_say_is_refused() {
        let good = fragment("mount { /srv/aaaaaaa /a ext4 }", "");
        let bytes = encode_fragment(&good);
        let at = bytes.windows(12).position(|window| window == b"/srv/aaaaaaa").expect("it is in there");
        for path in [b"/srv/../aaaa", b"/srv/aaa,aaa", b"relative/aaa"] {
            let mut bad = bytes.clone();
            bad[at..at + 12].copy_from_slice(path);
            assert!(matches!(decode_fragment(&bad), Err(DecodeError::Invalid { .. })));
        }
    }
}
