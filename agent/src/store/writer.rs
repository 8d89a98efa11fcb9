//! The thread that makes writes durable.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use mln_protocol::node::{Input, Room, Write, WriteId};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::index::Index;
use super::pending::Pending;
use super::room::{free_bytes, judge};
use super::{Findings, Store, reopen};
use crate::event_loop::Work;

/// How many groups of writes may wait for the thread.
const WRITES_MAX: usize = 4096;
/// How often an index that fails is opened again, until the next start.
const INDEX_TRIES_MAX: u32 = 8;
/// How long until a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long until the index is flushed after the last write, and room is looked for.
const IDLE: Duration = Duration::from_secs(2);

/// Hands writes to the thread that owns the store.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: SyncSender<(WriteId, Vec<Write>)>,
}

/// How the store fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreNews {
    /// The disk has room for new parts of projects, or none any more.
    Room(Room),
    /// Nothing can be made durable: what the node says is held back until it can.
    Failing {
        /// Why, for people.
        why: String,
    },
    /// It can again.
    Works,
    /// The index was broken and is made anew.
    SetAside {
        /// Why, for people.
        why: String,
    },
}

impl Writer {
    /// Starts the thread. It says [`Input::Persisted`] for the last group that has become durable.
    pub(crate) fn start(store: Store, done: mpsc::Sender<Work>) -> io::Result<Self> {
        let (queue, writes) = sync_channel(WRITES_MAX);
        let thread = Thread {
            data: store.data.clone(),
            store,
            done,
            pending: Pending::default(),
            room: Room::Ample,
            is_failing: false,
            is_flushed: true,
            index_tries: 0,
        };
        std::thread::Builder::new().name("store".to_owned()).spawn(move || thread.run(&writes))?;
        Ok(Self { queue })
    }

    /// Queues a group of writes; those of one project become durable as a whole. Waits only where [`WRITES_MAX`] wait
    /// already.
    pub(crate) fn write(&self, id: WriteId, writes: Vec<Write>) {
        // The thread ends only with the event loop.
        let _ = self.queue.send((id, writes));
    }
}

struct Thread {
    store: Store,
    data: PathBuf,
    done: mpsc::Sender<Work>,
    pending: Pending,
    room: Room,
    is_failing: bool,
    is_flushed: bool,
    /// How often the index was opened again.
    index_tries: u32,
}

impl Thread {
    fn run(mut self, groups: &Receiver<(WriteId, Vec<Write>)>) {
        self.look_for_room();
        loop {
            let wait = if self.pending.last().is_some() { RETRY } else { IDLE };
            match groups.recv_timeout(wait) {
                Ok((id, writes)) => {
                    self.pending.add(&mut self.store.journals, id, &writes);
                    for (id, writes) in groups.try_iter().take(WRITES_MAX) {
                        self.pending.add(&mut self.store.journals, id, &writes);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.look_for_room();
                    self.flush();
                }
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
            self.commit();
        }
    }

    /// Makes durable all that waits, and says so; or leaves it for the next try.
    fn commit(&mut self) {
        let Some(last) = self.pending.last() else { return };
        match self.pending.commit(&mut self.store.journals) {
            Ok(()) => {
                if self.is_failing {
                    self.is_failing = false;
                    info!("writing works again");
                    self.tell(StoreNews::Works);
                }
                let done = std::mem::take(&mut self.pending);
                self.say(Work::Input(Box::new(Input::Persisted(last))));
                self.keep_index(&done);
            }
            Err(error) => {
                self.look_for_room();
                if !self.is_failing {
                    self.is_failing = true;
                    let why = error.to_string();
                    error!(why, "nothing can be made durable: what this host says is held back until it can");
                    self.tell(StoreNews::Failing { why });
                }
            }
        }
    }

    /// Puts into the index what is durable without it.
    fn keep_index(&mut self, done: &Pending) {
        let Some(index) = &self.store.index else { return };
        match index.apply(done.indexed()) {
            Ok(()) => self.is_flushed = false,
            Err(error) => self.lose_index(&error),
        }
    }

    fn flush(&mut self) {
        match &self.store.index {
            Some(index) if !self.is_flushed => {
                let flushed = index.flush();
                self.is_flushed = true;
                if let Err(error) = flushed {
                    self.lose_index(&error);
                }
            }
            Some(_) => {}
            None if self.room == Room::Ample && self.index_tries < INDEX_TRIES_MAX => self.find_index(),
            None => {}
        }
    }

    /// Goes on without an index that fails.
    fn lose_index(&mut self, why: &super::index::IndexError) {
        self.store.index = None;
        if self.index_tries >= INDEX_TRIES_MAX {
            warn!(error = %why, "there is no index until the next start");
            return;
        }
        if why.is_full() {
            warn!(error = %why, "the index is behind until there is room");
            return;
        }
        let mut findings = Findings::default();
        self.store.index = reopen(&self.data, why, &mut findings);
        self.store.catch_up(&[], &mut findings);
        if let Some(why) = findings.set_aside {
            self.tell(StoreNews::SetAside { why });
        }
    }

    /// Opens the index again once there is room. What it missed of others comes from them.
    fn find_index(&mut self) {
        self.index_tries += 1;
        match Index::open(&self.data) {
            Ok(opened) => {
                self.store.index = Some(opened.index);
                self.store.catch_up(&opened.values, &mut Findings::default());
                info!("the index is there again");
            }
            Err(error) => self.lose_index(&error),
        }
    }

    fn look_for_room(&mut self) {
        // Where it can't be told, writing will tell.
        let Ok(free) = free_bytes(&self.data) else { return };
        let room = judge(self.room, free);
        if room != self.room {
            self.room = room;
            self.tell(StoreNews::Room(room));
        }
    }

    fn tell(&self, news: StoreNews) {
        self.say(Work::Store(news));
    }

    fn say(&self, work: Work) {
        // The event loop has ended if nobody listens: then so does the queue.
        let _ = self.done.blocking_send(work);
    }
}
