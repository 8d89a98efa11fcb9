//! What a guest's processes may do with files of the host, should somebody break out of the guest's kernel.
//!
//! Landlock, where the host's kernel has it: it needs no privileges, and what is taken can't be had back. It says nothing of
//! modes, owners and times, so what changes those is forbidden besides: see [`metadata`].

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use mln_protocol::wire::holder::{DrivesWire, LaunchWire, PlugWire};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use tracing::warn;

use super::files::{DISK, SEED, UML_FOLDER};
use super::metadata;

/// Programs and libraries: nothing in there is secret.
const SYSTEM: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];
/// What the kernel and the dynamic linker read.
/// More of `/proc` would be the memory of the host, where the agent is root: `/proc/kcore`.
const READ: [&str; 3] = ["/etc/ld.so.cache", "/proc/cpuinfo", "/dev/random"];

/// What taps are attached to by.
const TUN: &str = "/dev/net/tun";

/// A file or folder of the host that a guest may use, and how.
struct Share {
    fd: OwnedFd,
    access: BitFlags<AccessFs>,
}

/// Takes from this thread, and from what it starts, all of the host's files that a guest doesn't need.
///
/// The working folder is the VM's. Where the host can't do it, the guest runs without, and the log says so; one that
/// shares folders of the host doesn't run, because nothing else would keep it in them.
pub(super) fn confine(launch: &LaunchWire, plugs: &[PlugWire], drives: &DrivesWire) -> io::Result<()> {
    let shares = shares(drives)?;
    let status = restrict(launch, plugs, drives, shares);
    let is_confined = status.as_ref().is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced);
    if !drives.folders.is_empty() && !is_confined {
        return Err(io::Error::other(
            "it shares folders of the host, whose kernel has no Landlock to keep it in them",
        ));
    }
    match status {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            warn!("no Landlock on this host: only the guest's kernel keeps it from the host's files");
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "the guest is not confined"),
    }
    match metadata::forbid() {
        Err(error) if !drives.folders.is_empty() => Err(io::Error::other(error)),
        Err(error) => {
            warn!(%error, "the guest's process may change modes and owners of the host's files");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Returns whether this host's kernel can keep a process from files.
pub fn is_available() -> bool {
    let restrict = || -> Result<RestrictionStatus, RulesetError> {
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute)?.create()?;
        let root = PathFd::new("/").map(|root| PathBeneath::new(root, AccessFs::Execute));
        let ruleset = match root {
            Ok(root) => ruleset.add_rule(root)?,
            Err(_) => ruleset,
        };
        ruleset.restrict_self()
    };
    let probe = move || {
        let is_restricted = restrict().is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced);
        is_restricted && metadata::forbid().is_ok()
    };
    // In a thread of its own, which is confined from then on.
    std::thread::spawn(probe).join().unwrap_or(false)
}

/// Opens what a guest is given of the host by its path, which was looked up before: whoever may write there could since have
/// put a link in its place, so none is followed any more. What is opened here is what it gets, whatever lies there later.
fn shares(drives: &DrivesWire) -> io::Result<Vec<Share>> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    // No links and no sockets: others of the host would follow them.
    let change = write | AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::RemoveFile | AccessFs::RemoveDir;
    let of_folder = |read_only: bool| if read_only { read } else { read | change };
    // The VM's own disks are relative, and where nobody else writes.
    let images = drives.drives.iter().filter(|drive| drive.path.starts_with('/'));
    let images = images.map(|drive| (&drive.path, of_drive(drive.read_only)));
    let folders = drives.folders.iter().map(|folder| (&folder.path, of_folder(folder.read_only)));
    let open = |(path, access): (&String, BitFlags<AccessFs>)| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(CWD, path.as_str(), flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
            .map_err(|errno| io::Error::other(format!("{path} is not what it was a moment ago: {errno}")))?;
        let is_folder = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory;
        let access = if is_folder { access } else { access & AccessFs::from_file(ABI::V3) };
        Ok(Share { fd, access })
    };
    images.chain(folders).map(open).collect()
}

fn of_drive(read_only: bool) -> BitFlags<AccessFs> {
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    if read_only { AccessFs::ReadFile.into() } else { write }
}

fn restrict(
    launch: &LaunchWire,
    plugs: &[PlugWire],
    drives: &DrivesWire,
    shares: Vec<Share>,
) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    // Links are not among it: the holder would follow them.
    let sockets = write
        | AccessFs::ReadDir
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let mut rules: Vec<(&Path, BitFlags<AccessFs>)> = vec![
        (Path::new(&launch.kernel), AccessFs::ReadFile | AccessFs::Execute),
        (Path::new(&launch.backing), AccessFs::ReadFile.into()),
        (Path::new(&launch.agent_drive), AccessFs::ReadFile.into()),
        (Path::new(&launch.memory_folder), write | AccessFs::MakeReg | AccessFs::RemoveFile),
        (Path::new(DISK), write),
        (Path::new(SEED), AccessFs::ReadFile.into()),
        (Path::new(UML_FOLDER), sockets),
        (Path::new("/dev/null"), write),
        (Path::new("/dev/zero"), write),
    ];
    let own = drives.drives.iter().filter(|drive| !drive.path.starts_with('/'));
    rules.extend(own.map(|drive| (Path::new(&drive.path), of_drive(drive.read_only))));
    if plugs.iter().any(|plug| matches!(plug, PlugWire::Tap { .. } | PlugWire::AddressedTap { .. })) {
        rules.push((Path::new(TUN), AccessFs::ReadFile | AccessFs::WriteFile));
    }
    rules.extend(SYSTEM.map(|path| (Path::new(path), read | AccessFs::Execute)));
    rules.extend(READ.map(|path| (Path::new(path), read)));
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V3))?.create()?;
    for (path, access) in rules {
        // What isn't there needs no rule.
        let Ok(fd) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V3) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
    }
    for Share { fd, access } in shares {
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
    }
    ruleset.restrict_self()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::wire::holder::{FolderWire, HOLDER_VERSION};

    #[test]
    fn a_share_that_has_become_a_link_is_not_followed() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().canonicalize().expect("is there").join("shared");
        std::fs::create_dir(&path).expect("the folder is ours");
        let folder = FolderWire { path: path.display().to_string(), read_only: false };
        let (drives, cpus) = (Vec::new(), Vec::new());
        let wire = DrivesWire { version: HOLDER_VERSION, drives, folders: vec![folder], nice: None, cpus };
        assert!(shares(&wire).is_ok());
        std::fs::remove_dir(&path).expect("the folder is ours");
        std::os::unix::fs::symlink("/etc", &path).expect("the folder is ours");
        let refused = shares(&wire).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("is not what it was"), "{refused}");
    }
}
