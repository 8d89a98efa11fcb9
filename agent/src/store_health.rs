//! How the store fares, and what is said about it: in the log, as events, by `status` and by `doctor`.

use std::path::Path;

use mln_protocol::id::ProjectId;
use mln_protocol::node::{Input, Node, Room};

use crate::event_loop::EventLoop;
use crate::events::Deriver;
use crate::store::{FULL_BYTES, Findings, PROJECTS_FOLDER, StoreNews, broken_indexes};

/// How the store fares.
#[derive(Clone, Debug)]
pub(crate) struct StoreHealth {
    findings: Findings,
    room: Room,
    /// Why nothing can be made durable.
    failing: Option<String>,
}

/// What `doctor` is told of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreFacts {
    /// Why nothing can be made durable.
    pub failing: Option<String>,
    /// The projects that are stopped, and why.
    pub stopped: Vec<String>,
    /// The folders of indexes that were set aside.
    pub set_aside: Vec<String>,
}

impl StoreFacts {
    /// Returns what can be seen without an agent.
    pub(crate) fn of_folder(data: &Path) -> Self {
        let broken = broken_indexes(data).unwrap_or_default();
        let set_aside = broken.iter().map(|path| path.display().to_string()).collect();
        Self { set_aside, ..Self::default() }
    }
}

impl StoreHealth {
    /// Returns the health of a store that was just opened.
    pub(crate) fn new(findings: Findings) -> Self {
        Self { findings, room: Room::Ample, failing: None }
    }

    /// Returns what operators should know at once; none where all is well.
    pub(crate) fn warning(&self) -> Option<String> {
        match (&self.failing, self.room) {
            (Some(why), _) => Some(format!(
                "this host can't write down what it does ({why}): what is asked of it waits until it can; \
                 try: mlnctl doctor"
            )),
            (None, Room::Full) => Some(format!(
                "the disk of this host has less than {} MiB left: nothing new is built on it; try: mlnctl doctor",
                FULL_BYTES >> 20
            )),
            (None, Room::Ample) => None,
        }
    }

    /// Returns what `doctor` should know.
    pub(crate) fn facts(&self, data: &Path, node: &Node) -> StoreFacts {
        let label = |project: ProjectId| {
            node.label(project).map_or_else(|| project.0.to_string(), |label| label.to_string())
        };
        let damaged = self.findings.stopped.iter().map(|(project, stopped)| {
            format!("{}: {}: {}", label(*project), stopped.path.display(), stopped.why)
        });
        let lost =
            node.forgotten().filter(|project| !self.findings.stopped.contains_key(project)).map(|project| {
                let path = data.join(PROJECTS_FOLDER).join(project.0.to_string());
                format!("{}: its journal is not there: {}", label(project), path.display())
            });
        StoreFacts {
            failing: self.failing.clone(),
            stopped: damaged.chain(lost).collect(),
            ..StoreFacts::of_folder(data)
        }
    }
}

impl EventLoop {
    /// Says what was wrong with the store when it was opened.
    pub(crate) fn note_findings(&mut self) {
        let Findings { set_aside, stopped } = self.store.findings.clone();
        if let Some(why) = set_aside {
            self.note(|deriver, now| Some(index_set_aside(deriver, &why, now)));
        }
        for stopped in stopped.into_values() {
            let text = format!("a project is stopped: {}: {}", stopped.path.display(), stopped.why);
            self.note(|deriver, now| Some(deriver.store(text, now)));
        }
    }

    /// Takes in how the store fares.
    pub(crate) async fn store_news(&mut self, news: StoreNews) {
        match news {
            StoreNews::Room(room) => {
                self.store.room = room;
                let text = match room {
                    Room::Full => "the disk is full: nothing new is built here",
                    Room::Ample => "the disk has room again",
                };
                self.note(|deriver, now| Some(deriver.store(text.to_owned(), now)));
                self.handle(Input::Room(room)).await;
            }
            StoreNews::Failing { why } => {
                self.note(|deriver, now| {
                    Some(deriver.store(format!("nothing can be made durable: {why}"), now))
                });
                self.store.failing = Some(why);
            }
            StoreNews::Works => {
                self.store.failing = None;
                self.note(|deriver, now| Some(deriver.store("writing works again".to_owned(), now)));
            }
            StoreNews::SetAside { why } => {
                self.note(|deriver, now| Some(index_set_aside(deriver, &why, now)));
            }
        }
    }
}

fn index_set_aside(deriver: &Deriver, why: &str, now_unix_ms: u64) -> crate::events::Event {
    deriver.store(format!("the index was broken and is made anew: {why}"), now_unix_ms)
}
