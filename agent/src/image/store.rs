//! The store of templates: immutable files by digest, and the names that lead to them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mln_protocol::id::{Digest, Name};
use mln_protocol::model::TemplateRef;

use super::sparse;
use crate::ext4::{Ext4Size, SUPERBLOCK_OFFSET};

/// The time of change of every image, in seconds after 1970: layers name it, wherever they are moved.
pub(crate) const IMAGE_MTIME: u32 = 1_000_000_000;
/// Where tools are found that ordinary users don't have in their path.
pub(super) const TOOL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why the store can't do what was asked. What was in it before still is.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no template of that name.
    #[error("there is no template {name:?}; there {}", known_names(known))]
    UnknownName {
        /// The name that was asked for.
        name: Name,
        /// The names that there are.
        known: Vec<Name>,
    },
    /// There is a template of that name, but not this one.
    #[error("template {name:?} has no version {version:?}; the newest is {newest:?}")]
    UnknownVersion {
        /// Its name.
        name: Name,
        /// The version or digest that was asked for.
        version: String,
        /// The newest version that there is.
        newest: String,
    },
    /// A version isn't a name.
    #[error("{text:?} can't be a version")]
    BadVersion {
        /// The version.
        text: String,
    },
    /// A version stands for other bytes already.
    #[error("version {version:?} of template {name:?} has other content; templates never change")]
    VersionTaken {
        /// The template's name.
        name: Name,
        /// The version.
        version: String,
    },
    /// A file has no ext4 file system on it.
    #[error("{} has no ext4 file system", path.display())]
    NotExt4 {
        /// The file.
        path: PathBuf,
    },
    /// The guest agent's binary isn't there.
    #[error("reading the guest agent {}", path.display())]
    GuestAgent {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program can't be run.
    #[error("running {tool} (is the package {package} installed?)")]
    Tool {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{tool}: {text}")]
    ToolFailed {
        /// The program.
        tool: &'static str,
        /// Its complaint.
        text: String,
    },
}

fn known_names(known: &[Name]) -> String {
    match known {
        [] => "is none (make one with `mlnctl template build mini`)".to_owned(),
        names => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            format!("is {}", names.join(", "))
        }
    }
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What it is called.
    pub name: Name,
    /// Which one of that name.
    pub version: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// When it was added, in milliseconds since 1970.
    pub added_unix_ms: u64,
    /// The length of its file, holes included: the largest that its file system can grow to.
    pub bytes: u64,
    /// The size of its file system.
    pub file_system_bytes: u64,
}

/// The store of images in one folder.
#[derive(Debug, Clone)]
pub struct ImageStore {
    folder: PathBuf,
}

impl ImageStore {
    /// Opens the store in `folder`, which is made if it isn't there. Half-written files are removed.
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        let write = |source| ImageError::Write { path: folder.to_owned(), source };
        fs::create_dir_all(folder.join("names")).map_err(write)?;
        let folder = folder.canonicalize().map_err(write)?;
        Ok(Self { folder })
    }

    /// Returns the store's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns where the bytes of a template are, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.img"))
    }

    /// Adds a copy of `file` as a template; without a version it gets the next number.
    ///
    /// Adding the same bytes under the same name again changes nothing.
    pub fn add(&self, file: &Path, name: &Name, version: Option<&str>) -> Result<Template, ImageError> {
        let version = version.map(parse_version).transpose()?;
        let work = self.work_folder()?;
        let image = work.path().join("image");
        let read = |source| ImageError::Read { path: file.to_owned(), source };
        let from = File::open(file).map_err(read)?;
        file_system_size(&from, file)?;
        let copy = || {
            let to = File::create_new(&image)?;
            let digest = sparse::copy(&from, &to)?;
            Ok((digest, to))
        };
        let (digest, _) = copy().map_err(|source| ImageError::Write { path: image.clone(), source })?;
        if !self.path(&digest).exists() {
            self.settle(&image, &self.path(&digest))?;
        }
        self.name(name, version, &digest)
    }

    /// Returns every version of every template, by name, oldest first. What can't be read isn't in it.
    pub fn list(&self) -> Vec<Template> {
        let mut templates: Vec<Template> = self.names().iter().flat_map(|name| self.versions(name)).collect();
        templates.sort_by(|a, b| {
            (&a.name, a.added_unix_ms, &a.version).cmp(&(&b.name, b.added_unix_ms, &b.version))
        });
        templates
    }

    /// Finds a template.
    pub fn resolve(&self, wanted: &TemplateRef) -> Result<Template, ImageError> {
        let name = wanted.name();
        let mut versions = self.versions(name);
        let Some(newest) = versions.last() else {
            return Err(ImageError::UnknownName { name: name.clone(), known: self.names() });
        };
        let unknown = |version: String| ImageError::UnknownVersion {
            name: name.clone(),
            version,
            newest: newest.version.clone(),
        };
        let found = match wanted {
            TemplateRef::Newest(_) => Ok(versions.len() - 1),
            TemplateRef::Version(_, version) => {
                versions.iter().position(|t| &t.version == version).ok_or_else(|| unknown(version.clone()))
            }
            TemplateRef::Exact(_, digest) => {
                versions.iter().position(|t| &t.digest == digest).ok_or_else(|| unknown(digest.to_string()))
            }
        }?;
        Ok(versions.swap_remove(found))
    }

    /// Returns the length of a template's file, and the size of its file system, in bytes.
    pub fn sizes(&self, digest: &Digest) -> Result<(u64, u64), ImageError> {
        let path = self.path(digest);
        let read = |source| ImageError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(read)?;
        Ok((file.metadata().map_err(read)?.len(), file_system_size(&file, &path)?.bytes()))
    }

    /// Returns the file below the layer of a disk of `bytes`: the template, or its bytes in a longer file.
    pub fn backing(&self, digest: &Digest, bytes: u64) -> Result<PathBuf, ImageError> {
        let template = self.path(digest);
        let read = |source| ImageError::Read { path: template.clone(), source };
        let from = File::open(&template).map_err(read)?;
        if from.metadata().map_err(read)?.len() >= bytes {
            return Ok(template);
        }
        let longer = self.folder.join(format!("{digest}-{bytes}.img"));
        if longer.exists() {
            return Ok(longer);
        }
        let work = self.work_folder()?;
        let image = work.path().join("image");
        let copy = || {
            let to = File::create_new(&image)?;
            sparse::copy(&from, &to)?;
            to.set_len(bytes)
        };
        copy().map_err(|source| ImageError::Write { path: image.clone(), source })?;
        self.settle(&image, &longer)?;
        Ok(longer)
    }

    /// Returns a folder for half-finished work, which vanishes with the value.
    pub(super) fn work_folder(&self) -> Result<WorkFolder, ImageError> {
        WorkFolder::create(&self.folder)
            .map_err(|source| ImageError::Write { path: self.folder.clone(), source })
    }

    /// Makes a finished file an image: immutable, durable, and under its name.
    pub(super) fn settle(&self, from: &Path, to: &Path) -> Result<(), ImageError> {
        let settle = || {
            let file = File::options().write(true).open(from)?;
            file.set_modified(UNIX_EPOCH + Duration::from_secs(IMAGE_MTIME.into()))?;
            file.set_permissions(fs::Permissions::from_mode(0o444))?;
            file.sync_all()?;
            fs::rename(from, to)?;
            File::open(&self.folder)?.sync_all()
        };
        settle().map_err(|source| ImageError::Write { path: to.to_owned(), source })
    }

    fn name(&self, name: &Name, version: Option<Name>, digest: &Digest) -> Result<Template, ImageError> {
        let versions = self.versions(name);
        if let Some(same) = versions.iter().find(|t| t.digest == *digest)
            && version.as_ref().is_none_or(|v| v.as_str() == same.version)
        {
            return Ok(same.clone());
        }
        let version = match version {
            Some(version) => version.as_str().to_owned(),
            None => {
                let numbers = versions.iter().filter_map(|t| t.version.parse::<u64>().ok());
                (numbers.max().unwrap_or(0) + 1).to_string()
            }
        };
        if versions.iter().any(|t| t.version == version) {
            return Err(ImageError::VersionTaken { name: name.clone(), version });
        }
        let folder = self.folder.join("names").join(name.as_str());
        let path = folder.join(&version);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        // Newer than all others, also where the clock was set back.
        let added = versions.last().map_or(now, |newest| now.max(newest.added_unix_ms + 1));
        let write = || {
            fs::create_dir_all(&folder)?;
            let fresh = folder.join(".new");
            let file = File::create(&fresh)?;
            file.write_all_at(format!("{digest} {added}\n").as_bytes(), 0)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&folder)?.sync_all()
        };
        write().map_err(|source| ImageError::Write { path: path.clone(), source })?;
        self.template(name, &version).ok_or(ImageError::NotExt4 { path })
    }

    fn names(&self) -> Vec<Name> {
        let mut names: Vec<Name> = entries(&self.folder.join("names"));
        names.sort();
        names
    }

    /// Returns the versions of a template, oldest first.
    fn versions(&self, name: &Name) -> Vec<Template> {
        let names: Vec<Name> = entries(&self.folder.join("names").join(name.as_str()));
        let mut versions: Vec<Template> =
            names.iter().filter_map(|version| self.template(name, version.as_str())).collect();
        versions.sort_by(|a, b| (a.added_unix_ms, &a.version).cmp(&(b.added_unix_ms, &b.version)));
        versions
    }

    fn template(&self, name: &Name, version: &str) -> Option<Template> {
        let text = fs::read_to_string(self.folder.join("names").join(name.as_str()).join(version)).ok()?;
        let (digest, added) = text.trim().split_once(' ')?;
        let digest = Digest::from_hex(digest)?;
        let path = self.path(&digest);
        let file = File::open(&path).ok()?;
        Some(Template {
            name: name.clone(),
            version: version.to_owned(),
            digest,
            added_unix_ms: added.parse().ok()?,
            bytes: file.metadata().ok()?.len(),
            file_system_bytes: file_system_size(&file, &path).ok()?.bytes(),
        })
    }
}

/// Returns the names in a folder; what isn't one is something else's.
fn entries(folder: &Path) -> Vec<Name> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Name::parse(entry.file_name().to_str()?).ok()).collect()
}

fn parse_version(text: &str) -> Result<Name, ImageError> {
    Name::parse(text).map_err(|_| ImageError::BadVersion { text: text.to_owned() })
}

fn file_system_size(file: &File, path: &Path) -> Result<Ext4Size, ImageError> {
    let mut superblock = [0; 1024];
    let read = file.read_exact_at(&mut superblock, SUPERBLOCK_OFFSET);
    read.ok()
        .and_then(|()| Ext4Size::parse(&superblock))
        .ok_or_else(|| ImageError::NotExt4 { path: path.to_owned() })
}

/// A folder for half-finished work, which vanishes with the value.
#[derive(Debug)]
pub(super) struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    fn create(parent: &Path) -> io::Result<Self> {
        // What a process left that was killed; its number is in the name.
        for entry in fs::read_dir(parent)?.flatten() {
            let stale = entry.file_name().to_string_lossy().strip_prefix(".work-").is_some_and(|rest| {
                let pid = rest.split('-').next().unwrap_or_default();
                !Path::new("/proc").join(pid).exists()
            });
            if stale {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = parent.join(format!(".work-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
