//! What imports have brought, as long as somebody may still want it from here: the disks of VMs of other hosts, and the names
//! of images. It is noted in a file, so that an agent that ends meanwhile has it all when it is back.
//!
//! ```text
//!   disks and images are here ──► note ──┬─ every VM is built ──► the disks go, the names stay
//!                                        └─ no project came of it ──► the disks go, and the names too
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mln_protocol::id::{Digest, Label, Name};

use crate::identity::replace_file;
use crate::image::ImageStore;

/// The folder in the data folder.
const FOLDER: &str = "imports";

/// What the lines of a note begin with.
const PROJECT: &str = "project ";
const DISK: &str = "disk ";
const IMAGE: &str = "image ";

/// The largest note that is read, in bytes: two thousand disks are far less.
const NOTE_BYTES_MAX: u64 = 4 << 20;

/// What one import has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    /// The contents that disks are built from.
    pub(crate) disks: BTreeSet<Digest>,
    /// The names that images have got, each with its version.
    pub(crate) images: Vec<(Name, String)>,
}

/// The imports of which somebody may still want something.
#[derive(Debug)]
pub(crate) struct Imports {
    folder: PathBuf,
    noted: BTreeMap<Label, Brought>,
}

impl Imports {
    /// Opens the notes in a data folder. One that can't be read is dropped: it is known of no disk then that it is wanted.
    pub(crate) fn open(data: &Path) -> Self {
        let folder = data.join(FOLDER);
        let mut noted = BTreeMap::new();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_small = entry.metadata().is_ok_and(|found| found.len() <= NOTE_BYTES_MAX);
            let text = is_small.then(|| fs::read_to_string(entry.path()).ok()).flatten();
            match text.as_deref().and_then(read) {
                Some((label, brought)) => drop(noted.insert(label, brought)),
                // One that stays is read again at the next start, and is none then either.
                None => drop(fs::remove_file(entry.path())),
            }
        }
        Self { folder, noted }
    }

    /// Where the notes are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes note of what an import has brought of which there is a note already.
    pub(crate) fn add(&mut self, label: Label, brought: Brought) {
        self.noted.insert(label, brought);
    }

    /// Returns the projects of which somebody may still want something.
    pub(crate) fn projects(&self) -> impl Iterator<Item = &Label> {
        self.noted.keys()
    }

    /// Returns the disks that are not to be removed.
    pub(crate) fn disks(&self) -> impl Iterator<Item = Digest> {
        self.noted.values().flat_map(|brought| brought.disks.iter().copied())
    }

    /// Forgets an import: all of its VMs are built.
    pub(crate) fn settled(&mut self, label: &Label) {
        self.noted.remove(label);
        // One that stays is dropped when the agent starts.
        let _ = fs::remove_file(path(&self.folder, label));
    }

    /// Forgets an import of which no project came, and takes the names back that images have got by it.
    pub(crate) fn failed(&mut self, label: &Label, images: &ImageStore) {
        let brought = self.noted.remove(label).unwrap_or_default();
        brought.unname(images);
        let _ = fs::remove_file(path(&self.folder, label));
    }
}

impl Brought {
    /// Notes this durably, for the project that is to come of it. Blocks.
    pub(crate) fn note(&self, folder: &Path, label: &Label) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut text = format!("{PROJECT}{label}\n");
        text.extend(self.disks.iter().map(|disk| format!("{DISK}{disk}\n")));
        text.extend(self.images.iter().map(|(name, version)| format!("{IMAGE}{name} {version}\n")));
        replace_file(&path(folder, label), text.as_bytes(), 0o600).map_err(io::Error::other)
    }

    /// Takes the names back that images have got.
    pub(crate) fn unname(&self, images: &ImageStore) {
        for template in images.list() {
            let is_brought =
                |(name, version): &(Name, String)| (name, version) == (&template.name, &template.version);
            if self.images.iter().any(is_brought)
                && let Err(error) = images.unname(&template)
            {
                tracing::warn!(template = %template.name, %error, "an image keeps its name; mlnctl template rm takes it back");
            }
        }
    }
}

fn path(folder: &Path, label: &Label) -> PathBuf {
    folder.join(Digest::of(label.to_string().as_bytes()).to_string())
}

fn read(text: &str) -> Option<(Label, Brought)> {
    let mut lines = text.lines();
    let (owner, project) = lines.next()?.strip_prefix(PROJECT)?.split_once('/')?;
    let label = Label { owner: Name::parse(owner).ok()?, project: Name::parse(project).ok()? };
    let mut brought = Brought::default();
    for line in lines {
        if let Some(disk) = line.strip_prefix(DISK) {
            brought.disks.insert(Digest::from_hex(disk)?);
        } else {
            let (name, version) = line.strip_prefix(IMAGE)?.split_once(' ')?;
            brought.images.push((Name::parse(name).ok()?, version.to_owned()));
        }
    }
    Some((label, brought))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn what_was_brought_is_known_after_a_restart_until_it_is_settled() {
        let data = tempfile::tempdir().expect("a folder");
        let label = Label { owner: name("ida"), project: name("ring") };
        let brought = Brought {
            disks: BTreeSet::from([Digest([1; 32]), Digest([2; 32])]),
            images: vec![(name("mini"), "7".to_owned())],
        };
        let mut imports = Imports::open(data.path());
        brought.note(imports.folder(), &label).expect("there is room");
        assert_eq!(imports.disks().count(), 0);
        imports.add(label.clone(), brought.clone());
        let torn = data.path().join(FOLDER).join("torn");
        fs::write(&torn, "project ida").expect("there is room");

        let mut imports = Imports::open(data.path());
        assert_eq!(imports.noted, BTreeMap::from([(label.clone(), brought)]));
        assert!(!torn.exists());
        imports.settled(&label);
        assert_eq!(Imports::open(data.path()).projects().count(), 0);
    }
}
