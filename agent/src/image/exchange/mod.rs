//! Images over the mesh: who has which, fetching them, and handing them to others.
//!
//! An image is fetched by its digest: first the manifest, which must have that digest, then chunk by chunk, each of
//! which must have the digest that the manifest gives. So it doesn't matter whom it comes from: it comes from several at
//! once, also from those that are fetching it themselves ([`swarm`] says what from whom). What names stand for is the word
//! of whoever is asked: only members are.
//!
//! ```text
//!   find ──► offers ──► manifest ──► what is here already? ──► the rest, from all who have some of it ──► named
//!                          │                                            │          ▲
//!                          │                                            │          └── inventories: what they have
//!                          └── another digest: the host is reported ────┴── and never asked again for this image
//! ```

mod fetch;
mod find;
mod inventory;
mod limits;
mod open;
mod serve;
mod swarm;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mln_protocol::id::{Digest, PublicKey};

pub(crate) use fetch::{FetchError, FetchProgress, Wanted};
pub(crate) use find::newest;
pub(crate) use serve::ServeError;

use self::open::OpenPart;
use super::{Collected, ImageError, ImageStore, Sweep};
use crate::mesh::MeshHandle;
use crate::platform::{Platform, StepError};

/// Images over the mesh; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    images: ImageStore,
    mesh: MeshHandle,
    platform: Arc<dyn Platform>,
    /// What the store may take on the disk, in bytes.
    limit_bytes: Option<u64>,
    /// How many images each peer is being handed.
    served: Mutex<BTreeMap<PublicKey, usize>>,
    /// Held while an image is fetched, so that all who want it fetch it once.
    turns: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// The images that are being fetched: others are given what is here of them.
    open: Mutex<BTreeMap<Digest, Weak<OpenPart>>>,
    /// How many are told of what comes of those.
    followers: AtomicUsize,
    me: PublicKey,
}

/// Why room can't be made. What could be freed may have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomError {
    /// The store is full by its own limit.
    #[error(
        "{bytes} bytes more would take the image store over its limit of {} MiB: the limit is image_limit_mib in \
         config.toml; `mlnctl template rm` removes what isn't needed", limit_bytes >> 20
    )]
    Limit {
        /// What was needed.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The store can't be looked through.
    #[error(transparent)]
    Store(#[from] ImageError),
    /// What VMs use isn't known, so nothing may be removed.
    #[error("what VMs use can't be found out, so nothing is removed")]
    Uses(#[source] Box<StepError>),
    /// A task of this program ended early; a bug.
    #[error("the work was cut off")]
    CutOff,
}

impl Exchange {
    /// Makes the exchange of the host with the key `me` over a mesh. With a limit, images are fetched only as far as that leaves room.
    pub(crate) fn new(
        me: PublicKey,
        images: ImageStore,
        mesh: MeshHandle,
        platform: Arc<dyn Platform>,
        limit_bytes: Option<u64>,
    ) -> Self {
        let shared = Shared {
            images,
            mesh,
            platform,
            limit_bytes,
            served: Mutex::default(),
            turns: Mutex::default(),
            open: Mutex::default(),
            followers: AtomicUsize::new(0),
            me,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the store that images are fetched into.
    pub(crate) fn images(&self) -> &ImageStore {
        &self.shared.images
    }

    /// Returns what the store may take on the disk, in bytes.
    pub(crate) fn limit_bytes(&self) -> Option<u64> {
        self.shared.limit_bytes
    }

    /// Finds, and frees if told to, what nobody uses: all of it, or as much as it takes to get below `limit_bytes`.
    pub(crate) async fn collect(
        &self,
        limit_bytes: Option<u64>,
        sweep: Sweep,
    ) -> Result<Collected, RoomError> {
        let shared = self.shared.clone();
        let work = tokio::task::spawn_blocking(move || {
            let exclusive = shared.images.exclusive();
            let uses = shared.platform.image_uses().map_err(|error| RoomError::Uses(Box::new(error)))?;
            let guest_agent = shared.platform.guest_agent();
            Ok(shared.images.collect(&exclusive, &uses, &guest_agent, limit_bytes, sweep)?)
        });
        work.await.unwrap_or(Err(RoomError::CutOff))
    }

    /// Finds out whether so many bytes more have room under the limit; what nobody uses gives way.
    pub(crate) async fn room_for(&self, bytes: u64, sweep: Sweep) -> Result<(), RoomError> {
        let Some(limit_bytes) = self.shared.limit_bytes else { return Ok(()) };
        let refusal = RoomError::Limit { bytes, limit_bytes };
        let Some(target) = limit_bytes.checked_sub(bytes) else { return Err(refusal) };
        let collected = self.collect(Some(target), sweep).await?;
        if collected.bytes_left <= target { Ok(()) } else { Err(refusal) }
    }

    /// Returns an image that is being fetched here.
    fn open_part(&self, digest: &Digest) -> Option<Arc<OpenPart>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).get(digest)?.upgrade()
    }

    /// Lets others have what is here of an image, for as long as somebody holds it.
    fn show_part(&self, digest: Digest, part: &Arc<OpenPart>) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, part| part.strong_count() > 0);
        open.insert(digest, Arc::downgrade(part));
    }

    fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(digest).or_default().clone()
    }
}
