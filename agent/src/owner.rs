//! The owner file: on which machine, and in which file, this host's key was first used. A data folder that was copied,
//! put back from a backup or carried to another machine is noticed by it before anything is signed.
//!
//! It knows nothing of what others have heard under the key: that is asked of them, later, by the node.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::identity::{IdentityError, KEY_FILE, replace_file};

/// The file's name in the data folder.
pub(crate) const OWNER_FILE: &str = "owner";

/// Where systems keep the machine's id, the usual place first.
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    /// The machine's id; empty where it has none.
    machine: String,
    /// The inode of the file with the key.
    inode: u64,
    /// When that file was made, in nanoseconds since 1970, where the file system says it: numbers of inodes are used
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_unix_ns: Option<u64>,
}

/// Why this folder may not be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnerError {
    /// It isn't where it was.
    #[error(
        "{} {found}: if two hosts run with one key, disks are lost. If this is the right one, and the other is gone or \
         switched off for good, say so: mlnd confirm --data {}. If it is a copy, remove it and join under another name: \
         mlnd join TOKEN --name HOST --data DIR",
        folder.display(),
        folder.display()
    )]
    Elsewhere {
        /// The data folder.
        folder: PathBuf,
        /// What differs.
        found: Difference,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged: {why}; if no copy of this folder is in use, say so: mlnd confirm --data {}",
        path.display(),
        path.parent().unwrap_or(Path::new(".")).display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In what.
        why: toml::de::Error,
    },
    /// A file can't be read.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file can't be written.
    #[error(transparent)]
    Written(#[from] IdentityError),
}

/// In what a folder isn't where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Difference {
    /// The machine has another id.
    #[error("was used on another machine")]
    Machine,
    /// The key is in another file.
    #[error("is a copy of the folder that was used, or was put back from one")]
    File,
}

/// Looks whether a data folder is where it was when it was last confirmed; one that has no such file yet gets one.
pub(crate) fn check(folder: &Path) -> Result<(), OwnerError> {
    check_on(folder, &machine_id())
}

/// Takes down that this folder, here and now, is the right one. Says so although it was another one before.
pub(crate) fn confirm(folder: &Path) -> Result<(), OwnerError> {
    write(folder, &found(folder, &machine_id())?)
}

fn check_on(folder: &Path, machine: &str) -> Result<(), OwnerError> {
    let path = folder.join(OWNER_FILE);
    let found = found(folder, machine)?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return write(folder, &found),
        Err(source) => return Err(OwnerError::File { path, source }),
    };
    let noted: Owner = toml::from_str(&text).map_err(|why| OwnerError::Damaged { path, why })?;
    match noted.differs(&found) {
        None => Ok(()),
        Some(difference) => Err(OwnerError::Elsewhere { folder: folder.to_owned(), found: difference }),
    }
}

impl Owner {
    /// Returns in what another one differs. What one of them doesn't know is no difference.
    fn differs(&self, other: &Self) -> Option<Difference> {
        let known = !self.machine.is_empty() && !other.machine.is_empty();
        if known && self.machine != other.machine {
            return Some(Difference::Machine);
        }
        let times = self.made_unix_ns.zip(other.made_unix_ns);
        let same = self.inode == other.inode && times.is_none_or(|(one, other)| one == other);
        (!same).then_some(Difference::File)
    }
}

fn found(folder: &Path, machine: &str) -> Result<Owner, OwnerError> {
    let path = folder.join(KEY_FILE);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(source) => return Err(OwnerError::File { path, source }),
    };
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    Ok(Owner {
        machine: machine.to_owned(),
        inode: metadata.ino(),
        made_unix_ns: made.and_then(|made| u64::try_from(made.as_nanos()).ok()),
    })
}

fn write(folder: &Path, owner: &Owner) -> Result<(), OwnerError> {
    let text = toml::to_string(owner).expect("a string and two numbers are TOML");
    Ok(replace_file(&folder.join(OWNER_FILE), text.as_bytes(), 0o644)?)
}

fn machine_id() -> String {
    let read = |path: &&str| fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty());
    MACHINE_ID_FILES.iter().find_map(read).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a key, and a copy of it.
    fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
        let (folder, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        fs::write(folder.path().join(KEY_FILE), "secret").expect("it is ours");
        check_on(folder.path(), "a").expect("it had no owner yet");
        for name in [KEY_FILE, OWNER_FILE] {
            fs::copy(folder.path().join(name), copy.path().join(name)).expect("it is there");
        }
        (folder, copy)
    }

    #[track_caller]
    fn differs(folder: &Path, machine: &str, expect: Difference) {
        match check_on(folder, machine) {
            Err(OwnerError::Elsewhere { found, .. }) => assert_eq!(found, expect),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_copied_folder_is_noticed_until_somebody_says_that_it_is_the_right_one() {
        let (folder, copy) = folders();
        check_on(folder.path(), "a").expect("it is where it was");
        differs(copy.path(), "a", Difference::File);
        let error = check_on(copy.path(), "a").expect_err("it is still a copy").to_string();
        assert!(error.contains(&format!("mlnd confirm --data {}", copy.path().display())), "{error}");
        confirm(copy.path()).expect("it can be written");
        check(copy.path()).expect("it is the right one");
    }

    #[test]
    fn a_folder_on_another_machine_is_noticed_where_machines_have_ids() {
        let (folder, copy) = folders();
        differs(folder.path(), "b", Difference::Machine);
        check_on(folder.path(), "").expect("a machine without an id says nothing");
        differs(copy.path(), "", Difference::File);
    }

    #[test]
    fn a_damaged_owner_file_is_named() {
        let (folder, _copy) = folders();
        fs::write(folder.path().join(OWNER_FILE), "inode = 'one'").expect("it is ours");
        assert!(matches!(check_on(folder.path(), "a"), Err(OwnerError::Damaged { .. })));
    }
}
