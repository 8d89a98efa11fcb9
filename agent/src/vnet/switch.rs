//! The task of one switch: it owns all links and moves frames between them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use mln_protocol::model::{Impairment, Mac, SwitchKind};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::warn;

use super::counters::LinkCounters;
use super::port::{Gone, Port, Reading};
use super::table::{LinkId, MacTable};
use super::timer::Timer;
use super::trunk::{Trunk, TrunkStream};
use super::uplink::{TAG_BYTES, Uplink};
use super::{FRAME_BYTES_MAX, LinkName};
use crate::shaper::{Fate, Shaper};

/// Frames that are read from a port before others get their turn.
const READ_FRAMES_MAX: usize = 64;

/// Frames of a link that were held back and are passed on before others get their turn.
const RELEASE_FRAMES_MAX: usize = 256;

/// Rounds over all links before other tasks get their turn.
const ROUNDS_MAX: usize = 4;

/// Commands that wait for a switch.
pub(super) const COMMANDS_MAX: usize = 64;

/// What a switch is asked to do.
pub(super) enum Command {
    /// Attach a guest's interface; one of the same name is replaced.
    AddPort { name: LinkName, mac: Mac, fd: AsyncFd<OwnedFd>, ended: oneshot::Sender<()> },
    /// Attach another host; one of the same name is replaced.
    AddTrunk { name: LinkName, stream: Box<dyn TrunkStream>, ended: oneshot::Sender<()> },
    /// Join this host's network; another way there is replaced.
    AddUplink { name: LinkName, fd: AsyncFd<OwnedFd>, vlan: Option<u16>, ended: oneshot::Sender<()> },
    /// Say these frames for the guest of a link: now, and to hosts that are attached later.
    Announce { name: LinkName, frames: Vec<Vec<u8>> },
    /// Do this with frames, and that to those from these links.
    Configure { kind: SwitchKind, impaired: BTreeMap<LinkName, Impairment> },
    /// Detach a link; answered when it is gone.
    Remove { name: LinkName, done: oneshot::Sender<()> },
}

/// The counters of a switch's links, shared with whoever shows them.
pub(super) type Registry = Arc<Mutex<BTreeMap<LinkName, Arc<LinkCounters>>>>;

/// One switch; see the module.
pub(super) struct Switch {
    commands: mpsc::Receiver<Command>,
    registry: Registry,
    links: Vec<Option<Link>>,
    table: MacTable,
    buffer: Box<[u8]>,
    start: Instant,
    kind: SwitchKind,
    impaired: BTreeMap<LinkName, Impairment>,
    /// Whether a link holds frames back; else nobody looks.
    is_shaping: bool,
    timer: Option<Timer>,
}

struct Link {
    name: LinkName,
    counters: Arc<LinkCounters>,
    end: End,
    /// What its guest's addresses are announced by.
    announcements: Vec<Vec<u8>>,
    /// Holds back what comes from it, where the project wants that.
    shaper: Option<Box<Shaper>>,
    /// Dropped with the link, which tells whoever waits for its end.
    _ended: oneshot::Sender<()>,
}

enum End {
    Port(Port),
    Trunk(Box<Trunk>),
    Uplink(Uplink),
}

/// What the links that are not being read, and the table, do with a frame.
struct Forwarding<'a> {
    links: &'a mut [Option<Link>],
    table: &'a mut MacTable,
    now_s: u32,
    kind: SwitchKind,
}

impl Switch {
    /// A switch without links.
    pub(super) fn new(commands: mpsc::Receiver<Command>, registry: Registry) -> Self {
        Self {
            commands,
            registry,
            links: Vec::new(),
            table: MacTable::new(),
            // One byte more than the longest frame with a tag, so that a longer one is told from it.
            buffer: vec![0; FRAME_BYTES_MAX + TAG_BYTES + 1].into_boxed_slice(),
            start: Instant::now(),
            kind: SwitchKind::default(),
            impaired: BTreeMap::new(),
            is_shaping: false,
            timer: None,
        }
    }

    /// Runs until nobody can ask it for anything any more.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_MAX {
            loop {
                match self.commands.poll_recv(cx) {
                    Poll::Ready(Some(command)) => self.on_command(command),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            let mut more = self.read_all(cx);
            if self.is_shaping {
                more |= self.release(cx);
            }
            self.flush_all(cx);
            if !more {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::AddPort { name, mac, fd, ended } => {
                let id = self.add(name, End::Port(Port::new(fd)), ended);
                if !mac.is_multicast() {
                    self.table.learn(mac, id, self.now_s());
                }
            }
            Command::AddTrunk { name, stream, ended } => {
                let id = self.add(name, End::Trunk(Box::new(Trunk::new(stream))), ended);
                self.announce_all_to(id as usize);
            }
            Command::AddUplink { name, fd, vlan, ended } => {
                self.add(name, End::Uplink(Uplink::new(fd, vlan)), ended);
            }
            Command::Announce { name, frames } => self.announce(&name, frames),
            Command::Configure { kind, impaired } => {
                self.kind = kind;
                self.impaired = impaired;
                (0..self.links.len()).for_each(|index| self.shape(index));
            }
            Command::Remove { name, done } => {
                self.remove_named(&name);
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
    }

    fn add(&mut self, name: LinkName, end: End, ended: oneshot::Sender<()>) -> LinkId {
        self.remove_named(&name);
        let counters = Arc::new(LinkCounters::default());
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.insert(name.clone(), counters.clone());
        drop(registry);
        let announcements = Vec::new();
        let link = Some(Link { name, counters, end, announcements, shaper: None, _ended: ended });
        let index = self.links.iter().position(Option::is_none).unwrap_or(self.links.len());
        match self.links.get_mut(index) {
            Some(place) => *place = link,
            None => self.links.push(link),
        }
        self.shape(index);
        id_of(index)
    }

    /// Passes on what a guest would say of itself: so everybody hears at once where it is.
    fn announce(&mut self, name: &LinkName, frames: Vec<Vec<u8>>) {
        let named = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.name == *name);
        let Some(index) = self.links.iter().position(named) else { return };
        let Some(mut link) = self.links[index].take() else { return };
        let (now_s, kind) = (self.now_s(), self.kind);
        let mut others = Forwarding { links: &mut self.links, table: &mut self.table, now_s, kind };
        for frame in &frames {
            others.forward(id_of(index), Source::Port, frame);
        }
        link.announcements = frames;
        self.links[index] = Some(link);
    }

    /// Tells a host that was attached where the guests of this one are.
    fn announce_all_to(&mut self, index: usize) {
        let frames: Vec<Vec<u8>> =
            self.links.iter().flatten().flat_map(|link| link.announcements.iter().cloned()).collect();
        let Some(Some(Link { end: End::Trunk(trunk), counters, .. })) = self.links.get_mut(index) else {
            return;
        };
        for frame in &frames {
            trunk.write(frame, counters);
        }
    }

    /// Holds back what comes from a link, or no longer, as it was said.
    fn shape(&mut self, index: usize) {
        let now = self.start.elapsed();
        let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) else { return };
        match (self.impaired.get(&link.name).copied(), &mut link.shaper) {
            (Some(impairment), Some(shaper)) => shaper.set(now, impairment),
            (Some(impairment), none) => *none = Some(Box::new(Shaper::new(impairment, seed()))),
            (None, None) => {}
            (None, Some(_)) => self.pass_all(index),
        }
        self.is_shaping = self.links.iter().flatten().any(|link| link.shaper.is_some());
    }

    /// Passes on all that is held back of a link, and holds nothing back any more.
    fn pass_all(&mut self, index: usize) {
        let Some(mut link) = self.links[index].take() else { return };
        let (now_s, kind) = (self.now_s(), self.kind);
        let mut others = Forwarding { links: &mut self.links, table: &mut self.table, now_s, kind };
        if let Some(mut shaper) = link.shaper.take() {
            while let Some(frame) = shaper.take() {
                others.forward(id_of(index), Source::Port, &frame);
            }
        }
        self.links[index] = Some(link);
    }

    /// Passes on what was held back and is due, and has the task woken for the rest; whether there may be more.
    fn release(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.start.elapsed();
        let (now_s, kind) = (self.now_s(), self.kind);
        let mut next_due: Option<Duration> = None;
        for index in 0..self.links.len() {
            if self.links[index].as_ref().is_none_or(|link| link.shaper.is_none()) {
                continue;
            }
            let Some(mut link) = self.links[index].take() else { continue };
            let mut others = Forwarding { links: &mut self.links, table: &mut self.table, now_s, kind };
            if let Some(shaper) = &mut link.shaper {
                for frame in std::iter::from_fn(|| shaper.take_due(now)).take(RELEASE_FRAMES_MAX) {
                    others.forward(id_of(index), Source::Port, &frame);
                }
                next_due = next_due.into_iter().chain(shaper.next_due()).min();
            }
            self.links[index] = Some(link);
        }
        if self.timer.is_none() && next_due.is_some() {
            match Timer::new() {
                Ok(timer) => self.timer = Some(timer),
                Err(error) => {
                    warn!(%error, "there is no timer: frames that are held back leave with the next ones")
                }
            }
        }
        self.timer.as_mut().is_some_and(|timer| timer.wake_at(cx, now, next_due))
    }

    fn remove_named(&mut self, name: &LinkName) {
        let named = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.name == *name);
        if let Some(index) = self.links.iter().position(named) {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index).and_then(Option::take) else { return };
        self.table.forget(id_of(index));
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).remove(&link.name);
    }

    /// Reads from every link once; whether there may be more.
    fn read_all(&mut self, cx: &mut Context<'_>) -> bool {
        let mut more = false;
        for index in 0..self.links.len() {
            // Taken out while it is read: a frame never goes back to where it came from.
            let Some(mut link) = self.links[index].take() else { continue };
            let (now_s, kind) = (self.now_s(), self.kind);
            let mut others = Forwarding { links: &mut self.links, table: &mut self.table, now_s, kind };
            let id = id_of(index);
            let reading = match &mut link.end {
                End::Port(port) => match &mut link.shaper {
                    None => port.read(cx, &mut self.buffer, READ_FRAMES_MAX, &link.counters, |frame| {
                        others.forward(id, Source::Port, frame);
                    }),
                    Some(shaper) => {
                        let now = self.start.elapsed();
                        port.read(cx, &mut self.buffer, READ_FRAMES_MAX, &link.counters, |frame| match shaper
                            .offer(now, frame)
                        {
                            Fate::Queued => {}
                            Fate::Lost | Fate::Full => link.counters.dropped_impaired(),
                        })
                    }
                },
                End::Uplink(uplink) => {
                    uplink.read(cx, &mut self.buffer, READ_FRAMES_MAX, &link.counters, |frame| {
                        others.forward(id, Source::Port, frame);
                    })
                }
                End::Trunk(trunk) => trunk.read(cx, &link.counters, |frame| {
                    others.forward(id, Source::Trunk, frame);
                }),
            };
            self.links[index] = Some(link);
            match reading {
                Reading::Idle => {}
                Reading::More => more = true,
                Reading::Ended => self.remove(index),
            }
        }
        more
    }

    fn flush_all(&mut self, cx: &mut Context<'_>) {
        for index in 0..self.links.len() {
            let Some(link) = &mut self.links[index] else { continue };
            let flushed = match &mut link.end {
                End::Port(port) => port.flush(cx, &link.counters),
                End::Trunk(trunk) => trunk.flush(cx),
                End::Uplink(uplink) => uplink.flush(),
            };
            if flushed == Err(Gone) {
                self.remove(index);
            }
        }
    }

    fn now_s(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }
}

/// Where a frame came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Port,
    Trunk,
}

impl Forwarding<'_> {
    fn forward(&mut self, from: LinkId, source: Source, frame: &[u8]) {
        // Links give only frames that are long enough.
        let Some((to, rest)) = frame.split_first_chunk::<6>() else { return };
        let Some(by) = rest.first_chunk::<6>() else { return };
        let (to, by) = (Mac(*to), Mac(*by));
        let learns = self.kind == SwitchKind::Learning;
        if learns && !by.is_multicast() {
            self.table.learn(by, from, self.now_s);
        }
        let known = if learns && !to.is_multicast() { self.table.find(to, self.now_s) } else { None };
        match known {
            Some(id) => self.deliver(id as usize, source, frame),
            None => {
                for index in 0..self.links.len() {
                    self.deliver(index, source, frame);
                }
            }
        }
    }

    /// Gives a frame to one link: never to the one that it came from, which is taken out, and never from one
    /// trunk to another.
    fn deliver(&mut self, index: usize, source: Source, frame: &[u8]) {
        let Some(Some(link)) = self.links.get_mut(index) else { return };
        match &mut link.end {
            End::Port(port) => port.write(frame, &link.counters),
            End::Trunk(trunk) if source == Source::Port => trunk.write(frame, &link.counters),
            End::Trunk(_) => {}
            End::Uplink(uplink) => uplink.write(frame, &link.counters),
        }
    }
}

/// Returns a number by chance: the standard library begins its hash tables with one.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn id_of(index: usize) -> LinkId {
    LinkId::try_from(index).expect("there are fewer links than file descriptors")
}
