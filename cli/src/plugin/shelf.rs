//! Where plugins are, and which of them are believed.
//!
//! Whoever names a plugin in a project must not thereby be able to run a program of theirs: a project file may come from
//! anybody, and is looked at before it is trusted. So a plugin runs if this user has installed it, or if it came with
//! the project and the user says so. And no plugin is run that others could have changed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mln_protocol::id::Name;
use mln_protocol::lang::{Manifest, ManifestError, ManifestLoader};

use super::manifest;

/// The longest manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// How many plugins of a folder are looked through for a name that was meant.
const KNOWN_MAX: usize = 500;
/// Where packages put plugins.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/local/share/mln/plugins", "/usr/share/mln/plugins"];

/// Which plugins may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Those that are installed.
    Installed,
    /// Also those in the folder `plugins` beside the project file.
    OfProject,
}

/// The folders in which plugins are looked for.
#[derive(Debug)]
pub struct Shelf {
    /// Beside the project file.
    own: PathBuf,
    /// Those of this user and this machine.
    installed: Vec<PathBuf>,
    /// The programs of those whose manifests were read.
    found: Mutex<BTreeMap<String, Program>>,
}

/// The program of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) is_beside_project: bool,
}

/// Why a plugin's files are not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoubtError {
    /// The system refuses them.
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// It is no file.
    #[error("{} is no file", path.display())]
    NoFile { path: PathBuf },
    /// Somebody else could have written it.
    #[error("others may write {}: chmod go-w {}", path.display(), path.display())]
    Writable { path: PathBuf },
    /// Somebody else owns it.
    #[error("{} belongs to another user (number {owner})", path.display())]
    Foreign { path: PathBuf, owner: u32 },
    /// Nobody may run it.
    #[error("{} is not executable: chmod +x {}", path.display(), path.display())]
    NotExecutable { path: PathBuf },
}

impl Shelf {
    /// Returns the folders for a project file, those of the environment included.
    pub fn of_project(project: &Path) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let named = variable("MLN_PLUGINS");
        // Whoever leaves an entry empty, or relative, does not thereby mean the current folder.
        let named = named.iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute());
        let configuration = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")));
        let of_user = configuration.map(|folder| folder.join("mln/plugins"));
        let system = SYSTEM_FOLDERS.into_iter().map(PathBuf::from);
        Self::new(project, named.chain(of_user).chain(system).collect())
    }

    /// Returns the folder beside a project file, and others in which the user has installed plugins.
    pub fn new(project: &Path, installed: Vec<PathBuf>) -> Self {
        let folder = project.parent().filter(|folder| !folder.as_os_str().is_empty());
        let own = folder.unwrap_or(Path::new(".")).join("plugins");
        // The path of a program never depends on where it is started.
        let own = std::path::absolute(&own).unwrap_or(own);
        Self { own, installed, found: Mutex::new(BTreeMap::new()) }
    }

    /// Returns the program of a plugin whose manifest was read.
    pub(super) fn program(&self, name: &str) -> Result<Program, DoubtError> {
        let found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let missing = || DoubtError::NoFile { path: PathBuf::from(name) };
        let program = found.get(name).cloned().ok_or_else(missing)?;
        believed(&program.path)?;
        let metadata = metadata(&program.path)?;
        if metadata.mode() & 0o111 == 0 {
            return Err(DoubtError::NotExecutable { path: program.path });
        }
        Ok(program)
    }

    /// Where is looked, in this order. What came with the project is taken for nothing else, so it comes first.
    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.own).chain(&self.installed)
    }

    /// Returns the folder of the project file.
    pub(super) fn project_folder(&self) -> &Path {
        self.own.parent().unwrap_or(Path::new("/"))
    }

    /// Returns the names of plugins that there are.
    fn known(&self) -> Vec<String> {
        let entries = self.folders().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let manifests = entries.take(KNOWN_MAX).filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(".toml")?.to_owned())
        });
        let mut known: Vec<String> = manifests.collect();
        known.sort();
        known.dedup();
        known
    }
}

impl ManifestLoader for Shelf {
    fn manifest(&self, name: &str) -> Result<Manifest, ManifestError> {
        let unusable = |reason: String| ManifestError::Unusable { reason };
        let file = format!("{name}.toml");
        // A name cannot lead out of the folders.
        let is_name = Name::parse(name).is_ok() && !name.starts_with('.');
        let found = self.folders().find(|folder| is_name && folder.join(&file).exists());
        let Some(folder) = found else {
            let searched = self.folders().map(|folder| folder.display().to_string()).collect();
            return Err(ManifestError::NotFound { file, searched, known: self.known() });
        };
        let path = folder.join(&file);
        let text = believed(&path).and_then(|()| read(&path)).map_err(|error| unusable(error.to_string()))?;
        let (manifest, run) = manifest::parse(&text)
            .map_err(|error| unusable(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
        let program = Program {
            path: folder.join(run.as_deref().unwrap_or(name)),
            // A folder that the user names as well is the user's.
            is_beside_project: *folder == self.own && !self.installed.contains(folder),
        };
        let mut programs = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        programs.insert(name.to_owned(), program);
        Ok(manifest)
    }
}

fn metadata(path: &Path) -> Result<Metadata, DoubtError> {
    fs::metadata(path).map_err(|source| DoubtError::Unreadable { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, DoubtError> {
    let unreadable = |source| DoubtError::Unreadable { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, MANIFEST_BYTES_MAX), &mut text).map_err(unreadable)?;
    Ok(text)
}

/// Checks that nobody but this user and root could have written a file, or put another one in its place.
///
/// Links are followed first: what counts is the file that runs, and every folder on the way to it.
fn believed(path: &Path) -> Result<(), DoubtError> {
    let real =
        path.canonicalize().map_err(|source| DoubtError::Unreadable { path: path.to_owned(), source })?;
    if !metadata(&real)?.is_file() {
        return Err(DoubtError::NoFile { path: real });
    }
    let user = rustix::process::geteuid().as_raw();
    // The folder of the link, too: whoever may write there sets another link.
    let link_folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let link_ways = link_folder.iter().flat_map(|folder| folder.ancestors());
    for part in real.ancestors().chain(link_ways) {
        let metadata = metadata(part)?;
        // In a folder with the sticky bit, such as /tmp, others cannot replace what is not theirs.
        let is_sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o022 != 0 && !is_sticky {
            return Err(DoubtError::Writable { path: part.to_owned() });
        }
        if metadata.uid() != user && metadata.uid() != 0 {
            return Err(DoubtError::Foreign { path: part.to_owned(), owner: metadata.uid() });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "shelf_test.rs"]
mod tests;
