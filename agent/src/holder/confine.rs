//! What a guest's processes may do with files of the host, should somebody break out of the guest's kernel.
//!
//! Landlock, where the host's kernel has it: it needs no privileges, and what is taken can't be had back.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use mln_protocol::wire::holder::{DrivesWire, LaunchWire, PlugWire};
use tracing::warn;

use super::files::{DISK, SEED, UML_FOLDER};

/// Programs and libraries: nothing in there is secret.
const SYSTEM: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];
/// What the kernel and the dynamic linker read.
const READ: [&str; 3] = ["/etc/ld.so.cache", "/proc", "/dev/random"];

/// What taps are attached to by.
const TUN: &str = "/dev/net/tun";

/// Takes from this thread, and from what it starts, all of the host's files that a guest doesn't need.
///
/// The working folder is the VM's. Where the host can't do it, the guest runs without, and the log says so; one that
/// shares folders of the host doesn't run, because nothing else would keep it in them.
pub(super) fn confine(launch: &LaunchWire, plugs: &[PlugWire], drives: &DrivesWire) -> io::Result<()> {
    let status = restrict(launch, plugs, drives);
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
    Ok(())
}

/// Returns whether this host's kernel can keep a process from files.
pub fn is_available() -> bool {
    let probe = || {
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute)?.create()?;
        let root = PathFd::new("/").map(|root| PathBeneath::new(root, AccessFs::Execute));
        let ruleset = match root {
            Ok(root) => ruleset.add_rule(root)?,
            Err(_) => ruleset,
        };
        ruleset.restrict_self()
    };
    // In a thread of its own, which is confined from then on.
    let status: std::thread::Result<Result<RestrictionStatus, RulesetError>> =
        std::thread::spawn(probe).join();
    matches!(status, Ok(Ok(status)) if status.ruleset != RulesetStatus::NotEnforced)
}

fn restrict(
    launch: &LaunchWire,
    plugs: &[PlugWire],
    drives: &DrivesWire,
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
    let of_drive = |read_only: bool| if read_only { AccessFs::ReadFile.into() } else { write };
    rules.extend(drives.drives.iter().map(|drive| (Path::new(&drive.path), of_drive(drive.read_only))));
    // No links and no sockets: others of the host would follow them.
    let of_folder = |read_only: bool| {
        let change =
            write | AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::RemoveFile | AccessFs::RemoveDir;
        if read_only { read } else { read | change }
    };
    rules.extend(drives.folders.iter().map(|folder| (Path::new(&folder.path), of_folder(folder.read_only))));
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
    ruleset.restrict_self()
}
