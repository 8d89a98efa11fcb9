//! Leaving a mesh: what makes the folder belong to it is taken away, and nothing that somebody might miss.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::control::{DataFolderLock, LockError};
use crate::identity::{self, Identity, IdentityError};
use crate::platform::uml;

/// What belongs to the mesh, and goes. Templates, the configuration and the events stay.
const OF_THE_MESH: [&str; 8] =
    ["peers", "state", "journal", "projects", "fragments", "blobs", "owner", "host.key"];

/// What came of leaving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The host has left.
    Left {
        /// Where the mesh's root key is kept now, if it was here.
        root_key: Option<PathBuf>,
    },
    /// There was no mesh to leave.
    NoMember,
}

/// Why a host can't leave. It is a member as before, unless a file couldn't be removed: then leaving again goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DepartureError {
    /// It carries VMs.
    #[error(
        "this host carries {}; remove their projects first: mlnctl remove -p PROJECT",
        .0.join(", ")
    )]
    Carries(Vec<String>),
    /// The agent runs.
    #[error("the agent must be stopped first: systemctl stop mlnd, or end `mlnd run`")]
    Lock(#[from] LockError),
    /// The identity can't be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Something can't be looked at or removed.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Leaves the mesh that a data folder belongs to; again, it clears away what was left, or changes nothing.
pub(crate) fn leave(data: &Path) -> Result<Departure, DepartureError> {
    let member = match Identity::load(data) {
        Ok(member) => Some(member),
        Err(IdentityError::None { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    // Leaving may have been cut off; what it left must not be taken for another mesh's.
    if member.is_none() && !OF_THE_MESH.iter().any(|name| data.join(name).exists()) {
        return Ok(Departure::NoMember);
    }
    let _lock = DataFolderLock::take(data)?;
    let vms = data.join("vms");
    let carried = uml::carried(&vms).map_err(|source| DepartureError::File { path: vms, source })?;
    if !carried.is_empty() {
        return Err(DepartureError::Carries(carried));
    }
    // A later `init` makes a root key of its own in this place: the old one must not be in its way.
    let departure = match member {
        Some(member) => {
            let root_key = identity::set_root_key_aside(data, member.root)?;
            identity::forget_membership(data)?;
            Departure::Left { root_key }
        }
        None => Departure::NoMember,
    };
    for name in OF_THE_MESH {
        remove(&data.join(name))?;
    }
    Ok(departure)
}

fn remove(path: &Path) -> Result<(), DepartureError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DepartureError::File { path: path.to_owned(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::Name;

    fn member() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        Identity::init(folder.path(), "lab", &Name::parse("oslo").expect("a name"), None)
            .expect("an empty folder");
        folder
    }

    #[test]
    fn who_has_left_may_make_another_mesh_and_the_root_key_is_kept() {
        let folder = member();
        let root = fs::read(folder.path().join("root.key")).expect("it is the first host");
        let Ok(Departure::Left { root_key: Some(kept) }) = leave(folder.path()) else {
            panic!("nothing is in the way of leaving")
        };
        assert_eq!(fs::read(kept).expect("it is kept"), root);
        assert!(!folder.path().join("host.key").exists());
        assert_eq!(leave(folder.path()).expect("again is harmless"), Departure::NoMember);
        Identity::init(folder.path(), "lab", &Name::parse("bergen").expect("a name"), None)
            .expect("no mesh is left");
    }

    #[test]
    fn leaving_that_was_cut_off_goes_on() {
        let folder = member();
        fs::create_dir(folder.path().join("blobs")).expect("the folder is ours");
        identity::forget_membership(folder.path()).expect("it is the first step");
        assert_eq!(leave(folder.path()).expect("nothing is in the way"), Departure::NoMember);
        for name in OF_THE_MESH {
            assert!(!folder.path().join(name).exists(), "{name} is of the old mesh");
        }
    }

    #[test]
    fn who_carries_a_vm_does_not_leave() {
        let folder = member();
        let vm = folder.path().join("vms/12345678-router1");
        fs::create_dir_all(&vm).expect("the folder is ours");
        // It can't be read; it is somebody's all the same.
        fs::write(vm.join("vm"), b"?").expect("the folder is ours");
        let error = leave(folder.path()).expect_err("it carries a VM");
        assert!(error.to_string().contains("12345678-router1"), "{error}");
        assert!(Identity::load(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_whose_agent_runs_is_left_alone() {
        let folder = member();
        let lock = DataFolderLock::take(folder.path()).expect("nobody has it");
        assert!(matches!(leave(folder.path()), Err(DepartureError::Lock(_))));
        drop(lock);
        assert!(Identity::load(folder.path()).is_ok());
    }
}
