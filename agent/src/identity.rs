//! Who this host is: its key, its name, and the grants that make it a member. Made once, by `init` or `join`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mln_protocol::id::{Name, PublicKey, hex, unhex};
use mln_protocol::trust::{Domain, Grant, KeyPair, Signed, Verb, mesh_of};
use serde::{Deserialize, Serialize};

use crate::store::failpoint::reach;

/// The file with the host's secret key.
pub(crate) const KEY_FILE: &str = "host.key";

/// The file with the mesh's root key, on the host that made the mesh: whoever has it can admit anybody.
const ROOT_KEY_FILE: &str = "root.key";

/// The file with the name and the grants.
const MEMBERSHIP_FILE: &str = "membership.toml";

/// How many further links the first host's grant allows: hosts that join may invite others in turn.
const FIRST_PASSES: u8 = 6;

/// Who this host is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its key.
    pub keys: KeyPair,
    /// Its name in the mesh.
    pub name: Name,
    /// The mesh's root key.
    pub root: PublicKey,
    /// The grants that make it a member, root first.
    pub chain: Vec<Signed>,
    /// What the mesh is called here, on the host that made it.
    pub mesh: Option<String>,
}

/// Why there is no identity. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The data folder has none.
    #[error("{} does not belong to a mesh yet", folder.display())]
    None {
        /// The data folder.
        folder: PathBuf,
    },
    /// The data folder has another one.
    #[error("{} belongs to a mesh already, as {name}; nothing was changed", folder.display())]
    Taken {
        /// The data folder.
        folder: PathBuf,
        /// The name that the host has there.
        name: Name,
    },
    /// The data folder has a mesh of another name.
    #[error("{} belongs to a mesh already, called {mesh}; nothing was changed", folder.display())]
    OtherMesh {
        /// The data folder.
        folder: PathBuf,
        /// What the mesh is called there.
        mesh: String,
    },
    /// A file can't be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is damaged: the host needs a copy of it, or must join again under a new name.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In what.
        what: &'static str,
    },
    /// The system gave no randomness for a key.
    #[error("no randomness for a key: {0}")]
    Randomness(getrandom::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MembershipFile {
    name: String,
    root: String,
    chain: Vec<String>,
    /// Absent where the host joined, and in files of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mesh: Option<String>,
}

impl Identity {
    /// Loads the identity of a data folder.
    pub(crate) fn load(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(MEMBERSHIP_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::None { folder: folder.to_owned() });
            }
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        let damaged = |what| IdentityError::Damaged { path: path.clone(), what };
        let file: MembershipFile = toml::from_str(&text).map_err(|_| damaged("its form"))?;
        let link = |text: &String| {
            let bytes = unhex(text).ok_or_else(|| damaged("a grant"))?;
            Signed::from_bytes(&bytes).map_err(|_| damaged("a grant"))
        };
        Ok(Self {
            keys: load_key(&folder.join(KEY_FILE))?,
            name: Name::parse(&file.name).map_err(|_| damaged("the name"))?,
            root: PublicKey::from_hex(&file.root).ok_or_else(|| damaged("the root key"))?,
            chain: file.chain.iter().map(link).collect::<Result<_, _>>()?,
            mesh: file.mesh,
        })
    }

    /// Makes a new mesh with this host as its first member; or, with the root key of one that there is, a first
    /// host of that one once more. Again with the same names it changes nothing.
    pub(crate) fn init(
        folder: &Path,
        mesh: &str,
        name: &Name,
        root: Option<KeyPair>,
    ) -> Result<Self, IdentityError> {
        if let Some(known) = Self::known(folder, name)? {
            return match &known.mesh {
                Some(other) if other != mesh => {
                    Err(IdentityError::OtherMesh { folder: folder.to_owned(), mesh: other.clone() })
                }
                Some(_) | None => Ok(known),
            };
        }
        make_folder(folder)?;
        let root = match root {
            Some(root) => root,
            None => KeyPair::from_secret(random()?),
        };
        let keys = host_key(folder)?;
        let grant = Grant {
            mesh: mesh_of(root.public()),
            subject: keys.public(),
            name: Some(name.clone()),
            verbs: Verb::ALL.into_iter().collect(),
            passes: FIRST_PASSES,
            not_after_unix_ms: None,
            scope: mln_protocol::trust::Scope::default(),
        };
        let chain = vec![root.sign(Domain::Grant, grant.to_bytes())];
        // The root key first: without it a mesh that seems to be made could never be recovered.
        write_secret(&folder.join(ROOT_KEY_FILE), &root)?;
        let identity =
            Self { keys, name: name.clone(), root: root.public(), chain, mesh: Some(mesh.to_owned()) };
        identity.save(folder)?;
        Ok(identity)
    }

    /// Returns the identity of a data folder that has this name already; none where there is no identity yet.
    pub(crate) fn known(folder: &Path, name: &Name) -> Result<Option<Self>, IdentityError> {
        match Self::load(folder) {
            Ok(known) if known.name == *name => Ok(Some(known)),
            Ok(known) => Err(IdentityError::Taken { folder: folder.to_owned(), name: known.name }),
            Err(IdentityError::None { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a membership that was just given.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        let file = MembershipFile {
            name: self.name.to_string(),
            root: self.root.to_string(),
            chain: self.chain.iter().map(|link| hex(&link.to_bytes())).collect(),
            mesh: self.mesh.clone(),
        };
        let text = toml::to_string(&file).expect("a few strings are TOML");
        replace_file(&folder.join(MEMBERSHIP_FILE), text.as_bytes(), 0o644)
    }
}

/// Makes the data folder, for its owner alone but for passing through to the control socket.
pub(crate) fn make_folder(folder: &Path) -> Result<(), IdentityError> {
    let file = |source| IdentityError::File { path: folder.to_owned(), source };
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(file)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).map_err(file)
}

/// Reads the copy of a mesh's root key that somebody kept.
pub(crate) fn kept_root_key(path: &Path) -> Result<KeyPair, IdentityError> {
    load_key(path)
}

/// Gives a root key the name of its mesh; returns where it is, if it is here.
pub(crate) fn set_root_key_aside(folder: &Path, root: PublicKey) -> Result<Option<PathBuf>, IdentityError> {
    let (here, aside) = (folder.join(ROOT_KEY_FILE), folder.join(format!("root-{}.key", root.short())));
    match fs::rename(&here, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(aside.exists().then_some(aside)),
        Err(source) => Err(IdentityError::File { path: here, source }),
    }
}

/// Takes away what makes a folder belong to a mesh.
pub(crate) fn forget_membership(folder: &Path) -> Result<(), IdentityError> {
    let path = folder.join(MEMBERSHIP_FILE);
    fs::remove_file(&path).map_err(|source| IdentityError::File { path, source })
}

/// Returns the host's key, made if there is none yet: a join that was cut off goes on with the same one.
pub(crate) fn host_key(folder: &Path) -> Result<KeyPair, IdentityError> {
    let path = folder.join(KEY_FILE);
    if path.exists() {
        return load_key(&path);
    }
    let keys = KeyPair::from_secret(random()?);
    write_secret(&path, &keys)?;
    Ok(keys)
}

fn load_key(path: &Path) -> Result<KeyPair, IdentityError> {
    let text =
        fs::read_to_string(path).map_err(|source| IdentityError::File { path: path.to_owned(), source })?;
    let secret = unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
    let damaged = IdentityError::Damaged { path: path.to_owned(), what: "the key" };
    Ok(KeyPair::from_secret(secret.ok_or(damaged)?))
}

fn write_secret(path: &Path, keys: &KeyPair) -> Result<(), IdentityError> {
    replace_file(path, format!("{}\n", hex(&keys.secret())).as_bytes(), 0o600)
}

/// Writes a file so that after a power cut there is the old one or the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let attempt = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        // A name of its own: the same contents may be written twice at once.
        let mut builder = tempfile::Builder::new();
        let mut file =
            builder.prefix(".part-").permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        reach("file-written");
        file.persist(path).map_err(|error| error.error)?;
        reach("file-named");
        fs::File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| IdentityError::File { path: path.to_owned(), source })
}

/// Draws 32 bytes from the system's randomness.
pub(crate) fn random() -> Result<[u8; 32], IdentityError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(IdentityError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::time::Now;
    use mln_protocol::trust::admit;

    #[test]
    fn a_mesh_is_made_once_and_its_key_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = Name::parse("oslo").expect("a name");
        let made = Identity::init(folder.path(), "lab", &name, None).expect("an empty folder");
        let now = Now { mono_ms: 0, unix_ms: 0 };
        assert!(admit(made.root, &made.chain, made.keys.public(), now).is_ok());
        let again = Identity::init(folder.path(), "lab", &name, None).expect("the same name");
        assert_eq!(again.keys.public(), made.keys.public());
        let other = Identity::init(folder.path(), "lab", &Name::parse("bergen").expect("a name"), None);
        assert!(matches!(other, Err(IdentityError::Taken { .. })));
        let other = Identity::init(folder.path(), "office", &name, None);
        assert!(matches!(other, Err(IdentityError::OtherMesh { mesh, .. }) if mesh == "lab"));
        for secret in [KEY_FILE, ROOT_KEY_FILE] {
            let mode = fs::metadata(folder.path().join(secret)).expect("it was written").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }

    #[test]
    fn a_new_first_host_of_an_old_mesh_is_made_from_its_root_key() {
        let (old, new) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let name = |text| Name::parse(text).expect("a name");
        let made = Identity::init(old.path(), "lab", &name("oslo"), None).expect("an empty folder");
        let root = kept_root_key(&old.path().join(ROOT_KEY_FILE)).expect("it was written");
        let next = Identity::init(new.path(), "lab", &name("oslo2"), Some(root)).expect("an empty folder");
        assert_eq!(next.root, made.root);
        assert_ne!(next.keys.public(), made.keys.public());
        let now = Now { mono_ms: 0, unix_ms: 0 };
        assert!(admit(made.root, &next.chain, next.keys.public(), now).is_ok());
        assert!(matches!(
            kept_root_key(&old.path().join(MEMBERSHIP_FILE)),
            Err(IdentityError::Damaged { what: "the key", .. })
        ));
    }

    #[test]
    fn a_damaged_membership_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = Name::parse("oslo").expect("a name");
        Identity::init(folder.path(), "lab", &name, None).expect("an empty folder");
        fs::write(folder.path().join(MEMBERSHIP_FILE), "name = 'oslo'").expect("it is ours");
        assert!(matches!(Identity::load(folder.path()), Err(IdentityError::Damaged { .. })));
    }
}
