//! Fetching an image.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::model::{MemoryMib, TemplateRef};
use mln_protocol::wire::{ImageAnswer, ImageAsk, ImageOffer, Manifest};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::limits::{
    CHUNK_BLOCK_BYTES_MAX, CHUNK_TIMEOUT, CHUNKS_IN_FLIGHT_MAX, MANIFEST_TIMEOUT, PROGRESS_INTERVAL,
    SOURCE_PATIENCE, SOURCE_PAUSE,
};
use super::serve::unpack;
use super::{Exchange, Found, RoomError, newest};
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

/// A part that several tasks work on, one after the other; taken out when it is whole.
type SharedPart = Arc<Mutex<Option<Part>>>;

/// A fetch under way.
struct Fetch<'a> {
    exchange: &'a Exchange,
    digest: Digest,
    part: Option<SharedPart>,
    meter: Meter<'a>,
}

struct Meter<'a> {
    tell: &'a (dyn Fn(FetchProgress) + Send + Sync),
    began: Instant,
    told: Option<Instant>,
    moved: Instant,
    received: u64,
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
            let now = Instant::now();
            let meter = Meter { tell, began: now, told: None, moved: now, received: 0 };
            let mut fetch = Fetch { exchange: self, digest, part: None, meter };
            fetch.run(wanted).await?;
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

impl Fetch<'_> {
    async fn run(&mut self, wanted: &Wanted) -> Result<(), FetchError> {
        let exact = TemplateRef::Exact(wanted.template.name().clone(), self.digest);
        let mut wrong: BTreeMap<PublicKey, String> = BTreeMap::new();
        loop {
            let found = self.exchange.find(&exact, wanted.from).await;
            let sources: Vec<Found> = found.into_iter().filter(|f| !wrong.contains_key(&f.peer)).collect();
            let mut lost = Vec::new();
            for source in &sources {
                match self.fetch_from(source).await {
                    Ok(()) => return self.finish().await,
                    Err(Setback::Wrong { what }) => {
                        warn!(
                            peer = source.host, key = %source.peer.short(), image = %self.digest.short(), what,
                            "a host gave something else than was asked for; it is asked no more for this image"
                        );
                        self.exchange.report(source.peer, "a part of an image that is none").await;
                        wrong.insert(source.peer, format!("{} gave {what} that is not it", source.host));
                    }
                    Err(Setback::Lost { why }) => {
                        info!(peer = source.host, image = %self.digest.short(), why, "a source of an image is lost");
                        lost.push(format!("{}: {why}", source.host));
                    }
                    Err(Setback::Ours(error)) => return Err(error),
                }
            }
            let is_late = self.meter.moved.elapsed() >= SOURCE_PATIENCE;
            // When all that have it gave something else, waiting mends nothing.
            let is_hopeless = !wrong.is_empty() && sources.iter().all(|s| wrong.contains_key(&s.peer));
            if is_late || is_hopeless {
                let bytes_missing = self.bytes_missing();
                let setbacks: Vec<String> = wrong.into_values().chain(lost).collect();
                return Err(match setbacks.is_empty() {
                    true => FetchError::Nobody { template: wanted.template.clone() },
                    false => FetchError::NoSourceLeft { digest: self.digest, bytes_missing, setbacks },
                });
            }
            sleep(SOURCE_PAUSE).await;
        }
    }

    /// Fetches what is missing from one host.
    async fn fetch_from(&mut self, source: &Found) -> Result<(), Setback> {
        let lost = |why: String| Setback::Lost { why };
        let asked = self.exchange.ask(source.peer, &ImageAsk::Fetch(self.digest), MANIFEST_TIMEOUT).await;
        let (answer, stream) = asked.map_err(|error| lost(crate::causes::chain(&error)))?;
        let manifest = match answer {
            ImageAnswer::Manifest(bytes) if Digest::of(&bytes) == self.digest => {
                Manifest::from_bytes(&bytes).map_err(|_| Setback::Wrong { what: "a manifest".to_owned() })?
            }
            ImageAnswer::Manifest(_) | ImageAnswer::Offers(_) => {
                return Err(Setback::Wrong { what: "a manifest".to_owned() });
            }
            ImageAnswer::Missing => return Err(lost("it does not have it any more".to_owned())),
            ImageAnswer::Busy => return Err(lost("it hands over as many images as it may".to_owned())),
        };
        let part = self.open(manifest).await.map_err(Setback::Ours)?;
        self.transfer(stream, &part).await
    }

    /// Opens the part, once; says what of it is here already, and makes room for the rest.
    async fn open(&mut self, manifest: Manifest) -> Result<SharedPart, FetchError> {
        if let Some(part) = &self.part {
            return Ok(part.clone());
        }
        let (images, digest) = (self.exchange.images().clone(), self.digest);
        let part = blocking(move || Part::open(&images, digest, manifest)).await?;
        let (missing, all) = (part.missing_bytes(), part.manifest().data_bytes());
        self.exchange.room_for(missing, Sweep::Remove).await?;
        let folder = self.exchange.images().folder().to_owned();
        let free = rustix::fs::statvfs(&folder).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if free.is_ok_and(|free| free < missing) {
            return Err(ImageError::DiskFull { folder }.into());
        }
        info!(image = %digest.short(), bytes = all, here = all - missing, "fetching an image");
        let part = Arc::new(Mutex::new(Some(part)));
        self.part = Some(part.clone());
        Ok(part)
    }

    async fn transfer(&mut self, mut stream: MeshStream, part: &SharedPart) -> Result<(), Setback> {
        let mut queue: VecDeque<u32> =
            with(part, |part| part.missing().iter().copied().collect()).unwrap_or_default();
        let mut asked: VecDeque<u32> = VecDeque::new();
        let lost = |error: std::io::Error| Setback::Lost { why: error.to_string() };
        loop {
            while asked.len() < CHUNKS_IN_FLIGHT_MAX
                && let Some(index) = queue.pop_front()
            {
                stream.write_u32(index).await.map_err(lost)?;
                asked.push_back(index);
            }
            stream.flush().await.map_err(lost)?;
            let Some(index) = asked.pop_front() else { break };
            let block = timeout(CHUNK_TIMEOUT, stream.read_block(CHUNK_BLOCK_BYTES_MAX)).await;
            let block = block.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(lost)?;
            let (bytes, target) = (block.len() as u64, part.clone());
            let put = move || {
                let put = with(&target, |part| match unpack(&block, part.manifest().chunk_len(index)) {
                    Some(bytes) => part.put(index, &bytes),
                    None => Ok(false),
                });
                put.unwrap_or(Ok(false))
            };
            if !blocking(put).await.map_err(Setback::Ours)? {
                return Err(Setback::Wrong { what: format!("chunk {index}") });
            }
            self.meter.note(bytes, part);
        }
        // Whoever served it sees the end; that it hears of it is not needed.
        let _ = stream.shutdown().await;
        Ok(())
    }

    fn bytes_missing(&self) -> u64 {
        self.part.as_ref().and_then(|part| with(part, |part| part.missing_bytes())).unwrap_or(0)
    }

    async fn finish(&mut self) -> Result<(), FetchError> {
        let part =
            self.part.take().and_then(|part| part.lock().unwrap_or_else(PoisonError::into_inner).take());
        let part = part.ok_or(FetchError::CutOff)?;
        let bytes = part.manifest().data_bytes();
        blocking(move || part.finish()).await?;
        let took = self.meter.began.elapsed();
        info!(
            image = %self.digest.short(), bytes, received = self.meter.received, took_ms = took.as_millis() as u64,
            "an image is fetched"
        );
        (self.meter.tell)(FetchProgress { bytes, bytes_all: bytes, bytes_per_s: self.meter.rate() });
        Ok(())
    }
}

impl Meter<'_> {
    fn note(&mut self, received: u64, part: &SharedPart) {
        let now = Instant::now();
        self.received += received;
        self.moved = now;
        if self.told.is_some_and(|told| now.duration_since(told) < PROGRESS_INTERVAL) {
            return;
        }
        self.told = Some(now);
        let Some((all, missing)) = with(part, |p| (p.manifest().data_bytes(), p.missing_bytes())) else {
            return;
        };
        let progress = FetchProgress { bytes: all - missing, bytes_all: all, bytes_per_s: self.rate() };
        (self.tell)(progress);
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
        write!(f, "{here:.1} of {all:.1} MiB, {rate:.1} MiB/s")
    }
}

fn with<T>(part: &SharedPart, work: impl FnOnce(&mut Part) -> T) -> Option<T> {
    part.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(work)
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
