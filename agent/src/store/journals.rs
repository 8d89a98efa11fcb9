//! All journals of a host: one for each project that it has given its word to, and its own.
//!
//! ```text
//!  DATA/journal                    what the host says of itself
//!  DATA/projects/DIGEST/journal    what it has signed for the project
//!  DATA/fragments/DIGEST           its parts of projects; each file proves itself by its name
//! ```
//!
//! A damaged journal stops its project and nothing else: what it says no more is written nowhere, and what can be
//! read of it gives no right.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use mln_protocol::id::{Digest, ProjectId, PublicKey, hex, unhex};
use mln_protocol::node::{Home, Write};
use mln_protocol::record::Record;
use mln_protocol::wire::{Change, JOURNAL_VERSION, JournalHeader};
use tracing::{error, warn};

use super::failpoint::reach;
use super::journal::{FILE, Journal, JournalError, Opened};
use super::medium::Medium;
use crate::causes::chain;

/// The folder with a folder for each project.
pub(crate) const PROJECTS_FOLDER: &str = "projects";
/// The folder with the parts of projects.
const FRAGMENTS_FOLDER: &str = "fragments";
/// How a part's name begins while it is being written.
const PART: &str = ".part-";

/// Where something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The host's own journal.
    Host,
    /// A project's.
    Project(ProjectId),
    /// A file named by the digest of what is in it.
    Contents(Digest),
    /// The index alone.
    Index,
}

/// All journals of a host.
#[derive(Debug)]
pub(super) struct Journals {
    medium: Box<dyn Medium>,
    data: PathBuf,
    me: PublicKey,
    host: Journal,
    projects: BTreeMap<ProjectId, Journal>,
    stopped: BTreeMap<ProjectId, Stopped>,
    /// Those that have a journal, or get one with the next write.
    begun: BTreeSet<ProjectId>,
    /// The slots of projects in the host's own journal: their project wasn't known when they were written.
    strays: BTreeSet<Vec<u8>>,
    /// Which project a revision belongs to.
    revisions: BTreeMap<Digest, ProjectId>,
}

/// A project whose journal can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Its journal.
    pub path: PathBuf,
    /// Why, for people.
    pub why: String,
}

/// What was found in the journals.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The values of all slots that count, with the project whose journal says so.
    pub(super) values: Vec<(Option<ProjectId>, Vec<u8>)>,
    /// Those of journals that can't be used.
    pub(super) without_right: Vec<Vec<u8>>,
}

/// Why the journals can't be opened at all. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalsError {
    /// A folder or file can't be made or read.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host's own journal can't be used.
    #[error("{}", path.display())]
    Host {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
}

impl JournalsError {
    /// Returns what to do about it where an agent was to run.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::File { path, source } if source.kind() == io::ErrorKind::StorageFull => {
                format!("free some space on the disk with {}", path.display())
            }
            Self::File { path, .. } | Self::Host { path, source: JournalError::Read(_) } => {
                format!(
                    "see that the agent's user may read and write {}, and that its disk is well",
                    path.display()
                )
            }
            Self::Host { path, .. } => format!(
                "what this host has signed is in {}: put it back as it was last, or see docs/operations.md, \"The state is \
                 damaged\"",
                path.display()
            ),
        }
    }
}

impl Journals {
    /// Opens the journals of a data folder, and makes the host's own if there is none.
    pub(super) fn open(
        medium: Box<dyn Medium>,
        data: &Path,
        me: PublicKey,
    ) -> Result<(Self, Found), JournalsError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalsError::File { path, source }
        };
        for name in [PROJECTS_FOLDER, FRAGMENTS_FOLDER] {
            let folder = data.join(name);
            medium.make_folder(&folder).map_err(file(&folder))?;
        }
        medium.sync_folder(data).map_err(file(data))?;
        let header = JournalHeader { version: JOURNAL_VERSION, host: me.0, project: None };
        let host = match Journal::open(&*medium, data, &header) {
            Ok(Some(Opened { journal, .. })) => journal,
            Ok(None) => Journal::create(&*medium, data, header).map_err(file(&data.join(FILE)))?,
            Err(broken) => {
                return Err(JournalsError::Host { path: data.join(FILE), source: broken.error });
            }
        };
        // The host's own slots in here are never asked for as a project's.
        let strays = host.live().keys().cloned().collect();
        let mut found = Found::default();
        found.values.extend(host.live().values().map(|value| (None, value.clone())));
        let mut journals = Self {
            medium,
            data: data.to_owned(),
            me,
            host,
            projects: BTreeMap::new(),
            stopped: BTreeMap::new(),
            begun: BTreeSet::new(),
            strays,
            revisions: BTreeMap::new(),
        };
        journals.open_projects(&mut found)?;
        journals.read_contents(&mut found)?;
        Ok((journals, found))
    }

    fn open_projects(&mut self, found: &mut Found) -> Result<(), JournalsError> {
        let folder = self.data.join(PROJECTS_FOLDER);
        let names = self
            .medium
            .names(&folder)
            .map_err(|source| JournalsError::File { path: folder.clone(), source })?;
        for name in names {
            let Some(project) = name.to_str().and_then(project_of) else { continue };
            let folder = folder.join(&name);
            match Journal::open(&*self.medium, &folder, &self.header(project)) {
                // The power was cut between the folder and its journal.
                Ok(None) => {}
                Ok(Some(Opened { journal, torn_bytes })) => {
                    if torn_bytes > 0 {
                        warn!(journal = %folder.display(), torn_bytes, "an entry that was never durable is cut off");
                    }
                    found.values.extend(journal.live().values().map(|value| (Some(project), value.clone())));
                    self.projects.insert(project, journal);
                    self.begun.insert(project);
                }
                Err(broken) => {
                    let stopped = Stopped { path: folder.join(FILE), why: chain(&broken.error) };
                    error!(journal = %stopped.path.display(), why = stopped.why, "a project is stopped");
                    found.without_right.extend(broken.before.into_values());
                    self.stopped.insert(project, stopped);
                }
            }
        }
        Ok(())
    }

    fn read_contents(&self, found: &mut Found) -> Result<(), JournalsError> {
        let folder = self.data.join(FRAGMENTS_FOLDER);
        let error = |source| JournalsError::File { path: folder.clone(), source };
        for name in self.medium.names(&folder).map_err(error)? {
            let path = folder.join(&name);
            let is_finished = name.to_str().is_some_and(|name| !name.starts_with(PART));
            if is_finished {
                found.values.extend(self.medium.read(&path).map_err(error)?.map(|value| (None, value)));
            } else {
                self.medium.remove(&path).map_err(error)?;
            }
        }
        Ok(())
    }

    /// Stops a project whose journal has something in it that isn't understood: it may be what limits its rights.
    pub(super) fn stop(&mut self, project: ProjectId, why: String) {
        let path = self.data.join(PROJECTS_FOLDER).join(hex(&project.0.0)).join(FILE);
        error!(journal = %path.display(), why, "a project is stopped");
        self.projects.remove(&project);
        self.begun.remove(&project);
        self.stopped.insert(project, Stopped { path, why });
    }

    /// Returns the projects whose journals can't be used.
    pub(super) fn stopped(&self) -> &BTreeMap<ProjectId, Stopped> {
        &self.stopped
    }

    /// Learns which project a revision belongs to.
    pub(super) fn learn(&mut self, write: &Write) {
        if let Write::Record(_, record) | Write::Heard(_, record) = write
            && let Record::Commit(commit) = &***record
        {
            self.revisions.insert(commit.digest, commit.project());
        }
    }

    /// Returns where a write of this slot goes.
    pub(super) fn place(&mut self, write: &Write, slot: &[u8]) -> Place {
        self.learn(write);
        let of = |revision: Digest| self.revisions.get(&revision).copied();
        let place = match write.home(self.me) {
            Home::Project(project) if self.stopped.contains_key(&project) => Place::Index,
            Home::Project(project) => Place::Project(project),
            // One whose project wasn't known stays where it is.
            Home::Revision(_) if self.strays.contains(slot) => Place::Host,
            Home::Revision(revision) => match of(revision) {
                None => {
                    self.strays.insert(slot.to_owned());
                    Place::Host
                }
                Some(project) if self.stopped.contains_key(&project) => Place::Index,
                Some(project) => Place::Project(project),
            },
            Home::Kin(project) => self.beside(Some(project)),
            Home::KinOf(revision) => self.beside(of(revision)),
            Home::Host => Place::Host,
            Home::Contents(digest) => Place::Contents(digest),
            Home::Heard => Place::Index,
        };
        if let Place::Project(project) = place {
            self.begun.insert(project);
        }
        place
    }

    /// Returns where something goes that belongs into a project's journal only if there is one.
    fn beside(&self, project: Option<ProjectId>) -> Place {
        project.filter(|project| self.begun.contains(project)).map_or(Place::Index, Place::Project)
    }

    /// Whether a write is told by a journal that is there, so that the index has nothing to add.
    pub(super) fn tells(&self, write: &Write) -> bool {
        match write.home(self.me) {
            Home::Project(project) => self.projects.contains_key(&project),
            Home::Revision(revision) => {
                self.revisions.get(&revision).is_none_or(|project| self.projects.contains_key(project))
            }
            Home::Host | Home::Contents(_) => true,
            Home::Kin(_) | Home::KinOf(_) | Home::Heard => false,
        }
    }

    /// Returns every slot of every journal.
    pub(super) fn slots(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        std::iter::once(&self.host).chain(self.projects.values()).flat_map(|journal| journal.live().iter())
    }

    /// Makes the changes of one place durable. Where it fails it may be tried again.
    pub(super) fn write(&mut self, place: Place, changes: &[Change]) -> io::Result<()> {
        match place {
            Place::Host => self.host.append(&*self.medium, changes),
            Place::Project(project) => {
                if !self.projects.contains_key(&project) {
                    self.begin(project)?;
                }
                let journal = self.projects.get_mut(&project).expect("it was just begun");
                journal.append(&*self.medium, changes)
            }
            Place::Contents(digest) => changes.iter().try_for_each(|change| self.keep(digest, change)),
            Place::Index => Ok(()),
        }
    }

    fn begin(&mut self, project: ProjectId) -> io::Result<()> {
        let all = self.data.join(PROJECTS_FOLDER);
        let folder = all.join(hex(&project.0.0));
        self.medium.make_folder(&folder)?;
        self.medium.sync_folder(&all)?;
        reach("journal-made");
        let journal = Journal::create(&*self.medium, &folder, self.header(project))?;
        reach("journal-named");
        self.projects.insert(project, journal);
        Ok(())
    }

    fn keep(&self, digest: Digest, change: &Change) -> io::Result<()> {
        let folder = self.data.join(FRAGMENTS_FOLDER);
        let path = folder.join(hex(&digest.0));
        let Some(value) = &change.value else {
            // That it is gone need not be durable: what nobody names is forgotten at the next start.
            return self.medium.remove(&path);
        };
        let part = folder.join(format!("{PART}{}", hex(&digest.0)));
        let put = || {
            self.medium.put(&part, value)?;
            self.medium.sync(&part)?;
            reach("contents-written");
            self.medium.rename(&part, &path)?;
            reach("contents-named");
            self.medium.sync_folder(&folder)
        };
        let done = put();
        if done.is_err() {
            let _ = self.medium.remove(&part);
        }
        done
    }

    fn header(&self, project: ProjectId) -> JournalHeader {
        JournalHeader { version: JOURNAL_VERSION, host: self.me.0, project: Some(project.0.0) }
    }
}

fn project_of(name: &str) -> Option<ProjectId> {
    Some(ProjectId(Digest(unhex(name)?.try_into().ok()?)))
}
