//! Contexts: meshes that this user may ask over the network, each with its grants and where agents answer.
//!
//! They are kept in `contexts.toml` in the user's configuration folder, beside the user's key. Nothing of it is
//! touched by commands that don't ask an agent.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mln_protocol::id::{Name, PublicKey, hex, unhex};
use mln_protocol::time::Now;
use mln_protocol::trust::{KeyPair, Signed, Standing, admit};
use serde::{Deserialize, Serialize};

/// The file with the contexts.
const CONTEXTS_FILE: &str = "contexts.toml";

/// What is locked while they are changed.
const LOCK_FILE: &str = "contexts.lock";

/// The file with the user's secret key.
const KEY_FILE: &str = "key";

/// What stands for the agent of this machine where a context is named.
pub const LOCAL: &str = "local";

/// How many addresses a context remembers: as many as are tried.
pub const ADDRESSES_MAX: usize = mln_door::dial::PEERS_TRIED_MAX;

/// Why contexts or the key can't be used. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is no folder for them.
    #[error("there is no home folder, and so no place for keys and contexts")]
    NoHome,
    /// A file can't be read or written.
    #[error("{} can't be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In what.
        what: String,
    },
    /// The key is readable for others.
    #[error("{} can be read by others (mode {mode:o}), so it is no secret", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is a key already.
    #[error("{} is your key already; with --replace it is put aside, and the grants that you have are for that one", .0.display())]
    KeyExists(PathBuf),
    /// There is no such context.
    #[error("there is no context {name}; known: {known}")]
    Unknown {
        /// What was named.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The name is taken by another mesh.
    #[error("the context {0} is of another mesh")]
    Taken(Name),
    /// The system gave no randomness for a key.
    #[error("no randomness for a key: {0}")]
    Randomness(getrandom::Error),
}

/// A mesh that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// What it is called here.
    pub name: Name,
    /// The mesh's root key.
    pub root: PublicKey,
    /// The chain of grants of the user's key, root first.
    pub chain: Vec<Signed>,
    /// Where agents answer, the likeliest first; each ends with who must answer there.
    pub addresses: Vec<String>,
}

/// All contexts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contexts {
    /// The one that is used where none is named; none is the agent of this machine.
    pub current: Option<Name>,
    /// In the order of their names.
    pub all: Vec<Context>,
}

/// Where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// What becomes of a key that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplacedKey {
    /// It is a reason to refuse.
    Refuse,
    /// It stays beside the new one, under its own name.
    PutAside,
}

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// The new one takes its place.
    Replace,
    /// It stays.
    Keep,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    context: Vec<ContextFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextFile {
    name: String,
    root: String,
    addresses: Vec<String>,
    chain: Vec<String>,
}

impl Context {
    /// Returns what the grants prove about a key now, or why nothing.
    pub fn standing(&self, key: PublicKey) -> Result<Standing, mln_protocol::trust::AdmitError> {
        admit(self.root, &self.chain, key, now())
    }

    /// Puts addresses before those that are known; whether that changed anything.
    pub fn learn(&mut self, addresses: impl IntoIterator<Item = String>) -> bool {
        let before = self.addresses.clone();
        let mut all: Vec<String> = Vec::new();
        for address in addresses.into_iter().chain(before.iter().cloned()) {
            if all.len() < ADDRESSES_MAX && !all.contains(&address) {
                all.push(address);
            }
        }
        self.addresses = all;
        self.addresses != before
    }
}

impl Contexts {
    /// Returns a context by its name.
    pub fn named(&self, name: &str) -> Option<&Context> {
        self.all.iter().find(|context| context.name.as_str() == name)
    }

    /// Returns a context by its name, or who there is instead.
    pub fn get(&self, name: &str) -> Result<&Context, ContextError> {
        self.named(name).ok_or_else(|| self.unknown(name))
    }

    /// Returns the one that is used where none is named.
    pub fn current(&self) -> Option<&Context> {
        self.current.as_ref().and_then(|name| self.named(name.as_str()))
    }

    /// Adds a context, or puts it in the place of one of the same mesh; the first one is used from now on.
    pub fn add(&mut self, context: Context) -> Result<(), ContextError> {
        if self.named(context.name.as_str()).is_some_and(|known| known.root != context.root) {
            return Err(ContextError::Taken(context.name));
        }
        if self.all.is_empty() && self.current.is_none() {
            self.current = Some(context.name.clone());
        }
        self.all.retain(|known| known.name != context.name);
        self.all.push(context);
        self.all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Removes a context.
    pub fn remove(&mut self, name: &str) -> Result<(), ContextError> {
        self.get(name)?;
        self.all.retain(|context| context.name.as_str() != name);
        self.current = self.current.take().filter(|current| current.as_str() != name);
        Ok(())
    }

    fn unknown(&self, name: &str) -> ContextError {
        let known: Vec<&str> = self.all.iter().map(|context| context.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        ContextError::Unknown { name: name.to_owned(), known }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: ContextsFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let name = |text: &str| Name::parse(text).map_err(|_| format!("{text:?} is no name"));
        let context = |file: &ContextFile| {
            let link = |text: &String| {
                let bytes = unhex(text).ok_or("a grant is not hexadecimal")?;
                Signed::from_bytes(&bytes).map_err(|_| "a grant can't be read")
            };
            Ok::<_, String>(Context {
                name: name(&file.name)?,
                root: PublicKey::from_hex(&file.root).ok_or("a root key is no key")?,
                chain: file.chain.iter().map(link).collect::<Result<_, _>>()?,
                addresses: file.addresses.iter().take(ADDRESSES_MAX).cloned().collect(),
            })
        };
        Ok(Self {
            current: file.current.as_deref().map(name).transpose()?,
            all: file.context.iter().map(context).collect::<Result<_, _>>()?,
        })
    }

    fn to_text(&self) -> String {
        let context = |context: &Context| ContextFile {
            name: context.name.to_string(),
            root: context.root.to_string(),
            addresses: context.addresses.clone(),
            chain: context.chain.iter().map(|link| hex(&link.to_bytes())).collect(),
        };
        let file = ContextsFile {
            current: self.current.as_ref().map(ToString::to_string),
            context: self.all.iter().map(context).collect(),
        };
        toml::to_string(&file).expect("lists of strings are TOML")
    }
}

impl Home {
    /// Returns the user's: `mln` in `XDG_CONFIG_HOME`, which is `~/.config` unless set.
    pub fn of_user() -> Result<Self, ContextError> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
        Ok(Self(config.ok_or(ContextError::NoHome)?.join("mln")))
    }

    /// Returns the contexts; none where there is no file yet.
    pub fn contexts(&self) -> Result<Contexts, ContextError> {
        let path = self.0.join(CONTEXTS_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Contexts::parse(&text).map_err(|what| ContextError::Damaged { path, what }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
            Err(source) => Err(ContextError::File { path, source }),
        }
    }

    /// Changes the contexts as they are now: what another command has changed meanwhile stays.
    pub fn change<T>(
        &self,
        work: impl FnOnce(&mut Contexts) -> Result<T, ContextError>,
    ) -> Result<T, ContextError> {
        let path = self.0.join(LOCK_FILE);
        let lock = || {
            self.make_folder()?;
            let file = fs::File::create(&path)?;
            file.lock()?;
            Ok(file)
        };
        let _lock = lock().map_err(|source| ContextError::File { path: path.clone(), source })?;
        let mut contexts = self.contexts()?;
        let before = contexts.clone();
        let done = work(&mut contexts)?;
        if contexts != before {
            self.write(CONTEXTS_FILE, contexts.to_text().as_bytes(), Existing::Replace)?;
        }
        Ok(done)
    }

    /// Returns the user's key, made on first need.
    pub fn key(&self) -> Result<KeyPair, ContextError> {
        if let Some(key) = self.kept_key()? {
            return Ok(key);
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(ContextError::Randomness)?;
        // Two may come at once, and grants are for the key that stays: that is the first one.
        self.write(KEY_FILE, format!("{}\n", hex(&secret)).as_bytes(), Existing::Keep)?;
        let vanished = io::ErrorKind::NotFound.into();
        self.kept_key()?.ok_or(ContextError::File { path: self.0.join(KEY_FILE), source: vanished })
    }

    /// Makes a new key.
    pub fn new_key(&self, existing: ReplacedKey) -> Result<(), ContextError> {
        let path = self.0.join(KEY_FILE);
        if path.exists() {
            if existing == ReplacedKey::Refuse {
                return Err(ContextError::KeyExists(path));
            }
            let old = self.kept_key()?.map_or_else(|| "damaged".to_owned(), |key| key.public().short());
            let aside = self.0.join(format!("key-{old}"));
            fs::rename(&path, &aside).map_err(|source| ContextError::File { path, source })?;
        }
        self.key().map(drop)
    }

    fn kept_key(&self) -> Result<Option<KeyPair>, ContextError> {
        let path = self.0.join(KEY_FILE);
        let damaged = || ContextError::Damaged { path: path.clone(), what: "it holds no key".to_owned() };
        let file = |source| ContextError::File { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mode = fs::metadata(&path).map_err(file)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(ContextError::Open { path, mode });
                }
                let secret = unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
                Ok(Some(KeyPair::from_secret(secret.ok_or_else(damaged)?)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file(source)),
        }
    }

    fn make_folder(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Writes a file, for the user alone, so that there is the old one or the new one, also after a power cut.
    fn write(&self, name: &str, bytes: &[u8], existing: Existing) -> Result<(), ContextError> {
        let path = self.0.join(name);
        let attempt = || {
            self.make_folder()?;
            let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            match existing {
                Existing::Replace => drop(file.persist(&path).map_err(|error| error.error)?),
                Existing::Keep => match file.persist_noclobber(&path) {
                    Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error.error);
                    }
                    Ok(_) | Err(_) => {}
                },
            }
            fs::File::open(&self.0)?.sync_all()
        };
        attempt().map_err(|source| ContextError::File { path: path.clone(), source })
    }

    /// Returns one in a folder of a test's.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.join("mln"))
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

/// Returns the time for judging grants here, where only their end is shown: agents judge by their own clocks.
pub(crate) fn now() -> Now {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: 0, unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::trust::Domain;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a valid name")
    }

    fn context(text: &str, seed: u8) -> Context {
        let keys = KeyPair::from_secret([seed; 32]);
        Context {
            name: name(text),
            root: keys.public(),
            chain: vec![keys.sign(Domain::Grant, vec![1, 2, 3])],
            addresses: vec!["/ip4/10.0.0.1/tcp/7117".to_owned()],
        }
    }

    #[test]
    fn contexts_come_back_from_their_file_and_the_first_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home(folder.path().join("mln"));
        let mut contexts = home.contexts().expect("none yet");
        contexts.add(context("lab", 1)).expect("a new name");
        contexts.add(context("club", 2)).expect("a new name");
        let kept = contexts.clone();
        home.change(|now| {
            *now = kept;
            Ok(())
        })
        .expect("it is ours");
        assert_eq!(home.contexts().expect("as saved"), contexts);
        assert_eq!(contexts.current().map(|c| c.name.as_str()), Some("lab"));
        assert!(matches!(contexts.add(context("lab", 3)), Err(ContextError::Taken(_))));
        assert!(
            matches!(contexts.remove("office"), Err(ContextError::Unknown { known, .. }) if known == "club, lab")
        );
        contexts.remove("lab").expect("it is there");
        assert_eq!(contexts.current, None);
    }

    #[test]
    fn a_key_is_made_once_and_must_be_a_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home(folder.path().join("mln"));
        let made = home.key().expect("a new key").public();
        assert_eq!(home.key().expect("the same key").public(), made);
        let path = home.folder().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        assert!(matches!(home.key(), Err(ContextError::Open { mode: 0o644, .. })));
    }

    #[test]
    fn of_two_keys_that_are_made_at_once_all_have_the_first() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let home = Home::at(folder.path());
            let at_once = std::sync::Barrier::new(8);
            let made = std::thread::scope(|scope| {
                let make = || {
                    at_once.wait();
                    home.key().expect("a key").public()
                };
                let makers: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                makers.into_iter().map(|maker| maker.join().expect("ends")).collect::<Vec<_>>()
            });
            assert!(made.iter().all(|key| *key == made[0]), "{made:?}");
        }
    }

    #[test]
    fn what_another_command_has_changed_meanwhile_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        let at_once = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for seed in 1..=8 {
                let (home, at_once) = (&home, &at_once);
                scope.spawn(move || {
                    at_once.wait();
                    let added = home.change(|contexts| contexts.add(context(&format!("lab{seed}"), seed)));
                    added.expect("a new name");
                });
            }
        });
        assert_eq!(home.contexts().expect("as saved").all.len(), 8);
    }

    #[test]
    fn what_answered_goes_first_and_addresses_have_a_limit() {
        let mut lab = context("lab", 1);
        assert!(!lab.learn(["/ip4/10.0.0.1/tcp/7117".to_owned()]));
        assert!(lab.learn((0..40).map(|n| format!("/ip4/10.0.1.{n}/tcp/7117"))));
        assert_eq!(lab.addresses.len(), ADDRESSES_MAX);
        assert_eq!(lab.addresses[0], "/ip4/10.0.1.0/tcp/7117");
    }

    #[test]
    fn a_damaged_file_is_named() {
        assert!(Contexts::parse("current = 'lab'\ncolour = 1").is_err());
        assert!(Contexts::parse("[[context]]\nname = 'a b'\nroot = ''\naddresses = []\nchain = []").is_err());
    }
}
