//! Events: what happens in the mesh and on this host, told to whoever asks and kept in a file.
//!
//! [`derive`] decides what is an event, from what the node wants made durable and what platforms and the mesh
//! tell; it knows no file and no clock. [`EventLog`] keeps them: the newest in memory, more in `events.jsonl`, and
//! it hands them to whoever follows. It never waits for a disk or a reader: who is behind loses lines, and is told
//! how many.
//!
//! ```text
//! outputs of the node ─┐
//! events of VMs ───────┼─► Deriver ─► EventLog ─┬─► the newest, in memory ─► `events`
//! events of the mesh ──┘                        ├─► thread ─► events.jsonl, events.1.jsonl
//!                                               └─► followers
//! ```

mod derive;
mod journal;

use std::collections::VecDeque;
use std::path::Path;

use mln_link::message::{EVENTS_ASKED_MAX, EventRow};
use mln_protocol::id::{Label, Name};
use mln_protocol::record::ExitStatus;
use tokio::sync::broadcast;

pub(crate) use derive::{Asker, Deriver};
use journal::Journal;

/// How many events a follower may be behind.
pub(crate) const BEHIND_MAX: usize = 256;

/// How many characters of a text are kept: a kernel's last words may be long.
const TEXT_CHARS_MAX: usize = 500;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// When, by the clock of the host that says so, in milliseconds since 1970.
    pub unix_ms: u64,
    /// On which service host.
    pub host: Name,
    /// What.
    pub kind: EventKind,
    /// For which project.
    pub project: Option<Label>,
    /// With which VM.
    pub vm: Option<Name>,
    /// The rule behind a refusal.
    pub rule: Option<&'static str>,
    /// How a VM ended.
    pub status: Option<ExitStatus>,
    /// For people.
    pub text: String,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A VM is built.
    Build,
    /// A VM starts.
    Start,
    /// Its guest is ready.
    Ready,
    /// It has ended.
    Exit,
    /// Its kernel gave up.
    Panic,
    /// A step with it failed.
    Failed,
    /// It runs, and isn't what it should be.
    Setup,
    /// It is removed.
    Remove,
    /// Somebody was told no.
    Refusal,
    /// A host became a member of the mesh.
    Join,
    /// A member is connected.
    Seen,
    /// A member is connected no more.
    Lost,
    /// A host's agent is another version.
    Version,
    /// This agent began to run.
    Agent,
    /// Something is the matter with this host's disk, or no more.
    Store,
    /// A grant was taken back.
    Revoked,
    /// A VM has another owner, who was given it.
    Move,
    /// A VM was taken over from an owner that is gone.
    TakeOver,
    /// A VM has changed its own project, as its policies allow.
    Decision,
}

impl EventKind {
    /// Returns its stable name, as users and scripts see it.
    fn code(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Exit => "exit",
            Self::Panic => "panic",
            Self::Failed => "failed",
            Self::Setup => "setup",
            Self::Remove => "remove",
            Self::Refusal => "refusal",
            Self::Join => "join",
            Self::Seen => "seen",
            Self::Lost => "lost",
            Self::Version => "version",
            Self::Agent => "agent",
            Self::Store => "store",
            Self::Revoked => "revoked",
            Self::Move => "move",
            Self::TakeOver => "takeover",
            Self::Decision => "decision",
        }
    }
}

fn row(event: Event) -> EventRow {
    EventRow {
        unix_ms: event.unix_ms,
        host: event.host.to_string(),
        kind: event.kind.code().to_owned(),
        project: event.project.map(|label| label.to_string()),
        vm: event.vm.map(|name| name.to_string()),
        rule: event.rule.map(str::to_owned),
        status: event.status.map(|status| status.to_string()),
        text: event.text.chars().take(TEXT_CHARS_MAX).collect(),
    }
}

/// Keeps events, and hands them out.
#[derive(Debug)]
pub(crate) struct EventLog {
    newest: VecDeque<EventRow>,
    feed: broadcast::Sender<EventRow>,
    journal: Journal,
}

impl EventLog {
    /// Opens the log of a data folder. Where the file can't be used, events are kept in memory alone.
    pub(crate) fn open(data: &Path) -> Self {
        let newest = journal::load(data, EVENTS_ASKED_MAX as usize);
        let (feed, _) = broadcast::channel(BEHIND_MAX);
        Self { newest, feed, journal: Journal::start(data) }
    }

    /// Keeps an event and hands it to whoever follows. Never waits.
    pub(crate) fn note(&mut self, event: Event) {
        let row = row(event);
        if self.newest.len() == EVENTS_ASKED_MAX as usize {
            self.newest.pop_front();
        }
        self.newest.push_back(row.clone());
        self.journal.append(&row);
        // Most of the time nobody follows.
        let _ = self.feed.send(row);
    }

    /// Returns the newest events that are `wanted`, oldest first.
    pub(crate) fn last(&self, count: usize, wanted: impl Fn(&EventRow) -> bool) -> Vec<EventRow> {
        let mut rows: Vec<EventRow> =
            self.newest.iter().rev().filter(|row| wanted(row)).take(count).cloned().collect();
        rows.reverse();
        rows
    }

    /// Returns how many follow.
    pub(crate) fn followers(&self) -> usize {
        self.feed.receiver_count()
    }

    /// Returns all events from now on; one who doesn't read loses the oldest and is told how many.
    pub(crate) fn follow(&self) -> broadcast::Receiver<EventRow> {
        self.feed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        let host = Name::parse("oslo").expect("a name");
        let kind = EventKind::Panic;
        Event {
            unix_ms: 1,
            host,
            kind,
            project: None,
            vm: None,
            rule: None,
            status: None,
            text: text.to_owned(),
        }
    }

    #[test]
    fn as_many_as_can_be_asked_for_are_kept_and_long_texts_are_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = EventLog::open(folder.path());
        for number in 0..EVENTS_ASKED_MAX + 5 {
            log.note(event(&number.to_string()));
        }
        log.note(event(&"x".repeat(9 * TEXT_CHARS_MAX)));
        let kept = log.last(usize::MAX, |_| true);
        assert_eq!((kept.len(), kept[0].text.as_str()), (EVENTS_ASKED_MAX as usize, "6"));
        assert_eq!(kept.last().map(|row| row.text.len()), Some(TEXT_CHARS_MAX));
        let two = log.last(2, |row| row.text.len() < 5);
        assert_eq!(two.iter().map(|row| row.text.as_str()).collect::<Vec<_>>(), ["1003", "1004"]);
    }
}
