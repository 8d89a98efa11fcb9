//! Project files from disk: the file, what it includes, what its plugins make of it, and what it copies into guests.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mln_protocol::id::Name;
use mln_protocol::lang::{self, Code, Diagnostic, LoadError, Rewritten, SourceLoader, Tree};
use mln_protocol::model::{Kept, Mandate, Project};
use mln_protocol::resolve::{Options, PluginFile};

use crate::plugin::{self, Allowed, Plugins, Shelf, Understood};

/// The longest project file or included file, in bytes.
const SOURCE_BYTES_MAX: u64 = 64 << 20;
/// The longest file that is copied into a guest, in bytes.
const GUEST_FILE_BYTES_MAX: u64 = 64 << 20;

/// Whether files for guests are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestFiles {
    /// Their bytes; one that cannot be read is an error.
    Read,
    /// Only whether they are there; one that is not is a warning.
    Look,
    /// Not at all.
    Ignore,
}

/// A project from disk, as well as it could be understood.
#[derive(Debug)]
pub struct LoadedProject {
    /// The text, included files put in: what is signed and sent.
    pub source: String,
    /// The files that guests receive, each once, in the order of their paths; empty unless they were read.
    pub files: Vec<LoadedFile>,
    /// The project; not to be built if one of the diagnostics is an error.
    pub project: Project,
    /// What its VMs may decide.
    pub mandates: BTreeMap<Name, Mandate>,
    /// What the project says that is not carried out yet.
    pub kept: Vec<Kept>,
    /// Everything that is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// The text's tree, in which diagnostics have their places.
    pub tree: Tree,
    /// With what it was resolved.
    pub options: Options,
    /// The files for guests that plugins have made; they are among `files`, too, where those were read.
    pub made_files: Vec<PluginFile>,
}

/// A file that guests receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFile {
    /// Its path as the project has it.
    pub from: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Why a project file could not be read at all. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses it.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else than text.
    #[error("{} is not text in UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

/// Loads a project with the bytes of its files, as for `build`. Plugins that are installed are run.
///
/// Paths in the project are relative to the project file. What is wrong in the project, missing files included,
/// is in the diagnostics.
pub fn load(path: &Path, variables: BTreeMap<String, String>) -> Result<LoadedProject, OpenError> {
    load_with(path, variables, GuestFiles::Read)
}

/// Loads a project, with as much of its files as is asked for.
pub fn load_with(
    path: &Path,
    variables: BTreeMap<String, String>,
    guest_files: GuestFiles,
) -> Result<LoadedProject, OpenError> {
    load_plugged(path, variables, guest_files, Plugins::Run(Allowed::Installed))
}

/// Loads a project, with as much of its files as is asked for, and with plugins or without.
pub fn load_plugged(
    path: &Path,
    variables: BTreeMap<String, String>,
    guest_files: GuestFiles,
    plugins: Plugins,
) -> Result<LoadedProject, OpenError> {
    load_from(&Disk, path, variables, guest_files, plugins)
}

/// Loads a project as it would be with some of its source files rewritten; files for guests are not looked at, and
/// plugins are not run.
pub fn load_rewritten(
    path: &Path,
    variables: BTreeMap<String, String>,
    files: &[Rewritten],
) -> Result<LoadedProject, OpenError> {
    load_from(&RewrittenDisk { files }, path, variables, GuestFiles::Ignore, Plugins::Read)
}

fn load_from(
    loader: &dyn SourceLoader,
    path: &Path,
    variables: BTreeMap<String, String>,
    guest_files: GuestFiles,
    plugins: Plugins,
) -> Result<LoadedProject, OpenError> {
    let path_text = path.to_string_lossy().into_owned();
    let text = match loader.load(&path_text) {
        Ok(text) => text,
        Err(LoadError::NotText) => return Err(OpenError::NotText { path: path.to_owned() }),
        Err(LoadError::NotFound) => {
            let source = io::Error::new(io::ErrorKind::NotFound, "there is no such file");
            return Err(OpenError::Unreadable { path: path.to_owned(), source });
        }
        Err(LoadError::NotAllowed) => {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(OpenError::Unreadable { path: path.to_owned(), source });
        }
        Err(LoadError::Refused { reason }) => {
            return Err(OpenError::Unreadable { path: path.to_owned(), source: io::Error::other(reason) });
        }
    };
    let options = Options { variables, owner: None };
    let shelf = Shelf::of_project(path);
    let Understood { tree, resolved, mut diagnostics, files: made_files } =
        plugin::understand(&path_text, text, loader, &options, &shelf, plugins);
    let mut files = Vec::new();
    if guest_files != GuestFiles::Ignore {
        let folder = path.parent().unwrap_or(Path::new(""));
        for (from, span) in resolved.file_places {
            if let Some(made) = made_files.iter().find(|made| made.from == from) {
                if guest_files == GuestFiles::Read {
                    files.push(LoadedFile { from, bytes: made.bytes.clone(), mode: made.mode });
                }
                continue;
            }
            match (read_guest_file(&folder.join(&from)), guest_files) {
                (Ok((bytes, mode)), GuestFiles::Read) => files.push(LoadedFile { from, bytes, mode }),
                (Ok(_), _) => {}
                (Err(error), wanted) => {
                    let code = if wanted == GuestFiles::Read { Code::FileUnread } else { Code::FileAbsent };
                    let message = format!("the file {from} cannot be read: {error}");
                    let label = "expected a file, its path relative to the project file";
                    diagnostics.push(Diagnostic::new(code, span, message).label(label));
                }
            }
        }
    }
    lang::sort(&mut diagnostics);
    let source = lang::fold(&tree);
    let (project, mandates, kept) = (resolved.project, resolved.mandates, resolved.kept);
    Ok(LoadedProject { source, files, project, mandates, kept, diagnostics, tree, options, made_files })
}

fn read_guest_file(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let bytes = read_at_most(file, GUEST_FILE_BYTES_MAX)?;
    Ok((bytes, metadata.permissions().mode() & 0o7777))
}

fn read_at_most(file: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads sources from disk.
#[derive(Debug)]
struct Disk;

impl SourceLoader for Disk {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        let read = std::fs::File::open(path).and_then(|file| read_at_most(file, SOURCE_BYTES_MAX));
        let bytes = read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LoadError::NotFound,
            _ => LoadError::Refused { reason: error.to_string() },
        })?;
        String::from_utf8(bytes).map_err(|_| LoadError::NotText)
    }
}

/// Reads sources from disk, but for those that were rewritten.
#[derive(Debug)]
struct RewrittenDisk<'f> {
    files: &'f [Rewritten],
}

impl SourceLoader for RewrittenDisk<'_> {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        match self.files.iter().find(|file| file.path == path) {
            Some(file) => Ok(file.text.clone()),
            None => Disk.load(path),
        }
    }
}
