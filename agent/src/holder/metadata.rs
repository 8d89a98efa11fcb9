//! The system calls by which modes, owners, times and attributes of the host's files are changed: a guest's process has none.
//!
//! Landlock says nothing of them. A guest that shares a folder (`hostfs`) could by them reach each file of the host of which it
//! knows the name, and leave programs that others run as the agent's user.

use std::collections::BTreeMap;

use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter};

/// What is forbidden; the last two have no names everywhere yet. A ring (`io_uring`) would be a way around.
const FORBIDDEN: [i64; 20] = [
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_io_uring_setup,
    SETXATTRAT,
];
/// `setxattrat`, as all architectures have it.
const SETXATTRAT: i64 = 463;

/// Why they are not forbidden.
#[derive(Debug, thiserror::Error)]
pub(super) enum MetadataError {
    /// This program doesn't know how on this architecture.
    #[error("what changes the modes of files can't be forbidden on this architecture")]
    Filter(#[from] BackendError),
    /// The host's kernel doesn't.
    #[error("the host's kernel does not forbid what changes the modes of files (seccomp)")]
    Refused(#[from] seccompiler::Error),
}

/// Forbids them to this thread and to what it starts, for good.
pub(super) fn forbid() -> Result<(), MetadataError> {
    let rules: BTreeMap<i64, _> = FORBIDDEN.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_process_may_write_a_file_and_not_change_its_mode_its_owner_or_its_times() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        let refused = std::thread::spawn(move || {
            forbid().expect("this kernel can");
            fs::write(&file, "text").expect("that is allowed");
            let mode = fs::set_permissions(&file, fs::Permissions::from_mode(0o4755));
            let owner = std::os::unix::fs::lchown(&file, Some(1), None);
            let time = fs::File::open(&file).and_then(|file| file.set_modified(std::time::UNIX_EPOCH));
            let refused = |result: std::io::Result<()>| result.map_err(|error| error.kind()).err();
            [refused(mode), refused(owner), refused(time)]
        });
        let refused = refused.join().expect("it ends");
        assert_eq!(refused, [Some(std::io::ErrorKind::PermissionDenied); 3]);
    }
}
