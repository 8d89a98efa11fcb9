//! Fetching an image.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::model::{MemoryMib, TemplateRef};
use mln_protocol::wire::{ImageAnswer, ImageAsk, ImageOffer, Inventory, Manifest};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::inventory::heard;
use super::limits::{
    CHUNK_BLOCK_BYTES_MAX, CHUNK_TIMEOUT, CHUNKS_ALONE_MAX, CHUNKS_IN_FLIGHT_MAX, CHUNKS_SHARED_MAX,
    MANIFEST_TIMEOUT, PEERS_ASKED_MAX, PROGRESS_INTERVAL, SOURCE_LOOK, SOURCE_LOOK_MIN, SOURCE_PATIENCE,
    SOURCE_PAUSE, SOURCES_MAX, WAIT_MAX,
};
use super::open::OpenPart;
use super::serve::{is_absent, unpack};
use super::swarm::Swarm;
use super::{Exchange, RoomError, newest};
use crate::image::part::Part;
use crate::image::{ImageError, NewName, NewVersion, Sweep, Template};
use crate::mesh::MeshStream;

/// What is to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The template.
    pub template: TemplateRef,
    /// From whom; none is whoever has it.
    pub from: Option<PublicKey>,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchProgress {
    /// What is here, in bytes; holes left out.
    pub bytes: u64,
    /// What there is.
    pub bytes_all: u64,
    /// What has come over the network in a second, on average.
    pub bytes_per_s: u64,
    /// How long the rest takes if it goes on so, in seconds; none where that isn't known.
    pub left_s: Option<u64>,
}

/// Why an image is not here. What came of it is kept, and a further fetch goes on from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Nobody who could be asked has it.
    #[error("no connected host has {}", in_words(template))]
    Nobody {
        /// What was wanted.
        template: TemplateRef,
    },
    /// Nobody is left to fetch the rest from.
    #[error("image {}: {bytes_missing} bytes are missing, and nobody is left to fetch them from: {}", digest.short(), setbacks.join("; "))]
    NoSourceLeft {
        /// The image.
        digest: Digest,
        /// What is still missing.
        bytes_missing: u64,
        /// What was wrong with each host that was tried.
        setbacks: Vec<String>,
    },
    /// The store has no room.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The store failed: the disk is full, for instance.
    #[error(transparent)]
    Store(#[from] ImageError),
    /// A task of this program ended early; a bug.
    #[error("the fetch was cut off")]
    CutOff,
}

/// What went wrong with a source.
enum Setback {
    /// It gave what isn't what was asked for.
    Wrong { what: String },
    /// It is gone, slow, busy, or doesn't have it any more.
    Lost { why: String },
    /// We can't go on, whoever the source is.
    Ours(FetchError),
}

impl From<ImageError> for Setback {
    fn from(error: ImageError) -> Self {
        Self::Ours(error.into())
    }
}

/// A fetch under way.
struct Fetch<'a> {
    exchange: &'a Exchange,
    digest: Digest,
    open: Arc<OpenPart>,
    swarm: Mutex<Swarm>,
    /// Something has come, or somebody: whoever waits looks again.
    changed: Notify,
    meter: Mutex<Meter<'a>>,
}

/// A peer that may have some of it.
struct Candidate {
    peer: PublicKey,
    host: String,
    /// The last measured round trip.
    round_trip: Duration,
    /// Whether it offers the whole image.
    offers: bool,
}

struct Meter<'a> {
    tell: &'a (dyn Fn(FetchProgress) + Send + Sync),
    began: Instant,
    told: Option<Instant>,
    moved: Instant,
    received: u64,
    /// What was here when the first of it was told, and when that was.
    first: Option<(u64, Instant)>,
}

impl Exchange {
    /// Fetches a template, unless it is here; returns it under the name that it has here. `tell` hears how far it is.
    ///
    /// Goes on for a while without a source: after a start the others may not be connected yet.
    pub(crate) async fn fetch(
        &self,
        wanted: &Wanted,
        tell: &(dyn Fn(FetchProgress) + Send + Sync),
    ) -> Result<Template, FetchError> {
        let patience = match wanted.from {
            None => SOURCE_PATIENCE,
            Some(_) => SOURCE_PAUSE,
        };
        let offer = self.offer(wanted, Instant::now() + patience).await?;
        let digest = offer.digest;
        let turn = self.turn(digest);
        let _turn = turn.lock().await;
        if !self.images().has(&digest) {
            self.fetch_image(digest, wanted, tell).await?;
        }
        let images = self.images().clone();
        blocking(move || {
            let version = NewVersion::Elsewhere(&offer.version, offer.added_unix_ms);
            let memory_min = MemoryMib(offer.memory_mib_min);
            images.name(&NewName { name: &offer.name, version, memory_min }, &digest)
        })
        .await
    }

    /// Looks for somebody who has the template until the deadline.
    async fn offer(&self, wanted: &Wanted, deadline: Instant) -> Result<ImageOffer, FetchError> {
        loop {
            let found = self.find(&wanted.template, wanted.from).await;
            if let Some(offer) = newest(&found, &wanted.template) {
                return Ok(offer.clone());
            }
            if Instant::now() >= deadline {
                return Err(FetchError::Nobody { template: wanted.template.clone() });
            }
            sleep(SOURCE_PAUSE).await;
        }
    }
}

/// What was wrong with those that were asked.
#[derive(Default)]
struct Setbacks {
    /// Those that gave something else: they are asked no more.
    wrong: BTreeMap<PublicKey, String>,
    /// What was last wrong with the others.
    lost: BTreeMap<PublicKey, String>,
}

impl Setbacks {
    fn told(self) -> Vec<String> {
        self.wrong.into_values().chain(self.lost.into_values()).collect()
    }
}

impl Exchange {
    async fn fetch_image(
        &self,
        digest: Digest,
        wanted: &Wanted,
        tell: &(dyn Fn(FetchProgress) + Send + Sync),
    ) -> Result<(), FetchError> {
        let mut setbacks = Setbacks::default();
        let now = Instant::now();
        let meter = Meter { tell, began: now, told: None, moved: now, received: 0, first: None };
        let Some(manifest) = self.fetch_manifest(digest, wanted, &mut setbacks).await? else {
            let (bytes_missing, setbacks) = (0, setbacks.told());
            return Err(match setbacks.is_empty() {
                true => FetchError::Nobody { template: wanted.template.clone() },
                false => FetchError::NoSourceLeft { digest, bytes_missing, setbacks },
            });
        };
        let open = self.open(digest, manifest).await?;
        let fetch = Fetch {
            exchange: self,
            digest,
            swarm: Mutex::new(Swarm::new(self.shared.me, open.held())),
            open,
            changed: Notify::new(),
            meter: Mutex::new(meter),
        };
        self.show_part(digest, &fetch.open);
        let fetched = fetch.run(wanted, setbacks).await;
        let part = fetch.open.take();
        fetched?;
        fetch.finish(part).await
    }

    /// Returns the manifest of an image, from whoever offers it first; none where nobody does for long.
    async fn fetch_manifest(
        &self,
        digest: Digest,
        wanted: &Wanted,
        setbacks: &mut Setbacks,
    ) -> Result<Option<Manifest>, FetchError> {
        let deadline = Instant::now() + SOURCE_PATIENCE;
        loop {
            let candidates = self.candidates(digest, wanted).await;
            let offering = candidates.into_iter().filter(|one| one.offers);
            let sources: Vec<Candidate> =
                offering.filter(|one| !setbacks.wrong.contains_key(&one.peer)).collect();
            for source in &sources {
                match self.ask_manifest(digest, source.peer).await {
                    Ok((manifest, _stream)) => return Ok(Some(manifest)),
                    Err(setback) => self.note_setback(digest, source, setback, setbacks).await?,
                }
            }
            // When all that have it gave something else, waiting mends nothing.
            let is_hopeless = !setbacks.wrong.is_empty()
                && sources.iter().all(|source| setbacks.wrong.contains_key(&source.peer));
            if Instant::now() >= deadline || is_hopeless {
                return Ok(None);
            }
            sleep(SOURCE_PAUSE).await;
        }
    }

    async fn ask_manifest(&self, digest: Digest, peer: PublicKey) -> Result<(Manifest, MeshStream), Setback> {
        let lost = |why: String| Setback::Lost { why };
        let asked = self.ask(peer, &ImageAsk::Fetch(digest), MANIFEST_TIMEOUT).await;
        let (answer, stream) = asked.map_err(|error| lost(crate::causes::chain(&error)))?;
        let wrong = || Setback::Wrong { what: "a manifest".to_owned() };
        match answer {
            ImageAnswer::Manifest(bytes) if Digest::of(&bytes) == digest => {
                Ok((Manifest::from_bytes(&bytes).map_err(|_| wrong())?, stream))
            }
            ImageAnswer::Manifest(_) | ImageAnswer::Offers(_) => Err(wrong()),
            ImageAnswer::Missing => Err(lost("it does not have it any more".to_owned())),
            ImageAnswer::Busy => Err(lost("it hands over as many images as it may".to_owned())),
        }
    }

    /// Returns those that may be asked: who offers the image, and who may be fetching it.
    async fn candidates(&self, digest: Digest, wanted: &Wanted) -> Vec<Candidate> {
        let exact = TemplateRef::Exact(wanted.template.name().clone(), digest);
        let found = self.find(&exact, wanted.from).await;
        let peers = self.shared.mesh.peers().await;
        let connected = peers.into_iter().filter_map(|peer| Some((peer.key, peer.name, peer.connection?)));
        connected
            .filter(|(key, ..)| wanted.from.is_none_or(|from| from == *key))
            .take(PEERS_ASKED_MAX)
            .map(|(peer, name, connection)| Candidate {
                peer,
                host: name.map_or_else(|| peer.short(), |name| name.to_string()),
                round_trip: connection.round_trip.unwrap_or_default(),
                offers: found.iter().any(|found| found.peer == peer),
            })
            .collect()
    }

    /// Notes what was wrong with a source; fails where that is ours.
    async fn note_setback(
        &self,
        digest: Digest,
        source: &Candidate,
        setback: Setback,
        setbacks: &mut Setbacks,
    ) -> Result<(), FetchError> {
        let host = &source.host;
        match setback {
            Setback::Wrong { what } => {
                warn!(
                    peer = host, key = %source.peer.short(), image = %digest.short(), what,
                    "a host gave something else than was asked for; it is asked no more for this image"
                );
                self.report(source.peer, "a part of an image that is none").await;
                setbacks.wrong.insert(source.peer, format!("{host} gave {what} that is not it"));
            }
            Setback::Lost { why } => {
                info!(peer = host, image = %digest.short(), why, "a source of an image is lost");
                setbacks.lost.insert(source.peer, format!("{host}: {why}"));
            }
            Setback::Ours(error) => return Err(error),
        }
        Ok(())
    }

    /// Opens the part, says what of it is here already, and makes room for the rest.
    async fn open(&self, digest: Digest, manifest: Manifest) -> Result<Arc<OpenPart>, FetchError> {
        let images = self.images().clone();
        let open = blocking(move || OpenPart::new(Part::open(&images, digest, manifest)?)).await?;
        let (missing, all) = (open.missing_bytes(), open.manifest().data_bytes());
        self.room_for(missing, Sweep::Remove).await?;
        let folder = self.images().folder().to_owned();
        let free = rustix::fs::statvfs(&folder).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if free.is_ok_and(|free| free < missing) {
            return Err(ImageError::DiskFull { folder }.into());
        }
        info!(image = %digest.short(), bytes = all, here = all - missing, "fetching an image");
        Ok(Arc::new(open))
    }
}

impl<'a> Fetch<'a> {
    /// Fetches from all who have some of it, until all is here or nobody is left.
    async fn run(&self, wanted: &Wanted, mut setbacks: Setbacks) -> Result<(), FetchError> {
        let mut asking = FuturesUnordered::new();
        let mut active: BTreeSet<PublicKey> = BTreeSet::new();
        let mut looking = Box::pin(self.exchange.candidates(self.digest, wanted));
        let mut offering: Vec<PublicKey> = Vec::new();
        // Where the last look has failed to bring anybody, the next one comes sooner.
        let mut next_look = Instant::now();
        let mut last_look = next_look;
        loop {
            if self.swarm().is_whole() {
                return Ok(());
            }
            let is_due = next_look <= Instant::now();
            // All arms are cancel-safe: what is being asked goes on in `asking`, and the look in `looking`.
            tokio::select! {
                candidates = &mut looking, if is_due => {
                    offering = candidates.iter().filter(|one| one.offers).map(|one| one.peer).collect();
                    for candidate in candidates {
                        let is_wrong = setbacks.wrong.contains_key(&candidate.peer);
                        if active.len() < SOURCES_MAX && !is_wrong && active.insert(candidate.peer) {
                            asking.push(self.fetch_from(candidate));
                        }
                    }
                    let idle = active.is_empty() || offering.is_empty();
                    last_look = Instant::now();
                    next_look = last_look + if idle { SOURCE_PAUSE } else { SOURCE_LOOK };
                    looking = Box::pin(self.exchange.candidates(self.digest, wanted));
                }
                Some((candidate, ended)) = asking.next() => {
                    active.remove(&candidate.peer);
                    self.swarm().remove(candidate.peer);
                    self.changed.notify_waiters();
                    if let Err(setback) = ended {
                        self.exchange.note_setback(self.digest, &candidate, setback, &mut setbacks).await?;
                    }
                }
                // Who fetches the same is a source. Whoever began first would else ask the others only when all lines are
                // busy, and that takes long then.
                () = self.open.asked(), if !is_due => next_look = next_look.min(last_look + SOURCE_LOOK_MIN),
                () = sleep_until(next_look), if !is_due => {}
            }
            let is_late = self.meter().moved.elapsed() >= SOURCE_PATIENCE;
            // When all that have it gave something else, waiting mends nothing.
            let all_wrong = offering.iter().all(|peer| setbacks.wrong.contains_key(peer));
            let is_hopeless = !setbacks.wrong.is_empty() && active.is_empty() && all_wrong;
            if is_late || is_hopeless {
                let (digest, bytes_missing) = (self.digest, self.open.missing_bytes());
                let setbacks = setbacks.told();
                return Err(match setbacks.is_empty() {
                    true => FetchError::Nobody { template: wanted.template.clone() },
                    false => FetchError::NoSourceLeft { digest, bytes_missing, setbacks },
                });
            }
        }
    }

    /// Fetches from one host what it is to be asked for, until nothing is missing or it has no more.
    async fn fetch_from(&self, source: Candidate) -> (Candidate, Result<(), Setback>) {
        let ended = if source.offers {
            self.swarm().add(source.peer, None, source.round_trip, now());
            self.changed.notify_waiters();
            self.transfer(source.peer).await
        } else {
            self.fetch_from_part(&source).await
        };
        (source, ended)
    }

    /// Fetches from a host that may be fetching the image itself.
    async fn fetch_from_part(&self, source: &Candidate) -> Result<(), Setback> {
        // Whoever has nothing of it, or is too old to be asked, is no loss.
        let Ok((inventory, took, mut news)) = self.exchange.ask_inventory(source.peer, &self.digest).await
        else {
            return Ok(());
        };
        let held = match inventory {
            Inventory::Nothing => return Ok(()),
            Inventory::Whole => None,
            Inventory::Part(_) => {
                Some((0..self.open.chunks()).map(|position| inventory.has(position)).collect())
            }
        };
        let round_trip = if source.round_trip.is_zero() { took } else { source.round_trip };
        self.swarm().add(source.peer, held, round_trip, now());
        self.changed.notify_waiters();
        let hearing = async {
            while let Ok(Some(positions)) = heard(&mut news).await {
                self.swarm().gained(source.peer, &positions, now());
                self.changed.notify_waiters();
            }
            // It has all of it now, or has given up; what it has said that it has is there.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = self.transfer(source.peer) => ended,
            () = hearing => Ok(()),
        }
    }

    async fn transfer(&self, peer: PublicKey) -> Result<(), Setback> {
        let lost = |error: std::io::Error| Setback::Lost { why: error.to_string() };
        let mut conversation: Option<MeshStream> = None;
        let mut asked: VecDeque<u32> = VecDeque::new();
        loop {
            let most = in_flight(self.swarm().sources());
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut fresh = false;
            while asked.len() < most
                && let Some(position) = self.pick(peer)
            {
                let stream = match &mut conversation {
                    Some(stream) => stream,
                    None => conversation.insert(self.exchange.ask_manifest(self.digest, peer).await?.1),
                };
                let index = self.open.manifest().chunks()[position as usize].index;
                stream.write_u32(index).await.map_err(lost)?;
                asked.push_back(position);
                fresh = true;
            }
            let (Some(position), Some(stream)) = (asked.front().copied(), conversation.as_mut()) else {
                if self.swarm().is_whole() {
                    break;
                }
                // What is slow elsewhere may be asked for here after a while.
                let _ = timeout(WAIT_MAX, changed).await;
                continue;
            };
            if fresh {
                stream.flush().await.map_err(lost)?;
            }
            let block = timeout(CHUNK_TIMEOUT, stream.read_block(CHUNK_BLOCK_BYTES_MAX)).await;
            let block = block.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(lost)?;
            asked.pop_front();
            if is_absent(&block) && self.swarm().may_lack(peer) {
                self.swarm().lacks(peer, position);
                continue;
            }
            let (bytes, open) = (block.len() as u64, self.open.clone());
            let put = move || {
                let Some(chunk) = open.manifest().chunks().get(position as usize) else { return Ok(false) };
                match unpack(&block, open.manifest().chunk_len(chunk.index)) {
                    Some(bytes) => open.put(position, &bytes),
                    None => Ok(false),
                }
            };
            if !blocking(put).await.map_err(Setback::Ours)? {
                let index = self.open.manifest().chunks()[position as usize].index;
                return Err(Setback::Wrong { what: format!("chunk {index}") });
            }
            self.swarm().got(peer, position, now());
            self.changed.notify_waiters();
            self.meter().note(bytes, &self.open);
        }
        // Whoever served it sees the end; that it hears of it is not needed.
        if let Some(mut stream) = conversation {
            let _ = stream.shutdown().await;
        }
        Ok(())
    }

    fn pick(&self, peer: PublicKey) -> Option<u32> {
        self.swarm().pick(peer, now())
    }

    fn swarm(&self) -> MutexGuard<'_, Swarm> {
        self.swarm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meter(&self) -> MutexGuard<'_, Meter<'a>> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn finish(&self, part: Option<Part>) -> Result<(), FetchError> {
        let part = part.ok_or(FetchError::CutOff)?;
        let bytes = part.manifest().data_bytes();
        blocking(move || part.finish()).await?;
        let meter = self.meter();
        info!(
            image = %self.digest.short(), bytes, received = meter.received,
            took_ms = meter.began.elapsed().as_millis() as u64, "an image is fetched"
        );
        (meter.tell)(FetchProgress { bytes, bytes_all: bytes, bytes_per_s: meter.rate(), left_s: None });
        Ok(())
    }
}

/// Returns how many chunks are asked for at a time of each of so many sources.
fn in_flight(sources: usize) -> usize {
    match sources {
        0 | 1 => CHUNKS_ALONE_MAX,
        several => (CHUNKS_IN_FLIGHT_MAX / several).clamp(1, CHUNKS_SHARED_MAX),
    }
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

impl Meter<'_> {
    fn note(&mut self, received: u64, open: &OpenPart) {
        let now = Instant::now();
        self.received += received;
        self.moved = now;
        if self.told.is_some_and(|told| now.duration_since(told) < PROGRESS_INTERVAL) {
            return;
        }
        self.told = Some(now);
        let (all, missing) = (open.manifest().data_bytes(), open.missing_bytes());
        let bytes = all - missing;
        let (had, since) = *self.first.get_or_insert((bytes, now));
        let left_s = time_left(bytes - had.min(bytes), now.duration_since(since), missing);
        (self.tell)(FetchProgress { bytes, bytes_all: all, bytes_per_s: self.rate(), left_s });
    }

    fn rate(&self) -> u64 {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.received.saturating_mul(1000) / ms
    }
}

impl std::fmt::Display for FetchProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (here, all, rate) = (mib(self.bytes), mib(self.bytes_all), mib(self.bytes_per_s));
        write!(f, "{here:.1} of {all:.1} MiB, {rate:.1} MiB/s")?;
        match self.left_s {
            Some(left_s) => write!(f, ", {left_s} s left"),
            None => Ok(()),
        }
    }
}

/// Returns how many seconds `missing` takes where so much took so long; none where nothing did.
fn time_left(done: u64, took: Duration, missing: u64) -> Option<u64> {
    let ms = u128::from(missing) * took.as_millis();
    let seconds = ms.div_ceil(1000).checked_div(u128::from(done))?;
    u64::try_from(seconds).ok()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, FetchError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::CutOff)??)
}

/// Returns what people type for a template.
pub(crate) fn in_words(template: &TemplateRef) -> String {
    let of = |name: &Name, which: &str| format!("{name}@{which}");
    match template {
        TemplateRef::Newest(name) => name.to_string(),
        TemplateRef::Version(name, version) => of(name, version),
        TemplateRef::Exact(name, digest) => of(name, &digest.short()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_left_follows_from_what_has_come() {
        assert_eq!(time_left(10, Duration::from_secs(2), 100), Some(20));
        assert_eq!(time_left(0, Duration::from_secs(2), 100), None);
        let progress =
            FetchProgress { bytes: 1 << 20, bytes_all: 3 << 20, bytes_per_s: 1 << 19, left_s: Some(4) };
        assert_eq!(progress.to_string(), "1.0 of 3.0 MiB, 0.5 MiB/s, 4 s left");
    }
}
