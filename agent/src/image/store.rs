//! The store of templates: immutable files by digest, and the names that lead to them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mln_protocol::id::{Digest, Name};
use mln_protocol::model::{MemoryMib, TemplateRef};
use mln_protocol::wire::{MANIFEST_BYTES_MAX, Manifest};

use super::error::ImageError;
use super::part::Fetching;
use super::sparse;
use super::work::WorkFolder;
use crate::ext4::{Ext4Size, SUPERBLOCK_OFFSET};

/// The time of change of every image, in seconds after 1970: layers name it, wherever they are moved.
pub(crate) const IMAGE_MTIME: u32 = 1_000_000_000;
/// Where tools are found that ordinary users don't have in their path.
pub(super) const TOOL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What guests of a template boot with that says nothing else (of `mini` 40 MiB was measured to work, 36 not).
pub(crate) const MEMORY_MIN: MemoryMib = MemoryMib(40);

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What it is called.
    pub name: Name,
    /// Which one of that name.
    pub version: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// When it was added, in milliseconds since 1970.
    pub added_unix_ms: u64,
    /// The length of its file, holes included: the largest that its file system can grow to.
    pub bytes: u64,
    /// The size of its file system.
    pub file_system_bytes: u64,
    /// The least memory that a guest of it boots with.
    pub memory_min: MemoryMib,
}

/// What a template is called that is new to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewName<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Which one of that name.
    pub version: NewVersion<'a>,
    /// The least memory that a guest of it boots with.
    pub memory_min: MemoryMib,
}

/// Which one of its name a new template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewVersion<'a> {
    /// The next number.
    Next,
    /// This one; an error where that stands for another image.
    Exactly(&'a str),
    /// The one that it has where it was made, at this time in milliseconds since 1970; where that is taken here, the
    /// next number.
    Elsewhere(&'a str, u64),
}

/// The store of images in one folder.
#[derive(Debug, Clone)]
pub struct ImageStore {
    folder: PathBuf,
    fetching: Fetching,
    /// Held by those who are about to use an image, and exclusively by those who remove what nobody uses.
    uses: Arc<RwLock<()>>,
}

/// While it exists, no image vanishes.
#[derive(Debug)]
pub struct Holding<'a> {
    _guard: RwLockReadGuard<'a, ()>,
}

/// While it exists, nobody begins to use an image.
#[derive(Debug)]
pub struct Exclusive<'a> {
    _guard: RwLockWriteGuard<'a, ()>,
}

impl ImageStore {
    /// Opens the store in `folder`, which is made if it isn't there. Templates of a store that has no manifests yet are
    /// given theirs, and with it another digest; VMs that use the old one still find it.
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        let write = |source| ImageError::write(folder, source);
        fs::create_dir_all(folder.join("names")).map_err(write)?;
        let folder = folder.canonicalize().map_err(write)?;
        let store = Self { folder, fetching: Fetching::default(), uses: Arc::default() };
        for template in store.list() {
            if !store.manifest_path(&template.digest).exists() {
                store.take_over(&template)?;
            }
        }
        Ok(store)
    }

    /// Returns the store's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns where the bytes of an image are, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.img"))
    }

    /// Whether an image is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Keeps images from vanishing, for who is about to use one.
    pub fn hold(&self) -> Holding<'_> {
        Holding { _guard: self.uses.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Waits until nobody is about to use an image, and keeps it so.
    pub fn exclusive(&self) -> Exclusive<'_> {
        Exclusive { _guard: self.uses.write().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Adds a copy of `file` as a template.
    ///
    /// Adding the same bytes under the same name again changes nothing.
    pub fn add(&self, file: &Path, new: &NewName<'_>) -> Result<Template, ImageError> {
        check_version(new)?;
        let work = self.work_folder()?;
        let image = work.path().join("image");
        let read = |source| ImageError::Read { path: file.to_owned(), source };
        let from = File::open(file).map_err(read)?;
        file_system_size(&from, file)?;
        let copied = File::options().read(true).write(true).create_new(true).open(&image).and_then(|to| {
            sparse::copy(&from, &to)?;
            Ok(to)
        });
        let to = copied.map_err(|source| ImageError::write(&image, source))?;
        let manifest = manifest_of(&to, &image)?;
        let digest = manifest.digest();
        if !self.has(&digest) {
            self.keep_manifest(&digest, &manifest)?;
            self.settle(&image, &self.path(&digest))?;
        }
        self.name(new, &digest)
    }

    /// Returns the manifest of an image that is here.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, ImageError> {
        let path = self.manifest_path(digest);
        let length = path.metadata().map_or(0, |metadata| metadata.len());
        if length > MANIFEST_BYTES_MAX as u64 {
            return Err(ImageError::Manifest { path, source: None });
        }
        let bytes = fs::read(&path).map_err(|source| ImageError::Read { path: path.clone(), source })?;
        if Digest::of(&bytes) != *digest {
            return Err(ImageError::Manifest { path, source: None });
        }
        Manifest::from_bytes(&bytes).map_err(|source| ImageError::Manifest { path, source: Some(source) })
    }

    /// Returns the manifests of those images for which `wanted` says so. What can't be read isn't in it.
    pub(super) fn manifests(&self, wanted: impl Fn(&Digest) -> bool) -> Vec<(Digest, Manifest)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let digests = entries
            .filter_map(|entry| Digest::from_hex(entry.file_name().to_str()?.strip_suffix(".manifest")?));
        let mut digests: Vec<Digest> = digests.filter(|digest| wanted(digest) && self.has(digest)).collect();
        digests.sort();
        digests.into_iter().filter_map(|digest| Some((digest, self.manifest(&digest).ok()?))).collect()
    }

    /// Returns every version of every template, by name, oldest first. What can't be read isn't in it.
    pub fn list(&self) -> Vec<Template> {
        let mut templates: Vec<Template> = self.names().iter().flat_map(|name| self.versions(name)).collect();
        templates.sort_by(|a, b| {
            (&a.name, a.added_unix_ms, &a.version).cmp(&(&b.name, b.added_unix_ms, &b.version))
        });
        templates
    }

    /// Finds a template. One that is wanted by its digest is found under any name.
    pub fn resolve(&self, wanted: &TemplateRef) -> Result<Template, ImageError> {
        let name = wanted.name();
        let mut versions = self.versions(name);
        if let TemplateRef::Exact(_, digest) = wanted {
            let of_name = versions.into_iter().find(|template| template.digest == *digest);
            let found = of_name.or_else(|| self.list().into_iter().find(|t| t.digest == *digest));
            return found.ok_or(ImageError::UnknownDigest { digest: *digest });
        }
        let Some(newest) = versions.last() else {
            return Err(ImageError::UnknownName { name: name.clone(), known: self.names() });
        };
        let found = match wanted {
            TemplateRef::Newest(_) | TemplateRef::Exact(..) => versions.len() - 1,
            TemplateRef::Version(_, version) => {
                let unknown = || ImageError::UnknownVersion {
                    name: name.clone(),
                    version: version.clone(),
                    newest: newest.version.clone(),
                };
                versions.iter().position(|t| t.version == *version).ok_or_else(unknown)?
            }
        };
        Ok(versions.swap_remove(found))
    }

    /// Finds the one template that a name stands for; where it has several versions, one must be said.
    pub fn resolve_one(&self, wanted: &TemplateRef) -> Result<Template, ImageError> {
        if let TemplateRef::Newest(name) = wanted {
            let versions: Vec<String> = self.versions(name).into_iter().map(|t| t.version).collect();
            if versions.len() > 1 {
                return Err(ImageError::SeveralVersions { name: name.clone(), versions });
            }
        }
        self.resolve(wanted)
    }

    /// Takes a name from an image; its bytes stay until [`ImageStore::collect`] finds that nobody uses them.
    pub fn unname(&self, template: &Template) -> Result<(), ImageError> {
        let folder = self.folder.join("names").join(template.name.as_str());
        let path = folder.join(&template.version);
        let remove = || {
            fs::remove_file(&path)?;
            File::open(&folder)?.sync_all()
        };
        remove().map_err(|source| ImageError::write(&path, source))?;
        // Only an empty one goes.
        let _ = fs::remove_dir(&folder);
        Ok(())
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
        let longer = self.longer_path(digest, bytes);
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
        copy().map_err(|source| ImageError::write(&image, source))?;
        self.settle(&image, &longer)?;
        Ok(longer)
    }

    /// Returns the path that [`ImageStore::backing`] gives, without making the file.
    pub(crate) fn backing_path(&self, digest: &Digest, bytes: u64) -> PathBuf {
        let template = self.path(digest);
        match template.metadata() {
            Ok(metadata) if metadata.len() >= bytes => template,
            Ok(_) | Err(_) => self.longer_path(digest, bytes),
        }
    }

    fn longer_path(&self, digest: &Digest, bytes: u64) -> PathBuf {
        self.folder.join(format!("{digest}-{bytes}.img"))
    }

    pub(super) fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.manifest"))
    }

    pub(super) fn part_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.part"))
    }

    pub(super) fn fetching(&self) -> &Fetching {
        &self.fetching
    }

    /// Returns a folder for half-finished work, which vanishes with the value.
    pub(crate) fn work_folder(&self) -> Result<WorkFolder, ImageError> {
        WorkFolder::create(&self.folder).map_err(|source| ImageError::write(&self.folder, source))
    }

    /// Writes an image's manifest, before the image itself: there is none without.
    pub(super) fn keep_manifest(&self, digest: &Digest, manifest: &Manifest) -> Result<(), ImageError> {
        let work = self.work_folder()?;
        let (fresh, path) = (work.path().join("manifest"), self.manifest_path(digest));
        let write = || {
            let file = File::create(&fresh)?;
            file.write_all_at(&manifest.to_bytes(), 0)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|source| ImageError::write(&path, source))
    }

    /// Gives a template of an older store its manifest, and the digest that belongs to it.
    fn take_over(&self, template: &Template) -> Result<(), ImageError> {
        let old = self.path(&template.digest);
        let file = File::open(&old).map_err(|source| ImageError::Read { path: old.clone(), source })?;
        let manifest = manifest_of(&file, &old)?;
        let digest = manifest.digest();
        self.keep_manifest(&digest, &manifest)?;
        let path = self.path(&digest);
        if !path.exists() {
            fs::hard_link(&old, &path).map_err(|source| ImageError::write(&path, source))?;
        }
        self.write_name(&Template { digest, ..template.clone() })?;
        tracing::info!(name = %template.name, version = template.version, digest = %digest.short(), "template taken over");
        Ok(())
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
        settle().map_err(|source| ImageError::write(to, source))
    }

    /// Gives an image that is here a name; one that it has already stays.
    pub(crate) fn name(&self, new: &NewName<'_>, digest: &Digest) -> Result<Template, ImageError> {
        check_version(new)?;
        let name = new.name;
        let versions = self.versions(name);
        let wanted = match new.version {
            NewVersion::Next => None,
            NewVersion::Exactly(version) | NewVersion::Elsewhere(version, _) => Some(version),
        };
        let is_lax = !matches!(new.version, NewVersion::Exactly(_));
        let same =
            versions.iter().find(|t| t.digest == *digest && (is_lax || Some(t.version.as_str()) == wanted));
        if let Some(same) = same {
            return Ok(same.clone());
        }
        let is_taken = |version: &str| versions.iter().any(|t| t.version == version);
        let version = match (wanted, new.version) {
            (Some(version), NewVersion::Exactly(_)) if is_taken(version) => {
                return Err(ImageError::VersionTaken { name: name.clone(), version: version.to_owned() });
            }
            (Some(version), _) if !is_taken(version) => version.to_owned(),
            (Some(_) | None, _) => {
                let numbers = versions.iter().filter_map(|t| t.version.parse::<u64>().ok());
                (numbers.max().unwrap_or(0) + 1).to_string()
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let added_unix_ms = match new.version {
            NewVersion::Elsewhere(_, added) => added.min(now),
            // Newer than all others, also where the clock was set back.
            NewVersion::Next | NewVersion::Exactly(_) => {
                versions.last().map_or(now, |newest| now.max(newest.added_unix_ms + 1))
            }
        };
        let (bytes, file_system_bytes) = self.sizes(digest)?;
        let template = Template {
            name: name.clone(),
            version,
            digest: *digest,
            added_unix_ms,
            bytes,
            file_system_bytes,
            memory_min: new.memory_min,
        };
        self.write_name(&template)?;
        Ok(template)
    }

    fn write_name(&self, template: &Template) -> Result<(), ImageError> {
        let folder = self.folder.join("names").join(template.name.as_str());
        let path = folder.join(&template.version);
        let write = || {
            fs::create_dir_all(&folder)?;
            let fresh = folder.join(".new");
            let file = File::create(&fresh)?;
            let Template { digest, added_unix_ms, memory_min, .. } = template;
            file.write_all_at(format!("{digest} {added_unix_ms} {}\n", memory_min.0).as_bytes(), 0)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&folder)?.sync_all()
        };
        write().map_err(|source| ImageError::write(&path, source))
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
        let mut words = text.split_whitespace();
        let (digest, added) = (Digest::from_hex(words.next()?)?, words.next()?);
        let memory_min = words.next().and_then(|word| word.parse().ok()).map_or(MEMORY_MIN, MemoryMib);
        let path = self.path(&digest);
        let file = File::open(&path).ok()?;
        Some(Template {
            name: name.clone(),
            version: version.to_owned(),
            digest,
            added_unix_ms: added.parse().ok()?,
            bytes: file.metadata().ok()?.len(),
            file_system_bytes: file_system_size(&file, &path).ok()?.bytes(),
            memory_min,
        })
    }
}

/// Returns the names in a folder; what isn't one is something else's.
fn entries(folder: &Path) -> Vec<Name> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Name::parse(entry.file_name().to_str()?).ok()).collect()
}

fn check_version(new: &NewName<'_>) -> Result<(), ImageError> {
    match new.version {
        NewVersion::Next => Ok(()),
        NewVersion::Exactly(text) | NewVersion::Elsewhere(text, _) => {
            Name::parse(text).map(|_| ()).map_err(|_| ImageError::BadVersion { text: text.to_owned() })
        }
    }
}

fn manifest_of(file: &File, path: &Path) -> Result<Manifest, ImageError> {
    let read = |source| ImageError::Read { path: path.to_owned(), source };
    let (bytes, chunks) = sparse::chunks(file).map_err(read)?;
    Manifest::new(bytes, chunks).map_err(|source| ImageError::TooLarge { path: path.to_owned(), source })
}

fn file_system_size(file: &File, path: &Path) -> Result<Ext4Size, ImageError> {
    let mut superblock = [0; 1024];
    let read = file.read_exact_at(&mut superblock, SUPERBLOCK_OFFSET);
    read.ok()
        .and_then(|()| Ext4Size::parse(&superblock))
        .ok_or_else(|| ImageError::NotExt4 { path: path.to_owned() })
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
