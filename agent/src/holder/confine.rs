//! What a guest's processes may do with files of the host, should somebody break out of the guest's kernel.
//!
//! Landlock, where the host's kernel has it: it needs no privileges, and what is taken can't be had back.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use mln_protocol::wire::holder::{LaunchWire, PlugWire};
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
/// The working folder is the VM's. Where the host can't do it, the guest runs without, and the log says so.
pub(super) fn confine(launch: &LaunchWire, plugs: &[PlugWire]) {
    match restrict(launch, plugs) {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            warn!("no Landlock on this host: only the guest's kernel keeps it from the host's files");
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "the guest is not confined"),
    }
}

fn restrict(launch: &LaunchWire, plugs: &[PlugWire]) -> Result<RestrictionStatus, RulesetError> {
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
